//! Cross-origin requests of browsers (the Fetch standard, section 3.3).

use std::rc::Rc;
use std::time::Duration;

use crate::app::ctx::Ctx;
use crate::app::field_lines::Lines;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::app::on_head::{KeptOnHead, ReplyHead};
use crate::error::{Error, Result};
use crate::http::encode::field_is_clean;
use crate::http::head::Method;

/// Which pages of other origins may read what this application answers.
///
/// ```
/// use std::time::Duration;
/// use soloist::middleware::{Cors, cors};
/// use soloist::prelude::*;
///
/// async fn app(_: Shard) -> Result<App<()>> {
///     let pages = Cors::new()
///         .origins(&["https://example.com", "https://admin.example.com"])
///         .methods(&["GET", "POST", "DELETE"])
///         .headers(&["content-type", "authorization"])
///         .credentials(true)
///         .max_age(Duration::from_secs(600));
///     Ok(App::new(()).wrap(cors(pages)?))
/// }
/// # soloist::testing::TestClient::run(app, async |_| ());
/// ```
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    expose: Vec<String>,
    credentials: bool,
    max_age: Option<Duration>,
}

impl Default for Cors {
    fn default() -> Cors {
        Cors::new()
    }
}

impl Cors {
    /// No origin; GET, HEAD and POST; no fields but those that every page may send. [`cors`] takes
    /// it once it has an origin.
    ///
    /// ```
    /// use soloist::middleware::{Cors, cors};
    ///
    /// let error = cors::<()>(Cors::new()).err().expect("no origin");
    /// assert!(error.message().starts_with("cors: no origins"));
    /// assert!(cors::<()>(Cors::new().origins(&["https://example.com"])).is_ok());
    /// ```
    pub fn new() -> Cors {
        Cors {
            origins: Vec::new(),
            methods: texts(&["GET", "HEAD", "POST"]),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: None,
        }
    }

    /// Origins as a browser sends them (RFC 6454 section 6.2): `https://example.com`, with a port
    /// if it is not the scheme's own, without a slash at the end; or `*` alone for all of them.
    ///
    /// ```
    /// use soloist::middleware::{Cors, cors};
    ///
    /// let pages = Cors::new().origins(&["https://example.com", "http://localhost:5173"]);
    /// assert!(cors::<()>(pages).is_ok());
    /// let page = Cors::new().origins(&["https://example.com/"]); // browsers send no slash
    /// assert!(cors::<()>(page).is_err());
    /// ```
    pub fn origins(mut self, origins: &[&str]) -> Self {
        self.origins = texts(origins);
        self
    }

    /// Methods that they may use, or `*` alone; those that are not said here are not allowed, GET,
    /// HEAD and POST apart, which a browser may send without asking.
    ///
    /// ```
    /// # use soloist::middleware::{Cors, cors};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let pages = Cors::new().origins(&["https://example.com"]).methods(&["GET", "PUT"]);
    /// # Ok(App::new(()).wrap(cors(pages)?).put("/", async |cx| cx.empty()))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// # let call = client.call("OPTIONS", "/").header("origin", "https://example.com");
    /// let asked = call.header("access-control-request-method", "PUT").await; // a preflight
    /// asked.expect(204).has("access-control-allow-methods", "GET, PUT");
    /// # });
    /// ```
    pub fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = texts(methods);
        self
    }

    /// Request fields that they may set, or `*` alone (which never covers `authorization`). JSON
    /// takes `content-type`: without it a page may send forms and plain text only.
    ///
    /// ```
    /// use soloist::middleware::Cors;
    ///
    /// let api = Cors::new()
    ///     .origins(&["https://example.com"])
    ///     .headers(&["content-type", "authorization", "idempotency-key"]);
    /// ```
    pub fn headers(mut self, names: &[&str]) -> Self {
        self.headers = texts(names);
        self
    }

    /// Fields of an answer that they may read, or `*` alone. Without it a script sees the cache and
    /// content fields, such as `content-type`, and no others.
    ///
    /// ```
    /// # use soloist::middleware::{Cors, cors};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let pages = Cors::new().origins(&["*"]).expose(&["x-request-id", "retry-after"]);
    /// # Ok(App::new(()).wrap(cors(pages)?).get("/", async |cx| cx.empty()))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// let answer = client.get("/").header("origin", "https://example.com").await;
    /// answer.has("access-control-expose-headers", "x-request-id, retry-after");
    /// # });
    /// ```
    pub fn expose(mut self, names: &[&str]) -> Self {
        self.expose = texts(names);
        self
    }

    /// Whether they may send cookies and passwords. Then nothing can be `*`.
    ///
    /// ```
    /// use soloist::middleware::{Cors, cors};
    ///
    /// let all = Cors::new().origins(&["*"]).credentials(true); // any page, in any visitor's name?
    /// assert!(cors::<()>(all.clone()).is_err());
    /// assert!(cors::<()>(all.origins(&["https://app.example.com"])).is_ok());
    /// ```
    pub fn credentials(mut self, allowed: bool) -> Self {
        self.credentials = allowed;
        self
    }

    /// How long a browser may remember the answer to a preflight, in whole seconds; 5 s if it is
    /// not said. Browsers have bounds of their own (two hours, a day).
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::middleware::Cors;
    ///
    /// // One preflight an hour and path, not one every five seconds.
    /// let hour = Duration::from_secs(3600);
    /// let pages = Cors::new().origins(&["https://example.com"]).max_age(hour);
    /// ```
    pub fn max_age(mut self, length: Duration) -> Self {
        self.max_age = Some(length);
        self
    }

    fn check(&self) -> Result<()> {
        let fail = |why: String| Err(Error::new(500, format!("cors: {why}")));
        if self.origins.is_empty() {
            return fail(
                "no origins: say origins(&[\"https://example.com\"]) or leave it out".into(),
            );
        }
        let lists = [
            ("origins", &self.origins),
            ("methods", &self.methods),
            ("headers", &self.headers),
            ("expose", &self.expose),
        ];
        for (name, list) in lists {
            let any = list.iter().any(|it| it == "*");
            if any && self.credentials {
                return fail(format!(
                    "{name}: \"*\" cannot stand beside credentials(true), browsers refuse it: \
                     name each one"
                ));
            }
            if any && list.len() > 1 {
                return fail(format!("{name}: \"*\" stands alone or not at all"));
            }
            // The name is checked as a token, the text as a value.
            let bad = |it: &&String| name != "origins" && !field_is_clean(it, it);
            if let Some(bad) = list.iter().find(bad) {
                return fail(format!("{name}: {bad:?} is no name"));
            }
        }
        match self.origins.iter().find(|it| *it != "*" && !is_origin(it)) {
            Some(bad) => fail(format!(
                "origins: {bad:?} is none: scheme://host or scheme://host:port in lower case, \
                 without a path or a slash at the end"
            )),
            None => Ok(()),
        }
    }
}

