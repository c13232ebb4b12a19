//! The ring itself: a queue of operations, one `io_uring_enter` a turn, completions decoded.
//!
//! What the kernel holds (bytes of a send, a timer's time) belongs to a slot here until the
//! operation's last completion, never to a future or to a connection's entry.

use std::collections::HashMap;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;

use super::buffers::{BufferId, Buffers, GROUP};
use super::event::{Event, Kind, Timer, Token};
#[cfg(feature = "files")]
use super::file::Op;
use crate::base::piece::Piece;
use crate::limits::{COMPLETIONS_MAX, SUBMISSIONS_MAX};

/// One shard's io_uring with its receive buffers and running sends.
pub(crate) struct Ring {
    /// Dropped by hand: before the memory that the kernel may still write to.
    ring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<Buffers>,
    sends: Slab<Send>,
    /// Buffers of receives that have one of their own, by the slots of their connections.
    bulk: HashMap<u32, Vec<u8>>,
    /// Whose they are, and what the kernel holds of them.
    #[cfg(feature = "files")]
    operations: Slab<(u32, Op)>,
    /// Sends queued since the last `enter`, and those that were issued: with their turns, for a
    /// slot may be another send's by the time it is looked at.
    fresh: Vec<Issued>,
    issued: Vec<Issued>,
    turn: u32,
    tick: Box<Timespec>,
    deadline: Box<Timespec>,
    /// Index of the ring's own descriptor, registered to save a look-up a turn.
    registered: Option<u32>,
}

/// Bytes that the kernel reads from until they are sent.
struct Send {
    token: Token,
    fd: RawFd,
    bytes: Piece,
    from: usize,
    since_ms: u64,
    way: Way,
    /// Where the kernel finds bytes that lie in two places.
    #[cfg(feature = "files")]
    parts: Option<Box<Parts>>,
}

/// A send that may be whole without a completion.
#[derive(Clone, Copy)]
pub(crate) struct Issued {
    send: u32,
    turn: u32,
}

/// How a send goes, and how its end is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// At once, while it is submitted in that turn: a completion comes only if it could not.
    Fresh { turn: u32 },
    /// Waits for room in the socket; a completion comes.
    Waiting,
    /// The same, but the descriptor is closed behind it: what is left cannot be sent again.
    Last,
}

/// How one completion moved a send on.
pub(crate) enum SendStep {
    /// Some bytes are sent, the rest follows.
    More { token: Token, bytes: usize },
    /// All are sent; the buffer comes back.
    Whole { token: Token, bytes: usize, buffer: Piece },
    /// The connection is broken; the buffer comes back.
    Broken { token: Token, buffer: Piece },
}

