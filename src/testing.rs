//! Tests of applications: [`TestClient`] without a socket and with a virtual clock, [`TestServer`]
//! with real shards.
//!
//! ```
//! use soloist::prelude::*;
//! use soloist::testing::TestClient;
//!
//! async fn app(_: Shard) -> Result<App<()>> {
//!     Ok(App::new(()).get("/square/:n", async |cx| {
//!         let n: i64 = cx.param("n")?;
//!         cx.text((n * n).to_string())
//!     }))
//! }
//! TestClient::run(app, async |client| {
//!     client.get("/square/12").await.expect(200).text("144");
//!     client.get("/square/x").await.expect(400).text("n: not a number");
//! });
//! ```

mod events;
mod held;

use std::cell::{Cell, RefCell};
use std::future::{Future, IntoFuture, poll_fn};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::builder::{self, App};
use crate::app::conn;
use crate::app::site::Site;
use crate::base::clock::Clock;
use crate::base::wire::{Close, Wire};
use crate::error::Result;
use crate::http::chunked::{ChunkLimits, Chunked, Step};
use crate::limits::Limits;
use crate::server::{Running, Server};
use crate::shard::affinity::original_mask;
use crate::shard::blocking::Blocking;
use crate::shard::inbox::Seat;
use crate::shard::{Local, Place, Shard, waker};

pub use events::{TestEvent, TestEvents};
pub use held::Held;

/// A client of an application that runs on this thread, in memory.
///
/// Requests go through the same parser and the same connection loop as on a socket, one keep-alive
/// connection for all. Time stands still while anything can run, and jumps to the next timer when
/// nothing can.
pub struct TestClient {
    rig: Rig,
    wire: RefCell<Option<Rc<Wire>>>,
}

impl TestClient {
    /// Builds the application and runs `test` against it.
    ///
    /// # Panics
    /// When the application cannot be built, or the test waits for what can never come.
    pub fn run<S: 'static>(
        build: impl AsyncFnOnce(Shard) -> Result<App<S>>,
        test: impl AsyncFnOnce(&TestClient),
    ) {
        TestClient::run_with(Limits::default(), build, test);
    }

    /// The same, with other bounds.
    pub fn run_with<S: 'static>(
        limits: Limits,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>>,
        test: impl AsyncFnOnce(&TestClient),
    ) {
        limits.check().expect("limits");
        let seat = Seat::take().expect("a seat for the test's shard");
        let mask = original_mask().expect("the thread's affinity");
        let blocking = Blocking::new(2, 16, mask);
        let place = Place { id: 0, count: 1, core: None, seat: seat.number() };
        seat.inbox().clear();
        let local = Rc::new(Local::new(place, limits, Clock::frozen(), blocking));
        let _here = waker::enter(local.tasks.clone());
        let mut rig = Rig {
            local: local.clone(),
            seat,
            site: None,
            peer: Cell::new(None),
            settling: Cell::new(false),
            marked: RefCell::default(),
        };
        let shard = Shard(local.clone());
        let built = rig.block_on(async {
            let mut app = build(shard.clone()).await?;
            let hooks = app.settle_on(&shard);
            let serve = app.build()?;
            builder::run_on_start(hooks).await?;
            Ok::<_, crate::Error>(serve)
        });
        let serve = built.unwrap_or_else(|error| panic!("the app: {error}"));
        rig.site = Some(Rc::new(Site::new(local.clone(), serve)));
        let client = TestClient { rig, wire: RefCell::new(None) };
        client.rig.block_on(test(&client));
        local.tasks.clear();
        local.forget_kept();
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A POST.
    pub fn post(&self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }

    /// A PUT.
    pub fn put(&self, path: &str) -> Call<'_> {
        self.call("PUT", path)
    }

    /// A DELETE.
    pub fn delete(&self, path: &str) -> Call<'_> {
        self.call("DELETE", path)
    }

    /// A request of any method.
    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call {
            client: self,
            method: method.to_owned(),
            path: path.to_owned(),
            fields: String::new(),
            body: Vec::new(),
            piece_bytes: usize::MAX,
        }
    }

    /// Sends bytes on a connection of their own, a segment at a time, then FIN; all that came back
    /// until the server closed.
    pub async fn raw(&self, segments: &[&[u8]]) -> Vec<u8> {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        for segment in segments {
            wire.push(segment);
            self.rig.settle().await;
            collect(&wire, &mut out);
        }
        wire.push_eof();
        until_closed(&wire, &mut out).await;
        out
    }

    /// Sends bytes and waits, however long, until the server closes: all that came back.
    pub async fn raw_until_closed(&self, bytes: &[u8]) -> Vec<u8> {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        wire.push(bytes);
        until_closed(&wire, &mut out).await;
        out
    }

    /// Sends bytes and leaves the connection open: what comes back when nothing more can run,
    /// without time going on, and whether the server has closed.
    pub async fn raw_open(&self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        wire.push(bytes);
        self.rig.settle().await;
        collect(&wire, &mut out);
        (out, wire.closing() != Close::Open)
    }

    /// A connection to write to and read from byte by byte.
    pub fn open(&self) -> Open<'_> {
        Open { rig: &self.rig, wire: self.rig.connect() }
    }

    /// Pretends that the connections which are made from now on come from that address; the next
    /// call makes one. Without it a connection in memory comes from nowhere.
    pub fn peer(&self, addr: impl Into<SocketAddr>) {
        self.rig.peer.set(Some(addr.into()));
        if let Some(wire) = self.wire.take() {
            wire.push_eof();
        }
    }

    /// Lets that much of the shard's time go by.
    pub async fn advance(&self, time: Duration) {
        Shard(self.rig.local.clone()).sleep(time).await;
    }

    /// Begins to stop, as SIGTERM does: [`Shard::stopping`] ends, answers close their connections,
    /// and, once nothing more can run without time going on, what was given to
    /// [`App::on_stop`](crate::App::on_stop) runs.
    pub async fn stop(&self) {
        self.rig.local.begin_drain();
        self.rig.settle().await;
        let mut hooks = self.rig.site.as_ref().map_or(Vec::new(), |it| it.serve.take_on_stop());
        while let Some(hook) = hooks.pop() {
            hook().await;
        }
    }

    /// The shard that the application runs on.
    pub fn shard(&self) -> Shard {
        Shard(self.rig.local.clone())
    }
}