/// Answers preflights, and tells browsers which origins may read the answers: errors and streams
/// too. A preflight of another origin is 403; any other request of it is served as usual, without
/// the fields, because a client that is no browser could ask it anyway.
///
/// `Vary: Origin` is set on every answer unless all origins are allowed. An error says what is
/// wrong with the settings, such as `*` beside credentials.
///
/// ```
/// use soloist::middleware::{Cors, cors};
/// use soloist::prelude::*;
/// # use soloist::testing::TestClient;
///
/// async fn app(_: Shard) -> Result<App<()>> {
///     let pages = Cors::new().origins(&["https://example.com"]);
///     Ok(App::new(()).wrap(cors(pages)?).get("/", async |cx| cx.text("hello")))
/// }
/// # TestClient::run(app, async |client| {
/// #     let answer = client.get("/").header("origin", "https://example.com").await.expect(200);
/// #     answer.has("access-control-allow-origin", "https://example.com").has("vary", "Origin");
/// #     let answer = client.get("/").header("origin", "https://other.example").await.expect(200);
/// #     assert_eq!(answer.header("access-control-allow-origin"), None);
/// # });
/// ```
pub fn cors<S: 'static>(cors: Cors) -> Result<impl Middleware<S>> {
    cors.check()?;
    let methods = cors.methods.join(", ");
    let headers = cors.headers.join(", ");
    let max_age = cors.max_age.map(|it| it.as_secs().to_string());
    let allowed = Rc::new(Allowed::new(&cors)?);
    let on_head: KeptOnHead = Rc::new({
        let allowed = allowed.clone();
        move |head: &ReplyHead<'_>| allowed.decorate(head)
    });
    Ok(async move |cx: &Ctx<S>, next: Next<'_>| {
        cx.on_head_kept(&on_head);
        let asks = |name| cx.core.only_request_field(name);
        if cx.core.head.method != Method::Options || asks("access-control-request-method").is_none()
        {
            return next.run().await;
        }
        let Some(origin) = asks("origin") else { return next.run().await };
        if allowed.of(origin).is_none() {
            return Err(Error::new(403, "cors: this origin is not allowed"));
        }
        cx.set_header("access-control-allow-methods", &methods);
        if !headers.is_empty() {
            cx.set_header("access-control-allow-headers", &headers);
        }
        if let Some(max_age) = &max_age {
            cx.set_header("access-control-max-age", max_age);
        }
        cx.status(204).empty()
    })
}

/// What each allowed origin is told.
struct Allowed {
    /// `*` is every origin.
    origins: Vec<(String, Lines)>,
    /// What everybody else is told.
    others: Lines,
}

impl Allowed {
    fn new(cors: &Cors) -> Result<Allowed> {
        let credentials = if cors.credentials { "true" } else { "" };
        let expose = cors.expose.join(", ");
        let lines = |origin: &String| {
            let fields = [
                ("access-control-allow-origin", origin.as_str()),
                ("access-control-allow-credentials", credentials),
                ("access-control-expose-headers", &expose),
            ];
            let vary = (origin != "*").then_some("Origin");
            Ok((origin.clone(), Lines::with_vary(vary, &fields)?))
        };
        Ok(Allowed {
            origins: cors.origins.iter().map(lines).collect::<Result<_>>()?,
            others: Lines::with_vary(Some("Origin"), &[])?,
        })
    }

    fn of(&self, origin: &str) -> Option<&Lines> {
        let fits = |it: &&(String, Lines)| it.0 == origin || it.0 == "*";
        self.origins.iter().find(fits).map(|it| &it.1)
    }

    fn decorate(&self, head: &ReplyHead<'_>) {
        let core = head.0;
        let lines = match &*self.origins {
            [(origin, lines)] if origin == "*" => Some(lines),
            _ => core.only_request_field("origin").and_then(|it| self.of(it)),
        };
        core.set_lines(lines.unwrap_or(&self.others));
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

/// A serialised origin as browsers send it (RFC 6454 section 6.2). `null` is none: any page can
/// have it, in a sandboxed frame.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    let is_host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !host.is_empty()
        && host.bytes().all(is_host)
}
