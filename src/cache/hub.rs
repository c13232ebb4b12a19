//! Words about what is no longer true: from one shard to all, in order, none lost.
//!
//! A word lies in the seat of every shard before the version counts it, so whoever reads a version
//! finds all words up to it. A read that begins after a word was announced, on whatever shard,
//! sees by one comparison that there is something to hear, and hears it first.

use std::any::Any;
use std::future::poll_fn;
#[cfg(any(feature = "memcached", feature = "redis"))]
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::glob::Glob;
use super::stale::{Place, Places, Version};
use crate::limits::CACHE_WORDS_MAX;

/// What the shards' caches of one name share.
pub(crate) struct Hub {
    version: Line,
    /// The last version; held while a word is announced.
    last: Mutex<Version>,
    seats: Box<[Mutex<Seat>]>,
    pub(crate) places: Places,
    /// What is kept for all nodes, as this process knows it.
    #[cfg(any(feature = "memcached", feature = "redis"))]
    pub(crate) far: Distance,
}

/// Whether what is far can be trusted.
#[cfg(any(feature = "memcached", feature = "redis"))]
#[derive(Default)]
pub(crate) struct Distance {
    /// Words of this process that have not reached it.
    pub(crate) words: AtomicUsize,
    /// The words of others are heard.
    pub(crate) heard: AtomicBool,
}

/// A cache line of its own: it is read with every hit.
#[repr(align(64))]
struct Line(AtomicU32);

/// What is no longer true.
pub(crate) enum Word {
    /// An entry, by its key.
    Key(Box<dyn Any + Send>),
    /// What has a tag.
    Tag(Place),
    /// What lies under a prefix; how to read a key as text comes with it.
    Prefix(Place, Reading),
    /// What looks so.
    Ban(Arc<Glob>, Reading),
    Everything,
}

/// A `store::Text<K>`.
pub(crate) type Reading = Box<dyn Any + Send>;

/// What one shard has not heard yet.
#[derive(Default)]
struct Seat {
    /// There is a cache to hear it.
    open: bool,
    words: Vec<(Version, Word)>,
    /// Who listens while nobody reads.
    ear: Option<Waker>,
    heard: Version,
    /// Who waits until a word was heard here.
    waiting: Vec<(Version, Waker)>,
}

impl Hub {
    pub(crate) fn new(shards: usize) -> Hub {
        Hub {
            version: Line(AtomicU32::new(0)),
            last: Mutex::default(),
            seats: (0..shards).map(|_| Mutex::default()).collect(),
            places: Places::default(),
            #[cfg(any(feature = "memcached", feature = "redis"))]
            far: Distance::default(),
        }
    }

