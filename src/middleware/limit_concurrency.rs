//! Load shedding: a bound on the requests that run at once.

use std::cell::Cell;

use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::error::Error;

/// Lets at most so many requests of a shard run at once; one more is answered at once with 503 and
/// `Retry-After: 1`. Nothing queues: what waits behind a slow handler only makes it slower.
///
/// A streamed answer counts until it ends.
///
/// ```
/// use soloist::middleware::limit_concurrency;
/// use soloist::prelude::*;
///
/// let app = App::new(()).wrap(limit_concurrency(256)).get("/", async |cx| cx.text("hello"));
/// ```
pub fn limit_concurrency<S: 'static>(requests_max: usize) -> impl Middleware<S> {
    let running = Cell::new(0);
    async move |_: &Ctx<S>, next: Next<'_>| {
        if running.get() >= requests_max {
            return Err(Error::new(503, "too busy").set("retry-after", "1"));
        }
        let _one = One::of(&running);
        next.run().await
    }
}

/// One running request, until it is dropped.
struct One<'a>(&'a Cell<usize>);

impl<'a> One<'a> {
    fn of(running: &'a Cell<usize>) -> One<'a> {
        running.set(running.get() + 1);
        One(running)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
