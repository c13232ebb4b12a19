//! Why a remote store did not do what it was asked.

use std::fmt;
use std::rc::Rc;

use crate::error::Error;

/// The cause of an error of a [`Remote`](crate::Remote): ask for it with
/// [`Error::get`](crate::Error::get).
///
/// ```
/// use soloist::{Redis, Remote, RemoteError, prelude::*};
/// # use soloist::testing::TestClient;
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let redis = Redis::connect(&client.shard(), "redis://127.0.0.1:1").expect("a URL");
/// let film = vec![0; 65 << 20];
/// let error = redis.set(b"film", &film, None).await.unwrap_err();
/// assert!(matches!(error.get(), Some(RemoteError::TooLarge { .. })), "{error}");
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteError {
    /// Not sent: the breaker is open, because calls before it have failed.
    Refused {
        /// When the next call is let through.
        retry_ms: u64,
    },
    /// Not sent: as many calls are under way as may be.
    Busy,
    /// No answer within the time limit.
    TimedOut {
        /// The limit.
        ms: u64,
    },
    /// There is no connection, or it was lost meanwhile.
    Lost(Rc<str>),
    /// The server has answered with an error.
    Answer(Rc<str>),
    /// Not sent: the value is larger than the bound.
    TooLarge {
        /// Of the value.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Not sent: the key and its prefix are longer than the store takes, or empty.
    Key {
        /// Of both, as they would be sent.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
}

impl RemoteError {
    pub(super) fn lost(why: impl Into<Rc<str>>) -> RemoteError {
        RemoteError::Lost(why.into())
    }

    /// Whether it tells that the server is not well.
    pub(super) fn is_of_server(&self) -> bool {
        matches!(self, RemoteError::TimedOut { .. } | RemoteError::Lost(_))
    }

    /// As handlers return it.
    pub(super) fn into_error(self) -> Error {
        match self {
            RemoteError::TooLarge { .. } | RemoteError::Key { .. } => Error::from(self),
            _ => Error::new(503, "a store is not available").because(self),
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::Refused { retry_ms } => {
                write!(f, "refused: calls before it have failed; the next try is in {retry_ms} ms")
            }
            RemoteError::Busy => f.write_str("too many calls are under way (calls_max)"),
            RemoteError::TimedOut { ms } => write!(f, "no answer within {ms} ms (call_ms_max)"),
            RemoteError::Lost(why) | RemoteError::Answer(why) => f.write_str(why),
            RemoteError::TooLarge { bytes, bytes_max } => {
                write!(f, "a value of {bytes} bytes; at most {bytes_max} (value_bytes_max)")
            }
            RemoteError::Key { bytes: 0, .. } => f.write_str("the key is empty"),
            RemoteError::Key { bytes, bytes_max } => {
                write!(f, "a key of {bytes} bytes with its prefix; at most {bytes_max}")
            }
        }
    }
}

impl std::error::Error for RemoteError {}
