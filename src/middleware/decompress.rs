//! Compressed request bodies (RFC 9110 section 8.4).

use super::decoder::{Decoder, NAMES};
use crate::app::core::Core;
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::error::{Error, Result};
use crate::http::head::Body;
use crate::limits::CODING_SLICE_BYTES;
use crate::shard::tasks::yield_now;

/// Decodes request bodies with a `Content-Encoding` of gzip, br, zstd or deflate: `body()`,
/// `body_json` and `next_chunk` then give the plain bytes. `Content-Encoding` and
/// `Content-Length` still say what came.
///
/// Such a body is read whole before the handler runs. Both what comes and what comes out of it are
/// bounded by [`body_bytes_max`](crate::Limits::body_bytes_max), or by a
/// [`body_limit`](super::body_limit) further out: more is 413 as soon as it is seen. Another
/// coding, or more than one, is 415 with `Accept-Encoding`; a body that is not valid, not whole or
/// followed by something is 400. While it decodes, a request takes up to 16 MiB beside its body.
///
/// ```
/// use soloist::middleware::decompress;
/// use soloist::prelude::*;
///
/// let app = App::new(())
///     .wrap(decompress())
///     .post("/", async |cx| cx.text(cx.body().await?.len().to_string()));
/// ```
pub fn decompress<S: 'static>() -> impl Middleware<S> {
    async move |cx: &Ctx<S>, next: Next<'_>| {
        let core = &*cx.core;
        if matches!(core.head.body, Body::Length(_) | Body::Chunked)
            && let Some(coding) = coding_of(core)?
        {
            let body = core.read_body().await?;
            if !body.is_empty() {
                let plain = decode(core, coding, body).await?;
                core.replace_request_body(plain);
            }
        }
        next.run().await
    }
}

/// The only coding of the request's body; none if it is plain.
fn coding_of(core: &Core) -> Result<Option<&str>> {
    let lists = core.request_fields("content-encoding").flat_map(|list| list.split(','));
    let codings = lists.map(|it| it.trim_matches([' ', '\t']));
    let mut codings =
        codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
    match (codings.next(), codings.next()) {
        (coding, None) => Ok(coding),
        _ => Err(unsupported()),
    }
}

async fn decode(core: &Core, coding: &str, body: &[u8]) -> Result<Vec<u8>> {
    let bytes_max = core.body_limit(core.local.limits.body_bytes_max);
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new(coding, body)?.ok_or_else(unsupported)?;
    let mut plain = core.local.spares.take();
    let mut since_yield = 0;
    loop {
        let len = plain.len();
        // One more than may be, to see that there is more.
        let room = CODING_SLICE_BYTES.min((bytes_max - len).saturating_add(1));
        plain.resize(len + room, 0);
        let read = decoder.read(&mut plain[len..]).map_err(|error| {
            Error::bad_request(format!("the body is not valid {coding}")).because(error)
        })?;
        plain.truncate(len + read);
        if plain.len() > bytes_max {
            return Err(core.too_large());
        }
        if read == 0 {
            return Ok(plain);
        }
        since_yield += read;
        if since_yield >= CODING_SLICE_BYTES {
            since_yield = 0;
            yield_now().await;
        }
    }
}

fn unsupported() -> Error {
    Error::new(415, "this content coding is not supported").set("accept-encoding", NAMES)
}
