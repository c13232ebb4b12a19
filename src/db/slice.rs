//! A shard's slice of a pool: its connections, those who wait for one, and how the two meet.
//!
//! A query takes the connection that was used last, under a lock that nobody else wants, and gives
//! it back when it has ended well. Whatever else there is to do, the keeper does: a task of the
//! shard that is rung.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Instant;

use sqlx::Connection;
use tokio::sync::OwnedSemaphorePermit;

use super::backend::Backend;
use super::counting::{Closed, Counting};
use super::fault::PoolError;
use super::handle::DbPool;
use super::live::{DbConnection, Live};
use super::server::Server;
use super::watch::{Bell, Watch, lock};
use crate::limits::{DB_CONNECTS_MAX, DB_PROOF_MS_MAX};
#[cfg(feature = "postgres-lane")]
use crate::shard::Shard;

pub(super) struct Slice<B: Backend> {
    pub(super) shard: usize,
    pub(super) server: Arc<Server<B>>,
    pub(super) bell: Arc<Bell>,
    /// Work of the shard that others do.
    pub(super) abroad: Arc<AtomicUsize>,
    /// The shard's clock, as of the keeper's last turn.
    now_ms: AtomicU64,
    state: Mutex<State<B>>,
    counting: Mutex<Counting>,
    /// For who wants a pool of sqlx for a transaction.
    pub(super) stock: Mutex<Option<DbPool<B>>>,
    /// Somewhere a lease is wanted: those who return one look whether it is theirs.
    pub(super) gives: AtomicBool,
}

pub(super) struct State<B: Backend> {
    /// The one that was used last is the last.
    pub(super) idle: Vec<Live<B>>,
    /// The fewest that were idle at once since the keeper last looked.
    pub(super) idle_low: usize,
    pub(super) waiters: VecDeque<Arc<Waiter<B>>>,
    /// Held by somebody, or on their way back.
    pub(super) in_use: usize,
    pub(super) connecting: usize,
    /// The most that were in use at once in this window.
    pub(super) in_use_max: usize,
    /// Watches over queries and tests, which end when their time is over.
    pub(super) watches: Vec<Arc<Watch>>,
    /// What the keeper is to do with connections that came back.
    pub(super) errands: Vec<Errand<B>>,
    /// What it is to do with the shard, which others do not have.
    #[cfg(feature = "postgres-lane")]
    pub(super) calls: Vec<Call>,
    /// Nobody can connect, for this reason, and until when.
    pub(super) away: Option<PoolError>,
    pub(super) is_closed: bool,
}

pub(super) enum Errand<B: Backend> {
    /// With whether its session may have changed.
    Prove(Live<B>, Option<OwnedSemaphorePermit>, bool),
    Stop(Live<B>, Option<OwnedSemaphorePermit>),
    Close(Live<B>, Closed),
}

#[cfg(feature = "postgres-lane")]
type Call = Box<dyn FnOnce(&Shard) + Send>;

/// One that waits for a connection.
pub(super) struct Waiter<B: Backend> {
    slot: Mutex<Slot<B>>,
    /// In ms of the keeper's clock, and one more; 0 until the keeper has seen it.
    pub(super) since: AtomicU64,
}

enum Slot<B: Backend> {
    Waiting(Waker),
    Given(Live<B>),
    Failed(PoolError),
    Left,
}

