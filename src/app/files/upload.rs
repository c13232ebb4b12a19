//! Uploads straight to a file.

use crate::app::body::Chunk;
use crate::app::source::Source;
use crate::error::Result;
use crate::files::append::Appender;
use crate::files::temp::TempFile;

impl TempFile {
    /// Appends all that a body, or a part of a form, has; how many bytes that was.
    ///
    /// # Errors
    /// Those of reading ([`Ctx::next_chunk`](crate::Ctx::next_chunk)) and of
    /// [`write`](TempFile::write).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn store(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut file = cx.shard().temp_file("target").await?;
    ///     file.write(b"head\n").await?;
    ///     let bytes = file.take(cx).await?;
    ///     cx.text(format!("{bytes} of {}", file.len()))
    /// }
    /// # let app = App::new(()).put("/", store);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.put("/").body("hello").await.text("5 of 10");
    /// # });
    /// ```
    pub async fn take(&mut self, mut source: impl Source) -> Result<u64> {
        let before = self.len();
        while let Some(piece) = source.next_piece().await? {
            append(&mut self.out, piece).await?;
        }
        Ok(self.len() - before)
    }
}

/// Appends a chunk, without copying it if it is the end of a large buffer.
pub(super) async fn append(out: &mut Appender, piece: Chunk<'_>) -> Result<()> {
    match piece.into_tail() {
        Ok((bytes, from)) => out.write_owned(bytes, from).await,
        Err(piece) => out.write(&piece).await,
    }
}