    /// The newest word.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        self.version.0.load(Ordering::Acquire)
    }

    /// From now on words are kept for this shard; the newest before them.
    pub(crate) fn open(&self, shard: usize) -> Version {
        let last = lock(&self.last);
        let mut seat = lock(&self.seats[shard]);
        (seat.open, seat.heard) = (true, *last);
        *last
    }

    /// Nobody is there any more to hear.
    pub(crate) fn close(&self, shard: usize) {
        let seat = std::mem::take(&mut *lock(&self.seats[shard]));
        seat.waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Gives every shard a word, and wakes the others.
    pub(crate) fn announce(&self, from: usize, word: impl Fn() -> Word) -> Version {
        // Words hold the user's keys: they are made, and dropped, while nothing is locked.
        let words: Vec<Word> = self.seats.iter().map(|_| word()).collect();
        let (mut ears, mut gone) = (Vec::new(), Vec::new());
        let mut last = lock(&self.last);
        // After the last number of all, everything is forgotten, and counting begins anew.
        let version = last.checked_add(1);
        *last = version.unwrap_or(1);
        for (at, (seat, mut word)) in self.seats.iter().zip(words).enumerate() {
            let mut seat = lock(seat);
            if !seat.open {
                gone.push((*last, word));
                continue;
            }
            if version.is_none() || seat.words.len() >= CACHE_WORDS_MAX {
                gone.append(&mut seat.words);
                gone.push((*last, std::mem::replace(&mut word, Word::Everything)));
            }
            seat.words.push((*last, word));
            if at != from {
                ears.extend(seat.ear.take());
            }
        }
        self.version.0.store(*last, Ordering::Release);
        let version = *last;
        drop(last);
        ears.into_iter().for_each(Waker::wake);
        version
    }

    /// What this shard has not heard yet, in order.
    pub(crate) fn take(&self, shard: usize) -> Vec<(Version, Word)> {
        std::mem::take(&mut lock(&self.seats[shard]).words)
    }

    /// All words up to this one were heard here.
    pub(crate) fn heard(&self, shard: usize, version: Version) {
        let mut seat = lock(&self.seats[shard]);
        // Whoever drops what a word was about may have heard newer ones on the way.
        if is_before(seat.heard, version) {
            seat.heard = version;
        }
        let waiting = seat.waiting.extract_if(.., |(awaited, _)| !is_before(version, *awaited));
        let wakers: Vec<Waker> = waiting.map(|(_, waker)| waker).collect();
        drop(seat);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes once there is a word for this shard.
    pub(crate) fn listen(&self, shard: usize, waker: &Waker) {
        lock(&self.seats[shard]).ear = Some(waker.clone());
    }

    /// Until every shard has heard a word, or has nothing that it could be about.
    pub(crate) async fn heard_by_all(&self, version: Version) {
        for seat in &self.seats {
            let heard = poll_fn(|cx| {
                let mut seat = lock(seat);
                if !seat.open || !is_before(seat.heard, version) {
                    return Poll::Ready(());
                }
                let known = |it: &(Version, Waker)| it.0 == version && it.1.will_wake(cx.waker());
                if !seat.waiting.iter().any(known) {
                    seat.waiting.push((version, cx.waker().clone()));
                }
                Poll::Pending
            });
            heard.await;
        }
    }
}

/// Versions begin anew after the last one.
fn is_before(version: Version, other: Version) -> bool {
    (version.wrapping_sub(other) as i32) < 0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::Future;

    fn tags(hub: &Hub, shard: usize) -> Vec<Option<Place>> {
        let tag = |(_, word)| match word {
            Word::Tag(place) => Some(place),
            _ => None,
        };
        hub.take(shard).into_iter().map(tag).collect()
    }

    /// What was heard is not unheard: nobody waits for it again.
    #[test]
    fn who_waits_is_woken_by_a_newer_word_and_by_the_end_of_a_shard() {
        let ready = |hub: &Hub, version| {
            let mut cx = std::task::Context::from_waker(Waker::noop());
            std::pin::pin!(hub.heard_by_all(version)).poll(&mut cx).is_ready()
        };
        let hub = Hub::new(3);
        assert_eq!((hub.open(0), hub.open(1)), (0, 0));
        for _ in 0..2 {
            hub.announce(0, || Word::Everything);
        }
        hub.heard(0, 2);
        hub.heard(0, 1);
        assert!(!ready(&hub, 2), "one has not heard it");
        hub.close(1);
        assert!(ready(&hub, 1) && ready(&hub, 2));
    }

    #[test]
    fn every_open_seat_has_every_word_in_order_or_one_about_everything() {
        let hub = Hub::new(3);
        assert_eq!((hub.open(0), hub.open(1)), (0, 0));
        for place in 0..5 {
            assert_eq!(hub.announce(0, || Word::Tag(place)), u32::from(place) + 1);
        }
        let all = [0, 1, 2, 3, 4].map(Some);
        assert_eq!((tags(&hub, 0), tags(&hub, 2)), (all.to_vec(), vec![]));
        assert_eq!(hub.open(2), 5, "nothing from before it was there");
        for _ in 0..CACHE_WORDS_MAX {
            hub.announce(0, || Word::Tag(7));
        }
        assert_eq!(
            tags(&hub, 1).len(),
            5,
            "too many: those from there on are one about everything"
        );
        assert_eq!(tags(&hub, 2).len(), CACHE_WORDS_MAX);
        hub.close(1);
        hub.announce(0, || Word::Tag(8));
        assert_eq!((tags(&hub, 1), tags(&hub, 2)), (vec![], vec![Some(8)]));
        // After the last version.
        hub.take(0);
        *lock(&hub.last) = u32::MAX;
        assert_eq!(hub.announce(0, || Word::Tag(9)), 1);
        assert_eq!((tags(&hub, 0), hub.version()), (vec![None], 1));
        assert!(is_before(u32::MAX, 1) && is_before(1, 2) && !is_before(2, 2));
    }
}
