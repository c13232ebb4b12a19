//! The body of a request, read on demand: from behind the head, then from the wire.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Deref;
use std::task::{Context, Poll};

use super::core::Core;
use crate::base::counters::Count;
use crate::base::spares::Spares;
use crate::base::wire::Input;
use crate::error::{Error, Result};
use crate::http::chunked::{ChunkLimits, Chunked, Step};
use crate::http::encode;
use crate::http::head::{Body, Refusal};
use crate::limits::{CHUNK_LINE_BYTES_MAX, DRAIN_BYTES_MAX, TRAILER_BYTES_MAX, TRAILERS_MAX};
use crate::shard::time::Alarm;

/// How far the body of the current request has been read.
#[derive(Default)]
pub(crate) struct Reading {
    /// Bytes of the body handed out or dropped so far.
    taken: Cell<u64>,
    /// The next byte of `Core::buf`, from `base` on, that is not used.
    at: Cell<usize>,
    /// What came later than the buffer, and the next byte of it.
    raw: Cell<Vec<u8>>,
    raw_at: Cell<usize>,
    chunked: RefCell<Option<Box<Chunked>>>,
    ended: Cell<bool>,
    /// The framing is lost: the connection cannot go on.
    broken: Cell<bool>,
    continued: Cell<bool>,
    /// Other bytes stand in place of the body: a [`Replaced`] in the arena.
    replaced: Cell<bool>,
    /// What `body()` has gathered so far.
    gathered: Cell<Vec<u8>>,
}

/// What stands in place of the body that came.
struct Replaced(Vec<u8>);

/// Bytes of a request's body. Its buffer goes back when it is dropped.
///
/// It lends its bytes: what is to stay is copied. One at a time costs one buffer, however long the
/// body is.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn sum(cx: &Ctx<()>) -> Result<Reply> {
///     let mut sum = 0;
///     while let Some(chunk) = cx.next_chunk().await? {
///         sum += chunk.iter().map(|byte| u64::from(*byte)).sum::<u64>(); // it is a `[u8]`
///     }
///     cx.json(&sum)
/// }
/// # let app = App::new(()).post("/", sum);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.post("/").body("abc").pieces(1).await.text("294"); // sent a byte at a time
/// # });
/// ```
pub struct Chunk<'a> {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    spares: &'a Spares,
}

impl Deref for Chunk<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        self.spares.give(std::mem::take(&mut self.bytes));
    }
}

impl<'a> Chunk<'a> {
    /// A copy of bytes that lie elsewhere.
    pub(crate) fn copy(bytes: &[u8], spares: &'a Spares) -> Chunk<'a> {
        let mut copy = spares.take();
        copy.extend_from_slice(bytes);
        Chunk { start: 0, end: copy.len(), bytes: copy, spares }
    }

    /// Its buffer, and where in it the chunk begins that ends with it; the chunk itself if more
    /// follows there.
    #[cfg(feature = "files")]
    pub(crate) fn into_tail(mut self) -> Result<(Vec<u8>, usize), Self> {
        if self.end != self.bytes.len() {
            return Err(self);
        }
        Ok((std::mem::take(&mut self.bytes), self.start))
    }

    /// To be handed on in parts; its buffer goes back with [`Unread::give`], or with a part.
    pub(crate) fn into_unread(mut self) -> Unread {
        Unread { bytes: std::mem::take(&mut self.bytes), start: self.start, end: self.end }
    }
}

/// What is left of a chunk that is handed on in parts.
#[derive(Default)]
pub(crate) struct Unread {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Deref for Unread {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl Unread {
    /// Passes over the first bytes.
    pub(crate) fn skip(&mut self, count: usize) {
        self.start += count.min(self.len());
    }

    /// The first bytes as a chunk: the shorter side is copied, nothing if they are all.
    pub(crate) fn split<'a>(&mut self, count: usize, spares: &'a Spares) -> Chunk<'a> {
        let count = count.min(self.len());
        if count < self.len() - count {
            let front = Chunk::copy(&self[..count], spares);
            self.start += count;
            return front;
        }
        let mut rest = Vec::new();
        if count < self.len() {
            rest = spares.take();
            rest.extend_from_slice(&self[count..]);
        }
        let Unread { bytes, start, .. } =
            std::mem::replace(self, Unread { start: 0, end: rest.len(), bytes: rest });
        Chunk { bytes, start, end: start + count, spares }
    }

