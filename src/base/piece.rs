//! Bytes on their way out: a buffer of one's own, one that many connections share, or a file's
//! pages.

#[cfg(any(feature = "ws", feature = "files", feature = "cache"))]
use std::rc::Rc;
#[cfg(feature = "ws")]
use std::sync::Arc;

#[cfg(feature = "files")]
use super::map::Map;

/// What one send holds until the kernel has taken it over.
pub(crate) enum Piece {
    /// Goes back to the spares.
    Own(Vec<u8>),
    /// A buffer from that byte on.
    #[cfg(feature = "ws")]
    Rest(Vec<u8>, usize),
    #[cfg(feature = "ws")]
    Shared(Rc<Frame>),
    /// Those of a cache.
    #[cfg(feature = "cache")]
    Bytes(Rc<[u8]>),
    /// What is written so far, and so many bytes of a file from there on.
    #[cfg(feature = "files")]
    Mapped { head: Vec<u8>, map: Rc<Map>, from: u32, len: u32 },
}

#[cfg(feature = "ws")]
/// A message in the form that leaves, the same for all who get it: counted without atomics on its
/// shard, its bytes shared with the other shards.
pub(crate) struct Frame {
    pub(crate) bytes: Arc<[u8]>,
    /// A newer frame of the same key may take this one's place in a queue; 0 is none.
    pub(crate) key: u64,
}

impl Piece {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        #[cfg(feature = "files")]
        if let Piece::Mapped { head, len, .. } = self {
            return head.len() + *len as usize;
        }
        self.bytes().len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in memory, all of them but for those of a file.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            #[cfg(feature = "ws")]
            Piece::Rest(bytes, from) => &bytes[*from..],
            #[cfg(feature = "ws")]
            Piece::Shared(frame) => &frame.bytes,
            #[cfg(feature = "cache")]
            Piece::Bytes(bytes) => bytes,
            #[cfg(feature = "files")]
            Piece::Mapped { head, .. } => head,
        }
    }

    /// What is left from byte `from` on, in memory and in a file: for the kernel.
    #[cfg(feature = "files")]
    #[inline]
    pub(crate) fn spans(&self, from: usize) -> (&[u8], Option<(*const u8, usize)>) {
        let bytes = self.bytes();
        let first = &bytes[from.min(bytes.len())..];
        let Piece::Mapped { map, from: at, len, .. } = self else { return (first, None) };
        let done = from.saturating_sub(bytes.len()).min(*len as usize);
        (first, Some(map.span(*at as usize + done, *len as usize - done)))
    }
}
