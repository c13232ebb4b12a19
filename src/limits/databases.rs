//! Bounds of databases.

/// Connections to one database for the whole process: the guide's for 100 to 1,000 clients.
pub(crate) const DB_OPEN_MAX: usize = 25;
/// Age of a connection at which it is closed: below the 5 minutes of common balancers.
pub(crate) const DB_LIFE_MS_MAX: u64 = 5 * 60_000;
/// Time without a use after which a connection is closed.
pub(crate) const DB_IDLE_MS_MAX: u64 = 2 * 60_000;
/// Time without a use after which a connection is tested before the next one.
pub(crate) const DB_TEST_IDLE_MS: u64 = 5_000;
/// How long a query waits for a connection.
pub(crate) const DB_ACQUIRE_MS_MAX: u64 = 3_000;
/// How long a connection may take to be made.
pub(crate) const DB_CONNECT_MS_MAX: u64 = 3_000;
/// How long a query may take.
pub(crate) const DB_QUERY_MS_MAX: u64 = 30_000;
/// Those who wait for a connection on one shard.
pub(crate) const DB_WAITERS_MAX: usize = 1_024;
/// Connections that one shard makes at once while the server is well: each takes several ways to
/// and fro, and a busy server some time for each.
pub(crate) const DB_CONNECTS_MAX: usize = 16;
/// Prepared statements of a connection, as of sqlx.
pub(crate) const DB_STATEMENTS_MAX: usize = 100;
/// How far behind a replica may be.
pub(crate) const DB_LAG_MS_MAX: u64 = 5_000;
/// A turn of the keeper while somebody waits or a query runs: what time limits are late by.
pub(crate) const DB_TURN_MS: u64 = 10;
/// How long a connection is not needed before its lease goes to a shard that waits for one, and the
/// time between two that a busy shard gives away: shorter, and leases would follow chance.
pub(crate) const DB_SPARE_MS: u64 = 30;
/// A turn of the keeper otherwise: what ages and idle times are late by.
pub(crate) const DB_IDLE_TURN_MS: u64 = 1_000;
/// Pauses between tries to connect, doubled each time.
pub(crate) const DB_BACKOFF_MS_MIN: u64 = 50;
pub(crate) const DB_BACKOFF_MS_MAX: u64 = 2_000;
/// How long a server may have "too many clients" while the budget says otherwise: it takes a moment
/// to notice that a connection was closed.
pub(crate) const DB_FULL_MS_MAX: u64 = 500;
/// How long a connection may take to prove that it is ready for another query.
pub(crate) const DB_PROOF_MS_MAX: u64 = 250;
/// How long a connection may take to say goodbye, and one that cancels queries to do so.
pub(crate) const DB_CLOSE_MS_MAX: u64 = 1_000;
/// Rows of a stream that come at once before others of the shard have their turn.
pub(crate) const DB_ROWS_A_TURN: usize = 64;
/// Values of one IN: half of what SQLite binds, which leaves the rest to other conditions. A power
/// of two.
pub(crate) const DB_IN_VALUES_MAX: usize = 16_384;
/// Rows of one INSERT: beyond, they come no faster, and the statement grows.
pub(crate) const DB_INSERT_ROWS_MAX: usize = 512;
/// An INSERT of so many rows is kept prepared, as is one of the most rows; others are not, or each
/// count would push another statement out.
pub(crate) const DB_INSERT_ROWS_KEPT: usize = 8;
/// Statements of a batch before others of the shard have their turn.
pub(crate) const DB_STATEMENTS_A_TURN: usize = 16;
/// Names of statements that a shard keeps times of; the rest is counted together.
pub(crate) const DB_NAMES_MAX: usize = 64;
/// What sizes and alerts are judged by.
pub(crate) const DB_WINDOW_MS: u64 = 1_000;
/// A wait for a connection that is too long, at the 99th percentile of a window.
pub(crate) const DB_WAIT_US_MAX: u64 = 2_000;
/// Windows in a row that make an adaptive budget grow, and shrink.
pub(crate) const DB_GROW_WINDOWS: u32 = 2;
pub(crate) const DB_SHRINK_WINDOWS: u32 = 30;
/// Changes of a budget that are remembered.
pub(crate) const DB_CHANGES_MAX: usize = 16;
/// Windows over which alerts are judged: a minute.
pub(crate) const DB_ALERT_WINDOWS: u32 = 60;
/// Waits in a minute that are worth an alert, as in the guide.
pub(crate) const DB_ALERT_WAITS: u64 = 1_000;
/// Between two looks at the standing of primaries and replicas, and how long one may take.
pub(crate) const DB_HEALTH_MS: u64 = 1_000;
/// Places of a primary in its log that are remembered, one a look: what a replica is held against.
pub(crate) const DB_POSITIONS_MAX: usize = 128;
/// PostgreSQL: queries on their way over the lane of a shard. More wait: that many are answered in
/// some 20 ms, and one that is slow holds up no more than these.
#[cfg(feature = "postgres-lane")]
pub(crate) const LANE_QUERIES_MAX: usize = 1_024;
/// How long a statement of a lane may run on the server, which ends it then: others are behind it.
#[cfg(feature = "postgres-lane")]
pub(crate) const LANE_STATEMENT_MS_MAX: u64 = 1_000;
/// How long after that an answer is awaited before the connection counts as dead.
#[cfg(feature = "postgres-lane")]
pub(crate) const LANE_GRACE_MS: u64 = 1_000;
/// Between two looks at a lane with queries on their way, by which its times may be late.
#[cfg(feature = "postgres-lane")]
pub(crate) const LANE_LOOK_MS: u64 = 50;
/// SQLite: how long one that writes waits for another process to end its own.
#[cfg(feature = "sqlite")]
pub(crate) const SQLITE_BUSY_MS_MAX: u64 = 5_000;
/// SQLite: operations of its machine between two looks at whether the query was cancelled.
#[cfg(feature = "sqlite")]
pub(crate) const SQLITE_PROGRESS_OPS: i32 = 2_000;
/// How long a query of a lane may keep its shard: what all the others of a turn wait for it.
pub(crate) const DB_LANE_US_MAX: u64 = 200;
/// SQLite on the shard: operations of its machine between two looks at the clock, 10 to 50 us.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_OPS: i32 = 1_000;
/// Rows between two looks at the clock, for operations that are few and rows that are large.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_ROWS: usize = 16;
/// A value or a row that is larger is read by the worker: it is copied in one go, about 50 us.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_BYTES_MAX: i32 = 512 * 1024;
/// Queries of a lane that end at once before others of the shard have their turn, and their time.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_QUERIES_A_TURN: u32 = 64;
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_TURN_US_MAX: u64 = 500;
/// Statements that a lane knows to be slow.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_SLOW_MAX: usize = 64;
/// How long a slow statement goes to the worker before it is tried again; doubled each time.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_SLOW_MS_MIN: u64 = 1_000;
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_SLOW_MS_MAX: u64 = 60_000;
/// A statement is slow when it was late this often in a row: the kernel may have given the core to
/// another thread.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_LATE_MAX: u32 = 4;
/// A file that could not be opened for the lane is not tried again before this.
#[cfg(feature = "sqlite-lane")]
pub(crate) const SQLITE_LANE_REOPEN_MS: u64 = 1_000;

const _: () = assert!(DB_IN_VALUES_MAX.is_power_of_two());
const _: () = assert!(DB_INSERT_ROWS_KEPT < DB_INSERT_ROWS_MAX);
