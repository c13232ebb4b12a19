//! The limit of readiness I/O: an edge-triggered epoll loop and nothing else.

use std::io::Result;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use slab::Slab;
use soloist_peers::Options;
use soloist_peers::bare::Stamp;

struct Connection {
    socket: OwnedFd,
    /// The beginning of a request that is not whole.
    input: Vec<u8>,
    /// Answers the socket did not take yet.
    output: Vec<u8>,
    close: bool,
}

const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 1024;
const READ_BYTES: usize = 16 * 1024;

fn main() -> Result<()> {
    Options::from_args().on_each_worker(serve)
}

fn serve(listener: TcpListener) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections = Slab::<Connection>::new();
    let mut events = Vec::<Event>::with_capacity(EVENTS_MAX);
    let mut scratch = vec![0; READ_BYTES];
    let mut answers = Vec::with_capacity(READ_BYTES);
    let mut stamp = Stamp::new();
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        stamp.refresh();
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                accept_all(&epoll, &listener, &mut connections)?;
                continue;
            }
            let i = data as usize;
            if !connections[i].advance(event.flags, &stamp, &mut scratch, &mut answers) {
                connections.remove(i);
            }
        }
    }
}

fn accept_all(
    epoll: &OwnedFd,
    listener: &TcpListener,
    connections: &mut Slab<Connection>,
) -> Result<()> {
    while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        let place = connections.vacant_entry();
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(place.key() as u64), interest)?;
        place.insert(Connection { socket, input: Vec::new(), output: Vec::new(), close: false });
    }
    Ok(())
}

impl Connection {
    /// False: it is over.
    fn advance(
        &mut self,
        flags: EventFlags,
        stamp: &Stamp,
        scratch: &mut [u8],
        answers: &mut Vec<u8>,
    ) -> bool {
        if flags.contains(EventFlags::OUT) && !self.output.is_empty() && !self.flush() {
            return false;
        }
        let ends = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if !ends && !flags.contains(EventFlags::IN) {
            return true;
        }
        loop {
            if !self.output.is_empty() {
                // Read on when the socket has taken the rest: that edge tells of both.
                return !flags.intersects(EventFlags::HUP | EventFlags::ERR);
            }
            let n = match recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((0, _)) => return false,
                Ok((n, _)) => n,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            answers.clear();
            let turn = if self.input.is_empty() {
                let turn = stamp.answer(&scratch[..n], answers);
                self.input.extend_from_slice(&scratch[turn.taken..n]);
                turn
            } else {
                self.input.extend_from_slice(&scratch[..n]);
                let turn = stamp.answer(&self.input, answers);
                self.input.drain(..turn.taken);
                turn
            };
            self.close = turn.close;
            if !answers.is_empty() && !self.send(answers) {
                return false;
            }
            if n < scratch.len() && !ends {
                return true; // a short read empties the socket
            }
        }
    }

    fn send(&mut self, answers: &[u8]) -> bool {
        match send(&self.socket, answers, SendFlags::NOSIGNAL) {
            Ok(n) if n == answers.len() => !self.close,
            Ok(n) => {
                self.output.extend_from_slice(&answers[n..]);
                true
            }
            Err(Errno::AGAIN) => {
                self.output.extend_from_slice(answers);
                true
            }
            Err(_) => false,
        }
    }

    fn flush(&mut self) -> bool {
        let output = std::mem::take(&mut self.output);
        self.send(&output)
    }
}
