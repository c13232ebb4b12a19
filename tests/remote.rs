//! Remote stores against real servers, which the tests start on ports of their own: what is stored,
//! what is heard, and what a server that is killed, frozen or another one costs.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::testing::TestServer;
use soloist::{
    BreakerState, Heard, Hearing, Memcached, Redis, Remote, RemoteError, RemoteOptions, RemoteStats,
};

use stores::{BOTH, Kind, Store, port};

mod stores;

/// A handle, whichever it is, and what it has heard.
struct Client {
    shard: Shard,
    remote: Rc<dyn Remote>,
    heard: Rc<RefCell<Vec<Heard>>>,
    _hearing: Hearing,
}

impl Client {
    fn new(shard: &Shard, kind: Kind, url: &str, options: RemoteOptions) -> Client {
        let remote: Rc<dyn Remote> = match kind {
            Kind::Redis => Rc::new(Redis::connect_with(shard, url, options).expect("a URL")),
            Kind::Memcached => {
                Rc::new(Memcached::connect_with(shard, url, options).expect("an address"))
            }
        };
        let heard: Rc<RefCell<Vec<Heard>>> = Rc::default();
        let hears = heard.clone();
        let hearing = remote.hear(Box::new(move |it| hears.borrow_mut().push(it.clone())));
        Client { shard: shard.clone(), remote, heard, _hearing: hearing }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.remote.get(key.as_bytes()).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.remote.set(key.as_bytes(), value, None).await
    }

    fn stats(&self) -> RemoteStats {
        self.remote.stats()
    }

    /// Waits until something is so; up to 20 s, since other processes have their say.
    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !is_so().await {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {what}; {:?}", self.stats());
            self.shard.sleep(Duration::from_millis(5)).await; // a server has its say
        }
    }

    /// Waits until it is connected, and for what is told of that.
    async fn connected(&self) {
        self.until("an answer", async || self.get("any").await.is_ok()).await;
    }

    /// How often each was heard: everything, and the key.
    fn heard(&self, key: &str) -> (usize, usize) {
        let heard = self.heard.borrow();
        let everything = heard.iter().filter(|it| **it == Heard::Everything).count();
        let names = |it: &&Heard| match it {
            Heard::Changed(keys) => keys.iter().any(|it| it == key.as_bytes()),
            Heard::Everything | Heard::Nothing => false,
        };
        (everything, heard.iter().filter(names).count())
    }
}

/// Options under which a busy machine is no dead server.
fn patient() -> RemoteOptions {
    RemoteOptions::new().call_max(Duration::from_secs(5)).connect_max(Duration::from_secs(5))
}

/// Runs work on a real shard, with its tokio, and waits for its end.
#[track_caller]
fn on_shard(work: impl AsyncFnOnce(Shard) + Clone + Send + 'static) {
    /// Tells how it ended, after a panic too.
    struct End(mpsc::Sender<bool>);
    impl Drop for End {
        fn drop(&mut self) {
            let _ = self.0.send(!thread::panicking());
        }
    }
    let (sender, receiver) = mpsc::channel();
    let server = TestServer::start(1, async move |shard: Shard| {
        let (end, its) = (End(sender), shard.clone());
        shard.spawn(async move {
            let _end = end;
            work(its).await;
        });
        Ok(App::new(()))
    });
    let ended = receiver.recv_timeout(Duration::from_secs(120));
    drop(server);
    assert_eq!(ended, Ok(true), "the work on the shard has failed");
}

/// Does something to a store on a thread that may wait.
async fn with(
    shard: &Shard,
    store: &Arc<Mutex<Store>>,
    work: impl FnOnce(&mut Store) + Send + 'static,
) {
    let store = store.clone();
    let done = shard.blocking(move || work(&mut store.lock().expect("no panic")));
    done.await.expect("done");
}

fn cause(error: &Error) -> &RemoteError {
    error.get().unwrap_or_else(|| panic!("no RemoteError: {error}"))
}

