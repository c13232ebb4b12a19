//! Types that are taken from the context as a whole.

use std::future::Future;

use super::ctx::Ctx;
use crate::error::Result;

/// A type that a request can be asked for: see [`Ctx::take`]. Write `from_ctx` as an `async fn`.
///
/// It may borrow from the request (`impl<'a, S> FromCtx<'a, S> for User<'a>`), and it may ask for
/// one state only (`impl FromCtx<'_, Todos> for Db`).
///
/// ```
/// use soloist::prelude::*;
/// use soloist::{FromCtx, testing::TestClient};
///
/// struct Bearer<'a>(&'a str);
///
/// impl<'a, S> FromCtx<'a, S> for Bearer<'a> {
///     async fn from_ctx(cx: &'a Ctx<S>) -> Result<Self> {
///         let field = cx.header("authorization").unwrap_or_default();
///         field.strip_prefix("Bearer ").map(Bearer).ok_or_else(Error::unauthorized)
///     }
/// }
/// async fn whoami(cx: &Ctx<()>) -> Result<Reply> {
///     let Bearer(token) = cx.take().await?;
///     cx.text(token)
/// }
/// TestClient::run(async |_| Ok(App::new(()).get("/", whoami)), async |client| {
///     client.get("/").await.expect(401);
///     client.get("/").header("authorization", "Bearer ann").await.expect(200).text("ann");
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a `Ctx<{S}>`",
    label = "no `FromCtx` for this state",
    note = "implement `FromCtx<'_, {S}>` for `{Self}`: `async fn from_ctx(cx: &Ctx<{S}>) -> Result<Self>`"
)]
pub trait FromCtx<'a, S>: Sized {
    /// Reads it from the request. Its error is the answer.
    fn from_ctx(cx: &'a Ctx<S>) -> impl Future<Output = Result<Self>>;
}

/// Taking.
impl<S> Ctx<S> {
    /// A value of a type that knows how to read itself from a request.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::FromCtx;
    /// struct Page(u32);
    ///
    /// impl<S> FromCtx<'_, S> for Page {
    ///     async fn from_ctx(cx: &Ctx<S>) -> Result<Page> {
    ///         let text = cx.query_param("page").unwrap_or("1");
    ///         text.parse().map(Page).map_err(|_| Error::bad_request("page: not a number"))
    ///     }
    /// }
    /// let app = App::new(()).get("/", async |cx| {
    ///     let Page(page) = cx.take().await?; // its error is the answer
    ///     cx.json(&page)
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/?page=3").await.text("3");
    /// client.get("/?page=x").await.expect(400).text("page: not a number");
    /// # });
    /// ```
    pub async fn take<'a, T: FromCtx<'a, S>>(&'a self) -> Result<T> {
        T::from_ctx(self).await
    }
}
