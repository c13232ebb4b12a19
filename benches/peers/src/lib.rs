//! What all servers of the peers bench share: the flags, the listener with its socket options, and
//! the types of the application.
//!
//! The application: `GET /` answers `hello, world`; `GET /users/:id` answers a user as JSON;
//! `POST /echo` takes `{"name", "n"}` and answers the same with `n + 1`. The bare loops answer
//! everything with `hello, world`.

pub mod bare;
#[cfg(feature = "databases")]
pub mod db;
pub mod ring;
#[cfg(feature = "databases")]
pub mod worlds;
pub mod ws;

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::runtime::{Builder, Runtime};

pub const HELLO: &str = "hello, world";
/// The same for all, longer than any run: some have 5 s by default and would close idle crowds.
pub const IDLE: Duration = Duration::from_secs(600);
pub const BACKLOG: i32 = 4096;
/// A streamed GiB, in writes.
pub const WRITE_BYTES: usize = 16 * 1024;
pub const GIB_WRITES: usize = (1 << 30) / WRITE_BYTES;

#[derive(Serialize)]
pub struct User {
    id: u64,
    name: String,
    tags: [&'static str; 2],
}

impl User {
    pub fn new(id: u64) -> User {
        User { id, name: format!("user {id}"), tags: ["a", "b"] }
    }
}

#[derive(Deserialize, Serialize)]
pub struct Echo {
    pub name: String,
    pub n: i64,
}

impl Echo {
    pub fn next(self) -> Echo {
        Echo { n: self.n.wrapping_add(1), ..self }
    }
}

#[derive(Clone)]
pub struct Options {
    pub addr: SocketAddr,
    pub workers: usize,
    /// Congestion control of the listener, inherited by what it accepts.
    pub congestion: Option<String>,
    /// The folder of the servers of files.
    pub root: PathBuf,
    /// The database of the servers that ask one, and the most connections to it.
    pub url: String,
    pub connections: u32,
}

impl Options {
    /// Reads the command line; says what is wrong with it and exits.
    pub fn from_args() -> Options {
        let mut options = Options {
            addr: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: 1,
            congestion: None,
            root: PathBuf::from("."),
            url: String::from("postgres://127.0.0.1/bench"),
            connections: 8,
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let Some(value) = args.next() else { refuse(&format!("{flag}: no value")) };
            match flag.as_str() {
                "--addr" => options.addr = parse(&flag, &value),
                "--workers" => options.workers = parse::<usize>(&flag, &value).max(1),
                "--congestion" => options.congestion = Some(value),
                "--root" => options.root = PathBuf::from(value),
                "--url" => options.url = value,
                "--connections" => options.connections = parse(&flag, &value),
                _ => refuse(&format!("unknown option {flag}")),
            }
        }
        options
    }

    /// A listener with the socket options of the bench, which accepted sockets inherit.
    pub fn listener(&self) -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(self.addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(self.workers > 1)?;
        self.dress(&SockRef::from(&socket))?;
        socket.bind(&self.addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    pub fn dress(&self, socket: &SockRef) -> std::io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        match &self.congestion {
            Some(name) => socket.set_tcp_congestion(name.as_bytes()),
            None => Ok(()),
        }
    }

    /// tokio as it is usually made: on this thread for one worker, with a pool for more.
    pub fn tokio(&self) -> std::io::Result<Runtime> {
        let mut runtime = match self.workers {
            1 => Builder::new_current_thread(),
            workers => {
                let mut runtime = Builder::new_multi_thread();
                runtime.worker_threads(workers);
                runtime
            }
        };
        runtime.enable_all().build()
    }

    /// Runs `work` on as many threads as there are workers, the first of them this one.
    pub fn on_each_worker(
        &self,
        work: impl Fn(TcpListener) -> std::io::Result<()> + Clone + Send + 'static,
    ) -> std::io::Result<()> {
        for _ in 1..self.workers {
            let (work, listener) = (work.clone(), self.listener()?);
            std::thread::spawn(move || work(listener));
        }
        work(self.listener()?)
    }
}

fn parse<T: std::str::FromStr<Err: Display>>(flag: &str, value: &str) -> T {
    value.parse().unwrap_or_else(|e| refuse(&format!("{flag} {value}: {e}")))
}

fn refuse(why: &str) -> ! {
    eprintln!(
        "{why}\noptions: --addr 127.0.0.1:8080 --workers 1 --congestion cubic --root . \
         --url postgres://127.0.0.1/bench --connections 8"
    );
    std::process::exit(2)
}
