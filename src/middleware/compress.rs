//! Compressed answers (RFC 9110 sections 8.4 and 12.5.3).

use std::io;
use std::rc::Rc;

use super::coding::{Coding, Encoder};
use crate::app::core::{Core, Phase};
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::app::on_head::{KeptOnHead, ReplyHead};
use crate::app::reply::{BodyFilter, is_bodiless};
use crate::error::{Error, Result};
use crate::http::accept;
use crate::limits::{CODING_SLICE_BYTES, COMPRESS_BYTES_MIN};
use crate::shard::tasks::yield_now;

/// How answers are compressed.
///
/// ```
/// use soloist::middleware::{Coding, Compress, compress_with};
/// use soloist::prelude::*;
///
/// async fn app(_: Shard) -> Result<App<()>> {
///     let fast = Compress::new().codings(&[Coding::Zstd, Coding::Gzip]).gzip_level(1);
///     Ok(App::new(()).wrap(compress_with(fast)?))
/// }
/// # soloist::testing::TestClient::run(app, async |_| ());
/// ```
#[derive(Clone, Debug)]
pub struct Compress {
    bytes_min: usize,
    codings: Vec<Coding>,
    brotli_level: u32,
    zstd_level: u32,
    gzip_level: u32,
}

impl Default for Compress {
    fn default() -> Compress {
        Compress::new()
    }
}

impl Compress {
    /// From 1 KiB on; brotli 4, zstd 3 or gzip 6, in this order where a client likes them equally.
    ///
    /// ```
    /// # use soloist::middleware::{Compress, compress_with};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let app = App::new(()).wrap(compress_with(Compress::new())?); // what `compress()` is
    /// # Ok(app.get("/", async |cx| cx.text("hello, world\n".repeat(100))))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// let answer = client.get("/").header("accept-encoding", "gzip, zstd, br").await.expect(200);
    /// assert_eq!(answer.header("content-encoding"), Some("br"));
    /// let answer = client.get("/").header("accept-encoding", "gzip, zstd;q=0.5").await;
    /// assert_eq!(answer.header("content-encoding"), Some("gzip"));
    /// # });
    /// ```
    pub fn new() -> Compress {
        Compress {
            bytes_min: COMPRESS_BYTES_MIN,
            codings: Coding::ALL.to_vec(),
            brotli_level: 4,
            zstd_level: 3,
            gzip_level: 6,
        }
    }

    /// Whole bodies smaller than this are left alone; streamed ones are not.
    ///
    /// ```
    /// use soloist::middleware::Compress;
    ///
    /// // What fits one packet as it is arrives no sooner for being smaller.
    /// let settings = Compress::new().bytes_min(1_300);
    /// ```
    pub fn bytes_min(mut self, bytes: usize) -> Self {
        self.bytes_min = bytes;
        self
    }

    /// The codings to use, the best first: the order decides where a client likes them equally.
    /// None at all is an error of [`compress_with`].
    ///
    /// ```
    /// # use soloist::middleware::{Coding, Compress, compress_with};
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let settings = Compress::new().codings(&[Coding::Zstd, Coding::Gzip]);
    /// # let app = App::new(()).wrap(compress_with(settings)?);
    /// # Ok(app.get("/", async |cx| cx.text("hello, world\n".repeat(100))))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// let answer = client.get("/").header("accept-encoding", "br, gzip, zstd").await;
    /// assert_eq!(answer.header("content-encoding"), Some("zstd"));
    /// # });
    /// ```
    pub fn codings(mut self, codings: &[Coding]) -> Self {
        self.codings = codings.to_vec();
        self
    }

    /// 0 to 11; 4 unless it is said. Each level saves less than the one before, and takes longer.
    ///
    /// ```
    /// use soloist::middleware::Compress;
    ///
    /// let thorough = Compress::new().brotli_level(9); // for pages that a cache in front keeps
    /// ```
    pub fn brotli_level(mut self, level: u32) -> Self {
        self.brotli_level = level;
        self
    }

    /// 1 to 22; 3 unless it is said. High levels take much memory too.
    ///
    /// ```
    /// use soloist::middleware::{Coding, Compress};
    ///
    /// let quick = Compress::new().codings(&[Coding::Zstd]).zstd_level(1);
    /// ```
    pub fn zstd_level(mut self, level: u32) -> Self {
        self.zstd_level = level;
        self
    }

    /// 0 to 9; 6 unless it is said. 0 wraps the bytes without making them fewer: such a body goes
    /// out as it was.
    ///
    /// ```
    /// # use soloist::middleware::{Compress, compress_with};
    /// # use soloist::prelude::*;
    /// # fn main() {
    /// let quick = Compress::new().gzip_level(1);
    /// # assert!(compress_with::<()>(quick).is_ok());
    /// let error = compress_with::<()>(Compress::new().gzip_level(10)).err().expect("10 is none");
    /// assert_eq!(error.message(), "compress: gzip_level: 0 to 9");
    /// # }
    /// ```
    pub fn gzip_level(mut self, level: u32) -> Self {
        self.gzip_level = level;
        self
    }

