//! The keeper of a lane: a task of its shard that makes the connection, sees that answers come, and
//! makes another one when it has ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select;
use sqlx::Postgres;
use tokio::sync::oneshot;
use tokio_postgres::Config;

use super::Lane;
use super::link::{self, Line, Link, Made};
use super::statements::Statements;
use crate::db::counting::Closed;
use crate::db::fault::{DbFault, PoolError};
use crate::db::health::jitter;
use crate::db::server::Server;
use crate::db::slice::Slice;
use crate::db::watch::Abroad;
use crate::limits::{
    DB_BACKOFF_MS_MAX, DB_BACKOFF_MS_MIN, DB_CLOSE_MS_MAX, DB_FULL_MS_MAX, DB_IDLE_TURN_MS,
    DB_TURN_MS, LANE_GRACE_MS, LANE_LOOK_MS, LANE_STATEMENT_MS_MAX,
};
use crate::ring::socket::{self, Place};
use crate::shard::Shard;

/// The right to the connection, for as long as the lane lives.
pub(super) struct Lease(Arc<Server<Postgres>>);

impl Lease {
    pub(super) fn take(server: &Arc<Server<Postgres>>) -> Result<Lease, PoolError> {
        if server.budget.take_apart(1) {
            return Ok(Lease(server.clone()));
        }
        let (held, limit) = (server.budget.held(), server.budget.limit());
        Err(PoolError::Away {
            why: format!("none is free for a lane: {held} of {limit} are out (open_max)").into(),
            fault: DbFault::PoolExhausted,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.budget.give_back_apart(1);
    }
}

/// Ends the lane with its keeper, or when there never was one.
pub(super) struct End(pub(super) Arc<Lane>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.close(PoolError::Closed);
    }
}

pub(super) type First = oneshot::Sender<Result<(), sqlx::Error>>;

/// The keeper's work, until nobody has the lane any more. `first` hears how the first try went.
pub(super) async fn keep(end: End, shard: Shard, mut lease: Lease, first: First) {
    let lane = end.0.clone();
    let mut first = Some(first);
    let mut backoff_ms = DB_BACKOFF_MS_MIN;
    let mut full_since_ms = None;
    while !lane.is_left() {
        let tried_ms = shard.now_ms();
        let slice = lane.slice().clone();
        let made = dial(&lane, &shard, &slice, &mut lease).await;
        let now_ms = shard.now_ms();
        let pause_ms = match made {
            Ok(link) => {
                full_since_ms = None;
                slice.counting().opened += 1;
                if lane.open(link.clone()) {
                    tracing::info!(shard = slice.shard, "the lane is back");
                }
                tell(&mut first, Ok(()));
                let why = watch_over(&lane, &shard, &slice, &link).await;
                lane.leave(&link);
                slice.counting().closed.count(why);
                bid_farewell(&lane, &shard, link).await;
                // One that did not last is not made again at once.
                let lasted = shard.now_ms() >= tried_ms + DB_BACKOFF_MS_MAX;
                backoff_ms = if lasted { DB_BACKOFF_MS_MIN } else { backoff_ms };
                let is_fault = matches!(why, Closed::Error | Closed::Stopped);
                if lasted || !is_fault { 0 } else { backoff_ms }
            }
            Err(error) => {
                slice.counting().connect_errors += 1;
                let fault = DbFault::of(&error);
                let is_full = fault == DbFault::TooManyClients;
                let since_ms = *full_since_ms.get_or_insert(now_ms);
                full_since_ms = is_full.then_some(since_ms);
                // The server takes a moment to notice that one was closed.
                if is_full && now_ms < since_ms + DB_FULL_MS_MAX {
                    DB_BACKOFF_MS_MIN
                } else {
                    let fault = if fault.is_of_server() { fault } else { DbFault::Unreachable };
                    let why = PoolError::Away { why: error.to_string().into(), fault };
                    if lane.give_up(why) {
                        tracing::warn!(shard = slice.shard, "the lane is away: {error}");
                    }
                    tell(&mut first, Err(error));
                    backoff_ms
                }
            }
        };
        if pause_ms > 0 {
            backoff_ms = (2 * backoff_ms).min(DB_BACKOFF_MS_MAX);
            let pause_ms = jitter(pause_ms / 2, pause_ms);
            let until_ms = shard.now_ms() + pause_ms;
            while !lane.is_left() && shard.now_ms() < until_ms {
                pause(&lane, &shard, until_ms - shard.now_ms()).await;
            }
        }
    }
}

fn tell(first: &mut Option<First>, outcome: Result<(), sqlx::Error>) {
    if let Some(first) = first.take() {
        let _ = first.send(outcome);
    }
}

/// Ends a connection that nobody finds any more: when it has said goodbye, or does not.
async fn bid_farewell(lane: &Lane, shard: &Shard, link: Arc<Link>) {
    let line = link.line.clone();
    drop(link);
    let until_ms = shard.now_ms() + DB_CLOSE_MS_MAX;
    while !line.has_ended() && shard.now_ms() < until_ms {
        pause(lane, shard, DB_TURN_MS).await;
    }
    line.flow.end();
}

/// Until the bell rings, or so long.
async fn pause(lane: &Lane, shard: &Shard, ms: u64) {
    let rung = std::pin::pin!(lane.bell.rings());
    select(rung, shard.sleep(Duration::from_millis(ms))).await;
}

async fn dial(
    lane: &Lane,
    shard: &Shard,
    slice: &Slice<Postgres>,
    lease: &mut Lease,
) -> Result<Arc<Link>, sqlx::Error> {
    let server = &slice.server;
    if !Arc::ptr_eq(&lease.0, server) {
        *lease = Lease::take(server)?; // another one is the primary now
    }
    let _abroad = Abroad::new(&slice.abroad);
    let (with, generation) = server.with();
    if let Some(misfit) = link::misfit(&with) {
        return Err(sqlx::Error::Configuration(misfit.into()));
    }
    let options = &server.options;
    let within = options.connect_max;
    let statement_ms = server.query_ms.clamp(1, LANE_STATEMENT_MS_MAX);
    let (place, config) = link::target(&with, statement_ms);
    let line = Line::new(lane.bell.clone());
    let (made, is_made) = oneshot::channel();
    let dialed = shard.timeout(within, async {
        let serving = Serving { place, config, line: line.clone(), made, within };
        serving.start(shard).await?;
        match is_made.await {
            Ok(made) => made,
            Err(_) => Err(link::closed()),
        }
    });
    let client = dialed.await.unwrap_or_else(|_| {
        let why = format!("no answer within {} ms (connect_max)", within.as_millis()).into();
        Err(PoolError::Away { why, fault: DbFault::Unreachable }.into())
    })?;
    let life_ms = options.life_max.as_millis().try_into().unwrap_or(u64::MAX / 2);
    let expires_ms = shard.now_ms() + jitter(life_ms - life_ms / 10, life_ms);
    Ok(Arc::new(Link {
        client: Arc::new(client),
        statements: Statements::new(options.statements_max),
        line,
        is_beside: !shard.has_ring(),
        expires_ms,
        at: server.at,
        generation,
        is_spent: AtomicBool::new(false),
    }))
}

/// A connection that is to be made and served.
struct Serving {
    place: Place,
    config: Config,
    line: Arc<Line>,
    made: Made,
    within: Duration,
}

impl Serving {
    /// On the shard's ring; in memory, where there is none, on a thread of its own.
    async fn start(self, shard: &Shard) -> Result<(), sqlx::Error> {
        if !shard.has_ring() {
            let spawned = std::thread::Builder::new().name("soloist-lane".to_owned());
            return spawned.spawn(move || self.run_beside()).map(drop).map_err(sqlx::Error::Io);
        }
        let Serving { place, config, line, made, within } = self;
        let connect = move || socket::connect(&place, within, STALL_MS_MAX);
        let connected = shard.blocking(connect).await;
        let socket = connected.map_err(|it| sqlx::Error::Configuration(it.into_std()))??;
        shard.adopt(socket, move |stream| link::serve(stream, config, line, made));
        Ok(())
    }

