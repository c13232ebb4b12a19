//! Uploads straight to a file.

use crate::app::source::Source;
use crate::error::Result;
use crate::files::temp::TempFile;

impl TempFile {
    /// Appends all that a body, or a part of a form, has; how many bytes that was.
    ///
    /// # Errors
    /// Those of reading ([`Ctx::next_chunk`](crate::Ctx::next_chunk)) and of
    /// [`write`](TempFile::write).
    pub async fn take(&mut self, mut source: impl Source) -> Result<u64> {
        let before = self.len();
        while let Some(piece) = source.next_piece().await? {
            self.write(&piece).await?;
        }
        Ok(self.len() - before)
    }
}
