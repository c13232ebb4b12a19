//! Both ends of one connection's bytes: the driver (or a test) puts received bytes in and takes
//! written ones out; the connection's task does the opposite. It has never seen a socket.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[cfg(feature = "ws")]
use crate::base::backlog::{Backlog, Full, Lost};
#[cfg(feature = "files")]
use crate::base::map::Map;
#[cfg(feature = "ws")]
use crate::base::piece::Frame;
use crate::base::piece::Piece;
use crate::base::spares::Spares;
use crate::limits::{INBOX_BYTES_MAX, INBOX_STEP_BYTES, OUTBOX_BYTES_MAX};

/// One connection's bytes in both directions.
pub(crate) struct Wire {
    slot: u32,
    /// The socket's descriptor, -1 in memory or once it is closed: for those who may ask the
    /// kernel about it.
    fd: Cell<i32>,
    /// The peer's address, once somebody has asked for it.
    peer: OnceCell<Box<SocketAddr>>,
    inbox: Cell<Vec<u8>>,
    /// Whole buffers that leave before the outbox; what they hold is counted in `queued_bytes`.
    queue: RefCell<VecDeque<Piece>>,
    queued_bytes: Cell<usize>,
    outbox: Cell<Vec<u8>>,
    /// Whole messages that leave behind the outbox. None before there was one.
    #[cfg(feature = "ws")]
    backlog: RefCell<Option<Box<Backlog>>>,
    /// Bytes lent to the kernel and not yet sent.
    sending: Cell<usize>,
    eof: Cell<bool>,
    dead: Cell<bool>,
    close: Cell<Close>,
    /// Set while the slot is in `dirty`.
    marked: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
    dirty: Rc<Dirty>,
    spares: Rc<Spares>,
}

/// Slots of wires with something for the driver to do: bytes to send, a pause to end, a close.
#[derive(Default)]
pub(crate) struct Dirty(RefCell<Vec<u32>>);

/// How the connection's task wants its connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Not at all.
    Open,
    /// Send what is written, then FIN, then wait a while for the peer's (RFC 9112 section 9.6).
    Staged,
    /// The same without the wait: the peer has said that nothing follows its last request.
    Last,
    /// At once; what is unsent is lost.
    Abort,
}

/// What the peer has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Bytes are in the inbox.
    Bytes,
    /// The peer has sent its last byte; it may still read.
    Eof,
    /// Reset or broken: nothing goes either way.
    Dead,
}

impl Wire {
    pub(crate) fn new(slot: u32, fd: i32, dirty: Rc<Dirty>, spares: Rc<Spares>) -> Wire {
        Wire {
            slot,
            fd: Cell::new(fd),
            peer: OnceCell::new(),
            inbox: Cell::default(),
            queue: RefCell::default(),
            queued_bytes: Cell::new(0),
            outbox: Cell::default(),
            #[cfg(feature = "ws")]
            backlog: RefCell::default(),
            sending: Cell::new(0),
            eof: Cell::new(false),
            dead: Cell::new(false),
            close: Cell::new(Close::Open),
            marked: Cell::new(false),
            reader: Cell::new(None),
            writer: Cell::new(None),
            dirty,
            spares,
        }
    }

    // The connection's side.