#[test]
fn what_is_stored_is_found() {
    for kind in BOTH {
        let store = Store::start(kind);
        let url = store.url();
        on_shard(async move |shard| {
            let client = Client::new(&shard, kind, &url, patient());
            let all: Vec<u8> = (0..=255).collect();
            let large = all.repeat(2_000);
            let table: [(&[u8], &[u8]); 8] = [
                (b"text", b"value"),
                (b"empty", b""),
                (b"lines", b"\r\nEND\r\nHD\r\n\0"),
                (b"binary", &all),
                (b"large", &large),
                (b"with space", b"1"),
                (b"\0\r\n\xff", b"2"),
                ("caf\u{e9}".as_bytes(), b"3"),
            ];
            for (key, value) in table {
                assert_eq!(client.remote.get(key).await.expect("an answer"), None, "{key:?}");
                client.remote.set(key, value, None).await.expect("stored");
                let found = client.remote.get(key).await.expect("an answer");
                assert_eq!(found.as_deref(), Some(value), "{kind:?} {key:?}");
            }
            let keys: Vec<&[u8]> =
                table.iter().map(|(key, _)| *key).chain([&b"none"[..]]).collect();
            let found = client.remote.get_many(&keys).await.expect("answers");
            let want: Vec<Option<&[u8]>> =
                table.iter().map(|(_, value)| Some(*value)).chain([None]).collect();
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), want, "{kind:?}");
            client.remote.remove(&keys).await.expect("gone"); // one was never there
            let found = client.remote.get_many(&keys).await.expect("answers");
            assert!(found.iter().all(Option::is_none), "{kind:?} {found:?}");
            assert!(client.remote.get_many(&[]).await.expect("nothing").is_empty());
            let stats = client.stats();
            assert_eq!((stats.hits, stats.misses), (16, 18), "{kind:?} {stats:?}");
            assert!(stats.connected && stats.errors == 0 && stats.p99_us >= stats.p50_us);
            assert!(stats.p50_us > 0);
            let as_json = serde_json::to_value(stats).expect("JSON");
            assert_eq!(as_json["breaker"], "closed");
        });
    }
}

#[test]
fn many_keys_are_more_than_one_command() {
    for kind in BOTH {
        let store = Store::start(kind);
        let url = store.url();
        on_shard(async move |shard| {
            let client = Client::new(&shard, kind, &url, patient());
            let names: Vec<String> = (0..1_300).map(|n| format!("key {n}")).collect();
            for name in names.iter().step_by(3) {
                client.set(name, name.as_bytes()).await.expect("stored");
            }
            let keys: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            let found = client.remote.get_many(&keys).await.expect("answers");
            assert_eq!(found.len(), names.len());
            for (n, (name, found)) in names.iter().zip(&found).enumerate() {
                let want = n.is_multiple_of(3).then_some(name.as_bytes());
                assert_eq!(found.as_deref(), want, "{kind:?} {name}");
            }
            client.remote.remove(&keys).await.expect("gone");
            assert_eq!(client.get("key 0").await.expect("an answer"), None);
        });
    }
}

#[test]
fn values_live_as_long_as_is_said() {
    for kind in BOTH {
        let store = Store::start(kind);
        let url = store.url();
        on_shard(async move |shard| {
            let client = Client::new(&shard, kind, &url, patient());
            let short = Duration::from_millis(60);
            let years = Duration::MAX;
            client.remote.set(b"short", b"1", Some(short)).await.expect("stored");
            client.remote.set(b"long", b"2", Some(years)).await.expect("stored");
            client
                .remote
                .set(b"month", b"3", Some(31 * 24 * 60 * 60 * Duration::from_secs(1)))
                .await
                .expect("stored");
            assert_eq!(client.get("long").await.expect("an answer").as_deref(), Some(&b"2"[..]));
            assert_eq!(client.get("month").await.expect("an answer").as_deref(), Some(&b"3"[..]));
            client
                .until("dead of age", async || client.get("short").await.expect("some").is_none())
                .await;
            assert!(client.get("long").await.expect("an answer").is_some());
        });
    }
}

