//! A file's pages, lent to the kernel and to nobody else.

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// The first bytes of a file, mapped.
///
/// Whoever reads a mapped page of a file that was cut short is killed by SIGBUS; the kernel is not:
/// its send just ends early. So the bytes are not to be had from here, only where they are.
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps the first `len` bytes of a file.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Map> {
        // SAFETY: no reference to the bytes is ever made: see above.
        Ok(Map(unsafe { MmapOptions::new().len(len).map(file)? }))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where `len` bytes from `from` on are; fewer where the mapping ends before.
    pub(crate) fn span(&self, from: usize, len: usize) -> (*const u8, usize) {
        let from = from.min(self.len());
        (self.0.as_ptr().wrapping_add(from), len.min(self.len() - from))
    }
}

impl Map {
    /// Whether all of it is in memory, as far as the kernel tells: of a file that is not ours it
    /// says yes. For file systems that have no better way.
    pub(crate) fn is_resident(&self) -> bool {
        let mut pages = vec![0u8; self.len().div_ceil(4096)];
        // SAFETY: the range is the mapping's, and there is a byte for each of its pages.
        let done = unsafe {
            libc::mincore(self.0.as_ptr() as *mut libc::c_void, self.len(), pages.as_mut_ptr())
        };
        done == 0 && pages.iter().all(|it| it & 1 == 1)
    }
}
