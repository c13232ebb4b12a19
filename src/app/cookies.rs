//! Cookies: what the client brought, and what it is to keep.

use std::time::Duration;

use cookie::time::OffsetDateTime;
use cookie::{Cookie, SameSite};

use super::core::Core;
use super::ctx::Ctx;
use crate::http::cookie::{Escaped, cookies, is_plain};
use crate::http::encode::field_is_clean;
use crate::limits::COOKIE_BYTES_MAX;

/// Cookies (RFC 6265). What is set belongs to the answer: an error that is answered in its place
/// takes it back.
impl<S> Ctx<S> {
    /// The value of the first cookie of that name, percent-decoded; as it came where it is not
    /// percent-encoded well. The client may have made it up.
    ///
    /// Pieces that are no cookies are passed over. At most 200 cookies are looked at.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| cx.text(cx.cookie("city").unwrap_or("nowhere")));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").header("cookie", "a=b; city=K%C3%B6ln").await.text("K\u{f6}ln");
    /// client.get("/").header("cookie", "City=Bonn").await.text("nowhere"); // names have a case
    /// # });
    /// ```
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.core.cookies_named(name).next().map(|value| self.core.cookie_text(value))
    }

    /// Sets a cookie. What does not say otherwise gets `Path=/`, `HttpOnly`, `SameSite=Lax`, and
    /// `Secure` if the client came by https (see [`scheme`](Ctx::scheme)) or the name begins with
    /// `__Secure-` or `__Host-`. Its value is percent-encoded where it has to be.
    ///
    /// A cookie that cannot be sent turns the answer into a 500 and is logged: a name that is no
    /// token, a path or domain with a semicolon or a control character, or more than 4,096 bytes of
    /// name and value, which browsers drop.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// use soloist::cookie::{Cookie, SameSite, time::Duration};
    /// use soloist::testing::TestClient;
    ///
    /// async fn visit(cx: &Ctx<()>) -> Result<Reply> {
    ///     let visits: u64 = cx.cookie("visits").and_then(|it| it.parse().ok()).unwrap_or(0);
    ///     cx.set_cookie(("visits", (visits + 1).to_string()));
    ///     cx.set_cookie(
    ///         Cookie::build(("theme", "dark"))
    ///             .same_site(SameSite::Strict)
    ///             .http_only(false) // a script reads it
    ///             .max_age(Duration::days(30)),
    ///     );
    ///     cx.text(format!("visit {visits}"))
    /// }
    /// TestClient::run(async |_| Ok(App::new(()).get("/", visit)), async |client| {
    ///     let answer = client.get("/").header("cookie", "a=b; visits=6").await.expect(200);
    ///     assert_eq!(answer.header("set-cookie"), Some("visits=7; HttpOnly; SameSite=Lax; Path=/"));
    /// });
    /// ```
    pub fn set_cookie<'c>(&self, cookie: impl Into<Cookie<'c>>) -> &Self {
        self.core.set_cookie(cookie.into());
        self
    }

    /// Tells the client to forget a cookie: by its name if it was set with `Path=/` and no domain,
    /// else with the same path and domain.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn sign_out(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.remove_cookie("session");
    ///     cx.remove_cookie(soloist::cookie::Cookie::build("cart").path("/shop"));
    ///     cx.empty()
    /// }
    /// ```
    pub fn remove_cookie<'c>(&self, cookie: impl Into<Cookie<'c>>) -> &Self {
        let mut cookie = cookie.into();
        cookie.set_value("");
        cookie.set_max_age(Some(Duration::ZERO.try_into().unwrap_or_default()));
        cookie.set_expires(OffsetDateTime::UNIX_EPOCH);
        self.set_cookie(cookie)
    }
}

impl Core {
    /// The values of the cookies of that name, as they came.
    pub(super) fn cookies_named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let all = cookies(self.request_fields("cookie"));
        all.filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(super) fn cookie_text<'a>(&'a self, value: &'a str) -> &'a str {
        let mut scratch = self.local.spares.take();
        let text = self.decoded(value, false, &mut scratch).unwrap_or(value);
        self.local.spares.give(scratch);
        text
    }

    pub(super) fn set_cookie(&self, mut cookie: Cookie<'_>) {
        if cookie.path().is_none() {
            cookie.set_path("/");
        }
        if cookie.http_only().is_none() {
            cookie.set_http_only(true);
        }
        if cookie.same_site().is_none() {
            cookie.set_same_site(SameSite::Lax);
        }
        let needs_it = cookie.same_site() == Some(SameSite::None)
            || cookie.partitioned() == Some(true)
            || ["__Secure-", "__Host-"].iter().any(|prefix| cookie.name().starts_with(prefix));
        if cookie.secure().is_none() && (needs_it || self.scheme() == "https") {
            cookie.set_secure(true);
        }
        // In a function of its own, so that what is put in may live as long as the arena.
        self.send_cookie(cookie);
    }

    fn send_cookie<'a>(&'a self, mut cookie: Cookie<'a>) {
        if !cookie.value().bytes().all(is_plain) {
            let escaped = self.arena.text(format_args!("{}", Escaped(cookie.value())));
            cookie.set_value(escaped);
        }
        let is_attribute = |text: Option<&str>| text.is_none_or(|text| !text.contains(';'));
        let sendable = field_is_clean(cookie.name(), "")
            && is_attribute(cookie.path())
            && is_attribute(cookie.domain())
            && cookie.name().len() + cookie.value().len() <= COOKIE_BYTES_MAX;
        if !sendable {
            tracing::error!(name = cookie.name(), "a handler set a cookie that cannot be sent");
            self.bad_field.set(true);
            return;
        }
        self.set_field("set-cookie", self.arena.text(format_args!("{cookie}")), true);
    }
}