/// A connection of a [`TestClient`], in bytes.
pub struct Open<'a> {
    rig: &'a Rig,
    wire: Rc<Wire>,
}

impl Open<'_> {
    /// Sends bytes, runs what can run, and appends what comes back.
    pub fn exchange(&self, bytes: &[u8], out: &mut Vec<u8>) {
        self.send(bytes);
        collect(&self.wire, out);
    }

    /// Sends bytes and runs what can run, but reads nothing: a deaf client. What the server may
    /// write then is bounded, and its handler waits.
    pub fn send(&self, bytes: &[u8]) {
        self.wire.push(bytes);
        while self.rig.pump() {}
    }

    /// Reads what has been written so far, and lets the handler go on: a slow client.
    pub fn receive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        collect(&self.wire, &mut out);
        while self.rig.pump() {}
        out
    }

    /// Sends FIN: nothing more will be asked.
    pub fn finish(&self) {
        self.wire.push_eof();
        while self.rig.pump() {}
    }

    /// Vanishes with a reset: a handler that runs is dropped at its next await.
    pub fn reset(&self) {
        self.wire.kill();
        while self.rig.pump() {}
    }

    /// Whether the server has closed the connection, or wants to.
    pub fn is_closed(&self) -> bool {
        self.wire.closing() != Close::Open
    }
}

/// A request that is being put together; await it for the answer.
#[must_use = "a call is made when it is awaited"]
pub struct Call<'a> {
    client: &'a TestClient,
    method: String,
    path: String,
    fields: String,
    body: Vec<u8>,
    piece_bytes: usize,
}

impl<'a> Call<'a> {
    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Call<'a> {
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Call<'a> {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Sets the body as JSON.
    pub fn json(self, value: &impl Serialize) -> Call<'a> {
        let body = serde_json::to_vec(value).expect("a value that serialises");
        self.header("content-type", "application/json").body(body)
    }

    fn head(&self) -> String {
        let Call { method, path, fields, .. } = self;
        let length = match self.body.len() {
            0 => String::new(),
            len => format!("content-length: {len}\r\n"),
        };
        format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{fields}{length}\r\n")
    }

    /// Sends the body late, in pieces of so many bytes.
    pub fn pieces(mut self, bytes: usize) -> Call<'a> {
        self.piece_bytes = bytes.max(1);
        self
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let head = self.head();
            let Call { client, method, body, piece_bytes, .. } = self;
            let wire = {
                let mut kept = client.wire.borrow_mut();
                match &*kept {
                    Some(wire) if wire.closing() == Close::Open => wire.clone(),
                    _ => kept.insert(client.rig.connect()).clone(),
                }
            };
            if piece_bytes == usize::MAX {
                wire.push(&[head.as_bytes(), &body].concat());
            } else {
                wire.push(head.as_bytes());
                for piece in body.chunks(piece_bytes) {
                    client.rig.settle().await;
                    wire.push(piece);
                }
            }
            let mut raw = Vec::new();
            poll_fn(|_| {
                collect(&wire, &mut raw);
                let closed = wire.closing() != Close::Open;
                match Answer::read(&raw, &method, closed) {
                    Some((answer, _)) => Poll::Ready(Answer { asked: head.clone(), ..answer }),
                    None if closed => {
                        panic!("no whole answer to\n{head}\nbut\n{}", String::from_utf8_lossy(&raw))
                    }
                    None => Poll::Pending,
                }
            })
            .await
        })
    }
}

