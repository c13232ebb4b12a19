//! A server on loopback, for tests that need sockets or more than one shard.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::Answer;
use crate::app::builder::App;
use crate::error::Result;
use crate::server::{Running, Server};
use crate::shard::Shard;

/// A server with real shards and sockets on a free port of loopback, stopped when it drops. Its
/// time is the wall's.
///
/// ```no_run
/// # use soloist::prelude::*;
/// # use soloist::testing::TestServer;
/// async fn app(shard: Shard) -> Result<App<usize>> {
///     Ok(App::new(shard.id()).get("/", async |cx| cx.json(cx.state())))
/// }
/// let server = TestServer::start(2, app);
/// let seen: usize = server.get("/").expect(200).json(); // the kernel picks the shard
/// assert!(seen < 2);
/// ```
pub struct TestServer {
    pub(super) running: Option<Running>,
    addr: SocketAddr,
}

impl TestServer {
    /// Starts the application on so many shards, which the kernel may move about. Every shard
    /// builds its own; once this returns, all of them listen.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// let (one, other) = (TestServer::start(1, app), TestServer::start(2, app));
    /// assert_ne!(one.addr(), other.addr()); // tests that run at once do not meet
    /// ```
    ///
    /// # Panics
    /// When the server cannot start.
    pub fn start<S: 'static>(
        shards: usize,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>> + Clone + Send + 'static,
    ) -> TestServer {
        TestServer::start_with(Server::bind("127.0.0.1:0").unpinned(shards), build)
    }

    /// Starts a server of your making: other bounds, other cores, another port. Its first address
    /// is the one that is asked.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// let limits = Limits { idle_ms_max: 100, ..Limits::default() };
    /// let server = Server::bind("[::1]:0").unpinned(1).limits(limits);
    /// TestServer::start_with(server, app).get("/").expect(200);
    /// ```
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

    /// Where it listens, its port resolved: for a client of your own.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// use std::net::TcpStream;
    ///
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// let server = TestServer::start(1, app);
    /// let idle: Vec<_> = (0..100).map(|_| TcpStream::connect(server.addr())).collect();
    /// server.get("/").expect(200); // they are in nobody's way
    /// ```
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends bytes on a connection of their own, then FIN: all that comes back until the server
    /// closes, or says nothing for 20 s. The thread waits meanwhile.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// let server = TestServer::start(1, app);
    /// let three = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3);
    /// let out = server.raw(&three);
    /// let hellos = out.windows(5).filter(|five| five == b"hello").count();
    /// assert_eq!(hellos, 3);
    /// ```
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

    /// Sends a GET on a connection of its own, and waits for the answer.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// let server = TestServer::start(2, app);
    /// std::thread::scope(|scope| {
    ///     for _ in 0..8 {
    ///         scope.spawn(|| server.get("/").expect(200).text("hello"));
    ///     }
    /// });
    /// ```
    ///
    /// # Panics
    /// When the connection cannot be made, or ends or falls silent for 20 s without a whole answer.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    /// Sends a request on a connection of its own; `fields` are whole lines, each with its CR LF.
    /// `host`, `connection: close` and, of a body, its `content-length` are there already.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # async fn add(cx: &Ctx<()>) -> Result<Reply> {
    /// #     cx.status(201).json(&cx.body_json::<u32>().await?)
    /// # }
    /// # let server = TestServer::start(1, async |_| Ok(App::new(()).post("/", add)));
    /// let fields = "content-type: application/json\r\nauthorization: Bearer ann\r\n";
    /// server.send("POST", "/", fields, b"7").expect(201).text("7");
    /// ```
    ///
    /// # Panics
    /// As [`get`](TestServer::get).
    pub fn send(&self, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
        let length = format!("content-length: {}\r\n", body.len());
        let length = if body.is_empty() { "" } else { &length };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{fields}{length}\r\n"
        );
        let raw = self.raw(&[head.as_bytes(), body].concat());
        match Answer::read(&raw, method, true) {
            Some((answer, _)) => answer.asked_by(head),
            None => panic!("no answer to\n{head}\nbut\n{}", String::from_utf8_lossy(&raw)),
        }
    }

    /// Gives the running server out, to stop and to join: from then on nothing else ends it.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # fn main() -> Result<()> {
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// let server = TestServer::start(2, app);
    /// server.get("/").expect(200);
    /// let running = server.into_running();
    /// running.stop(); // as SIGTERM does
    /// running.join() // an error if a shard has panicked
    /// # }
    /// ```
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
