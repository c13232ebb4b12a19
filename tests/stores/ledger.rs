//! An application that writes a ledger, clients that do not forget what it has acknowledged, and
//! what holds after every fault.

#![allow(dead_code)] // each test uses some of it

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use soloist::prelude::*;
use soloist::sqlx::{self, Postgres};
use soloist::testing::TestServer;
use soloist::{Db, DbOptions};

use super::postgres::Postgres as Store;

pub const BUDGET: usize = 6;
/// A wait, and each query of a transaction: all of them as late as they may be.
pub const ANSWER_MAX: Duration = Duration::from_secs(6);

pub fn options(url: &str) -> DbOptions {
    DbOptions::new(url)
        .open_max(BUDGET)
        .acquire_max(Duration::from_millis(800))
        .connect_max(Duration::from_millis(800))
        .query_max(Duration::from_millis(1_200))
}

pub fn serve(shards: usize, options: DbOptions) -> TestServer {
    TestServer::start(shards, async move |shard| ledger(shard, options).await)
}

/// `/write/7` writes a number, `/both/7` that and its opposite in a transaction, `/leave/7` and
/// `/mark` leave something behind that nobody must find.
pub async fn ledger(shard: Shard, options: DbOptions) -> Result<App<Db<Postgres>>> {
    let db = shard.db::<Postgres>(options).await?;
    let table = sqlx::query("CREATE TABLE IF NOT EXISTS ledger (n bigint PRIMARY KEY)");
    shard.once("table", async || Ok(table.execute(&db).await.map(drop)?)).await?;
    Ok(App::new(db)
        .get("/one", async |cx| {
            let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(cx.state()).await?;
            cx.json(&one)
        })
        .get("/write/:n", async |cx| {
            let db = cx.state().named("write");
            let query = sqlx::query_scalar(
                "INSERT INTO ledger VALUES ($1) RETURNING current_setting('soloist.mark', true)",
            );
            let mark: Option<String> = query.bind(cx.param::<i64>("n")?).fetch_one(&db).await?;
            if mark.is_some_and(|it| !it.is_empty()) {
                return Err(Error::new(418, "of a session that another has left"));
            }
            cx.text("written")
        })
        .get("/both/:n", async |cx| {
            let n: i64 = cx.param("n")?;
            let mut tx = cx.state().begin().await?;
            for n in [n, -n] {
                sqlx::query("INSERT INTO ledger VALUES ($1)").bind(n).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            cx.text("written")
        })
        .get("/leave/:n", async |cx| {
            let mut tx = cx.state().begin().await?;
            let query = sqlx::query("INSERT INTO ledger VALUES ($1)");
            query.bind(-cx.param::<i64>("n")?).execute(&mut *tx).await?;
            cx.text("left")
        })
        .get("/mark", async |cx| {
            let mut conn = cx.state().acquire().await?;
            sqlx::query("SET soloist.mark = 'here'").execute(&mut conn).await?;
            cx.text("left")
        })
        .get("/sleep/:seconds", async |cx| {
            let seconds: f64 = cx.param("seconds")?;
            sqlx::query("SELECT pg_sleep($1)").bind(seconds).execute(cx.state()).await?;
            cx.empty()
        })
        .get("/stats", async |cx| cx.json(&cx.state().stats_everywhere())))
}

/// Status, whether it says when to come again, and body.
pub fn ask(addr: SocketAddr, path: &str) -> (u16, bool, String) {
    let start = Instant::now();
    let mut socket = TcpStream::connect(addr).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    let read = socket.read_to_string(&mut answer);
    read.unwrap_or_else(|error| panic!("{path}: {error} after {:?}", start.elapsed()));
    assert!(start.elapsed() < ANSWER_MAX, "{path} took {:?}", start.elapsed());
    let status = answer.get(9..12).and_then(|it| it.parse().ok()).expect("a status");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (status, head.contains("retry-after"), body.to_owned())
}

/// Asks, and goes away without waiting for the answer for longer than this.
fn ask_and_go(addr: SocketAddr, path: &str, within: Duration) {
    let mut socket = TcpStream::connect(addr).expect("a connection");
    socket.set_read_timeout(Some(within)).expect("a limit");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let _ = socket.read(&mut [0; 256]);
    reset(socket);
}

pub fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("set");
}

pub fn stats(server: &TestServer) -> Value {
    server.get("/stats").expect(200).json()
}

pub fn number(stats: &Value, name: &str) -> u64 {
    stats[name].as_u64().unwrap_or_else(|| panic!("{name} in {stats}"))
}

