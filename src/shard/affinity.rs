//! The affinity mask of the process and threads that must not keep their parent's.
//!
//! An unsafe room: two libc calls.

use std::io;
use std::mem::size_of;
use std::sync::{Arc, OnceLock};

/// A set of CPUs as the kernel writes it: bit n of the words is CPU n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mask(Arc<[u64]>);

impl Mask {
    /// The CPUs of the set, lowest first.
    pub(crate) fn cpus(&self) -> Vec<usize> {
        let bits = u64::BITS as usize;
        (0..self.0.len() * bits).filter(|cpu| self.0[cpu / bits] >> (cpu % bits) & 1 == 1).collect()
    }

    /// The mask the calling thread has now.
    pub(crate) fn of_current_thread() -> io::Result<Self> {
        let mut words = 1024 / u64::BITS as usize;
        loop {
            let mut mask = vec![0u64; words];
            // SAFETY: `mask` is writable for the byte count passed; libc takes any multiple of a
            // word and writes no more than that. 0 is the calling thread.
            let done = unsafe {
                libc::sched_getaffinity(0, words * size_of::<u64>(), mask.as_mut_ptr().cast())
            };
            if done == 0 {
                return Ok(Self(mask.into()));
            }
            // EINVAL: the kernel knows more CPUs than the buffer holds.
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) || words >= MASK_WORDS_MAX {
                return Err(error);
            }
            words *= 4;
        }
    }
}

/// The mask the process was started with, captured once, by the first call. That call belongs on
/// a thread nobody pinned: the one that starts the server, before any shard exists.
pub(crate) fn original_mask() -> io::Result<Mask> {
    static ORIGINAL: OnceLock<Mask> = OnceLock::new();
    if let Some(mask) = ORIGINAL.get() {
        return Ok(mask.clone());
    }
    let mask = Mask::of_current_thread()?;
    Ok(ORIGINAL.get_or_init(|| mask).clone())
}

/// Gives the calling thread the mask `mask`. Threads inherit the mask of the thread that starts
/// them, so one born on a shard would share the shard's core for good.
pub(crate) fn unpin_current_thread(mask: &Mask) -> io::Result<()> {
    // SAFETY: the words are readable for the byte count passed. 0 is the calling thread.
    let done = unsafe {
        libc::sched_setaffinity(0, size_of::<u64>() * mask.0.len(), mask.0.as_ptr().cast())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// 65,536 CPUs: above any kernel's NR_CPUS.
const MASK_WORDS_MAX: usize = 1024;

#[cfg(test)]
impl Mask {
    pub(crate) fn of(cpus: &[usize]) -> Self {
        let mut words = vec![0u64; 16];
        for cpu in cpus {
            words[cpu / 64] |= 1 << (cpu % 64);
        }
        Self(words.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_a_pinned_thread_is_unpinned_again() {
        let original = original_mask().unwrap();
        let first = original.cpus()[0];
        let (inherited, after) = std::thread::scope(|scope| {
            let pinned = scope.spawn(|| {
                unpin_current_thread(&Mask::of(&[first])).unwrap();
                let child = scope.spawn(|| {
                    let inherited = Mask::of_current_thread().unwrap().cpus();
                    unpin_current_thread(&original).unwrap();
                    (inherited, Mask::of_current_thread().unwrap().cpus())
                });
                child.join().unwrap()
            });
            pinned.join().unwrap()
        });
        assert_eq!(inherited, [first]);
        assert_eq!(after, original.cpus());
    }

    #[test]
    fn cpus_of_a_mask() {
        for cpus in [&[][..], &[0], &[0, 1, 63, 64, 1023]] {
            assert_eq!(Mask::of(cpus).cpus(), cpus);
        }
    }
}
