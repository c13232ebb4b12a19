//! The generator: one epoll loop over a set of connections, each with at most one request under
//! way.
//!
//! The open loop has no queue: request `n` is due at `start + n / rate` and leaves on the first
//! free connection at or after that. Its latency counts from when it was due, so an answer that
//! held up later requests is seen in all of them (no coordinated omission).

use std::collections::VecDeque;
use std::io::{Read, Result, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};
use rustix::time::Timespec;

use crate::answer;
use crate::options::{Mode, Options};
use crate::report::{Counts, Report};

pub struct Load {
    mode: Mode,
    addr: SocketAddr,
    time: Option<Duration>,
    request: Vec<u8>,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Connected, nothing under way; oldest first, so that all take turns.
    free: VecDeque<usize>,
    /// How many of `connections` were asked to connect for the first time.
    opened: usize,
    connecting: usize,
    waiting: usize,
    /// Idle mode: connections that had their one answer and are still there.
    held: usize,
    /// Open loop: requests that left, which is the number of the next one.
    sent: u64,
    start: Instant,
    stage: Stage,
    last_answer: Instant,
    events: Vec<Event>,
    scratch: Box<[u8]>,
    latency: Histogram<u64>,
    counts: Counts,
}

struct Connection {
    socket: Option<OwnedFd>,
    /// Tells events of an earlier socket in this place from those of this one.
    generation: u32,
    phase: Phase,
    /// The beginning of an answer that is not whole.
    input: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Connecting {
        since: Instant,
    },
    Free,
    Waiting {
        due: Instant,
    },
    /// Answered with `connection: close`: the server ends it.
    Ending,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Opening,
    Asking,
    /// No request leaves any more but those that were due before.
    Ending,
}

const EVENTS_MAX: usize = 256;
const SCRATCH_BYTES: usize = 64 * 1024;
const ANSWER_BYTES_MAX: usize = 16 << 20;
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// How many connects may be under way at once: below any server's backlog.
const CONNECTING_MAX: usize = 128;
/// So many failed connects mean that there is no server.
const CONNECT_ERRORS_MAX: u64 = 1000;
/// How long to wait, after the end, for answers under way.
const GRACE: Duration = Duration::from_secs(2);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);

impl Load {
    pub fn new(options: &Options) -> Result<Load> {
        let now = Instant::now();
        let connection =
            || Connection { socket: None, generation: 0, phase: Phase::Gone, input: Vec::new() };
        Ok(Load {
            mode: options.mode,
            addr: options.addr,
            time: options.time,
            request: options.request(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: (0..options.connections).map(|_| connection()).collect(),
            free: VecDeque::with_capacity(options.connections),
            opened: 0,
            connecting: 0,
            waiting: 0,
            held: 0,
            sent: 0,
            start: now,
            stage: Stage::Opening,
            last_answer: now,
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES].into(),
            latency: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("valid bounds"),
            counts: Counts::default(),
        })
    }

    pub fn run(mut self) -> Result<Report> {
        match self.mode {
            Mode::Open { .. } | Mode::Closed => {
                self.open_all(|load| load.free.len())?;
                self.ask()?;
            }
            Mode::Churn => self.ask()?,
            Mode::Idle => {
                self.open_all(|load| load.held)?;
                self.hold()?;
            }
        }
        self.give_up();
        Ok(Report {
            mode: self.mode,
            connections: self.connections.len(),
            elapsed: self.last_answer.saturating_duration_since(self.start),
            latency: self.latency,
            counts: self.counts,
        })
    }