    /// Ready when there is more to read than `seen` bytes, or never will be.
    #[inline]
    pub(crate) fn poll_input(&self, seen: usize, cx: &mut Context<'_>) -> Poll<Input> {
        match self.input(seen) {
            Some(input) => Poll::Ready(input),
            None => {
                self.reader.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// The same, without waiting.
    #[inline]
    pub(crate) fn input(&self, seen: usize) -> Option<Input> {
        if self.dead.get() {
            Some(Input::Dead)
        } else if self.unread() > seen {
            Some(Input::Bytes)
        } else if self.eof.get() {
            Some(Input::Eof)
        } else {
            None
        }
    }

    /// The peer's address: `ask` asks the kernel, once a connection.
    pub(crate) fn peer(&self, ask: impl FnOnce(i32) -> Option<SocketAddr>) -> Option<SocketAddr> {
        if let Some(known) = self.peer.get() {
            return Some(**known);
        }
        let found = ask(self.fd.get())?;
        self.pretend_peer(found);
        Some(found)
    }

    /// The first word counts.
    pub(crate) fn pretend_peer(&self, addr: SocketAddr) {
        let _ = self.peer.set(Box::new(addr));
    }

    /// Bytes received and not yet taken.
    #[inline]
    pub(crate) fn unread(&self) -> usize {
        peek(&self.inbox, Vec::len)
    }

    /// Takes all received bytes, behind those of `into`.
    #[inline]
    pub(crate) fn take_into(&self, into: &mut Vec<u8>) {
        let bytes = self.inbox.take();
        let paused = bytes.len() >= INBOX_BYTES_MAX;
        if into.is_empty() {
            self.spares.give(std::mem::replace(into, bytes));
        } else {
            into.extend_from_slice(&bytes);
            self.spares.give(bytes);
        }
        if paused {
            self.mark(); // the driver's receive may be paused
        }
    }

    /// Gives back the first bytes of something that is not whole yet, in a buffer of their size.
    pub(crate) fn put_back(&self, bytes: &[u8]) {
        let later = self.inbox.take();
        let mut all = Vec::with_capacity(bytes.len() + later.len());
        all.extend_from_slice(bytes);
        all.extend_from_slice(&later);
        self.spares.give(later);
        self.inbox.set(all);
    }

    /// Appends to what leaves next.
    #[inline]
    pub(crate) fn write<T>(&self, fill: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut out = self.outbox.take();
        if out.capacity() == 0 {
            out = self.spares.take();
        }
        let value = fill(&mut out);
        let any = !out.is_empty();
        self.outbox.set(out);
        if any {
            self.mark();
        }
        value
    }

    /// Lets a buffer of its own leave behind what is written so far, uncopied.
    pub(crate) fn write_owned(&self, bytes: Piece) {
        if bytes.is_empty() || self.dead.get() {
            return;
        }
        let before = Piece::Own(self.outbox.take());
        let mut queue = self.queue.borrow_mut();
        self.queued_bytes.set(self.queued_bytes.get() + before.len() + bytes.len());
        queue.extend([before, bytes].into_iter().filter(|it| !it.is_empty()));
        self.mark();
    }

    /// Lets bytes of a file leave behind what is written so far, in one send with it.
    #[cfg(feature = "files")]
    pub(crate) fn write_mapped(&self, map: Rc<Map>, from: u32, len: u32) {
        if self.dead.get() {
            return;
        }
        let piece = Piece::Mapped { head: self.outbox.take(), map, from, len };
        self.queued_bytes.set(self.queued_bytes.get() + piece.len());
        self.queue.borrow_mut().push_back(piece);
        self.mark();
    }

    /// Lets `send` take over what is written, if nothing is before it; what it leaves waits on.
    #[cfg(feature = "files")]
    pub(crate) fn flush_now(&self, send: impl FnOnce(&[u8]) -> usize) {
        if self.sending.get() > 0 || self.queued_bytes.get() > 0 || self.unsent() == 0 {
            return;
        }
        let mut out = self.outbox.take();
        let sent = send(&out).min(out.len());
        if sent == out.len() {
            return self.spares.give(out);
        }
        out.drain(..sent);
        self.outbox.set(out);
    }

    /// The socket, for what goes around the ring while nothing is unsent; none in memory.
    #[cfg(feature = "files")]
    pub(crate) fn socket(&self) -> Option<i32> {
        Some(self.fd.get()).filter(|fd| *fd >= 0)
    }

    /// Bytes written that the kernel has not taken over.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.sending.get() + self.queued_bytes.get() + peek(&self.outbox, Vec::len)
    }

    /// Ready when a writer may go on: little is unsent, or nothing ever will be.
    #[inline]
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_unsent(cx, OUTBOX_BYTES_MAX)
    }

    /// Ready when at most `bytes_max` are unsent, or the wire is dead.
    pub(crate) fn poll_unsent(&self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<()> {
        if self.dead.get() || self.unsent() <= bytes_max {
            return Poll::Ready(());
        }
        self.writer.set(Some(cx.waker().clone()));
        self.mark(); // the driver must not sleep on the send that is waited for
        Poll::Pending
    }

    /// Queues a whole message behind what is written; false if there is no room, or nobody to have
    /// it. `bounds` are messages and bytes; what it cost others is added to `lost`.
    #[cfg(feature = "ws")]
    pub(crate) fn offer(
        &self,
        frame: Rc<Frame>,
        bounds: (usize, usize),
        full: Full,
        lost: &mut Lost,
    ) -> bool {
        if self.dead.get() || self.close.get() != Close::Open {
            return false;
        }
        let mut backlog = self.backlog.borrow_mut();
        let taken = backlog.get_or_insert_default().push(frame, bounds, full, lost);
        drop(backlog);
        self.mark();
        taken
    }

    /// Whether whole messages wait, and what is written now would overtake them.
    #[cfg(feature = "ws")]
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog.borrow().as_ref().is_some_and(|it| !it.is_empty())
    }

    /// Messages that wait, and their bytes.
    #[cfg(feature = "ws")]
    pub(crate) fn backlog(&self) -> (usize, usize) {
        self.backlog.borrow().as_ref().map_or((0, 0), |it| it.held())
    }

    /// Forgets the messages that wait.
    #[cfg(feature = "ws")]
    pub(crate) fn clear_backlog(&self) {
        drop(self.backlog.take());
    }

    /// While it is held nothing of the backlog leaves: a message in fragments is on its way.
    #[cfg(feature = "ws")]
    pub(crate) fn hold_backlog(&self, held: bool) {
        self.backlog.borrow_mut().get_or_insert_default().held = held;
        self.mark();
    }

    /// Wakes this when the wire has sent something, or is dead.
    #[cfg(feature = "ws")]
    pub(crate) fn wait_sent(&self, cx: &Context<'_>) {
        self.writer.set(Some(cx.waker().clone()));
        self.mark();
    }

    /// Ends the connection. The first word counts, but for an abort.
    pub(crate) fn close(&self, how: Close) {
        if self.close.get() == Close::Open || how == Close::Abort {
            self.close.set(how);
            self.mark();
        }
    }

    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get()
    }

