//! Where the bytes of an upload come from, piece by piece.

use super::body::Chunk;
use super::ctx::Ctx;
use crate::error::Result;

/// Bytes that come piece by piece: the body of a request, or one part of a form. What reads lines,
/// records or values takes either.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// use soloist::{Lines, Source};
///
/// /// Of a body, or of a part of a form.
/// async fn longest(source: impl Source) -> Result<usize> {
///     let (mut lines, mut longest) = (Lines::of(source), 0);
///     while let Some(line) = lines.next().await? {
///         longest = longest.max(line.len());
///     }
///     Ok(longest)
/// }
/// # let app = App::new(()).post("/", async |cx| cx.json(&longest(cx).await?));
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.post("/").body("a\nbbb\ncc").await.text("3");
/// # });
/// ```
pub trait Source {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// Those of [`Ctx::next_chunk`].
    fn next_piece(&mut self) -> impl Future<Output = Result<Option<Chunk<'_>>>>;
}

impl<S> Source for &Ctx<S> {
    async fn next_piece(&mut self) -> Result<Option<Chunk<'_>>> {
        self.next_chunk().await
    }
}
