//! What the bare rings share: a ring of provided buffers.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io::{Error, Result};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

pub const BUFFER_BYTES: usize = 4096;

/// Provided buffers: a ring the kernel takes from, and the memory they are.
pub struct Buffers {
    ring: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
    /// How many there are: a power of two.
    count: u16,
}

impl Buffers {
    pub fn register(submitter: &Submitter, count: u16, group: u16) -> Result<Buffers> {
        let ring_bytes = size_of::<BufRingEntry>() * usize::from(count);
        let ring = allocate(ring_bytes).cast();
        let memory = allocate(BUFFER_BYTES * usize::from(count));
        // SAFETY: the ring is never freed and has room for all entries.
        unsafe { submitter.register_buf_ring_with_flags(ring as u64, count, group, 0)? };
        let mut buffers = Buffers { ring, memory, tail: 0, count };
        for buffer in 0..count {
            buffers.give_back(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    #[inline]
    pub fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(buffer < self.count && len <= BUFFER_BYTES);
        // SAFETY: the buffer is ours from its completion until it is given back, which takes
        // `&mut self`; the kernel wrote `len` bytes of it.
        unsafe { std::slice::from_raw_parts(self.address(buffer), len) }
    }

    /// The same, to be changed in place and sent from there before it is given back.
    #[inline]
    pub fn bytes_mut(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        assert!(buffer < self.count && len <= BUFFER_BYTES);
        // SAFETY: as in `bytes`, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.address(buffer), len) }
    }

    #[inline]
    pub fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let place = self.tail & (self.count - 1);
        // SAFETY: below the count, and the kernel reads no entry beyond the published tail.
        let entry = unsafe { &mut *self.ring.add(place as usize) };
        entry.set_addr(self.address(buffer) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    pub fn publish(&self) {
        // SAFETY: the tail lies in the first entry, is aligned, and only shared with the kernel.
        let tail = unsafe { &*BufRingEntry::tail(self.ring).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        // SAFETY: `buffer` is below the count: every caller checks it.
        unsafe { self.memory.add(buffer as usize * BUFFER_BYTES) }
    }
}

/// Page-aligned memory for the life of the process.
fn allocate(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, 4096).expect("a small size");
    // SAFETY: the size is not 0.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout)
    }
    memory
}

/// As many direct descriptors as the process may have files.
pub fn files_max() -> Result<u32> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit.current.unwrap_or(1 << 20).min(1 << 20) as u32;
    if files == 0 { Err(Error::other("no open files allowed")) } else { Ok(files) }
}
