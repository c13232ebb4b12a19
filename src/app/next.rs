//! The rest of the chain, as a middleware sees it.

use std::rc::Rc;

use super::ctx::Ctx;
use super::handler::{Endpoint, Layer};
use super::reply::Reply;
use super::site::Shared;
use crate::base::arena::Placed;
use crate::error::Result;

/// What comes after a middleware: the next one, or the handler.
#[must_use = "without `run` the handler is not called"]
pub struct Next<'a>(&'a (dyn Step<'a> + 'a));

impl Next<'_> {
    /// Runs the rest. An error is passed on, to be answered further out.
    pub async fn run(self) -> Result<Reply> {
        self.0.run().await
    }

    /// Runs the rest and answers its error on the spot: for middleware that decorates every reply.
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