    fn run_beside(self) {
        let Serving { place, config, line, made, within } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let socket = socket::connect(&place, within, STALL_MS_MAX);
        let socket = runtime.and_then(|runtime| Ok((runtime, socket?)));
        let (runtime, socket) = match socket {
            Ok(both) => both,
            Err(error) => return drop(made.send(Err(error.into()))),
        };
        runtime.block_on(async move {
            match place {
                Place::Tcp { .. } => {
                    let socket = std::net::TcpStream::from(socket);
                    let _ = socket.set_nonblocking(true);
                    let Ok(stream) = tokio::net::TcpStream::from_std(socket) else { return };
                    link::serve(stream, config, line, made).await;
                }
                Place::Unix(_) => {
                    let socket = std::os::unix::net::UnixStream::from(socket);
                    let _ = socket.set_nonblocking(true);
                    let Ok(stream) = tokio::net::UnixStream::from_std(socket) else { return };
                    link::serve(stream, config, line, made).await;
                }
            }
        });
    }
}

/// Sees that answers come in time, until the connection has ended, or is to; why it does.
async fn watch_over(lane: &Lane, shard: &Shard, slice: &Slice<Postgres>, link: &Link) -> Closed {
    let statement_ms = slice.server.query_ms.clamp(1, LANE_STATEMENT_MS_MAX);
    let stall_ms = statement_ms + LANE_GRACE_MS;
    let mut seen = Seen { quiet_ms: shard.now_ms(), ..Seen::default() };
    loop {
        let now_ms = shard.now_ms();
        if link.line.has_ended() {
            return seen.why.unwrap_or(Closed::Error);
        }
        if seen.why.is_none() {
            seen.why = if now_ms >= link.expires_ms {
                Some(Closed::Life)
            } else if link.generation != slice.server.generation() || lane.has_moved(link.at) {
                Some(Closed::Replaced)
            } else if link.is_spent.load(Ordering::Acquire) {
                Some(Closed::Error)
            } else {
                None
            };
            if seen.why.is_some() {
                lane.retire(); // those that come now wait for the next one
            }
        }
        let is_busy = lane.look(&link.line.flow);
        let flow = &link.line.flow;
        if let Some(ms) = seen.look(flow.asked(), flow.answered(), now_ms, stall_ms, slice) {
            link.line.end(PoolError::Stalled { ms });
            slice.counting().query_timeouts += lane.running() as u64;
            return Closed::Stopped;
        }
        if lane.is_left() && lane.running() == 0 {
            return Closed::Idle;
        }
        if let Some(why) = seen.why
            && lane.running() == 0
        {
            return why;
        }
        if seen.is_quiet_for(now_ms, slice.server.options.test_idle) {
            // What comes of it the next looks show.
            let _ = link.client.check_connection().now_or_never();
        }
        let ms = match () {
            () if is_busy || seen.why.is_some() => DB_TURN_MS,
            () if seen.waits() => LANE_LOOK_MS,
            () => DB_IDLE_TURN_MS.min(stall_ms / 4),
        };
        pause(lane, shard, ms).await;
    }
}

/// What the looks at a connection have shown.
#[derive(Default)]
struct Seen {
    /// Answers at the last look, and since when there were no more.
    answered: u64,
    since_ms: u64,
    asked: u64,
    /// What was asked when it last changed, and when.
    quiet_asked: u64,
    quiet_ms: u64,
    /// How many were asked by which look: the oldest without an answer is the first.
    marks: VecDeque<(u64, u64)>,
    /// It is to end when its queries have.
    why: Option<Closed>,
}

impl Seen {
    /// How long nothing has come, if that is too long.
    fn look(
        &mut self,
        asked: u64,
        answered: u64,
        now_ms: u64,
        stall_ms: u64,
        slice: &Slice<Postgres>,
    ) -> Option<u64> {
        if answered > self.answered || answered >= asked || self.asked == self.answered {
            self.since_ms = now_ms;
        }
        (self.asked, self.answered) = (asked, answered);
        if self.marks.back().is_none_or(|it| it.0 < asked) && answered < asked {
            self.marks.push_back((asked, now_ms));
        }
        while self.marks.front().is_some_and(|it| it.0 <= answered) {
            self.marks.pop_front();
        }
        let is_stalled = now_ms - self.since_ms >= stall_ms;
        let query_ms = slice.server.query_ms;
        let is_old = self.marks.front().is_some_and(|it| now_ms - it.1 >= query_ms);
        match () {
            () if answered >= asked => None,
            () if is_stalled => Some(stall_ms),
            () if is_old => Some(query_ms),
            () => None,
        }
    }

    /// Whether nobody has asked for so long, nor has the keeper.
    fn is_quiet_for(&mut self, now_ms: u64, length: Duration) -> bool {
        if self.waits() || self.asked != self.quiet_asked {
            (self.quiet_asked, self.quiet_ms) = (self.asked, now_ms);
        }
        let length_ms = (length.as_millis() as u64).max(DB_IDLE_TURN_MS);
        let is_quiet = now_ms >= self.quiet_ms + length_ms;
        if is_quiet {
            self.quiet_ms = now_ms;
        }
        is_quiet
    }

    fn waits(&self) -> bool {
        self.answered < self.asked
    }
}

/// For how long the kernel keeps what a peer does not take: the watch over answers is sooner.
const STALL_MS_MAX: u64 = 30_000;
