//! The keeper of a slice: a task of its shard that makes connections, proves, stops and closes
//! them, ends what takes too long, and gives leases away that others need.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::select;
use sqlx::{ConnectOptions, Connection};
use sqlx_core::transaction::TransactionManager;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::backend::{Backend, Stop};
use super::counting::Closed;
use super::fault::{DbFault, PoolError};
use super::health;
use super::live::Live;
use super::server::Stopping;
use super::slice::{Errand, Slice};
use super::watch::{Abroad, lock};
use crate::limits::{
    DB_BACKOFF_MS_MAX, DB_BACKOFF_MS_MIN, DB_CLOSE_MS_MAX, DB_CONNECTS_MAX, DB_FULL_MS_MAX,
    DB_IDLE_TURN_MS, DB_PROOF_MS_MAX, DB_SPARE_MS, DB_TURN_MS, DB_WINDOW_MS,
};
use crate::shard::Shard;

pub(super) struct Keeper<B: Backend> {
    pub(super) slice: Arc<Slice<B>>,
    pub(super) shard: Shard,
    /// When the next connection may be tried, and how long to wait after that one fails.
    retry_at_ms: Cell<u64>,
    backoff_ms: Cell<u64>,
    /// Connections that may be on their way at once: one after a failure, twice as many after each
    /// success, so that a server that comes back is not stormed.
    connects_max: Cell<usize>,
    /// Since when the server has too many clients.
    full_since_ms: Cell<Option<u64>>,
    /// When idle ones were last counted, and looked over.
    counted_ms: Cell<u64>,
    looked_ms: Cell<u64>,
    pub(super) window_ms: Cell<u64>,
    /// The budget knows that a lease is wanted.
    wants: Cell<bool>,
    /// A task that looks how the server stands is under way.
    pub(super) is_looking: Cell<bool>,
}

/// Ends the slice with its keeper.
struct End<B: Backend>(Arc<Slice<B>>);

impl<B: Backend> Drop for End<B> {
    fn drop(&mut self) {
        self.0.shut();
        self.0.server.budget.leave(self.0.shard);
    }
}

/// The keeper's work; it has no end.
pub(super) async fn keep<B: Backend>(slice: Arc<Slice<B>>, shard: Shard) {
    let _end = End(slice.clone());
    let keeper = Rc::new(Keeper {
        slice,
        shard,
        retry_at_ms: Cell::new(0),
        backoff_ms: Cell::new(DB_BACKOFF_MS_MIN),
        connects_max: Cell::new(DB_CONNECTS_MAX),
        full_since_ms: Cell::new(None),
        counted_ms: Cell::new(0),
        looked_ms: Cell::new(0),
        window_ms: Cell::new(0),
        wants: Cell::new(false),
        is_looking: Cell::new(false),
    });
    loop {
        let now_ms = keeper.shard.now_ms();
        keeper.slice.set_now_ms(now_ms);
        let pause_ms = keeper.turn(now_ms);
        let pause = keeper.shard.sleep(Duration::from_millis(pause_ms));
        let bell = keeper.slice.bell.clone();
        let rung = std::pin::pin!(bell.rings());
        select(rung, pause).await;
    }
}

impl<B: Backend> Keeper<B> {
    /// Does what there is to do. When it is to come round without being rung, in ms.
    fn turn(self: &Rc<Self>, now_ms: u64) -> u64 {
        self.run_errands();
        #[cfg(feature = "postgres-lane")]
        self.make_calls();
        self.watch_time(now_ms);
        self.connect_for_waiters(now_ms);
        self.give_away(now_ms);
        if now_ms >= self.looked_ms.get() + DB_IDLE_TURN_MS {
            self.looked_ms.set(now_ms);
            self.look_over(now_ms);
        }
        if now_ms >= self.window_ms.get() + DB_WINDOW_MS {
            self.window_ms.set(now_ms);
            health::end_window(self);
        }
        let state = self.slice.state();
        let is_busy = state.in_use + state.connecting + state.waiters.len() > 0
            || state.watches.iter().any(|it| it.runs());
        if is_busy || state.away.is_some() {
            DB_TURN_MS
        } else {
            // A query that begins meanwhile is seen at the next turn.
            (self.slice.server.query_ms / 10).clamp(DB_TURN_MS, DB_IDLE_TURN_MS)
        }
    }

