//! What goes over a lane's connection, counted as it goes by: what was asked, what was answered,
//! and whether the session is left as the next query may find it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Shared by a connection and those who watch it.
#[derive(Default)]
pub(super) struct Flow {
    /// Requests that were written: each ends with a Sync.
    asked: AtomicU64,
    /// Answers that were read: each ends with a ReadyForQuery.
    answered: AtomicU64,
    /// The session is set up: requests are counted from now on.
    is_ready: AtomicBool,
    /// It is to end at once.
    is_over: AtomicBool,
    waker: AtomicWaker,
}

impl Flow {
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self) {
        self.answered.store(0, Ordering::Release);
        self.is_ready.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A stream with its flow counted.
pub(super) struct Counted<S> {
    stream: S,
    flow: Arc<Flow>,
    inwards: Walk,
    outwards: Walk,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, flow: Arc<Flow>) -> Counted<S> {
        Counted { stream, flow, inwards: Walk::default(), outwards: Walk::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let from = into.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, into))?;
        let (mut ready, mut is_idle) = (0, true);
        this.inwards.over(&into.filled()[from..], |tag, first| {
            if tag == READY_FOR_QUERY {
                ready += 1;
                is_idle = is_idle && first == IDLE;
            }
        });
        if ready > 0 {
            this.flow.answered.fetch_add(ready, Ordering::AcqRel);
        }
        if !is_idle {
            // What was read is not passed on: those behind are in its transaction too.
            into.set_filled(from);
            let why = "a query of the lane has begun a transaction, which others would be part of";
            return Poll::Ready(Err(io::Error::other(why)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let len = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        if this.flow.is_ready.load(Ordering::Acquire) {
            let mut asked = 0;
            this.outwards.over(&bytes[..len], |tag, _| asked += u64::from(tag == SYNC));
            this.flow.asked.fetch_add(asked, Ordering::AcqRel);
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Walks over messages, however they are cut: a tag, a length that counts itself, a body.
#[derive(Default)]
struct Walk {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the body that are to come.
    rest: usize,
}

impl Walk {
    /// Calls `seen` with the tag of each message and the first byte of its body, 0 if it has none.
    fn over(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8, u8)) {
        loop {
            let skipped = self.rest.min(bytes.len());
            bytes = &bytes[skipped..];
            self.rest -= skipped;
            if bytes.is_empty() {
                return;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD - 1 {
                return;
            }
            let [tag, a, b, c, d, first] = self.head;
            let body = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
            if body == 0 {
                seen(tag, 0);
                // The byte behind it, if it was taken, is the next one's tag.
                let next = self.have == HEAD;
                self.head[0] = first;
                self.have = usize::from(next);
            } else if self.have == HEAD {
                seen(tag, first);
                self.rest = body - 1;
                self.have = 0;
            } else {
                return;
            }
        }
    }
}

/// A tag, a length, and the first byte of the body.
const HEAD: usize = 6;
const READY_FOR_QUERY: u8 = b'Z';
const IDLE: u8 = b'I';
const SYNC: u8 = b'S';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let message = |tag: u8, body: &[u8]| {
            let mut all = vec![tag];
            all.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
            all.extend_from_slice(body);
            all
        };
        // Bodies that look like messages are none.
        let all = [
            message(b'2', b""),
            message(b'D', b"Z\0\0\0\x05I"),
            message(b'S', b""),
            message(b'Z', b"I"),
            message(b'S', b""),
            message(b'Z', b"T"),
        ]
        .concat();
        let want = [(b'2', 0), (b'D', b'Z'), (b'S', 0), (b'Z', b'I'), (b'S', 0), (b'Z', b'T')];
        for step in 1..=all.len() {
            let (mut walk, mut got) = (Walk::default(), Vec::new());
            all.chunks(step).for_each(|it| walk.over(it, |tag, first| got.push((tag, first))));
            assert_eq!(got, want, "in steps of {step}");
        }
    }

    #[test]
    fn an_answer_from_within_a_transaction_is_passed_on_to_nobody() {
        use futures_util::FutureExt;
        use tokio::io::AsyncReadExt;
        for (status, passes) in [(b'I', true), (b'T', false), (b'E', false)] {
            let flow = Arc::<Flow>::default();
            let bytes = [b'C', 0, 0, 0, 5, b'x', b'Z', 0, 0, 0, 5, status];
            let mut counted = Counted::new(&bytes[..], flow.clone());
            let mut read = Vec::new();
            let done = counted.read_to_end(&mut read).now_or_never().expect("all is there");
            assert_eq!((done.is_ok(), flow.answered()), (passes, 1), "{}", status as char);
        }
    }

    #[test]
    fn lengths_that_make_no_sense_do_no_harm() {
        for length in [0u32, 1, 3, u32::MAX] {
            let mut walk = Walk::default();
            let bytes = [&[b'Z'][..], &length.to_be_bytes(), b"IZZZ"].concat();
            (0..3).for_each(|_| walk.over(&bytes, |_, _| ()));
        }
    }
}