    /// Gives its buffer back.
    pub(crate) fn give(&mut self, spares: &Spares) {
        spares.give(std::mem::take(self).bytes);
    }
}

impl Reading {
    /// For a request whose head is `head_bytes` long.
    #[inline]
    pub(crate) fn begin(&mut self, head_bytes: usize, body: Body) {
        self.at.set(head_bytes);
        match body {
            Body::None | Body::Length(0) => self.ended.set(true),
            Body::Length(_) => {}
            Body::Chunked => {
                let limits = ChunkLimits {
                    line_bytes_max: CHUNK_LINE_BYTES_MAX,
                    trailer_bytes_max: TRAILER_BYTES_MAX,
                    trailers_max: TRAILERS_MAX,
                };
                match self.chunked.get_mut() {
                    Some(decoder) => decoder.reset(),
                    empty => *empty = Some(Box::new(Chunked::new(limits))),
                }
            }
        }
    }

    #[inline]
    pub(crate) fn reset(&mut self, spares: &Spares) {
        self.taken.set(0);
        self.raw_at.set(0);
        self.ended.set(false);
        self.broken.set(false);
        self.continued.set(false);
        self.replaced.set(false);
        for bytes in [self.raw.get_mut(), self.gathered.get_mut()] {
            if bytes.capacity() > 0 {
                spares.give(std::mem::take(bytes));
            }
        }
    }

    #[inline]
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.get()
    }

    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Where the next request begins in the buffer.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at.get()
    }

    /// Whether bytes came behind the late part of this body.
    pub(crate) fn has_rest(&self) -> bool {
        let raw = self.raw.take();
        let any = raw.len() > self.raw_at.get();
        self.raw.set(raw);
        any
    }

    /// Bytes of the next request that came with the late part of this body.
    #[inline]
    pub(crate) fn take_rest(&self) -> Option<Vec<u8>> {
        let (raw, at) = (self.raw.take(), self.raw_at.replace(0));
        if at == raw.len() { None } else { Some(raw[at..].to_vec()) }
    }
}

impl Core {
    /// The whole body, at most `body_bytes_max`.
    pub(crate) async fn read_body(&self) -> Result<&[u8]> {
        if let Some(body) = self.replaced_body() {
            return Ok(body);
        }
        if let Some(body) = self.late_body.get() {
            return Ok(body);
        }
        let bytes_max = self.body_limit(self.local.limits.body_bytes_max);
        if let Body::Length(length) = self.head.body
            && self.reading.taken.get() == 0
        {
            // Zero copy when it came with its head.
            let start = self.reading.at.get();
            if length <= bytes_max
                && let Some(body) = self.bytes().get(start..start + length as usize)
            {
                self.reading.at.set(start + length as usize);
                self.reading.taken.set(length);
                self.reading.ended.set(true);
                return Ok(body);
            }
        }
        if self.reading.ended.get() {
            // Read before: zero-copy, so it still lies in front of the cursor.
            let (end, taken) = (self.reading.at.get(), self.reading.taken.get() as usize);
            let read = matches!(self.head.body, Body::Length(_));
            return Ok(if read { &self.bytes()[end - taken..end] } else { &[] });
        }
        self.check_length(bytes_max)?;
        while let Some(chunk) = self.read_chunk(bytes_max).await? {
            let mut gathered = self.reading.gathered.take();
            if gathered.capacity() == 0 {
                gathered = self.local.spares.take();
            }
            gathered.extend_from_slice(&chunk);
            self.reading.gathered.set(gathered);
        }
        let body = self.reading.gathered.take();
        Ok(self.late_body.get_or_init(|| body))
    }

