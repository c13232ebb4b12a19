//! What databases differ in.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Connection, Database, Executor};

use super::call::Call;
use super::options::DbOptions;
#[cfg(feature = "mysql")]
use super::query::sets_session;

/// sqlx's name for what a connection is made with.
pub(super) type ConnectWith<B> = <<B as Database>::Connection as Connection>::Options;

/// A database that [`Shard::db`](crate::Shard::db) can reach: sqlx's `Sqlite`, `Postgres`, `MySql`,
/// and `Any`, which is one of those by its URL.
///
/// ```
/// use soloist::{Backend, Db, sqlx};
///
/// /// For code that does not care which.
/// fn describe<B: Backend>(_: &Db<B>) -> &'static str {
///     B::NAME
/// }
/// ```
pub trait Backend: Call {
    /// What a connection is made with: the URL's, and what the options say.
    #[doc(hidden)]
    fn connect_with(url: &str, options: &DbOptions) -> Result<ConnectWith<Self>, sqlx::Error>;

    /// Makes a new connection ready, and learns how its queries are stopped.
    #[doc(hidden)]
    fn greet(
        conn: &mut Self::Connection,
        options: &DbOptions,
    ) -> impl Future<Output = Result<Stop, sqlx::Error>> + Send;

    /// How many connections the server allows.
    #[doc(hidden)]
    fn rules(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<Option<Rules>, sqlx::Error>> + Send;

    /// Whether it is a copy, and how far behind.
    #[doc(hidden)]
    fn standing(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<Standing, sqlx::Error>> + Send;

    /// Runs a statement.
    #[doc(hidden)]
    fn run(
        conn: &mut Self::Connection,
        statement: String,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Makes one of which nobody knows what was left on it as if it were new; an error, if it
    /// cannot be, or is in a transaction.
    #[doc(hidden)]
    fn cleanse(
        conn: &mut Self::Connection,
        options: &DbOptions,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Whether one connection writes at a time, and the others of the process wait their turn.
    #[doc(hidden)]
    fn has_one_writer(_url: &str) -> bool {
        false
    }

    /// Whether its data is gone with its last connection.
    #[doc(hidden)]
    fn is_in_memory(_url: &str) -> bool {
        false
    }

    /// Whether a pooler stands between that knows of no prepared statements.
    #[doc(hidden)]
    fn is_pooled(url: &str, options: &DbOptions) -> bool {
        // MySQL's protocol has them closed by number, and its poolers translate those.
        url.starts_with("postgres") && options.is_behind_pooler && options.statements_max == 0
    }

    /// How a transaction begins that may write.
    #[doc(hidden)]
    fn begin(_url: &str) -> Option<&'static str> {
        None
    }

    /// Whether an error has rolled the transaction back that it happened in, and the server would
    /// run what follows outside of one.
    #[doc(hidden)]
    fn ends_transaction(_error: &dyn DatabaseError) -> bool {
        false
    }

    /// Whether a text sets what nothing takes back but another connection.
    #[doc(hidden)]
    fn marks(_conn: &Self::Connection, _sql: &str) -> bool {
        false
    }

    /// Prepared statements that a connection keeps.
    #[doc(hidden)]
    fn statements(_conn: &Self::Connection) -> usize {
        0
    }
}

/// How what runs on a connection is stopped from elsewhere.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Stop {
    /// It is not.
    Never,
    /// By this statement on another connection.
    Statement(String),
    /// By a flag that the connection looks at while it works.
    Flag(Arc<AtomicBool>),
}

impl Stop {
    /// Makes a stopped connection ready to go on.
    pub(super) fn reset(&self) {
        if let Stop::Flag(flag) = self {
            flag.store(false, Ordering::Release);
        }
    }
}

/// Connections that a server allows.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub connections_max: u64,
    /// Of those, for administrators only.
    pub reserved: u64,
}

/// Where a server stands among its copies.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub is_replica: bool,
    /// How far behind a replica says that it is.
    pub lag_ms: u64,
    /// A higher one begins with each promotion; 0 where that is not known.
    pub timeline: u64,
    /// How far it is in the log of changes, which all of a timeline share; 0 where that is not
    /// known.
    pub position: u64,
}

impl Standing {
    pub(super) const PRIMARY: Standing =
        Standing { is_replica: false, lag_ms: 0, timeline: 0, position: 0 };
}

