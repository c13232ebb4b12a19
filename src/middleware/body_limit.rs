//! A bound on the body of a request.

use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;

/// Bounds the bodies of these requests: 413 by Content-Length before the handler runs, and while
/// a chunked body comes in. A refused client's connection closes, and it is not asked to go on if
/// it waits for `100 Continue`.
///
/// It stands in place of [`body_bytes_max`](crate::Limits::body_bytes_max) and
/// [`stream_bytes_max`](crate::Limits::stream_bytes_max), so it may also be larger: what `body()`
/// buffers is then what you say here. The innermost one counts.
///
/// ```
/// use soloist::middleware::body_limit;
/// use soloist::prelude::*;
///
/// let app = App::new(())
///     .wrap(body_limit(64 * 1024))
///     .post("/", async |cx| cx.text(cx.body().await?.len().to_string()));
/// ```
pub fn body_limit<S: 'static>(bytes_max: u64) -> impl Middleware<S> {
    async move |cx: &Ctx<S>, next: Next<'_>| {
        cx.core.body_bytes_max.set(bytes_max.min(u64::MAX - 1));
        cx.core.check_length(bytes_max)?;
        next.run().await
    }
}
