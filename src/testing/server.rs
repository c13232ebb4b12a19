//! A server on loopback, for tests that need sockets or more than one shard.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::Answer;
use crate::app::builder::App;
use crate::error::Result;
use crate::server::{Running, Server};
use crate::shard::Shard;

/// A server with real shards and sockets on a free port of loopback, stopped when it drops.
pub struct TestServer {
    pub(super) running: Option<Running>,
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
            Some((answer, _)) => answer.asked_by(head),
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
