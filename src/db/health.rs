//! What one shard does for all that use a server: sizes and alerts at the end of a window, looks at
//! how it stands, and the connection that stops what others run.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::{ConnectOptions, Connection};

use super::adapt::Seen;
use super::backend::Backend;
use super::keeper::Keeper;
use super::server::Server;
use super::standings::Change;
use super::watch::lock;
use crate::limits::{DB_ALERT_WAITS, DB_ALERT_WINDOWS, DB_CLOSE_MS_MAX, DB_HEALTH_MS};
use crate::shard::Shard;

/// Something about a pool that somebody should look at: see [`DbStats`](crate::DbStats). Each is
/// also an event of `tracing`, at the level of a warning.
///
/// ```
/// use soloist::{Db, DbAlert, sqlx::Sqlite};
/// # #[cfg(feature = "sqlite")]
/// fn is_short(db: &Db<Sqlite>) -> bool {
///     db.stats().alerts.iter().any(|it| matches!(it, DbAlert::Waits { .. }))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum DbAlert {
    /// So many waits for a connection within a minute: more than 1,000.
    Waits {
        /// In the minute.
        count: u64,
    },
    /// More than 10 connections are open, and at most a fifth of them were in use within a minute.
    LowUse {
        /// The most that were in use at once.
        in_use_max: usize,
        /// Open at the end of it.
        open: usize,
    },
}

/// The last minute, of which alerts are made by differences, not by totals.
#[derive(Default)]
pub(super) struct Minute {
    windows: u32,
    waits: u64,
    in_use_max: usize,
    pub(super) alerts: VecDeque<DbAlert>,
}

const ALERTS_MAX: usize = 16;

impl Minute {
    /// Alerts at the end of a minute.
    pub(super) fn judge(&mut self, seen: Seen) -> Vec<DbAlert> {
        self.windows += 1;
        self.waits += seen.waits;
        self.in_use_max = self.in_use_max.max(seen.in_use_max);
        if self.windows < DB_ALERT_WINDOWS {
            return Vec::new();
        }
        let (waits, in_use_max, open) = (self.waits, self.in_use_max, seen.held);
        (self.windows, self.waits, self.in_use_max) = (0, 0, 0);
        let mut new = Vec::new();
        if waits > DB_ALERT_WAITS {
            new.push(DbAlert::Waits { count: waits });
        }
        if open > 10 && 5 * in_use_max <= open {
            new.push(DbAlert::LowUse { in_use_max, open });
        }
        for alert in &new {
            if self.alerts.len() == ALERTS_MAX {
                self.alerts.pop_front();
            }
            self.alerts.push_back(*alert);
        }
        new
    }
}

/// The end of a window: the first slice that there is looks at all.
pub(super) fn end_window<B: Backend>(keeper: &Rc<Keeper<B>>) {
    let server = &keeper.slice.server;
    let slices = server.slices();
    if !slices.first().is_some_and(|it| Arc::ptr_eq(it, &keeper.slice)) {
        return;
    }
    let mut seen = Seen { held: server.budget.held(), ..Seen::default() };
    for slice in &slices {
        let mut state = slice.state();
        seen.in_use_max += state.in_use_max;
        state.in_use_max = state.in_use;
        drop(state);
        let mut counting = slice.counting();
        let waits = &mut counting.window_wait_us;
        seen.waits += waits.0.len();
        seen.wait_p99_us = seen.wait_p99_us.max(waits.at(0.99));
        waits.0.reset();
    }
    if let Some(change) = lock(&server.adapt).judge(seen) {
        tracing::info!(
            database = B::NAME,
            from = change.from,
            to = change.to,
            "the budget of connections changes: {}",
            change.why
        );
        server.budget.set_limit(change.to);
        slices.iter().for_each(|it| it.bell.ring());
    }
    for alert in lock(&server.minute).judge(seen) {
        tracing::warn!(database = B::NAME, "{alert:?}");
    }
    if server.is_one_of_many && !keeper.is_looking.replace(true) {
        let (server, shard) = (server.clone(), keeper.shard.clone());
        keeper.shard.spawn_own(async move { look_out(server, shard).await });
    }
}

/// Looks at a server again and again, over a connection that is there for it alone: one that all
/// connections of the budget are in use of is well all the same.
async fn look_out<B: Backend>(server: Arc<Server<B>>, shard: Shard) {
    let mut conn = None;
    loop {
        conn = look(&server, &shard, conn).await;
        shard.sleep(Duration::from_millis(DB_HEALTH_MS)).await;
    }
}