#[test]
fn what_cannot_be_stored_is_not_sent() {
    for kind in BOTH {
        let store = Store::start(kind);
        let url = store.url();
        on_shard(async move |shard| {
            let options = patient().value_bytes_max(100).prefix("p:");
            let client = Client::new(&shard, kind, &url, options);
            client.set("a", &[7; 100]).await.expect("as large as may be");
            let calls = client.stats().calls;
            let error = client.set("a", &[7; 101]).await.expect_err("too large");
            let want = RemoteError::TooLarge { bytes: 101, bytes_max: 100 };
            assert_eq!((error.status(), cause(&error)), (500, &want), "{error}");
            let long = "k".repeat(10_000);
            let error = client.get(&long).await.expect_err("too long");
            assert!(matches!(cause(&error), RemoteError::Key { bytes: 10_002, .. }), "{error}");
            assert_eq!(client.stats().calls, calls, "neither was sent");
            assert!(client.get("a").await.expect("the old one").is_some());
        });
    }
    // More than memcached itself takes: it says so, and the connection goes on.
    let store = Store::start(Kind::Memcached);
    let url = store.url();
    on_shard(async move |shard| {
        let options = patient().value_bytes_max(4 << 20);
        let client = Client::new(&shard, Kind::Memcached, &url, options);
        client.set("a", &vec![7; 1023 << 10]).await.expect("the default bound fits");
        let error = client.set("a", &vec![7; 2 << 20]).await.expect_err("too large for it");
        assert!(matches!(cause(&error), RemoteError::Answer(_)), "{error}");
        client.set("a", b"1").await.expect("it goes on");
        assert_eq!((client.stats().reconnects, client.stats().breaker), (0, BreakerState::Closed));
    });
}

#[test]
fn values_of_another_format_are_misses() {
    let store = Store::start(Kind::Redis);
    let (url, port) = (store.url(), store.port);
    on_shard(async move |shard| {
        let client = Client::new(&shard, Kind::Redis, &url, patient());
        let say = |line: &str| {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            socket.write_all(format!("{line}\r\n").as_bytes()).expect("sent");
            let mut answer = [0; 64];
            let bytes = socket.read(&mut answer).expect("an answer");
            assert!(b"+:".contains(&answer[0]), "{:?}", String::from_utf8_lossy(&answer[..bytes]));
        };
        say("SET soloist:later \"\\x02new\"");
        say("SET soloist:none \"\"");
        say("LPUSH soloist:list 1");
        for key in ["later", "none"] {
            assert_eq!(client.get(key).await.expect("an answer"), None, "{key}");
        }
        // Of another type: an error, which says nothing against the server.
        let error = client.get("list").await.expect_err("a list");
        assert!(matches!(cause(&error), RemoteError::Answer(_)), "{error}");
        assert!(error.to_string().contains("WRONGTYPE"), "{error}");
        assert_eq!(client.stats().breaker, BreakerState::Closed);
    });
}

#[test]
fn each_hears_what_the_others_change() {
    let store = Store::start(Kind::Redis);
    let (url, port) = (store.url(), store.port);
    on_shard(async move |shard| {
        let client =
            |prefix: &str| Client::new(&shard, Kind::Redis, &url, patient().prefix(prefix));
        let (one, two, other) = (client("a:"), client("a:"), client("b:"));
        for client in [&one, &two, &other] {
            assert!(!client.remote.hears(), "there is no connection yet");
        }
        for client in [&one, &two, &other] {
            client.connected().await;
            assert!(client.remote.hears());
            assert_eq!(client.heard("k"), (1, 0), "everything, once, as there was no word before");
        }
        // Neither has asked for the key.
        one.set("k", b"1").await.expect("stored");
        two.until("two hears one", async || two.heard("k") == (1, 1)).await;
        two.remote.remove(&[b"k"]).await.expect("gone");
        one.until("one hears two", async || one.heard("k") == (1, 1)).await;
        // What dies of age is told of too, to all.
        let short = Some(Duration::from_millis(30));
        two.remote.set(b"short", b"1", short).await.expect("stored");
        one.until("its death", async || one.heard("short").1 >= 2).await;
        // Of others' keys, and of what it has done itself, nothing is heard.
        assert_eq!((one.heard("k"), two.heard("k")), ((1, 1), (1, 1)));
        assert_eq!(other.heard.borrow().len(), 1, "{:?}", other.heard);
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        socket.write_all(b"FLUSHALL\r\n").expect("sent");
        one.until("everything", async || one.heard("k").0 == 2).await;
        other.until("everything", async || other.heard("k").0 == 2).await;
        assert!(one.stats().heard >= 4);
    });
}

