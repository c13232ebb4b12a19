//! Rooms of two nodes, each a process with two shards, and a broker between them that is killed,
//! frozen and fed with junk.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use patient::Patient;
use soloist::prelude::*;
use soloist::testing::TestClient;
use soloist::{Message, WsOptions};
use tungstenite::WebSocket;

#[path = "client/patient.rs"]
mod patient;
#[path = "stores/port.rs"]
mod port;

/// In a process that is a node: the URL of its broker.
const NODE: &str = "SOLOIST_TEST_NODE";
const SHARDS: usize = 2;
/// What a broker may take to answer: whatever takes less has not waited for it.
const ANSWER_MS: u64 = 2_000;

async fn app(shard: Shard) -> Result<App<()>> {
    if let Ok(url) = std::env::var(NODE) {
        shard.join_cluster("test", &url)?;
    }
    let id = shard.id();
    let roomy = WsOptions::new().outbox_max(100_000, 64 << 20);
    Ok(App::new(())
        .get("/stats", async |cx| cx.json(&cx.shard().cluster_stats()))
        .get("/sse/:room", async |cx| cx.sse(cx.param("room")?).await)
        .get("/publish/:room/:from/:to", async |cx| {
            for number in cx.param::<u64>("from")?..cx.param("to")? {
                cx.publish(cx.param("room")?, format!("http {number}"));
            }
            cx.empty()
        })
        .get("/fill/:count/:bytes", async |cx| {
            for _ in 0..cx.param("count")? {
                cx.publish("nobody", vec![0; cx.param("bytes")?]);
            }
            cx.empty()
        })
        .ws_with("/room/:room", roomy, async move |cx, ws| {
            let room: &str = cx.param("room")?;
            ws.join(room)?;
            ws.send(format!("shard {id}")).await?;
            while let Some(message) = ws.recv().await? {
                match message.text().and_then(|it| it.strip_prefix("others ")) {
                    Some(text) => ws.publish_others(room, text),
                    None => cx.publish(room, message),
                }
            }
            Ok(())
        }))
}

/// Not a test: what a process that is a node runs.
#[test]
fn node() {
    if std::env::var(NODE).is_err() {
        return;
    }
    let server = Server::bind("127.0.0.1:0").unpinned(SHARDS).start(app).expect("a server");
    println!("\nport {}", server.addrs()[0].port());
    let _ = io::stdin().read(&mut [0]); // until the test ends
    server.stop_now();
    server.join().expect("an end");
}

/// Every socket of every node hears what any shard of a node publishes: once, and in its order.
#[test]
fn all_hear_all_once_and_in_order() {
    for kind in KINDS {
        let Some(stage) = Stage::set(kind) else { continue };
        let [one, two] = &stage.nodes;
        let (mut ones, mut twos) = (one.sockets("all"), two.sockets("all"));
        for (shard, socket) in ones.iter_mut().enumerate() {
            for number in 0..300 {
                socket.write(format!("shard{shard} {number}").into()).expect("written");
            }
            socket.flush().expect("sent");
        }
        for socket in ones.iter_mut().chain(&mut twos) {
            let mut next: BTreeMap<String, u64> = BTreeMap::new();
            for _ in 0..600 {
                let text = hear(socket);
                let (from, number) = text.split_once(' ').expect("two words");
                let next = next.entry(from.to_owned()).or_default();
                assert_eq!(number, next.to_string(), "of {from}");
                *next += 1;
            }
            assert_eq!(next.len(), SHARDS);
        }
        // Back, bytes as bytes, to all; and to all but one.
        twos[1].send(vec![0xff, 0].into()).expect("sent");
        for socket in ones.iter_mut().chain(&mut twos) {
            let message = socket.read().expect("a message");
            assert_eq!((message.is_binary(), &*message.into_data()), (true, &[0xff, 0][..]));
        }
        twos[0].send("others but me".into()).expect("sent");
        for socket in ones.iter_mut().chain(&mut twos[1..]) {
            assert_eq!(hear(socket), "but me");
        }
        // Nothing came twice, and nothing to whom it was not for: this is the next one for all.
        one.get("/publish/all/0/1");
        ones.iter_mut().chain(&mut twos).for_each(|socket| assert_eq!(hear(socket), "http 0"));
        for (node, sent, received) in [(one, 601, 2), (two, 2, 601)] {
            node.wait("its own to come back", |it| it("echoes") == sent);
            let wanted =
                [("sent", sent), ("received", received), ("waiting", 0), ("reconnects", 0)];
            let none = ["lost", "duplicates", "refused", "malformed"].map(|name| (name, 0));
            for (name, want) in wanted.into_iter().chain(none) {
                assert_eq!(node.stat(name), want, "{name}");
            }
        }
    }
}

