//! Caches over a store of all nodes: two servers in this process are two nodes, the store is real,
//! and is killed and frozen while they serve.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::testing::TestServer;
use soloist::{CacheKey, CacheOptions, CacheStats, Memcached, Redis};
use stores::{BOTH, Kind, Store};

mod stores;

const KEYS: usize = 12;

/// What is true, on all nodes, and how often it was loaded.
#[derive(Default)]
struct Truth {
    values: [AtomicU64; KEYS],
    loads: AtomicU64,
}

struct Node {
    server: TestServer,
    truth: Arc<Truth>,
}

fn key(at: usize) -> CacheKey {
    CacheKey::new("group").part(at % 3).part(at)
}

impl Node {
    fn start(store: &Store, truth: &Arc<Truth>) -> Node {
        let (kind, url, its) = (store.kind, store.url(), truth.clone());
        let server = TestServer::start(2, async move |shard: Shard| {
            let options = CacheOptions::new().entries_max(8).ttl(Duration::from_secs(60));
            let cache = shard.cache_with::<CacheKey, u64>("items", options);
            let cache = match kind {
                Kind::Redis => cache.over(Redis::connect(&shard, &url)?),
                Kind::Memcached => cache.over(Memcached::connect(&shard, &url)?),
            };
            let (gets, words) = (cache.clone(), cache.clone());
            Ok(App::new(())
                .get("/get/:at", async move |cx| {
                    let at: usize = cx.param("at")?;
                    let tag = format!("tag{}", at % 4);
                    let load = async || {
                        let value = its.values[at].load(SeqCst);
                        its.loads.fetch_add(1, SeqCst);
                        Ok(value)
                    };
                    cx.json(&gets.get_or_tagged(key(at), &[&tag], load).await?)
                })
                .get("/say/:what/:at", async move |cx| {
                    let (at, what): (usize, &str) = (cx.param("at")?, cx.param("what")?);
                    let said = match what {
                        "key" => words.remove(key(at)),
                        "tag" => words.invalidate_tag(&format!("tag{}", at % 4)),
                        "prefix" => words.invalidate(&format!("group:{}:*", at % 3)),
                        "pattern" => words.invalidate(&format!("*:{at}")),
                        _ => words.clear(),
                    };
                    if cx.param::<&str>("what")? != "quick" {
                        said.everywhere().await?;
                    }
                    cx.empty()
                })
                .get("/write/:at/:value", async move |cx| {
                    cache.write(key(cx.param("at")?), cx.param("value")?).await?;
                    cx.empty()
                })
                .get("/stats", async |cx| {
                    let cache = cx.shard().cache::<CacheKey, u64>("items");
                    let CacheStats { hits_remote, remote_errors, .. } =
                        cache.stats_everywhere().await?;
                    cx.json(&(hits_remote, remote_errors))
                }))
        });
        Node { server, truth: truth.clone() }
    }

    fn get(&self, at: usize) -> u64 {
        self.server.get(&format!("/get/{at}")).expect(200).json()
    }

    fn say(&self, what: &str, at: usize) {
        self.server.get(&format!("/say/{what}/{at}")).expect(204);
    }

    /// The value that is true now, and is old once this returned.
    fn change(&self, at: usize) {
        self.truth.values[at].fetch_add(1, SeqCst);
    }

    fn hits_remote(&self) -> u64 {
        self.server.get("/stats").expect(200).json::<(u64, u64)>().0
    }
}

/// Waits for another process.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::sleep(Duration::from_millis(2)); // the store has its say
    }
}

/// Whether the store has a key.
fn has(store: &Store, key: &str) -> bool {
    let mut socket = TcpStream::connect(("127.0.0.1", store.port)).expect("a connection");
    let command = match store.kind {
        Kind::Redis => format!("EXISTS soloist:{key}\r\n"),
        Kind::Memcached => format!("mg soloist:{key}\r\n"),
    };
    socket.write_all(command.as_bytes()).expect("sent");
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).expect("an answer");
    line.starts_with(":1") || line.starts_with("HD")
}

/// Until the nodes ask it: what is loaded is found there.
fn warm(store: &Store, node: &Node) {
    until("it is asked", || {
        node.say("key", 0);
        node.get(0);
        has(store, "items/v/group:0:0")
    });
}

#[test]
fn what_one_node_has_loaded_the_others_find() {
    for kind in BOTH {
        let (store, truth) = (Store::start(kind), Arc::<Truth>::default());
        let nodes = [Node::start(&store, &truth), Node::start(&store, &truth)];
        nodes.iter().for_each(|it| warm(&store, it));
        let before = truth.loads.load(SeqCst);
        for at in 1..KEYS {
            truth.values[at].store(at as u64 * 7, SeqCst);
            assert_eq!(nodes[0].get(at), at as u64 * 7, "{kind:?}");
            until("it is stored", || has(&store, &format!("items/v/{}", key(at))));
            assert_eq!(nodes[1].get(at), at as u64 * 7, "{kind:?}");
        }
        let loads = truth.loads.load(SeqCst) - before;
        assert_eq!(loads, KEYS as u64 - 1, "{kind:?}");
        assert!(nodes[1].hits_remote() >= loads, "{kind:?}");
    }
}

