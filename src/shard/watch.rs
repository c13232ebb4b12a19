//! One more descriptor that the shard's ring polls, for a task that waits for it.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::task::Waker;

/// Between the task that waits and the driver that has the ring. Level-triggered: each wish is one
/// poll, and one that is readable already is answered at once.
#[derive(Default)]
pub(crate) struct Watch {
    wanted: Cell<Option<RawFd>>,
    fired: Cell<Option<bool>>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// For the driver, once a turn: what is to be polled.
    #[inline]
    pub(crate) fn take_wanted(&self) -> Option<RawFd> {
        self.wanted.take()
    }

    /// Whether it is to be polled: who waits has just had its turn, and made others ready.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.get().is_some()
    }

    /// From the driver: it is readable, or cannot be polled.
    pub(crate) fn fire(&self, ok: bool) {
        self.fired.set(Some(ok));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(feature = "tokio")]
impl Watch {
    /// Asks for one poll of the descriptor; `waker` hears of its end.
    pub(crate) fn want(&self, fd: RawFd) {
        self.wanted.set(Some(fd));
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
    }

    /// How the last poll ended, if it has.
    pub(crate) fn take_fired(&self) -> Option<bool> {
        self.fired.take()
    }
}
