//! wsload: WebSocket clients of the benches, one epoll loop on one thread.
//!
//! `wsload MODE --addr HOST:PORT --pid PID` prints one line of JSON. CPU is what the scheduler
//! charged to all threads of the server meanwhile. Modes:
//!
//! - `echo --sockets N --bytes B --ms T`: each socket has one message under way.
//! - `room --sockets N --bytes B --publishes P --burst K`: one socket publishes K messages at a
//!   time, and waits until everybody has them all.
//! - `slow --sockets N --slow S --bytes B --publishes P --pace-us U`: S sockets more read nothing;
//!   a publish every U microseconds; when each of the others had it.
//! - `idle --sockets N`: opens them and holds them; memory a socket.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::time::Timespec;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const WARM_MS: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let options = Options::from_args();
    let mut load = Load::open(&options)?;
    match options.mode.as_str() {
        "echo" => load.echo(&options),
        "room" => load.room(&options),
        "slow" => load.slow(&options),
        "idle" => load.idle(&options),
        other => refuse(&format!("unknown mode {other}")),
    }
}

struct Options {
    mode: String,
    addr: SocketAddr,
    pid: u32,
    sockets: usize,
    slow: usize,
    bytes: usize,
    ms: u64,
    publishes: usize,
    burst: usize,
    pace_us: u64,
}

impl Options {
    fn from_args() -> Options {
        let mut args = std::env::args().skip(1);
        let mut options = Options {
            mode: args.next().unwrap_or_default(),
            addr: SocketAddr::from(([127, 0, 0, 1], 8080)),
            pid: 0,
            sockets: 64,
            slow: 0,
            bytes: 20,
            ms: 1_000,
            publishes: 20,
            burst: 1,
            pace_us: 100_000,
        };
        while let Some(flag) = args.next() {
            let value = args.next().unwrap_or_else(|| refuse(&format!("{flag}: no value")));
            let number = || value.parse::<u64>().unwrap_or_else(|_| refuse(&flag));
            match flag.as_str() {
                "--addr" => options.addr = value.parse().unwrap_or_else(|_| refuse(&flag)),
                "--pid" => options.pid = number() as u32,
                "--sockets" => options.sockets = number() as usize,
                "--slow" => options.slow = number() as usize,
                "--bytes" => options.bytes = number() as usize,
                "--ms" => options.ms = number(),
                "--publishes" => options.publishes = number() as usize,
                "--burst" => options.burst = number() as usize,
                "--pace-us" => options.pace_us = number(),
                _ => refuse(&format!("unknown option {flag}")),
            }
        }
        options
    }
}

fn refuse(why: &str) -> ! {
    eprintln!("wsload: {why}");
    std::process::exit(2);
}

struct Load {
    epoll: OwnedFd,
    sockets: Vec<Client>,
    /// Sockets that nobody reads.
    deaf: Vec<TcpStream>,
    events: Vec<Event>,
    scratch: Vec<u8>,
    latency: Histogram<u64>,
}

struct Client {
    stream: TcpStream,
    /// Bytes that have come since they were last asked for.
    received: usize,
    sent_at: Instant,
}

