//! Redirects.

use super::ctx::Ctx;
use super::reply::Reply;
use crate::error::{Error, Result};
use crate::http::location::Location;

/// Answering with another place.
impl<S> Ctx<S> {
    /// 303: the client is to GET `to` (RFC 9110 section 15.4.4), as after a form.
    ///
    /// `to` is a path or a whole URI. Characters that a URI may not hold are percent-encoded, a
    /// backslash too; `%` stays, so that what is encoded already is not encoded twice. Text of a
    /// client belongs behind a path of yours: `//host/` at the beginning is another host.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn create(cx: &Ctx<()>) -> Result<Reply> {
    ///     let id = 7;
    ///     cx.redirect(cx.format(format_args!("/todos/{id}")))
    /// }
    /// ```
    ///
    /// # Errors
    /// When `to` holds a control character, such as a line break.
    pub fn redirect(&self, to: impl AsRef<str>) -> Result<Reply> {
        self.redirect_with(303, to)
    }

    /// The same with a status: 301 and 308 for good, 302 and 307 for now, 303 to GET another
    /// thing. 307 and 308 keep the method (RFC 9110 section 15.4).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(())
    ///     .get("/old", async |cx| cx.redirect_with(301, "/new")) // caches keep it
    ///     .post("/upload", async |cx| cx.redirect_with(307, "/v2/upload")); // POST it there
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/old").await.expect(301).has("location", "/new");
    /// client.post("/upload").await.expect(307).has("location", "/v2/upload");
    /// # });
    /// ```
    ///
    /// # Errors
    /// With another status, and as [`redirect`](Ctx::redirect).
    pub fn redirect_with(&self, status: u16, to: impl AsRef<str>) -> Result<Reply> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err(Error::from(format!("{status}: redirect with 301, 302, 303, 307 or 308")));
        }
        let to = to.as_ref();
        let Some(location) = Location::new(to) else {
            return Err(Error::from(format!("a redirect to {to:?}, which has control characters")));
        };
        self.check_open()?;
        self.status(status).set_header("location", self.format(format_args!("{location}")));
        self.answer("", b"")
    }
}