#[test]
fn who_cannot_listen_in_time_hears_of_everything() {
    let store = Store::start(Kind::Redis);
    let (url, port) = (store.url(), store.port);
    on_shard(async move |shard| {
        let client = Client::new(&shard, Kind::Redis, &url, patient());
        client.connected().await;
        // The shard stands still meanwhile. One at a time, for each is to be a word of its own.
        let many = 5_000;
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        let _ = socket.set_nodelay(true);
        for n in 0..many {
            socket.write_all(format!("SET soloist:{n} 1\r\n").as_bytes()).expect("sent");
            let mut answer = [0; 16];
            assert!(socket.read(&mut answer).is_ok_and(|it| answer[..it].starts_with(b"+OK")));
        }
        let last = (many - 1).to_string();
        client.until("the last", async || client.heard(&last) != (1, 0)).await;
        client.set("own", b"1").await.expect("it goes on");
        if client.heard(&last).0 == 1 {
            let told = (0..many).filter(|n| client.heard(&n.to_string()).1 > 0).count();
            assert_eq!(told, many, "some word was lost, and nothing said so");
        }
        assert_eq!(client.stats().reconnects, 0);
    });
}

#[test]
fn two_shards_hear_each_other() {
    let store = Store::start(Kind::Redis);
    let url = store.url();
    let (sender, receiver) = mpsc::channel::<usize>();
    // Each stores a key of its own until it has heard that of the other, and for a while after.
    let server = TestServer::start(2, async move |shard: Shard| {
        let (sender, url, its) = (sender.clone(), url.clone(), shard.clone());
        shard.spawn(async move {
            let client = Client::new(&its, Kind::Redis, &url, patient());
            let (mine, theirs) = (its.id().to_string(), (1 - its.id()).to_string());
            let mut told = false;
            loop {
                client.set(&mine, b"1").await.expect("stored");
                if client.heard(&theirs).1 > 0 && !told {
                    assert_eq!(client.heard(&mine).1, 0, "not of itself");
                    told = sender.send(its.id()).is_ok();
                }
                its.sleep(Duration::from_millis(5)).await; // until the other one has
            }
        });
        Ok(App::new(()))
    });
    let wait = Duration::from_secs(30);
    let mut heard = [receiver.recv_timeout(wait), receiver.recv_timeout(wait)];
    heard.sort_by_key(|it| it.unwrap_or(9));
    drop(server);
    assert_eq!(heard, [Ok(0), Ok(1)]);
}

#[test]
fn a_server_that_was_killed_is_found_again() {
    for kind in BOTH {
        let (store, url) = Store::shared(kind);
        on_shard(async move |shard| {
            let client = Client::new(&shard, kind, &url, patient());
            client.connected().await;
            client.until("stored", async || client.set("k", b"1").await.is_ok()).await;
            for round in 1..=3 {
                with(&shard, &store, Store::end).await;
                client.until("it is missed", async || !client.stats().connected).await;
                let error = client.get("k").await.expect_err("nobody is there");
                assert_eq!(error.status(), 503);
                assert!(!client.remote.hears());
                assert_eq!(client.heard("k").0, if kind == Kind::Redis { round } else { 0 });
                with(&shard, &store, Store::start_again).await;
                // By itself, without a call.
                client.until("a connection", async || client.stats().connected).await;
                assert_eq!(client.stats().reconnects, round as u64);
                if kind == Kind::Redis {
                    assert_eq!(client.heard("k").0, round + 1, "everything, once each time");
                }
                let found = client.get("k").await.expect("an answer");
                assert_eq!(found, None, "{kind:?}: it has forgotten");
                client.until("stored", async || client.set("k", b"1").await.is_ok()).await;
            }
        });
    }
}

#[test]
fn what_others_changed_meanwhile_is_in_everything() {
    let (store, url) = Store::shared(Kind::Redis);
    on_shard(async move |shard| {
        let client = Client::new(&shard, Kind::Redis, &url, patient());
        client.connected().await;
        // Everything is there before the first answer on a new connection is.
        let answered = Rc::new(RefCell::new(Vec::new()));
        for round in 1..20 {
            with(&shard, &store, Store::restart).await;
            client
                .until("a new connection", async || client.stats().reconnects == round as u64)
                .await;
            if client.get("k").await.is_ok() {
                answered.borrow_mut().push((round + 1, client.heard("k").0));
            }
        }
        assert!(!answered.borrow().is_empty());
        for (want, told) in answered.take() {
            assert_eq!(told, want);
        }
    });
}

