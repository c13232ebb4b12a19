//! Redis and memcached servers of one test, on ports of their own.

#![allow(dead_code)] // each test uses some of it

pub mod port;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Memcached,
}

pub const BOTH: [Kind; 2] = [Kind::Redis, Kind::Memcached];

/// A server of this test alone, killed when it drops.
pub struct Store {
    pub kind: Kind,
    pub port: u16,
    arguments: Vec<String>,
    folder: PathBuf,
    child: Child,
}

impl Store {
    pub fn start(kind: Kind) -> Store {
        Store::start_with(kind, &[])
    }

    /// For work on a shard that ends it and starts it again.
    pub fn shared(kind: Kind) -> (Arc<Mutex<Store>>, String) {
        let store = Store::start(kind);
        let url = store.url();
        (Arc::new(Mutex::new(store)), url)
    }

    pub fn start_with(kind: Kind, arguments: &[&str]) -> Store {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("soloist-remote-{}-{number}", std::process::id());
        let mut folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let arguments: Vec<String> = arguments.iter().map(|it| it.to_string()).collect();
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let port = port::free();
            let child = spawn(kind, port, &arguments, &folder);
            let arguments = arguments.clone();
            let mut store = Store { kind, port, arguments, folder, child };
            if store.comes_up() {
                return store;
            }
            folder = std::mem::take(&mut store.folder);
        }
        panic!("{kind:?} does not start: are redis-server and memcached there? See tests/run");
    }

    fn comes_up(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return false;
            }
            if self.answers() {
                return true;
            }
            thread::sleep(Duration::from_millis(5)); // another process starts
        }
        false
    }

    /// Whether it speaks its protocol.
    fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let _ = socket.set_read_timeout(Some(Duration::from_millis(500)));
        let question: &[u8] = if self.kind == Kind::Redis { b"PING\r\n" } else { b"mn\r\n" };
        let mut answer = [0; 64];
        // With a password it says -NOAUTH.
        socket.write_all(question).is_ok()
            && socket.read(&mut answer).is_ok_and(|bytes| bytes > 0 && b"+-M".contains(&answer[0]))
    }

    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGKILL, and another one at the same port.
    pub fn restart(&mut self) {
        self.end();
        self.start_again();
    }

    pub fn start_again(&mut self) {
        self.child = spawn(self.kind, self.port, &self.arguments, &self.folder);
        assert!(self.comes_up(), "it starts again");
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(status.is_ok_and(|it| it.success()), "kill -{name}");
    }

    pub fn url(&self) -> String {
        match self.kind {
            Kind::Redis => format!("redis://127.0.0.1:{}", self.port),
            Kind::Memcached => format!("127.0.0.1:{}", self.port),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(kind: Kind, port: u16, arguments: &[String], folder: &PathBuf) -> Child {
    let port = port.to_string();
    let mut command = match kind {
        Kind::Redis => {
            let mut command = Command::new("redis-server");
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "no", "--daemonize", "no", "--dir"]).arg(folder);
            command
        }
        Kind::Memcached => {
            let mut command = Command::new("memcached");
            // As root it wants to know as whom to go on.
            command.args(["-p", &port, "-U", "0", "-l", "127.0.0.1", "-t", "1", "-u", "nobody"]);
            command
        }
    };
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{kind:?}: {error}: see tests/run"))
}