    // The driver's side.

    /// The descriptor is closed: its number may be another's soon.
    pub(crate) fn forget_fd(&self) {
        self.fd.set(-1);
    }

    /// Received bytes, copied in: a provided buffer does not outlive its turn.
    #[inline]
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut inbox = self.inbox.take();
        if inbox.capacity() == 0 {
            inbox = self.spares.take();
        }
        let room = inbox.capacity() - inbox.len();
        if inbox.len() >= INBOX_BYTES_MAX && room < bytes.len() {
            // By steps, and not to twice what there is: the rest of a turn is megabytes.
            inbox.reserve_exact(bytes.len().max(INBOX_STEP_BYTES));
        }
        inbox.extend_from_slice(bytes);
        self.inbox.set(inbox);
        wake(&self.reader);
    }

    /// The same in a buffer of its own, which is not copied if nothing is unread.
    pub(crate) fn push_owned(&self, bytes: Vec<u8>) {
        if self.unread() > 0 {
            self.push(&bytes);
            return self.spares.give(bytes);
        }
        self.spares.give(self.inbox.replace(bytes));
        wake(&self.reader);
    }

    /// The peer's FIN.
    pub(crate) fn push_eof(&self) {
        self.eof.set(true);
        wake(&self.reader);
    }

    /// Broken: what waits is woken and finds it dead.
    pub(crate) fn kill(&self) {
        self.dead.set(true);
        self.spares.give(self.outbox.take());
        self.queue.take();
        #[cfg(feature = "ws")]
        drop(self.backlog.take());
        self.queued_bytes.set(0);
        self.sending.set(0);
        wake(&self.reader);
        wake(&self.writer);
    }

    /// What is to be sent next; counts as sending until `sent`.
    #[inline]
    pub(crate) fn take_outbox(&self) -> Option<Piece> {
        if self.queued_bytes.get() > 0 {
            return self.take_queued();
        }
        let out = self.outbox.take();
        #[cfg(feature = "ws")]
        if let Some(backlog) = &mut *self.backlog.borrow_mut()
            && backlog.is_ready()
        {
            let piece = backlog.take(out, &self.spares)?;
            self.sending.set(self.sending.get() + piece.len());
            return Some(piece);
        }
        if out.is_empty() {
            self.outbox.set(out);
            return None;
        }
        self.sending.set(self.sending.get() + out.len());
        Some(Piece::Own(out))
    }

    #[cold]
    fn take_queued(&self) -> Option<Piece> {
        let mut queue = self.queue.borrow_mut();
        let out = queue.pop_front()?;
        if queue.is_empty() {
            *queue = VecDeque::new(); // an idle connection holds nothing
        }
        self.queued_bytes.set(self.queued_bytes.get() - out.len());
        self.sending.set(self.sending.get() + out.len());
        Some(out)
    }

    /// A buffer of `take_outbox` that is sent.
    pub(crate) fn give_back(&self, piece: Piece) {
        self.spares.give_piece(piece);
    }

    /// The kernel has taken over so many bytes.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize) {
        self.sending.set(self.sending.get().saturating_sub(bytes));
        if self.unsent() <= OUTBOX_BYTES_MAX {
            wake(&self.writer);
        }
    }

    /// Whether something goes on when what is being sent now is sent.
    #[inline]
    pub(crate) fn is_followed(&self) -> bool {
        let waiting = self.writer.take();
        let waits = waiting.is_some();
        self.writer.set(waiting);
        waits || self.has_output() || self.close.get() != Close::Open
    }

    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        let any = self.queued_bytes.get() > 0 || peek(&self.outbox, |out| !out.is_empty());
        #[cfg(feature = "ws")]
        let any = any || self.backlog.borrow().as_ref().is_some_and(|it| it.is_ready());
        any
    }

    pub(crate) fn is_eof(&self) -> bool {
        self.eof.get()
    }

    #[inline]
    pub(crate) fn closing(&self) -> Close {
        self.close.get()
    }

    /// The driver has looked at it.
    #[inline]
    pub(crate) fn unmark(&self) {
        self.marked.set(false);
    }

    #[inline]
    fn mark(&self) {
        if !self.marked.replace(true) {
            self.dirty.0.borrow_mut().push(self.slot);
        }
    }
}

impl Dirty {
    /// Moves the marked slots out, oldest first.
    #[inline]
    pub(crate) fn take_into(&self, slots: &mut Vec<u32>) {
        slots.append(&mut self.0.borrow_mut());
    }
}

#[inline]
fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[inline]
fn peek<T>(cell: &Cell<Vec<u8>>, look: impl FnOnce(&Vec<u8>) -> T) -> T {
    let bytes = cell.take();
    let seen = look(&bytes);
    cell.set(bytes);
    seen
}
