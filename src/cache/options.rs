//! How large a cache is and how long its entries live.

use std::any::TypeId;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::process::{Beneath, Process};
use crate::shard::Shard;

/// How a cache keeps its entries: for [`Shard::cache_with`](crate::Shard::cache_with).
///
/// ```
/// use std::time::Duration;
/// use soloist::CacheOptions;
///
/// let pages = CacheOptions::new()
///     .bytes_max(64 << 20, |path: &String, page: &String| path.len() + page.len())
///     .ttl(Duration::from_secs(300));
/// ```
pub struct CacheOptions<K, V> {
    pub(super) entries_max: usize,
    pub(super) bytes_max: Option<u64>,
    pub(super) weigher: Option<fn(&K, &V) -> usize>,
    pub(super) ttl: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) stale: Duration,
    pub(super) beneath: Option<MakeBeneath<K, V>>,
    pub(super) beneath_entries_max: usize,
}

/// Finds the level beneath of the cache of that name, of so many entries.
type MakeBeneath<K, V> = fn(&Shard, &'static str, usize) -> Arc<dyn Beneath<K, V>>;

/// How long an entry lives.
///
/// ```
/// use std::time::Duration;
/// use soloist::{Ttl, prelude::*};
/// # use soloist::testing::TestClient;
///
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let cache = client.shard().cache::<&str, u32>("numbers");
/// cache.insert_with("one", 1, Ttl::After(Duration::from_secs(1)));
/// cache.insert_with("two", 2, Ttl::Never);
/// client.advance(Duration::from_secs(2)).await;
/// assert_eq!((cache.get("one"), cache.get("two")), (None, Some(2)));
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// As the cache says.
    #[default]
    Default,
    /// Until it is removed, or thrown out for want of room.
    Never,
    /// For so long.
    After(Duration),
}

impl<K, V> CacheOptions<K, V> {
    /// 10,000 entries that live until they are removed or thrown out.
    ///
    /// ```
    /// let options = soloist::CacheOptions::<u64, String>::new(); // as `Shard::cache` has them
    /// ```
    pub fn new() -> CacheOptions<K, V> {
        CacheOptions {
            entries_max: 10_000,
            bytes_max: None,
            weigher: None,
            ttl: None,
            idle: None,
            stale: Duration::ZERO,
            beneath: None,
            beneath_entries_max: 0,
        }
    }

    /// Entries of a shard; beyond, those that are least worth keeping are thrown out.
    ///
    /// ```
    /// let options = soloist::CacheOptions::<u64, String>::new().entries_max(1_000_000);
    /// ```
    pub fn entries_max(mut self, entries: usize) -> Self {
        self.entries_max = entries;
        self
    }

    /// Bytes of a shard's entries: `weigh` says those of one, to which 64 are added for the entry
    /// itself. One that is larger than all of it is not kept. There is no bound of their number
    /// then, unless it is set afterwards.
    ///
    /// ```
    /// use soloist::CacheOptions;
    ///
    /// let images = CacheOptions::<u64, Vec<u8>>::new().bytes_max(256 << 20, |_, it| it.len());
    /// ```
    pub fn bytes_max(mut self, bytes: u64, weigh: fn(&K, &V) -> usize) -> Self {
        (self.bytes_max, self.weigher) = (Some(bytes), Some(weigh));
        self.entries_max = usize::MAX;
        self
    }

    /// How long an entry lives after it was stored, unless its own word says otherwise.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let prices = soloist::CacheOptions::<u64, f64>::new().ttl(Duration::from_secs(30));
    /// ```
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl = Some(time);
        self
    }

    /// For how long after its time an entry is still there, and given out, while
    /// [`get_or_refresh`](crate::Cache::get_or_refresh) loads it anew.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::CacheOptions;
    /// // Nobody waits for the database once a minute; nobody sees a rate of two minutes ago.
    /// let minute = Duration::from_secs(60);
    /// let rates = CacheOptions::<String, f64>::new().ttl(minute).stale(minute);
    /// ```
    pub fn stale(mut self, time: Duration) -> Self {
        self.stale = time;
        self
    }

    /// Keeps up to so many values (64 at least) once for all shards, beneath each shard's own
    /// entries: what one shard has loaded the others find there. For values that are costly to
    /// make, or large: let `V` be an `Arc`, and no shard has a copy. A hit of the shard's own
    /// entries costs what it does without; one beneath takes a lock for a moment. `get` sees the
    /// shard's own entries alone, [`get_or`](crate::Cache::get_or) both.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use soloist::CacheOptions;
    ///
    /// let options = CacheOptions::<u64, Arc<[u8]>>::new().entries_max(1_000).shared(100_000);
    /// ```
    pub fn shared(mut self, entries_max: usize) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        self.beneath = Some(|shard, name, entries_max| {
            let name = (name, TypeId::of::<Process<K, V>>());
            shard.0.common(name, || Process::<K, V>::new(entries_max))
        });
        self.beneath_entries_max = entries_max;
        self
    }

    /// How long an entry lives after it was last asked for, within 64 ms.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let sessions = soloist::CacheOptions::<String, u64>::new().idle(Duration::from_secs(900));
    /// ```
    pub fn idle(mut self, time: Duration) -> Self {
        self.idle = Some(time);
        self
    }
}

impl<K, V> Clone for CacheOptions<K, V> {
    fn clone(&self) -> Self {
        CacheOptions { ..*self }
    }
}

impl<K, V> Default for CacheOptions<K, V> {
    fn default() -> Self {
        CacheOptions::new()
    }
}
