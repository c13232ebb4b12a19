//! What the keeper of a slice and those who use it tell each other across threads: that there is
//! work, that time is over.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Nothing behind it runs the user's code, so nobody leaves half a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rung when the keeper has something to do.
#[derive(Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    pub(super) async fn rings(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

/// The time that something may take, counted by the keeper.
#[derive(Default)]
pub(super) struct Watch {
    /// When the keeper saw it first, in ms of its clock, [`SEEN`] added.
    since: AtomicU64,
    max_ms: AtomicU64,
    is_over: AtomicBool,
    waker: AtomicWaker,
}

/// States of a watch below the first time.
const STOPPED: u64 = 0;
const UNSEEN: u64 = 1;
const SEEN: u64 = 2;

impl Watch {
    pub(super) fn start(&self, max_ms: u64) {
        self.is_over.store(false, Ordering::Relaxed);
        self.max_ms.store(max_ms, Ordering::Relaxed);
        self.since.store(UNSEEN, Ordering::Release);
    }

    pub(super) fn stop(&self) {
        self.since.store(STOPPED, Ordering::Release);
    }

    pub(super) fn runs(&self) -> bool {
        self.since.load(Ordering::Acquire) != STOPPED
    }

    /// The keeper looks: what it sees for the first time begins now, what took too long ends.
    pub(super) fn look(&self, now_ms: u64) {
        let since = self.since.load(Ordering::Acquire);
        let (order, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        if since == UNSEEN {
            let _ = self.since.compare_exchange(UNSEEN, now_ms + SEEN, order, relaxed);
        } else if since >= SEEN
            && now_ms >= (since - SEEN).saturating_add(self.max_ms.load(relaxed))
            && self.since.compare_exchange(since, STOPPED, order, relaxed).is_ok()
        {
            self.is_over.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// A future, unless its time is over first.
    pub(super) async fn within<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.poll_over(cx).map(|()| None),
        })
        .await
    }
}

/// Counts as work abroad until it drops.
pub(super) struct Abroad(Arc<std::sync::atomic::AtomicUsize>);

impl Abroad {
    pub(super) fn new(count: &Arc<std::sync::atomic::AtomicUsize>) -> Abroad {
        count.fetch_add(1, Ordering::SeqCst);
        Abroad(count.clone())
    }
}

impl Drop for Abroad {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets others of the thread go first, once.
pub(super) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