/// The same for each type of connection that may be one to MySQL.
macro_rules! mysql_standing {
    ($conn:ident) => {{
        let (read_only, version): (i64, String) =
            sqlx::query_as(MYSQL_READ_ONLY).fetch_one(&mut *$conn).await?;
        let is_mariadb = version.contains("MariaDB");
        let changes = if is_mariadb { MARIADB_CHANGES } else { MYSQL_CHANGES };
        let changes: String = sqlx::query_scalar(changes).fetch_one($conn).await?;
        // How far behind in time needs a privilege that applications lack.
        let position = changes_in(&changes);
        Ok(Standing { is_replica: read_only != 0, lag_ms: 0, timeline: 0, position })
    }};
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::str::FromStr;
    use std::time::Duration;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
    use sqlx::{Sqlite, SqliteConnection};

    use super::*;
    use crate::limits::{SQLITE_BUSY_MS_MAX, SQLITE_PROGRESS_OPS};

    impl Backend for Sqlite {
        fn connect_with(
            url: &str,
            options: &DbOptions,
        ) -> Result<SqliteConnectOptions, sqlx::Error> {
            let with = SqliteConnectOptions::from_str(url)?
                .busy_timeout(Duration::from_millis(SQLITE_BUSY_MS_MAX))
                .foreign_keys(true)
                .statement_cache_capacity(options.statements_max)
                .thread_name(|n| format!("soloist-sqlite-{n}"));
            if is_sqlite_memory(url) || url.contains("mode=ro") || url.contains("immutable") {
                return Ok(with);
            }
            let with =
                with.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Normal);
            // Unless the URL says otherwise.
            Ok(if url.contains("mode=") { with } else { with.create_if_missing(true) })
        }

        async fn greet(
            conn: &mut SqliteConnection,
            _options: &DbOptions,
        ) -> Result<Stop, sqlx::Error> {
            let flag = Arc::new(AtomicBool::new(false));
            let seen = flag.clone();
            let goes_on = move || !seen.load(Ordering::Acquire);
            conn.lock_handle().await?.set_progress_handler(SQLITE_PROGRESS_OPS, goes_on);
            Ok(Stop::Flag(flag))
        }

        async fn rules(_conn: &mut SqliteConnection) -> Result<Option<Rules>, sqlx::Error> {
            Ok(None)
        }

        async fn cleanse(conn: &mut SqliteConnection, _: &DbOptions) -> Result<(), sqlx::Error> {
            sqlite_end(conn.execute(ROLLBACK).await)
        }

        async fn run(conn: &mut SqliteConnection, statement: String) -> Result<(), sqlx::Error> {
            conn.execute(AssertSqlSafe(statement)).await.map(drop)
        }

        async fn standing(_conn: &mut SqliteConnection) -> Result<Standing, sqlx::Error> {
            Ok(Standing::PRIMARY)
        }

        fn has_one_writer(_url: &str) -> bool {
            true
        }

        fn is_in_memory(url: &str) -> bool {
            is_sqlite_memory(url)
        }

        fn begin(_url: &str) -> Option<&'static str> {
            // One that has read before it writes would fail where another has written meanwhile.
            Some("BEGIN IMMEDIATE")
        }

        fn statements(conn: &SqliteConnection) -> usize {
            conn.cached_statements_size()
        }
    }
}

/// Ends a transaction, one that sqlx knows nothing of too.
const ROLLBACK: &str = "ROLLBACK";

/// What became of it on SQLite, where it is an error of no special kind that there is none.
fn sqlite_end<T>(ended: Result<T, sqlx::Error>) -> Result<(), sqlx::Error> {
    match ended {
        Err(sqlx::Error::Database(it)) if it.code().as_deref() == Some("1") => Ok(()),
        ended => ended.map(drop),
    }
}

/// sqlx takes a URL for one of its own whatever it begins with.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn has_scheme(url: &str, schemes: &[&str]) -> Result<(), sqlx::Error> {
    if url.split_once(':').is_some_and(|(scheme, _)| schemes.contains(&scheme)) {
        return Ok(());
    }
    Err(sqlx::Error::Configuration(format!("it does not begin with {}://", schemes[0]).into()))
}

