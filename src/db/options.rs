//! What a database is asked for: its address, its bounds and its times.

use std::fmt;
use std::time::Duration;

use super::server::without_secrets;
use super::sizing::Sizing;
use crate::limits::{
    DB_ACQUIRE_MS_MAX, DB_CONNECT_MS_MAX, DB_IDLE_MS_MAX, DB_LAG_MS_MAX, DB_LANE_US_MAX,
    DB_LIFE_MS_MAX, DB_OPEN_MAX, DB_QUERY_MS_MAX, DB_STATEMENTS_MAX, DB_TEST_IDLE_MS,
    DB_WAITERS_MAX,
};

/// How [`Shard::db`](crate::Shard::db) is to reach a database: a URL and bounds, all with defaults
/// that are safe. What is about connections is for the whole process, unless it says otherwise.
///
/// ```
/// use std::time::Duration;
/// use soloist::{DbOptions, Workload};
///
/// let plain = DbOptions::new("postgres://ann@db.local/shop");
/// let tuned = DbOptions::new("postgres://ann@db.local/shop")
///     .sized(Workload::DatabaseIntensive) // 40 open, 10 kept idle, 5 minutes
///     .acquire_max(Duration::from_secs(1))
///     .replica("postgres://ann@replica.local/shop");
/// # assert_ne!(format!("{plain:?}"), format!("{tuned:?}"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DbOptions {
    pub(super) url: String,
    pub(super) replicas: Vec<String>,
    pub(super) open_max: usize,
    pub(super) open_min: usize,
    pub(super) idle_min: usize,
    pub(super) idle_max: usize,
    pub(super) life_max: Duration,
    pub(super) idle_for_max: Duration,
    pub(super) test_idle: Duration,
    pub(super) acquire_max: Duration,
    pub(super) connect_max: Duration,
    pub(super) query_max: Duration,
    pub(super) waiters_max: usize,
    pub(super) statements_max: usize,
    pub(super) lag_max: Duration,
    pub(super) lane_max: Duration,
    pub(super) is_lazy: bool,
    pub(super) is_behind_pooler: bool,
}

/// Without passwords.
impl fmt::Debug for DbOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbOptions")
            .field("url", &without_secrets(&self.url))
            .field("replicas", &self.replicas.len())
            .field("open_max", &self.open_max)
            .field("acquire_max", &self.acquire_max)
            .field("query_max", &self.query_max)
            .finish_non_exhaustive()
    }
}

impl From<&str> for DbOptions {
    fn from(url: &str) -> DbOptions {
        DbOptions::new(url)
    }
}

impl From<String> for DbOptions {
    fn from(url: String) -> DbOptions {
        DbOptions::new(url)
    }
}

impl DbOptions {
    /// A database by its URL, as sqlx reads it: `sqlite://todos.db`, `sqlite::memory:`,
    /// `postgres://user:password@host/name`, `mysql://..`.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// assert_eq!(DbOptions::from("sqlite://todos.db"), DbOptions::new("sqlite://todos.db"));
    /// ```
    pub fn new(url: impl Into<String>) -> DbOptions {
        DbOptions {
            url: url.into(),
            replicas: Vec::new(),
            open_max: DB_OPEN_MAX,
            open_min: 0,
            idle_min: 0,
            idle_max: usize::MAX,
            life_max: Duration::from_millis(DB_LIFE_MS_MAX),
            idle_for_max: Duration::from_millis(DB_IDLE_MS_MAX),
            test_idle: Duration::from_millis(DB_TEST_IDLE_MS),
            acquire_max: Duration::from_millis(DB_ACQUIRE_MS_MAX),
            connect_max: Duration::from_millis(DB_CONNECT_MS_MAX),
            query_max: Duration::from_millis(DB_QUERY_MS_MAX),
            waiters_max: DB_WAITERS_MAX,
            statements_max: DB_STATEMENTS_MAX,
            lag_max: Duration::from_millis(DB_LAG_MS_MAX),
            lane_max: Duration::from_micros(DB_LANE_US_MAX),
            is_lazy: false,
            is_behind_pooler: false,
        }
    }

    /// Connections that may be open at once, over all shards: the budget. Each shard can always
    /// have one, so there are at least as many as shards; the start fails where the server allows
    /// fewer. Default 25.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("sqlite://todos.db").open_max(8);
    /// ```
    pub fn open_max(mut self, count: usize) -> Self {
        self.open_max = count;
        self
    }

    /// Lets the budget move between this and [`open_max`](DbOptions::open_max): it grows while
    /// requests wait for connections, and shrinks while most are idle. Each change is logged with
    /// its reason. Off by default.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://db.local/shop").open_max(50).adaptive_from(10);
    /// ```
    pub fn adaptive_from(mut self, count: usize) -> Self {
        self.open_min = count;
        self
    }

    /// Connections that are kept open although nobody uses them, over all shards. Default: one a
    /// shard for SQLite in memory, else none.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://db.local/shop").idle_min(4);
    /// ```
    pub fn idle_min(mut self, count: usize) -> Self {
        self.idle_min = count;
        self
    }

    /// Idle connections beyond this are closed within a second, over all shards. No bound by
    /// default: their idle time ends them.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://db.local/shop").open_max(40).idle_max(10);
    /// ```
    pub fn idle_max(mut self, count: usize) -> Self {
        self.idle_max = count;
        self
    }

    /// A connection older than this is closed when it is next idle; each lives up to a tenth
    /// shorter, so that they do not all end at once. Keep it below what balancers and the server
    /// allow. Default 5 minutes.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let five = std::time::Duration::from_secs(5 * 60);
    /// let options = DbOptions::new("postgres://db.local/shop").life_max(five);
    /// ```
    pub fn life_max(mut self, length: Duration) -> Self {
        self.life_max = length;
        self
    }

