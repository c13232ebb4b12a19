//! Wakers without a refcount: the data word names a task, wherever it is woken from.
//!
//! Handlers, oneshots and database drivers clone such a waker and wake it on any thread. On its
//! own shard a wake goes to the ready list; elsewhere to that shard's foreign inbox, and the
//! doorbell. A wake for a task that has ended finds another generation in its slot, and does
//! nothing.

use std::cell::RefCell;
use std::ptr;
use std::rc::Rc;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::inbox;
use super::tasks::Tasks;

/// Names one task of one shard: 10 bits of shard, 30 of generation, 24 of slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey(u64);

impl TaskKey {
    pub(crate) fn new(shard: u16, generation: u32, slot: u32) -> TaskKey {
        debug_assert!(u64::from(shard) < 1 << SHARD_BITS && slot < SLOTS_MAX);
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        let shard = u64::from(shard) << (GENERATION_BITS + SLOT_BITS);
        TaskKey(shard | generation << SLOT_BITS | u64::from(slot))
    }

    #[inline]
    pub(crate) fn shard(self) -> u16 {
        (self.0 >> (GENERATION_BITS + SLOT_BITS)) as u16
    }

    #[inline]
    pub(crate) fn slot(self) -> usize {
        (self.0 & u64::from(SLOTS_MAX - 1)) as usize
    }

    /// Wakes the task from any thread.
    #[inline]
    pub(crate) fn wake(self) {
        // No `HERE` is left while a thread ends: then the inbox takes it.
        let here = HERE.try_with(|here| match here.try_borrow().as_deref() {
            Ok(Some(tasks)) if tasks.shard() == self.shard() => {
                tasks.wake(self);
                true
            }
            _ => false,
        });
        if here != Ok(true) {
            inbox::wake(self);
        }
    }

    /// A waker of the task. It owns nothing: clone and drop are free.
    #[inline]
    pub(crate) fn waker(self) -> Waker {
        let data = ptr::without_provenance(self.0 as usize);
        // SAFETY: the data word is an integer that no function of the table dereferences; all of
        // them may be called on any thread, any number of times.
        unsafe { Waker::from_raw(RawWaker::new(data, &TABLE)) }
    }
}

/// Makes `tasks` the ready list of this thread until the guard drops.
pub(crate) fn enter(tasks: Rc<Tasks>) -> Entered {
    Entered(HERE.replace(Some(tasks)))
}

/// Puts back what was there before.
pub(crate) struct Entered(Option<Rc<Tasks>>);

impl Drop for Entered {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

thread_local! {
    static HERE: RefCell<Option<Rc<Tasks>>> = const { RefCell::new(None) };
}

static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &TABLE),
    |data| TaskKey(data.addr() as u64).wake(),
    |data| TaskKey(data.addr() as u64).wake(),
    |_| (),
);

const SHARD_BITS: u32 = 10;
const GENERATION_BITS: u32 = 30;
const SLOT_BITS: u32 = 24;
/// Tasks that one shard can have at a time.
pub(crate) const SLOTS_MAX: u32 = 1 << SLOT_BITS;
/// Shards that a process can have at a time.
pub(crate) const SHARDS_MAX: usize = 1 << SHARD_BITS;

const _: () = assert!(SHARD_BITS + GENERATION_BITS + SLOT_BITS == usize::BITS);