#[track_caller]
pub fn until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(5)); // another process has its say
    }
}

/// Nothing is lost: every lease belongs to a connection, and the server has no more than those.
#[track_caller]
pub fn all_is_accounted_for(server: &TestServer, store: &Store, name: &str) {
    until(&format!("{name}: it works again"), Duration::from_secs(10), || {
        ask(server.addr(), "/one").0 == 200
    });
    let mut last = Value::Null;
    let mut is_quiet = || {
        last = stats(server);
        ["in_use", "connecting", "waiters"].iter().all(|it| number(&last, it) == 0)
    };
    until(&format!("{name}: nothing is under way"), Duration::from_secs(10), &mut is_quiet);
    assert_eq!(number(&last, "leases"), number(&last, "open"), "{name}: {last}");
    assert!(number(&last, "leases") <= number(&last, "open_max"), "{name}: {last}");
    until(&format!("{name}: the server has them and no others"), Duration::from_secs(10), || {
        connections(store) == number(&stats(server), "open")
    });
}

/// Connections of the application, as the server counts them.
pub fn connections(store: &Store) -> u64 {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'soloist'";
    store.psql(count).trim().parse().expect("a count")
}

/// Clients that write, each number once, until they are told to stop; what was acknowledged.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub seen: Arc<Mutex<Seen>>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Default)]
pub struct Seen {
    pub written: BTreeSet<i64>,
    /// Answered with 503: not written, or nobody knows.
    pub refused: u64,
    /// Nobody waited for the answer.
    pub left: u64,
    pub took_max: Duration,
}

/// What some of the clients do, some of the time.
#[derive(Clone, Copy, Default)]
pub struct Habits {
    /// They go away before they are answered.
    pub leave: bool,
    /// They change the session of the connection that they are given.
    pub mark: bool,
}

impl Load {
    pub fn start(addr: SocketAddr, clients: u64, habits: Habits) -> Load {
        static NEXT: AtomicI64 = AtomicI64::new(1);
        let (stop, seen): (Arc<AtomicBool>, Arc<Mutex<Seen>>) = Default::default();
        let threads = (0..clients).map(|client| {
            let (stop, seen) = (stop.clone(), seen.clone());
            thread::spawn(move || {
                let mut random = Random(client + 1);
                while !stop.load(Ordering::SeqCst) {
                    let n = NEXT.fetch_add(1, Ordering::SeqCst);
                    let path = match random.below(10) {
                        0 => format!("/leave/{n}"),
                        1 if habits.mark => "/mark".to_owned(),
                        2..=5 => format!("/both/{n}"),
                        _ => format!("/write/{n}"),
                    };
                    if habits.leave && random.below(8) == 0 {
                        ask_and_go(addr, &path, Duration::from_millis(1 + random.below(20)));
                        seen.lock().expect("no panic").left += 1;
                        continue;
                    }
                    let start = Instant::now();
                    let (status, retries, body) = ask(addr, &path);
                    let mut seen = seen.lock().expect("no panic");
                    seen.took_max = seen.took_max.max(start.elapsed());
                    match (status, &*body) {
                        (200, "written") => drop(seen.written.insert(n)),
                        (200, "left") => {}
                        (503, _) => {
                            assert!(retries, "503 says when to come again: {body}");
                            seen.refused += 1;
                            drop(seen);
                            thread::sleep(Duration::from_millis(5)); // as one that was told to
                        }
                        _ => panic!("{path}: {status} {body}"),
                    }
                }
            })
        });
        let threads = threads.collect();
        Load { stop, seen, threads }
    }

    pub fn written(&self) -> usize {
        self.seen.lock().expect("no client failed").written.len()
    }

    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|it| it.join().expect("no client failed"));
        std::mem::take(&mut *self.seen.lock().expect("no client failed"))
    }
}

/// What was acknowledged is there, both halves of a transaction or none, and nothing of those that
/// were not committed.
#[track_caller]
pub fn is_whole(store: &Store, written: &BTreeSet<i64>, name: &str) {
    let rows = store.psql("SELECT n FROM ledger");
    let ledger: BTreeSet<i64> = rows.lines().map(|it| it.parse().expect("a number")).collect();
    let lost: Vec<_> = written.difference(&ledger).collect();
    assert!(lost.is_empty(), "{name}: acknowledged and not there: {lost:?}");
    let half: Vec<_> = ledger.iter().filter(|n| **n < 0 && !ledger.contains(&-**n)).collect();
    assert!(half.is_empty(), "{name}: half of a transaction, or of none: {half:?}");
}

/// Numbers that look random and are the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