impl Ring {
    /// A ring for this thread only: no other may enter it.
    pub(crate) fn new() -> io::Result<Ring> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS_MAX)
            .build(SUBMISSIONS_MAX)?;
        let buffers = Buffers::register(&ring)?;
        let mut ring = Ring {
            ring: ManuallyDrop::new(ring),
            buffers: ManuallyDrop::new(buffers),
            sends: Slab::new(),
            bulk: HashMap::new(),
            #[cfg(feature = "files")]
            operations: Slab::new(),
            fresh: Vec::new(),
            issued: Vec::new(),
            turn: 0,
            tick: Box::new(Timespec::new()),
            deadline: Box::new(Timespec::new()),
            registered: None,
        };
        ring.registered = ring.register_self();
        Ok(ring)
    }

    /// Multishot accept on listener `token.slot`.
    pub(crate) fn accept(&mut self, listener: RawFd, token: Token) {
        let entry = opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(Kind::Accept.pack(token)));
    }

    /// Multishot receive into the provided buffers.
    #[inline]
    pub(crate) fn receive(&mut self, socket: RawFd, token: Token) {
        let entry = opcode::RecvMulti::new(Fd(socket), GROUP).build();
        self.push(entry.user_data(Kind::Recv.pack(token)));
    }

    /// One receive into a provided buffer: no more comes than that, until it is asked for again.
    pub(crate) fn receive_once(&mut self, socket: RawFd, token: Token) {
        let entry = opcode::Recv::new(Fd(socket), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        self.push(entry.flags(Flags::BUFFER_SELECT).user_data(Kind::Recv.pack(token)));
    }

    /// One receive into the whole capacity of a buffer, which comes back with it.
    pub(crate) fn receive_bulk(&mut self, socket: RawFd, token: Token, mut bytes: Vec<u8>) {
        bytes.clear();
        let (pointer, len) = (bytes.as_mut_ptr(), bytes.capacity() as u32);
        self.bulk.insert(token.slot, bytes);
        let entry = opcode::Recv::new(Fd(socket), pointer, len).build();
        self.push(entry.user_data(Kind::Bulk.pack(token)));
    }

    /// Receives under way that have buffers of their own.
    pub(crate) fn bulk_len(&self) -> usize {
        self.bulk.len()
    }

    /// Sends bytes and keeps them until they are sent. One send a connection at a time.
    ///
    /// What fits the socket is sent by the `enter` that submits it, without a completion: see
    /// [`settled`](Ring::settled).
    #[inline]
    pub(crate) fn send(&mut self, fd: RawFd, token: Token, bytes: Piece, now_ms: u64) -> u32 {
        let key = self.start_send(fd, token, bytes, now_ms, Way::Fresh { turn: self.turn });
        // A full queue was handed over first: then it is the next turn that issues this one.
        self.sends[key as usize].way = Way::Fresh { turn: self.turn };
        self.fresh.push(Issued { send: key, turn: self.turn });
        key
    }

    /// Whether a send may end without a completion: a waiting `enter` would not hear of it.
    pub(crate) fn is_silent(&self, send: u32) -> bool {
        self.sends.get(send as usize).is_some_and(|it| matches!(it.way, Way::Fresh { .. }))
    }

    /// Sends the last bytes of a connection, held back so that the FIN leaves with them: the
    /// descriptor is to be closed behind it, in the same turn.
    pub(crate) fn send_last(&mut self, fd: RawFd, token: Token, bytes: Piece, now_ms: u64) -> u32 {
        self.start_send(fd, token, bytes, now_ms, Way::Last)
    }

    /// Readiness of a descriptor, until it ends.
    pub(crate) fn poll(&mut self, fd: RawFd) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(Kind::Poll.pack(NOBODY)));
    }

    /// An operation on a file for `id`, which gets it back at its end.
    #[cfg(feature = "files")]
    pub(crate) fn operate(&mut self, id: u32, op: Op) {
        let slot = self.operations.insert((id, op));
        let entry = self.operations[slot].1.entry();
        let token = Token { slot: slot as u32, generation: 0 };
        self.push(entry.user_data(Kind::Operation.pack(token)));
    }

    /// Ends the operation of `id`, if it still runs; its completion still comes.
    #[cfg(feature = "files")]
    pub(crate) fn cancel_operation(&mut self, id: u32) {
        let found = self.operations.iter().find(|(_, (of, _))| *of == id);
        if let Some((slot, _)) = found {
            self.cancel(Kind::Operation.pack(Token { slot: slot as u32, generation: 0 }));
        }
    }

    /// Takes an operation that has ended.
    #[cfg(feature = "files")]
    pub(crate) fn end_operation(&mut self, slot: u32) -> Option<(u32, Op)> {
        self.operations.try_remove(slot as usize)
    }

    /// Readiness of the watched descriptor, once.
    pub(crate) fn watch(&mut self, fd: RawFd) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build();
        self.push(entry.user_data(Kind::Watch.pack(NOBODY)));
    }

    /// Sets a timer that is not running.
    pub(crate) fn set_timer(&mut self, timer: Timer, after: Duration) {
        let (kind, place) = match timer {
            Timer::Tick => (Kind::Tick, &mut self.tick),
            Timer::Deadline => (Kind::Deadline, &mut self.deadline),
        };
        **place = Timespec::from(after);
        let entry = opcode::Timeout::new(&raw const **place).build();
        self.push(entry.user_data(kind.pack(NOBODY)));
    }

    /// Ends a receive; its last completion still comes.
    pub(crate) fn cancel_receive(&mut self, token: Token) {
        let bulk = self.bulk.contains_key(&token.slot);
        self.cancel(if bulk { Kind::Bulk } else { Kind::Recv }.pack(token));
    }

    /// Ends a multishot accept; its last completion still comes.
    pub(crate) fn cancel_accept(&mut self, token: Token) {
        self.cancel(Kind::Accept.pack(token));
    }

    /// Ends a running send; its last completion still comes.
    pub(crate) fn cancel_send(&mut self, send: u32) {
        self.cancel(Kind::Send.pack(Token { slot: send, generation: 0 }));
    }

    /// Closes a descriptor with the next submission.
    pub(crate) fn close(&mut self, fd: RawFd) {
        let entry = opcode::Close::new(Fd(fd)).build().flags(Flags::SKIP_SUCCESS);
        self.push(entry.user_data(Kind::Done.pack(NOBODY)));
    }

    /// Submits what is queued, runs the kernel's deferred work, and waits if asked to: the one
    /// system call of a turn.
    #[inline]
    pub(crate) fn enter(&mut self, wait: bool) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        let (fd, registered) = match self.registered {
            Some(index) => (index as i32, ENTER_REGISTERED_RING),
            None => (self.ring.as_raw_fd(), 0),
        };
        // SAFETY: no pointer goes to the kernel but those of the queued entries, whose memory
        // belongs to `self` until their last completion.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                queued,
                u32::from(wait),
                ENTER_GETEVENTS | registered,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if self.ring.submission().is_empty() {
            self.turn = self.turn.wrapping_add(1);
            self.issued.append(&mut self.fresh);
        }
        if entered >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // EBUSY and EAGAIN: the completion queue is full; it is emptied next.
            Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        }
    }

    /// The next completion that is already there.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let entry = self.ring.completion().next()?;
        let (kind, token) = Kind::unpack(entry.user_data());
        let result = match entry.result() {
            count if count >= 0 => Ok(count),
            error => Err(-error),
        };
        let last = !cqueue::more(entry.flags());
        Some(match kind {
            RECV => Event::Received {
                token,
                result: result.map(|count| count as usize),
                buffer: cqueue::buffer_select(entry.flags()).map(BufferId::new),
                last,
            },
            BULK => {
                let mut bytes = self.bulk.remove(&token.slot).unwrap_or_default();
                let result = result.map(|count| {
                    let count = (count as usize).min(bytes.capacity());
                    // SAFETY: the kernel has written so many bytes to the buffer's start.
                    unsafe { bytes.set_len(count) };
                    bytes
                });
                Event::ReceivedBulk { token, result }
            }
            SEND => Event::Sent { send: token.slot, result: result.map(|count| count as usize) },
            ACCEPT => Event::Accepted { token, result, last },
            POLL => Event::Readable { last },
            TICK => Event::Timer(Timer::Tick),
            DEADLINE => Event::Timer(Timer::Deadline),
            WATCH => Event::Watched { ok: result.is_ok() },
            #[cfg(feature = "files")]
            OPERATION => {
                let result = result.map(|count| count as usize);
                Event::Operated { slot: token.slot, result }
            }
            _ => Event::Done,
        })
    }

    /// Moves out the sends issued so far. To be called once every completion is taken: those of
    /// them that had none are whole.
    #[inline]
    pub(crate) fn take_issued(&mut self, into: &mut Vec<Issued>) {
        if !self.issued.is_empty() && !self.ring.submission().cq_overflow() {
            into.append(&mut self.issued);
        }
    }

    /// The send and its bytes, if it is whole.
    #[inline]
    pub(crate) fn settled(&self, issued: Issued) -> Option<(u32, usize)> {
        let send = self.sends.get(issued.send as usize)?;
        let whole = send.way == Way::Fresh { turn: issued.turn };
        whole.then_some((issued.send, send.bytes.len()))
    }

    /// Moves a send on after its completion, or without one.
    #[inline]
    pub(crate) fn step_send(
        &mut self,
        send: u32,
        result: Result<usize, i32>,
        now_ms: u64,
    ) -> Option<SendStep> {
        let entry = self.sends.get_mut(send as usize)?;
        let token = entry.token;
        match result {
            Ok(bytes) if entry.from + bytes >= entry.bytes.len() => {
                let buffer = self.sends.remove(send as usize).bytes;
                Some(SendStep::Whole { token, bytes, buffer })
            }
            Ok(bytes) if bytes > 0 && entry.way != Way::Last => {
                entry.from += bytes;
                entry.since_ms = now_ms;
                entry.way = Way::Waiting;
                self.submit_send(send as usize);
                Some(SendStep::More { token, bytes })
            }
            Err(libc::EINTR | libc::EAGAIN) if entry.way != Way::Last => {
                entry.way = Way::Waiting;
                self.submit_send(send as usize);
                Some(SendStep::More { token, bytes: 0 })
            }
            Ok(_) | Err(_) => {
                let buffer = self.sends.remove(send as usize).bytes;
                Some(SendStep::Broken { token, buffer })
            }
        }
    }

    /// Connections with a send that has moved no byte since `before_ms`.
    pub(crate) fn stalled(&self, before_ms: u64, into: &mut Vec<Token>) {
        let stalled = self.sends.iter().filter(|(_, send)| send.since_ms < before_ms);
        into.extend(stalled.map(|(_, send)| send.token));
    }

    /// Bytes of a receive, until the buffer is recycled.
    #[inline]
    pub(crate) fn bytes(&self, buffer: &BufferId, len: usize) -> &[u8] {
        self.buffers.bytes(buffer, len)
    }

    /// Gives a receive's buffer back; the kernel has it after `publish_buffers`.
    #[inline]
    pub(crate) fn recycle(&mut self, buffer: BufferId) {
        self.buffers.recycle(buffer);
    }

    #[inline]
    pub(crate) fn publish_buffers(&self) {
        self.buffers.publish();
    }

    /// Completions from now on also write to `eventfd`.
    pub(crate) fn attach_eventfd(&self, eventfd: RawFd) -> io::Result<()> {
        self.ring.submitter().register_eventfd(eventfd)
    }

    /// Completions from now on do not.
    pub(crate) fn detach_eventfd(&self) -> io::Result<()> {
        self.ring.submitter().unregister_eventfd()
    }

    #[inline]
    fn start_send(&mut self, fd: RawFd, token: Token, bytes: Piece, now_ms: u64, way: Way) -> u32 {
        let key = self.sends.insert(Send {
            token,
            fd,
            bytes,
            from: 0,
            since_ms: now_ms,
            way,
            #[cfg(feature = "files")]
            parts: None,
        });
        self.submit_send(key);
        key as u32
    }

    #[inline]
    fn submit_send(&mut self, key: usize) {
        let Some(send) = self.sends.get_mut(key) else { return };
        #[cfg(feature = "files")]
        let (rest, mapped) = send.bytes.spans(send.from);
        #[cfg(not(feature = "files"))]
        let rest = &send.bytes.bytes()[send.from..];
        let len = rest.len().min(SEND_BYTES_MAX) as u32;
        // With MSG_DONTWAIT a send that does not fit fails, and what fails has a completion; so
        // has, with MSG_WAITALL, one that fits in part.
        let (more, flags) = match send.way {
            Way::Fresh { .. } => (libc::MSG_DONTWAIT | libc::MSG_WAITALL, Flags::SKIP_SUCCESS),
            Way::Waiting => (0, Flags::empty()),
            Way::Last => (libc::MSG_MORE | libc::MSG_WAITALL, Flags::empty()),
        };
        let more = libc::MSG_NOSIGNAL | more;
        let entry = match () {
            #[cfg(feature = "files")]
            () if mapped.is_some() => {
                let parts = send.parts.insert(Parts::new(rest, mapped));
                opcode::SendMsg::new(Fd(send.fd), parts.message()).flags(more as u32).build()
            }
            () => opcode::Send::new(Fd(send.fd), rest.as_ptr(), len).flags(more).build(),
        };
        let user_data = Kind::Send.pack(Token { slot: key as u32, generation: 0 });
        self.push(entry.flags(flags).user_data(user_data));
    }

    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(user_data)).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(Kind::Done.pack(NOBODY)));
    }

    #[inline]
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: memory that an entry points to is owned by `self` (sends, timers) or by no
            // one, until the operation's last completion.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: hand over what is queued, without waiting.
            if self.enter(false).is_err() {
                return;
            }
        }
    }

    fn register_self(&self) -> Option<u32> {
        let mut update = RsrcUpdate {
            offset: u32::MAX,
            resv: 0,
            data: u64::try_from(self.ring.as_raw_fd()).ok()?,
        };
        // SAFETY: `update` is an io_uring_rsrc_update and lives across the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.ring.as_raw_fd(),
                REGISTER_RING_FDS,
                &raw mut update,
                1,
            )
        };
        (done == 1).then_some(update.offset)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // What is still running reads from `sends` and writes to `buffers`. Closing a ring ends
        // its operations, but not at once: so such memory is given up, never freed under them.
        let busy = !self.sends.is_empty();
        if !self.bulk.is_empty() {
            std::mem::forget(std::mem::take(&mut self.bulk));
        }
        #[cfg(feature = "files")]
        if !self.operations.is_empty() {
            std::mem::forget(std::mem::take(&mut self.operations));
        }
        if let Some(index) = self.registered {
            let mut update = RsrcUpdate { offset: index, resv: 0, data: 0 };
            // SAFETY: as in `register_self`.
            unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    self.ring.as_raw_fd(),
                    UNREGISTER_RING_FDS,
                    &raw mut update,
                    1,
                );
            }
        }
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        // SAFETY: neither is used again.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            ManuallyDrop::drop(&mut self.buffers);
        }
        if busy {
            std::mem::forget(std::mem::take(&mut self.sends));
        }
    }
}