/// A connection to look over, and the generation of addresses that it is of.
type Lookout<B> = (<B as sqlx::Database>::Connection, u64);

/// How the server stands among its copies; not at all, if it does not say so in time.
pub(super) async fn look<B: Backend>(
    server: &Server<B>,
    shard: &Shard,
    conn: Option<Lookout<B>>,
) -> Option<Lookout<B>> {
    let within = Duration::from_millis(DB_HEALTH_MS);
    let (with, generation) = server.with();
    let asked = shard.timeout(within, async {
        let mut conn = match conn.filter(|it| it.1 == generation) {
            Some((conn, _)) => conn,
            None => with.connect().await?,
        };
        let standing = B::standing(&mut conn).await?;
        Ok::<_, sqlx::Error>((conn, standing))
    });
    let (conn, standing) = asked.await.ok().and_then(Result::ok).unzip();
    if standing.is_none() {
        server.slices().iter().for_each(|it| it.suspect_idle());
    }
    if generation == server.generation() {
        tell(server, server.standings.saw(server.at, standing, Instant::now()));
    }
    conn.map(|conn| (conn, generation))
}

fn tell<B: Backend>(server: &Server<B>, change: Option<Change>) {
    let (url, database) = (server.address(), B::NAME);
    match change {
        Some(Change::Elected { from, to }) => {
            let [from, to] = [from, to].map(|it| server.standings.address(it));
            tracing::warn!(database, from, to, "another server is the primary now");
        }
        Some(Change::Stale) => {
            let why = "it says that it is the primary, but another one is: it gets nothing to do";
            tracing::warn!(database, url, "{why}");
        }
        Some(Change::Well) => tracing::info!(database, url, "a replica that gets reads"),
        Some(Change::Unwell) => tracing::warn!(database, url, "a replica that gets none any more"),
        None => {}
    }
}

/// Runs the statements that stop others, on a connection that is there for it alone.
pub(super) async fn serve_stops<B: Backend>(server: Arc<Server<B>>, shard: Shard) {
    let _served = Served(&server);
    let within = Duration::from_millis(DB_CLOSE_MS_MAX);
    let (with, _) = server.with();
    let mut conn = shard.timeout(within, with.connect()).await.ok().and_then(Result::ok);
    loop {
        let batch = std::mem::take(&mut lock(&server.stops).waiting);
        if batch.is_empty() {
            break;
        }
        for stopping in batch {
            if let Some(open) = &mut conn {
                let ran = shard.timeout(within, B::run(open, stopping.statement)).await;
                if !matches!(ran, Ok(Ok(()))) {
                    conn = None;
                }
            }
            stopping.done.notify_one();
        }
    }
    if let Some(conn) = conn {
        let _ = shard.timeout(within, conn.close()).await;
    }
}

/// The next one that is to be stopped finds somebody who does it.
struct Served<'a, B: Backend>(&'a Server<B>);

impl<B: Backend> Drop for Served<'_, B> {
    fn drop(&mut self) {
        let mut stops = lock(&self.0.stops);
        stops.is_served = false;
        // They came since: their connections are closed without it.
        stops.waiting.drain(..).for_each(|it| it.done.notify_one());
    }
}

/// Anything between the two, so that not all come back at once.
pub(super) fn jitter(ms_min: u64, ms_max: u64) -> u64 {
    let random = RandomState::new().build_hasher().finish();
    ms_min + random % (ms_max - ms_min + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_made_of_a_minute_not_of_totals() {
        let seen = |waits, in_use_max, held| Seen { wait_p99_us: 0, waits, in_use_max, held };
        for (name, each, want) in [
            ("quiet", seen(0, 5, 10), vec![]),
            ("a few waits", seen(10, 10, 10), vec![]),
            ("many", seen(20, 10, 10), vec![DbAlert::Waits { count: 1_200 }]),
            ("low use", seen(0, 2, 20), vec![DbAlert::LowUse { in_use_max: 2, open: 20 }]),
            ("few are open anyway", seen(0, 1, 10), vec![]),
        ] {
            let mut minute = Minute::default();
            for _ in 0..3 {
                let mut got = Vec::new();
                (0..DB_ALERT_WINDOWS).for_each(|_| got.extend(minute.judge(each)));
                assert_eq!(got, want, "{name}: the same each minute");
            }
        }
    }
}
