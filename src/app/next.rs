//! The rest of the chain, as a middleware sees it.

use std::rc::Rc;

use super::ctx::Ctx;
use super::handler::{Endpoint, Layer};
use super::reply::Reply;
use super::site::Shared;
use crate::base::arena::Placed;
use crate::error::Result;

/// What comes after a middleware: the next one, or the handler.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # use std::cell::Cell;
/// async fn maintenance(cx: &Ctx<Cell<bool>>, next: Next<'_>) -> Result<Reply> {
///     match cx.state().get() {
///         true => Err(Error::new(503, "back soon").set("retry-after", "60")), // `next` is not run
///         false => next.run().await,
///     }
/// }
/// # let app = App::new(Cell::new(true)).wrap(maintenance);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/").await.expect(503).has("retry-after", "60");
/// # });
/// ```
#[must_use = "without `run` the handler is not called"]
pub struct Next<'a>(&'a (dyn Step<'a> + 'a));

impl Next<'_> {
    /// Runs the rest. An error is passed on, to be answered further out.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// /// An empty list for what cannot be asked now.
    /// async fn or_nothing(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     match next.run().await {
    ///         Err(error) if error.status() == 503 => cx.text("[]"),
    ///         result => result,
    ///     }
    /// }
    /// # let app = App::new(()).wrap(or_nothing)
    /// #     .get("/list", async |_| Err(Error::new(503, "not now")));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/list").await.expect(200).text("[]");
    /// # client.get("/x").await.expect(404);
    /// # });
    /// ```
    pub async fn run(self) -> Result<Reply> {
        self.0.run().await
    }

    /// Runs the rest and answers its error on the spot: for middleware that decorates every reply.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn stamped(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     let reply = next.reply().await; // an error takes back what was set before it
    ///     cx.set_header("x-served-by", "a7");
    ///     Ok(reply)
    /// }
    /// # let app = App::new(()).wrap(stamped);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/nothing").await.expect(404).has("x-served-by", "a7");
    /// # });
    /// ```
    pub async fn reply(self) -> Reply {
        let result = self.0.run().await;
        self.0.settle(result)
    }
}

trait Step<'a> {
    fn run(&self) -> Placed<'a, Result<Reply>>;
    fn settle(&self, result: Result<Reply>) -> Reply;
}

/// Lies in the arena, needs no drop.
struct Link<'a, S> {
    cx: &'a Ctx<S>,
    shared: &'a Shared<S>,
    rest: &'a [Rc<dyn Layer<S>>],
    end: &'a dyn Endpoint<S>,
}

impl<'a, S: 'static> Step<'a> for Link<'a, S> {
    fn run(&self) -> Placed<'a, Result<Reply>> {
        run_chain(self.cx, self.shared, self.rest, self.end)
    }

    fn settle(&self, result: Result<Reply>) -> Reply {
        self.shared.settle(self.cx, result)
    }
}

#[inline]
pub(crate) fn run_chain<'a, S: 'static>(
    cx: &'a Ctx<S>,
    shared: &'a Shared<S>,
    layers: &'a [Rc<dyn Layer<S>>],
    end: &'a dyn Endpoint<S>,
) -> Placed<'a, Result<Reply>> {
    match layers.split_first() {
        None => end.call(cx),
        Some((first, rest)) => {
            let link = cx.core.arena.keep(Link { cx, shared, rest, end });
            first.call(cx, Next(link))
        }
    }
}
