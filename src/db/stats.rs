//! The numbers of a database, of one shard and of all.

use serde::Serialize;
use std::sync::Arc;

use super::adapt::DbChange;
use super::backend::Backend;
use super::counting::DbClosed;
use super::handle::Db;
use super::health::DbAlert;
use super::slice::Slice;
use super::watch::lock;

/// Numbers of a database's connections and queries since the start: see [`Db::stats`]. As JSON it
/// is an object of the same names.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// # use soloist::sqlx::Sqlite;
/// # use soloist::{Db, prelude::*};
/// async fn stats(cx: &Ctx<Db<Sqlite>>) -> Result<Reply> {
///     cx.json(&cx.state().stats_everywhere())
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DbStats {
    /// Of which database: `PostgreSQL`, `MySQL`, `SQLite` or `Any`.
    pub database: &'static str,
    /// Connections that are open.
    pub open: usize,
    /// Of those, how many somebody holds.
    pub in_use: usize,
    /// Of those, how many nobody does.
    pub idle: usize,
    /// Connections that are being made.
    pub connecting: usize,
    /// Leases that are held: open ones, and those being made; with pools of their own for all
    /// shards.
    pub leases: usize,
    /// The budget of all shards, which moves if it is adaptive.
    pub budget: usize,
    /// What it is at most.
    pub open_max: usize,
    /// What the server allows, if it has been asked.
    pub server_connections_max: Option<u64>,
    /// Those that wait for a connection.
    pub waiters: usize,
    /// Queries that waited for a connection.
    pub waits: u64,
    /// Microseconds that half of them waited at most.
    pub wait_p50_us: u64,
    /// Microseconds that 99 of a hundred waited at most.
    pub wait_p99_us: u64,
    /// Microseconds that 999 of a thousand waited at most.
    pub wait_p999_us: u64,
    /// Waits that ended without a connection.
    pub acquire_timeouts: u64,
    /// Queries that were not let in: too many waited.
    pub refused: u64,
    /// Queries through the handle, those in transactions not among them.
    pub queries: u64,
    /// Of those, how many failed.
    pub errors: u64,
    /// Of those, how many took too long.
    pub query_timeouts: u64,
    /// Of the queries, how many went by a fast lane: see `Db::lane`.
    pub lane_queries: u64,
    /// Queries that a lane has left to the pool.
    pub lane_fallbacks: u64,
    /// Microseconds that half of the queries took at most.
    pub query_p50_us: u64,
    /// Microseconds that 99 of a hundred took at most.
    pub query_p99_us: u64,
    /// Microseconds that 999 of a thousand took at most.
    pub query_p999_us: u64,
    /// Connections that were made.
    pub opened: u64,
    /// Connections that could not be made.
    pub connect_errors: u64,
    /// Connections that were closed, by reason.
    pub closed: DbClosed,
    /// Queries that were stopped because nobody waited for them any more.
    pub stopped: u64,
    /// Leases that went from a shard to another.
    pub lease_moves: u64,
    /// Prepared statements of the idle connections, together.
    pub statements: usize,
    /// The servers, where there are replicas: what goes before is of the primary alone.
    pub servers: Vec<DbServer>,
    /// How often another server became the primary.
    pub elections: u64,
    /// Queries by name: see [`Db::named`].
    pub names: Vec<DbNamed>,
    /// The last changes of the budget.
    pub changes: Vec<DbChange>,
    /// The last alerts.
    pub alerts: Vec<DbAlert>,
}

/// The queries of one name: see [`Db::named`].
///
/// ```
/// # use soloist::DbNamed;
/// # fn log(named: &DbNamed) {
/// println!("{}: {} queries, 99 % within {} us", named.name, named.queries, named.p99_us);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DbNamed {
    /// What they are called.
    pub name: &'static str,
    /// How many there were.
    pub queries: u64,
    /// Microseconds that half of them took at most.
    pub p50_us: u64,
    /// Microseconds that 99 of a hundred took at most.
    pub p99_us: u64,
    /// Microseconds that 999 of a thousand took at most.
    pub p999_us: u64,
}

/// One server of a database that has replicas: see
/// [`DbOptions::replica`](crate::DbOptions::replica).
///
/// ```
/// # use soloist::DbServer;
/// # fn log(server: &DbServer) {
/// println!("{}: {} queries, {} ms behind", server.address, server.queries, server.lag_ms);
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DbServer {
    /// Where it is, without user and password.
    pub address: String,
    /// It has answered when it was last looked at, which is done once a second.
    pub answers: bool,
    /// It gets the writes.
    pub is_primary: bool,
    /// It is a replica that is near enough to get reads.
    pub gets_reads: bool,
    /// Milliseconds that it is behind the primary.
    pub lag_ms: u64,
    /// A higher one begins with each promotion; 0 where that is not known.
    pub timeline: u64,
    /// Connections that are open.
    pub open: usize,
    /// Of those, how many somebody holds.
    pub in_use: usize,
    /// Leases of its budget that are held.
    pub leases: usize,
    /// Those that wait for a connection to it.
    pub waiters: usize,
    /// Queries through the handle.
    pub queries: u64,
    /// Of those, how many failed.
    pub errors: u64,
    /// Microseconds that half of them took at most.
    pub query_p50_us: u64,
    /// Microseconds that 99 of a hundred took at most.
    pub query_p99_us: u64,
}