#[test]
fn a_frozen_server_costs_some_calls_and_then_nothing() {
    for kind in BOTH {
        let (store, url) = Store::shared(kind);
        on_shard(async move |shard| {
            let limit = Duration::from_millis(100);
            let client = Client::new(&shard, kind, &url, RemoteOptions::new().call_max(limit));
            client.connected().await;
            with(&shard, &store, |store| store.signal("STOP")).await;
            let mut timed_out = 0;
            while client.stats().breaker == BreakerState::Closed {
                let start = Instant::now();
                let error = client.get("k").await.expect_err("it is frozen");
                let took = start.elapsed();
                assert!(took < limit + Duration::from_millis(500), "{kind:?} {took:?}");
                timed_out += 1;
                assert!(matches!(cause(&error), RemoteError::TimedOut { ms: 100 }), "{error}");
                assert!(timed_out <= 5, "it opens after five");
            }
            let start = Instant::now();
            let (mut took, mut tried) = (Vec::new(), 0);
            while start.elapsed() < Duration::from_secs(2) {
                let start = Instant::now();
                let error = client.get("k").await.expect_err("it is frozen");
                match cause(&error) {
                    RemoteError::Refused { .. } => took.push(start.elapsed()),
                    RemoteError::TimedOut { .. } | RemoteError::Lost(_) => tried += 1,
                    other => panic!("{kind:?} {other:?}"),
                }
                if took.len() % 64 == 0 {
                    shard.sleep(Duration::from_millis(1)).await; // its clock goes on
                }
            }
            // Pauses of 100, 200, 400, 800 ms.
            assert!((1..=8).contains(&tried), "{kind:?}: {tried} probes");
            took.sort();
            let half = took[took.len() / 2];
            assert!(half < Duration::from_micros(200), "{kind:?}: refused in {half:?}");
            assert!(took.len() > 1_000, "{kind:?}: {} refused", took.len());
            assert!(!client.remote.hears(), "a connection that says nothing is given up");
            with(&shard, &store, |store| store.signal("CONT")).await;
            client.until("an answer", async || client.get("k").await.is_ok()).await;
            let stats = client.stats();
            assert_eq!(stats.breaker, BreakerState::Closed, "{kind:?} {stats:?}");
            assert!(stats.refused > 1_000 && stats.timeouts >= 5 && stats.reconnects >= 1);
            if kind == Kind::Redis {
                assert_eq!(client.heard("k").0 as u64, 1 + stats.reconnects);
            }
        });
    }
}

#[test]
fn a_silent_connection_is_given_up_without_a_call() {
    let (store, url) = Store::shared(Kind::Redis);
    on_shard(async move |shard| {
        let client = Client::new(&shard, Kind::Redis, &url, RemoteOptions::new());
        client.connected().await;
        with(&shard, &store, |store| store.signal("STOP")).await;
        client.until("it is missed", async || !client.remote.hears()).await;
        assert_eq!(client.stats().timeouts, 0, "nobody has asked");
        with(&shard, &store, |store| store.signal("CONT")).await;
        client.until("it is back", async || client.remote.hears()).await;
        assert_eq!(client.heard("k").0, 2);
    });
}

/// Answers whoever connects with some bytes, or with none, until it drops.
struct Stranger(SocketAddr);

impl Stranger {
    fn new(says: &'static [u8], closes: bool) -> Stranger {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let mut open = Vec::new();
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
                let mut some = [0; 1024];
                match socket.read(&mut some) {
                    Ok(bytes) if some[..bytes].starts_with(b"end") => return,
                    _ => {}
                }
                let _ = socket.write_all(says);
                if !closes {
                    open.push(socket);
                }
            }
        });
        Stranger(addr)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Ok(mut socket) = TcpStream::connect(self.0) {
            let _ = socket.write_all(b"end");
        }
    }
}