#[test]
fn each_word_of_one_node_is_heard_by_the_others() {
    let (store, truth) = (Store::start(Kind::Redis), Arc::<Truth>::default());
    let nodes = [Node::start(&store, &truth), Node::start(&store, &truth)];
    nodes.iter().for_each(|it| warm(&store, it));
    for what in ["key", "tag", "prefix", "pattern", "all"] {
        for round in 0..5 {
            let at = 3 + round % (KEYS - 3);
            // On all shards of both: more reads than there are shards.
            (0..8).for_each(|_| assert_eq!(nodes[0].get(at), nodes[1].get(at), "{what}"));
            nodes[0].change(at);
            nodes[0].say(what, at);
            let now = truth.values[at].load(SeqCst);
            assert_eq!(nodes[0].get(at), now, "{what}: at once where it was said");
            until("it is heard", || nodes[1].get(at) == now);
            (0..8).for_each(|_| assert_eq!(nodes[1].get(at), now, "{what}: and not again the old"));
        }
    }
    let loads = truth.loads.load(SeqCst);
    nodes[0].server.get("/write/4/1000").expect(204);
    until("it is heard", || nodes[1].get(4) == 1000);
    assert_eq!((nodes[0].get(4), truth.loads.load(SeqCst)), (1000, loads), "nobody has loaded it");
}

/// A store that tells of nothing: what is far is right, what is near lives until its time is over.
#[test]
fn what_is_far_is_right_where_nothing_is_heard() {
    let (store, truth) = (Store::start(Kind::Memcached), Arc::<Truth>::default());
    let node = Node::start(&store, &truth);
    warm(&store, &node);
    for what in ["key", "tag", "prefix", "pattern", "all"] {
        node.get(5);
        until("it is stored", || has(&store, "items/v/group:2:5"));
        node.change(5);
        node.say(what, 5);
        let other = Node::start(&store, &truth); // with nothing near
        assert_eq!(other.get(5), truth.values[5].load(SeqCst), "{what}");
    }
}

/// Kills, freezes and restarts the store while both nodes serve: no request fails, no read on a
/// node is older than a word that was said there, and in the end both agree with what is true.
#[test]
fn a_store_that_dies_and_comes_back_costs_nothing_but_time() {
    for kind in BOTH {
        let (mut store, truth) = (Store::start(kind), Arc::<Truth>::default());
        let nodes = [Node::start(&store, &truth), Node::start(&store, &truth)].map(Arc::new);
        nodes.iter().for_each(|it| warm(&store, it));
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            // Each node changes keys of its own, and knows what it is owed of them.
            let (node, over) = (node.clone(), over.clone());
            threads.push(thread::spawn(move || {
                let (mut seed, mut reads) = (7 + number as u64, 0);
                let mut owed = [0; KEYS];
                while !over.load(SeqCst) {
                    let at = random(&mut seed) as usize % KEYS;
                    if at % 2 == number && random(&mut seed).is_multiple_of(8) {
                        node.change(at);
                        let now = node.truth.values[at].load(SeqCst);
                        // Without waiting for the store, which may be dead.
                        node.say("quick", at);
                        owed[at] = now;
                    } else {
                        let value = node.get(at);
                        assert!(value >= owed[at], "{value} of {at} after {}", owed[at]);
                        reads += 1;
                    }
                }
                reads
            }));
        }
        let pause = |ms| thread::sleep(Duration::from_millis(ms)); // so that they serve meanwhile
        pause(300);
        store.end();
        pause(500);
        store.start_again();
        pause(700);
        store.signal("STOP");
        pause(700);
        store.signal("CONT");
        pause(700);
        store.restart();
        pause(700);
        over.store(true, SeqCst);
        let reads: Vec<i32> =
            threads.into_iter().map(|it| it.join().expect("no request fails")).collect();
        assert!(reads.iter().all(|it| *it > 100), "{reads:?}");
        if kind == Kind::Memcached {
            continue; // nothing is heard there
        }
        for (at, value) in truth.values.iter().enumerate() {
            let now = value.load(SeqCst);
            nodes.iter().for_each(|it| until("both agree", || it.get(at) == now));
        }
        let before = nodes[1].hits_remote();
        until("it is asked again", || {
            (0..KEYS).for_each(|at| _ = nodes[1].get(at));
            nodes[1].hits_remote() > before
        });
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
