//! What other threads have for a shard: wakes, and the doorbell that gets it out of its sleep.
//!
//! The order is the whole point. Receiver: set `asleep`, look once more, block. Sender: put the
//! thing there, then ring if `asleep`. Both sides are SeqCst, so one of them sees the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::waker::{SHARDS_MAX, TaskKey};
use crate::limits::FOREIGN_WAKES_MAX;

/// One shard's foreign inbox. It outlives the shard: a late wake finds nobody, and harms nobody.
pub(crate) struct Inbox {
    wakes: Mutex<Vec<TaskKey>>,
    /// Something is in `wakes` or in a queue of the mesh.
    mail: AtomicBool,
    /// More wakes came than are kept: every task is to be polled once.
    overflow: AtomicBool,
    asleep: AtomicBool,
    /// An eventfd.
    bell: File,
}

/// A shard's number in this process, given back when it drops.
pub(crate) struct Seat(u16);

impl Seat {
    /// The lowest free number.
    pub(crate) fn take() -> io::Result<Seat> {
        let mut taken = lock(&TAKEN);
        let free = (0..SHARDS_MAX).find(|seat| taken.get(*seat) != Some(&true));
        let Some(seat) = free else {
            return Err(io::Error::other("more than 1,024 shards in one process"));
        };
        if INBOXES[seat].get().is_none() {
            let bell = File::from(crate::ring::eventfd(false)?);
            let _ = INBOXES[seat].set(Inbox {
                wakes: Mutex::default(),
                mail: AtomicBool::new(false),
                overflow: AtomicBool::new(false),
                asleep: AtomicBool::new(false),
                bell,
            });
        }
        if seat == taken.len() {
            taken.push(true);
        } else {
            taken[seat] = true;
        }
        Ok(Seat(seat as u16))
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }

    pub(crate) fn inbox(&self) -> &'static Inbox {
        of(self.0).expect("made when the seat was taken")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&TAKEN)[usize::from(self.0)] = false;
    }
}

/// The inbox of a shard that is, or was, there.
#[inline]
pub(crate) fn of(seat: u16) -> Option<&'static Inbox> {
    INBOXES.get(usize::from(seat)).and_then(OnceLock::get)
}

/// Wakes a task of another shard.
pub(crate) fn wake(key: TaskKey) {
    let Some(inbox) = of(key.shard()) else { return };
    let mut wakes = lock(&inbox.wakes);
    if wakes.len() < FOREIGN_WAKES_MAX {
        wakes.push(key);
    } else {
        inbox.overflow.store(true, Ordering::SeqCst);
    }
    drop(wakes);
    inbox.notify();
}

impl Inbox {
    /// There is mail: rings the doorbell if the shard sleeps.
    pub(crate) fn notify(&self) {
        self.mail.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Whether mail has come since the last call. The caller then looks everywhere.
    #[inline]
    pub(crate) fn take_mail(&self) -> bool {
        self.mail.load(Ordering::Relaxed) && self.mail.swap(false, Ordering::SeqCst)
    }

    /// Before blocking. False if there is mail: then the shard must not block.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.mail.load(Ordering::SeqCst) {
            self.asleep.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// After blocking. Seen late, it costs a ring of the bell for nothing.
    #[inline]
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Takes the wakes; the flag says that there were more than could be kept.
    pub(crate) fn take_wakes(&self, into: &mut Vec<TaskKey>) -> bool {
        into.append(&mut lock(&self.wakes));
        self.overflow.swap(false, Ordering::SeqCst)
    }

    /// Forgets what a former holder of the seat left.
    pub(crate) fn clear(&self) {
        lock(&self.wakes).clear();
        self.overflow.store(false, Ordering::SeqCst);
        self.mail.store(false, Ordering::SeqCst);
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// To be polled for reading.
    pub(crate) fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Silences the bell once it has rung.
    pub(crate) fn hush(&self) {
        let _ = (&self.bell).read(&mut [0; 8]);
    }

    fn ring(&self) {
        // Fails only when 2^64 rings were not heard: then it rings already.
        let _ = (&self.bell).write(&1u64.to_ne_bytes());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static INBOXES: [OnceLock<Inbox>; SHARDS_MAX] = [const { OnceLock::new() }; SHARDS_MAX];
static TAKEN: Mutex<Vec<bool>> = Mutex::new(Vec::new());