    /// A connection that nobody used for so long is closed. Default 2 minutes.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let half = std::time::Duration::from_secs(30);
    /// let options = DbOptions::new("postgres://db.local/shop").idle_for_max(half);
    /// ```
    pub fn idle_for_max(mut self, length: Duration) -> Self {
        self.idle_for_max = length;
        self
    }

    /// A connection that was idle for so long is tested before it is used; others are not, which
    /// saves a round trip. Default 5 s.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let always = std::time::Duration::ZERO;
    /// let options = DbOptions::new("postgres://db.local/shop").test_idle(always);
    /// ```
    pub fn test_idle(mut self, length: Duration) -> Self {
        self.test_idle = length;
        self
    }

    /// How long a query waits for a connection: then 503 with Retry-After. Default 3 s.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let half = std::time::Duration::from_millis(500);
    /// let options = DbOptions::new("postgres://db.local/shop").acquire_max(half);
    /// ```
    pub fn acquire_max(mut self, length: Duration) -> Self {
        self.acquire_max = length;
        self
    }

    /// How long a connection may take to be made. Default 3 s.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let second = std::time::Duration::from_secs(1);
    /// let options = DbOptions::new("postgres://db.local/shop").connect_max(second);
    /// ```
    pub fn connect_max(mut self, length: Duration) -> Self {
        self.connect_max = length;
        self
    }

    /// How long a query may take: then it is cancelled on the server, and its request gets 503. A
    /// transaction is over with it. Not bounded is what runs on sqlx's own connection
    /// ([`Db::acquire`](crate::Db::acquire)), such as COPY and migrations. Default 30 s.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let two = std::time::Duration::from_secs(2);
    /// let options = DbOptions::new("postgres://db.local/shop").query_max(two);
    /// ```
    pub fn query_max(mut self, length: Duration) -> Self {
        self.query_max = length;
        self
    }

    /// How many may wait for a connection on one shard; more get 503 at once. Default 1,024.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://db.local/shop").waiters_max(64);
    /// ```
    pub fn waiters_max(mut self, count: usize) -> Self {
        self.waiters_max = count;
        self
    }

    /// Prepared statements that a connection keeps, the least used go first; 0 keeps none. Default
    /// 100. [`behind_pooler`](DbOptions::behind_pooler) sets it too.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://db.local/shop").statements_max(500);
    /// ```
    pub fn statements_max(mut self, count: usize) -> Self {
        self.statements_max = count;
        self
    }

    /// For a pooler in transaction mode, such as pgbouncer, that gives each transaction another
    /// server connection: no prepared statements are kept, a query with arguments has a transaction
    /// of its own, the budget is not held against the server's, and cancelled queries are not
    /// cancelled on the server, as nobody knows which of its connections runs them. For one that
    /// knows of prepared statements, [`statements_max`](DbOptions::statements_max) after it has
    /// them kept again.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://pooler.local:6432/shop").behind_pooler();
    /// ```
    pub fn behind_pooler(mut self) -> Self {
        self.is_behind_pooler = true;
        self.statements_max = 0;
        self
    }

    /// Adds a copy of the database to read from: see [`Ctx::db`](crate::Ctx::db). It has a budget
    /// of its own, of the same size.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://db.local/shop").replica("postgres://b.local/shop");
    /// ```
    pub fn replica(mut self, url: impl Into<String>) -> Self {
        self.replicas.push(url.into());
        self
    }

    /// A replica that is further behind gets no reads until it has caught up. Default 5 s.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let second = std::time::Duration::from_secs(1);
    /// let options = DbOptions::new("postgres://db.local/shop").lag_max(second);
    /// ```
    pub fn lag_max(mut self, length: Duration) -> Self {
        self.lag_max = length;
        self
    }

    /// SQLite: how long a query of a lane may keep the shard before it goes to the worker, where it
    /// runs as any other. 0 sends all of them there. Default 200 us.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let half = std::time::Duration::from_micros(500);
    /// let options = DbOptions::new("sqlite://users.db").lane_max(half);
    /// ```
    pub fn lane_max(mut self, length: Duration) -> Self {
        self.lane_max = length;
        self
    }

    /// Starts without the database: the first connection is made when somebody wants one. Else the
    /// start fails when the database is not there.
    ///
    /// ```
    /// # use soloist::DbOptions;
    /// let options = DbOptions::new("postgres://db.local/shop").lazy();
    /// ```
    pub fn lazy(mut self) -> Self {
        self.is_lazy = true;
        self
    }

    /// Takes sizes and times from a [`Sizing`], or the guide's for a [`Workload`](crate::Workload).
    ///
    /// ```
    /// use soloist::{DbOptions, Sizing, Workload};
    /// let mixed = DbOptions::new("postgres://db.local/shop").sized(Workload::Mixed);
    /// let cloud = DbOptions::new("postgres://db.local/shop").sized(Sizing::ssd(8)); // 32 open
    /// ```
    pub fn sized(mut self, sizing: impl Into<Sizing>) -> Self {
        let sizing = sizing.into();
        self.open_max = sizing.open_max;
        self.idle_min = sizing.idle_min;
        self.idle_max = sizing.idle_max;
        self.life_max = sizing.lifetime;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let options = DbOptions::new("postgres://ann:secret@db.local/shop");
        let shown = format!("{:?}", options.replica("postgres://ann:secret@b.local/shop"));
        assert!(shown.contains("db.local") && !shown.contains("secret"), "{shown}");
    }
}
