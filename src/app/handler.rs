//! The one shape of a handler, and how its type is erased: into the request's arena.

use std::rc::Rc;

use super::core::Core;
use super::ctx::Ctx;
use super::next::Next;
use super::reply::Reply;
use super::site::Shared;
use crate::base::arena::Placed;
use crate::error::Result;

/// Answers requests: `async fn name(cx: &Ctx<S>) -> Result<Reply>`, or `async |cx| ...`.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// use soloist::Handler;
///
/// /// The same for GET and for POST, as search forms are sent.
/// fn both<S: 'static>(app: App<S>, path: &str, answer: impl Handler<S> + Clone) -> App<S> {
///     app.get(path, answer.clone()).post(path, answer)
/// }
/// let app = both(App::new(()), "/search", async |cx| cx.text(cx.method()));
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/search").await.text("GET");
/// # client.post("/search").await.text("POST");
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer a request",
    label = "not a handler of `App<{S}>`",
    note = "a handler is `async fn name(cx: &Ctx<{S}>) -> Result<Reply>` or `async |cx| ...`: check `async`, the `&`, the return type"
)]
pub trait Handler<S>: AsyncFn(&Ctx<S>) -> Result<Reply> + 'static {}

#[diagnostic::do_not_recommend]
impl<S, F: AsyncFn(&Ctx<S>) -> Result<Reply> + 'static> Handler<S> for F {}

/// Stands around handlers: `async fn name(cx: &Ctx<S>, next: Next<'_>) -> Result<Reply>`.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// use soloist::Middleware;
///
/// /// 404 for who does not know the word: for any state.
/// fn secret<S: 'static>(word: &'static str) -> impl Middleware<S> {
///     async move |cx: &Ctx<S>, next: Next<'_>| match cx.query_param("word") {
///         Some(said) if said == word => next.run().await,
///         _ => Err(Error::not_found()),
///     }
/// }
/// let app = App::new(()).wrap(secret("rose")).get("/", async |cx| cx.text("hello"));
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/").await.expect(404);
/// # client.get("/?word=rose").await.expect(200);
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware",
    label = "not a middleware of `App<{S}>`",
    note = "a middleware is `async fn name(cx: &Ctx<{S}>, next: Next<'_>) -> Result<Reply>`: check `async`, the `&`, the return type"
)]
pub trait Middleware<S>: AsyncFn(&Ctx<S>, Next<'_>) -> Result<Reply> + 'static {}

#[diagnostic::do_not_recommend]
impl<S, F: AsyncFn(&Ctx<S>, Next<'_>) -> Result<Reply> + 'static> Middleware<S> for F {}

/// A handler whose type is forgotten.
pub(crate) trait Endpoint<S> {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>>;

    /// The whole of a request that no middleware stands around.
    fn enter<'a>(&'a self, core: &'a Rc<Core>, shared: &'a Shared<S>) -> Placed<'a, ()>
    where
        S: 'static,
    {
        core.arena.place(move || async move {
            let cx = Ctx { core: core.clone(), state: shared.state.clone() };
            let result = self.call(&cx).await;
            let _ = shared.settle(&cx, result);
        })
    }
}

/// A middleware whose type is forgotten.
pub(crate) trait Layer<S> {
    fn call<'a>(&'a self, cx: &'a Ctx<S>, next: Next<'a>) -> Placed<'a, Result<Reply>>;
}

pub(crate) struct End<F>(pub(crate) F);

impl<S: 'static, F: Handler<S>> Endpoint<S> for End<F> {
    #[inline]
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(|| (self.0)(cx))
    }

    /// One future in the arena, not two.
    #[inline]
    fn enter<'a>(&'a self, core: &'a Rc<Core>, shared: &'a Shared<S>) -> Placed<'a, ()> {
        core.arena.place(move || async move {
            let cx = Ctx { core: core.clone(), state: shared.state.clone() };
            let result = (self.0)(&cx).await;
            let _ = shared.settle(&cx, result);
        })
    }
}

pub(crate) struct Around<F>(pub(crate) F);

impl<S: 'static, F: Middleware<S>> Layer<S> for Around<F> {
    #[inline]
    fn call<'a>(&'a self, cx: &'a Ctx<S>, next: Next<'a>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(|| (self.0)(cx, next))
    }
}
