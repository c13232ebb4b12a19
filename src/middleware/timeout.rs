//! A bound on the time until an answer begins.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::app::core::{Core, Phase};
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::base::counters::Count;
use crate::error::Error;
use crate::shard::time::Alarm;

/// Answers 503 where the handler has not begun its answer in time; the handler is dropped at the
/// `.await` where it stands.
///
/// It ends at the head: a streamed answer may take as long as it likes. The time is the shard's,
/// exact to 5 ms; a handler that never awaits cannot be stopped. For every request of a server
/// see [`request_ms_max`](crate::Limits::request_ms_max).
///
/// ```
/// use std::time::Duration;
/// use soloist::middleware::timeout;
/// use soloist::prelude::*;
///
/// let app = App::new(()).wrap(timeout(Duration::from_secs(5))).get("/slow", async |cx| {
///     cx.sleep(Duration::from_secs(60)).await;
///     cx.text("never seen")
/// });
/// ```
pub fn timeout<S: 'static>(limit: Duration) -> impl Middleware<S> {
    let limit_ms = u64::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    async move |cx: &Ctx<S>, next: Next<'_>| {
        let core = &*cx.core;
        let until_ms = core.local.clock.now_ms().saturating_add(limit_ms);
        let armed = Armed { core, alarm: Alarm::default() };
        let mut rest = pin!(next.run());
        poll_fn(|task| {
            if let Poll::Ready(result) = rest.as_mut().poll(task) {
                return Poll::Ready(result);
            }
            if matches!(core.phase.get(), Phase::Streaming | Phase::Finished) {
                armed.alarm.cancel(&core.local);
                return Poll::Pending;
            }
            armed.alarm.poll(&core.local, until_ms, task).map(|()| {
                core.local.counters.add(Count::TimedOut, 1);
                Err(Error::new(503, "took too long"))
            })
        })
        .await
    }
}

/// Cancels its alarm when the request is dropped.
struct Armed<'a> {
    core: &'a Core,
    alarm: Alarm,
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.alarm.cancel(&self.core.local);
    }
}
