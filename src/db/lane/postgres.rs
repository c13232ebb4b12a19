//! The lane of PostgreSQL: one connection of a shard that many queries share at once, each on its
//! way before the one ahead of it is answered.

mod error;
mod flow;
mod keeper;
mod link;
pub(crate) mod row;
mod statements;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sqlx::{Postgres, SqlSafeStr, SqlStr};
use tokio::sync::{Notify, oneshot};
use tokio_postgres::types::ToSql;

use self::flow::Flow;
use self::keeper::{End, Lease};
use self::link::{Link, Values};
use self::row::PgLaneRow;
use super::super::fault::PoolError;
use super::super::handle::{Db, Route};
use super::super::slice::Slice;
use super::super::watch::{Abroad, Bell, lock};
use crate::error::{Error, Result};
use crate::limits::LANE_QUERIES_MAX;

/// A lane of PostgreSQL: queries that are small and quick share one connection, which sends each
/// without waiting for the answer of the one before. Made by [`Db::lane`]; clones are the same.
///
/// Answers come in the order of the queries, so one that is slow holds up those behind it: give it
/// point queries, and leave reports and transactions to the pool.
///
/// ```
/// use soloist::sqlx::Postgres;
/// use soloist::{Db, PgLane, prelude::*};
///
/// async fn app(shard: Shard) -> Result<App<PgLane>> {
///     let db: Db<Postgres> = shard.db("postgres://ann@db.local/shop").await?;
///     Ok(App::new(db.lane().await?).get("/users/:id", user))
/// }
///
/// async fn user(cx: &Ctx<PgLane>) -> Result<Reply> {
///     let (sql, id) = ("SELECT name FROM users WHERE id = $1", cx.param::<i64>("id")?);
///     let name = cx.state().optional(sql, &[&id], |row| row.get::<String>(0)).await?;
///     cx.text(name.ok_or_else(Error::not_found)?)
/// }
/// ```
#[derive(Clone)]
pub struct PgLane {
    held: Arc<Held>,
    name: Option<&'static str>,
}

/// By those who use the lane: when the last one drops, it ends.
struct Held(Arc<Lane>);

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0.state).is_left = true;
        self.0.bell.ring();
    }
}

struct Lane {
    db: Db<Postgres>,
    bell: Arc<Bell>,
    state: Mutex<State>,
    /// There may be room for one more.
    freed: Notify,
}

struct State {
    stage: Stage,
    /// Queries under way.
    running: usize,
    waiting: usize,
    /// Queries whose askers have dropped them: each is still in the way, until so much is answered.
    dropped: VecDeque<u64>,
    is_left: bool,
}

enum Stage {
    /// A connection is on its way.
    Connecting,
    Open(Arc<Link>),
    /// None can be had, for this reason: nobody waits.
    Away(PoolError),
}

impl Db<Postgres> {
    /// A lane of this shard to the primary, or to a replica if this is [`Db::replica`]: make one
    /// where the application is built. Its connection is taken out of the budget for as long as
    /// somebody has it, made again when it is lost, and lives up to
    /// [`life_max`](crate::DbOptions::life_max).
    ///
    /// # Errors
    /// When no lease is free, or the server is not there, unless the database is
    /// [`lazy`](crate::DbOptions::lazy); behind a pooler; where TLS is demanded: it has none.
    ///
    /// ```
    /// # use soloist::sqlx::Postgres;
    /// # use soloist::{Db, PgLane, Result};
    /// # async fn sample(db: &Db<Postgres>) -> Result<()> {
    /// let lane: PgLane = db.lane().await?;
    /// # Ok(()) }
    /// ```
    pub async fn lane(&self) -> Result<PgLane> {
        let db = if matches!(self.route, Route::Replica) { self.clone() } else { self.primary() };
        let slice = db.slice_for(true).clone();
        let options = &slice.server.options;
        if options.is_behind_pooler {
            return Err(Error::from(
                "a lane behind a pooler: its connection has to be its own; use the pool, or a \
                 database of Shard::db with the server's own address",
            ));
        }
        if let Some(misfit) = link::misfit(&slice.server.with().0) {
            return Err(Error::from(misfit));
        }
        let cannot = |error: sqlx::Error| {
            let address = slice.server.address();
            Error::new(503, "the database is not available").because(format!("{address}: {error}"))
        };
        let lease = Lease::take(&slice.server).map_err(|why| cannot(why.into()))?;
        let lane = Arc::new(Lane {
            db,
            bell: Arc::default(),
            state: Mutex::new(State {
                stage: Stage::Connecting,
                running: 0,
                waiting: 0,
                dropped: VecDeque::new(),
                is_left: false,
            }),
            freed: Notify::new(),
        });
        let held = Arc::new(Held(lane.clone()));
        let (end, (first, is_first)) = (End(lane), oneshot::channel());
        slice.call(move |shard| {
            shard.spawn_own(keeper::keep(end, shard.clone(), lease, first));
        });
        if !options.is_lazy {
            is_first.await.unwrap_or_else(|_| Err(link::closed())).map_err(cannot)?;
        }
        Ok(PgLane { held, name: None })
    }
}

