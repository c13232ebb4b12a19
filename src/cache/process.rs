//! One copy for all shards, beneath their own entries: scc's concurrent map, of a bounded size.

use std::hash::Hash;

use foldhash::fast::RandomState;
use scc::HashCache;
use scc::hash_cache::Entry;

use super::stale::{Place, Version};

/// What shards' caches of one name keep together.
pub(crate) struct Process<K, V>(HashCache<K, Held<V>, RandomState>);

/// A value, and what it was stored with.
#[derive(Clone)]
pub(crate) struct Held<V> {
    pub(crate) value: V,
    pub(crate) terms: Terms,
}

/// For how long, and against which words.
#[derive(Clone)]
pub(crate) struct Terms {
    /// In milliseconds since 1970; none is never.
    pub(crate) expires_unix_ms: Option<u64>,
    /// The newest word about more than one entry that it is newer than, and the newest of all.
    pub(crate) born: Version,
    pub(crate) heard: Version,
    pub(crate) tags: Option<Box<[Place]>>,
}

impl Terms {
    fn is_before(&self, word: Version) -> bool {
        (self.heard.wrapping_sub(word) as i32) < 0
    }
}

/// The same for a cache that does not know whether its keys and values may cross threads.
pub(crate) trait Beneath<K, V> {
    fn get(&self, key: &K) -> Option<Held<V>>;
    /// Stores a value if, with the place locked, `still` says so.
    fn put(&self, key: &K, value: &V, terms: &Terms, still: &dyn Fn() -> bool);
    /// Takes an entry out that had not heard this word.
    fn remove(&self, key: &K, word: Version);
    /// Takes all out that had not heard this word: what came later is another shard's already.
    fn clear(&self, word: Version);
}

impl<K: Hash + Eq, V> Process<K, V> {
    pub(crate) fn new(entries_max: usize) -> Process<K, V> {
        let most = entries_max.clamp(64, 1 << 31);
        let hasher = RandomState::default();
        Process(HashCache::with_capacity_and_hasher(0, most, hasher))
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Beneath<K, V> for Process<K, V> {
    fn get(&self, key: &K) -> Option<Held<V>> {
        self.0.read_sync(key, |_, held| held.clone())
    }

    fn put(&self, key: &K, value: &V, terms: &Terms, still: &dyn Fn() -> bool) {
        let held = Held { value: value.clone(), terms: terms.clone() };
        let entry = self.0.entry_sync(key.clone());
        if !still() {
            drop(entry); // first: what is dropped may be the user's code, and ask here
            return;
        }
        let (replaced, evicted, place) = match entry {
            Entry::Occupied(mut old) => (Some(old.put(held)), None, old),
            Entry::Vacant(place) => {
                let (evicted, place) = place.put_entry(held);
                (None, evicted, place)
            }
        };
        drop(place);
        drop((replaced, evicted));
    }

    fn remove(&self, key: &K, word: Version) {
        drop(self.0.remove_if_sync(key, |held| held.terms.is_before(word)));
    }

    fn clear(&self, word: Version) {
        self.0.retain_sync(|_, held| !held.terms.is_before(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_there_until_a_word_that_it_has_not_heard() {
        let process = Process::<u64, u64>::new(64);
        let terms = |heard| Terms { expires_unix_ms: None, born: 0, heard, tags: None };
        process.put(&1, &7, &terms(5), &|| true);
        process.put(&2, &7, &terms(5), &|| false);
        assert!(process.get(&1).is_some() && process.get(&2).is_none());
        process.remove(&1, 5);
        assert!(process.get(&1).is_some(), "it is newer than the word");
        process.remove(&1, 6);
        assert!(process.get(&1).is_none());
        (0..100_000).for_each(|key| process.put(&key, &7, &terms(0), &|| true));
        assert!(process.0.len() <= 64, "nothing grows");
        process.put(&1, &7, &terms(9), &|| true);
        process.clear(9);
        assert_eq!(process.0.len(), 1, "it came after the word");
        process.clear(10);
        assert_eq!(process.0.len(), 0);
    }
}