    /// Opens all connections, a few at a time, until `done` counts them all.
    fn open_all(&mut self, done: impl Fn(&Load) -> usize) -> Result<()> {
        let deadline = Instant::now() + CONNECT_TIME_MAX;
        while done(self) < self.connections.len() {
            while self.opened < self.connections.len()
                && self.connecting + self.waiting < CONNECTING_MAX
            {
                self.opened += 1;
                self.open(self.opened - 1)?;
            }
            let now = Instant::now();
            if now >= deadline {
                let opened = done(self);
                return Err(std::io::Error::other(format!("only {opened} connections opened")));
            }
            self.turn(Some(deadline - now))?;
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<()> {
        self.stage = Stage::Asking;
        self.start = Instant::now();
        self.last_answer = self.start;
        let end = self.start + self.time.unwrap_or_default();
        match self.mode {
            Mode::Churn => (0..self.connections.len()).try_for_each(|i| self.open(i))?,
            Mode::Closed => {
                while let Some(i) = self.free.pop_front() {
                    self.send(i, Instant::now())?;
                }
            }
            Mode::Open { .. } | Mode::Idle => {}
        }
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            let next = self.send_due()?.map_or(end, |due| due.min(end));
            self.turn(Some(next.saturating_duration_since(now)))?;
        }
        self.stage = Stage::Ending;
        let grace_end = end + GRACE;
        loop {
            self.send_due()?;
            let now = Instant::now();
            let under_way = self.waiting + self.connecting;
            if now >= grace_end || (under_way == 0 && self.unsent() == 0) {
                return Ok(());
            }
            self.turn(Some(grace_end - now))?;
        }
    }

    /// Holds the idle crowd for the time given, or until standard input ends.
    fn hold(&mut self) -> Result<()> {
        self.stage = Stage::Ending;
        println!("idle {}", self.held);
        std::io::stdout().flush()?;
        self.start = Instant::now();
        match self.time {
            Some(time) => {
                let end = self.start + time;
                while let Some(left) = end.checked_duration_since(Instant::now()) {
                    self.turn(Some(left))?;
                }
            }
            None => {
                std::io::stdin().read_to_end(&mut Vec::new())?;
                while self.turn(Some(Duration::ZERO))? > 0 {}
            }
        }
        self.last_answer = Instant::now();
        Ok(())
    }

    /// What never came: counted, with the time it was waited for.
    fn give_up(&mut self) {
        let now = Instant::now();
        let under_way = self.connections.iter().filter_map(|connection| match connection.phase {
            Phase::Waiting { due } => Some(due),
            Phase::Connecting { since } if self.mode == Mode::Churn => Some(since),
            _ => None,
        });
        let unsent = self.sent..self.sent + self.unsent();
        let never: Vec<_> = under_way.chain(unsent.map(|n| self.due(n))).collect();
        self.counts.unanswered += never.len() as u64;
        for due in never {
            self.record(now.saturating_duration_since(due));
        }
    }

    /// One wait, and all it brought. Returns the number of events.
    fn turn(&mut self, timeout: Option<Duration>) -> Result<usize> {
        let timeout = timeout
            .map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos().into() });
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let data = event.data.u64();
            let (i, generation) = (data as u32 as usize, (data >> 32) as u32);
            if self.connections[i].generation == generation {
                self.advance(i, event.flags)?;
                self.send_due()?; // a batch of answers must not hold up the schedule
            }
        }
        let count = events.len();
        self.events = events;
        Ok(count)
    }

    fn advance(&mut self, i: usize, flags: EventFlags) -> Result<()> {
        if let Phase::Connecting { since } = self.connections[i].phase {
            if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                return Ok(());
            }
            self.connecting -= 1;
            let socket = self.connections[i].socket.as_ref().expect("a connecting socket");
            if sockopt::socket_error(socket)?.is_err() {
                self.connections[i].phase = Phase::Gone;
                return self.connect_failed(i);
            }
            match self.mode {
                Mode::Churn => self.send(i, since)?,
                Mode::Closed if self.stage == Stage::Asking => self.send(i, Instant::now())?,
                Mode::Idle => self.send(i, Instant::now())?,
                Mode::Closed | Mode::Open { .. } => self.release(i),
            }
        }
        let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(EventFlags::IN | ends) {
            self.receive(i, flags.intersects(ends))?;
        }
        Ok(())
    }

    /// Reads until the socket is empty: a short read says so too, unless the end is there.
    fn receive(&mut self, i: usize, to_the_end: bool) -> Result<()> {
        let generation = self.connections[i].generation;
        loop {
            let connection = &mut self.connections[i];
            let Some(socket) = &connection.socket else { return Ok(()) };
            let n = match recv(socket, &mut self.scratch[..], RecvFlags::empty()) {
                Ok((0, _)) => return self.ended(i),
                Ok((n, _)) => n,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_) => return self.ended(i),
            };
            let Phase::Waiting { due } = connection.phase else {
                return self.ended(i); // bytes nobody asked for
            };
            let bytes = if connection.input.is_empty() {
                &self.scratch[..n]
            } else {
                connection.input.extend_from_slice(&self.scratch[..n]);
                &connection.input
            };
            match answer::read(bytes) {
                Ok(Some(answer)) if answer.bytes == bytes.len() => {
                    connection.input.clear();
                    self.answered(i, due, answer)?;
                    if self.connections[i].generation != generation {
                        return Ok(());
                    }
                }
                Ok(None) if bytes.len() < ANSWER_BYTES_MAX => {
                    if connection.input.is_empty() {
                        connection.input.extend_from_slice(&self.scratch[..n]);
                    }
                }
                Ok(_) | Err(_) => return self.ended(i),
            }
            if n < self.scratch.len() && !to_the_end {
                return Ok(());
            }
        }
    }

    fn answered(&mut self, i: usize, due: Instant, answer: answer::Answer) -> Result<()> {
        let now = Instant::now();
        self.record(now.saturating_duration_since(due));
        self.last_answer = now;
        self.waiting -= 1;
        match answer.status {
            200..300 => self.counts.ok += 1,
            _ => self.counts.non_2xx += 1,
        }
        match self.mode {
            _ if answer.close => self.connections[i].phase = Phase::Ending,
            Mode::Churn => self.reopen(i)?,
            Mode::Closed if self.stage == Stage::Asking => self.send(i, now)?,
            Mode::Idle => {
                self.held += 1;
                self.connections[i].phase = Phase::Free;
                self.connections[i].input = Vec::new();
            }
            Mode::Closed | Mode::Open { .. } => self.release(i),
        }
        Ok(())
    }

    /// The connection is over: what was under way on it is broken.
    fn ended(&mut self, i: usize) -> Result<()> {
        match self.connections[i].phase {
            Phase::Waiting { due } => {
                self.record(due.elapsed());
                self.waiting -= 1;
                self.counts.broken += 1;
            }
            Phase::Free => {
                self.counts.closed_idle += 1;
                self.held = self.held.saturating_sub(1);
                self.free.retain(|&free| free != i);
            }
            Phase::Connecting { .. } => self.connecting -= 1,
            Phase::Ending | Phase::Gone => {}
        }
        self.reopen(i)
    }

    fn reopen(&mut self, i: usize) -> Result<()> {
        let connection = &mut self.connections[i];
        connection.socket = None;
        connection.phase = Phase::Gone;
        connection.input.clear();
        if self.stage == Stage::Ending {
            connection.generation = connection.generation.wrapping_add(1);
            return Ok(());
        }
        self.open(i)
    }

    fn open(&mut self, i: usize) -> Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let family = match self.addr {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let since = Instant::now();
        match connect(&socket, &self.addr) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(_) => return self.connect_failed(i),
        }
        let connection = &mut self.connections[i];
        connection.generation = connection.generation.wrapping_add(1);
        let data = EventData::new_u64(u64::from(connection.generation) << 32 | i as u64);
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, data, interest)?;
        connection.socket = Some(socket);
        connection.phase = Phase::Connecting { since };
        self.connecting += 1;
        Ok(())
    }

    fn connect_failed(&mut self, i: usize) -> Result<()> {
        self.counts.connect_errors += 1;
        if self.counts.connect_errors > CONNECT_ERRORS_MAX {
            return Err(std::io::Error::other(format!("{}: cannot connect", self.addr)));
        }
        self.reopen(i)
    }

    fn release(&mut self, i: usize) {
        self.connections[i].phase = Phase::Free;
        self.free.push_back(i);
    }

    fn send(&mut self, i: usize, due: Instant) -> Result<()> {
        let connection = &mut self.connections[i];
        connection.phase = Phase::Waiting { due };
        self.waiting += 1;
        let Some(socket) = &connection.socket else { return self.ended(i) };
        match send(socket, &self.request, SendFlags::NOSIGNAL) {
            Ok(n) if n == self.request.len() => Ok(()),
            _ => self.ended(i), // a request is far smaller than the send buffer
        }
    }

    /// Open loop: sends all that is due; returns when the next one will be, if it only waits for
    /// its time.
    fn send_due(&mut self) -> Result<Option<Instant>> {
        while self.sent < self.planned() {
            let (now, due) = (Instant::now(), self.due(self.sent));
            if due > now {
                return Ok(Some(due));
            }
            let Some(i) = self.free.pop_front() else {
                let queued = (now - due).as_secs_f64() * self.rate();
                self.counts.queued_max = self.counts.queued_max.max(queued as u64 + 1);
                return Ok(None);
            };
            self.sent += 1;
            self.send(i, due)?;
        }
        Ok(None)
    }

    fn rate(&self) -> f64 {
        match self.mode {
            Mode::Open { rate } => rate,
            _ => 0.0,
        }
    }

    /// How many requests the schedule has.
    fn planned(&self) -> u64 {
        match self.stage {
            Stage::Opening => 0,
            _ => (self.rate() * self.time.unwrap_or_default().as_secs_f64()) as u64,
        }
    }

    fn unsent(&self) -> u64 {
        self.planned() - self.sent
    }

    fn due(&self, n: u64) -> Instant {
        self.start + Duration::from_secs_f64(n as f64 / self.rate())
    }

    fn record(&mut self, latency: Duration) {
        self.latency.saturating_record(latency.as_nanos() as u64);
    }
}
