//! A shard's notion of now: read from the kernel once a turn, or moved by a test.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// Monotonic and wall time as of the current turn.
pub(crate) struct Clock {
    start: Instant,
    start_unix: Duration,
    /// Since `start`.
    now_ns: Cell<u64>,
    /// A virtual clock moves only by `advance_to`.
    frozen: bool,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now(), start_unix: unix(), now_ns: Cell::new(0), frozen: false }
    }

    /// Starts at 2026-01-01 00:00:00 UTC and stands still.
    pub(crate) fn frozen() -> Clock {
        let start_unix = Duration::from_secs(1_767_225_600);
        Clock { start: Instant::now(), start_unix, now_ns: Cell::new(0), frozen: true }
    }

    /// Reads the kernel's clock; nothing on a frozen one.
    #[inline]
    pub(crate) fn refresh(&self) -> u64 {
        if !self.frozen {
            self.now_ns.set(self.start.elapsed().as_nanos() as u64);
        }
        self.now_ns.get()
    }

    /// Reads the kernel's clock without moving on to another turn.
    #[inline]
    pub(crate) fn peek_ns(&self) -> u64 {
        if self.frozen { self.now_ns.get() } else { self.start.elapsed().as_nanos() as u64 }
    }

    /// Moves a frozen clock; never back.
    pub(crate) fn advance_to(&self, now_ms: u64) {
        self.now_ns.set(self.now_ns.get().max(now_ms * 1_000_000));
    }

    /// Nanoseconds as of this turn.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    /// Milliseconds as of this turn, rounded down.
    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ns.get() / 1_000_000
    }

    /// Seconds since 1970, for the Date field.
    #[inline]
    pub(crate) fn unix_secs(&self) -> u64 {
        (self.start_unix + Duration::from_nanos(self.now_ns.get())).as_secs()
    }

    /// Milliseconds since 1970: the same on all shards.
    #[cfg(feature = "cache")]
    pub(crate) fn unix_ms(&self) -> u64 {
        (self.start_unix + Duration::from_nanos(self.now_ns.get())).as_millis() as u64
    }
}

fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
