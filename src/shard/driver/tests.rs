//! The traps that a driver must not fall into: each test here fails when the guard in the code
//! is taken out.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Driver;
use crate::base::clock::Clock;
use crate::base::counters::Count;
use crate::base::wire::{Input, Wire};
use crate::limits::{Limits, PARK_MS_MAX, RECV_BUFFERS};
use crate::ring::{probe, signal};
use crate::shard::affinity::original_mask;
use crate::shard::blocking::Blocking;
use crate::shard::guest::{Guest, State};
use crate::shard::inbox::{self, Inbox, Seat};
use crate::shard::park::Park;
use crate::shard::waker::{self, Entered, TaskKey};
use crate::shard::{Local, Place, executor};

/// A test that takes longer hangs, and has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than a kernel completes in one enter.
const MANY: usize = 200;

/// Runs a test on a glommio executor of its own.
fn on_an_executor(test: impl AsyncFnOnce() + Send + 'static) {
    type Outcome = Result<(), Box<dyn Any + Send>>;
    let (send, outcome) = mpsc::channel::<Outcome>();
    let running = executor::spawn(0, None, move || async move {
        let mut test = pin!(test());
        let outcome =
            poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| test.as_mut().poll(cx))) {
                Ok(polled) => polled.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            });
        let _ = send.send(outcome.await);
    });
    let running = running.expect("an executor");
    match outcome.recv_timeout(PATIENCE) {
        Ok(Ok(())) => running.join().expect("a clean end"),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("it hangs"),
    }
}

/// A driver that is turned by hand. Its connections read all that comes and count it.
struct Rig {
    driver: Driver<Reader>,
    local: Rc<Local>,
    guest: Reader,
    /// The other ends.
    peers: Vec<UnixStream>,
    seat: Seat,
    _here: Entered,
}

#[derive(Clone)]
struct Reader {
    taken: Rc<Cell<usize>>,
    state: Rc<Cell<State>>,
    fresh: Rc<RefCell<Vec<TcpListener>>>,
}

impl Guest for Reader {
    fn connect(&self, wire: Rc<Wire>) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let taken = self.taken.clone();
        Some(Box::pin(async move {
            while let Input::Bytes = poll_fn(|cx| wire.poll_input(0, cx)).await {
                let mut bytes = Vec::new();
                wire.take_into(&mut bytes);
                taken.set(taken.get() + bytes.len());
            }
        }))
    }

    fn mail(&self) -> bool {
        false
    }

    fn listeners(&self) -> Vec<TcpListener> {
        self.fresh.take()
    }

    fn refusal(&self) -> Vec<u8> {
        Vec::new()
    }

    fn state(&self) -> State {
        self.state.get()
    }

    fn last(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        None
    }
}

impl Rig {
    fn new() -> Rig {
        probe::raise_nofile();
        let seat = Seat::take().expect("a seat");
        seat.inbox().clear();
        let place = Place { id: 0, count: 1, core: None, seat: seat.number() };
        let blocking = Blocking::new(1, 1, original_mask().expect("a mask"));
        let local = Rc::new(Local::new(place, Limits::default(), Clock::new(), blocking));
        let here = waker::enter(local.tasks.clone());
        let state = Rc::new(Cell::new(State::Serve));
        let guest = Reader { taken: Rc::default(), state, fresh: Rc::default() };
        let driver = Driver::new(guest.clone(), local.clone(), seat.inbox());
        let mut driver = driver.expect("a driver");
        driver.ring.poll(driver.inbox.bell());
        Rig { driver, local, guest, peers: Vec::new(), seat, _here: here }
    }

    /// So many connections, each with `bytes` waiting before its first receive.
    fn connect(&mut self, count: usize, bytes: usize) {
        for _ in 0..count {
            let (here, mut there) = UnixStream::pair().expect("a pair");
            there.write_all(&vec![b'x'; bytes]).expect("room in the socket");
            self.peers.push(there);
            self.driver.connect(here.into_raw_fd());
        }
    }

