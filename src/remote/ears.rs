//! Who wants to hear of changes, and what they are told.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use slab::Slab;

/// What a store tells of changes that were made by others: by another node, or by another shard of
/// this one. See [`Remote::hear`](crate::Remote::hear).
///
/// ```
/// use soloist::Heard;
///
/// fn told(heard: &Heard) {
///     match heard {
///         Heard::Changed(keys) => println!("{} are stale", keys.len()),
///         Heard::Everything => println!("whatever is near may be stale"),
///         Heard::Nothing => println!("and what is read from now on"),
///     }
/// }
/// told(&Heard::Changed(vec![b"ann".to_vec()]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Keys, without the prefix, whose values were replaced, were removed or have expired.
    Changed(Vec<Vec<u8>>),
    /// For a while nothing was heard, or all was thrown out: whatever is near may be stale. Told
    /// once for each connection that is made, before any call is answered on it.
    Everything,
    /// The connection is lost: from here on nothing is heard, until everything has changed.
    Nothing,
}

/// Until this drops, changes are told: see [`Remote::hear`](crate::Remote::hear).
///
/// ```
/// use soloist::{Hearing, Redis, Remote, prelude::*};
/// # use soloist::testing::TestClient;
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let redis = Redis::connect(&client.shard(), "redis://127.0.0.1:1").expect("a URL");
/// let hearing: Hearing = redis.hear(Box::new(|heard| println!("{heard:?}")));
/// drop(hearing); // from here on nothing is printed
/// # });
/// ```
#[must_use = "nothing is heard once it has dropped"]
pub struct Hearing {
    ears: Rc<Ears>,
    place: usize,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let told = self.ears.all.borrow_mut().try_remove(self.place);
        drop(told); // its drop is the user's code
    }
}

type Told = Rc<dyn Fn(&Heard)>;

/// Of one handle.
#[derive(Default)]
pub(super) struct Ears {
    all: RefCell<Slab<Told>>,
    heard: Cell<u64>,
}

impl Ears {
    pub(super) fn hear(self: &Rc<Self>, told: Box<dyn Fn(&Heard)>) -> Hearing {
        let place = self.all.borrow_mut().insert(told.into());
        Hearing { ears: self.clone(), place }
    }

    /// Tells everyone. A panic of one is logged and keeps nobody from hearing.
    pub(super) fn tell(&self, heard: &Heard) {
        self.heard.set(self.heard.get() + 1);
        let all: Vec<_> = self.all.borrow().iter().map(|(_, told)| told.clone()).collect();
        for told in all {
            if catch_unwind(AssertUnwindSafe(|| told(heard))).is_err() {
                tracing::error!("who was told of a change in a remote store has panicked");
            }
        }
    }

    /// Words so far.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hear_until_they_drop_and_none_stops_the_others() {
        let ears = Rc::new(Ears::default());
        let count = Rc::new(Cell::new(0));
        let counting = || {
            let count = count.clone();
            Box::new(move |_: &Heard| count.set(count.get() + 1))
        };
        let first = ears.hear(counting());
        let _panics = ears.hear(Box::new(|_| panic!("on purpose")));
        let _last = ears.hear(counting());
        ears.tell(&Heard::Everything);
        assert_eq!(count.get(), 2);
        drop(first);
        ears.tell(&Heard::Changed(Vec::new()));
        assert_eq!((count.get(), ears.heard()), (3, 2));
    }
}
