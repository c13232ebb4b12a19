//! Errors that machines can read: RFC 9457, `application/problem+json`.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::ctx::Ctx;
use super::reply::Reply;
use crate::error::{Error, Result};
use crate::http::encode::reason;

/// What went wrong, in the terms of RFC 9457.
///
/// It is an answer ([`Ctx::problem`]) or an error (`?`, `into`), which [`problem_json`] shows in
/// full.
///
/// ```
/// # use soloist::prelude::*;
/// use soloist::Problem;
///
/// async fn pay(cx: &Ctx<()>) -> Result<Reply> {
///     cx.problem(
///         Problem::new(403)
///             .kind("https://example.com/probs/out-of-credit")
///             .title("You do not have enough credit.")
///             .detail("Your current balance is 30, but that costs 50.")
///             .with("balance", 30),
///     )
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: u16,
    kind: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    instance: Option<String>,
    extensions: Vec<(String, Value)>,
    mistake: Option<String>,
}

impl Problem {
    /// A problem that answers with `status` (400 to 599, else 500). Its type is `about:blank`, and
    /// its title the status's own, until they are set.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::Problem;
    /// let app = App::new(()).get("/", async |cx| cx.problem(Problem::new(409)));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.expect(409).text(r#"{"title":"Conflict","status":409}"#);
    /// # });
    /// ```
    pub fn new(status: u16) -> Problem {
        let status = if (400..600).contains(&status) { status } else { 500 };
        let (kind, title, detail, instance) = (None, None, None, None);
        Problem { status, kind, title, detail, instance, extensions: Vec::new(), mistake: None }
    }

    /// `type`: a URI that names this kind of problem, best one with a page behind it.
    ///
    /// Clients tell problems apart by it, as it is (RFC 9457 section 3.1.1).
    ///
    /// ```
    /// # use soloist::Problem;
    /// let problem = Problem::new(422).kind("https://example.com/probs/out-of-stock");
    /// let seen = serde_json::to_value(problem).expect("JSON");
    /// assert_eq!(seen["type"], "https://example.com/probs/out-of-stock");
    /// ```
    pub fn kind(mut self, uri: impl Into<String>) -> Problem {
        self.kind = Some(uri.into());
        self
    }

    /// `title`: what kind of problem it is, the same each time.
    ///
    /// ```
    /// # use soloist::Problem;
    /// // Of this kind, whatever was ordered: what differs goes to `detail`.
    /// let problem = Problem::new(422)
    ///     .kind("https://example.com/probs/out-of-stock")
    ///     .title("That is sold out.");
    /// ```
    pub fn title(mut self, title: impl Into<String>) -> Problem {
        self.title = Some(title.into());
        self
    }

    /// `detail`: what went wrong this time, in words that help the client.
    ///
    /// It is for people: programs read members of [`with`](Problem::with).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::Problem;
    /// async fn order(_: &Ctx<()>) -> Result<Reply> {
    ///     let problem = Problem::new(422).title("That is sold out.");
    ///     Err(problem.detail("Of tea there are 2 left, not 5.").into())
    /// }
    /// # let app = App::new(()).get("/", order);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// // As text, or in full with `problem_json`.
    /// client.get("/").await.expect(422).text("Of tea there are 2 left, not 5.");
    /// # });
    /// ```
    pub fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = Some(detail.into());
        self
    }

    /// `instance`: a URI that names this very occurrence.
    ///
    /// ```
    /// # use soloist::Problem;
    /// let id = 4711; // as the log has it
    /// let problem = Problem::new(500).instance(format!("/failures/{id}"));
    /// ```
    pub fn instance(mut self, uri: impl Into<String>) -> Problem {
        self.instance = Some(uri.into());
        self
    }

    /// A member of your own (RFC 9457 section 3.2). One of the standard names, or a value that
    /// cannot be serialised, turns the answer into a 500, and is logged.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::Problem;
    /// async fn order(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.problem(Problem::new(422).with("left", 2).with("asked", [5, 6]))
    /// }
    /// # let app = App::new(()).get("/", order);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let answer = client.get("/").await.expect(422);
    /// answer.contains(r#""left":2,"asked":[5,6]"#);
    /// # });
    /// ```
    pub fn with(mut self, name: impl Into<String>, value: impl Serialize) -> Problem {
        let name = name.into();
        match serde_json::to_value(value) {
            Ok(_) if STANDARD.contains(&&*name) => {
                self.mistake = Some(format!("{name}: has a method of its own"));
            }
            Ok(value) => {
                self.extensions.retain(|(known, _)| *known != name);
                self.extensions.push((name, value));
            }
            Err(error) => self.mistake = Some(format!("{name}: {error}")),
        }
        self
    }

    fn title_now(&self) -> &str {
        // Section 4.2.1: of about:blank the title is the status's own.
        self.title.as_deref().unwrap_or(reason(self.status))
    }
}

const STANDARD: [&str; 5] = ["type", "title", "status", "detail", "instance"];

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let texts = [("type", &self.kind), ("detail", &self.detail), ("instance", &self.instance)];
        if !self.title_now().is_empty() {
            map.serialize_entry("title", self.title_now())?;
        }
        map.serialize_entry("status", &self.status)?;
        for (name, text) in texts {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        for (name, value) in &self.extensions {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Its detail, else its title, is what the client reads where errors are plain text.
impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        if let Some(mistake) = problem.mistake {
            return Error::from(mistake);
        }
        let message = problem.detail.clone().unwrap_or_else(|| problem.title_now().to_owned());
        Error::new(problem.status, message).because(Cause(problem))
    }
}

/// A problem on its way through an [`Error`].
#[derive(Debug)]
struct Cause(Problem);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.kind.as_deref().unwrap_or("about:blank"))
    }
}

impl std::error::Error for Cause {}

/// Answering with a problem.
impl<S> Ctx<S> {
    /// Answers with a problem as `application/problem+json` (RFC 9457), and its status.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::Problem;
    /// async fn pay(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.set_header("retry-after", "3600"); // stays: a problem is an answer like any other
    ///     cx.problem(Problem::new(403).detail("Your balance is 30, but that costs 50."))
    /// }
    /// # let app = App::new(()).get("/", pay);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let answer = client.get("/").await.expect(403).has("retry-after", "3600");
    /// answer.has("content-type", "application/problem+json");
    /// # });
    /// ```
    ///
    /// # Errors
    /// When a member cannot be written: see [`Problem::with`].
    pub fn problem(&self, problem: Problem) -> Result<Reply> {
        if let Some(mistake) = problem.mistake {
            return Err(Error::from(mistake));
        }
        answer(self, &problem)
    }
}

/// For [`App::on_error`](crate::App::on_error): every error becomes `application/problem+json`. Its
/// detail is the error's message; an error made from a [`Problem`] is shown in full.
///
/// ```
/// use soloist::prelude::*;
/// use soloist::problem_json;
/// let app = App::new(()).on_error(problem_json).get("/", async |cx| cx.text("hello"));
/// ```
pub fn problem_json<S>(cx: &Ctx<S>, error: &Error) -> Result<Reply> {
    match error.get::<Cause>() {
        Some(Cause(problem)) => answer(cx, problem),
        None => answer(cx, &Problem::new(error.status()).detail(error.message())),
    }
}

fn answer<S>(cx: &Ctx<S>, problem: &Problem) -> Result<Reply> {
    cx.check_open()?;
    cx.status(problem.status);
    let _ = cx.json(problem)?;
    Ok(cx.answered("application/problem+json"))
}
