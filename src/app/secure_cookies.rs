//! Cookies that the client cannot forge, and ones that it cannot read either.

use cookie::{Cookie, CookieJar, Key};

use super::ctx::Ctx;

/// Signed and encrypted cookies: feature `secure-cookies`.
///
/// The [`Key`] is the same on every shard, and after a restart if what was set before is to be
/// read: keep its 64 random bytes (`Key::try_from`), or 32 of which `Key::derive_from` makes it,
/// with your other secrets. Neither kind says when it was made: a client may send an old one again.
///
/// ```
/// use soloist::cookie::Key;
/// use soloist::prelude::*;
/// use soloist::testing::TestClient;
///
/// async fn sign_in(cx: &Ctx<Key>) -> Result<Reply> {
///     cx.set_signed_cookie(cx.state(), ("user", "ann")).empty()
/// }
/// async fn whoami(cx: &Ctx<Key>) -> Result<Reply> {
///     cx.text(cx.signed_cookie(cx.state(), "user").ok_or_else(Error::unauthorized)?)
/// }
/// let app = async |_| {
///     let key = Key::derive_from(&[7; 32]); // yours is random
///     Ok(App::new(key).get("/", whoami).post("/", sign_in))
/// };
/// TestClient::run(app, async |client| {
///     client.get("/").header("cookie", "user=ann").await.expect(401);
///     let set = client.post("/").await.expect(204);
///     let (cookie, _) = set.header("set-cookie").unwrap().split_once(';').unwrap();
///     client.get("/").header("cookie", cookie).await.expect(200).text("ann");
/// });
/// ```
impl<S> Ctx<S> {
    /// The value of the first cookie of that name whose signature is ours (HMAC-SHA256). None
    /// where there is none, whatever the reason.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::cookie::Key;
    /// # let key = Key::derive_from(&[7; 32]);
    /// let app = App::new(key).get("/", async |cx| match cx.signed_cookie(cx.state(), "user") {
    ///     Some(user) => cx.text(user), // nobody but us has set it
    ///     None => Err(Error::unauthorized()), // none, a forged one, or one of another name
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").header("cookie", "user=ann").await.expect(401); // no signature
    /// # });
    /// ```
    pub fn signed_cookie(&self, key: &Key, name: &str) -> Option<&str> {
        let jar = CookieJar::new();
        self.first_opened(name, |cookie| {
            let cookie = jar.signed(key).verify(cookie)?;
            let value = cookie.value().strip_prefix(name)?.strip_prefix('=')?;
            Some(self.core.arena.copy(value))
        })
    }

    /// Sets a cookie as [`set_cookie`](Ctx::set_cookie) does, readable and signed. The signature is
    /// for this name: the value is of no use under another one.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::cookie::Key;
    /// async fn sign_in(cx: &Ctx<Key>) -> Result<Reply> {
    ///     let until_ms = cx.shard().now_ms() + 3_600_000; // so that an old one can be told
    ///     cx.set_signed_cookie(cx.state(), ("session", format!("ann.{until_ms}"))).empty()
    /// }
    /// # let app = App::new(Key::derive_from(&[7; 32])).get("/", sign_in);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let set = client.get("/").await.expect(204);
    /// # assert!(set.header("set-cookie").expect("a cookie").contains("ann."));
    /// # });
    /// ```
    pub fn set_signed_cookie<'c>(&self, key: &Key, cookie: impl Into<Cookie<'c>>) -> &Self {
        let mut cookie = cookie.into();
        // The jar signs the value alone, so the name goes into it.
        let bound = format!("{}={}", cookie.name(), cookie.value());
        let mut jar = CookieJar::new();
        jar.signed_mut(key).add(Cookie::new(cookie.name().to_owned(), bound));
        self.set_sealed(&jar, &mut cookie);
        self.set_cookie(cookie)
    }

    /// The decrypted value of the first cookie of that name that we have encrypted
    /// (AES-256-GCM). None where there is none, whatever the reason.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::cookie::Key;
    /// async fn cart(cx: &Ctx<Key>) -> Result<Reply> {
    ///     let items: u32 = match cx.private_cookie(cx.state(), "items") {
    ///         Some(text) => text.parse()?, // ours, so it is a number
    ///         None => 0,
    ///     };
    ///     cx.set_private_cookie(cx.state(), ("items", (items + 1).to_string())).json(&items)
    /// }
    /// # let app = App::new(Key::derive_from(&[7; 32])).get("/", cart);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let set = client.get("/").await.expect(200).text("0");
    /// # let (cookie, _) = set.header("set-cookie").unwrap().split_once(';').unwrap();
    /// # client.get("/").header("cookie", cookie).await.expect(200).text("1");
    /// # });
    /// ```
    pub fn private_cookie(&self, key: &Key, name: &str) -> Option<&str> {
        let jar = CookieJar::new();
        self.first_opened(name, |cookie| {
            let cookie = jar.private(key).decrypt(cookie)?;
            Some(self.core.arena.copy(cookie.value()))
        })
    }

    /// Sets a cookie as [`set_cookie`](Ctx::set_cookie) does, encrypted and bound to its name.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::cookie::{Cookie, Key, time::Duration};
    /// async fn remember(cx: &Ctx<Key>) -> Result<Reply> {
    ///     let cookie = Cookie::build(("email", "ann@example.com")).max_age(Duration::days(30));
    ///     cx.set_private_cookie(cx.state(), cookie).empty()
    /// }
    /// # let app = App::new(Key::derive_from(&[7; 32])).get("/", remember);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let set = client.get("/").await.expect(204);
    /// assert!(!set.header("set-cookie").unwrap().contains("ann")); // the client cannot read it
    /// # });
    /// ```
    pub fn set_private_cookie<'c>(&self, key: &Key, cookie: impl Into<Cookie<'c>>) -> &Self {
        let mut cookie = cookie.into();
        let plain = Cookie::new(cookie.name().to_owned(), cookie.value().to_owned());
        let mut jar = CookieJar::new();
        jar.private_mut(key).add(plain);
        self.set_sealed(&jar, &mut cookie);
        self.set_cookie(cookie)
    }

    /// A forged one in front does not hide ours.
    fn first_opened<'a>(
        &'a self,
        name: &str,
        open: impl FnMut(Cookie<'static>) -> Option<&'a str>,
    ) -> Option<&'a str> {
        let sealed = self.core.cookies_named(name).map(|value| {
            let value = self.core.cookie_text(value);
            Cookie::new(name.to_owned(), value.to_owned())
        });
        sealed.map(open).find_map(|value| value)
    }

    fn set_sealed(&self, jar: &CookieJar, cookie: &mut Cookie<'_>) {
        let sealed = jar.get(cookie.name()).map_or("", |sealed| sealed.value());
        cookie.set_value(sealed.to_owned());
    }
}
