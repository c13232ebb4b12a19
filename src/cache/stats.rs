//! What a cache has done.

use std::cell::{Cell, RefCell};
use std::ops::AddAssign;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Counters of one cache on one shard: see [`Cache::stats`](crate::Cache::stats).
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let cache = client.shard().cache::<u64, u64>("squares");
/// cache.insert(3, 9);
/// let _ = (cache.get(&3), cache.get(&4));
/// let stats = cache.stats();
/// assert_eq!((stats.hits, stats.misses, stats.hit_rate()), (1, 1, 0.5));
/// # });
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheStats {
    /// Asked for and there.
    pub hits: u64,
    /// Asked for and not there.
    pub misses: u64,
    /// Of them, those that were found beneath, with what is kept for all shards.
    pub hits_shared: u64,
    /// Of them, those that were found with what is kept for all nodes.
    pub hits_remote: u64,
    /// How often that did not answer: the values were loaded.
    pub remote_errors: u64,
    /// Values that were loaded.
    pub loads: u64,
    /// Of them, those that failed.
    pub loads_failed: u64,
    /// Who waited for the load of another.
    pub waits: u64,
    /// Words about what is no longer true that were said on this shard.
    pub invalidations: u64,
    /// Those that it heard, of any shard.
    pub invalidations_heard: u64,
    /// Thrown out for want of room.
    pub evictions: u64,
    /// Dead of age.
    pub expirations: u64,
    /// Entries now.
    pub entries: u64,
    /// Their bytes, where there is a bound of bytes; else their number.
    pub weight: u64,
    /// How long loads took.
    times: Option<Histogram<u64>>,
}

impl CacheStats {
    /// Microseconds in which this share of the loads (0.5 is the median) ended; 0 without any.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<u64, u64>("squares");
    /// cache.get_or(3, async || Ok(9)).await.expect("loaded");
    /// assert!(cache.stats().load_us(0.99) < 1_000_000);
    /// # });
    /// ```
    pub fn load_us(&self, quantile: f64) -> u64 {
        self.times.as_ref().map_or(0, |it| it.value_at_quantile(quantile))
    }

    /// Hits of all that was asked for; 0 if nothing was.
    ///
    /// ```
    /// let mut stats = soloist::CacheStats::default();
    /// (stats.hits, stats.misses) = (9, 1);
    /// assert_eq!(stats.hit_rate(), 0.9);
    /// ```
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

/// Of several shards together.
///
/// ```
/// let mut stats = soloist::CacheStats::default();
/// stats.hits = 1;
/// let mut all = stats.clone();
/// all += &stats;
/// assert_eq!(all.hits, 2);
/// ```
impl AddAssign<&CacheStats> for CacheStats {
    fn add_assign(&mut self, other: &CacheStats) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.hits_shared += other.hits_shared;
        self.hits_remote += other.hits_remote;
        self.remote_errors += other.remote_errors;
        self.loads += other.loads;
        self.loads_failed += other.loads_failed;
        self.waits += other.waits;
        self.invalidations += other.invalidations;
        self.invalidations_heard += other.invalidations_heard;
        self.evictions += other.evictions;
        self.expirations += other.expirations;
        self.entries += other.entries;
        self.weight += other.weight;
        match (&mut self.times, &other.times) {
            (Some(own), Some(other)) => own.add(other).expect("the same bounds"),
            (None, other) => self.times = other.clone(),
            (_, None) => {}
        }
    }
}

impl Serialize for CacheStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("CacheStats", 17)?;
        fields.serialize_field("hits", &self.hits)?;
        fields.serialize_field("misses", &self.misses)?;
        fields.serialize_field("hits_shared", &self.hits_shared)?;
        fields.serialize_field("hits_remote", &self.hits_remote)?;
        fields.serialize_field("remote_errors", &self.remote_errors)?;
        fields.serialize_field("hit_rate", &self.hit_rate())?;
        fields.serialize_field("loads", &self.loads)?;
        fields.serialize_field("loads_failed", &self.loads_failed)?;
        fields.serialize_field("load_p50_us", &self.load_us(0.5))?;
        fields.serialize_field("load_p99_us", &self.load_us(0.99))?;
        fields.serialize_field("waits", &self.waits)?;
        fields.serialize_field("invalidations", &self.invalidations)?;
        fields.serialize_field("invalidations_heard", &self.invalidations_heard)?;
        fields.serialize_field("evictions", &self.evictions)?;
        fields.serialize_field("expirations", &self.expirations)?;
        fields.serialize_field("entries", &self.entries)?;
        fields.serialize_field("weight", &self.weight)?;
        fields.end()
    }
}

/// The same while they are counted.
#[derive(Default)]
pub(super) struct Counting {
    /// Apart, as each read counts.
    hits: Cell<u64>,
    misses: Cell<u64>,
    rest: RefCell<CacheStats>,
}

impl Counting {
    #[inline]
    pub(super) fn asked(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut CacheStats)) {
        change(&mut self.rest.borrow_mut());
    }

    /// A load took so long.
    pub(super) fn time(&self, length: Duration) {
        let mut rest = self.rest.borrow_mut();
        let bounds = || Histogram::new_with_bounds(1, LOAD_US_MAX, 2).expect("valid bounds");
        rest.times.get_or_insert_with(bounds).saturating_record(length.as_micros() as u64);
    }

    pub(super) fn now(&self) -> CacheStats {
        let mut stats = self.rest.borrow().clone();
        (stats.hits, stats.misses) = (self.hits.get(), self.misses.get());
        stats
    }
}

/// Loads that take longer are counted as this: an hour.
const LOAD_US_MAX: u64 = 3_600_000_000;
