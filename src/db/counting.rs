//! What a slice counts.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::limits::DB_NAMES_MAX;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Life,
    Idle,
    Error,
    Stopped,
    Moved,
    Shrunk,
    Test,
    Replaced,
    Changed,
}

/// Connections that were closed, by reason: see [`DbStats`](crate::DbStats).
///
/// ```
/// # use soloist::DbClosed;
/// assert_eq!(DbClosed::default().moved, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DbClosed {
    /// Older than [`life_max`](crate::DbOptions::life_max).
    pub life: u64,
    /// Unused for [`idle_for_max`](crate::DbOptions::idle_for_max), or more than
    /// [`idle_max`](crate::DbOptions::idle_max) were idle.
    pub idle: u64,
    /// Lost, or in a state that nobody knows.
    pub error: u64,
    /// Its query was cancelled, or took too long.
    pub stopped: u64,
    /// Its lease went to another shard.
    pub moved: u64,
    /// The budget became smaller.
    pub shrunk: u64,
    /// It did not pass the test after it had been idle.
    pub test: u64,
    /// The address was changed: see [`Db::set_url`](crate::Db::set_url). A lane's: another server
    /// is the primary.
    pub replaced: u64,
    /// MySQL: something was set in its session that only ends with it.
    pub changed: u64,
}

impl DbClosed {
    pub(super) fn count(&mut self, why: Closed) {
        let field = match why {
            Closed::Life => &mut self.life,
            Closed::Idle => &mut self.idle,
            Closed::Error => &mut self.error,
            Closed::Stopped => &mut self.stopped,
            Closed::Moved => &mut self.moved,
            Closed::Shrunk => &mut self.shrunk,
            Closed::Test => &mut self.test,
            Closed::Replaced => &mut self.replaced,
            Closed::Changed => &mut self.changed,
        };
        *field += 1;
    }

    pub(super) fn add(&mut self, other: &DbClosed) {
        self.life += other.life;
        self.idle += other.idle;
        self.error += other.error;
        self.stopped += other.stopped;
        self.moved += other.moved;
        self.shrunk += other.shrunk;
        self.test += other.test;
        self.replaced += other.replaced;
        self.changed += other.changed;
    }
}

/// A minute: no time limit that makes sense is longer.
const TOOK_US_MAX: u64 = 60_000_000;

/// Times, in microseconds, to two digits.
pub(super) struct Times(pub(super) Histogram<u64>);

impl Times {
    fn new() -> Times {
        Times(Histogram::new_with_bounds(1, TOOK_US_MAX, 2).expect("valid bounds"))
    }

    fn record(&mut self, took_ns: u64) {
        let _ = self.0.record((took_ns / 1_000).clamp(1, TOOK_US_MAX));
    }

    pub(super) fn at(&self, quantile: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(quantile) }
    }
}

/// Of one slice, since it began.
pub(super) struct Counting {
    pub(super) queries: u64,
    pub(super) errors: u64,
    /// Of the queries, those that went by a lane, and those that a lane has left to the pool.
    pub(super) lane_queries: u64,
    pub(super) lane_fallbacks: u64,
    /// Waits for a connection, those that ended without one too.
    pub(super) waits: u64,
    pub(super) acquire_timeouts: u64,
    pub(super) query_timeouts: u64,
    /// Not let in: too many waited.
    pub(super) refused: u64,
    pub(super) opened: u64,
    pub(super) connect_errors: u64,
    pub(super) closed: DbClosed,
    pub(super) stopped_on_server: u64,
    pub(super) query_us: Times,
    pub(super) wait_us: Times,
    /// Waits of this window.
    pub(super) window_wait_us: Times,
    pub(super) names: Vec<(&'static str, Times)>,
}

impl Counting {
    pub(super) fn new() -> Counting {
        Counting {
            queries: 0,
            errors: 0,
            lane_queries: 0,
            lane_fallbacks: 0,
            waits: 0,
            acquire_timeouts: 0,
            query_timeouts: 0,
            refused: 0,
            opened: 0,
            connect_errors: 0,
            closed: DbClosed::default(),
            stopped_on_server: 0,
            query_us: Times::new(),
            wait_us: Times::new(),
            window_wait_us: Times::new(),
            names: Vec::new(),
        }
    }

    pub(super) fn query(&mut self, name: Option<&'static str>, took_ns: u64, failed: bool) {
        self.queries += 1;
        self.errors += u64::from(failed);
        self.query_us.record(took_ns);
        let Some(name) = name else { return };
        let at = self.names.iter().position(|it| it.0 == name).or_else(|| {
            let is_room = self.names.len() < DB_NAMES_MAX;
            is_room.then(|| self.names.push((name, Times::new())));
            is_room.then_some(self.names.len() - 1)
        });
        if let Some(at) = at {
            self.names[at].1.record(took_ns);
        }
    }

    /// One that went by a lane.
    #[cfg(any(feature = "postgres-lane", feature = "sqlite-lane"))]
    pub(super) fn lane(&mut self, name: Option<&'static str>, took_ns: u64, failed: bool) {
        self.query(name, took_ns, failed);
        self.lane_queries += 1;
    }

    pub(super) fn wait(&mut self, took_ns: u64) {
        self.waits += 1;
        self.wait_us.record(took_ns);
        self.window_wait_us.record(took_ns);
    }

    pub(super) fn timed_out(&mut self) {
        self.queries += 1;
        self.errors += 1;
        self.query_timeouts += 1;
    }
}