    fn run_errands(self: &Rc<Self>) {
        let errands = std::mem::take(&mut self.slice.state().errands);
        for errand in errands {
            let keeper = self.clone();
            self.shard.spawn_own(async move {
                match errand {
                    Errand::Prove(live, turn, changed) => keeper.prove(live, turn, changed).await,
                    Errand::Stop(live, turn) => keeper.stop(live, turn).await,
                    Errand::Close(live, why) => keeper.close(live, why).await,
                }
            });
        }
    }

    #[cfg(feature = "postgres-lane")]
    fn make_calls(&self) {
        let calls = std::mem::take(&mut self.slice.state().calls);
        calls.into_iter().for_each(|call| call(&self.shard));
    }

    fn watch_time(&self, now_ms: u64) {
        let acquire_ms = self.slice.server.options.acquire_max.as_millis() as u64;
        let mut state = self.slice.state();
        state.watches.retain(|it| Arc::strong_count(it) > 1);
        state.watches.iter().for_each(|it| it.look(now_ms));
        for waiter in &state.waiters {
            let (old, new) = (0, now_ms + 1);
            let _ = waiter.since.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
        let is_waited_for = !state.waiters.is_empty();
        drop(state);
        if is_waited_for && now_ms >= acquire_ms {
            let why = self.slice.timed_out();
            let failed = self.slice.fail_waiters(&why, Some(now_ms - acquire_ms));
            self.slice.counting().acquire_timeouts += failed as u64;
        }
    }

    /// A connection for each that waits, as far as there are leases, and the server is good for.
    fn connect_for_waiters(self: &Rc<Self>, now_ms: u64) {
        let (server, shard) = (&self.slice.server, self.slice.shard);
        loop {
            let (wanted, connecting, is_away) = {
                let state = self.slice.state();
                let open = state.idle.len() + state.in_use + state.connecting;
                let floor = server.options.idle_min.div_ceil(server.shards);
                let wanted = state.waiters.len().max(floor.saturating_sub(open) + state.connecting);
                (wanted, state.connecting, state.away.is_some())
            };
            // One is tried without anybody waiting: nobody does while it is away.
            let wanted = wanted.max(usize::from(is_away));
            let connects_max = if is_away { 1 } else { self.connects_max.get() };
            let more = wanted.saturating_sub(connecting);
            if more == 0 || connecting >= connects_max || now_ms < self.retry_at_ms.get() {
                if wanted == 0 && self.wants.replace(false) {
                    server.budget.want_none(shard);
                }
                return;
            }
            if !server.budget.take(shard, more) {
                self.wants.set(true);
                return;
            }
            self.wants.set(more > 1);
            self.slice.state().connecting += 1;
            let keeper = self.clone();
            self.shard.spawn_own(async move { keeper.connect().await });
        }
    }

    async fn connect(self: Rc<Self>) {
        let abroad = Abroad::new(&self.slice.abroad);
        let attempt = Attempt { keeper: &self, done: false };
        let made = self.dial().await;
        drop(abroad);
        let now_ms = self.shard.now_ms();
        match made {
            Ok(live) => {
                self.full_since_ms.set(None);
                self.backoff_ms.set(DB_BACKOFF_MS_MIN);
                self.connects_max.set((2 * self.connects_max.get()).min(DB_CONNECTS_MAX));
                self.retry_at_ms.set(0);
                let was_away = attempt.succeed();
                if was_away {
                    tracing::info!(database = B::NAME, shard = self.slice.shard, "it is back");
                }
                self.slice.counting().opened += 1;
                self.slice.give_back(live);
            }
            Err(error) => {
                let fault = DbFault::of(&error);
                let is_full = fault == DbFault::TooManyClients;
                let full_since = self.full_since_ms.get().unwrap_or(now_ms);
                self.full_since_ms.set(is_full.then_some(full_since));
                self.connects_max.set(1);
                let is_patient = is_full && now_ms < full_since + DB_FULL_MS_MAX;
                let pause_ms = if is_patient { DB_BACKOFF_MS_MIN } else { self.backoff_ms.get() };
                if !is_patient {
                    self.backoff_ms.set((2 * pause_ms).min(DB_BACKOFF_MS_MAX));
                }
                self.retry_at_ms.set(now_ms + health::jitter(pause_ms / 2, pause_ms));
                self.slice.counting().connect_errors += 1;
                attempt.fail((!is_patient).then(|| PoolError::Away {
                    why: error.to_string().into(),
                    // One that has no name is still the server's.
                    fault: if fault == DbFault::Other { DbFault::Unreachable } else { fault },
                }));
            }
        }
        self.slice.bell.ring();
    }

    /// A new connection, ready for its first query.
    pub(super) async fn dial(&self) -> Result<Live<B>, sqlx::Error> {
        let server = &self.slice.server;
        let (with, generation) = server.with();
        let within = server.options.connect_max;
        let made = self.shard.timeout(within, async {
            let mut conn = with.connect().await?;
            let stop = B::greet(&mut conn, &server.options).await?;
            Ok::<_, sqlx::Error>((conn, stop))
        });
        let (conn, stop) = made.await.unwrap_or_else(|_| {
            let why = format!("no answer within {} ms (connect_max)", within.as_millis()).into();
            Err(PoolError::Away { why, fault: DbFault::Unreachable }.into())
        })?;
        let life_ms = server.options.life_max.as_millis().try_into().unwrap_or(u64::MAX / 2);
        let (now_ms, watch) = (self.shard.now_ms(), self.slice.watch());
        let expires_ms = match B::is_in_memory(&server.options.url) {
            true => u64::MAX,
            false => now_ms + health::jitter(life_ms - life_ms / 10, life_ms),
        };
        Ok(Live {
            conn,
            stop,
            watch,
            made_ms: now_ms,
            expires_ms,
            idle_since_ms: now_ms,
            is_suspect: false,
            generation,
        })
    }

    /// Closes idle ones that this shard has not needed of late, where another wants their leases.
    fn give_away(&self, now_ms: u64) {
        if now_ms < self.counted_ms.get() + DB_SPARE_MS {
            return;
        }
        self.counted_ms.set(now_ms);
        let low = {
            let mut state = self.slice.state();
            let idle = state.idle.len();
            if state.waiters.is_empty() { std::mem::replace(&mut state.idle_low, idle) } else { 0 }
        };
        let budget = &self.slice.server.budget;
        let count = budget.surplus(self.slice.shard, low);
        let why = if budget.is_over() { Closed::Shrunk } else { Closed::Moved };
        (0..count).for_each(|_| self.close_idle(why, |_| true));
        self.slice.gives.store(count == 0, Ordering::Relaxed);
    }

    /// Ages, idle times, and how many are to be kept.
    fn look_over(&self, now_ms: u64) {
        let server = &self.slice.server;
        let (options, generation) = (&server.options, server.generation());
        let idle_ms = options.idle_for_max.as_millis() as u64;
        let floor = options.idle_min.div_ceil(server.shards);
        let ceiling = options.idle_max.div_ceil(server.shards).max(floor);
        let idle = self.slice.state().idle.len();
        for _ in 0..idle {
            self.close_idle(Closed::Replaced, |it| it.generation != generation);
            self.close_idle(Closed::Life, |it| it.expires_ms <= now_ms);
        }
        let open = || {
            let state = self.slice.state();
            (state.idle.len(), state.idle.len() + state.in_use)
        };
        for _ in 0..idle {
            if open().1 > floor {
                self.close_idle(Closed::Idle, |it| it.idle_since_ms + idle_ms <= now_ms);
            }
            if open().0 > ceiling {
                self.close_idle(Closed::Idle, |_| true);
            }
        }
    }

    /// Closes the idle one that was used the longest ago and is such a one, if there is one.
    fn close_idle(&self, why: Closed, is_it: impl Fn(&Live<B>) -> bool) {
        let mut state = self.slice.state();
        let Some(at) = state.idle.iter().position(is_it) else { return };
        let live = state.idle.remove(at);
        state.in_use += 1; // until it is closed
        state.idle_low = state.idle_low.min(state.idle.len());
        drop(state);
        self.slice.close(live, why);
    }

    /// Back to the others if it answers and is in no transaction, as new if its session may have
    /// changed.
    async fn prove(&self, mut live: Live<B>, turn: Option<OwnedSemaphorePermit>, changed: bool) {
        let abroad = Abroad::new(&self.slice.abroad);
        let held = OnLoan { slice: &self.slice };
        let within = Duration::from_millis(DB_PROOF_MS_MAX);
        let options = &self.slice.server.options;
        let proven = self.shard.timeout(within, async {
            match changed {
                true => B::cleanse(&mut live.conn, options).await,
                false => live.conn.ping().await,
            }
        });
        let proven = proven.await;
        drop(abroad);
        match proven {
            Ok(Ok(())) if B::TransactionManager::get_transaction_depth(&live.conn) == 0 => {
                held.settle();
                drop(turn);
                self.slice.give_back(live);
            }
            Ok(_) => {
                held.settle();
                self.slice.suspect_idle();
                self.close(live, Closed::Error).await;
            }
            Err(_) => {
                held.settle();
                self.stop(live, turn).await;
            }
        }
    }

    /// Stops what runs on it, then closes it, unless it is proven clean.
    async fn stop(&self, mut live: Live<B>, turn: Option<OwnedSemaphorePermit>) {
        let abroad = Abroad::new(&self.slice.abroad);
        let held = OnLoan { slice: &self.slice };
        let within = Duration::from_millis(DB_CLOSE_MS_MAX);
        let mut is_clean = false;
        match live.stop.clone() {
            Stop::Never => {}
            Stop::Statement(statement) => {
                let done = self.ask_to_stop(statement);
                // The connection stays open meanwhile: its number is nobody else's.
                let _ = self.shard.timeout(within, done.notified()).await;
            }
            Stop::Flag(flag) => {
                flag.store(true, Ordering::Release);
                let quiet = self.shard.timeout(within, live.conn.ping()).await;
                if matches!(quiet, Ok(Ok(()))) {
                    live.stop.reset();
                    let cleansed = B::cleanse(&mut live.conn, &self.slice.server.options);
                    let cleansed = self.shard.timeout(within, cleansed).await;
                    let depth = B::TransactionManager::get_transaction_depth(&live.conn);
                    is_clean = matches!(cleansed, Ok(Ok(()))) && depth == 0;
                }
            }
        }
        drop(abroad);
        held.settle();
        self.slice.counting().stopped_on_server += 1;
        if is_clean {
            drop(turn);
            return self.slice.give_back(live);
        }
        self.close(live, Closed::Stopped).await;
    }

    async fn close(&self, live: Live<B>, why: Closed) {
        let abroad = Abroad::new(&self.slice.abroad);
        let held = OnLoan { slice: &self.slice };
        match why {
            // There is nobody to say goodbye to, or it would not listen.
            Closed::Error | Closed::Stopped | Closed::Test => drop(live),
            _ => {
                let within = Duration::from_millis(DB_CLOSE_MS_MAX);
                let _ = self.shard.timeout(within, live.conn.close()).await;
            }
        }
        drop(abroad);
        self.slice.counting().closed.count(why);
        drop(held); // gives its lease back
        self.slice.bell.ring();
    }

    /// Has a statement run that stops another; told when it has.
    fn ask_to_stop(&self, statement: String) -> Arc<Notify> {
        let done = Arc::<Notify>::default();
        let server = self.slice.server.clone();
        let mut stops = lock(&server.stops);
        stops.waiting.push(Stopping { statement, done: done.clone() });
        if !std::mem::replace(&mut stops.is_served, true) {
            drop(stops);
            let shard = self.shard.clone();
            self.shard.spawn_own(async move { health::serve_stops(server, shard).await });
        }
        done
    }
}

/// A connection on its way: its lease is given back with it, if the task ends before it does.
struct OnLoan<'a, B: Backend> {
    slice: &'a Slice<B>,
}

