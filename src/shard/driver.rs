//! The driver: the one task of an executor that turns its shard.
//!
//! A turn is one `io_uring_enter`: it submits what is queued, and waits if nothing is ready. Then
//! each completion advances its connection, ready tasks are polled inline, and what they wrote is
//! queued for the next enter. A handler that ends on its first poll is answered in the turn that
//! received it.
//!
//! While awake, a tick of 5 ms is the shard's clock: on it the wheel advances, and once a second
//! glommio gets a turn. A tick without any other completion parks the shard: then glommio has the
//! thread, and the ring's eventfd gets it back.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::Local;
use super::drain::Drain;
use super::guest::Guest;
use super::inbox::Inbox;
use super::park::Park;
use super::table::{Conn, Listener, Phase, Recv, Scratch};
use super::tasks::Polled;
use crate::base::counters::Count;
use crate::base::wire::Close;
use crate::limits::{
    ACCEPT_PAUSE_MS, BULK_RECEIVES_MAX, GLOMMIO_MS_MAX, INBOX_BYTES_MAX, LINGER_MS_MAX,
    OUTBOX_BYTES_MAX, PARK_MS_MAX, RECV_BUFFER_BYTES, TICK_MS,
};
use crate::ring::{Event, Ring, SendStep, Timer, Token, socket};

/// Turns one shard until it has stopped.
pub(crate) struct Driver<G> {
    pub(super) guest: G,
    pub(super) local: Rc<Local>,
    inbox: &'static Inbox,
    pub(super) ring: Ring,
    pub(super) listeners: Vec<Listener>,
    pub(super) conns: Slab<Conn>,
    /// Of those, how many are the shard's own.
    pub(super) own: usize,
    generation: u32,
    /// Closing connections that wait for their peer's FIN, soonest first.
    lingering: VecDeque<(Token, u64)>,
    /// Receives that ended for want of buffers: armed again when the turn's are back.
    starved: Vec<Token>,
    /// Kept for their memory.
    scratch: Scratch,
    park: Park,
    spare: Option<OwnedFd>,
    /// When the tick that is set will fire; none while there is none.
    tick_ms: Option<u64>,
    /// When the earliest extra deadline that is set will fire.
    deadline_ms: Option<u64>,
    ticked: bool,
    /// Completions since the last tick, the clockwork's own not counted.
    busy: u64,
    /// Something goes on with the end of a send that has no completion: the next enter must not
    /// wait.
    hurry: bool,
    swept_ms: u64,
    /// When glommio is to have its next turn.
    glommio_ms: u64,
    pub(super) drain: Option<Drain>,
}

impl<G: Guest> Driver<G> {
    pub(crate) fn new(guest: G, local: Rc<Local>, inbox: &'static Inbox) -> io::Result<Driver<G>> {
        Ok(Driver {
            guest,
            local,
            inbox,
            ring: Ring::new()?,
            listeners: Vec::new(),
            conns: Slab::new(),
            own: 0,
            generation: 0,
            lingering: VecDeque::new(),
            starved: Vec::new(),
            scratch: Scratch::default(),
            park: Park::new()?,
            spare: socket::spare().ok(),
            tick_ms: None,
            deadline_ms: None,
            ticked: false,
            busy: 0,
            hurry: false,
            swept_ms: 0,
            glommio_ms: 0,
            drain: None,
        })
    }