/// An answer, taken apart. What it insists on fails with the whole exchange in its words.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The head of the request, for those messages.
    asked: String,
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().find(same).map(|field| &*field.1)
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Insists on a status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert!(self.status == status, "status {status} expected, but\n{}", self.exchange());
        self
    }

    /// Insists on a body.
    #[track_caller]
    pub fn text(self, text: &str) -> Answer {
        assert!(self.body == text.as_bytes(), "body {text:?} expected, but\n{}", self.exchange());
        self
    }

    /// Insists on text somewhere in the body.
    #[track_caller]
    pub fn contains(self, text: &str) -> Answer {
        let body = String::from_utf8_lossy(&self.body);
        assert!(body.contains(text), "{text:?} expected in the body, but\n{}", self.exchange());
        self
    }

    /// Insists on a header field and its value.
    #[track_caller]
    pub fn has(self, name: &str, value: &str) -> Answer {
        let found = self.header(name);
        assert!(found == Some(value), "{name}: {value} expected, but\n{}", self.exchange());
        self
    }

    /// The answer as text without what changes from run to run (Date): for snapshots.
    pub fn snapshot(&self) -> String {
        let stays = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("date");
        let mut out = format!("{}\n", self.status);
        for (name, value) in self.fields.iter().filter(stays) {
            out += &format!("{name}: {value}\n");
        }
        out + "\n" + &String::from_utf8_lossy(&self.body)
    }

    fn exchange(&self) -> String {
        format!("{}\n{self}", self.asked.trim_end())
    }

    /// The body, read as JSON.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in\n{}", self.exchange()),
        }
    }

    /// Reads the head of an answer from the start of `raw`, interim ones skipped: it and its end.
    fn begin(raw: &[u8]) -> Option<(Answer, usize)> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(len) = head.parse(raw).ok()? else { return None };
        let status = head.code?;
        if (100..200).contains(&status) && status != 101 {
            return Answer::begin(&raw[len..]).map(|(it, end)| (it, end + len));
        }
        let field = |it: &httparse::Header<'_>| {
            (it.name.to_owned(), String::from_utf8_lossy(it.value).into_owned())
        };
        let fields = head.headers.iter().map(field).collect();
        Some((Answer { asked: String::new(), status, fields, body: Vec::new() }, len))
    }

    /// Reads one answer from the start of `raw`: it and its end.
    fn read(raw: &[u8], method: &str, closed: bool) -> Option<(Answer, usize)> {
        let (mut answer, len) = Answer::begin(raw)?;
        let (status, rest) = (answer.status, &raw[len..]);
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some((answer, len));
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().ok()?;
            answer.body = rest.get(..length)?.to_vec();
            return Some((answer, len + length));
        }
        if answer.header("transfer-encoding").is_some() {
            let mut decoder = Chunked::new(chunk_limits());
            let mut at = 0;
            loop {
                match decoder.decode(&rest[at..]).ok()? {
                    Step::Data { start, end } => {
                        answer.body.extend_from_slice(&rest[at + start..at + end]);
                        at += end;
                    }
                    Step::End { taken } => return Some((answer, len + at + taken)),
                    Step::More { .. } => return None,
                }
            }
        }
        answer.body = rest.to_vec();
        closed.then_some((answer, raw.len()))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.fields {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}

/// A server with real shards and sockets on a free port of loopback, stopped when it drops.
pub struct TestServer {
    running: Option<Running>,
    addr: SocketAddr,
}