/// A fresh eventfd. One that a ring reads must block: io_uring takes O_NONBLOCK at its word.
pub(crate) fn eventfd(blocking: bool) -> io::Result<OwnedFd> {
    let flags = if blocking { libc::EFD_CLOEXEC } else { libc::EFD_CLOEXEC | libc::EFD_NONBLOCK };
    // SAFETY: takes no pointers; the result is checked.
    let fd = unsafe { libc::eventfd(0, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes an eventfd: whoever reads or polls it wakes.
pub(crate) fn signal(eventfd: RawFd) {
    let one = 1u64;
    // SAFETY: eight bytes that live across the call.
    unsafe { libc::write(eventfd, (&raw const one).cast(), 8) };
}

/// A message in two parts, for sendmsg.
#[cfg(feature = "files")]
struct Parts {
    parts: [libc::iovec; 2],
    message: libc::msghdr,
}

#[cfg(feature = "files")]
impl Parts {
    fn new(first: &[u8], second: Option<(*const u8, usize)>) -> Box<Parts> {
        let (pointer, len) = second.unwrap_or((std::ptr::null(), 0));
        let part =
            |pointer: *const u8, len| libc::iovec { iov_base: pointer as *mut _, iov_len: len };
        Box::new(Parts {
            parts: [part(first.as_ptr(), first.len()), part(pointer, len)],
            // SAFETY: a msghdr of zeros is a valid one.
            message: unsafe { std::mem::zeroed() },
        })
    }

    /// Points to itself, so it must not move from here on.
    fn message(&mut self) -> *const libc::msghdr {
        self.message.msg_iov = self.parts.as_mut_ptr();
        self.message.msg_iovlen = self.parts.len();
        &raw const self.message
    }
}

/// `struct io_uring_rsrc_update` of linux/io_uring.h.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    resv: u32,
    data: u64,
}

const NOBODY: Token = Token { slot: 0, generation: 0 };
const RECV: u8 = Kind::Recv as u8;
const BULK: u8 = Kind::Bulk as u8;
const SEND: u8 = Kind::Send as u8;
const ACCEPT: u8 = Kind::Accept as u8;
const POLL: u8 = Kind::Poll as u8;
const TICK: u8 = Kind::Tick as u8;
const DEADLINE: u8 = Kind::Deadline as u8;
const WATCH: u8 = Kind::Watch as u8;
#[cfg(feature = "files")]
const OPERATION: u8 = Kind::Operation as u8;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
/// One send's length is 32 bits and its result 31.
const SEND_BYTES_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// More in one turn than the queue has room for.
    #[test]
    fn every_send_of_a_turn_settles() {
        let mut ring = Ring::new().expect("a ring");
        // Enough of them that each takes its share without being read.
        let pairs: Vec<_> = (0..64).map(|_| UnixStream::pair().expect("a pair")).collect();
        let sends = SUBMISSIONS_MAX as usize * 2 + 7;
        for slot in 0..sends {
            let token = Token { slot: slot as u32, generation: 0 };
            ring.send(pairs[slot % pairs.len()].0.as_raw_fd(), token, Piece::Own(vec![b'x']), 0);
        }
        let mut whole = 0;
        let mut issued = Vec::new();
        for _ in 0..4 {
            ring.enter(false).expect("entered");
            while let Some(event) = ring.next_event() {
                let Event::Sent { send, result } = event else { continue };
                if let Some(SendStep::Whole { .. }) = ring.step_send(send, result, 0) {
                    whole += 1;
                }
            }
            ring.take_issued(&mut issued);
            for it in issued.drain(..) {
                if let Some((send, bytes)) = ring.settled(it) {
                    assert!(ring.step_send(send, Ok(bytes), 0).is_some());
                    whole += 1;
                }
            }
        }
        assert_eq!((whole, ring.sends.len()), (sends, 0));
    }
}