/// Whether such a URL is of SQLite, and of no file.
fn is_sqlite_memory(url: &str) -> bool {
    url.starts_with("sqlite:") && (url.contains(":memory:") || url.contains("mode=memory"))
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::str::FromStr;

    use sqlx::postgres::PgConnectOptions;
    use sqlx::{FromRow, PgConnection, Postgres, Row};

    use super::*;

    impl Backend for Postgres {
        fn connect_with(url: &str, options: &DbOptions) -> Result<PgConnectOptions, sqlx::Error> {
            has_scheme(url, &["postgres", "postgresql"])?;
            let with =
                PgConnectOptions::from_str(url)?.statement_cache_capacity(options.statements_max);
            let is_named = with.get_application_name().is_some();
            Ok(if is_named { with } else { with.application_name("soloist") })
        }

        async fn greet(conn: &mut PgConnection, options: &DbOptions) -> Result<Stop, sqlx::Error> {
            if options.is_behind_pooler {
                return Ok(Stop::Never);
            }
            let row = sqlx::raw_sql(PG_ID).fetch_one(conn).await?;
            Ok(Stop::Statement(pg_stop(row.try_get::<i32, _>(0)?.into())))
        }

        async fn rules(conn: &mut PgConnection) -> Result<Option<Rules>, sqlx::Error> {
            let row = sqlx::raw_sql(PG_RULES).fetch_one(conn).await?;
            Ok(Some(rules(row.try_get(0)?, row.try_get(1)?)))
        }

        async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
            conn.execute(AssertSqlSafe(statement)).await.map(drop)
        }

        async fn cleanse(conn: &mut PgConnection, options: &DbOptions) -> Result<(), sqlx::Error> {
            conn.execute(sqlx::raw_sql(pg_cleanse(options))).await.map(drop)
        }

        async fn standing(conn: &mut PgConnection) -> Result<Standing, sqlx::Error> {
            let row = sqlx::raw_sql(PG_STANDING).fetch_one(conn).await?;
            Ok(pg_standing(FromRow::from_row(&row)?))
        }

        fn statements(conn: &PgConnection) -> usize {
            conn.cached_statements_size()
        }
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use std::str::FromStr;

    use sqlx::mysql::MySqlConnectOptions;
    use sqlx::{MySql, MySqlConnection};

    use super::*;

    impl Backend for MySql {
        fn connect_with(
            url: &str,
            options: &DbOptions,
        ) -> Result<MySqlConnectOptions, sqlx::Error> {
            has_scheme(url, &["mysql", "mariadb"])?;
            let with = MySqlConnectOptions::from_str(url)?;
            Ok(with.statement_cache_capacity(options.statements_max))
        }

        async fn greet(
            conn: &mut MySqlConnection,
            options: &DbOptions,
        ) -> Result<Stop, sqlx::Error> {
            if options.is_behind_pooler {
                return Ok(Stop::Never);
            }
            let id: i64 = sqlx::query_scalar(MYSQL_ID).fetch_one(conn).await?;
            Ok(Stop::Statement(mysql_stop(id)))
        }

        async fn rules(conn: &mut MySqlConnection) -> Result<Option<Rules>, sqlx::Error> {
            let connections_max: i64 = sqlx::query_scalar(MYSQL_RULES).fetch_one(conn).await?;
            Ok(Some(rules(connections_max, 0)))
        }

        async fn cleanse(
            conn: &mut MySqlConnection,
            options: &DbOptions,
        ) -> Result<(), sqlx::Error> {
            conn.execute(sqlx::raw_sql(mysql_cleanse(options))).await.map(drop)
        }

        async fn run(conn: &mut MySqlConnection, statement: String) -> Result<(), sqlx::Error> {
            conn.execute(AssertSqlSafe(statement)).await.map(drop)
        }

        async fn standing(conn: &mut MySqlConnection) -> Result<Standing, sqlx::Error> {
            mysql_standing!(conn)
        }

        fn ends_transaction(error: &dyn DatabaseError) -> bool {
            error.code().as_deref() == Some(MYSQL_ROLLED_BACK)
        }

        fn marks(_conn: &MySqlConnection, sql: &str) -> bool {
            sets_session(sql)
        }

        fn statements(conn: &MySqlConnection) -> usize {
            conn.cached_statements_size()
        }
    }
}

const PG_ID: &str = "SELECT pg_backend_pid()";
const PG_RULES: &str = "SELECT current_setting('max_connections')::int8, \
    current_setting('superuser_reserved_connections')::int8";