/// An event has one id on all nodes: a client may come back to another one.
#[test]
fn events_have_one_id_everywhere() {
    for kind in KINDS {
        let Some(stage) = Stage::set(kind) else { continue };
        // Heads have come: both are in the room.
        let mut streams = stage.nodes.each_ref().map(|node| {
            let mut stream = BufReader::new(node.ask("/sse/news"));
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).expect("a line of the head");
            }
            stream
        });
        stage.nodes[0].get("/publish/news/7/8");
        let ids = streams.each_mut().map(|stream| {
            let mut lines = stream.lines().map(|it| it.expect("a line"));
            let id = lines.find(|it| it.starts_with("id:")).expect("an id");
            (id, lines.find(|it| it.starts_with("data:")))
        });
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[0].1.as_deref(), Some("data: http 7"));
    }
}

/// A broker that dies and comes back: both nodes find it again; what could not be sent waits; what
/// the other missed meanwhile it counts.
#[test]
fn a_broker_is_killed_and_comes_back() {
    for kind in KINDS {
        let Some(mut stage) = Stage::set(kind) else { continue };
        let [one, two] = &stage.nodes;
        let (mut ones, mut twos) = (one.sockets("all"), two.sockets("all"));
        one.get("/publish/all/0/100");
        for socket in ones.iter_mut().chain(&mut twos) {
            (0..100).for_each(|number| assert_eq!(hear(socket), format!("http {number}")));
        }
        one.wait("all to be sent", |it| it("sent") == 100);
        stage.broker.kill();
        stage.nodes.iter().for_each(|node| node.wait("the loss", |it| it("connected") == 0));
        one.get("/publish/all/100/200");
        for socket in &mut ones {
            (100..200).for_each(|number| assert_eq!(hear(socket), format!("http {number}")));
        }
        stage.broker.start();
        stage.nodes.iter().for_each(|node| node.wait("the broker", |it| it("connected") == 1));
        one.wait("the rest to be sent", |it| it("waiting") == 0 && it("sent") == 200);
        one.get("/publish/all/200/201");
        for socket in &mut twos {
            let mut heard = vec![99];
            while heard.last() != Some(&200) {
                heard.push(hear(socket).trim_start_matches("http ").parse().expect("a number"));
            }
            assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
            // What it missed, because its subscription was there later, it has counted.
            let (lost, heard) = (two.stat("lost"), heard.len() as u64 - 1);
            assert_eq!((lost + heard, two.stat("received")), (101, 100 + heard));
        }
        for node in &stage.nodes {
            assert_eq!(["refused", "reconnects", "malformed"].map(|it| node.stat(it)), [0, 1, 0]);
        }
    }
}

/// A broker that hangs: members here hear at once, what waits is bounded, the oldest is thrown out.
#[test]
fn a_broker_hangs() {
    for kind in KINDS {
        let Some(stage) = Stage::set(kind) else { continue };
        let [one, two] = &stage.nodes;
        let (mut ones, mut twos) = (one.sockets("all"), two.sockets("all"));
        one.get("/publish/all/0/1");
        ones.iter_mut().chain(&mut twos).for_each(|socket| assert_eq!(hear(socket), "http 0"));
        stage.broker.signal("STOP");
        let mut published = 1;
        // In pieces that a shard's queue takes.
        for _ in 0..30 {
            one.get("/fill/500/100");
            let start = Instant::now();
            one.get("/publish/all/1/2");
            ones.iter_mut().for_each(|socket| assert_eq!(hear(socket), "http 1"));
            assert!(start.elapsed() < Duration::from_millis(ANSWER_MS), "it waits for the broker");
            published += 501;
            assert!(one.stat("waiting") <= 8_192);
        }
        for _ in 0..30 {
            one.get("/fill/1/900000");
            published += 1;
        }
        one.get("/fill/1/1000001"); // more than a broker takes
        published += 1;
        one.wait("it to be missed", |it| it("connected") == 0);
        assert!(one.stat("waiting") <= 8_192 && one.stat("waiting") * 900_000 <= 18 << 20);
        let refused = one.stat("refused");
        assert!(refused > 15_000 - 8_192, "{refused} refused");
        stage.broker.signal("CONT");
        stage.nodes.iter().for_each(|node| node.wait("the broker", |it| it("connected") == 1));
        one.wait("the rest to be sent", |it| it("waiting") == 0);
        one.get("/publish/all/2/3");
        published += 1;
        for socket in &mut twos {
            let heard = std::iter::from_fn(|| Some(hear(socket))).take_while(|it| it != "http 2");
            assert!(heard.count() <= 30);
        }
        one.wait("all to be sent", |it| it("sent") + refused == published);
        let known = ["received", "lost"].map(|name| two.stat(name));
        assert_eq!(known.iter().sum::<u64>(), published, "received and lost: {known:?}");
    }
}

