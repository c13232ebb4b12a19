//! One error for handlers: a status, a message for the client, a cause for the log.

use std::error::Error as StdError;
use std::fmt;
use std::sync::OnceLock;

/// What handlers, middleware and the server return.
///
/// ```
/// use soloist::Result;
///
/// fn cores() -> Result<usize> {
///     Ok(std::thread::available_parallelism()?.get()) // an I/O error becomes a 500
/// }
/// assert!(cores().is_ok_and(|count| count > 0));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request cannot be answered as asked: 8 bytes, made from anything that `?` can turn
/// into a boxed error (then it is a 500 whose cause is logged and never shown).
///
/// It is not a `std::error::Error` and not `Send`: see [`Error::into_std`].
///
/// ```
/// use soloist::{Error, Result};
/// fn port(text: &str) -> Result<u16> {
///     if text.is_empty() {
///         return Err(Error::bad_request("port: empty"));
///     }
///     Ok(text.parse::<u16>()?) // any error: 500, the cause goes to the log
/// }
/// assert_eq!(port("").unwrap_err().status(), 400);
/// assert_eq!(port("x").unwrap_err().status(), 500);
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    status: u16,
    message: String,
    fields: Vec<(&'static str, String)>,
    cause: Option<Box<dyn StdError>>,
}

impl Error {
    /// An error that answers with `status` (400 to 599, else 500) and `message`, which the
    /// client sees.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let error = Error::new(507, "no space is left");
    /// assert_eq!((error.status(), error.message()), (507, "no space is left"));
    /// ```
    pub fn new(status: u16, message: impl Into<String>) -> Error {
        let status = if (400..600).contains(&status) { status } else { 500 };
        Error(Box::new(Inner { status, message: message.into(), fields: Vec::new(), cause: None }))
    }

    /// 400 with a message that says what is wrong.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// assert_eq!(Error::bad_request("age: below 0").status(), 400);
    /// ```
    pub fn bad_request(message: impl Into<String>) -> Error {
        Error::new(400, message)
    }

    /// 401, for who has not said who it is (RFC 9110 section 15.5.2). That section asks for a
    /// `WWW-Authenticate` too, which only you can know.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", me)), async |client| {
    /// #     client.get("/").await.expect(401).has("www-authenticate", "Bearer");
    /// #     client.get("/").header("authorization", "Bearer ann").await.expect(200);
    /// # });
    /// async fn me(cx: &Ctx<()>) -> Result<Reply> {
    ///     let missing = || Error::unauthorized().set("www-authenticate", "Bearer");
    ///     cx.text(cx.header("authorization").ok_or_else(missing)?)
    /// }
    /// ```
    pub fn unauthorized() -> Error {
        Error::new(401, "unauthorized")
    }

    /// 403, for who is known and may not (RFC 9110 section 15.5.4).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// fn may_delete(role: &str) -> Result<()> {
    ///     if role == "editor" { Ok(()) } else { Err(Error::forbidden()) }
    /// }
    /// assert_eq!(may_delete("guest").unwrap_err().status(), 403);
    /// ```
    pub fn forbidden() -> Error {
        Error::new(403, "forbidden")
    }

    /// 404.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let user: Option<u32> = None;
    /// cx.json(&user.ok_or_else(Error::not_found)?)
    /// # }
    /// ```
    pub fn not_found() -> Error {
        Error::new(404, "not found")
    }

    /// Adds a header field to the answer, such as `retry-after`.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let busy = Error::new(503, "not now").set("retry-after", "10");
    /// ```
    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Error {
        self.0.fields.push((name, value.into()));
        self
    }

    /// Adds what the log should know and the client should not.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let io = std::io::Error::other("disk 3 is gone");
    /// let error = Error::new(503, "not available").because(io); // the client reads the first only
    /// assert_eq!(error.message(), "not available");
    /// ```
    pub fn because(mut self, cause: impl Into<Box<dyn StdError>>) -> Error {
        self.0.cause = Some(cause.into());
        self
    }

