//! Fields that tell a browser to be careful.

use std::rc::Rc;
use std::time::Duration;

use crate::app::core::Core;
use crate::app::ctx::Ctx;
use crate::app::field_lines::Lines;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::app::on_head::{KeptOnHead, ReplyHead};
use crate::error::Result;

/// Who may show a page in a frame (RFC 7034, and `frame-ancestors` of the CSP).
///
/// ```
/// use soloist::middleware::{Frames, SecureHeaders};
///
/// let widget = SecureHeaders::new().frames(Frames::Allow); // a map that others embed
/// let admin = SecureHeaders::new().frames(Frames::Deny); // nobody lays a page over its buttons
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Nobody.
    Deny,
    /// Pages of the same origin.
    SameOrigin,
    /// Anybody.
    Allow,
}

/// What [`secure_headers_with`] sets.
///
/// ```
/// use std::time::Duration;
/// use soloist::middleware::{Frames, SecureHeaders, secure_headers_with};
/// use soloist::prelude::*;
///
/// async fn app(_: Shard) -> Result<App<()>> {
///     let headers = SecureHeaders::new()
///         .frames(Frames::SameOrigin)
///         .csp("default-src 'self'; img-src 'self' data:")
///         .hsts(Duration::from_secs(365 * 24 * 3600));
///     Ok(App::new(()).wrap(secure_headers_with(headers)?))
/// }
/// # soloist::testing::TestClient::run(app, async |_| ());
/// ```
#[derive(Clone, Debug)]
pub struct SecureHeaders {
    frames: Frames,
    referrer_policy: String,
    csp: String,
    hsts: Option<Duration>,
}

impl Default for SecureHeaders {
    fn default() -> SecureHeaders {
        SecureHeaders::new()
    }
}

impl SecureHeaders {
    /// No sniffing, no frames, the referrer without its path for other origins; no HSTS, no CSP
    /// but for the frames.
    ///
    /// ```
    /// # use soloist::middleware::{SecureHeaders, secure_headers_with};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let careful = secure_headers_with(SecureHeaders::new())?; // what `secure_headers()` is
    /// # Ok(App::new(()).wrap(careful).get("/", async |cx| cx.empty()))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// let answer = client.get("/none").await.expect(404).has("x-content-type-options", "nosniff");
    /// answer.has("content-security-policy", "frame-ancestors 'none'");
    /// # });
    /// ```
    pub fn new() -> SecureHeaders {
        SecureHeaders {
            frames: Frames::Deny,
            referrer_policy: "strict-origin-when-cross-origin".into(),
            csp: String::new(),
            hsts: None,
        }
    }

    /// Who may show a page in a frame: `X-Frame-Options`, and `frame-ancestors` of the CSP.
    ///
    /// ```
    /// # use soloist::middleware::{Frames, SecureHeaders, secure_headers_with};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let headers = SecureHeaders::new().frames(Frames::SameOrigin).csp("default-src 'self'");
    /// # Ok(App::new(()).wrap(secure_headers_with(headers)?).get("/", async |cx| cx.empty()))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// let answer = client.get("/").await.has("x-frame-options", "SAMEORIGIN");
    /// answer.has("content-security-policy", "default-src 'self'; frame-ancestors 'self'");
    /// # });
    /// ```
    pub fn frames(mut self, frames: Frames) -> Self {
        self.frames = frames;
        self
    }

    /// The value of `Referrer-Policy`: how much of the page's address its links tell others.
    ///
    /// ```
    /// use soloist::middleware::SecureHeaders;
    ///
    /// // Addresses that hold a secret, such as links that reset a password, are told to nobody.
    /// let headers = SecureHeaders::new().referrer_policy("no-referrer");
    /// ```
    pub fn referrer_policy(mut self, policy: &str) -> Self {
        self.referrer_policy = policy.into();
        self
    }

    /// The value of `Content-Security-Policy`. `frame-ancestors` is added by
    /// [`frames`](SecureHeaders::frames) unless you name it.
    ///
    /// ```
    /// use soloist::middleware::{SecureHeaders, secure_headers_with};
    ///
    /// let strict = SecureHeaders::new().csp("default-src 'none'; img-src 'self'");
    /// assert!(secure_headers_with::<()>(strict).is_ok());
    /// let broken = SecureHeaders::new().csp("default-src 'self';\n img-src *"); // two lines
    /// assert!(secure_headers_with::<()>(broken).is_err());
    /// ```
    pub fn csp(mut self, policy: &str) -> Self {
        self.csp = policy.trim().trim_end_matches(';').into();
        self
    }