/// A server starts without its broker, and joins when it comes. What is no publication is dropped.
#[test]
fn a_broker_comes_late_and_brings_junk() {
    for kind in KINDS {
        let Some(mut broker) = Broker::find(kind) else { continue };
        let nodes = [Node::start(&broker.url()), Node::start(&broker.url())];
        let [one, two] = &nodes;
        let (mut ones, mut twos) = (one.sockets("all"), two.sockets("all"));
        one.get("/publish/nobody/0/1"); // waits
        one.get("/publish/all/0/1");
        assert_eq!(hear(&mut ones[0]), "http 0");
        assert_eq!((one.stat("connected"), one.stat("waiting")), (0, 2));
        broker.start();
        nodes.iter().for_each(|node| node.wait("the broker", |it| it("connected") == 1));
        let junk = ["x".to_owned(), "\x01".to_owned(), "\x02".to_owned() + &"y".repeat(99)];
        let mut raw = TcpStream::connect(("127.0.0.1", broker.port)).expect("the broker");
        for letters in &junk {
            raw.write_all(broker.command(letters).as_bytes()).expect("sent");
        }
        for node in &nodes {
            node.wait("the junk", |it| it("malformed") == junk.len() as u64);
        }
        one.get("/publish/all/1/2");
        while hear(&mut twos[0]) != "http 1" {}
        assert_eq!(two.stat("lost"), 0);
    }
}

/// Whatever a broker says, the server goes on, and tries again.
#[test]
fn a_broker_talks_nonsense() {
    let deep = b"*1\r\n".repeat(10_000);
    let wants_tls = b"INFO {\"server_id\":\"a\",\"max_payload\":9,\"tls_required\":true}\r\n";
    let cases: &[(&str, &[u8])] = &[
        ("redis", b""),
        ("redis", b"-ERR unknown command 'HELLO'\r\n"),
        ("redis", b"\0\xff\r\n"),
        ("redis", b"*2147483647\r\n"),
        ("redis", b"$99999999999999\r\n"),
        ("redis", b"%3\r\n+a\r\n"),
        ("redis", &deep),
        ("nats", b""),
        ("nats", b"-ERR 'no'\r\n"),
        ("nats", b"INFO {\r\n"),
        ("nats", b"MSG a 1 99999999999999999999\r\n"),
        ("nats", wants_tls),
    ];
    for (scheme, says) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let addr = listener.local_addr().expect("its address");
        let node = Node::start(&format!("{scheme}://{addr}"));
        for _ in 0..3 {
            wait("another attempt", || match listener.accept() {
                Ok((mut client, _)) => client.write_all(says).is_ok(),
                Err(_) => false,
            });
        }
        let says = String::from_utf8_lossy(&says[..says.len().min(40)]);
        assert_eq!(node.stat("connected"), 0, "{scheme} {says:?}");
    }
}