/// A copy that has replayed all it was sent says that it is not behind, however long ago that was.
/// What timeline it is sent is told to those of `pg_monitor` alone.
const PG_STANDING: &str = "SELECT pg_is_in_recovery(), CASE \
    WHEN NOT pg_is_in_recovery() THEN 0 \
    WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
    ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()) * 1000, 0) \
    END::int8, CASE \
    WHEN pg_is_in_recovery() \
    THEN (SELECT coalesce(max(received_tli), 0) FROM pg_stat_wal_receiver) \
    ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8 \
    END::int8, (CASE \
    WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') \
    ELSE pg_current_wal_lsn() \
    END - '0/0'::pg_lsn)::int8";
/// Divides by zero in a transaction: it began before its statement.
const PG_PROOF: &str = "SELECT 1 / (now() = statement_timestamp())::int";
/// `DISCARD ALL` without prepared statements, which sqlx counts on.
const PG_CLEANSE: &str = "SELECT 1 / (now() = statement_timestamp())::int; CLOSE ALL; \
    SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); \
    DISCARD TEMP; DISCARD SEQUENCES";
/// Variables of the session stay: nothing but a new one is without them.
const MYSQL_CLEANSE: &str = "ROLLBACK; UNLOCK TABLES; DO RELEASE_ALL_LOCKS()";
/// SQLSTATE of a deadlock.
#[cfg(feature = "mysql")]
const MYSQL_ROLLED_BACK: &str = "40001";
const MYSQL_ID: &str = "SELECT CAST(CONNECTION_ID() AS SIGNED)";
const MYSQL_RULES: &str = "SELECT CAST(@@max_connections AS SIGNED)";
const MYSQL_READ_ONLY: &str = "SELECT CAST(@@read_only AS SIGNED), version()";
/// None where the server keeps no log of changes that is numbered.
const MYSQL_CHANGES: &str = "SELECT CAST(@@global.gtid_executed AS CHAR)";
const MARIADB_CHANGES: &str = "SELECT CAST(@@global.gtid_current_pos AS CHAR)";

fn pg_standing(row: (bool, i64, i64, i64)) -> Standing {
    let (is_replica, lag, timeline, position) = row;
    let [lag_ms, timeline, position] = [lag, timeline, position].map(|it| it.max(0) as u64);
    Standing { is_replica, lag_ms, timeline, position }
}

/// How many changes a set of them names: `0-1-270,1-1-7` (domain, server, last one) of MariaDB,
/// `uuid:1-5:8,uuid:1-9` (ranges) of MySQL.
fn changes_in(set: &str) -> u64 {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let of_one = |one: &str| match one.split_once(':') {
        None => one.rsplit_once('-').map_or(0, |(_, last)| number(last)),
        Some((_, ranges)) => {
            let count = |range: &str| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last) = (number(first), number(last));
                if first == 0 { 0 } else { last.saturating_sub(first - 1) }
            };
            ranges.split(':').map(count).fold(0, u64::saturating_add)
        }
    };
    set.split(',').map(of_one).fold(0, u64::saturating_add)
}

fn mysql_cleanse(options: &DbOptions) -> &'static str {
    if options.is_behind_pooler { ROLLBACK } else { MYSQL_CLEANSE }
}

fn pg_cleanse(options: &DbOptions) -> &'static str {
    // A pooler's sessions are not ours.
    if options.is_behind_pooler { PG_PROOF } else { PG_CLEANSE }
}

fn pg_stop(id: i64) -> String {
    format!("SELECT pg_cancel_backend({id})")
}

fn mysql_stop(id: i64) -> String {
    format!("KILL QUERY {id}")
}

fn rules(connections_max: i64, reserved: i64) -> Rules {
    Rules { connections_max: connections_max.max(0) as u64, reserved: reserved.max(0) as u64 }
}

mod any {
    use std::str::FromStr;
    use std::sync::Once;
    use std::sync::atomic::AtomicUsize;

    use sqlx::any::AnyConnectOptions;
    use sqlx::{Any, AnyConnection};

    use super::*;

