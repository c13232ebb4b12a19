//! Fields that tell a browser to be careful.

use std::rc::Rc;
use std::time::Duration;

use crate::app::core::Core;
use crate::app::ctx::{Ctx, ReplyHead};
use crate::app::field_lines::Lines;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::app::on_head::KeptOnHead;
use crate::error::Result;

/// Who may show a page in a frame.
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
    pub fn new() -> SecureHeaders {
        SecureHeaders {
            frames: Frames::Deny,
            referrer_policy: "strict-origin-when-cross-origin".into(),
            csp: String::new(),
            hsts: None,
        }
    }

    /// Who may show a page in a frame: `X-Frame-Options`, and `frame-ancestors` of the CSP.
    pub fn frames(mut self, frames: Frames) -> Self {
        self.frames = frames;
        self
    }

    /// The value of `Referrer-Policy`.
    pub fn referrer_policy(mut self, policy: &str) -> Self {
        self.referrer_policy = policy.into();
        self
    }

    /// The value of `Content-Security-Policy`. `frame-ancestors` is added by
    /// [`frames`](SecureHeaders::frames) unless you name it.
    pub fn csp(mut self, policy: &str) -> Self {
        self.csp = policy.trim().trim_end_matches(';').into();
        self
    }

    /// `Strict-Transport-Security` for so long, subdomains not included (RFC 6797).
    ///
    /// It is sent over https only (section 7.2), which a proxy tells by `X-Forwarded-Proto:
    /// https`. A client that lies about that gains nothing: browsers ignore the field over http.
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

/// The same with values of your own. An error says which of them cannot be sent.
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
