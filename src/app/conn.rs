//! One connection's life: heads in, handlers run, answers out, in order.
//!
//! It sees a wire and a clock, not a ring: the same loop runs on a socket and in memory.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::core::{Core, Phase};
use super::reply::{is_bodiless, run_on_head, write_head};
use super::site::Site;
use super::upgrade::Running;
use crate::base::counters::Count;
use crate::base::piece::Piece;
use crate::base::wire::{Close, Input, Wire};
use crate::error::Error;
#[cfg(feature = "files")]
use crate::files::send;
use crate::http::encode::{self, Length, Persist};
use crate::http::head::{self, Body, Method, Parsed, Refusal};
use crate::limits::{BODY_COPY_BYTES_MAX, DRAIN_IDLE_MS_MAX, OUTBOX_BYTES_MAX};
use crate::shard::tasks::yield_now;
use crate::shard::time::Alarm;

/// Serves one connection until it ends.
pub(crate) async fn serve(site: Rc<Site>, wire: Rc<Wire>) {
    let conn = Conn { site, wire, alarm: Alarm::default(), upgraded: Cell::new(false) };
    let mut waiting = Waiting::default();
    loop {
        match conn.wait(&waiting).await {
            Woken::Bytes => {}
            Woken::End => return conn.wire.close(Close::Staged),
            Woken::Dead => return conn.wire.close(Close::Abort),
            Woken::Truncated => return conn.refuse(&TRUNCATED, false),
            Woken::Late => return conn.refuse(&LATE, false),
        }
        let mut core = conn.site.take_core();
        let turn = conn.take_turn(&mut core).await;
        conn.give_back(core);
        match turn {
            Turn::Idle => waiting = Waiting::default(),
            Turn::Partial { bytes } => {
                let since_ms = waiting.since_ms.unwrap_or(conn.now_ms());
                waiting = Waiting { seen_bytes: bytes, since_ms: Some(since_ms) };
            }
            Turn::Refused(refusal, to_head) => return conn.refuse(&refusal, to_head),
            Turn::Close(how) => return conn.wire.close(how),
            Turn::Upgrade(running) => {
                // It goes on without what a connection of HTTP holds.
                conn.upgraded.set(true);
                let upgraded = Upgraded(conn.wire.clone());
                return conn.site.local.tasks.go_on_as(Box::pin(upgraded.run(running)));
            }
        }
    }
}

struct Conn {
    site: Rc<Site>,
    wire: Rc<Wire>,
    alarm: Alarm,
    /// The wire is another's now.
    upgraded: Cell<bool>,
}

/// Dropped without a word, by a panic or by the driver: nothing more can be said.
impl Drop for Conn {
    fn drop(&mut self) {
        self.alarm.cancel(&self.site.local);
        if self.wire.closing() == Close::Open && !self.upgraded.get() {
            self.wire.close(Close::Abort);
        }
    }
}

/// A connection that has left HTTP.
struct Upgraded(Rc<Wire>);

impl Upgraded {
    async fn run(self, running: Running) {
        if let Err(error) = running.await {
            tracing::debug!("upgraded connection: {error}");
        }
        self.0.close(Close::Staged);
    }
}

/// As of `Conn`.
impl Drop for Upgraded {
    fn drop(&mut self) {
        if self.0.closing() == Close::Open {
            self.0.close(Close::Abort);
        }
    }
}

/// The first bytes of a head that is not whole yet.
#[derive(Default)]
struct Waiting {
    seen_bytes: usize,
    since_ms: Option<u64>,
}

enum Woken {
    Bytes,
    End,
    Dead,
    Truncated,
    Late,
}

/// How a connection stands after what it had received was served.
enum Turn {
    Idle,
    Partial {
        bytes: usize,
    },
    /// Whether what was refused is a HEAD, to which no body may be sent (RFC 9110 section 9.3.2).
    Refused(Refusal, bool),
    Close(Close),
    Upgrade(Running),
}

/// How a request ended.
enum Served {
    /// The next one may follow.
    Next,
    Close(Close),
    Upgrade,
}

impl Conn {
    fn now_ms(&self) -> u64 {
        self.site.local.clock.now_ms()
    }

