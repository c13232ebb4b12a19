//! The provided-buffer ring: memory that the kernel fills when bytes arrive, so that idle
//! connections hold none.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::limits::{RECV_BUFFER_BYTES, RECV_BUFFERS};

/// A registered buffer ring and its memory, one mapping.
pub(super) struct Buffers {
    map: *mut u8,
    /// What the kernel may take next; published by `publish`.
    tail: u16,
}

/// A buffer that the kernel has filled. Given back by `recycle`, in the same turn.
#[must_use = "a buffer that is not recycled is lost to the ring"]
#[derive(Debug)]
pub(crate) struct BufferId(u16);

impl BufferId {
    #[inline]
    pub(super) fn new(id: u16) -> BufferId {
        BufferId(id)
    }
}

impl Buffers {
    pub(super) fn register(ring: &IoUring) -> io::Result<Buffers> {
        // SAFETY: an anonymous private mapping; the result is checked.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                MAP_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // In memory from the start, in large pages where there are any: no request pays for it. A
        // kernel that cannot does without.
        // SAFETY: the range is the mapping.
        unsafe {
            libc::madvise(map, MAP_BYTES, libc::MADV_HUGEPAGE);
            libc::madvise(map, MAP_BYTES, libc::MADV_POPULATE_WRITE);
        }
        let mut buffers = Buffers { map: map.cast(), tail: 0 };
        // SAFETY: the mapping is page-aligned, holds RECV_BUFFERS entries at its start, and lives
        // until the ring has been dropped (`Ring` drops its fields in order: ring, then buffers).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(map as u64, RECV_BUFFERS, GROUP, 0)?;
        }
        for id in 0..RECV_BUFFERS {
            buffers.recycle(BufferId(id));
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer.
    #[inline]
    pub(super) fn bytes(&self, id: &BufferId, len: usize) -> &[u8] {
        debug_assert!(id.0 < RECV_BUFFERS && len <= RECV_BUFFER_BYTES);
        // SAFETY: the id came from the kernel or from `register`, so the range lies in the
        // mapping; the kernel does not write to it before it is recycled, which takes the id.
        unsafe { std::slice::from_raw_parts(self.address(id.0), len) }
    }

    /// Gives a buffer back; the kernel sees it after `publish`.
    #[inline]
    pub(super) fn recycle(&mut self, id: BufferId) {
        let entries = self.map.cast::<BufRingEntry>();
        let at = usize::from(self.tail & (RECV_BUFFERS - 1));
        // SAFETY: `at` is below RECV_BUFFERS, so the entry lies in the mapping; the kernel reads
        // it only once the tail that covers it is published.
        let entry = unsafe { &mut *entries.add(at) };
        entry.set_addr(self.address(id.0) as u64);
        entry.set_len(RECV_BUFFER_BYTES as u32);
        entry.set_bid(id.0);
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    pub(super) fn publish(&self) {
        // SAFETY: the tail lies in the first entry of the mapping, 2-byte aligned; it is shared
        // with the kernel, hence the atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.map.cast()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    #[inline]
    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: stays inside the mapping for every id below RECV_BUFFERS.
        unsafe { self.map.add(ENTRIES_BYTES + usize::from(id) * RECV_BUFFER_BYTES) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: the ring that knew this memory is gone; nothing borrows from `self` any more.
        unsafe { libc::munmap(self.map.cast(), MAP_BYTES) };
    }
}

/// The group that receives name.
pub(super) const GROUP: u16 = 0;
/// The entries come first, rounded up to a page.
const ENTRIES_BYTES: usize =
    (RECV_BUFFERS as usize * size_of::<BufRingEntry>()).next_multiple_of(4096);
const MAP_BYTES: usize = ENTRIES_BYTES + RECV_BUFFERS as usize * RECV_BUFFER_BYTES;
