//! What went wrong with a database, by name.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use sqlx::error::{DatabaseError, ErrorKind};

use crate::error::Verdict;

/// What a failed query is about, whatever the database.
///
/// ```
/// use soloist::{DbFault, prelude::*, sqlx};
///
/// fn as_answer(error: sqlx::Error) -> Error {
///     match DbFault::of(&error) {
///         DbFault::Unique => Error::new(409, "the name is taken").because(error),
///         DbFault::NotFound => Error::not_found(),
///         _ => error.into(), // 503 with Retry-After where the database is the cause, else 500
///     }
/// }
/// assert_eq!(as_answer(sqlx::Error::RowNotFound).status(), 404);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DbFault {
    /// No connection became free within the time for it, or too many wait: 503.
    PoolExhausted,
    /// The query took longer than [`query_max`](crate::DbOptions::query_max): 503.
    TooSlow,
    /// Nobody answers, or the connection was lost: 503.
    Unreachable,
    /// The server is starting, stopping, or has ended the connection: 503.
    Restarting,
    /// The server has as many connections as it allows: 503.
    TooManyClients,
    /// The query was cancelled on the server: 503.
    Cancelled,
    /// It met another transaction (serialization failure, deadlock): 503, run it again.
    Conflict,
    /// SQLite: another connection writes, and did for longer than the busy time: 503.
    Busy,
    /// The server, or the file, can only be read: 503.
    ReadOnly,
    /// No space is left: 507.
    Full,
    /// The file is damaged, or no database: 500.
    Corrupt,
    /// The disk, or the file system, fails to read or to write: 500.
    Disk,
    /// A value is there already: 500 unless you say otherwise.
    Unique,
    /// A reference leads nowhere: 500 unless you say otherwise.
    ForeignKey,
    /// A check or a NOT NULL does not hold: 500 unless you say otherwise.
    Check,
    /// `fetch_one` found no row: 500 unless you say otherwise.
    NotFound,
    /// Anything else, mostly a mistake in the query: 500.
    Other,
}

impl DbFault {
    /// What an error is about.
    ///
    /// ```
    /// # use soloist::{DbFault, sqlx};
    /// assert_eq!(DbFault::of(&sqlx::Error::RowNotFound), DbFault::NotFound);
    /// ```
    pub fn of(error: &sqlx::Error) -> DbFault {
        match error {
            sqlx::Error::Io(io) => of_io(io),
            sqlx::Error::RowNotFound => DbFault::NotFound,
            sqlx::Error::PoolTimedOut => DbFault::PoolExhausted,
            sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => DbFault::Unreachable,
            sqlx::Error::WorkerCrashed => DbFault::Unreachable,
            sqlx::Error::Database(database) => match database.kind() {
                ErrorKind::UniqueViolation => DbFault::Unique,
                ErrorKind::ForeignKeyViolation => DbFault::ForeignKey,
                ErrorKind::NotNullViolation | ErrorKind::CheckViolation => DbFault::Check,
                _ => of_mysql(&**database).unwrap_or_else(|| {
                    database.code().map_or(DbFault::Other, |code| of_code(&code))
                }),
            },
            _ => DbFault::Other,
        }
    }

    /// Whether the server is the cause, and not who asked.
    pub(super) fn is_of_server(self) -> bool {
        use DbFault::{ReadOnly, Restarting, TooManyClients, TooSlow, Unreachable};
        matches!(self, ReadOnly | Restarting | TooManyClients | TooSlow | Unreachable)
    }

    fn verdict(self) -> Option<Verdict> {
        use DbFault::*;
        let (status, message) = match self {
            PoolExhausted => (503, "the database is busy"),
            TooSlow => (503, "the database did not answer in time"),
            Unreachable | Restarting | TooManyClients => (503, "the database is not available"),
            Cancelled => (503, "the query was cancelled"),
            Conflict => (503, "another transaction was in the way"),
            Busy => (503, "the database is busy"),
            ReadOnly => (503, "the database can only be read"),
            Full => {
                return Some(Verdict { status: 507, message: "no space is left", retry_s: None });
            }
            Corrupt | Disk | Unique | ForeignKey | Check | NotFound | Other => return None,
        };
        Some(Verdict { status, message, retry_s: Some(1) })
    }
}

