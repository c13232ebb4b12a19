//! What a reader has of its source and has not used.

use crate::app::source::Source;
use crate::error::{Error, Result};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Unused bytes of a source, and how it stands with it. Whatever of it is dropped at an await goes
/// on where it was.
pub(super) struct Feed<R> {
    source: R,
    /// Used up to `at`.
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
    bom_seen: bool,
    /// Status and message of the mistake after which nothing can be told.
    failed: Option<(u16, String)>,
}

impl<R> Feed<R> {
    pub(super) fn new(source: R) -> Feed<R> {
        Feed { source, bytes: Vec::new(), at: 0, ended: false, bom_seen: false, failed: None }
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// The next `count` bytes, used with that.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let start = self.at;
        self.at += count;
        &self.bytes[start..self.at]
    }

    /// The last mistake once more: no caller takes half of the input for all of it.
    pub(super) fn check(&self) -> Result<()> {
        match &self.failed {
            Some((status, message)) => Err(Error::new(*status, &**message)),
            None => Ok(()),
        }
    }

    /// A mistake that ends the reading.
    #[cold]
    pub(super) fn fail(&mut self, status: u16, message: impl Into<String>) -> Error {
        let message = message.into();
        self.failed = Some((status, message.clone()));
        self.bytes = Vec::new();
        self.at = 0;
        Error::new(status, message)
    }
}

impl<R: Source> Feed<R> {
    /// Waits for bytes behind the rest; false at the end.
    pub(super) async fn more(&mut self) -> Result<bool> {
        while !self.ended {
            match self.source.next_piece().await {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(Some(piece)) => {
                    // The rest is a part of what is read now, so a byte is moved at most once.
                    self.bytes.drain(..self.at);
                    self.at = 0;
                    self.bytes.extend_from_slice(&piece);
                    return Ok(true);
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.failed = Some((error.status(), error.message().to_owned()));
                    return Err(error);
                }
            }
        }
        Ok(false)
    }

    /// Skips the byte order mark that some programs put in front of UTF-8.
    pub(super) async fn skip_bom(&mut self) -> Result<()> {
        while !self.bom_seen {
            let rest = self.rest();
            let whole = rest.starts_with(BOM);
            if whole || !BOM.starts_with(rest) || !self.more().await? {
                self.bom_seen = true;
                self.at += if whole { BOM.len() } else { 0 };
            }
        }
        Ok(())
    }

    /// The next byte that is no white space of JSON, not used; none at the end.
    pub(super) async fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            self.at += self.rest().iter().take_while(space).count();
            if let Some(byte) = self.rest().first() {
                return Ok(Some(*byte));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }
}