/// What cannot be meant fails the start, and keeps passwords to itself.
#[test]
fn mistakes() {
    let long = "n".repeat(65);
    // (name, URL, part of the error; empty where it is none)
    let cases = [
        ("chat", "redis://127.0.0.1:6379", ""),
        ("a-b_9", "redis://:secret@example.com/2", ""),
        ("", "redis://127.0.0.1", "a name is"),
        ("two words", "redis://127.0.0.1", "a name is"),
        (&*long, "redis://127.0.0.1", "a name is"),
        ("chat", "nats://127.0.0.1:4222", ""),
        ("chat", "nats://:secret@127.0.0.1:port", "nats://HOST:PORT"),
        ("chat", "redis://:secret@127.0.0.1:port", "redis://HOST:PORT"),
        ("chat", "127.0.0.1:6379", "redis://HOST:PORT"),
        ("chat", "amqp://:secret@127.0.0.1", "redis://HOST:PORT"),
    ];
    let app = async |_| Ok(App::new(()).get("/", async |cx| cx.empty()));
    TestClient::run(app, async |client| {
        for (name, url, want) in cases {
            let error = client.shard().join_cluster(name, url).err().map(|it| it.to_string());
            let error = error.unwrap_or_default();
            assert!(error.contains(want) && error.is_empty() == want.is_empty(), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(client.shard().cluster_stats(), Default::default());
        client.shard().publish("room", Message::from("no broker"));
    });
}

/// Two nodes and what lies between them. One test at a time: two cores are not many.
struct Stage {
    nodes: [Node; 2],
    broker: Broker,
}

impl Stage {
    /// None, with a line that says so, where there is no broker to test with.
    fn set(kind: Kind) -> Option<Stage> {
        let mut broker = Broker::find(kind)?;
        broker.start();
        let nodes = [Node::start(&broker.url()), Node::start(&broker.url())];
        nodes.iter().for_each(|node| node.wait("the broker", |it| it("connected") == 1));
        Some(Stage { nodes, broker })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Redis,
    Nats,
}

const KINDS: [Kind; 2] = [Kind::Redis, Kind::Nats];

/// A server of our own.
struct Broker {
    kind: Kind,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    _alone: MutexGuard<'static, ()>,
}

impl Broker {
    fn find(kind: Kind) -> Option<Broker> {
        static ALONE: Mutex<()> = Mutex::new(());
        let name = match kind {
            Kind::Redis => "redis-server",
            Kind::Nats => "nats-server",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let Some(program) = places.map(|it| it.join(name)).find(|it| it.is_file()) else {
            println!("no {name}: nothing is tested with it (tests/run installs it)");
            return None;
        };
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let port = port::free();
        let dir =
            std::env::temp_dir().join(format!("soloist-broker-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Some(Broker { kind, program, dir, port, child: None, _alone: alone })
    }

    /// Starts it, at the same port each time.
    fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.dir).args(["--port", &self.port.to_string()]);
        match self.kind {
            Kind::Redis => command.args(["--bind", "127.0.0.1", "--save", ""]),
            Kind::Nats => command.args(["--addr", "127.0.0.1"]),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the broker starts"));
        wait("the broker to listen", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn url(&self) -> String {
        match self.kind {
            Kind::Redis => format!("redis://127.0.0.1:{}", self.port),
            Kind::Nats => format!("nats://127.0.0.1:{}", self.port),
        }
    }

    /// What publishes these letters to the cluster's nodes.
    fn command(&self, letters: &str) -> String {
        match self.kind {
            Kind::Redis => format!("PUBLISH soloist:rooms:test {letters}\r\n"),
            Kind::Nats => format!("PUB soloist.rooms.test {}\r\n{letters}\r\n", letters.len()),
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // SIGKILL
            let _ = child.wait();
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id();
        let done = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status();
        assert!(done.expect("kill runs").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A server in a process of its own.
struct Node {
    child: Child,
    port: u16,
}

impl Node {
    fn start(url: &str) -> Node {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["node", "--exact", "--nocapture", "--test-threads=1"])
            .env(NODE, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a node");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port =
            lines.map_while(io::Result::ok).find_map(|it| it.strip_prefix("port ")?.parse().ok());
        Node { child, port: port.expect("a port") }
    }

    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    }

    /// The body of a good answer.
    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        self.ask(path).read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
        answer.split_once("\r\n\r\n").map(|it| it.1.to_owned()).unwrap_or_default()
    }

    fn stat(&self, name: &str) -> u64 {
        stat(&self.get("/stats"), name)
    }

    /// Until its numbers are so.
    #[track_caller]
    fn wait(&self, what: &str, are_so: impl Fn(&dyn Fn(&str) -> u64) -> bool) {
        wait(what, || {
            let all = self.get("/stats");
            are_so(&|name| stat(&all, name))
        });
    }

    /// Sockets in a room: one on each shard, by its number.
    fn sockets(&self, room: &str) -> Vec<Socket> {
        let mut found = BTreeMap::new();
        let mut others = Vec::new();
        while found.len() < SHARDS {
            // The kernel chooses the shard of a connection; those that are too many end afterwards,
            // so that they do not make it choose the same again.
            let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            let url = format!("ws://127.0.0.1:{}/room/{room}", self.port);
            let (mut socket, _) = tungstenite::client(url, Patient(stream)).expect("a handshake");
            let shard = hear(&mut socket);
            others.extend(found.insert(shard, socket));
            assert!(others.len() < 200, "never on the other shard");
        }
        found.into_values().collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Socket = WebSocket<Patient>;

const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
fn hear(socket: &mut Socket) -> String {
    socket.read().expect("a message").to_string()
}

/// A number of that name; 1 for true.
fn stat(all: &str, name: &str) -> u64 {
    let all: serde_json::Value = serde_json::from_str(all).expect("JSON");
    let value = &all[name];
    value.as_bool().map(u64::from).or(value.as_u64()).expect("a number")
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        sleep(Duration::from_millis(10)); // another process: there is nothing to wait on
    }
}
