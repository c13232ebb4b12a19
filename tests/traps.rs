//! Traps of this way of building a server that show only in a whole one: each test here fails
//! when the guard in the code is taken out.

use std::env;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::testing::TestServer;
use soloist::{Running, Stats};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test that fails when it hangs, in the end of its server too.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match is_done.recv_timeout(3 * PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => running.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

async fn hello(_: Shard) -> Result<App<()>> {
    Ok(App::new(()).get("/", async |cx| cx.text("hello")))
}

/// A keep-alive connection that asks one thing at a time.
struct Client(TcpStream);

impl Client {
    fn new(addr: SocketAddr) -> Client {
        let socket = TcpStream::connect(addr).expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Client(socket)
    }

    fn ask(&mut self) {
        self.0.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let mut bytes = [0; 1024];
            let count = match self.0.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("an answer"),
            };
            assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&bytes[..count]);
        }
    }
}

/// Rung by a thread, heard by a task.
#[derive(Clone, Default)]
struct Bell(Arc<Mutex<(Option<Instant>, Option<Waker>)>>);

impl Bell {
    /// Once somebody listens.
    fn ring(&self) {
        loop {
            let mut bell = self.0.lock().expect("a bell");
            if let Some(waker) = bell.1.take() {
                bell.0 = Some(Instant::now());
                drop(bell);
                return waker.wake();
            }
            drop(bell);
            thread::yield_now();
        }
    }

    /// How long it took to be heard.
    async fn heard(&self) -> Duration {
        poll_fn(|cx| {
            let mut bell = self.0.lock().expect("a bell");
            if let Some(rung) = bell.0.take() {
                return Poll::Ready(rung.elapsed());
            }
            bell.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    /// Nothing: the shard is parked, or soon will be.
    Idle,
    /// A task that is always ready: the shard never waits.
    Ready,
    /// One request after the other.
    Requests,
}

#[test]
fn a_wake_from_another_thread_is_heard_at_once_whatever_the_shard_does() {
    for load in [Load::Idle, Load::Ready, Load::Requests] {
        in_time(move || hear(load));
    }
}

fn hear(load: Load) {
    let bell = Bell::default();
    let (send, times) = mpsc::channel();
    let build = {
        let bell = bell.clone();
        async move |shard: Shard| {
            shard.spawn(async move { while send.send(bell.heard().await).is_ok() {} });
            if load == Load::Ready {
                shard.spawn(async { poll_fn::<(), _>(again).await });
            }
            hello(shard).await
        }
    };
    let server = TestServer::start(1, build);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Raise(&over);
        if load == Load::Requests {
            let (over, addr) = (&over, server.addr());
            scope.spawn(move || {
                let mut client = Client::new(addr);
                while !over.load(Ordering::Relaxed) {
                    client.ask();
                }
            });
        }
        let mut took: Vec<Duration> = (0..31)
            .map(|_| {
                bell.ring();
                times.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{load:?}: not heard"))
            })
            .collect();
        took.sort();
        // The machine may be busy; the shard never is for so long.
        assert!(took[15] < Duration::from_millis(50), "{load:?}: {took:?}");
    });
}

fn again(cx: &mut std::task::Context<'_>) -> Poll<()> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Set when it drops, by a panic too.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn stats(running: &Running) -> Stats {
    running.stats().pop().expect("a shard that runs")
}

#[test]
fn a_shard_parks_when_idle_and_not_between_two_requests() {
    in_time(park_and_count);
}

fn park_and_count() {
    const REQUESTS: u64 = 100;
    let server = TestServer::start(1, hello);
    let mut client = Client::new(server.addr());
    let running = server.into_running();
    // The machine may be busy: of many rounds, one goes without long gaps.
    let mut parks = Vec::new();
    while parks.last().is_none_or(|parks| *parks >= REQUESTS / 5) {
        assert!(parks.len() < 20, "parks in rounds of {REQUESTS} requests: {parks:?}");
        let before = stats(&running).get("parks");
        for _ in 0..REQUESTS {
            client.ask();
            // A shard that parks at once has time to; a tick is 5 ms.
            let answered = Instant::now();
            while answered.elapsed() < Duration::from_micros(200) {
                std::hint::spin_loop();
            }
        }
        parks.push(stats(&running).get("parks") - before);
    }

    let (before, start) = (stats(&running), Instant::now());
    thread::sleep(Duration::from_secs(1)); // idle
    let (after, ms) = (stats(&running), start.elapsed().as_millis() as u64);
    let grown = |name| after.get(name) - before.get(name);
    assert!(grown("parks") > 0, "it never parks");
    // One that is awake turns every 5 ms at least.
    assert!(grown("ring_turns") < ms / 10, "{} turns in {ms} ms", grown("ring_turns"));
    running.stop_now();
    running.join().expect("a clean end");
}

/// The server of a process that is stopped and continued.
const CHILD: &str = "SOLOIST_TRAPS_CHILD";

/// Not a test of its own: the other process's `main`. It ends with its standard input.
#[test]
fn child() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let running = Server::bind("127.0.0.1:0").unpinned(1).start(hello).expect("a server");
    println!("\n{CHILD} {}", running.addrs()[0]);
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    exit(0);
}

#[test]
fn every_answer_comes_though_the_process_is_stopped_again_and_again() {
    in_time(stop_and_continue);
}

fn stop_and_continue() {
    let this = env::current_exe().expect("the test binary has a path");
    let mut server = Command::new(this)
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary starts");
    let out = BufReader::new(server.stdout.take().expect("piped"));
    let mut lines = out.lines().map_while(std::io::Result::ok);
    let addr = lines.find_map(|line| line.strip_prefix(CHILD)?.trim().parse().ok());
    let addr = addr.expect("an address");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // In a row, and with time to park in between.
        for pause_ms in [0, 2, 12] {
            let over = &over;
            scope.spawn(move || {
                let mut client = Client::new(addr);
                while !over.load(Ordering::Relaxed) {
                    client.ask();
                    thread::sleep(Duration::from_millis(pause_ms));
                }
            });
        }
        let _over = Raise(&over);
        // As a CPU quota does it: tens of milliseconds at a time.
        for round in 0..60 {
            signal(server.id(), libc::SIGSTOP);
            thread::sleep(Duration::from_millis(10 + round % 30));
            signal(server.id(), libc::SIGCONT);
            thread::sleep(Duration::from_millis(5 + round % 11));
        }
    });
    drop(server.stdin.take());
    assert!(server.wait().expect("a child").success());
}

fn signal(process: u32, signal: i32) {
    // SAFETY: passes no pointers; the child has not been waited for, so the number is its own.
    unsafe { libc::kill(process as i32, signal) };
}
