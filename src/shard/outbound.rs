//! Connections that a shard makes itself, to servers of its own: on its ring, as those of clients.
//!
//! They are no clients. Nobody counts them among those, a drain does not wait for them, and they
//! end with their shard, so that whoever is served last still has them.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Shard;
use crate::base::wire::{Close, Input, Wire};

/// Between those who have connected and the driver that has the ring.
#[derive(Default)]
pub(crate) struct Outbound {
    /// A driver is there: not in memory.
    has_driver: Cell<bool>,
    wanted: RefCell<Vec<Wanted>>,
}

/// A connected socket, and the task that is to use it.
pub(super) struct Wanted {
    pub(super) socket: OwnedFd,
    pub(super) serve: Serve,
}

type Serve = Box<dyn FnOnce(Rc<Wire>) -> Pin<Box<dyn Future<Output = ()>>>>;

impl Outbound {
    /// For the driver: whether it takes what is wanted.
    pub(super) fn set_driver(&self, is_there: bool) {
        self.has_driver.set(is_there);
        if !is_there {
            drop(self.wanted.take());
        }
    }

    /// For the driver, once a turn.
    #[inline]
    pub(super) fn next_wanted(&self) -> Option<Wanted> {
        self.wanted.borrow_mut().pop()
    }
}

impl Shard {
    /// Gives a connected socket, which blocks, to the shard's ring, and runs what uses it as a
    /// task. It closes when its stream drops, or with the shard. False without a ring: in memory.
    pub(crate) fn adopt<F: Future<Output = ()> + 'static>(
        &self,
        socket: OwnedFd,
        serve: impl FnOnce(WireStream) -> F + 'static,
    ) -> bool {
        let outbound = &self.0.outbound;
        if !outbound.has_driver.get() {
            return false;
        }
        let serve: Serve = Box::new(|wire| Box::pin(serve(WireStream::new(wire))));
        outbound.wanted.borrow_mut().push(Wanted { socket, serve });
        true
    }

    /// Whether sockets of the shard's own go over its ring.
    pub(crate) fn has_ring(&self) -> bool {
        self.0.outbound.has_driver.get()
    }
}

/// A connection of the ring as tokio's crates want one. What is written leaves at the end of the
/// turn, together; a flush has nothing to do.
pub(crate) struct WireStream {
    wire: Rc<Wire>,
    /// Taken from the wire, and read up to here.
    bytes: Vec<u8>,
    read: usize,
}

impl WireStream {
    fn new(wire: Rc<Wire>) -> WireStream {
        WireStream { wire, bytes: Vec::new(), read: 0 }
    }
}

impl AsyncRead for WireStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read == this.bytes.len() {
            match ready!(this.wire.poll_input(0, cx)) {
                Input::Bytes => {}
                Input::Eof => return Poll::Ready(Ok(())),
                Input::Dead => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
            this.read = 0;
            this.bytes.clear();
            this.wire.take_into(&mut this.bytes);
        }
        let rest = &this.bytes[this.read..];
        let len = rest.len().min(into.remaining());
        into.put_slice(&rest[..len]);
        this.read += len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.wire.poll_writable(cx));
        if self.wire.is_dead() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.wire.write(|out| out.extend_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.close(Close::Last);
        Poll::Ready(Ok(()))
    }
}

impl Drop for WireStream {
    fn drop(&mut self) {
        self.wire.close(Close::Last);
    }
}
