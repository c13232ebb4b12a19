//! What turns a shard in memory: its tasks, its clock, its connections.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
#[cfg(feature = "db")]
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::answer::Answer;
use crate::app::conn;
use crate::app::site::Site;
use crate::base::clock::Clock;
use crate::base::counters::Count;
use crate::base::wire::{Close, Wire};
use crate::limits::Limits;
use crate::shard::affinity::original_mask;
use crate::shard::blocking::Blocking;
use crate::shard::inbox::Seat;
use crate::shard::waker::TaskKey;
use crate::shard::{Local, Place};

/// A shard without a ring: its tasks, turned by `block_on`.
pub(super) struct Rig {
    pub(super) local: Rc<Local>,
    seat: Seat,
    pub(super) site: Option<Rc<Site>>,
    pub(super) peer: Cell<Option<SocketAddr>>,
    /// Somebody waits until nothing can run.
    settling: Cell<bool>,
    /// Kept for its memory.
    marked: RefCell<Vec<u32>>,
}

impl Rig {
    /// A rig with a clock that stands still, and no application yet.
    pub(super) fn new(limits: Limits) -> Rig {
        let seat = Seat::take().expect("a seat for the test's shard");
        let mask = original_mask().expect("the thread's affinity");
        let blocking = Blocking::new(2, 16, mask);
        let place = Place { id: 0, count: 1, core: None, seat: seat.number() };
        seat.inbox().clear();
        Rig {
            local: Rc::new(Local::new(place, limits, Clock::frozen(), blocking)),
            seat,
            site: None,
            peer: Cell::new(None),
            settling: Cell::new(false),
            marked: RefCell::default(),
        }
    }

    pub(super) fn connect(&self) -> Rc<Wire> {
        self.connect_task().0
    }

    /// The same, with the task that serves it.
    pub(super) fn connect_task(&self) -> (Rc<Wire>, TaskKey) {
        let local = &self.local;
        let wire = Rc::new(Wire::new(0, -1, local.dirty.clone(), local.spares.clone()));
        if let Some(addr) = self.peer.get() {
            wire.pretend_peer(addr);
        }
        let site = self.site.clone().expect("a built application");
        let task = local.tasks.spawn(Box::pin(conn::serve(site, wire.clone())));
        (wire, task)
    }

    /// Breaks a connection as the driver does, and runs what can run: its task hears of it
    /// whatever it waits for.
    pub(super) fn reset(&self, wire: &Wire, task: TaskKey) {
        if !wire.is_dead() {
            self.local.counters.add(Count::Reset, 1);
            wire.kill();
            self.local.tasks.wake(task);
        }
        while self.pump() {}
    }

    /// Runs what can run. False if nothing could.
    pub(super) fn pump(&self) -> bool {
        let inbox = self.seat.inbox();
        let mut ran = false;
        if inbox.take_mail() {
            let mut wakes = Vec::new();
            if inbox.take_wakes(&mut wakes) {
                self.local.tasks.wake_all();
            }
            wakes.into_iter().for_each(|key| self.local.tasks.wake(key));
        }
        while let Some(key) = self.local.tasks.next_ready() {
            ran = true;
            self.local.tasks.poll(key);
        }
        #[cfg(feature = "files")]
        while let Some((id, mut op)) = self.local.operations.next_wanted() {
            ran = true;
            let result = op.perform();
            self.local.operations.done(id, result, op);
        }
        self.local.end_turn();
        self.marked.borrow_mut().clear();
        self.local.dirty.take_into(&mut self.marked.borrow_mut());
        ran
    }

    /// Waits until nothing can run any more, without letting time go on.
    pub(super) async fn settle(&self) {
        self.settling.set(true);
        poll_fn(|_| if self.settling.get() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// Whether another thread works for this shard.
    fn is_abroad(&self) -> bool {
        #[cfg(feature = "db")]
        return self.local.abroad.load(Ordering::SeqCst) > 0;
        #[cfg(not(feature = "db"))]
        false
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            // Read first: who ends in between has left its mail before `pump` looks.
            let is_worked_for = self.local.blocking.in_flight() > 0 || self.is_abroad();
            if self.pump() || self.settling.replace(false) {
                continue;
            }
            if is_worked_for {
                std::thread::yield_now();
                continue;
            }
            let next_ms = self.local.wheel.borrow().next_ms();
            let next_ms = next_ms.expect("the test waits, but nothing can run and no timer is set");
            self.local.clock.advance_to(next_ms);
            self.local.advance_wheel();
        }
    }
}

/// Collects what the server writes until it closes.
pub(super) async fn until_closed(wire: &Wire, out: &mut Vec<u8>) {
    poll_fn(|_| {
        collect(wire, out);
        if wire.closing() == Close::Open { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    collect(wire, out);
}

/// The head of the answer to `asked`, and what has come behind it.
pub(super) async fn begin(wire: &Wire, asked: &str) -> (Answer, Vec<u8>) {
    let mut raw = Vec::new();
    let (answer, len) = poll_fn(|_| {
        collect(wire, &mut raw);
        let closed = wire.closing() != Close::Open;
        match Answer::begin(&raw) {
            Some(begun) => Poll::Ready(begun),
            None if closed => panic!("no answer to\n{asked}"),
            None => Poll::Pending,
        }
    })
    .await;
    raw.drain(..len);
    (answer, raw)
}

pub(super) fn collect(wire: &Wire, out: &mut Vec<u8>) {
    wire.unmark();
    while let Some(bytes) = wire.take_outbox() {
        out.extend_from_slice(bytes.bytes()); // files are copied: none here is of a file
        wire.sent(bytes.len());
        wire.give_back(bytes);
    }
}