#[test]
fn strangers_give_a_clear_error_and_no_hang() {
    let http = TestServer::start(1, async |_| Ok(App::new(())));
    let locked = Store::start_with(Kind::Redis, &["--requirepass", "right"]);
    let strangers = [
        Stranger::new(b"", true),
        Stranger::new(b"", false),
        Stranger::new(b"\0\xff\x80garbage garbage\r\n\r\n", false),
        Stranger::new(b"$99999999999999\r\n", false),
        Stranger::new(b"*2147483647\r\n*2147483647\r\n*2147483647\r\n", true),
        Stranger::new(b"VA 99999999999999999\r\n", false),
        Stranger::new(b"MN\r\nMN\r\nMN\r\n", false),
    ];
    let at = |n: usize| strangers[n].0.port();
    let (free, http_port) = (port::free(), http.addr().port());
    use Kind::{Memcached as M, Redis as R};
    let (closed, silent) = ("", "does not answer within 300ms");
    let table = [
        (R, format!("redis://127.0.0.1:{free}"), "refused"),
        (M, format!("127.0.0.1:{free}"), "refused"),
        (R, format!("redis://127.0.0.1:{http_port}"), "is it a Redis?"),
        (M, format!("127.0.0.1:{http_port}"), "is it a memcached?"),
        (R, format!("redis://127.0.0.1:{}", locked.port), "check user and password"),
        (R, format!("redis://:wrong@127.0.0.1:{}", locked.port), "check user and password"),
        (R, format!("redis://127.0.0.1:{}", at(0)), closed),
        (M, format!("127.0.0.1:{}", at(0)), "closed the connection"),
        (R, format!("redis://127.0.0.1:{}", at(1)), silent),
        (M, format!("127.0.0.1:{}", at(1)), silent),
        (R, format!("redis://127.0.0.1:{}", at(2)), "is it a Redis?"),
        (M, format!("127.0.0.1:{}", at(2)), "is it a memcached?"),
        (R, format!("redis://127.0.0.1:{}", at(3)), ""),
        (R, format!("redis://127.0.0.1:{}", at(4)), ""),
        (M, format!("127.0.0.1:{}", at(5)), "at most"),
        (M, format!("127.0.0.1:{}", at(6)), ""),
    ];
    on_shard(async move |shard| {
        for (kind, url, want) in table {
            let options = RemoteOptions::new()
                .call_max(Duration::from_secs(3))
                .connect_max(Duration::from_millis(300));
            let client = Client::new(&shard, kind, &url, options);
            let start = Instant::now();
            let error = client.get("k").await.expect_err("a stranger");
            assert!(start.elapsed() < Duration::from_secs(2), "{url}: {:?}", start.elapsed());
            assert_eq!(error.status(), 503, "{url}: {error}");
            let text = error.to_string();
            assert!(text.to_lowercase().contains(&want.to_lowercase()), "{url}: {text}");
            assert!(!text.contains("wrong@") && !text.contains("right"), "{url}: {text}");
            client
                .until("it opens", async || {
                    let _ = client.get("k").await;
                    client.stats().breaker != BreakerState::Closed
                })
                .await;
            assert!(!client.remote.hears());
        }
    });
    drop(strangers);
}

#[test]
fn the_right_password_opens() {
    let store = Store::start_with(Kind::Redis, &["--requirepass", "right"]);
    let url = format!("redis://:right@127.0.0.1:{}/3", store.port);
    on_shard(async move |shard| {
        let client = Client::new(&shard, Kind::Redis, &url, patient());
        client.set("k", b"1").await.expect("stored");
        assert!(client.get("k").await.expect("an answer").is_some());
    });
}

/// Polls all of them until all have ended.
async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waits = false;
        for (future, value) in &mut futures {
            if value.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(it) => *value = Some(it),
                    std::task::Poll::Pending => waits = true,
                }
            }
        }
        if waits { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, value)| value).collect()
}

/// A network of some length before a server: it counts what comes in one piece.
fn distance(port: u16, pieces: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (mut near, _) = listener.accept().expect("a client");
        let mut far = TcpStream::connect(("127.0.0.1", port)).expect("the server");
        for socket in [&near, &far] {
            socket.set_nodelay(true).expect("no delay");
        }
        let (mut back, mut from) = (near.try_clone().expect("it"), far.try_clone().expect("it"));
        thread::spawn(move || std::io::copy(&mut from, &mut back));
        let mut piece = vec![0; 1 << 20];
        while let Ok(bytes @ 1..) = near.read(&mut piece) {
            pieces.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1)); // the way: what the test is about
            if far.write_all(&piece[..bytes]).is_err() {
                return;
            }
        }
        let _ = far.shutdown(std::net::Shutdown::Both);
    });
    near
}