impl<B: Backend> OnLoan<'_, B> {
    /// It goes on being in use.
    fn settle(self) {
        std::mem::forget(self);
    }
}

impl<B: Backend> Drop for OnLoan<'_, B> {
    fn drop(&mut self) {
        self.slice.state().in_use -= 1;
        self.slice.server.budget.give_back(self.slice.shard);
    }
}

/// A connection that is being made.
struct Attempt<'a, B: Backend> {
    keeper: &'a Keeper<B>,
    done: bool,
}

impl<B: Backend> Attempt<'_, B> {
    /// It counts as in use from now on. Whether there was none before.
    fn succeed(mut self) -> bool {
        self.done = true;
        let mut state = self.keeper.slice.state();
        state.connecting -= 1;
        state.in_use += 1;
        state.away.take().is_some()
    }

    /// Who waits learns why, if there is no other connection to wait for.
    fn fail(self, away: Option<PoolError>) {
        let slice = self.keeper.slice.clone();
        drop(self); // the lease
        let Some(why) = away else { return };
        let mut state = slice.state();
        let was_away = state.away.replace(why.clone()).is_some();
        let is_alone = state.in_use + state.idle.len() + state.connecting == 0;
        drop(state);
        if !was_away {
            tracing::warn!(database = B::NAME, shard = slice.shard, "{why}");
        }
        if is_alone {
            slice.fail_waiters(&why, None);
        }
    }
}

impl<B: Backend> Drop for Attempt<'_, B> {
    fn drop(&mut self) {
        if !self.done {
            self.keeper.slice.state().connecting -= 1;
            self.keeper.slice.server.budget.give_back(self.keeper.slice.shard);
        }
    }
}