    /// Runs tasks and takes completions until neither has anything.
    fn rest(&mut self) {
        loop {
            self.driver.take_mail();
            self.driver.run_ready();
            self.driver.service_marked();
            #[cfg(feature = "postgres-lane")]
            self.driver.adopt();
            if self.driver.settle().expect("a ring") {
                return;
            }
        }
    }

    fn unread(&self) -> usize {
        self.driver.conns.iter().map(|(_, conn)| conn.wire.unread()).sum()
    }

    fn count(&self, count: Count) -> u64 {
        self.local.counters.get(count)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.driver.cut_off();
        self.seat.inbox().clear();
    }
}

#[test]
fn every_completion_is_taken_before_a_shard_may_park() {
    on_an_executor(async || {
        let mut rig = Rig::new();
        rig.connect(MANY, 0);
        rig.rest();
        for peer in &mut rig.peers {
            peer.write_all(b"x").expect("room in the socket");
        }
        assert!(!rig.driver.settle().expect("a ring"), "tasks are ready");
        assert_eq!(rig.unread(), MANY);
    });
}

#[test]
fn glommio_gives_the_thread_back_whatever_comes() {
    on_an_executor(async || {
        let mut park = Park::new().expect("an eventfd");
        let ran = Rc::new(Cell::new(0));
        for round in 1..=5 {
            // Nobody writes the eventfd: the read stays, and the next one finds it.
            park.wait(Duration::from_millis(5)).await;
            let note = ran.clone();
            let task = async move {
                glommio::executor().yield_task_queue_now().await;
                note.set(round);
            };
            glommio::spawn_local(task).detach();
            for _ in 0..20 {
                park.turn_glommio().await;
            }
            assert_eq!(ran.get(), round, "glommio's tasks have had their turn");
            signal(park.eventfd());
            park.wait(PATIENCE * 2).await;
        }
    });
}

/// What may come for a shard, as other threads bring it.
const COMING: [Coming; 3] = [
    ("bytes", |caller| (&caller.peer).write_all(b"x").expect("room in the socket")),
    ("a foreign wake", |caller| inbox::wake(caller.task)),
    ("mail", |caller| caller.inbox.notify()),
];

