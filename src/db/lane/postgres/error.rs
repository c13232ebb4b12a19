//! What goes wrong on a lane, as sqlx's errors: who handles those of the pool handles these.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use sqlx::error::{DatabaseError, ErrorKind};
use tokio_postgres::error::DbError;

/// What the server says.
#[derive(Debug)]
struct Said(DbError);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.message())
    }
}

impl StdError for Said {}

impl DatabaseError for Said {
    fn message(&self) -> &str {
        self.0.message()
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0.code().code()))
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn constraint(&self) -> Option<&str> {
        self.0.constraint()
    }

    fn table(&self) -> Option<&str> {
        self.0.table()
    }

    fn kind(&self) -> ErrorKind {
        // PostgreSQL's appendix A, class 23.
        match self.0.code().code() {
            "23502" => ErrorKind::NotNullViolation,
            "23503" => ErrorKind::ForeignKeyViolation,
            "23505" => ErrorKind::UniqueViolation,
            "23514" => ErrorKind::CheckViolation,
            "23P01" => ErrorKind::ExclusionViolation,
            _ => ErrorKind::Other,
        }
    }
}

/// An error of the client crate, told apart by what is behind it.
pub(super) enum Failed {
    /// The server has answered with one.
    Said(sqlx::Error),
    /// A value could not be written as its parameter's type; nothing was sent.
    Encode(sqlx::Error),
    /// The connection is gone.
    Lost(sqlx::Error),
    /// Nothing that it says makes sense any more.
    Nonsense(sqlx::Error),
}

impl Failed {
    pub(super) fn of(error: &tokio_postgres::Error) -> Failed {
        if let Some(said) = error.as_db_error() {
            return Failed::Said(sqlx::Error::Database(Box::new(Said(said.clone()))));
        }
        if error.is_closed() {
            return Failed::Lost(lost("the connection of the lane was lost"));
        }
        let text = error.to_string();
        let Some(source) = error.source() else {
            return Failed::Nonsense(sqlx::Error::Protocol(text));
        };
        let whole = format!("{text}: {source}");
        // Whose errors have which sources it does not say in another way.
        match source.downcast_ref::<io::Error>() {
            _ if text.starts_with("error parsing") => {
                Failed::Nonsense(sqlx::Error::Protocol(whole))
            }
            Some(io) if !text.starts_with("error encoding") => {
                Failed::Lost(sqlx::Error::Io(io::Error::new(io.kind(), source.to_string())))
            }
            _ => Failed::Encode(sqlx::Error::Encode(whole.into())),
        }
    }

    pub(super) fn into_error(self) -> sqlx::Error {
        match self {
            Failed::Said(it) | Failed::Encode(it) | Failed::Lost(it) | Failed::Nonsense(it) => it,
        }
    }
}

pub(super) fn lost(why: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionReset, why.to_owned()))
}