/// Numbers.
impl<B: Backend> Db<B> {
    /// Of this shard's connections to the primary.
    ///
    /// ```
    /// # use soloist::{Backend, Db};
    /// # fn sample<B: Backend>(db: &Db<B>) {
    /// println!("{} of {} in use", db.stats().in_use, db.stats().open);
    /// # }
    /// ```
    pub fn stats(&self) -> DbStats {
        let primary = self.cluster.standings.primary();
        let mut stats = sum(&[self.slices[primary].clone()], false);
        self.add_servers(&mut stats, |at| vec![self.slices[at].clone()]);
        stats
    }

    /// Of all shards of the process, with nothing to wait for.
    ///
    /// ```
    /// # use soloist::{Backend, Db};
    /// # fn sample<B: Backend>(db: &Db<B>) {
    /// let stats = db.stats_everywhere();
    /// assert!(stats.leases <= stats.budget);
    /// # }
    /// ```
    pub fn stats_everywhere(&self) -> DbStats {
        let primary = self.cluster.standings.primary();
        let mut stats = sum(&self.cluster.servers[primary].slices(), true);
        self.add_servers(&mut stats, |at| self.cluster.servers[at].slices());
        stats
    }

    fn add_servers(&self, stats: &mut DbStats, slices: impl Fn(usize) -> Vec<Arc<Slice<B>>>) {
        let standings = &self.cluster.standings;
        stats.elections = standings.elections();
        if self.slices.len() == 1 {
            return;
        }
        for at in 0..self.slices.len() {
            let (slices, seen) = (slices(at), standings.seen(at));
            let (its, is_away) = (sum(&slices, false), slices.iter().all(|it| it.is_away()));
            stats.servers.push(DbServer {
                address: standings.address(at),
                answers: seen.standing.is_some(),
                is_primary: at == standings.primary(),
                gets_reads: standings.is_well(at) && !is_away,
                lag_ms: seen.lag_ms,
                timeline: seen.standing.map_or(0, |it| it.timeline),
                open: its.open,
                in_use: its.in_use,
                leases: its.leases,
                waiters: its.waiters,
                queries: its.queries,
                errors: its.errors,
                query_p50_us: its.query_p50_us,
                query_p99_us: its.query_p99_us,
            });
        }
    }
}

fn sum<B: Backend>(slices: &[Arc<Slice<B>>], with_pools: bool) -> DbStats {
    let mut stats = DbStats { database: B::NAME, ..DbStats::default() };
    let Some(first) = slices.first() else { return stats };
    let server = &first.server;
    let empty = || hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000, 2);
    let mut waits = empty().expect("valid bounds");
    let mut queries = empty().expect("valid bounds");
    let mut names: Vec<(&'static str, hdrhistogram::Histogram<u64>)> = Vec::new();
    for slice in slices {
        let state = slice.state();
        stats.in_use += state.in_use;
        stats.idle += state.idle.len();
        stats.connecting += state.connecting;
        stats.waiters += state.waiters.len();
        stats.statements += state.idle.iter().map(|it| B::statements(&it.conn)).sum::<usize>();
        drop(state);
        stats.leases += server.budget.held_by(slice.shard);
        let counting = slice.counting();
        stats.waits += counting.waits;
        stats.acquire_timeouts += counting.acquire_timeouts;
        stats.refused += counting.refused;
        stats.queries += counting.queries;
        stats.errors += counting.errors;
        stats.query_timeouts += counting.query_timeouts;
        stats.lane_queries += counting.lane_queries;
        stats.lane_fallbacks += counting.lane_fallbacks;
        stats.opened += counting.opened;
        stats.connect_errors += counting.connect_errors;
        stats.closed.add(&counting.closed);
        stats.stopped += counting.stopped_on_server;
        let _ = waits.add(&counting.wait_us.0);
        let _ = queries.add(&counting.query_us.0);
        for (name, times) in &counting.names {
            match names.iter_mut().find(|it| it.0 == *name) {
                Some((_, sum)) => drop(sum.add(&times.0)),
                None => names.push((name, times.0.clone())),
            }
        }
    }
    let at = |times: &hdrhistogram::Histogram<u64>, quantile| {
        if times.is_empty() { 0 } else { times.value_at_quantile(quantile) }
    };
    stats.open = stats.in_use + stats.idle;
    stats.leases += if with_pools { server.budget.held_apart() } else { 0 };
    stats.budget = server.budget.limit();
    stats.open_max = server.options.open_max;
    stats.server_connections_max = lock(&server.rules).map(|it| it.connections_max);
    stats.lease_moves = server.budget.moves();
    (stats.wait_p50_us, stats.wait_p99_us) = (at(&waits, 0.5), at(&waits, 0.99));
    stats.wait_p999_us = at(&waits, 0.999);
    (stats.query_p50_us, stats.query_p99_us) = (at(&queries, 0.5), at(&queries, 0.99));
    stats.query_p999_us = at(&queries, 0.999);
    stats.names = names
        .iter()
        .map(|(name, times)| DbNamed {
            name,
            queries: times.len(),
            p50_us: at(times, 0.5),
            p99_us: at(times, 0.99),
            p999_us: at(times, 0.999),
        })
        .collect();
    stats.changes = lock(&server.adapt).changes();
    stats.alerts = lock(&server.minute).alerts.iter().copied().collect();
    stats
}