    fn check(&self) -> Result<()> {
        let rules = [
            (!self.codings.is_empty(), "codings: none: leave `compress` out"),
            (self.brotli_level <= 11, "brotli_level: 0 to 11"),
            ((1..=22).contains(&self.zstd_level), "zstd_level: 1 to 22"),
            (self.gzip_level <= 9, "gzip_level: 0 to 9"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::new(500, format!("compress: {rule}"))),
            None => Ok(()),
        }
    }

    fn encoder(&self, coding: Coding, into: Vec<u8>, bytes: Option<usize>) -> io::Result<Encoder> {
        let level = match coding {
            Coding::Brotli => self.brotli_level,
            Coding::Zstd => self.zstd_level,
            Coding::Gzip => self.gzip_level,
        };
        Encoder::new(coding, level, into, bytes)
    }

    /// What the client likes best of them.
    fn choose(&self, core: &Core) -> Option<Coding> {
        let all = self.codings.iter().map(|it| it.name());
        let mut names = [""; 8];
        let len = all.zip(&mut names).map(|(name, place)| *place = name).count();
        let name = accept::encoding(core.request_fields("accept-encoding"), &names[..len])?;
        self.codings.iter().copied().find(|coding| coding.name() == name)
    }
}

/// Compresses answers for clients that say in `Accept-Encoding` that they can read it.
///
/// Left alone is what is smaller than 1 KiB, has a `Content-Encoding` already, is an image, a
/// film, an archive or unknown bytes by its type, has `no-transform` in its `Cache-Control`, or is
/// 204, 206 or 304. `Vary: Accept-Encoding` is set on what could be compressed, and a strong `ETag`
/// becomes a weak one, because the bytes are others (RFC 9110 section 8.8.1).
///
/// A large body is compressed in slices of 16 KiB with turns for the other requests of the shard
/// between. A streamed body is compressed and sent write by write, so that events arrive when they
/// are written. Every streamed answer holds its coder's memory while it lasts: up to 1.5 MiB.
///
/// An answer that holds a secret beside text of the client's choice tells its length to who can
/// watch (BREACH): do not compress such ones.
///
/// ```
/// use soloist::middleware::compress;
/// use soloist::prelude::*;
///
/// let app = App::new(()).wrap(compress()).get("/", async |cx| cx.text("hello".repeat(1_000)));
/// ```
pub fn compress<S: 'static>() -> impl Middleware<S> {
    around(Compress::new())
}

/// [`compress`] with settings of your own. An error says which of them cannot be: no codings, or a
/// level out of its range.
///
/// ```
/// use soloist::middleware::{Compress, compress_with};
/// use soloist::prelude::*;
/// # use soloist::testing::TestClient;
///
/// async fn app(_: Shard) -> Result<App<()>> {
///     let large_only = compress_with(Compress::new().bytes_min(10_000))?;
///     Ok(App::new(()).wrap(large_only).get("/", async |cx| cx.text("hello, ".repeat(1_000))))
/// }
/// # TestClient::run(app, async |client| {
/// #     let answer = client.get("/").header("accept-encoding", "gzip").await.expect(200);
/// #     assert_eq!((answer.header("content-encoding"), answer.body().len()), (None, 7_000));
/// # });
/// ```
pub fn compress_with<S: 'static>(settings: Compress) -> Result<impl Middleware<S>> {
    settings.check()?;
    Ok(around(settings))
}

fn around<S: 'static>(settings: Compress) -> impl Middleware<S> {
    let settings = Rc::new(settings);
    let on_head: KeptOnHead = Rc::new({
        let settings = settings.clone();
        move |head: &ReplyHead<'_>| {
            if head.is_streamed() {
                filter_stream(head, &settings);
            }
        }
    });
    async move |cx: &Ctx<S>, next: Next<'_>| {
        cx.on_head_kept(&on_head);
        let reply = next.run().await?;
        let core = &*cx.core;
        if core.phase.get() != Phase::Answered {
            return Ok(reply);
        }
        if core.status.get() == 304 {
            core.add_vary(NAME); // as the 200 would say (RFC 9110 section 15.4.5)
        }
        if core.body_bytes() >= settings.bytes_min && may_change(core) {
            core.add_vary(NAME);
            if let Some(coding) = settings.choose(core) {
                compress_body(core, coding, &settings).await;
            }
        }
        Ok(reply)
    }
}

