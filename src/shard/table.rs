//! What the driver keeps of its listeners and connections.

use std::net::TcpListener;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::waker::TaskKey;
use crate::base::wire::Wire;
use crate::ring::{Issued, Token};

/// A socket to accept from.
pub(super) struct Listener {
    /// Empty once it is closed.
    pub(super) socket: Option<TcpListener>,
    pub(super) armed: bool,
    pub(super) resume_ms: u64,
}

impl Listener {
    /// Of the listener at that place in the driver's list.
    pub(super) fn token(at: usize) -> Token {
        Token { slot: at as u32, generation: 0 }
    }
}

/// One connection's entry: freed when nothing in the kernel refers to it any more.
pub(super) struct Conn {
    /// -1 once it is closed.
    pub(super) fd: RawFd,
    pub(super) generation: u32,
    pub(super) task: TaskKey,
    pub(super) wire: Rc<Wire>,
    pub(super) recv: Recv,
    /// It sends faster than it is read: one receive at a time, into a buffer of its own. A
    /// multishot one puts up to 32 provided buffers into one turn.
    pub(super) bulk: bool,
    pub(super) send: Option<u32>,
    pub(super) phase: Phase,
    /// The shard has made it itself: it is no client's.
    pub(super) is_own: bool,
}

impl Conn {
    /// The descriptor, to be closed: nobody else finds it any more.
    pub(super) fn take_fd(&mut self) -> RawFd {
        self.wire.forget_fd();
        std::mem::replace(&mut self.fd, -1)
    }
}

/// How a connection's receive stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Recv {
    Off,
    Armed,
    Cancelling,
    /// Ended for want of buffers; in `starved`.
    Starved,
}

/// How far a connection has come to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// FIN is sent; what comes is dropped, until the peer's FIN or the end of the linger time.
    Lingering,
    /// Waits for its last completion.
    Closing,
}

/// Lists of one turn, kept for their memory.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) slots: Vec<u32>,
    pub(super) wakes: Vec<TaskKey>,
    pub(super) tokens: Vec<Token>,
    pub(super) issued: Vec<Issued>,
}
