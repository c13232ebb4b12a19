//! What a shard's cache makes of the words that were announced.

use std::any::Any;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
        let mut gone: Vec<Box<dyn Any>> = Vec::new();
        for (version, word) in hub.take(shard) {
            self.0.counting.count(|it| it.invalidations_heard += 1);
            let applied = catch_unwind(AssertUnwindSafe(|| self.apply(version, word, &mut gone)));
            if applied.is_err() {
                tracing::error!(cache = self.0.name, "a key has panicked: all is forgotten");
                self.0.store.borrow_mut().stale.all(version);
                self.0.flights.borrow().values().for_each(|it| it.void.set(true));
            }
        }
        self.0.heard.set(version);
        // Drops are the user's code, and may ask this cache: they come after the last word.
        let dropped = catch_unwind(AssertUnwindSafe(move || drop(gone)));
        let let_go = catch_unwind(AssertUnwindSafe(|| self.let_go()));
        if dropped.is_err() || let_go.is_err() {
            tracing::error!(cache = self.0.name, "the drop of a key or a value has panicked");
        }
        hub.heard(shard, version);
    }

    /// What is to be dropped is left in the store, or in `gone`.
    fn apply(&self, version: Version, word: Word, gone: &mut Vec<Box<dyn Any>>) {
        let text = |it: &dyn Any| *it.downcast_ref::<Text<K>>().expect("the hub knows the type");
        let mut store = self.0.store.borrow_mut();
        match word {
            Word::Key(key) => {
                let key: Box<dyn Any> = key;
                gone.push(key);
                let key = gone.last().and_then(|it| it.downcast_ref::<K>());
                let key = key.expect("the hub knows the type");
                let removed = store.remove(key, self.now_ms());
                drop(store);
                let voided = self.0.void(key);
                if let Some(beneath) = &self.0.beneath {
                    beneath.remove(key, version);
                }
                gone.push(Box::new((removed, voided)));
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
                let all = store.clear();
                store.stale.all(version);
                drop(store);
                let flights = self.0.flights.take();
                flights.values().for_each(|it| it.void.set(true));
                if let Some(beneath) = &self.0.beneath {
                    beneath.clear(version);
                }
                gone.push(Box::new((all, flights)));
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
