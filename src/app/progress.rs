//! How far an upload has come.

use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::body::Chunk;
use super::ctx::Ctx;
use super::source::Source;
use crate::error::Result;

/// How far an upload has come.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn upload(cx: &Ctx<()>) -> Result<Reply> {
///     while let Some(chunk) = cx.next_chunk().await? {
///         // (write the chunk; publish this to who watches)
///         println!("{:?} %", cx.upload_progress().percent);
/// #       drop(chunk);
///     }
///     cx.json(&cx.upload_progress())
/// }
/// # let app = App::new(()).post("/", upload);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// let done = client.post("/").body("hello").await;
/// done.text(r#"{"received":5,"total":5,"percent":100.0}"#);
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UploadProgress {
    /// Bytes of the body that were read.
    pub received: u64,
    /// Bytes that it has in all, if the client has said so.
    pub total: Option<u64>,
    /// The one of the other, 0 to 100.
    pub percent: Option<f64>,
}

impl Serialize for UploadProgress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("UploadProgress", 3)?;
        fields.serialize_field("received", &self.received)?;
        fields.serialize_field("total", &self.total)?;
        fields.serialize_field("percent", &self.percent)?;
        fields.end()
    }
}

/// The progress of uploads.
impl<S> Ctx<S> {
    /// The body as a [`Source`] that tells how far it has come: at most once in `every`, and at its
    /// end. What stores or parses it takes this in place of the context.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::time::Duration;
    /// async fn count(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut seen = Vec::new();
    ///     let body = cx.progress(Duration::from_millis(100), |it| seen.push(it.received));
    ///     let mut lines = soloist::Lines::of(body); // or `file.take(body)`, or to publish it
    ///     while lines.next().await?.is_some() {}
    ///     drop(lines);
    ///     cx.json(&seen)
    /// }
    /// # let app = App::new(()).post("/", count);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("a\nb\nc\n").pieces(1).await.text("[1,6]");
    /// # });
    /// ```
    pub fn progress<F: FnMut(UploadProgress)>(&self, every: Duration, f: F) -> Progress<'_, S, F> {
        Progress { cx: self, every_ms: every.as_millis() as u64, next_ms: 0, f: Some(f) }
    }

    /// How much of the body has been read, of how much.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn half(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.body().await?;
    ///     cx.json(&cx.upload_progress().percent)
    /// }
    /// # let app = App::new(()).post("/", half);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.post("/").body("hello").await.text("100.0");
    /// # });
    /// ```
    pub fn upload_progress(&self) -> UploadProgress {
        let (received, total) = self.core.body_progress();
        let percent = total.map(|total| match total {
            0 => 100.0,
            total => received as f64 * 100.0 / total as f64,
        });
        UploadProgress { received, total, percent }
    }
}

/// A body that tells how far it has come: see [`Ctx::progress`].
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # use std::time::Duration;
/// async fn store(cx: &Ctx<()>) -> Result<Reply> {
///     let shown = cx.progress(Duration::from_secs(1), |it| println!("{} bytes", it.received));
///     let mut rows = soloist::JsonItems::<u64, _>::of(shown);
///     let mut sum = 0;
///     while let Some(row) = rows.next().await? {
///         sum += row;
///     }
///     cx.json(&sum)
/// }
/// # let app = App::new(()).post("/", store);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.post("/").body("[1,2]").await.text("3");
/// # });
/// ```
pub struct Progress<'a, S, F> {
    cx: &'a Ctx<S>,
    every_ms: u64,
    next_ms: u64,
    /// None once the end was told.
    f: Option<F>,
}

impl<S, F: FnMut(UploadProgress)> Source for Progress<'_, S, F> {
    async fn next_piece(&mut self) -> Result<Option<Chunk<'_>>> {
        let piece = self.cx.next_chunk().await?;
        let progress = self.cx.upload_progress();
        let now_ms = self.cx.shard().now_ms();
        match &mut self.f {
            Some(f) if piece.is_none() => {
                f(progress);
                self.f = None;
            }
            Some(f) if now_ms >= self.next_ms => {
                f(progress);
                self.next_ms = now_ms + self.every_ms;
            }
            _ => {}
        }
        Ok(piece)
    }
}