impl Load {
    fn open(options: &Options) -> Result<Load> {
        let path = if options.mode == "echo" { "/echo" } else { "/room" };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut sockets = Vec::new();
        for at in 0..options.sockets {
            let stream = connect(options.addr, path)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(at as u64), EventFlags::IN)?;
            sockets.push(Client { stream, received: 0, sent_at: Instant::now() });
        }
        let deaf = (0..options.slow).map(|_| connect(options.addr, path)).collect::<Result<_>>()?;
        let latency = Histogram::new(3).expect("valid");
        std::thread::sleep(Duration::from_millis(WARM_MS)); // what follows a handshake is over
        let scratch = vec![0; 256 * 1024];
        Ok(Load { epoll, sockets, deaf, events: Vec::with_capacity(1024), scratch, latency })
    }

    fn echo(&mut self, options: &Options) -> Result<()> {
        let frame = masked(&vec![b'x'; options.bytes]);
        let answer_bytes = frame.len() - 4;
        let (warm, time) = (Duration::from_millis(WARM_MS), Duration::from_millis(options.ms));
        let mut start = Instant::now();
        for at in 0..self.sockets.len() {
            self.send(at, &frame)?;
        }
        let (mut counting, mut messages, mut cpu) = (false, 0u64, 0);
        loop {
            let now = Instant::now();
            if !counting && now - start >= warm {
                (counting, messages, cpu, start) = (true, 0, cpu_us(options.pid), now);
                self.latency.reset();
            } else if counting && now - start >= time {
                break;
            }
            for at in self.wait(Duration::from_secs(5))? {
                self.receive(at)?;
                let client = &mut self.sockets[at];
                assert!(client.received <= answer_bytes, "more came than was sent");
                if client.received == answer_bytes {
                    client.received = 0;
                    let us = client.sent_at.elapsed().as_micros() as u64;
                    let _ = self.latency.record(us);
                    messages += 1;
                    self.send(at, &frame)?;
                }
            }
        }
        let cpu_us = cpu_us(options.pid) - cpu;
        self.report(start.elapsed(), messages, cpu_us);
        Ok(())
    }

    fn room(&mut self, options: &Options) -> Result<()> {
        let frame = masked(&payload(options.bytes)).repeat(options.burst);
        let (mut cpu, mut spent) = (0, Duration::ZERO);
        let warm = 3;
        for round in 0..options.publishes + warm {
            if round == warm {
                cpu = cpu_us(options.pid);
                self.latency.reset();
                spent = Duration::ZERO;
            }
            let start = Instant::now();
            self.publish(&frame)?;
            self.all_have((frame.len() - 4 * options.burst) * self.sockets.len())?;
            let took = start.elapsed();
            spent += took;
            let _ = self.latency.record(took.as_micros() as u64);
        }
        let cpu_us = cpu_us(options.pid) - cpu;
        let messages = options.publishes * options.burst * self.sockets.len();
        self.report(spent, messages as u64, cpu_us);
        Ok(())
    }

    fn slow(&mut self, options: &Options) -> Result<()> {
        let frame = masked(&payload(options.bytes));
        let start = Instant::now();
        for _ in 0..options.publishes {
            let begun = Instant::now();
            self.publish(&frame)?;
            let mut left = self.sockets.len();
            while left > 0 {
                for at in self.some_have(begun)? {
                    self.receive(at)?;
                    let client = &mut self.sockets[at];
                    if client.received >= frame.len() - 4 {
                        client.received -= frame.len() - 4;
                        left -= 1;
                        let _ = self.latency.record(begun.elapsed().as_micros() as u64);
                    }
                }
            }
            let pace = Duration::from_micros(options.pace_us);
            std::thread::sleep(pace.saturating_sub(begun.elapsed()));
        }
        let messages = options.publishes * self.sockets.len();
        self.report(start.elapsed(), messages as u64, 0);
        eprintln!("rss_kib {}", rss_kib(options.pid));
        Ok(())
    }

    fn idle(&mut self, options: &Options) -> Result<()> {
        let before = rss_kib(options.pid);
        let more = options.sockets;
        for _ in 0..more {
            self.deaf.push(connect(options.addr, "/room")?);
        }
        std::thread::sleep(Duration::from_millis(500));
        let each = (rss_kib(options.pid) - before) as f64 / more as f64;
        println!("{{\"kib_a_socket\": {each:.3}}}");
        Ok(())
    }

    fn publish(&mut self, frame: &[u8]) -> Result<()> {
        let mut rest = frame;
        while !rest.is_empty() {
            match self.sockets[0].stream.write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn all_have(&mut self, bytes: usize) -> Result<()> {
        let (begun, mut have) = (Instant::now(), 0);
        while have < bytes {
            for at in self.some_have(begun)? {
                self.receive(at)?;
                have += std::mem::take(&mut self.sockets[at].received);
            }
        }
        assert_eq!(have, bytes, "more came than was published");
        Ok(())
    }

    fn some_have(&mut self, begun: Instant) -> Result<Vec<usize>> {
        let ready = self.wait(Duration::from_secs(1))?;
        if ready.is_empty() && begun.elapsed() > PATIENCE {
            refuse("a message did not come");
        }
        Ok(ready)
    }

    fn wait(&mut self, longest: Duration) -> Result<Vec<usize>> {
        let longest = Timespec::try_from(longest).expect("short");
        self.events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&longest))?;
        Ok(self.events.iter().map(|event| event.data.u64() as usize).collect())
    }

    fn receive(&mut self, at: usize) -> Result<()> {
        match self.sockets[at].stream.read(&mut self.scratch) {
            Ok(0) => refuse("the server has closed a socket"),
            Ok(len) => self.sockets[at].received += len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send(&mut self, at: usize, frame: &[u8]) -> Result<()> {
        let client = &mut self.sockets[at];
        client.sent_at = Instant::now();
        // One message is under way: what does not fit leaves soon.
        let mut rest = frame;
        while !rest.is_empty() {
            match client.stream.write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn report(&self, spent: Duration, messages: u64, cpu_us: u64) {
        let each = |value: f64| value / messages.max(1) as f64;
        println!(
            "{{\"messages\": {messages}, \"per_s\": {:.0}, \"cpu_us\": {:.4}, \"p50_us\": {}, \
             \"p99_us\": {}, \"busy\": {:.3}}}",
            messages as f64 / spent.as_secs_f64(),
            each(cpu_us as f64),
            self.latency.value_at_quantile(0.5),
            self.latency.value_at_quantile(0.99),
            cpu_us as f64 / spent.as_micros() as f64,
        );
    }
}

fn connect(addr: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            refuse("no answer to a handshake");
        }
        answer.push(byte[0]);
    }
    let answer = String::from_utf8_lossy(&answer);
    if !answer.starts_with("HTTP/1.1 101") || !answer.contains(ACCEPT) {
        refuse(&format!("no socket: {answer}"));
    }
    Ok(stream)
}

fn payload(bytes: usize) -> Vec<u8> {
    let mut payload = vec![b'x'; bytes];
    payload[0] = b'!';
    payload
}

/// A text frame as a client sends it.
fn masked(payload: &[u8]) -> Vec<u8> {
    let key = [0x12, 0x34, 0x56, 0x78];
    let mut out = vec![0x81];
    match payload.len() {
        len @ ..126 => out.push(0x80 | len as u8),
        len @ ..0x1_0000 => {
            out.push(0xfe);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xff);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    out
}

/// What the scheduler has charged to all threads of a process.
fn cpu_us(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let ns = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    ns.sum::<u64>() / 1_000
}

fn rss_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Private_Dirty"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
