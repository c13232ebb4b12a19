//! How a remote store is asked.

use std::time::Duration;

use super::breaker::Rules;
use crate::limits::{
    BREAKER_FAILURES, BREAKER_PAUSE_MS_MAX, BREAKER_PAUSE_MS_MIN, BREAKER_WINDOW_MS,
    REMOTE_CALL_MS_MAX, REMOTE_CALLS_MAX, REMOTE_CONNECT_MS_MAX,
};

/// How a remote store is asked: for [`Redis::connect_with`](crate::Redis::connect_with) and
/// [`Memcached::connect_with`](crate::Memcached::connect_with).
///
/// ```
/// use std::time::Duration;
/// use soloist::RemoteOptions;
///
/// let options = RemoteOptions::new()
///     .prefix("shop:")
///     .call_max(Duration::from_millis(30))
///     .value_bytes_max(256 << 10);
/// ```
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    pub(super) prefix: String,
    pub(super) call_max: Duration,
    pub(super) connect_max: Duration,
    pub(super) calls_max: usize,
    pub(super) value_bytes_max: Option<usize>,
    pub(super) failures_max: u32,
    pub(super) pause_min: Duration,
    pub(super) pause_max: Duration,
}

impl RemoteOptions {
    /// As `connect` has them.
    ///
    /// ```
    /// let options = soloist::RemoteOptions::new(); // 100 ms a call, keys begin with "soloist:"
    /// ```
    pub fn new() -> RemoteOptions {
        RemoteOptions {
            prefix: "soloist:".to_owned(),
            call_max: Duration::from_millis(REMOTE_CALL_MS_MAX),
            connect_max: Duration::from_millis(REMOTE_CONNECT_MS_MAX),
            calls_max: REMOTE_CALLS_MAX,
            value_bytes_max: None,
            failures_max: BREAKER_FAILURES,
            pause_min: Duration::from_millis(BREAKER_PAUSE_MS_MIN),
            pause_max: Duration::from_millis(BREAKER_PAUSE_MS_MAX),
        }
    }

    /// What every key begins with in the store, and what is heard of: services that share a server
    /// take different ones. `soloist:` unless you say so.
    ///
    /// ```
    /// let options = soloist::RemoteOptions::new().prefix("shop:");
    /// ```
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long one call may take, from its first poll to its answer, the making of a connection
    /// included; late by at most a tick of the shard. 100 ms unless you say so.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let options = soloist::RemoteOptions::new().call_max(Duration::from_millis(20));
    /// ```
    pub fn call_max(mut self, time: Duration) -> Self {
        self.call_max = time;
        self
    }

    /// How long the making of a connection may take. It goes on after a call that waits for it has
    /// given up. 1 s unless you say so.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let options = soloist::RemoteOptions::new().connect_max(Duration::from_secs(3));
    /// ```
    pub fn connect_max(mut self, time: Duration) -> Self {
        self.connect_max = time;
        self
    }

    /// Calls of a shard that may be under way at once; one more fails at once. 1,024 unless you say
    /// so.
    ///
    /// ```
    /// let options = soloist::RemoteOptions::new().calls_max(100);
    /// ```
    pub fn calls_max(mut self, calls: usize) -> Self {
        self.calls_max = calls;
        self
    }

    /// Bytes of a value; a larger one is not sent. 64 MiB for Redis, for memcached 1 KiB less than
    /// the 1 MiB that it takes by itself (its `-I` sets that).
    ///
    /// ```
    /// let options = soloist::RemoteOptions::new().value_bytes_max(64 << 10);
    /// ```
    pub fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.value_bytes_max = Some(bytes);
        self
    }

    /// Calls that fail, in a row or as half of all within a second, until calls are refused. 5
    /// unless you say so.
    ///
    /// ```
    /// let options = soloist::RemoteOptions::new().failures_max(20);
    /// ```
    pub fn failures_max(mut self, calls: u32) -> Self {
        self.failures_max = calls.max(1);
        self
    }

    /// How long calls are refused then until one may try: at first, and at most, for it doubles
    /// each time. 100 ms and 5 s unless you say so. The connection is tried meanwhile too, and once
    /// it is made calls pass.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let (first, longest) = (Duration::from_millis(50), Duration::from_secs(1));
    /// let options = soloist::RemoteOptions::new().pauses(first, longest);
    /// ```
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.pause_min, self.pause_max) = (first, longest.max(first));
        self
    }

    pub(super) fn rules(&self) -> Rules {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        Rules {
            failures: self.failures_max,
            window_ms: BREAKER_WINDOW_MS,
            pause_ms_min: ms(self.pause_min),
            pause_ms_max: ms(self.pause_max),
        }
    }
}

impl Default for RemoteOptions {
    fn default() -> Self {
        RemoteOptions::new()
    }
}
