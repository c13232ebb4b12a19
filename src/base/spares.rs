//! A shard's emptied buffers, kept for the next user.

use std::cell::RefCell;

use super::piece::Piece;
use crate::limits::{BUFFER_BYTES_KEEP_MAX, LARGE_SPARES_MAX, SPARES_MAX, STREAM_BYTES_MAX};

/// Byte buffers for reuse. Idle connections hold none.
#[derive(Default)]
pub(crate) struct Spares {
    kept: RefCell<Vec<Vec<u8>>>,
    /// Of `STREAM_BYTES_MAX`.
    large: RefCell<Vec<Vec<u8>>>,
}

impl Spares {
    /// An empty buffer, with the capacity of its former life.
    #[inline]
    pub(crate) fn take(&self) -> Vec<u8> {
        self.kept.borrow_mut().pop().unwrap_or_default()
    }

    /// An empty buffer of `STREAM_BYTES_MAX`.
    pub(crate) fn take_large(&self) -> Vec<u8> {
        let kept = self.large.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(STREAM_BYTES_MAX))
    }

    /// Gives a buffer back; one that grew too large, or is one too many, is freed.
    #[inline]
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            self.keep(buffer);
        }
    }

    /// The same for what was sent: a frame that others share is theirs.
    #[inline]
    pub(crate) fn give_piece(&self, piece: Piece) {
        match piece {
            Piece::Own(buffer) => self.give(buffer),
            #[cfg(feature = "ws")]
            Piece::Rest(buffer, _) => self.give(buffer),
            #[cfg(feature = "ws")]
            Piece::Shared(_) => {}
            #[cfg(feature = "cache")]
            Piece::Bytes(_) => {}
            #[cfg(feature = "files")]
            Piece::Mapped { head, .. } => self.give(head),
        }
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        let (kept, count_max) = match buffer.capacity() {
            ..=BUFFER_BYTES_KEEP_MAX => (&self.kept, SPARES_MAX),
            STREAM_BYTES_MAX => (&self.large, LARGE_SPARES_MAX),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < count_max {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