impl<B: Backend> Slice<B> {
    pub(super) fn new(shard: usize, server: Arc<Server<B>>, abroad: Arc<AtomicUsize>) -> Slice<B> {
        Slice {
            shard,
            server,
            bell: Arc::default(),
            abroad,
            now_ms: AtomicU64::new(0),
            state: Mutex::new(State {
                idle: Vec::new(),
                idle_low: 0,
                waiters: VecDeque::new(),
                in_use: 0,
                connecting: 0,
                in_use_max: 0,
                watches: Vec::new(),
                errands: Vec::new(),
                #[cfg(feature = "postgres-lane")]
                calls: Vec::new(),
                away: None,
                is_closed: false,
            }),
            counting: Mutex::new(Counting::new()),
            stock: Mutex::new(None),
            gives: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<B>> {
        lock(&self.state)
    }

    pub(super) fn counting(&self) -> MutexGuard<'_, Counting> {
        lock(&self.counting)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_now_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether nobody can connect, as far as anybody has tried.
    pub(super) fn is_away(&self) -> bool {
        self.state().away.is_some()
    }

    /// What ended one connection may have ended all: each is tested before it is used.
    pub(super) fn suspect_idle(&self) {
        self.state().idle.iter_mut().for_each(|it| it.is_suspect = true);
    }

    pub(super) fn too_slow(&self) -> PoolError {
        PoolError::TooSlow { ms: self.server.options.query_max.as_millis() as u64 }
    }

    /// A connection that is ready for a query, once there is one.
    pub(super) async fn checkout(self: &Arc<Self>) -> Result<DbConnection<B>, sqlx::Error> {
        loop {
            let live = match self.take_idle() {
                Some(live) => live,
                None => self.wait().await?,
            };
            let idle_ms = self.now_ms().saturating_sub(live.idle_since_ms);
            let is_suspect = live.is_suspect;
            let mut conn = DbConnection::new(live, self);
            if !is_suspect && idle_ms < self.server.options.test_idle.as_millis() as u64 {
                return Ok(conn);
            }
            if self.passes_test(&mut conn).await {
                return Ok(conn);
            }
            conn.break_for(Closed::Test);
        }
    }

    /// The turn of who writes, where one does at a time; to be had before a connection, so that
    /// those who wait for it hold none.
    pub(super) async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, sqlx::Error> {
        let Some(turns) = &self.server.turns else { return Ok(None) };
        if let Ok(turn) = turns.clone().try_acquire_owned() {
            return Ok(Some(turn));
        }
        let watch = self.watch();
        watch.start(self.server.options.acquire_max.as_millis() as u64);
        self.bell.ring();
        let start = Instant::now();
        let turn = watch.within(turns.clone().acquire_owned()).await;
        watch.stop();
        self.counting().wait(start.elapsed().as_nanos() as u64);
        match turn {
            Some(turn) => Ok(turn.ok()),
            None => {
                self.counting().acquire_timeouts += 1;
                Err(self.timed_out().into())
            }
        }
    }

    pub(super) fn timed_out(&self) -> PoolError {
        let state = self.state();
        PoolError::TimedOut {
            ms: self.server.options.acquire_max.as_millis() as u64,
            open: state.in_use,
            waiters: state.waiters.len(),
        }
    }

    /// A watch that the keeper looks at while somebody holds it.
    pub(super) fn watch(&self) -> Arc<Watch> {
        let watch = Arc::<Watch>::default();
        self.state().watches.push(watch.clone());
        watch
    }

    fn take_idle(&self) -> Option<Live<B>> {
        let mut state = self.state();
        if !state.waiters.is_empty() {
            return None; // they were first
        }
        let live = state.idle.pop()?;
        state.idle_low = state.idle_low.min(state.idle.len());
        state.in_use += 1;
        state.in_use_max = state.in_use_max.max(state.in_use);
        Some(live)
    }

    async fn wait(self: &Arc<Self>) -> Result<Live<B>, PoolError> {
        let waiter = Arc::new(Waiter {
            slot: Mutex::new(Slot::Waiting(Waker::noop().clone())),
            since: AtomicU64::new(0),
        });
        let is_one_of_few = {
            let mut state = self.state();
            if state.is_closed {
                return Err(PoolError::Closed);
            }
            // Who waits is not first now, if one came back meanwhile.
            if state.waiters.is_empty()
                && let Some(live) = state.idle.pop()
            {
                state.in_use += 1;
                return Ok(live);
            }
            if let (0, 0, Some(why)) = (state.in_use, state.idle.len(), &state.away) {
                return Err(why.clone());
            }
            let waiters_max = self.server.options.waiters_max;
            if state.waiters.len() >= waiters_max {
                drop(state);
                self.counting().refused += 1;
                return Err(PoolError::Full { waiters_max });
            }
            state.waiters.push_back(waiter.clone());
            state.waiters.len() <= DB_CONNECTS_MAX
        };
        if is_one_of_few {
            self.bell.ring(); // else as many connections are made at once as may be
        }
        let start = Instant::now();
        let place = Place { slice: self, waiter: &waiter };
        let live = poll_fn(|cx| waiter.poll(cx.waker())).await;
        drop(place);
        self.counting().wait(start.elapsed().as_nanos() as u64);
        live
    }

    async fn passes_test(&self, conn: &mut DbConnection<B>) -> bool {
        let Ok((sqlx, watch)) = conn.start_query() else { return false };
        watch.start(DB_PROOF_MS_MAX);
        self.bell.ring();
        let passed = watch.within(sqlx.ping()).await;
        matches!(passed, Some(Ok(())))
    }

    /// A connection that is ready for another query: to who waits for one, or to the others.
    pub(super) fn give_back(&self, mut live: Live<B>) {
        let now_ms = self.now_ms();
        if live.generation != self.server.generation() {
            return self.close(live, Closed::Replaced);
        }
        if now_ms >= live.expires_ms {
            return self.close(live, Closed::Life);
        }
        if self.gives.load(Ordering::Relaxed)
            && self.server.budget.is_unfair(self.shard)
            && self.gives.swap(false, Ordering::Relaxed)
        {
            return self.close(live, Closed::Moved);
        }
        (live.idle_since_ms, live.is_suspect) = (now_ms, false);
        let mut state = self.state();
        if state.is_closed {
            state.in_use -= 1;
            drop(state);
            drop(live);
            return self.server.budget.give_back(self.shard);
        }
        while let Some(waiter) = state.waiters.pop_front() {
            match waiter.give(live) {
                None => return, // it goes on being in use
                Some(back) => live = back,
            }
        }
        state.in_use -= 1;
        state.idle.push(live);
    }

    pub(super) fn prove(&self, live: Live<B>, turn: Option<OwnedSemaphorePermit>, changed: bool) {
        self.send_for(Errand::Prove(live, turn, changed));
    }

    pub(super) fn stop(&self, live: Live<B>, turn: Option<OwnedSemaphorePermit>) {
        self.send_for(Errand::Stop(live, turn));
    }

    pub(super) fn close(&self, live: Live<B>, why: Closed) {
        if matches!(why, Closed::Error | Closed::Test) {
            self.suspect_idle(); // before the next query takes one
        }
        self.send_for(Errand::Close(live, why));
    }

    /// Has something done on the shard; dropped undone when that has ended.
    #[cfg(feature = "postgres-lane")]
    pub(super) fn call(&self, call: impl FnOnce(&Shard) + Send + 'static) {
        let mut state = self.state();
        if !state.is_closed {
            state.calls.push(Box::new(call));
            drop(state);
            self.bell.ring();
        }
    }

    /// Dropped outside of the lock: what drops may have a drop of its own.
    fn send_for(&self, errand: Errand<B>) {
        let mut state = self.state();
        if state.is_closed {
            state.in_use -= 1;
            drop(state);
            drop(errand);
            self.server.budget.give_back(self.shard);
            return;
        }
        state.errands.push(errand);
        drop(state);
        self.bell.ring();
    }

    /// Fails those who wait, all of them or those for whom it is time.
    pub(super) fn fail_waiters(&self, why: &PoolError, until_ms: Option<u64>) -> usize {
        let mut state = self.state();
        let mut failed = Vec::new();
        state.waiters.retain(|waiter| {
            let since = waiter.since.load(Ordering::Relaxed);
            let is_due = until_ms.is_none_or(|until_ms| since > 0 && since - 1 <= until_ms);
            is_due.then(|| failed.push(waiter.clone()));
            !is_due
        });
        drop(state);
        failed.iter().for_each(|it| it.fail(why));
        failed.len()
    }

    /// The shard has ended, or nobody has the database any more.
    pub(super) fn shut(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let idle = std::mem::take(&mut state.idle);
        let errands = std::mem::take(&mut state.errands);
        let gone = idle.len() + errands.len();
        state.in_use -= errands.len();
        #[cfg(feature = "postgres-lane")]
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        #[cfg(feature = "postgres-lane")]
        drop(calls);
        drop((idle, errands));
        self.fail_waiters(&PoolError::Closed, None);
        (0..gone).for_each(|_| self.server.budget.give_back(self.shard));
    }
}

/// A place among those who wait: left when it drops.
struct Place<'a, B: Backend> {
    slice: &'a Slice<B>,
    waiter: &'a Waiter<B>,
}

impl<B: Backend> Drop for Place<'_, B> {
    fn drop(&mut self) {
        match std::mem::replace(&mut *lock(&self.waiter.slot), Slot::Left) {
            // It came while its asker was being dropped.
            Slot::Given(live) => self.slice.give_back(live),
            Slot::Waiting(_) => {
                let waiter: *const Waiter<B> = self.waiter;
                self.slice.state().waiters.retain(|it| !std::ptr::eq(Arc::as_ptr(it), waiter));
            }
            Slot::Failed(_) | Slot::Left => {}
        }
    }
}

