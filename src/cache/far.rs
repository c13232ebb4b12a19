//! What all nodes keep together, as a cache sees it: asked before the load, told what is no longer
//! true.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::base::told::Told;
use crate::error::Result;

/// The level under a process, of a cache of these types.
pub(crate) trait Far<K, V> {
    /// Whether what it says can be gone by now: words of others are heard, and none of this
    /// process is on its way.
    fn is_current(&self) -> bool;
    fn get<'a>(&'a self, key: &'a K, tags: &'a [&'a str]) -> FarFuture<'a, Result<Asked<V>>>;
    /// Stores what was loaded after `stamps` were read; nobody waits for it.
    fn put(&self, key: &K, value: &V, ttl_ms: Option<u64>, stamps: Stamps);
    /// Tells all nodes, however long it takes to reach them: when the store has it, that is told.
    fn tell(&self, word: FarWord<'_, K>) -> Rc<Told<()>>;
    /// The same of a key that has another value now.
    fn write(&self, truth: Truth<'_, K, V>) -> Rc<Told<()>>;
}

pub(crate) type FarFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What was there.
pub(crate) enum Asked<V> {
    Found {
        value: V,
        /// In milliseconds since 1970.
        expires_unix_ms: Option<u64>,
        stamps: Stamps,
    },
    Missing(Stamps),
}

/// What a value depends on, by the keys that tell, as they stood before it was loaded.
pub(crate) type Stamps = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What is no longer true.
pub(crate) enum FarWord<'a, K> {
    Key(&'a K),
    Tag(&'a str),
    /// What lies under it; empty is everything.
    Prefix(&'a str),
}

/// What is true instead of what a key had.
pub(crate) struct Truth<'a, K, V> {
    pub(crate) key: &'a K,
    pub(crate) value: &'a V,
    pub(crate) ttl_ms: Option<u64>,
}
