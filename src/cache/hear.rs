//! What a shard's cache makes of the words that were announced.

use std::any::Any;
use std::future::poll_fn;
use std::hash::Hash;
use std::rc::{Rc, Weak};
use std::task::Poll;

use super::hub::Word;
use super::near::Cache;
use super::stale::Version;
use super::store::Text;

impl<K: Hash + Eq + 'static, V: 'static> Cache<K, V> {
    /// Hears what was announced before now, if it has not yet.
    #[inline]
    pub(super) fn hear(&self) {
        if self.0.hub.version() != self.0.heard.get() {
            self.hear_words();
        }
    }

    #[cold]
    fn hear_words(&self) {
        let (hub, shard) = (&self.0.hub, self.0.shard.id());
        let version = hub.version(); // before: the words up to it are there
        for (version, word) in hub.take(shard) {
            self.0.counting.count(|it| it.invalidations_heard += 1);
            self.apply(version, word);
        }
        self.0.heard.set(version);
        hub.heard(shard, version);
    }

    fn apply(&self, version: Version, word: Word) {
        let text = |it: &dyn Any| *it.downcast_ref::<Text<K>>().expect("the hub knows the type");
        let mut store = self.0.store.borrow_mut();
        match word {
            Word::Key(key) => {
                let key = key.downcast_ref::<K>().expect("the hub knows the type");
                store.remove(key, self.now_ms());
                drop(store);
                self.0.void(key);
                if let Some(beneath) = &self.0.beneath {
                    beneath.remove(key, version);
                }
            }
            Word::Tag(place) => store.stale.tag(version, place),
            Word::Prefix(place, it) => {
                store.read_keys(text(&*it));
                store.stale.prefix(version, place);
            }
            Word::Ban(glob, it) => {
                store.read_keys(text(&*it));
                store.stale.ban(version, glob);
            }
            Word::Everything => {
                store.clear();
                store.stale.all(version);
                drop(store);
                self.0.flights.borrow_mut().drain().for_each(|(_, it)| it.void.set(true));
                if let Some(beneath) = &self.0.beneath {
                    beneath.clear();
                }
            }
        }
    }

    /// Hears words also while nobody reads: so that what they are about is not held.
    pub(super) fn listen(&self) {
        let (weak, shard) = (Rc::downgrade(&self.0), self.0.shard.id());
        if self.0.shard.count() > 1 {
            self.0.shard.spawn_own(poll_fn(move |cx| {
                let Some(cache) = Weak::upgrade(&weak).map(Cache) else { return Poll::Ready(()) };
                cache.0.hub.listen(shard, cx.waker());
                cache.hear(); // after: what came before it listened
                Poll::Pending
            }));
        }
    }
}