/// Whether the connection that an error came over is to be closed: nobody knows what comes next on
/// it, or the server will not do.
pub(super) fn ends_connection(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Protocol(_)) || DbFault::of(error).is_of_server()
}

fn of_io(error: &io::Error) -> DbFault {
    let pool = error.get_ref().and_then(|it| it.downcast_ref::<PoolError>());
    match pool {
        Some(PoolError::TimedOut { .. } | PoolError::Full { .. } | PoolError::LaneFull { .. }) => {
            DbFault::PoolExhausted
        }
        Some(PoolError::TooSlow { .. } | PoolError::Stalled { .. }) => DbFault::TooSlow,
        Some(PoolError::Away { fault, .. }) => *fault,
        Some(PoolError::RolledBack) => DbFault::Conflict,
        Some(PoolError::Spent) => DbFault::Cancelled,
        Some(PoolError::Closed) => DbFault::Unreachable,
        None if error.kind() == io::ErrorKind::StorageFull => DbFault::Full,
        None => DbFault::Unreachable,
    }
}

/// What MySQL and MariaDB have a number for, and no SQLSTATE of its own.
#[cfg(feature = "mysql")]
fn of_mysql(error: &dyn DatabaseError) -> Option<DbFault> {
    let error = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(match error.number() {
        1053 | 1927 => DbFault::Restarting, // it stops, or has ended the connection
        1203 | 1226 => DbFault::TooManyClients, // of this user
        1205 => DbFault::Conflict,          // waited too long for a lock
        1290 if error.message().contains("read-only") => DbFault::ReadOnly, // or another option
        1792 | 1836 => DbFault::ReadOnly,
        1021 | 1041 | 1114 => DbFault::Full,
        3 | 1026 | 1030 => DbFault::Disk, // EE_WRITE, ER_ERROR_ON_WRITE, of the storage engine
        1034 | 1035 | 1194 | 1195 => DbFault::Corrupt,
        1969 | 3024 => DbFault::TooSlow, // by a limit of the server's own
        _ => return None,
    })
}

#[cfg(not(feature = "mysql"))]
fn of_mysql(_error: &dyn DatabaseError) -> Option<DbFault> {
    None
}

/// SQLSTATE of PostgreSQL (its appendix A), of MySQL, and SQLite's extended result codes.
fn of_code(code: &str) -> DbFault {
    if code.len() == 5 {
        return match code {
            "57P01" | "57P02" | "57P03" | "57P05" => DbFault::Restarting,
            "53300" | "08004" => DbFault::TooManyClients,
            "57014" | "70100" => DbFault::Cancelled,
            "40001" | "40P01" | "55P03" => DbFault::Conflict,
            "25006" => DbFault::ReadOnly,
            "53100" => DbFault::Full,
            "58030" => DbFault::Disk,
            "XX001" | "XX002" => DbFault::Corrupt,
            _ if code.starts_with("08") => DbFault::Unreachable,
            _ => DbFault::Other,
        };
    }
    // https://sqlite.org/rescode.html: the low byte is the primary code.
    match code.parse::<u32>().map(|it| it & 0xff) {
        Ok(5 | 6) => DbFault::Busy,
        Ok(8) => DbFault::ReadOnly,
        Ok(9) => DbFault::Cancelled,
        Ok(10) => DbFault::Disk,
        Ok(11 | 26) => DbFault::Corrupt,
        Ok(13) => DbFault::Full,
        Ok(14) => DbFault::Unreachable,
        _ => DbFault::Other,
    }
}

