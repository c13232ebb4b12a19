//! Where the bytes of an upload come from, piece by piece.

use super::body::Chunk;
use super::ctx::Ctx;
use crate::error::Result;

/// Bytes that come piece by piece: the body of a request, or one part of a form. What reads lines,
/// records or values takes either.
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
