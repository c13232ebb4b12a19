//! A file's way to the socket, by its size and by where its bytes are.
//!
//! Small and in memory: mapped pages, in one send with the head. A few bytes of a large file: read
//! into the answer. Large and in memory: moved by the kernel (sendfile). Not in memory, or without
//! a socket to move it to: read through the ring into buffers, two at a time.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::body::{FileBody, Parts};
use super::open::Open;
use crate::base::counters::Count;
use crate::base::piece::Piece;
use crate::base::wire::{Close, Wire};
use crate::http::range::Span;
use crate::limits::{
    FILE_COPY_BYTES_MAX, FILE_SMALL_BYTES_MAX, FILE_TURN_NS_MAX, FILE_WINDOW_BYTES,
    OUTBOX_BYTES_MAX, STREAM_BYTES_MAX,
};
use crate::ring::file::{self, Op};
use crate::shard::Local;
use crate::shard::tasks::yield_now;
use crate::shard::time::Armed;

/// The body did not go out whole, and the connection cannot go on.
#[derive(Debug)]
pub(crate) struct Cut;

/// Writes what of a body is small and in memory, behind its head. False if more is left.
#[inline]
pub(crate) fn send_small(local: &Local, wire: &Wire, body: &mut FileBody) -> bool {
    let Parts::One(span) = &mut body.parts else { return false };
    if span.from == span.to {
        return true;
    }
    if let Some(map) = &body.open.map
        && span.len() <= FILE_SMALL_BYTES_MAX
        && wire.socket().is_some()
        && body.open.is_resident(*span, local.clock.now_ms())
    {
        wire.write_mapped(map.clone(), span.from as u32, span.len() as u32);
        return true;
    }
    if span.len() <= FILE_COPY_BYTES_MAX {
        span.from += copy(wire, &body.open, *span);
    }
    span.from == span.to
}

/// Reads what is in memory behind what is written; how many bytes that was.
fn copy(wire: &Wire, open: &Open, span: Span) -> u64 {
    let len = span.len() as usize;
    let read = |out: &mut Vec<u8>| file::read_resident(&open.file, out, span.from, len);
    wire.write(read).unwrap_or(0) as u64
}

/// Sends a body behind what is written, and returns when all of it is written.
pub(crate) async fn send(local: &Rc<Local>, wire: &Wire, body: &FileBody) -> Result<(), Cut> {
    let sender = Sender { local, wire, open: &body.open };
    match &body.parts {
        Parts::One(span) => sender.span(*span).await,
        Parts::Several(several) => {
            for (head, span) in &several.parts {
                wire.write(|out| out.extend_from_slice(head));
                sender.span(*span).await?;
            }
            wire.write(|out| out.extend_from_slice(&several.end));
            Ok(())
        }
    }
}

struct Sender<'a> {
    local: &'a Rc<Local>,
    wire: &'a Wire,
    open: &'a Open,
}

/// What a window of a file is moved by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Kernel,
    Buffers,
}

impl Sender<'_> {
    async fn span(&self, mut span: Span) -> Result<(), Cut> {
        if span.len() <= FILE_COPY_BYTES_MAX {
            self.room(OUTBOX_BYTES_MAX).await?;
            span.from += copy(self.wire, self.open, span);
        }
        while span.from < span.to {
            let window = Span { to: span.to.min(span.from + FILE_WINDOW_BYTES), ..span };
            span.from = match self.way(window) {
                Way::Kernel => self.by_kernel(window).await?,
                Way::Buffers => self.by_buffers(window).await?,
            };
            if !self.open.is_unchanged() {
                return Err(self.changed());
            }
            let clock = &self.local.clock;
            let long = clock.peek_ns() - clock.now_ns() > FILE_TURN_NS_MAX;
            if span.from < span.to && (long || self.local.tasks.ready_len() > 0) {
                yield_now().await;
            }
        }
        Ok(())
    }

    fn way(&self, window: Span) -> Way {
        if self.wire.socket().is_none() {
            return Way::Buffers;
        }
        match self.open.is_resident(window, self.local.clock.now_ms()) {
            true => Way::Kernel,
            false => Way::Buffers,
        }
    }

    /// Moves a window by sendfile. Where it ended, which is its end or a page that may be missing.
    async fn by_kernel(&self, window: Span) -> Result<u64, Cut> {
        self.flush().await?;
        let Some(socket) = self.wire.socket().filter(|_| !self.wire.is_dead()) else {
            return Err(Cut);
        };
        let (count, end) = file::send_file(socket, &self.open.file, window.from, window.len());
        self.local.counters.add(Count::BytesOut, count);
        let at = window.from + count;
        match end {
            Ok(()) if at < window.to => Err(self.changed()),
            Ok(()) => Ok(at),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable(socket).await?;
                Ok(at) // while it waited, pages may have gone
            }
            Err(_) => Err(Cut),
        }
    }

    /// Hands what is written to the socket, with the word that more follows.
    async fn flush(&self) -> Result<(), Cut> {
        if let Some(socket) = self.wire.socket() {
            self.wire.flush_now(|bytes| {
                let sent = file::send_head(socket, bytes).unwrap_or(0);
                self.local.counters.add(Count::BytesOut, sent as u64);
                sent
            });
        }
        self.room(0).await
    }

    async fn writable(&self, socket: i32) -> Result<(), Cut> {
        let stall_ms = self.local.limits.write_stall_ms_max;
        let until_ms = self.local.clock.now_ms() + stall_ms;
        let alarm = Armed::new(self.local);
        let mut waiting = pin!(self.local.operations.start(Op::Writable { socket }));
        let stalled = poll_fn(|cx| {
            if self.wire.is_dead() || waiting.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            alarm.poll(until_ms, cx).map(|()| true)
        })
        .await;
        if stalled {
            self.local.counters.add(Count::Stalled, 1);
            self.wire.close(Close::Abort);
        }
        if stalled || self.wire.is_dead() { Err(Cut) } else { Ok(()) }
    }

    /// Reads a window through the ring, a buffer at a time: one is read while one is sent.
    async fn by_buffers(&self, window: Span) -> Result<u64, Cut> {
        let mut at = window.from;
        while at < window.to {
            let mut buffer = self.local.spares.take_large();
            buffer.resize(STREAM_BYTES_MAX.min((window.to - at) as usize), 0);
            let op = Op::Read { file: self.open.file.clone(), buffer, at };
            let (result, op) = self.local.operations.start(op).await;
            let Op::Read { mut buffer, .. } = op else { return Err(Cut) };
            match result {
                Ok(0) => return Err(self.changed()),
                Ok(count) => {
                    buffer.truncate(count);
                    self.room(STREAM_BYTES_MAX).await?;
                    self.wire.write_owned(Piece::Own(buffer));
                    at += count as u64;
                }
                Err(libc::EINTR | libc::EAGAIN) => {}
                Err(error) => {
                    let error = io::Error::from_raw_os_error(error);
                    tracing::error!("a file cannot be read: {error}");
                    return Err(Cut);
                }
            }
        }
        Ok(at)
    }

    /// Waits until so little is unsent.
    async fn room(&self, bytes_max: usize) -> Result<(), Cut> {
        poll_fn(|cx| self.wire.poll_unsent(cx, bytes_max)).await;
        if self.wire.is_dead() { Err(Cut) } else { Ok(()) }
    }

    fn changed(&self) -> Cut {
        tracing::warn!(tag = &*self.open.tag, "a file changed while it was sent: it was cut off");
        Cut
    }
}