    impl Backend for Any {
        fn connect_with(url: &str, _options: &DbOptions) -> Result<AnyConnectOptions, sqlx::Error> {
            static DRIVERS: Once = Once::new();
            DRIVERS.call_once(sqlx::any::install_default_drivers);
            if url.starts_with("sqlite:") && url.contains(":memory:") {
                // It reads the URL for each connection: each would be a database of its own.
                static COUNT: AtomicUsize = AtomicUsize::new(0);
                let number = COUNT.fetch_add(1, Ordering::Relaxed);
                let shared = format!("sqlite:file:soloist-{number}?mode=memory&cache=shared");
                return AnyConnectOptions::from_str(&shared);
            }
            if !url.starts_with("sqlite:") || url.contains("mode=") {
                return AnyConnectOptions::from_str(url);
            }
            // A file is made, as for who asks for SQLite by its type.
            let first = if url.contains('?') { '&' } else { '?' };
            AnyConnectOptions::from_str(&format!("{url}{first}mode=rwc"))
        }

        async fn greet(conn: &mut AnyConnection, options: &DbOptions) -> Result<Stop, sqlx::Error> {
            match conn.backend_name() {
                "SQLite" => {
                    conn.execute(SQLITE_GREETING).await?;
                    Ok(Stop::Never)
                }
                _ if options.is_behind_pooler => Ok(Stop::Never),
                "PostgreSQL" => {
                    let id: i32 = sqlx::query_scalar(PG_ID).fetch_one(conn).await?;
                    Ok(Stop::Statement(pg_stop(id.into())))
                }
                _ => {
                    let id: i64 = sqlx::query_scalar(MYSQL_ID).fetch_one(conn).await?;
                    Ok(Stop::Statement(mysql_stop(id)))
                }
            }
        }

        async fn rules(conn: &mut AnyConnection) -> Result<Option<Rules>, sqlx::Error> {
            match conn.backend_name() {
                "PostgreSQL" => {
                    let row = sqlx::query_as::<_, (i64, i64)>(PG_RULES).fetch_one(conn).await?;
                    Ok(Some(rules(row.0, row.1)))
                }
                "MySQL" => {
                    let connections_max = sqlx::query_scalar(MYSQL_RULES).fetch_one(conn).await?;
                    Ok(Some(rules(connections_max, 0)))
                }
                _ => Ok(None),
            }
        }

        async fn run(conn: &mut AnyConnection, statement: String) -> Result<(), sqlx::Error> {
            conn.execute(AssertSqlSafe(statement)).await.map(drop)
        }

        async fn cleanse(conn: &mut AnyConnection, options: &DbOptions) -> Result<(), sqlx::Error> {
            let statements = match conn.backend_name() {
                "PostgreSQL" => pg_cleanse(options),
                "MySQL" => mysql_cleanse(options),
                _ => return sqlite_end(conn.execute(ROLLBACK).await),
            };
            conn.execute(sqlx::raw_sql(statements)).await.map(drop)
        }

        async fn standing(conn: &mut AnyConnection) -> Result<Standing, sqlx::Error> {
            match conn.backend_name() {
                "PostgreSQL" => Ok(pg_standing(sqlx::query_as(PG_STANDING).fetch_one(conn).await?)),
                "MySQL" => mysql_standing!(conn),
                _ => Ok(Standing::PRIMARY),
            }
        }

        fn has_one_writer(url: &str) -> bool {
            url.starts_with("sqlite:")
        }

        #[cfg(feature = "mysql")]
        fn ends_transaction(error: &dyn DatabaseError) -> bool {
            let error = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
            error.is_some_and(|it| sqlx::MySql::ends_transaction(it))
        }

        #[cfg(feature = "mysql")]
        fn marks(conn: &AnyConnection, sql: &str) -> bool {
            conn.backend_name() == "MySQL" && sets_session(sql)
        }

        fn is_in_memory(url: &str) -> bool {
            is_sqlite_memory(url)
        }

        fn begin(url: &str) -> Option<&'static str> {
            url.starts_with("sqlite:").then_some("BEGIN IMMEDIATE")
        }
    }

    const SQLITE_GREETING: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
        PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;";
}

#[cfg(test)]
mod tests {
    use super::changes_in;

    #[test]
    fn changes_are_counted() {
        for (set, count) in [
            ("", 0),
            ("0-1-270", 270),
            ("0-1-270,1-2-7", 277),
            ("3e11fa47-71ca-11e1-9e33-c80aa9429562:23", 1),
            ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", 5),
            ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:8:11-20,\n3e11fa48-0-0-0-0:1-9", 25),
            ("nonsense", 0),
            ("0-1-99999999999999999999", 0),
            (":::--,,-", 0),
        ] {
            assert_eq!(changes_in(set), count, "{set}");
        }
    }
}
