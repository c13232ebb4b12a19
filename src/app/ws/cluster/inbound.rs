//! What has come from the broker and waits for the shard: bounded, whatever the client does.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::limits::cluster::{INBOUND_BYTES_MAX, INBOUND_MAX};

/// Filled by the client's task, emptied by the shard's: both on one thread, but clients want Send.
#[derive(Default)]
pub(super) struct Inbound(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
}

impl Inbound {
    /// Leaves a message. Where too much waits it is dropped: its number will be missed.
    pub(super) fn push(&self, message: Vec<u8>) {
        let mut state = self.lock();
        let full = state.waiting.len() >= INBOUND_MAX;
        if full || state.bytes + message.len() > INBOUND_BYTES_MAX {
            return;
        }
        state.bytes += message.len();
        state.waiting.push_back(message);
        wake(state);
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    /// The next message; none once it is closed and empty.
    pub(super) async fn next(&self) -> Option<Vec<u8>> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if let Some(message) = state.waiting.pop_front() {
                state.bytes -= message.len();
                return Poll::Ready(Some(message));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn next(inbound: &Inbound) -> Poll<Option<Vec<u8>>> {
        pin!(inbound.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_too_much_is_dropped() {
        let cases = [(INBOUND_MAX, 1), (16, INBOUND_BYTES_MAX / 16)];
        for (fit, bytes) in cases {
            let inbound = Inbound::default();
            (0..fit + 3).for_each(|_| inbound.push(vec![0; bytes]));
            inbound.close();
            for _ in 0..fit {
                assert_eq!(next(&inbound), Poll::Ready(Some(vec![0; bytes])));
            }
            assert_eq!(next(&inbound), Poll::Ready(None), "{fit} of {bytes} bytes");
        }
        let empty = Inbound::default();
        assert_eq!(next(&empty), Poll::Pending);
        empty.push(vec![7]);
        assert_eq!(next(&empty), Poll::Ready(Some(vec![7])));
    }
}
