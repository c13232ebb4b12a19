//! Entity tags for whole bodies, and 304 for who has them (RFC 9110 section 8.8.3).

use std::hash::{DefaultHasher, Hasher};

use crate::app::core::{Core, Phase};
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::http::head::Method;
use crate::http::tags::{Compare, has_tag};
use crate::limits::ETAG_SLICE_BYTES;
use crate::shard::tasks::yield_now;

/// What an entity tag promises (RFC 9110 section 8.8.1).
///
/// ```
/// use soloist::middleware::{Strength, etag};
/// use soloist::prelude::*;
/// # use soloist::testing::TestClient;
///
/// # async fn app(_: Shard) -> Result<App<()>> {
/// let app = App::new(()).wrap(etag(Strength::Weak)).get("/", async |cx| cx.text("hello"));
/// # Ok(app)
/// # }
/// # TestClient::run(app, async |client| {
/// let answer = client.get("/").await.expect(200);
/// let tag = answer.header("etag").expect("a tag"); // W/"..": weak ones say so
/// client.get("/").header("if-none-match", tag).await.expect(304).text("");
/// # assert!(tag.starts_with("W/\""));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// The same tag, the same bytes: good for ranges too.
    Strong,
    /// The same tag, the same meaning.
    Weak,
}

/// Gives a 200 of GET and HEAD the hash of its body as an `ETag`, unless the handler has set one,
/// and answers 304 without the body where `If-None-Match` knows the tag (RFC 9110 sections 13.1.2
/// and 15.4.5).
///
/// The handler runs as ever: what is saved is the way to the client. Streamed answers are left
/// alone. The hash is 64 bits of SipHash with the length, the same on every shard and in every
/// process of one build; bodies above 256 KiB are hashed in slices, with turns for others between.
/// With `compress` put that outside of this: it makes the tag weak.
///
/// ```
/// use soloist::middleware::{Strength, etag};
/// use soloist::prelude::*;
///
/// let app = App::new(()).wrap(etag(Strength::Strong)).get("/", async |cx| cx.text("hello"));
/// ```
pub fn etag<S: 'static>(strength: Strength) -> impl Middleware<S> {
    async move |cx: &Ctx<S>, next: Next<'_>| {
        let reply = next.run().await?;
        let core = &*cx.core;
        let asks = matches!(core.head.method, Method::Get | Method::Head);
        if !asks || core.status.get() != 200 || core.phase.get() != Phase::Answered {
            return Ok(reply);
        }
        let tag = match core.field_copy("etag") {
            Some(tag) => tag,
            None => {
                let (hash, len) = hash_body(core).await;
                let weak = if strength == Strength::Weak { "W/" } else { "" };
                let tag = cx.format(format_args!("{weak}\"{hash:016x}-{len:x}\""));
                cx.set_header("etag", tag);
                tag
            }
        };
        if core.request_fields("if-none-match").any(|list| has_tag(list, tag, Compare::Weak)) {
            not_modified(core);
        }
        Ok(reply)
    }
}

pub(super) async fn hash_body(core: &Core) -> (u64, usize) {
    // The standard library's hasher with its fixed keys: every shard finds the same.
    let mut hasher = DefaultHasher::new();
    core.own_body();
    let body = core.body.take();
    for (at, slice) in body.chunks(ETAG_SLICE_BYTES).enumerate() {
        if at > 0 {
            yield_now().await;
        }
        hasher.write(slice);
    }
    let len = body.len();
    core.body.set(body);
    (hasher.finish(), len)
}

/// Turns a 200 into a 304: without body, and without the fields that describe one, but for those
/// that a cache needs to find and to refresh what it has.
pub(super) fn not_modified(core: &Core) {
    core.status.set(304);
    core.drop_body();
    for name in ["content-type", "content-encoding", "content-language", "last-modified"] {
        core.remove_field(name);
    }
}