impl<B: Backend> Waiter<B> {
    fn poll(&self, waker: &Waker) -> Poll<Result<Live<B>, PoolError>> {
        let mut slot = lock(&self.slot);
        if let Slot::Waiting(old) = &mut *slot {
            old.clone_from(waker);
            return Poll::Pending;
        }
        match std::mem::replace(&mut *slot, Slot::Left) {
            Slot::Given(live) => Poll::Ready(Ok(live)),
            Slot::Failed(why) => Poll::Ready(Err(why)),
            Slot::Waiting(_) | Slot::Left => Poll::Ready(Err(PoolError::Closed)),
        }
    }

    /// Gives the connection back if it waits no more.
    fn give(&self, live: Live<B>) -> Option<Live<B>> {
        self.turn(|| Slot::Given(live))
    }

    fn fail(&self, why: &PoolError) {
        self.turn(|| Slot::Failed(why.clone()));
    }

    fn turn(&self, new: impl FnOnce() -> Slot<B>) -> Option<Live<B>> {
        let mut slot = lock(&self.slot);
        if !matches!(*slot, Slot::Waiting(_)) {
            drop(slot);
            return match new() {
                Slot::Given(live) => Some(live),
                _ => None,
            };
        }
        let Slot::Waiting(waker) = std::mem::replace(&mut *slot, new()) else {
            return None; // it was looked at above
        };
        drop(slot);
        waker.wake();
        None
    }
}