const NAME: &str = "Accept-Encoding";

/// Compresses a whole body; one that does not get smaller stays as it is.
async fn compress_body(core: &Core, coding: Coding, settings: &Compress) {
    core.own_body();
    let plain = core.body.take();
    let coded = async {
        let mut encoder = settings.encoder(coding, core.local.spares.take(), Some(plain.len()))?;
        for (at, slice) in plain.chunks(CODING_SLICE_BYTES).enumerate() {
            if at > 0 {
                yield_now().await;
            }
            encoder.write(slice)?;
        }
        encoder.finish()
    };
    match coded.await {
        Ok(coded) if coded.len() < plain.len() => {
            core.body.set(coded);
            core.local.spares.give(plain);
            mark(core, coding);
        }
        Ok(_) => core.body.set(plain),
        Err(error) => {
            tracing::warn!(coding = coding.name(), "an answer goes out uncompressed: {error}");
            core.body.set(plain);
        }
    }
}

fn filter_stream(head: &ReplyHead<'_>, settings: &Compress) {
    let core = head.0;
    // Another filter stands there already: it goes first, and there is one place only.
    if !may_change(core) || core.is_filtered() {
        return;
    }
    core.add_vary(NAME);
    let Some(coding) = settings.choose(core) else { return };
    match settings.encoder(coding, Vec::new(), None) {
        Ok(encoder) => {
            head.filter_body(Filter { encoder: Some(encoder) });
            mark(core, coding);
        }
        Err(error) => {
            tracing::warn!(coding = coding.name(), "an answer goes out uncompressed: {error}");
        }
    }
}

/// Says how the body is coded now, and that it is not the same bytes as before.
fn mark(core: &Core, coding: Coding) {
    core.set_field("content-encoding", coding.name(), false);
    core.remove_field("accept-ranges");
    if let Some(tag) = core.field_copy("etag").filter(|tag| !tag.starts_with("W/")) {
        core.set_field("etag", core.arena.text(format_args!("W/{tag}")), false);
    }
}

/// Compresses what is written, and flushes after every write.
struct Filter {
    encoder: Option<Encoder>,
}

impl BodyFilter for Filter {
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(encoder) = &mut self.encoder else { return };
        if let Err(error) = encoder.write(bytes).and_then(|()| encoder.flush_to(out)) {
            tracing::error!("a compressed stream breaks off: {error}");
            self.encoder = None; // without its end the client does not take it for whole
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match self.encoder.take().map(Encoder::finish) {
            Some(Ok(mut rest)) => out.append(&mut rest),
            Some(Err(error)) => tracing::error!("a compressed stream breaks off: {error}"),
            None => {}
        }
    }
}

/// Whether an answer has a body whose bytes may be others, and are worth it.
fn may_change(core: &Core) -> bool {
    let status = core.status.get();
    !is_bodiless(status)
        && !matches!(status, 205 | 206)
        && !["content-encoding", "content-range", "content-digest", "repr-digest"]
            .iter()
            .any(|name| core.has_field(name))
        && !core.field_has("cache-control", "no-transform")
        && core.field_copy("content-type").is_some_and(shrinks)
}

/// Whether bytes of that type get smaller: not what is compressed by itself, or unknown.
fn shrinks(mime: &str) -> bool {
    let essence = mime.split(';').next().unwrap_or("").trim();
    let is = |list: &[&str]| list.iter().any(|it| it.eq_ignore_ascii_case(essence));
    let starts =
        |start: &str| essence.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    let dense = starts("image/") && !is(&["image/svg+xml", "image/bmp", "image/x-icon"]);
    let dense = dense || starts("audio/") || starts("video/") || starts("application/grpc");
    !essence.is_empty() && !dense && !is(&DENSE_TYPES)
}

const DENSE_TYPES: [&str; 13] = [
    "application/gzip",
    "application/octet-stream",
    "application/pdf",
    "application/vnd.rar",
    "application/x-7z-compressed",
    "application/x-bzip2",
    "application/x-gzip",
    "application/x-xz",
    "application/zip",
    "application/zlib",
    "application/zstd",
    "font/woff",
    "font/woff2",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_shrink() {
        for (mime, want) in [
            ("text/plain; charset=utf-8", true),
            ("Application/JSON", true),
            ("text/event-stream", true),
            ("image/svg+xml", true),
            ("application/wasm", true),
            ("font/ttf", true),
            ("image/png", false),
            ("IMAGE/JPEG", false),
            ("video/mp4", false),
            ("audio/ogg; codecs=opus", false),
            ("application/zip", false),
            ("application/octet-stream", false),
            ("font/woff2", false),
            ("", false),
        ] {
            assert_eq!(shrinks(mime), want, "{mime}");
        }
    }
}
