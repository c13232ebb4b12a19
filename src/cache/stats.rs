//! What a cache has done.

use std::cell::Cell;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Asked for and there.
    pub hits: u64,
    /// Asked for and not there.
    pub misses: u64,
    /// Values that were loaded.
    pub loads: u64,
    /// Of them, those that failed.
    pub loads_failed: u64,
    /// Who waited for the load of another.
    pub waits: u64,
    /// Thrown out for want of room.
    pub evictions: u64,
    /// Dead of age.
    pub expirations: u64,
    /// Entries now.
    pub entries: u64,
    /// Their bytes, where there is a bound of bytes; else their number.
    pub weight: u64,
}

impl CacheStats {
    /// Hits of all that was asked for; 0 if nothing was.
    ///
    /// ```
    /// let stats = soloist::CacheStats { hits: 9, misses: 1, ..Default::default() };
    /// assert_eq!(stats.hit_rate(), 0.9);
    /// ```
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

impl Serialize for CacheStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("CacheStats", 10)?;
        fields.serialize_field("hits", &self.hits)?;
        fields.serialize_field("misses", &self.misses)?;
        fields.serialize_field("hit_rate", &self.hit_rate())?;
        fields.serialize_field("loads", &self.loads)?;
        fields.serialize_field("loads_failed", &self.loads_failed)?;
        fields.serialize_field("waits", &self.waits)?;
        fields.serialize_field("evictions", &self.evictions)?;
        fields.serialize_field("expirations", &self.expirations)?;
        fields.serialize_field("entries", &self.entries)?;
        fields.serialize_field("weight", &self.weight)?;
        fields.end()
    }
}

/// The same while they are counted.
#[derive(Default)]
pub(super) struct Counting(Cell<CacheStats>);

impl Counting {
    pub(super) fn count(&self, change: impl FnOnce(&mut CacheStats)) {
        let mut stats = self.0.get();
        change(&mut stats);
        self.0.set(stats);
    }

    pub(super) fn now(&self) -> CacheStats {
        self.0.get()
    }
}