#[test]
fn calls_do_not_wait_for_each_other() {
    const MANY: usize = 1_000;
    const FEW: usize = 50;
    for kind in BOTH {
        let store = Store::start(kind);
        let pieces = Arc::new(AtomicUsize::new(0));
        let port = distance(store.port, pieces.clone());
        let url = match kind {
            Kind::Redis => format!("redis://127.0.0.1:{port}"),
            Kind::Memcached => format!("127.0.0.1:{port}"),
        };
        on_shard(async move |shard| {
            let client = Client::new(&shard, kind, &url, patient());
            client.set("k", b"value").await.expect("stored");
            let mut ratios = Vec::new();
            for _ in 0..5 {
                let start = Instant::now();
                for _ in 0..FEW {
                    assert!(client.get("k").await.expect("an answer").is_some());
                }
                let alone = start.elapsed() / FEW as u32;
                let before = pieces.load(Ordering::Relaxed);
                let start = Instant::now();
                let found = all((0..MANY).map(|_| client.get("k")).collect()).await;
                let together = start.elapsed() / MANY as u32;
                assert!(found.iter().all(|it| matches!(it, Ok(Some(it)) if it == b"value")));
                let sent = pieces.load(Ordering::Relaxed) - before;
                assert!(sent < MANY / 10, "{kind:?}: {MANY} calls in {sent} pieces");
                ratios.push(alone.as_nanos() as f64 / together.as_nanos() as f64);
            }
            ratios.sort_by(f64::total_cmp);
            assert!(ratios[2] >= 5.0, "{kind:?}: only {ratios:?} times as fast together");
        });
    }
}

#[test]
fn more_calls_than_may_be_fail_at_once() {
    for kind in BOTH {
        let store = Store::start(kind);
        let url = store.url();
        on_shard(async move |shard| {
            let client = Client::new(&shard, kind, &url, patient().calls_max(10));
            client.connected().await;
            let done = all((0..25).map(|_| client.get("k")).collect()).await;
            let busy =
                |it: &&Result<_>| it.as_ref().is_err_and(|it| *cause(it) == RemoteError::Busy);
            assert_eq!(done.iter().filter(busy).count(), 15, "{kind:?}");
            assert_eq!(done.iter().filter(|it| it.is_ok()).count(), 10, "{kind:?}");
            let stats = client.stats();
            assert_eq!((stats.busy, stats.errors), (15, 0));
            assert_eq!(stats.breaker, BreakerState::Closed, "it is no fault of the server");
            assert!(client.get("k").await.is_ok(), "the places are free again");
        });
    }
}

#[test]
fn calls_that_are_dropped_leave_no_trace() {
    for kind in BOTH {
        let store = Store::start(kind);
        let url = store.url();
        on_shard(async move |shard| {
            let client = Client::new(&shard, kind, &url, patient().calls_max(4));
            client.connected().await;
            client.set("k", b"1").await.expect("stored");
            for round in 0..200 {
                let mut dropped = Box::pin(client.get("other"));
                let _ = all(vec![async {
                    std::future::poll_fn(|cx| {
                        let _ = dropped.as_mut().poll(cx);
                        std::task::Poll::Ready(())
                    })
                    .await;
                }])
                .await;
                drop(dropped);
                let found = client.get("k").await.expect("an answer");
                assert_eq!(found.as_deref(), Some(&b"1"[..]), "{kind:?} {round}: its own answer");
            }
        });
    }
}

#[test]
fn the_last_handle_closes_the_connection() {
    for kind in BOTH {
        let store = Store::start(kind);
        let (url, port) = (store.url(), store.port);
        on_shard(async move |shard| {
            let connections = || {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
                let (question, name): (&[u8], &str) = match kind {
                    Kind::Redis => (b"INFO clients\r\nQUIT\r\n", "connected_clients:"),
                    Kind::Memcached => (b"stats\r\nquit\r\n", "STAT curr_connections "),
                };
                socket.write_all(question).expect("sent");
                let mut text = String::new();
                socket.read_to_string(&mut text).expect("an answer");
                let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("{text}"));
                rest.split("\r\n").next().and_then(|it| it.parse::<u32>().ok()).expect("a number")
            };
            let before = connections();
            let client = Client::new(&shard, kind, &url, patient());
            client.connected().await;
            assert_eq!(connections(), before + 1, "{kind:?}");
            drop(client);
            let start = Instant::now();
            while connections() != before {
                assert!(start.elapsed() < Duration::from_secs(10), "{kind:?}: it stays");
                shard.sleep(Duration::from_millis(5)).await; // the server takes note
            }
        });
    }
}