    /// The status it answers with.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let failed = "x".parse::<u16>().map_err(Error::from).unwrap_err();
    /// assert_eq!(failed.status(), 500); // any error that did not say otherwise
    /// ```
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// What the client may read: the answer's body, unless an [`on_error`](crate::App::on_error)
    /// makes another. The cause is never in it.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let failed = Error::from(std::io::Error::other("disk 3 is gone"));
    /// assert_eq!(failed.message(), "internal error");
    /// assert_eq!(failed.to_string(), "500 internal error: disk 3 is gone"); // for the log
    /// ```
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The cause, if it is an `E`.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let error = Error::from(std::io::Error::other("disk 3 is gone"));
    /// let io: &std::io::Error = error.get().expect("an I/O error");
    /// assert_eq!(io.kind(), std::io::ErrorKind::Other);
    /// ```
    pub fn get<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.cause.as_deref()?.downcast_ref()
    }

    /// Whether the cause is an `E`.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// assert!(Error::from(std::fmt::Error).is::<std::fmt::Error>());
    /// ```
    pub fn is<E: StdError + 'static>(&self) -> bool {
        self.get::<E>().is_some()
    }

    /// As a standard error, for code that wants one: its text is the whole chain.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let error = Error::bad_request("age: below 0").into_std();
    /// assert!(error.to_string().contains("age: below 0"));
    /// ```
    pub fn into_std(self) -> Box<dyn StdError + Send + Sync> {
        self.to_string().into()
    }

    pub(crate) fn fields(&self) -> &[(&'static str, String)] {
        &self.0.fields
    }
}

/// An error on its way to another thread, or to several who wait: its causes as text.
#[derive(Clone)]
pub(crate) struct SentError {
    status: u16,
    message: String,
    fields: Vec<(&'static str, String)>,
    text: String,
}

impl SentError {
    pub(crate) fn pack(error: &Error) -> SentError {
        SentError {
            status: error.status(),
            message: error.message().to_owned(),
            fields: error.fields().to_vec(),
            text: error.to_string(),
        }
    }

    /// The same error, whose cause says where it comes from.
    pub(crate) fn unpack(self, from: &str) -> Error {
        let error = Error::new(self.status, self.message);
        let error = self.fields.into_iter().fold(error, |it, (name, value)| it.set(name, value));
        error.because(format!("{from}: {}", self.text))
    }
}

/// Status, message and the chain of causes: for the log.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status, self.0.message)?;
        let mut cause = self.0.cause.as_deref();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a cause is answered with, where it is known better than 500.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) status: u16,
    pub(crate) message: &'static str,
    /// Seconds after which it is worth another try.
    pub(crate) retry_s: Option<u32>,
}

type Judge = fn(&(dyn StdError + 'static)) -> Option<Verdict>;

/// Who knows the causes of databases, once there is one.
static JUDGE: OnceLock<Judge> = OnceLock::new();

/// Lets causes be judged from now on; one judge is enough.
#[cfg(feature = "db")]
pub(crate) fn judge_by(judge: Judge) {
    let _ = JUDGE.set(judge);
}

#[diagnostic::do_not_recommend]
impl<E: Into<Box<dyn StdError>>> From<E> for Error {
    fn from(cause: E) -> Error {
        let cause = cause.into();
        let Some(verdict) = JUDGE.get().and_then(|judge| judge(&*cause)) else {
            return Error::new(500, "internal error").because(cause);
        };
        let error = Error::new(verdict.status, verdict.message).because(cause);
        match verdict.retry_s {
            Some(seconds) => error.set("retry-after", seconds.to_string()),
            None => error,
        }
    }
}

const _: () = assert!(size_of::<Error>() == size_of::<usize>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_for_the_log() {
        let io = std::io::Error::other("disk 7 is on fire");
        let error = Error::from(io);
        assert_eq!(error.message(), "internal error");
        assert_eq!(error.to_string(), "500 internal error: disk 7 is on fire");
        assert!(error.is::<std::io::Error>());
        assert_eq!(error.into_std().to_string(), "500 internal error: disk 7 is on fire");
    }

    #[test]
    fn statuses_are_errors() {
        for (given, kept) in [(418, 418), (200, 500), (0, 500), (600, 500), (599, 599)] {
            assert_eq!(Error::new(given, "").status(), kept);
        }
    }
}
