//! The limit of completion I/O: one io_uring, one enter a turn, and nothing else.
//!
//! Multishot accept into direct descriptors, multishot receive into a ring of provided buffers,
//! one send a connection and turn. A connection's slot is freed when the last operation on it has
//! completed, so a completion always finds its slot.

use std::io::Result;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode};
use slab::Slab;
use soloist_peers::Options;
use soloist_peers::bare::Stamp;
use soloist_peers::ring::{Buffers, files_max};

const SQ_ENTRIES: u32 = 4096;
const CQ_ENTRIES: u32 = 16 * 1024;
const BUFFERS: u16 = 256;
const GROUP: u16 = 0;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;
const CANCEL: u64 = 4;

fn main() -> Result<()> {
    Options::from_args().on_each_worker(serve)
}

fn serve(listener: TcpListener) -> Result<()> {
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(CQ_ENTRIES)
        .build(SQ_ENTRIES)?;
    // Without NO_IOWAIT, as the shard's ring is: with it a lone connection costs a tenth more.
    let flags = EnterFlags::GETEVENTS;
    let (mut submitter, sq, mut cq) = ring.split();
    submitter.register_ring_fd()?;
    submitter.register_files_sparse(files_max()?)?;
    let buffers = Buffers::register(&submitter, BUFFERS, GROUP)?;
    let mut turns = Turns {
        listener: listener.as_raw_fd(),
        sq,
        submitter: &submitter,
        buffers,
        stamp: Stamp::new(),
        connections: Slab::new(),
        dirty: Vec::new(),
        starved: Vec::new(),
        accepting: false,
        full: false,
    };
    loop {
        turns.prepare()?;
        // SAFETY: no argument is passed.
        let entered = unsafe {
            submitter.enter::<libc::sigset_t>(turns.sq.len() as u32, 1, flags.bits(), None)
        };
        match entered {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {
                return Err(e);
            }
            _ => {}
        }
        turns.sq.sync();
        turns.stamp.refresh();
        cq.sync();
        for completion in &mut cq {
            turns.complete(&completion)?;
        }
        turns.buffers.publish();
    }
}

struct Turns<'a> {
    listener: RawFd,
    sq: SubmissionQueue<'a>,
    submitter: &'a Submitter<'a>,
    buffers: Buffers,
    stamp: Stamp,
    connections: Slab<Connection>,
    /// Connections with something to send that are not sending.
    dirty: Vec<usize>,
    /// Connections whose receive ended, for want of a buffer or otherwise.
    starved: Vec<usize>,
    accepting: bool,
    /// No descriptor was left for the last one.
    full: bool,
}

struct Connection {
    file: Fixed,
    /// The beginning of a request that is not whole.
    input: Vec<u8>,
    /// Lent to the kernel while `sending`.
    output: Vec<u8>,
    sent: usize,
    /// Answers that wait for the end of that send.
    next: Vec<u8>,
    receiving: bool,
    sending: bool,
    dirty: bool,
    /// No more requests are taken; closes when all is sent.
    last: bool,
    closing: bool,
    closed: bool,
}

