//! What has been invalidated, by version: so that a word about a hundred thousand entries costs
//! what one about none does.
//!
//! Every word has a version, and every entry the newest word that its value is not older than. A
//! hit compares two numbers; only after a word it looks at what the word was about.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::glob::Glob;
use crate::limits::CACHE_BANS_MAX;

/// A word's number, of a process and a cache. Words are told in their order.
pub(crate) type Version = u32;

/// Where tags and prefixes are noted, by their hashes: the same for all shards. Those that share a
/// place are forgotten together: too much is, now and then, and never too little.
#[derive(Clone, Default)]
pub(crate) struct Places(RandomState);

/// A tag's or a prefix's.
pub(crate) type Place = u16;

/// The words that were heard.
#[derive(Default)]
pub(crate) struct Stale {
    /// The version of the last word about each place; empty until there is one.
    words: Vec<Version>,
    newest: Version,
    newest_prefix: Version,
    /// What no place says, oldest first.
    bans: VecDeque<(Version, Arc<Glob>)>,
    /// What is not as new as this is stale, whatever it is.
    floor: Version,
}

impl Places {
    pub(crate) fn of_tag(&self, tag: &str) -> Place {
        self.0.hash_one((0u8, tag)) as Place
    }

    /// Of all keys that begin with this, which ends with a colon.
    pub(crate) fn of_prefix(&self, prefix: &str) -> Place {
        self.0.hash_one((1u8, prefix)) as Place
    }

    pub(crate) fn of_key(&self, key: &impl Hash) -> u64 {
        self.0.hash_one(key)
    }

    pub(crate) fn of_tags(&self, tags: &[&str]) -> Option<Box<[Place]>> {
        (!tags.is_empty()).then(|| tags.iter().map(|it| self.of_tag(it)).collect())
    }
}

impl Stale {
    /// The last word that was heard.
    #[inline]
    pub(crate) fn newest(&self) -> Version {
        self.newest
    }

    /// What has this tag, and is older, is stale.
    pub(crate) fn tag(&mut self, version: Version, tag: Place) {
        self.newest = version;
        if self.words.is_empty() {
            self.words = vec![0; 1 << Place::BITS];
        }
        self.words[usize::from(tag)] = version;
    }

    /// What lies under this prefix, and is older, is stale.
    pub(crate) fn prefix(&mut self, version: Version, prefix: Place) {
        self.tag(version, prefix);
        self.newest_prefix = version;
    }

    /// What has a key that looks so, and is older, is stale. Of too many such words the oldest
    /// becomes one about everything.
    pub(crate) fn ban(&mut self, version: Version, glob: Arc<Glob>) {
        self.newest = version;
        self.bans.retain(|(_, it)| it != &glob);
        self.bans.push_back((version, glob));
        if self.bans.len() > CACHE_BANS_MAX
            && let Some((oldest, _)) = self.bans.pop_front()
        {
            self.floor = oldest;
        }
    }

    /// All is gone, and what is older does not come back. Versions may begin anew here.
    pub(crate) fn all(&mut self, version: Version) {
        self.bans.clear();
        if version < self.newest {
            (self.words, self.newest_prefix) = (Vec::new(), 0);
        }
        (self.newest, self.floor) = (version, version);
    }

    /// Whether a word was about an entry that is as new as `born`; `text` is its key, where there
    /// may be words about keys.
    #[cold]
    pub(crate) fn is_stale(
        &self,
        born: Version,
        tags: Option<&[Place]>,
        places: &Places,
        text: Option<&str>,
    ) -> bool {
        let after = |place: Place| self.words.get(usize::from(place)).is_some_and(|it| *it > born);
        if born < self.floor || tags.is_some_and(|tags| tags.iter().any(|it| after(*it))) {
            return true;
        }
        let Some(text) = text else { return false };
        let banned = self.bans.iter().rev().take_while(|(version, _)| *version > born);
        banned.into_iter().any(|(_, glob)| glob.matches(text))
            || self.newest_prefix > born
                && memchr::memchr_iter(b':', text.as_bytes())
                    .any(|at| after(places.of_prefix(&text[..=at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_about_what_is_older_and_of_its_kind() {
        let (places, mut stale) = (Places::default(), Stale::default());
        let tags = places.of_tags(&["a", "b"]);
        let is = |stale: &Stale, born, text| stale.is_stale(born, tags.as_deref(), &places, text);
        assert!(!is(&stale, 0, Some("user:1:name")));
        stale.tag(1, places.of_tag("c"));
        stale.prefix(2, places.of_prefix("user:2:"));
        stale.ban(3, Arc::new(Glob::new("*:age")));
        assert_eq!(stale.newest(), 3);
        assert!(!is(&stale, 0, Some("user:1:name")), "none was about it");
        assert!(is(&stale, 1, Some("user:2:name")), "its prefix");
        assert!(!is(&stale, 2, Some("user:2:name")), "it is newer than the word");
        assert!(is(&stale, 2, Some("user:1:age")), "a ban");
        assert!(!is(&stale, 3, Some("user:1:age")), "newer");
        stale.tag(4, places.of_tag("b"));
        assert!(is(&stale, 3, None) && !is(&stale, 4, None));
        for version in 5..5 + CACHE_BANS_MAX as u32 {
            assert!(!stale.is_stale(2, None, &places, Some("user:1:name")), "{version}");
            stale.ban(version, Arc::new(Glob::new(&format!("{version}*x"))));
        }
        assert_eq!(stale.bans.len(), CACHE_BANS_MAX, "nothing grows");
        assert!(stale.is_stale(2, None, &places, Some("user:1:name")), "too old to be known");
        assert!(!stale.is_stale(3, None, &places, Some("user:1:name")));
        for _ in 0..10 {
            stale.ban(100, Arc::new(Glob::new("100*x")));
        }
        assert!(!stale.is_stale(5, None, &places, Some("user:1:name")), "said again: one ban");
        stale.all(200);
        assert!(stale.is_stale(199, None, &places, None) && !is(&stale, 200, Some("x")));
    }
}
