//! Answers: the token that a handler returns, and the writer of a streamed one.

use std::future::poll_fn;
use std::marker::PhantomData;

use super::core::{Core, Phase};
use super::on_head::ReplyHead;
use crate::error::{Error, Result};
use crate::http::encode::{self, Length, Persist};
use crate::http::head::Method;
use crate::http::trailer;
use crate::limits::{
    FAST_BYTES_A_MS, FAST_BYTES_MIN, FILTER_SLICE_BYTES, LARGE_WRITE_BYTES, OUTBOX_BYTES_MAX,
    STREAM_BYTES_MAX,
};
use crate::shard::tasks::yield_now;

/// Says that the context holds an answer. It has no size, and does not leave its thread.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// /// Helpers answer too: what they return is handed on.
/// fn page(cx: &Ctx<()>, title: &str) -> Result<Reply> {
///     cx.html(format!("<title>{title}</title>"))
/// }
/// async fn home(cx: &Ctx<()>) -> Result<Reply> {
///     let _ = cx.text("a draft")?; // the last answer is the one that is sent
///     page(cx, "Home")
/// }
/// # let app = App::new(()).get("/", home);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/").await.text("<title>Home</title>");
/// # });
/// ```
#[must_use = "a handler returns its reply"]
#[derive(Debug)]
pub struct Reply(PhantomData<*const ()>);

impl Reply {
    pub(crate) fn new() -> Reply {
        Reply(PhantomData)
    }
}

/// The body of a streamed answer: see [`Ctx::stream`](crate::Ctx::stream).
///
/// Dropped before `finish`, it cuts the connection, so that the client cannot take half an answer
/// for a whole one.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn report(cx: &Ctx<()>) -> Result<Reply> {
///     let mut out = cx.stream("text/csv").await?;
///     for month in 1..=12 {
///         out.write(format!("{month},0\n")).await?; // from here on an error can only cut
///     }
///     out.finish().await
/// }
/// # let app = App::new(()).get("/", report);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/").await.expect(200).contains("12,0\n");
/// # });
/// ```
#[must_use = "a stream ends with `finish`"]
pub struct Stream<'a> {
    pub(super) core: &'a Core,
    pub(super) chunked: bool,
    /// Nothing follows the head: HEAD, 204, 304.
    pub(super) silent: bool,
    /// Lines of the trailer section.
    pub(super) trailers: Vec<u8>,
}

impl<'a> Stream<'a> {
    pub(crate) fn begin(core: &'a Core, mime: &'static str) -> Result<Stream<'a>> {
        if !core.has_field("content-type") {
            core.mime.set(mime);
        }
        core.phase.set(Phase::Open); // what was answered before is not sent
        core.drop_substitute();
        if !(200..=599).contains(&core.status.get()) {
            return Err(Error::from(format!("{} is no status of a stream", core.status.get())));
        }
        let silent = core.head.method == Method::Head || is_bodiless(core.status.get());
        let chunked = core.head.minor == 1;
        write_head(core, if chunked { Length::Chunked } else { Length::Close });
        if core.bad_field.get() {
            return Err(Error::from("a header field cannot be sent"));
        }
        core.phase.set(Phase::Streaming);
        Ok(Stream { core, chunked, silent, trailers: Vec::new() })
    }

    /// Sends bytes, after waiting until at most 64 KiB are unsent with them, or nothing is. A
    /// client that has taken 8 MiB at 16 MB/s gets 256 KiB at once. An error when the client is
    /// gone.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn zeros(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut out = cx.stream("application/octet-stream").await?;
    ///     let block = [0; 16_384]; // memory stays small, however slow the client is
    ///     for _ in 0..64 {
    ///         out.write(block).await?;
    ///     }
    ///     out.finish().await
    /// }
    /// # let app = App::new(()).get("/", zeros);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # assert_eq!(client.get("/").await.body().len(), 1 << 20);
    /// # });
    /// ```
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let bytes = bytes.as_ref();
        self.ready(bytes.len()).await?;
        if !self.core.is_filtered() {
            self.push(bytes);
            return Ok(());
        }
        // A filter may be slow: the others on this shard have their turn between two slices.
        for (at, slice) in bytes.chunks(FILTER_SLICE_BYTES).enumerate() {
            if at > 0 {
                yield_now().await;
            }
            self.push(slice);
        }
        Ok(())
    }

    /// A client that is fast gets more at once: a quarter of the system calls for a large body.
    fn unsent_max(&self) -> usize {
        let bytes = self.core.streamed_bytes.get();
        if bytes < FAST_BYTES_MIN {
            return OUTBOX_BYTES_MAX;
        }
        let ms = (self.core.local.clock.now_ns() - self.core.received_ns) / 1_000_000;
        if bytes / ms.max(1) < FAST_BYTES_A_MS { OUTBOX_BYTES_MAX } else { STREAM_BYTES_MAX }
    }

    /// Waits until there is room for so many bytes.
    pub(super) async fn ready(&self, bytes: usize) -> Result<()> {
        let wire = self.core.wire();
        let unsent_max = self.unsent_max().saturating_sub(bytes + encode::CHUNK_BYTES_MORE);
        poll_fn(|cx| wire.poll_unsent(cx, unsent_max)).await;
        if wire.is_dead() {
            return Err(Error::from("the client is gone"));
        }
        Ok(())
    }

    /// Writes bytes, through the filter if there is one.
    pub(super) fn push(&self, bytes: &[u8]) {
        if self.silent || bytes.is_empty() {
            return;
        }
        let Some(mut filter) = self.core.filter.take() else { return self.put(bytes) };
        let mut out = self.core.local.spares.take();
        filter.write(bytes, &mut out);
        self.core.filter.set(Some(filter));
        self.put(&out);
        self.core.local.spares.give(out);
    }

    fn put(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return; // an empty chunk would end the body
        }
        self.core.streamed_bytes.set(self.core.streamed_bytes.get() + bytes.len() as u64);
        let unsent_max = self.unsent_max();
        self.core.wire().write(|out| {
            if bytes.len() >= LARGE_WRITE_BYTES && out.capacity() < unsent_max {
                self.enlarge(out, unsent_max);
            }
            match self.chunked {
                true => encode::chunk(out, bytes),
                false => out.extend_from_slice(bytes),
            }
        });
    }

    /// As large as may be unsent: a buffer that grew step by step would pass what is kept.
    #[cold]
    fn enlarge(&self, out: &mut Vec<u8>, unsent_max: usize) {
        if unsent_max == OUTBOX_BYTES_MAX {
            return out.reserve_exact(OUTBOX_BYTES_MAX.saturating_sub(out.len()));
        }
        let spares = &self.core.local.spares;
        let small = std::mem::replace(out, spares.take_large());
        out.extend_from_slice(&small);
        spares.give(small);
    }

    /// Ends the body.
    ///
    /// What the filter kept back leaves first, then the trailers.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn late(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut out = cx.stream("text/plain").await?;
    ///     out.write("half of it").await?;
    ///     if cx.query() == "broken" {
    ///         return Err("no more came".into()); // no `finish`: the client sees that it was cut
    ///     }
    ///     out.finish().await
    /// }
    /// # let app = App::new(()).get("/", late);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("half of it");
    /// # let cut = client.raw(&[b"GET /?broken HTTP/1.1\r\nhost: a\r\n\r\n"]).await;
    /// # assert!(!cut.ends_with(b"0\r\n\r\n"));
    /// # });
    /// ```
    pub async fn finish(mut self) -> Result<Reply> {
        if let Some(mut filter) = self.core.filter.take()
            && !self.silent
        {
            let mut out = self.core.local.spares.take();
            filter.finish(&mut out);
            self.put(&out);
            self.core.local.spares.give(out);
        }
        if self.chunked && !self.silent {
            self.core.wire().write(|out| trailer::last_chunk(out, &self.trailers));
        }
        self.core.local.spares.give(std::mem::take(&mut self.trailers));
        if !self.chunked {
            self.core.close.set(true);
        }
        self.core.phase.set(Phase::Finished);
        Ok(Reply::new())
    }
}