    /// `Strict-Transport-Security` for so long, subdomains not included (RFC 6797).
    ///
    /// It is sent over https only (section 7.2), which a proxy tells by `X-Forwarded-Proto:
    /// https`. A client that lies about that gains nothing: browsers ignore the field over http.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::middleware::{SecureHeaders, secure_headers_with};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let hour = Duration::from_secs(3600); // to try it; a year once it works
    /// let headers = SecureHeaders::new().hsts(hour);
    /// # Ok(App::new(()).wrap(secure_headers_with(headers)?).get("/", async |cx| cx.empty()))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// let answer = client.get("/").header("x-forwarded-proto", "https").await;
    /// answer.has("strict-transport-security", "max-age=3600");
    /// assert_eq!(client.get("/").await.header("strict-transport-security"), None);
    /// # });
    /// ```
    pub fn hsts(mut self, max_age: Duration) -> Self {
        self.hsts = Some(max_age);
        self
    }

    fn lines(&self) -> Result<Lines> {
        let (options, ancestors) = match self.frames {
            Frames::Deny => ("DENY", "frame-ancestors 'none'"),
            Frames::SameOrigin => ("SAMEORIGIN", "frame-ancestors 'self'"),
            Frames::Allow => ("", ""),
        };
        let names_ancestors = self.csp.to_ascii_lowercase().contains("frame-ancestors");
        let csp = match (self.csp.is_empty(), ancestors.is_empty() || names_ancestors) {
            (true, _) => ancestors.to_owned(),
            (false, true) => self.csp.clone(),
            (false, false) => format!("{}; {ancestors}", self.csp),
        };
        Lines::new(&[
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", options),
            ("referrer-policy", &self.referrer_policy),
            ("content-security-policy", &csp),
        ])
    }
}

/// Sets `X-Content-Type-Options: nosniff`, `X-Frame-Options: DENY` with `frame-ancestors 'none'`,
/// and `Referrer-Policy: strict-origin-when-cross-origin`, on errors and streams too. A field that
/// a handler sets itself stays as it is.
///
/// ```
/// use soloist::middleware::secure_headers;
/// use soloist::prelude::*;
///
/// let app = App::new(()).wrap(secure_headers()).get("/", async |cx| cx.html("<p>hello"));
/// ```
pub fn secure_headers<S: 'static>() -> impl Middleware<S> {
    around(SecureHeaders::new().lines().expect("values that can be sent"), None)
}

/// [`secure_headers`] with values of your own. An error says which of them cannot be sent.
///
/// ```
/// use soloist::middleware::{SecureHeaders, secure_headers_with};
/// use soloist::prelude::*;
/// # use soloist::testing::TestClient;
///
/// async fn app(_: Shard) -> Result<App<()>> {
///     let headers = secure_headers_with(SecureHeaders::new().csp("default-src 'self'"))?;
///     Ok(App::new(()).wrap(headers).get("/", async |cx| {
///         cx.set_header("referrer-policy", "origin").html("<p>hello") // this page's own stays
///     }))
/// }
/// # TestClient::run(app, async |client| {
/// #     client.get("/").await.expect(200).has("referrer-policy", "origin");
/// # });
/// ```
pub fn secure_headers_with<S: 'static>(headers: SecureHeaders) -> Result<impl Middleware<S>> {
    let hsts = headers.hsts.map(|it| format!("max-age={}", it.as_secs()));
    let hsts = hsts.map(|it| Lines::new(&[("strict-transport-security", &it)])).transpose()?;
    Ok(around(headers.lines()?, hsts))
}

fn around<S: 'static>(lines: Lines, hsts: Option<Lines>) -> impl Middleware<S> {
    let on_head: KeptOnHead = Rc::new(move |head: &ReplyHead<'_>| {
        head.0.add_missing_lines(&lines);
        if let Some(hsts) = hsts.as_ref().filter(|_| is_https(head.0)) {
            head.0.add_missing_lines(hsts);
        }
    });
    async move |cx: &Ctx<S>, next: Next<'_>| {
        cx.on_head_kept(&on_head);
        next.run().await
    }
}

/// Whether the client spoke https to the proxy in front.
fn is_https(core: &Core) -> bool {
    let told = core.only_request_field("x-forwarded-proto");
    told.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}
