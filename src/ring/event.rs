//! What a completion means, and whom it belongs to.

use super::buffers::BufferId;

/// Whom a completion belongs to: a slot and its generation, packed into `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    /// 24 bits count.
    pub(crate) generation: u32,
}

/// One completion, decoded. `last` says that the operation has ended and its slot may go.
pub(crate) enum Event {
    /// A connection came in at listener `token.slot`.
    Accepted { token: Token, result: Result<i32, i32>, last: bool },
    /// Bytes came in, or none (`Ok(0)`: the peer's FIN).
    Received { token: Token, result: Result<usize, i32>, buffer: Option<BufferId>, last: bool },
    /// Bytes came into a buffer of their own; none: the peer's FIN.
    ReceivedBulk { token: Token, result: Result<Vec<u8>, i32> },
    /// The kernel took over bytes of the send in this slot of the ring's own.
    Sent { send: u32, result: Result<usize, i32> },
    /// The doorbell, or another polled descriptor, is readable.
    Readable { last: bool },
    /// The watched descriptor is readable, or cannot be polled.
    Watched { ok: bool },
    /// An operation on a file, in this slot of the ring's own, has ended.
    #[cfg(feature = "files")]
    Operated { slot: u32, result: Result<usize, i32> },
    /// A timer fired or was removed.
    Timer(Timer),
    /// A cancel or a close has ended: nothing to do.
    Done,
}

/// The timers a ring has; one of each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The shard's clock while it is awake.
    Tick,
    /// A deadline before the next tick, or while parked.
    Deadline,
}

impl Kind {
    #[inline]
    pub(super) fn pack(self, token: Token) -> u64 {
        (self as u64) << 56 | u64::from(token.generation & 0xff_ffff) << 32 | u64::from(token.slot)
    }

    #[inline]
    pub(super) fn unpack(user_data: u64) -> (u8, Token) {
        let generation = (user_data >> 32) as u32 & 0xff_ffff;
        ((user_data >> 56) as u8, Token { slot: user_data as u32, generation })
    }
}

/// The kinds of operation, as in the top byte of `user_data`.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Recv,
    Bulk,
    Send,
    Poll,
    Tick,
    Deadline,
    Watch,
    #[cfg(feature = "files")]
    Operation,
    Done,
}
