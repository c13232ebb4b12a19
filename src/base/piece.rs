//! Bytes on their way out: a buffer of one's own, or one that many connections share.

use std::ops::Deref;
#[cfg(feature = "ws")]
use std::{rc::Rc, sync::Arc};

/// What one send holds until the kernel has taken it over.
pub(crate) enum Piece {
    /// Goes back to the spares.
    Own(Vec<u8>),
    /// A buffer from that byte on.
    #[cfg(feature = "ws")]
    Rest(Vec<u8>, usize),
    #[cfg(feature = "ws")]
    Shared(Rc<Frame>),
}

#[cfg(feature = "ws")]
/// A message in the form that leaves, the same for all who get it: counted without atomics on its
/// shard, its bytes shared with the other shards.
pub(crate) struct Frame {
    pub(crate) bytes: Arc<[u8]>,
    /// A newer frame of the same key may take this one's place in a queue; 0 is none.
    pub(crate) key: u64,
}

impl Deref for Piece {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            #[cfg(feature = "ws")]
            Piece::Rest(bytes, from) => &bytes[*from..],
            #[cfg(feature = "ws")]
            Piece::Shared(frame) => &frame.bytes,
        }
    }
}