    /// The next bytes of the body, none at its end.
    pub(crate) async fn read_chunk(&self, bytes_max: u64) -> Result<Option<Chunk<'_>>> {
        if let Some(chunk) = self.replaced_chunk() {
            return Ok(Some(chunk));
        }
        self.check_length(bytes_max)?;
        let alarm = Timed { core: self, alarm: Alarm::default() };
        let stall_ms = self.local.limits.body_stall_ms_max;
        let until_ms = self.local.clock.now_ms() + stall_ms;
        poll_fn(|cx| self.poll_chunk(cx, bytes_max, &alarm.alarm, until_ms)).await
    }

    fn poll_chunk(
        &self,
        cx: &mut Context<'_>,
        bytes_max: u64,
        alarm: &Alarm,
        until_ms: u64,
    ) -> Poll<Result<Option<Chunk<'_>>>> {
        loop {
            if self.reading.broken.get() {
                return Poll::Ready(Err(broken()));
            }
            if self.reading.ended.get() {
                return Poll::Ready(Ok(None));
            }
            match self.next_piece() {
                Ok(Some(chunk)) => {
                    if self.reading.taken.get() > bytes_max {
                        return Poll::Ready(Err(self.too_large()));
                    }
                    return Poll::Ready(Ok(Some(chunk)));
                }
                Ok(None) if self.reading.ended.get() => continue,
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Err(self.lost(refusal.status, refusal.reason))),
            }
            if self.head.expect_continue && !self.reading.continued.replace(true) {
                self.wire().write(|out| out.extend_from_slice(encode::CONTINUE));
            }
            match self.wire().poll_input(0, cx) {
                Poll::Ready(Input::Bytes) => {}
                Poll::Ready(_) => {
                    return Poll::Ready(Err(self.lost(400, "the body ended early")));
                }
                Poll::Pending => {
                    if alarm.poll(&self.local, until_ms, cx).is_ready() {
                        self.local.counters.add(Count::TimedOut, 1);
                        return Poll::Ready(Err(self.lost(408, "the body stalled")));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Bytes of the body that were handed out, and those that it has, where that is known.
    pub(crate) fn body_progress(&self) -> (u64, Option<u64>) {
        let received = self.reading.taken.get();
        let total = match self.head.body {
            Body::Length(length) => Some(length),
            Body::None => Some(0),
            Body::Chunked => self.reading.ended.get().then_some(received),
        };
        (received, total)
    }

    /// Drops what is left of the body. False if the connection cannot go on.
    pub(crate) async fn drain_body(&self) -> bool {
        let start = self.reading.taken.get();
        if self.head.expect_continue && !self.reading.continued.get() {
            return false; // it may still come, or not
        }
        let until_ms = self.local.clock.now_ms() + self.local.limits.body_stall_ms_max;
        let alarm = Timed { core: self, alarm: Alarm::default() };
        loop {
            let bytes_max = start + DRAIN_BYTES_MAX;
            let next = poll_fn(|cx| self.poll_chunk(cx, bytes_max, &alarm.alarm, until_ms)).await;
            match next {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Whether what is left of the body is worth waiting for.
    pub(crate) fn is_drainable(&self) -> bool {
        if self.reading.broken.get() || (self.head.expect_continue && !self.reading.continued.get())
        {
            return self.reading.ended.get();
        }
        match self.head.body {
            Body::Length(length) => length - self.reading.taken.get() <= DRAIN_BYTES_MAX,
            _ => true,
        }
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        if !self.reading.ended.get() || self.head.body != Body::Chunked {
            return None;
        }
        let chunked = self.reading.chunked.borrow();
        let value = chunked.as_deref()?.trailer(name)?;
        Some(self.arena.copy(value))
    }

    /// One piece of what has come: none if nothing has.
    fn next_piece(&self) -> Result<Option<Chunk<'_>>, Refusal> {
        let reading = &self.reading;
        let start = reading.at.get();
        if let Some(source) = self.bytes().get(start..).filter(|rest| !rest.is_empty()) {
            let (piece, taken) = self.piece_of(source)?;
            reading.at.set(start + taken);
            return Ok(piece);
        }
        let mut raw = reading.raw.take();
        if reading.raw_at.get() == raw.len() {
            reading.raw_at.set(0);
            raw.clear();
            self.wire().take_into(&mut raw);
        }
        let start = reading.raw_at.get();
        if let Body::Length(length) = self.head.body
            && !raw.is_empty()
            && (raw.len() - start) as u64 <= length - reading.taken.get()
        {
            // All of it is body: the buffer itself is handed out.
            reading.raw_at.set(0);
            let taken = reading.taken.get() + (raw.len() - start) as u64;
            reading.taken.set(taken);
            reading.ended.set(taken == length);
            let end = raw.len();
            return Ok(Some(Chunk { bytes: raw, start, end, spares: &self.local.spares }));
        }
        let done = self.piece_of(&raw[start..]);
        if let Ok((_, taken)) = &done {
            reading.raw_at.set(start + taken);
        }
        reading.raw.set(raw);
        done.map(|(piece, _)| piece)
    }

    /// Body bytes at the start of `source`, copied, and how much of it was used.
    fn piece_of(&self, source: &[u8]) -> Result<(Option<Chunk<'_>>, usize), Refusal> {
        let reading = &self.reading;
        let mut used = 0;
        let (start, end) = match self.head.body {
            Body::None => return Ok((None, 0)),
            Body::Length(length) => {
                let left = length - reading.taken.get();
                let count = left.min(source.len() as u64) as usize;
                reading.ended.set(left == count as u64);
                used = count;
                (0, count)
            }
            Body::Chunked => {
                let mut chunked = reading.chunked.borrow_mut();
                let Some(decoder) = chunked.as_deref_mut() else { return Ok((None, 0)) };
                loop {
                    match decoder.decode(&source[used..])? {
                        Step::Data { start, end } => {
                            let span = (used + start, used + end);
                            used += end;
                            break span;
                        }
                        Step::More { taken } => {
                            used += taken;
                            if taken == 0 || used == source.len() {
                                return Ok((None, used));
                            }
                        }
                        Step::End { taken } => {
                            reading.ended.set(true);
                            return Ok((None, used + taken));
                        }
                    }
                }
            }
        };
        if start == end {
            return Ok((None, used));
        }
        reading.taken.set(reading.taken.get() + (end - start) as u64);
        let mut bytes = self.local.spares.take();
        bytes.extend_from_slice(&source[start..end]);
        let spares = &self.local.spares;
        Ok((Some(Chunk { end: bytes.len(), bytes, start: 0, spares }), used))
    }

    /// The bound of this request's body: a middleware's, else the one of the server.
    #[inline]
    pub(crate) fn body_limit(&self, bytes_max: u64) -> u64 {
        match self.body_bytes_max.get() {
            u64::MAX => bytes_max,
            stated => stated,
        }
    }

    /// Puts other bytes in place of the body, which has been read to its end.
    #[cfg(feature = "compress")]
    pub(crate) fn replace_request_body(&self, body: Vec<u8>) {
        self.reading.taken.set(0);
        self.reading.replaced.set(true);
        self.arena.put(Replaced(body));
    }

    #[inline]
    fn replaced_body(&self) -> Option<&[u8]> {
        let replaced =
            if self.reading.replaced.get() { self.arena.got::<Replaced>() } else { None };
        replaced.map(|Replaced(body)| &body[..])
    }

    /// The body that stands in place of the one that came, once, as one piece.
    fn replaced_chunk(&self) -> Option<Chunk<'_>> {
        let body = self.replaced_body()?;
        if body.is_empty() || self.reading.taken.replace(body.len() as u64) > 0 {
            return None;
        }
        let mut bytes = self.local.spares.take();
        bytes.extend_from_slice(body);
        Some(Chunk { start: 0, end: bytes.len(), bytes, spares: &self.local.spares })
    }

    pub(crate) fn check_length(&self, bytes_max: u64) -> Result<()> {
        match self.head.body {
            Body::Length(length) if length > bytes_max => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    pub(crate) fn too_large(&self) -> Error {
        self.local.counters.add(Count::RefusedBody, 1);
        self.close.set(true);
        Error::new(413, "the body is too large")
    }

    fn lost(&self, status: u16, reason: &'static str) -> Error {
        self.local.counters.add(Count::RefusedBody, 1);
        self.reading.broken.set(true);
        self.close.set(true);
        Error::new(status, reason)
    }
}

/// Cancels its alarm when the read is dropped.
struct Timed<'a> {
    core: &'a Core,
    alarm: Alarm,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.alarm.cancel(&self.core.local);
    }
}

fn broken() -> Error {
    Error::bad_request("the body cannot be read")
}