impl TestServer {
    /// Starts the application on so many shards, which the kernel may move about.
    ///
    /// # Panics
    /// When the server cannot start.
    pub fn start<S: 'static>(
        shards: usize,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>> + Clone + Send + 'static,
    ) -> TestServer {
        TestServer::start_with(Server::bind("127.0.0.1:0").unpinned(shards), build)
    }

    /// Starts a server of your making.
    ///
    /// # Panics
    /// When it cannot start.
    pub fn start_with<S: 'static>(
        server: Server,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>> + Clone + Send + 'static,
    ) -> TestServer {
        let running = server.start(build).unwrap_or_else(|error| panic!("the server: {error}"));
        let addr = running.addrs()[0];
        TestServer { running: Some(running), addr }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends bytes on a connection of their own, then FIN: all that comes back.
    ///
    /// # Panics
    /// When the connection cannot be made.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.addr).expect("a connection");
        let _ = socket.set_read_timeout(Some(Duration::from_secs(20)));
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(Shutdown::Write);
        let mut out = Vec::new();
        let _ = socket.read_to_end(&mut out);
        out
    }

    /// Sends a GET on a connection of its own.
    ///
    /// # Panics
    /// When no whole answer comes within 20 s.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    /// Sends a request on a connection of its own; `fields` are whole lines.
    ///
    /// # Panics
    /// When no whole answer comes within 20 s.
    pub fn send(&self, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
        let length = format!("content-length: {}\r\n", body.len());
        let length = if body.is_empty() { "" } else { &length };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{fields}{length}\r\n"
        );
        let raw = self.raw(&[head.as_bytes(), body].concat());
        match Answer::read(&raw, method, true) {
            Some((answer, _)) => Answer { asked: head, ..answer },
            None => panic!("no answer to\n{head}\nbut\n{}", String::from_utf8_lossy(&raw)),
        }
    }

    /// Gives the running server out, to stop and to join.
    ///
    /// # Panics
    /// When it was given out before.
    pub fn into_running(mut self) -> Running {
        self.running.take().expect("a server that runs")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop_now();
            let _ = running.join();
        }
    }
}

/// A shard without a ring: its tasks, turned by `block_on`.
struct Rig {
    local: Rc<Local>,
    seat: Seat,
    site: Option<Rc<Site>>,
    peer: Cell<Option<SocketAddr>>,
    /// Somebody waits until nothing can run.
    settling: Cell<bool>,
    /// Kept for its memory.
    marked: RefCell<Vec<u32>>,
}

impl Rig {
    fn connect(&self) -> Rc<Wire> {
        let local = &self.local;
        let wire = Rc::new(Wire::new(0, -1, local.dirty.clone(), local.spares.clone()));
        if let Some(addr) = self.peer.get() {
            wire.pretend_peer(addr);
        }
        let site = self.site.clone().expect("a built application");
        local.tasks.spawn(Box::pin(conn::serve(site, wire.clone())));
        wire
    }

    /// Runs what can run. False if nothing could.
    fn pump(&self) -> bool {
        let inbox = self.seat.inbox();
        let mut ran = false;
        if inbox.take_mail() {
            let mut wakes = Vec::new();
            if inbox.take_wakes(&mut wakes) {
                self.local.tasks.wake_all();
            }
            wakes.into_iter().for_each(|key| self.local.tasks.wake(key));
        }
        while let Some(key) = self.local.tasks.next_ready() {
            ran = true;
            self.local.tasks.poll(key);
        }
        self.local.end_turn();
        self.marked.borrow_mut().clear();
        self.local.dirty.take_into(&mut self.marked.borrow_mut());
        ran
    }

    /// Waits until nothing can run any more, without letting time go on.
    async fn settle(&self) {
        self.settling.set(true);
        poll_fn(|_| if self.settling.get() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            if self.pump() || self.settling.replace(false) {
                continue;
            }
            if self.local.blocking.in_flight() > 0 {
                std::thread::yield_now();
                continue;
            }
            let next_ms = self.local.wheel.borrow().next_ms();
            let next_ms = next_ms.expect("the test waits, but nothing can run and no timer is set");
            self.local.clock.advance_to(next_ms);
            self.local.advance_wheel();
        }
    }
}

fn chunk_limits() -> ChunkLimits {
    ChunkLimits { line_bytes_max: 1024, trailer_bytes_max: 8192, trailers_max: 32 }
}

/// Collects what the server writes until it closes.
async fn until_closed(wire: &Wire, out: &mut Vec<u8>) {
    poll_fn(|_| {
        collect(wire, out);
        if wire.closing() == Close::Open { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    collect(wire, out);
}

fn collect(wire: &Wire, out: &mut Vec<u8>) {
    wire.unmark();
    while let Some(bytes) = wire.take_outbox() {
        out.extend_from_slice(&bytes);
        wire.sent(bytes.len());
        wire.give_back(bytes);
    }
}