    /// Serves until the guest says that it is over and every connection has ended.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        self.ring.poll(self.inbox.bell());
        self.inbox.notify(); // look at everything once
        self.set_tick();
        #[cfg(feature = "postgres-lane")]
        self.local.outbound.set_driver(true);
        let ended = self.turns().await;
        #[cfg(feature = "postgres-lane")]
        self.local.outbound.set_driver(false);
        self.cut_off();
        ended
    }

    async fn turns(&mut self) -> io::Result<()> {
        loop {
            let more = self.take_mail();
            self.run_ready();
            if self.local.watch.is_wanted() {
                self.run_ready(); // those whom tokio has woken: not after another enter
            }
            self.service_marked();
            if self.is_over() {
                return Ok(());
            }
            if let Some(fd) = self.local.watch.take_wanted() {
                self.ring.watch(fd);
            }
            #[cfg(feature = "files")]
            self.ask();
            #[cfg(feature = "postgres-lane")]
            self.adopt();
            let idle = !more && !mem::take(&mut self.hurry) && self.local.tasks.ready_len() == 0;
            let wait = idle && self.inbox.fall_asleep();
            if wait {
                self.set_deadline();
            }
            self.local.end_turn();
            self.ring.enter(wait)?;
            self.inbox.wake_up();
            self.local.counters.add(Count::Turns, 1);
            self.local.clock.refresh();
            self.complete();
            self.local.advance_wheel();
            if mem::take(&mut self.ticked) {
                self.housekeep();
                if mem::take(&mut self.busy) == 0 && self.local.tasks.ready_len() == 0 {
                    self.park().await?;
                    self.glommio_ms = self.local.clock.now_ms() + GLOMMIO_MS_MAX;
                } else if self.glommio_ms <= self.local.clock.now_ms() {
                    self.glommio_ms = self.local.clock.now_ms() + GLOMMIO_MS_MAX;
                    self.park.turn_glommio().await;
                }
                self.local.clock.refresh();
                self.local.advance_wheel();
                self.set_tick();
            }
        }
    }

    /// Takes every completion that is there. False if there was none, nor a send without one.
    pub(super) fn complete(&mut self) -> bool {
        let (mut count, mut buffers) = (0, 0);
        while let Some(event) = self.ring.next_event() {
            count += 1;
            match event {
                Event::Received { token, result, buffer, last } => {
                    self.busy += 1;
                    buffers += u64::from(buffer.is_some());
                    match (result, buffer) {
                        (Ok(len), Some(buffer)) => {
                            self.received(token, len, &buffer);
                            self.ring.recycle(buffer);
                        }
                        (Ok(_), None) => self.finished(token),
                        (Err(error), buffer) => {
                            if let Some(buffer) = buffer {
                                self.ring.recycle(buffer);
                            }
                            self.receive_failed(token, error);
                        }
                    }
                    if last && !self.is_starved(token) {
                        self.receive_ended(token);
                    }
                }
                Event::ReceivedBulk { token, result } => {
                    self.busy += 1;
                    match result {
                        Ok(bytes) if bytes.is_empty() => self.finished(token),
                        Ok(bytes) => self.received_bulk(token, bytes),
                        Err(error) => self.receive_failed(token, error),
                    }
                    self.receive_ended(token);
                }
                Event::Sent { send, result } => {
                    self.busy += 1;
                    self.sent(send, result);
                }
                Event::Accepted { token, result, last } => {
                    self.busy += 1;
                    self.accepted(token.slot as usize, result, last);
                }
                Event::Readable { last } => {
                    self.busy += 1;
                    self.inbox.hush();
                    if last {
                        self.ring.poll(self.inbox.bell());
                    }
                }
                Event::Watched { ok } => {
                    self.busy += 1;
                    self.local.watch.fire(ok);
                }
                #[cfg(feature = "files")]
                Event::Operated { slot, result } => {
                    self.busy += 1;
                    if let Some((id, op)) = self.ring.end_operation(slot) {
                        self.local.operations.done(id, result, op);
                    }
                }
                Event::Timer(Timer::Tick) => {
                    self.tick_ms = None;
                    self.ticked = true;
                }
                Event::Timer(Timer::Deadline) => self.deadline_ms = None,
                Event::Done => {}
            }
        }
        let settled = self.take_settled();
        if count == 0 {
            return settled;
        }
        self.local.counters.add(Count::Completions, count);
        self.local.counters.raise(Count::BuffersOut, buffers);
        self.ring.publish_buffers();
        while let Some(token) = self.starved.pop() {
            if let Some(conn) = self.conns.get_mut(token.slot as usize)
                && conn.generation == token.generation
                && conn.recv == Recv::Starved
            {
                self.receive_ended(token);
            }
        }
        true
    }

    /// Sends that went out with their submission, without a completion of their own.
    fn take_settled(&mut self) -> bool {
        let mut issued = mem::take(&mut self.scratch.issued);
        self.ring.take_issued(&mut issued);
        let any = !issued.is_empty();
        for it in issued.drain(..) {
            if let Some((send, bytes)) = self.ring.settled(it) {
                self.busy += 1;
                self.sent(send, Ok(bytes));
            }
        }
        self.scratch.issued = issued;
        any
    }

    /// Polls what is ready now; what becomes ready meanwhile has the next turn.
    fn run_ready(&mut self) {
        for _ in 0..self.local.tasks.ready_len() {
            let Some(key) = self.local.tasks.next_ready() else { return };
            if self.local.tasks.poll(key) == Polled::Panicked {
                self.local.counters.add(Count::Panics, 1);
                tracing::error!(shard = self.local.id, "a task panicked");
            }
        }
    }

    /// Hands what tasks ask for to the ring.
    #[cfg(feature = "files")]
    fn ask(&mut self) {
        while let Some((id, op)) = self.local.operations.next_wanted() {
            self.ring.operate(id, op);
        }
        while let Some(id) = self.local.operations.next_cancelled() {
            self.ring.cancel_operation(id);
        }
    }

    /// Looks after the connections that have something for the ring to do.
    fn service_marked(&mut self) {
        let mut slots = mem::take(&mut self.scratch.slots);
        self.local.dirty.take_into(&mut slots);
        for slot in slots.drain(..) {
            self.service(slot);
        }
        self.scratch.slots = slots;
    }

    fn service(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.wire.unmark();
        if conn.phase != Phase::Open {
            return;
        }
        let token = Token { slot, generation: conn.generation };
        let wire = &conn.wire;
        // The peer has said that nothing follows, and nothing did.
        let last = wire.closing() == Close::Last && wire.unread() == 0 && !wire.is_dead();
        let full = wire.unread() >= INBOX_BYTES_MAX;
        match conn.recv {
            Recv::Off if !full && !wire.is_eof() && !wire.is_dead() => {
                conn.recv = Recv::Armed;
                if !conn.bulk {
                    self.ring.receive(conn.fd, token);
                } else if self.ring.bulk_len() < BULK_RECEIVES_MAX {
                    let buffer = self.local.spares.take_large();
                    self.ring.receive_bulk(conn.fd, token, buffer);
                } else {
                    self.ring.receive_once(conn.fd, token);
                }
            }
            Recv::Armed if full => {
                conn.bulk = true;
                conn.recv = Recv::Cancelling;
                self.ring.cancel_receive(token);
            }
            _ => {}
        }
        if conn.send.is_none()
            && !wire.is_dead()
            && let Some(bytes) = wire.take_outbox()
        {
            let now_ms = self.local.clock.now_ms();
            if last && bytes.len() <= OUTBOX_BYTES_MAX && !wire.has_output() {
                conn.send = Some(self.ring.send_last(conn.fd, token, bytes, now_ms));
                return self.leave(slot);
            }
            conn.send = Some(self.ring.send(conn.fd, token, bytes, now_ms));
        }
        if let Some(send) = conn.send
            && wire.is_followed()
            && self.ring.is_silent(send)
        {
            self.hurry = true;
        }
        match wire.closing() {
            Close::Open => {}
            Close::Abort => self.abort(slot),
            Close::Last | Close::Staged if wire.is_dead() => self.abort(slot),
            Close::Last | Close::Staged if conn.send.is_some() || wire.has_output() => {}
            Close::Last | Close::Staged if last || wire.is_eof() => self.leave(slot),
            Close::Last | Close::Staged => {
                // RFC 9112 section 9.6: FIN first, then read on until the peer's, so that an
                // early answer is not lost to a RST.
                conn.phase = Phase::Lingering;
                let until_ms = self.local.clock.now_ms() + LINGER_MS_MAX;
                socket::shut_write(conn.fd);
                if conn.recv == Recv::Off {
                    conn.recv = Recv::Armed;
                    self.ring.receive(conn.fd, token);
                }
                self.lingering.push_back((token, until_ms));
            }
        }
    }

    fn received(&mut self, token: Token, len: usize, buffer: &crate::ring::BufferId) {
        let Some(conn) = self.conns.get_mut(token.slot as usize) else { return };
        if conn.generation != token.generation {
            return;
        }
        match conn.phase {
            Phase::Open if conn.wire.closing() == Close::Open => {
                if !conn.is_own {
                    self.local.counters.add(Count::BytesIn, len as u64);
                }
                conn.bulk = conn.bulk && len == RECV_BUFFER_BYTES;
                conn.wire.push(self.ring.bytes(buffer, len));
                if conn.wire.unread() >= INBOX_BYTES_MAX {
                    self.service(token.slot);
                }
            }
            Phase::Open | Phase::Lingering | Phase::Closing => {}
        }
    }

    /// Bytes in a buffer of their own, which becomes the connection's.
    fn received_bulk(&mut self, token: Token, bytes: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(token.slot as usize) else { return };
        if conn.generation == token.generation
            && conn.phase == Phase::Open
            && conn.wire.closing() == Close::Open
        {
            if !conn.is_own {
                self.local.counters.add(Count::BytesIn, bytes.len() as u64);
            }
            conn.bulk = bytes.len() >= RECV_BUFFER_BYTES;
            conn.wire.push_owned(bytes);
        }
    }

    /// The peer's FIN.
    fn finished(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token.slot as usize) else { return };
        if conn.generation != token.generation {
            return;
        }
        match conn.phase {
            Phase::Open => {
                conn.wire.push_eof();
                if conn.wire.closing() != Close::Open {
                    self.service(token.slot);
                }
            }
            Phase::Lingering => self.close(token.slot),
            Phase::Closing => {}
        }
    }

    fn receive_failed(&mut self, token: Token, error: i32) {
        let Some(conn) = self.conns.get_mut(token.slot as usize) else { return };
        if conn.generation != token.generation {
            return;
        }
        match error {
            libc::ENOBUFS => {
                self.local.counters.add(Count::BuffersShort, 1);
                conn.recv = Recv::Starved;
                self.starved.push(token);
            }
            libc::ECANCELED => {}
            _ => self.broken(token.slot),
        }
    }

    fn is_starved(&self, token: Token) -> bool {
        let conn = self.conns.get(token.slot as usize);
        conn.is_some_and(|it| it.generation == token.generation && it.recv == Recv::Starved)
    }

    fn receive_ended(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token.slot as usize) else { return };
        if conn.generation != token.generation {
            return;
        }
        conn.recv = Recv::Off;
        match conn.phase {
            Phase::Open => self.service(token.slot),
            Phase::Lingering => {
                // Ended for want of buffers, or by the pause: the FIN is still awaited.
                if !conn.wire.is_eof() {
                    conn.recv = Recv::Armed;
                    self.ring.receive(conn.fd, token);
                }
            }
            Phase::Closing => self.free(token.slot),
        }
    }

    fn sent(&mut self, send: u32, result: Result<usize, i32>) {
        let now_ms = self.local.clock.now_ms();
        let Some(step) = self.ring.step_send(send, result, now_ms) else { return };
        let (token, bytes) = match &step {
            SendStep::More { token, bytes } | SendStep::Whole { token, bytes, .. } => {
                (*token, *bytes)
            }
            SendStep::Broken { token, .. } => (*token, 0),
        };
        let conn = self.conns.get_mut(token.slot as usize);
        if !conn.as_ref().is_some_and(|it| it.is_own) {
            self.local.counters.add(Count::BytesOut, bytes as u64);
        }
        let Some(conn) = conn else { return };
        match step {
            SendStep::More { .. } => conn.wire.sent(bytes),
            SendStep::Whole { buffer, .. } => {
                self.local.spares.give_piece(buffer);
                conn.send = None;
                conn.wire.sent(bytes);
                if conn.phase == Phase::Closing {
                    self.free(token.slot);
                } else if conn.wire.has_output() || conn.wire.closing() != Close::Open {
                    self.service(token.slot);
                }
            }
            SendStep::Broken { buffer, .. } => {
                self.local.spares.give_piece(buffer);
                conn.send = None;
                if conn.phase == Phase::Closing {
                    self.free(token.slot);
                } else {
                    self.broken(token.slot);
                }
            }
        }
    }

    fn accepted(&mut self, at: usize, result: Result<i32, i32>, last: bool) {
        let Some(listener) = self.listeners.get_mut(at) else { return };
        if last {
            listener.armed = false;
        }
        match result {
            Ok(fd) => self.connect(fd),
            Err(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.local.counters.add(Count::RefusedFull, 1);
                listener.resume_ms = self.local.clock.now_ms() + ACCEPT_PAUSE_MS;
                if let Some(socket) = &listener.socket {
                    socket::refuse_one(socket, &mut self.spare, &self.guest.refusal());
                }
            }
            Err(_) => {}
        }
        if self.drain.is_some() {
            self.drain_listeners();
        } else if last {
            self.arm_listeners();
        }
    }

    /// The connection is of no use any more: its task hears of it at its next poll.
    fn broken(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if !conn.wire.is_dead() {
            if !conn.is_own {
                self.local.counters.add(Count::Reset, 1);
            }
            conn.wire.kill();
            self.local.tasks.wake(conn.task);
        }
        if conn.phase != Phase::Open || conn.wire.closing() != Close::Open {
            self.abort(slot);
        }
    }

    /// Ends a connection without ceremony: RST.
    pub(super) fn abort(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get(slot as usize)
            && conn.phase != Phase::Closing
        {
            socket::reset_on_close(conn.fd);
        }
        self.close(slot);
    }

    /// Ends a connection of which every byte has been read: FIN, behind what is being sent.
    fn leave(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.phase = Phase::Closing;
        // The operations hold the socket: it ends with the last of them.
        if conn.recv == Recv::Armed {
            conn.recv = Recv::Cancelling;
            self.ring.cancel_receive(Token { slot, generation: conn.generation });
        }
        self.ring.close(conn.take_fd());
        self.free(slot);
    }

    pub(super) fn close(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.phase == Phase::Closing {
            return;
        }
        conn.phase = Phase::Closing;
        let token = Token { slot, generation: conn.generation };
        if conn.recv != Recv::Off || conn.send.is_some() {
            // close() with an armed receive sends no FIN: end both first.
            socket::shut_both(conn.fd);
            if conn.recv == Recv::Armed {
                conn.recv = Recv::Cancelling;
                self.ring.cancel_receive(token);
            }
            if let Some(send) = conn.send {
                self.ring.cancel_send(send);
            }
        }
        self.free(slot);
    }

    /// Frees the slot of a closing connection once nothing in the kernel refers to it.
    fn free(&mut self, slot: u32) {
        let Some(conn) = self.conns.get(slot as usize) else { return };
        if conn.recv == Recv::Off && conn.send.is_none() {
            let mut conn = self.conns.remove(slot as usize);
            if conn.fd >= 0 {
                self.ring.close(conn.take_fd());
            }
            if conn.is_own {
                self.own -= 1;
            } else {
                self.local.counters.sub(Count::Open);
            }
            self.local.tasks.abort(conn.task);
        }
    }

    fn take_mail(&mut self) -> bool {
        if !self.inbox.take_mail() {
            return false;
        }
        let mut wakes = mem::take(&mut self.scratch.wakes);
        let overflow = self.inbox.take_wakes(&mut wakes);
        self.local.counters.add(Count::ForeignWakes, wakes.len() as u64);
        for key in wakes.drain(..) {
            self.local.tasks.wake(key);
        }
        self.scratch.wakes = wakes;
        if overflow {
            self.local.tasks.wake_all();
        }
        let more = self.guest.mail();
        if more {
            self.inbox.notify();
        }
        let fresh = self.guest.listeners();
        if !fresh.is_empty() {
            let listener = |socket| Listener { socket: Some(socket), armed: false, resume_ms: 0 };
            let from = self.listeners.len();
            self.listeners.extend(fresh.into_iter().map(listener));
            if self.drain.is_some() {
                self.close_gates(from);
            }
            self.arm_listeners();
        }
        self.follow_state();
        more
    }

    fn set_tick(&mut self) {
        if self.tick_ms.is_none() {
            self.tick_ms = Some(self.local.clock.now_ms() + TICK_MS);
            self.ring.set_timer(Timer::Tick, Duration::from_millis(TICK_MS));
        }
    }

    /// A timer of the wheel that is due before the next tick gets a timer of the ring.
    fn set_deadline(&mut self) {
        let Some(due_ms) = self.local.wheel.borrow().next_ms() else { return };
        let sooner = |set: Option<u64>| set.is_some_and(|set_ms| set_ms <= due_ms);
        if sooner(self.tick_ms) || sooner(self.deadline_ms) {
            return;
        }
        // A later one that is set already just fires for nothing.
        self.deadline_ms = Some(due_ms);
        let wait_ns = (due_ms * 1_000_000).saturating_sub(self.local.clock.now_ns()).max(1);
        self.ring.set_timer(Timer::Deadline, Duration::from_nanos(wait_ns));
    }

    /// Leaves the thread to glommio until something comes for this shard.
    async fn park(&mut self) -> io::Result<()> {
        self.ring.attach_eventfd(self.park.eventfd())?;
        self.set_deadline();
        // Leftover task work (a kernel runs a bounded number of completions an enter) would
        // sleep on: enter until nothing comes.
        let quiet = self.settle()?;
        if quiet && self.inbox.fall_asleep() {
            self.local.counters.add(Count::Parks, 1);
            let busy =
                self.local.counters.get(Count::Active) > 0 || self.local.blocking.in_flight() > 0;
            let longest_ms = if busy { TICK_MS } else { PARK_MS_MAX };
            self.park.wait(Duration::from_millis(longest_ms)).await;
            self.inbox.wake_up();
        }
        self.ring.detach_eventfd()
    }

    /// Enters until no completion is left. False if there were any: they are taken.
    fn settle(&mut self) -> io::Result<bool> {
        let mut quiet = true;
        loop {
            self.ring.enter(false)?;
            if !self.complete() {
                break;
            }
            quiet = quiet && self.local.tasks.ready_len() == 0;
        }
        Ok(quiet && self.local.tasks.ready_len() == 0)
    }
}

mod fresh;
#[cfg(test)]
mod tests;
mod upkeep;