    /// Waits for more bytes, within the time that an idle or a slow client has.
    async fn wait(&self, waiting: &Waiting) -> Woken {
        let limits = &self.site.local.limits;
        let until_ms = match waiting.since_ms {
            Some(since_ms) => since_ms + limits.head_ms_max,
            None => self.now_ms() + limits.idle_ms_max,
        };
        poll_fn(|cx| {
            match self.wire.poll_input(waiting.seen_bytes, cx) {
                Poll::Ready(Input::Bytes) => return Poll::Ready(Woken::Bytes),
                Poll::Ready(Input::Dead) => return Poll::Ready(Woken::Dead),
                Poll::Ready(Input::Eof) if waiting.seen_bytes > 0 => {
                    return Poll::Ready(Woken::Truncated);
                }
                Poll::Ready(Input::Eof) => return Poll::Ready(Woken::End),
                Poll::Pending => {}
            }
            let draining_ms = self.site.local.draining_ms.get();
            let idle = waiting.since_ms.is_none();
            let until_ms = match draining_ms {
                Some(since_ms) if idle => until_ms.min(since_ms + DRAIN_IDLE_MS_MAX),
                _ => until_ms,
            };
            match self.alarm.poll(&self.site.local, until_ms, cx) {
                Poll::Ready(()) if idle => Poll::Ready(Woken::End),
                Poll::Ready(()) => Poll::Ready(Woken::Late),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Serves every whole request that has been received.
    async fn take_turn(&self, core: &mut Rc<Core>) -> Turn {
        let local = &self.site.local;
        let Some(it) = Rc::get_mut(core) else { return Turn::Close(Close::Abort) };
        it.wire = Some(self.wire.clone());
        it.base = 0;
        self.wire.take_into(&mut it.buf);
        let mut in_turn = 0;
        loop {
            let Some(it) = Rc::get_mut(core) else {
                // A forgotten future of the handler holds it: a fresh one takes over.
                match self.replace(core) {
                    true => continue,
                    false => return Turn::Close(Close::Abort),
                }
            };
            if it.base >= it.buf.len() {
                it.buf.clear();
                it.base = 0;
                if self.wire.unread() == 0 {
                    return Turn::Idle;
                }
                self.wire.take_into(&mut it.buf);
                continue;
            }
            match head::parse(&it.buf[it.base..], &self.site.head_limits, &mut it.head) {
                Parsed::Complete => {}
                Parsed::Partial if self.wire.unread() > 0 => {
                    it.buf.drain(..it.base);
                    it.base = 0;
                    self.wire.take_into(&mut it.buf);
                    continue;
                }
                Parsed::Partial => {
                    self.wire.put_back(&it.buf[it.base..]);
                    return Turn::Partial { bytes: it.buf.len() - it.base };
                }
                Parsed::Refused(refusal) => {
                    return Turn::Refused(refusal, it.buf[it.base..].starts_with(b"HEAD "));
                }
            }
            it.received_ns = local.clock.now_ns();
            it.clean = false;
            in_turn += 1;
            local.counters.add(Count::Requests, 1);
            local.counters.add(Count::Active, 1);
            let served = self.serve_one(core).await;
            local.counters.sub(Count::Active);
            match served {
                Served::Next => {}
                Served::Close(how) => {
                    return Turn::Close(how);
                }
                Served::Upgrade => {
                    let Some(it) = Rc::get_mut(core) else { return Turn::Close(Close::Abort) };
                    let Some(upgrade) = it.upgrade.take() else {
                        return Turn::Close(Close::Abort);
                    };
                    // What came behind the head belongs to the new protocol.
                    let rest = it.base + it.reading.at();
                    self.wire.put_back(&it.buf[rest..]);
                    return Turn::Upgrade(upgrade.run.start(&self.wire, it));
                }
            }
            let Some(it) = Rc::get_mut(core) else { continue };
            it.base += it.reading.at();
            if let Some(rest) = it.reading.take_rest() {
                it.buf.clear();
                it.buf.extend_from_slice(&rest);
                it.base = 0;
            }
            it.reset();
            if self.wire.unsent() > OUTBOX_BYTES_MAX {
                poll_fn(|cx| self.wire.poll_writable(cx)).await;
            }
            if self.wire.is_dead() {
                return Turn::Close(Close::Abort);
            }
            if in_turn >= local.limits.pipeline_max && it.base < it.buf.len() {
                in_turn = 0;
                yield_now().await;
            }
        }
    }

    /// Runs the handler and sends its answer.
    async fn serve_one(&self, core: &mut Rc<Core>) -> Served {
        let Some(it) = Rc::get_mut(core) else { return Served::Close(Close::Abort) };
        let (head_bytes, body) = (it.head.len, it.head.body);
        it.reading.begin(head_bytes, body);
        it.close.set(!it.head.keep_alive);
        let target = self.site.serve.route(it);
        if it.route.as_ref().is_some_and(|route| route.long_arena_bytes.get() > 0) {
            let lean = Rc::new(it.split_lean());
            self.give_back(std::mem::replace(core, lean));
        }
        match self.run(core, target).await {
            Ran::Answered => {}
            Ran::Dead => return Served::Close(Close::Abort),
            Ran::Panicked => {
                self.site.local.counters.add(Count::Panics, 1);
                if core.phase.get() == Phase::Streaming {
                    return Served::Close(Close::Abort);
                }
                core.answer_error(&Error::new(500, "internal error"));
                core.close.set(true);
            }
            Ran::Late => {
                self.site.local.counters.add(Count::TimedOut, 1);
                core.answer_error(&Error::new(503, "took too long"));
                core.close.set(true);
            }
        }
        self.site.local.answered(core.received_ns);
        match core.phase.get() {
            Phase::Streaming => return Served::Close(Close::Abort),
            Phase::Finished => {}
            Phase::Open | Phase::Answered => {
                if core.status.get() == 101 && self.switch(core) {
                    return Served::Upgrade;
                }
                self.answer(core);
                #[cfg(feature = "files")]
                if !self.answer_file(core).await {
                    return Served::Close(Close::Abort);
                }
            }
        }
        if !core.reading.is_ended() && !core.close.get() && !core.drain_body().await {
            core.close.set(true);
        }
        if core.reading.is_broken() {
            return Served::Close(Close::Staged);
        }
        match core.close.get() {
            false => Served::Next,
            true if !core.head.keep_alive && core.is_read_out() => Served::Close(Close::Last),
            true => Served::Close(Close::Staged),
        }
    }

    /// Polls the handler to its end, or until it is of no use any more.
    async fn run(&self, core: &Rc<Core>, target: super::site::Target) -> Ran {
        let limit_ms = self.site.local.limits.request_ms_max;
        let until_ms = core.received_ns / 1_000_000 + limit_ms;
        let start = catch_unwind(AssertUnwindSafe(|| self.site.serve.start(core, target)));
        let Ok(mut running) = start else { return Ran::Panicked };
        let ran = poll_fn(|cx| {
            if self.wire.is_dead() {
                return Poll::Ready(Ran::Dead);
            }
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut running).poll(cx))) {
                Ok(Poll::Ready(())) => return Poll::Ready(Ran::Answered),
                Ok(Poll::Pending) => {}
                Err(_) => return Poll::Ready(Ran::Panicked),
            }
            // The deadline is for the beginning of an answer: a stream may take its time.
            if limit_ms > 0
                && matches!(core.phase.get(), Phase::Open | Phase::Answered)
                && self.alarm.poll(&self.site.local, until_ms, cx).is_ready()
            {
                return Poll::Ready(Ran::Late);
            }
            Poll::Pending
        })
        .await;
        match catch_unwind(AssertUnwindSafe(|| drop(running))) {
            Ok(()) => ran,
            Err(_) => Ran::Panicked,
        }
    }

    /// Writes a whole answer to the wire.
    #[inline]
    fn answer(&self, core: &Core) {
        if !core.on_head.borrow().is_empty() {
            run_on_head(core);
        }
        let status = core.status.get();
        if core.bad_field.get() || !(200..=599).contains(&status) {
            tracing::error!(status, "an answer that cannot be sent");
            core.answer_error(&Error::new(500, "internal error"));
        }
        let draining = self.site.local.draining_ms.get().is_some();
        if draining || (!core.reading.is_ended() && !core.is_drainable()) {
            core.close.set(true);
        }
        #[cfg(feature = "files")]
        if let Some(file) = core.file.take() {
            write_head(core, Length::Known(file.len()));
            core.file.set(Some(file));
            return;
        }
        #[cfg(feature = "cache")]
        if let Some(shared) = core.shared_body.take() {
            write_head(core, Length::Known(shared.len() as u64));
            let silent = core.head.method == Method::Head || is_bodiless(core.status.get());
            match shared.len() > BODY_COPY_BYTES_MAX {
                _ if silent => {}
                true => self.wire.write_owned(Piece::Bytes(Rc::clone(&shared))),
                false => self.wire.write(|out| out.extend_from_slice(&shared)),
            }
            return;
        }
        core.with_body(|body| {
            write_head(core, Length::Known(body.len() as u64));
            if core.head.method == Method::Head || is_bodiless(core.status.get()) {
                return;
            }
            if body.len() > BODY_COPY_BYTES_MAX {
                self.wire.write_owned(Piece::Own(std::mem::take(body)));
            } else {
                self.wire.write(|out| out.extend_from_slice(body));
            }
        });
    }

    /// Sends the file that is the body, if one is. False if it was cut off.
    #[cfg(feature = "files")]
    async fn answer_file(&self, core: &Core) -> bool {
        let Some(mut file) = core.file.take() else { return true };
        let (local, wire) = (&self.site.local, &*self.wire);
        if core.head.method == Method::Head || is_bodiless(core.status.get()) {
            return true;
        }
        if send::send_small(local, wire, &mut file) {
            return true;
        }
        // In the arena: an idle connection holds no room for it.
        core.arena.place(|| send::send(local, wire, &file)).await.is_ok()
    }

    /// Writes the 101. False if there is nothing to switch to.
    fn switch(&self, core: &Core) -> bool {
        let Some(upgrade) = core.upgrade.take() else { return false };
        if core.head.body != Body::None && !core.reading.is_ended() {
            return false; // what follows would be the body
        }
        run_on_head(core);
        let protocol = upgrade.protocol;
        core.with_fields(|fields| {
            fields.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
            fields.extend_from_slice(protocol.as_bytes());
            fields.extend_from_slice(b"\r\n");
            let date = core.date();
            self.wire.write(|out| {
                encode::answer_head(out, 101, "", fields, Length::None, Persist::Default, &date);
            });
        });
        core.upgrade.set(Some(upgrade));
        true
    }

    fn refuse(&self, refusal: &Refusal, to_head: bool) {
        let count = if refusal.status == 408 { Count::TimedOut } else { Count::RefusedHead };
        self.site.local.counters.add(count, 1);
        let mut answer = self.site.refusal(refusal);
        if to_head && let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            answer.truncate(end + 4);
        }
        self.wire.write(|out| out.extend_from_slice(&answer));
        self.wire.close(Close::Staged);
    }

    /// Takes a fresh core for the rest of the buffer of one that a handler still holds.
    fn replace(&self, core: &mut Rc<Core>) -> bool {
        let rest = core.bytes()[core.reading.at()..].to_vec();
        let late = core.reading.take_rest().unwrap_or_default();
        *core = self.site.fresh_core();
        let Some(it) = Rc::get_mut(core) else { return false };
        it.wire = Some(self.wire.clone());
        it.buf = [rest, late].concat();
        true
    }

    fn give_back(&self, mut core: Rc<Core>) {
        let Some(it) = Rc::get_mut(&mut core) else { return };
        it.reset();
        it.wire = None;
        self.site.local.spares.give(std::mem::take(&mut it.buf));
        if !it.lean {
            self.site.give_core(core);
        }
    }
}

enum Ran {
    Answered,
    Dead,
    Panicked,
    Late,
}

const TRUNCATED: Refusal = Refusal { status: 400, reason: "the head ended early" };
const LATE: Refusal = Refusal { status: 408, reason: "the head took too long" };