/// What an error that a handler returns is answered with, if it is one of a database.
pub(super) fn verdict(cause: &(dyn StdError + 'static)) -> Option<Verdict> {
    DbFault::of(cause.downcast_ref::<sqlx::Error>()?).verdict()
}

/// Why the pool gave no connection. It is the source of an `sqlx::Error::Io`.
#[derive(Clone, Debug)]
pub(super) enum PoolError {
    TimedOut {
        ms: u64,
        open: usize,
        waiters: usize,
    },
    Full {
        waiters_max: usize,
    },
    TooSlow {
        ms: u64,
    },
    #[cfg_attr(not(feature = "postgres-lane"), expect(dead_code, reason = "a lane's"))]
    LaneFull {
        ms: u64,
        running: usize,
    },
    #[cfg_attr(not(feature = "postgres-lane"), expect(dead_code, reason = "a lane's"))]
    Stalled {
        ms: u64,
    },
    Away {
        why: Arc<str>,
        fault: DbFault,
    },
    Spent,
    RolledBack,
    Closed,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::TimedOut { ms, open, waiters } => write!(
                f,
                "no connection within {ms} ms (acquire_max): this shard has {open} in use and \
                 {waiters} waiting"
            ),
            PoolError::Full { waiters_max } => {
                write!(f, "{waiters_max} wait for a connection already (waiters_max)")
            }
            PoolError::TooSlow { ms } => write!(f, "no answer within {ms} ms (query_max)"),
            PoolError::LaneFull { ms, running } => write!(
                f,
                "no room in the lane within {ms} ms (acquire_max): {running} queries are under way"
            ),
            PoolError::Stalled { ms } => {
                write!(f, "no answer on the lane within {ms} ms: its connection was closed")
            }
            PoolError::Away { why, .. } => write!(f, "no connection: {why}"),
            PoolError::Spent => write!(
                f,
                "an earlier query on this connection was lost or took too long: begin anew on \
                 another one"
            ),
            PoolError::RolledBack => write!(
                f,
                "the server has rolled the transaction back for an earlier error in it: begin anew"
            ),
            PoolError::Closed => write!(f, "the database is closed: its shard has ended"),
        }
    }
}

impl StdError for PoolError {}

impl From<PoolError> for sqlx::Error {
    fn from(error: PoolError) -> sqlx::Error {
        let kind = match error {
            PoolError::TimedOut { .. }
            | PoolError::TooSlow { .. }
            | PoolError::LaneFull { .. }
            | PoolError::Stalled { .. } => io::ErrorKind::TimedOut,
            PoolError::Full { .. } => io::ErrorKind::WouldBlock,
            PoolError::Away { .. }
            | PoolError::Spent
            | PoolError::RolledBack
            | PoolError::Closed => io::ErrorKind::NotConnected,
        };
        sqlx::Error::Io(io::Error::new(kind, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names() {
        for (code, fault) in [
            ("57P01", DbFault::Restarting),
            ("53300", DbFault::TooManyClients),
            ("57014", DbFault::Cancelled),
            ("40P01", DbFault::Conflict),
            ("25006", DbFault::ReadOnly),
            ("42P01", DbFault::Other),
            ("08006", DbFault::Unreachable),
            ("5", DbFault::Busy),
            ("517", DbFault::Busy), // SQLITE_BUSY_SNAPSHOT
            ("262", DbFault::Busy), // SQLITE_LOCKED_SHAREDCACHE
            ("11", DbFault::Corrupt),
            ("26", DbFault::Corrupt),
            ("13", DbFault::Full),
            ("778", DbFault::Disk), // SQLITE_IOERR_WRITE
            ("58030", DbFault::Disk),
            ("1", DbFault::Other),
            ("", DbFault::Other),
        ] {
            assert_eq!(of_code(code), fault, "{code}");
        }
    }

    #[test]
    fn who_is_the_cause_decides_the_status() {
        let away = |fault| sqlx::Error::from(PoolError::Away { why: "x".into(), fault });
        for (error, status) in [
            (PoolError::TimedOut { ms: 1, open: 1, waiters: 1 }.into(), Some(503)),
            (PoolError::Full { waiters_max: 1 }.into(), Some(503)),
            (PoolError::TooSlow { ms: 1 }.into(), Some(503)),
            (away(DbFault::TooManyClients), Some(503)),
            (sqlx::Error::from(io::Error::from(io::ErrorKind::ConnectionReset)), Some(503)),
            (sqlx::Error::from(io::Error::from(io::ErrorKind::StorageFull)), Some(507)),
            (sqlx::Error::RowNotFound, None),
        ] {
            assert_eq!(verdict(&error).map(|it| it.status), status, "{error}");
        }
        assert!(verdict(&io::Error::other("x")).is_none(), "of no database");
    }
}
