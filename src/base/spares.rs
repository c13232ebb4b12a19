//! A shard's emptied buffers, kept for the next user.

use std::cell::RefCell;

use crate::limits::{BUFFER_BYTES_KEEP_MAX, SPARES_MAX};

/// Byte buffers for reuse. Idle connections hold none.
#[derive(Default)]
pub(crate) struct Spares(RefCell<Vec<Vec<u8>>>);

impl Spares {
    /// An empty buffer, with the capacity of its former life.
    #[inline]
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back; one that grew too large, or is one too many, is freed.
    #[inline]
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            self.keep(buffer);
        }
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() > BUFFER_BYTES_KEEP_MAX {
            return;
        }
        let mut kept = self.0.borrow_mut();
        if kept.len() < SPARES_MAX {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