/// Changes a streamed body on its way out: see [`ReplyHead::filter_body`].
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # use soloist::BodyFilter;
/// /// Says at the end how many bytes there were.
/// struct Count(usize);
///
/// impl BodyFilter for Count {
///     fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
///         self.0 += bytes.len();
///         out.extend_from_slice(bytes);
///     }
///     fn finish(&mut self, out: &mut Vec<u8>) {
///         out.extend_from_slice(format!("({} bytes)", self.0).as_bytes());
///     }
/// }
/// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
/// cx.on_head(|head| head.filter_body(Count(0)));
/// let mut out = cx.stream("text/plain").await?;
/// # out.write("hello ").await?;
/// # out.finish().await
/// # }
/// # let app = App::new(()).get("/", handler);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/").await.text("hello (6 bytes)");
/// # });
/// ```
pub trait BodyFilter {
    /// The next bytes of the body. What is to be sent for them goes to `out`; a filter that keeps
    /// some back delays them for the client.
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>);
    /// The end of the body.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// Runs what waits for the head, then writes it. Nothing is written if a field cannot be sent.
#[inline]
pub(crate) fn write_head(core: &Core, length: Length) {
    run_on_head(core);
    if core.bad_field.get() {
        return;
    }
    if let Length::Close = length {
        core.close.set(true);
    }
    let persist = match (core.close.get(), core.head.minor) {
        (true, _) => Persist::Close,
        (false, 0) => Persist::KeepAlive,
        (false, _) => Persist::Default,
    };
    let length = if is_bodiless(core.status.get()) { Length::None } else { length };
    let date = core.date();
    core.with_fields(|fields| {
        core.wire().write(|out| {
            let mime = core.mime.get();
            encode::answer_head(out, core.status.get(), mime, fields, length, persist, &date);
        });
    });
}

#[inline]
pub(crate) fn run_on_head(core: &Core) {
    // Each runs unborrowed: it may add others.
    let next = || core.on_head.borrow_mut().pop();
    while let Some(f) = next() {
        f.run(&ReplyHead(core));
    }
}

/// Runs what waits for the head and was added after the first `count`, as if it left now.
#[cfg(feature = "cache")]
pub(crate) fn run_on_head_after(core: &Core, count: usize) {
    let next = || {
        let mut waiting = core.on_head.borrow_mut();
        if waiting.len() > count { waiting.pop() } else { None }
    };
    while let Some(f) = next() {
        f.run(&ReplyHead(core));
    }
}

/// RFC 9110 section 6.4.1: answers that never have a body.
#[inline]
pub(crate) fn is_bodiless(status: u16) -> bool {
    status < 200 || status == 204 || status == 304
}
