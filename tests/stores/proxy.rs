//! A network that fails as it is told: between an application and a server of the same test.

#![allow(dead_code)] // each test uses some of it

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What "at once" means, of connections that are made.
const BURST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Bytes arrive, each time so many ms late.
    Pass(u64),
    /// Bytes and goodbyes are lost; connections stay. One that has lost some is dead for ever.
    Frozen,
    /// Nobody is there.
    Refusing,
    Over,
}

/// Ends with its connections when it drops.
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    accepted: Arc<Mutex<Accepted>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Accepted {
    count: usize,
    recent: VecDeque<Instant>,
    burst_max: usize,
}

impl Proxy {
    /// Before the server at a port.
    pub fn before(server: u16) -> Proxy {
        let (mode, cuts) = (watch::Sender::new(Mode::Pass(0)), watch::Sender::new(0));
        let accepted = Arc::<Mutex<Accepted>>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        // Not next to it, where those of other servers are: one that is down would lose its own.
        let mut ports = server + 48..;
        let listener = ports.find_map(|port| runtime.block_on(listen(port)).ok());
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (mode_seen, cuts_seen, counted) =
            (mode.subscribe(), cuts.subscribe(), accepted.clone());
        let thread = thread::spawn(move || {
            runtime.block_on(accept(listener, server, mode_seen, cuts_seen, counted));
        });
        Proxy { port, mode, cuts, accepted, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses bytes from now on.
    pub fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// Nobody listens from now on, and connections are reset.
    pub fn refuse(&self) {
        self.mode.send_replace(Mode::Refusing);
        self.cut();
    }

    /// Resets all connections; new ones are as before.
    pub fn cut(&self) {
        self.cuts.send_modify(|it| *it += 1);
    }

    /// Late by so many ms, each way.
    pub fn delay_ms(&self, ms: u64) {
        self.mode.send_replace(Mode::Pass(ms));
    }

    /// All is well, for connections that have lost nothing.
    pub fn pass(&self) {
        self.mode.send_replace(Mode::Pass(0));
    }

    /// The most connections that came within 100 ms, since it was last asked.
    pub fn burst_max(&self) -> usize {
        std::mem::take(&mut self.accepted.lock().expect("no panic").burst_max)
    }

    /// Connections that came, of all there were.
    pub fn accepted(&self) -> usize {
        self.accepted.lock().expect("no panic").count
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Over);
        let _ = self.thread.take().expect("there until now").join();
    }
}

impl Accepted {
    fn one_more(&mut self) {
        let now = Instant::now();
        self.count += 1;
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|it| now - *it > BURST) {
            self.recent.pop_front();
        }
        self.burst_max = self.burst_max.max(self.recent.len());
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

async fn accept(
    listener: TcpListener,
    server: u16,
    mut mode: watch::Receiver<Mode>,
    cuts: watch::Receiver<u64>,
    accepted: Arc<Mutex<Accepted>>,
) {
    let port = listener.local_addr().expect("bound").port();
    let mut listener = Some(listener);
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Over => return,
            Mode::Refusing => {
                listener = None;
                let _ = mode.changed().await;
                continue;
            }
            Mode::Pass(_) | Mode::Frozen => {}
        }
        let listener = match &mut listener {
            Some(listener) => listener,
            none => none.insert(listen(port).await.expect("its port, which nobody else is given")),
        };
        tokio::select! {
            _ = mode.changed() => {}
            Ok((client, _)) = listener.accept() => {
                accepted.lock().expect("no panic").one_more();
                let link = Link { mode: mode.clone(), is_dead: AtomicBool::new(false) };
                tokio::spawn(serve(client, server, link, cuts.clone()));
            }
        }
    }
}

async fn serve(client: TcpStream, server: u16, link: Link, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let mut client = client;
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let is_cut = tokio::select! {
        _ = link.carry(from_client, to_server, false) => false,
        _ = link.carry(from_server, to_client, true) => false,
        _ = cuts.changed() => true,
    };
    if is_cut {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

struct Link {
    mode: watch::Receiver<Mode>,
    is_dead: AtomicBool,
}

impl Link {
    /// Until one side has ended, or the other cannot be written to.
    async fn carry(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, is_answer: bool) {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut bytes).await.unwrap_or(0);
            let mode = *self.mode.borrow();
            if mode == Mode::Frozen {
                self.is_dead.store(true, Ordering::Relaxed);
            }
            let is_dead = self.is_dead.load(Ordering::Relaxed);
            if is_dead && count == 0 && is_answer {
                std::future::pending::<()>().await; // the client does not hear of it
            }
            if count == 0 {
                return;
            }
            if is_dead {
                continue;
            }
            if let Mode::Pass(ms @ 1..) = mode {
                tokio::time::sleep(Duration::from_millis(ms)).await; // it is slow
            }
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }
}