impl PgLane {
    /// The same lane, whose queries are counted under a name too: see
    /// [`DbStats::names`](crate::DbStats).
    ///
    /// ```
    /// # use soloist::{PgLane, sqlx};
    /// # async fn sample(lane: &PgLane) -> Result<i64, sqlx::Error> {
    /// let lane = lane.named("count users");
    /// lane.one("SELECT count(*) FROM users", &[], |row| row.get(0)).await
    /// # }
    /// ```
    pub fn named(&self, name: &'static str) -> PgLane {
        PgLane { name: Some(name), ..self.clone() }
    }

    /// The first row, as `map` makes it.
    ///
    /// # Errors
    /// `RowNotFound` where there is none; else as of the pool: see [`DbFault`](crate::DbFault).
    ///
    /// ```
    /// # use soloist::{PgLane, sqlx};
    /// # async fn sample(lane: &PgLane, id: i64) -> Result<String, sqlx::Error> {
    /// lane.one("SELECT name FROM users WHERE id = $1", &[&id], |row| row.get(0)).await
    /// # }
    /// ```
    pub async fn one<T>(
        &self,
        sql: impl SqlSafeStr,
        values: &[&(dyn ToSql + Sync)],
        map: impl FnMut(&PgLaneRow) -> std::result::Result<T, sqlx::Error>,
    ) -> std::result::Result<T, sqlx::Error> {
        self.optional(sql, values, map).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// As of the pool: see [`DbFault`](crate::DbFault).
    ///
    /// ```
    /// # use soloist::{PgLane, sqlx};
    /// # async fn sample(lane: &PgLane, id: i64) -> Result<Option<String>, sqlx::Error> {
    /// lane.optional("SELECT name FROM users WHERE id = $1", &[&id], |row| row.get(0)).await
    /// # }
    /// ```
    pub async fn optional<T>(
        &self,
        sql: impl SqlSafeStr,
        values: &[&(dyn ToSql + Sync)],
        mut map: impl FnMut(&PgLaneRow) -> std::result::Result<T, sqlx::Error>,
    ) -> std::result::Result<Option<T>, sqlx::Error> {
        let mut first = None;
        let each = |row: &PgLaneRow| {
            if first.is_none() {
                first = Some(map(row)?);
            }
            Ok(())
        };
        self.run(sql.into_sql_str(), values, each).await?;
        Ok(first)
    }

    /// All rows. They hold up what is behind them: few, that is.
    ///
    /// # Errors
    /// As of the pool: see [`DbFault`](crate::DbFault).
    ///
    /// ```
    /// # use soloist::{PgLane, sqlx};
    /// # async fn sample(lane: &PgLane, ids: &[i64]) -> Result<Vec<String>, sqlx::Error> {
    /// lane.all("SELECT name FROM users WHERE id = ANY($1)", &[&ids], |row| row.get(0)).await
    /// # }
    /// ```
    pub async fn all<T>(
        &self,
        sql: impl SqlSafeStr,
        values: &[&(dyn ToSql + Sync)],
        mut map: impl FnMut(&PgLaneRow) -> std::result::Result<T, sqlx::Error>,
    ) -> std::result::Result<Vec<T>, sqlx::Error> {
        let mut rows = Vec::new();
        let each = |row: &PgLaneRow| map(row).map(|it| rows.push(it));
        self.run(sql.into_sql_str(), values, each).await?;
        Ok(rows)
    }

    /// Runs a statement: how many rows it was about. Each is a transaction of its own.
    ///
    /// # Errors
    /// As of the pool: see [`DbFault`](crate::DbFault). After a lost connection nobody knows
    /// whether it was done; it is not sent again.
    ///
    /// ```
    /// # use soloist::{PgLane, sqlx};
    /// # async fn sample(lane: &PgLane, id: i64) -> Result<u64, sqlx::Error> {
    /// lane.execute("UPDATE users SET seen = now() WHERE id = $1", &[&id]).await
    /// # }
    /// ```
    pub async fn execute(
        &self,
        sql: impl SqlSafeStr,
        values: &[&(dyn ToSql + Sync)],
    ) -> std::result::Result<u64, sqlx::Error> {
        self.run(sql.into_sql_str(), values, |_| Ok(())).await
    }

    async fn run(
        &self,
        sql: SqlStr,
        values: Values<'_>,
        each: impl FnMut(&PgLaneRow) -> std::result::Result<(), sqlx::Error>,
    ) -> std::result::Result<u64, sqlx::Error> {
        let lane = &*self.held.0;
        let mut entered = lane.enter().await?;
        let start = Instant::now();
        let outcome = entered.link.query(sql.as_str(), values, each).await;
        entered.has_ended = true;
        let took_ns = start.elapsed().as_nanos() as u64;
        lane.slice().counting().lane(self.name, took_ns, outcome.is_err());
        outcome
    }
}

impl fmt::Debug for PgLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgLane of {}", self.held.0.slice().server.address())
    }
}