type Coming = (&'static str, fn(&Caller));

/// Who brings it.
struct Caller {
    peer: UnixStream,
    task: TaskKey,
    inbox: &'static Inbox,
}

impl Caller {
    fn of(rig: &Rig) -> Caller {
        let peer = rig.peers[0].try_clone().expect("a descriptor");
        let (_, conn) = rig.driver.conns.iter().next().expect("a connection");
        Caller { peer, task: conn.task, inbox: rig.driver.inbox }
    }
}

#[test]
fn what_is_there_when_a_park_begins_is_not_slept_over() {
    on_an_executor(async || {
        let nothing: Coming = ("nothing", |_| ());
        for (what, come) in [nothing].into_iter().chain(COMING) {
            let mut rig = Rig::new();
            rig.connect(1, 0);
            rig.rest();
            come(&Caller::of(&rig));
            rig.driver.park().await.expect("a ring");
            let parks = u64::from(what == "nothing");
            assert_eq!(rig.count(Count::Parks), parks, "{what} is there: parks");
        }
    });
}

#[test]
fn what_comes_while_a_shard_is_parked_ends_its_sleep() {
    on_an_executor(async || {
        for (what, come) in COMING {
            let mut rig = Rig::new();
            rig.connect(1, 0);
            // The machine may be busy: of many sleeps that all end early, one ends in time.
            let mut shortest = Duration::MAX;
            for round in 1..=20 {
                rig.rest();
                let caller = Caller::of(&rig);
                let start = Instant::now();
                // Comes when the driver has left the thread to glommio.
                let coming = async move {
                    glommio::executor().yield_task_queue_now().await;
                    come(&caller);
                };
                glommio::spawn_local(coming).detach();
                rig.driver.park().await.expect("a ring");
                shortest = shortest.min(start.elapsed());
                assert_eq!(rig.count(Count::Parks), round, "{what}");
                rig.rest();
                let bytes = if what == "bytes" { round } else { 0 };
                assert_eq!(rig.guest.taken.get() as u64, bytes, "the read has swallowed nothing");
            }
            assert!(shortest < Duration::from_millis(PARK_MS_MAX / 2), "{what}: {shortest:?}");
        }
    });
}

#[test]
fn without_buffers_a_receive_waits_and_is_armed_again() {
    on_an_executor(async || {
        let buffers = usize::from(RECV_BUFFERS);
        for (connections, bytes) in [(buffers + 44, 1), (40, 100_000)] {
            let mut rig = Rig::new();
            rig.connect(connections, bytes);
            rig.rest();
            assert!(
                rig.count(Count::BuffersShort) > 0,
                "{connections} took no more than there are"
            );
            assert_eq!(
                rig.guest.taken.get(),
                connections * bytes,
                "{connections} of {bytes} bytes"
            );
        }
    });
}

#[test]
fn listeners_that_come_after_the_word_to_drain_are_drained() {
    on_an_executor(async || {
        let mut rig = Rig::new();
        rig.guest.state.set(State::Drain);
        rig.driver.housekeep(); // a tick hears of it first
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        rig.guest.fresh.borrow_mut().push(listener);
        rig.seat.inbox().notify();
        rig.rest();
        assert!(rig.driver.listeners.iter().all(|it| it.socket.is_none()), "the drain can end");
        assert_eq!(rig.count(Count::Accepted), 1, "who waited in the listener is served");
        drop(client);
    });
}

/// What is read is written back, until the peer has no more to say.
#[cfg(feature = "postgres-lane")]
async fn echo(mut stream: crate::shard::outbound::WireStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = vec![0; 10_000];
    while let Ok(len @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

#[cfg(feature = "postgres-lane")]
#[test]
fn connections_of_its_own_are_no_clients_and_end_with_it() {
    on_an_executor(async || {
        let mut rig = Rig::new();
        let shard = crate::shard::Shard(rig.local.clone());
        let pair = || UnixStream::pair().expect("a pair");
        assert!(!shard.adopt(pair().0.into(), echo), "nobody would take it");
        rig.local.outbound.set_driver(true);
        let peers: Vec<UnixStream> = (0..2)
            .map(|_| {
                let (here, there) = pair();
                assert!(shard.adopt(here.into(), echo));
                there
            })
            .collect();
        rig.rest();
        // More than any buffer on the way holds.
        let size = 4 << 20;
        let mut peer = peers[0].try_clone().expect("a descriptor");
        let talk = std::thread::spawn(move || {
            let mut other = peer.try_clone().expect("a descriptor");
            let writing = std::thread::spawn(move || {
                let bytes: Vec<u8> = (0..size).map(|it| (it % 251) as u8).collect();
                other.write_all(&bytes).expect("taken");
            });
            let mut all = vec![0; size];
            std::io::Read::read_exact(&mut peer, &mut all).expect("all of it comes back");
            writing.join().expect("no panic");
            all.iter().enumerate().all(|(at, it)| *it == (at % 251) as u8)
        });
        while !talk.is_finished() {
            rig.rest();
        }
        assert!(talk.join().expect("no panic"), "as it was");
        for count in [Count::Open, Count::Accepted, Count::BytesIn, Count::BytesOut] {
            assert_eq!(rig.count(count), 0, "{count:?}");
        }
        peers[1].shutdown(std::net::Shutdown::Both).expect("open");
        rig.rest();
        assert_eq!((rig.driver.conns.len(), rig.driver.own), (1, 1), "one has ended");
        rig.connect(1, 0);
        rig.guest.state.set(State::Drain);
        rig.driver.housekeep();
        assert!(!rig.driver.is_over(), "a client is there");
        let (client, _) = rig.driver.conns.iter().find(|(_, it)| !it.is_own).expect("connected");
        rig.driver.abort(client as u32);
        rig.rest();
        assert_eq!(
            (rig.driver.conns.len(), rig.driver.is_over()),
            (1, true),
            "no drain waits for it"
        );
        rig.driver.cut_off();
        let end = std::io::Read::read(&mut &peers[0], &mut [0]);
        assert_eq!((end.ok(), rig.count(Count::CutOff)), (Some(0), 0), "FIN, no RST");
        assert_eq!(rig.driver.own, 0);
    });
}