impl Turns<'_> {
    /// What the last turn left to submit.
    fn prepare(&mut self) -> Result<()> {
        if !self.accepting {
            self.accepting = true;
            let entry =
                opcode::AcceptMulti::new(Fd(self.listener)).allocate_file_index(true).build();
            self.push(entry.user_data(ACCEPT))?;
        }
        while let Some(i) = self.starved.pop() {
            self.receive(i)?;
        }
        while let Some(i) = self.dirty.pop() {
            self.connections[i].dirty = false;
            self.send(i)?;
        }
        self.sq.sync();
        Ok(())
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> Result<()> {
        let (operation, i) = (completion.user_data() & 7, (completion.user_data() >> 3) as usize);
        let result = completion.result();
        match operation {
            ACCEPT => {
                self.accepting = cqueue::more(completion.flags());
                if result == -libc::ENFILE || result == -libc::EMFILE {
                    self.accepting = true; // not before a connection has ended
                    self.full = true;
                } else if result >= 0 {
                    let i = self.connections.insert(Connection::new(Fixed(result as u32)));
                    self.receive(i)?;
                }
            }
            RECEIVE => self.received(i, result, completion.flags())?,
            SEND => self.sent(i, result)?,
            CLOSE => {
                self.connections[i].closed = true;
                self.free(i);
            }
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self, i: usize) -> Result<()> {
        let connection = &mut self.connections[i];
        if connection.closing || connection.last {
            return Ok(());
        }
        connection.receiving = true;
        let entry = opcode::RecvMulti::new(connection.file, GROUP).build();
        self.push(entry.user_data(tag(RECEIVE, i)))
    }

    fn received(&mut self, i: usize, result: i32, flags: u32) -> Result<()> {
        let connection = &mut self.connections[i];
        connection.receiving = cqueue::more(flags);
        let receiving = connection.receiving;
        if let Some(buffer) = cqueue::buffer_select(flags) {
            if result > 0 && !connection.last {
                connection.take(self.buffers.bytes(buffer, result as usize), &self.stamp);
                if connection.wants_send() {
                    connection.dirty = true;
                    self.dirty.push(i);
                }
            }
            self.buffers.give_back(buffer);
        }
        if receiving {
            return Ok(());
        }
        if self.connections[i].closing {
            self.free(i);
        } else if result > 0 || result == -libc::ENOBUFS {
            self.starved.push(i);
        } else if result == 0 && (self.connections[i].sending || self.connections[i].dirty) {
            self.connections[i].last = true; // half closed: what was asked is answered
        } else {
            self.close(i)?;
        }
        Ok(())
    }

    fn send(&mut self, i: usize) -> Result<()> {
        let connection = &mut self.connections[i];
        if connection.closing {
            return Ok(());
        }
        if connection.output.is_empty() {
            std::mem::swap(&mut connection.output, &mut connection.next);
        }
        let rest = &connection.output[connection.sent..];
        let entry = opcode::Send::new(connection.file, rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        connection.sending = true;
        let last = connection.last;
        self.push(entry.user_data(tag(SEND, i)))?;
        // The operation holds the file: the end can be submitted behind it, in the same turn.
        if last { self.close(i) } else { Ok(()) }
    }

    fn sent(&mut self, i: usize, result: i32) -> Result<()> {
        let connection = &mut self.connections[i];
        connection.sending = false;
        if connection.closing {
            self.free(i);
            return Ok(());
        }
        if result <= 0 {
            return self.close(i);
        }
        connection.sent += result as usize;
        if connection.sent == connection.output.len() {
            connection.output.clear();
            connection.sent = 0;
        }
        if connection.wants_send() {
            connection.dirty = true;
            self.dirty.push(i);
        } else if connection.last && connection.output.is_empty() {
            self.close(i)?;
        }
        Ok(())
    }

    /// Close alone would not end the connection while a receive is armed: it holds the file.
    fn close(&mut self, i: usize) -> Result<()> {
        let connection = &mut self.connections[i];
        if connection.closing {
            return Ok(());
        }
        connection.closing = true;
        let (receiving, file) = (connection.receiving, connection.file);
        if receiving {
            let cancel = CancelBuilder::user_data(tag(RECEIVE, i));
            let entry = opcode::AsyncCancel2::new(cancel).build().flags(Flags::SKIP_SUCCESS);
            self.push(entry.user_data(CANCEL))?;
        }
        self.push(opcode::Close::new(file).build().user_data(tag(CLOSE, i)))
    }

    /// Frees the slot if that was the last operation on it.
    fn free(&mut self, i: usize) {
        let Connection { receiving, sending, closed, .. } = self.connections[i];
        if closed && !receiving && !sending {
            self.connections.remove(i);
            if std::mem::take(&mut self.full) {
                self.accepting = false;
            }
        }
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        // SAFETY: what an entry points to is a connection's `output`, which stays as it is while
        // `sending`, in a slot that stays until the completion.
        while unsafe { self.sq.push(&entry) }.is_err() {
            self.sq.sync();
            self.submitter.submit()?;
            self.sq.sync();
        }
        Ok(())
    }
}

impl Connection {
    fn new(file: Fixed) -> Connection {
        Connection {
            file,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            next: Vec::new(),
            receiving: false,
            sending: false,
            dirty: false,
            last: false,
            closing: false,
            closed: false,
        }
    }

    #[inline]
    fn take(&mut self, bytes: &[u8], stamp: &Stamp) {
        let answers = if self.sending { &mut self.next } else { &mut self.output };
        let turn = if self.input.is_empty() {
            let turn = stamp.answer(bytes, answers);
            self.input.extend_from_slice(&bytes[turn.taken..]);
            turn
        } else {
            self.input.extend_from_slice(bytes);
            let turn = stamp.answer(&self.input, answers);
            self.input.drain(..turn.taken);
            turn
        };
        self.last = turn.close;
    }

    fn wants_send(&self) -> bool {
        let waits = !self.output.is_empty() || !self.next.is_empty();
        waits && !self.dirty && !self.sending
    }
}

fn tag(operation: u64, i: usize) -> u64 {
    (i as u64) << 3 | operation
}