impl Lane {
    fn slice(&self) -> &Arc<Slice<Postgres>> {
        self.db.slice_for(true)
    }

    /// Whether another server is the one to ask by now than the one of that place.
    fn has_moved(&self, at: usize) -> bool {
        let standings = &self.db.cluster.standings;
        match self.db.route {
            // Any that is well, and it stays there.
            Route::Replica => !standings.is_well(at) && self.slice().server.at != at,
            _ => standings.primary() != at,
        }
    }

    /// A place among the queries under way, once there is one.
    async fn enter(&self) -> std::result::Result<Entered<'_>, sqlx::Error> {
        match self.try_enter(false)? {
            Some(entered) => Ok(entered),
            None => self.wait().await,
        }
    }

    fn try_enter(&self, has_waited: bool) -> std::result::Result<Option<Entered<'_>>, PoolError> {
        let mut state = lock(&self.state);
        let link = match &state.stage {
            Stage::Connecting => return Ok(None),
            Stage::Away(why) => return Err(why.clone()),
            // The next one is on its way, but nobody has said so yet.
            Stage::Open(link) if link.line.has_ended() => return Ok(None),
            Stage::Open(link) if self.has_moved(link.at) => {
                self.bell.ring();
                return Ok(None);
            }
            Stage::Open(link) => link.clone(),
        };
        if state.waiting > 0 && !has_waited {
            return Ok(None); // they were first
        }
        if state.running + state.dropped.len() >= LANE_QUERIES_MAX {
            state.forget_answered(&link.line.flow);
            if state.running + state.dropped.len() >= LANE_QUERIES_MAX {
                return Ok(None);
            }
        }
        state.running += 1;
        drop(state);
        let abroad = link.is_beside.then(|| Abroad::new(&self.slice().abroad));
        Ok(Some(Entered { lane: self, link, has_ended: false, _abroad: abroad }))
    }

    #[cold]
    async fn wait(&self) -> std::result::Result<Entered<'_>, sqlx::Error> {
        let slice = self.slice();
        let options = &slice.server.options;
        {
            let mut state = lock(&self.state);
            let waiters_max = options.waiters_max;
            if state.waiting >= waiters_max {
                drop(state);
                slice.counting().refused += 1;
                return Err(PoolError::Full { waiters_max }.into());
            }
            state.waiting += 1;
        }
        let place = Place(self);
        let acquire_ms = options.acquire_max.as_millis() as u64;
        let watch = slice.watch();
        watch.start(acquire_ms);
        slice.bell.ring();
        self.bell.ring();
        let start = Instant::now();
        let entered = watch.within(async {
            loop {
                let mut freed = std::pin::pin!(self.freed.notified());
                freed.as_mut().enable();
                if let Some(entered) = self.try_enter(true)? {
                    return Ok(entered);
                }
                freed.await;
            }
        });
        let entered = entered.await;
        watch.stop();
        drop(place);
        slice.counting().wait(start.elapsed().as_nanos() as u64);
        entered
            .unwrap_or_else(|| {
                slice.counting().acquire_timeouts += 1;
                let running = lock(&self.state).running;
                Err(PoolError::LaneFull { ms: acquire_ms, running })
            })
            .map_err(sqlx::Error::from)
    }

    // The keeper's side.

    fn is_left(&self) -> bool {
        lock(&self.state).is_left
    }

    fn running(&self) -> usize {
        lock(&self.state).running
    }

    /// A connection is there. Whether it was known to be away.
    fn open(&self, link: Arc<Link>) -> bool {
        let mut state = lock(&self.state);
        state.dropped.clear();
        let before = std::mem::replace(&mut state.stage, Stage::Open(link));
        drop(state);
        self.freed.notify_waiters();
        matches!(before, Stage::Away(_))
    }

    /// Queries wait from now on.
    fn retire(&self) {
        lock(&self.state).stage = Stage::Connecting;
    }

    /// The connection is gone, or is to go: nobody finds it any more.
    fn leave(&self, link: &Arc<Link>) {
        let mut state = lock(&self.state);
        if matches!(&state.stage, Stage::Open(open) if Arc::ptr_eq(open, link)) {
            state.stage = Stage::Connecting;
        }
    }

    /// None can be made: who waits hears of it. Whether this is new.
    fn give_up(&self, why: PoolError) -> bool {
        let before = std::mem::replace(&mut lock(&self.state).stage, Stage::Away(why));
        self.freed.notify_waiters();
        !matches!(before, Stage::Away(_))
    }

    fn close(&self, why: PoolError) {
        let before = std::mem::replace(&mut lock(&self.state).stage, Stage::Away(why));
        self.freed.notify_waiters();
        drop(before);
    }

    /// Makes room for those who wait. Whether there are any.
    fn look(&self, flow: &Flow) -> bool {
        let mut state = lock(&self.state);
        state.forget_answered(flow);
        let room = LANE_QUERIES_MAX.saturating_sub(state.running + state.dropped.len());
        let waiting = state.waiting;
        drop(state);
        (0..room.min(waiting)).for_each(|_| self.freed.notify_one());
        waiting > 0
    }
}

impl State {
    fn forget_answered(&mut self, flow: &Flow) {
        let answered = flow.answered();
        while self.dropped.front().is_some_and(|asked| *asked <= answered) {
            self.dropped.pop_front();
        }
    }
}

/// One that waits.
struct Place<'a>(&'a Lane);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).waiting -= 1;
    }
}

/// A query under way.
struct Entered<'a> {
    lane: &'a Lane,
    link: Arc<Link>,
    has_ended: bool,
    _abroad: Option<Abroad>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.lane.state);
        state.running -= 1;
        let is_current = matches!(&state.stage, Stage::Open(open) if Arc::ptr_eq(open, &self.link));
        if !self.has_ended && is_current {
            state.dropped.push_back(self.link.line.flow.asked());
        }
        let is_last = !is_current && state.running == 0;
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_last {
            self.lane.bell.ring(); // its connection may go
        }
        if is_awaited {
            self.lane.freed.notify_one();
        }
    }
}
