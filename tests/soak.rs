//! A ledger under load, while its database is killed, frozen and cut off at random and its clients
//! go away: for a few seconds, or as many as `SOAK_SECONDS` says. `tests/soak/run` is the long one.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

#[path = "stores/ledger.rs"]
mod ledger;
#[path = "stores/postgres.rs"]
mod postgres;
#[path = "stores/proxy.rs"]
mod proxy;

use ledger::{
    Habits, Load, Random, all_is_accounted_for, is_whole, number, options, serve, stats, until,
};
use postgres::Postgres;
use proxy::Proxy;

const SECONDS: u64 = 12;
const CLIENTS: u64 = 12;
/// What the allocators of shards and the database's driver may keep that was once needed.
const MEMORY_GROWTH_KIB_MAX: u64 = 16 * 1024;
/// What the test itself remembers of a number that was written.
const NUMBER_BYTES: u64 = 24;
/// The last of those that were closed may not be gone yet.
const FILES_GROWTH_MAX: usize = 4;

#[test]
fn no_committed_write_is_lost_whatever_fails() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|it| it.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let store = Postgres::start(40);
    let proxy = Proxy::before(store.port());
    let url = format!("postgres://soloist@127.0.0.1:{}/soloist", proxy.port());
    let server = serve(2, options(&url));
    // A first load, so that what is made once is there.
    let habits = Habits { leave: true, mark: true };
    let load = Load::start(server.addr(), CLIENTS, habits);
    until("writes", Duration::from_secs(10), || load.written() > 200);
    let mut written = load.end().written;
    all_is_accounted_for(&server, &store, "before");
    let before = Use::now();

    let (start, mut random, mut counts) =
        (Instant::now(), Random(length.as_secs()), [0; FAULTS.len()]);
    let load = Load::start(server.addr(), CLIENTS, habits);
    let (mut slowest, mut told) = (Duration::ZERO, Duration::ZERO);
    while start.elapsed() < length {
        // One of those that came least.
        let least = *counts.iter().min().expect("faults");
        let rare: Vec<usize> = (0..FAULTS.len()).filter(|at| counts[*at] == least).collect();
        let at = rare[random.below(rare.len() as u64) as usize];
        let (name, begin, end) = FAULTS[at];
        counts[at] += 1;
        begin(&store, &proxy);
        thread::sleep(Duration::from_millis(random.below(1_500))); // as long as it lasts
        end(&store, &proxy);
        let (so_far, since) = (load.written(), Instant::now());
        until(&format!("{name}: writes go on"), Duration::from_secs(15), || {
            load.written() > so_far + 20
        });
        slowest = slowest.max(since.elapsed());
        thread::sleep(Duration::from_millis(random.below(500))); // all is well for a while
        if start.elapsed() > told + Duration::from_secs(30) {
            told = start.elapsed();
            println!("{told:.0?}: {} written, {:?}", load.written(), Use::now());
        }
    }
    let mut seen = load.end();
    println!(
        "{} written, {} refused, {} not waited for, {:?} for an answer at most",
        seen.written.len(),
        seen.refused,
        seen.left,
        seen.took_max,
    );
    for ((name, ..), count) in FAULTS.iter().zip(counts) {
        println!("{count} times {name}");
    }
    println!("20 writes within {slowest:.0?} of each fault's end");
    written.append(&mut seen.written);
    all_is_accounted_for(&server, &store, "the end");
    is_whole(&store, &written, "the end");
    let stats = stats(&server);
    println!(
        "{} connections made, {} not made, closed: {}, {} queries stopped, {} leases moved",
        number(&stats, "opened"),
        number(&stats, "connect_errors"),
        stats["closed"],
        number(&stats, "stopped"),
        number(&stats, "lease_moves"),
    );
    let mut after = Use::now();
    println!("{before:?} before, {after:?} after");
    let room_kib = MEMORY_GROWTH_KIB_MAX + written.len() as u64 * NUMBER_BYTES / 1024;
    assert!(after.memory_kib <= before.memory_kib + room_kib, "{before:?}, {after:?}");
    until(&format!("files are closed: {before:?}, {after:?}"), Duration::from_secs(5), || {
        after = Use::now();
        after.files <= before.files + FILES_GROWTH_MAX && after.threads <= before.threads
    });
}

/// What it is called, what brings it about, and what ends it.
type Fault = (&'static str, fn(&Postgres, &Proxy), fn(&Postgres, &Proxy));

const FAULTS: [Fault; 8] = [
    ("killed and started again", |store, _| store.kill(), |store, _| store.restart()),
    ("frozen", |store, _| store.freeze(), |store, _| store.thaw()),
    ("all connections ended by the server", |store, _| terminate(store, 100), |_, _| {}),
    ("one connection ended by the server", |store, _| terminate(store, 1), |_, _| {}),
    ("connections reset", |_, proxy| proxy.cut(), |_, _| {}),
    ("packets eaten", |_, proxy| proxy.freeze(), |_, proxy| proxy.pass()),
    ("refused", |_, proxy| proxy.refuse(), |_, proxy| proxy.pass()),
    ("slow", |_, proxy| proxy.delay_ms(20), |_, proxy| proxy.pass()),
];

fn terminate(store: &Postgres, count: u32) {
    store.psql(&format!(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity \
         WHERE application_name = 'soloist' ORDER BY random() LIMIT {count}) AS chosen"
    ));
}

/// What this process, the server among it, holds.
#[derive(Clone, Copy, Debug)]
struct Use {
    memory_kib: u64,
    files: usize,
    threads: u64,
}

impl Use {
    fn now() -> Use {
        let status = fs::read_to_string("/proc/self/status").expect("/proc");
        let field = |name: &str| {
            let line = status.lines().find(|it| it.starts_with(name)).expect("a line");
            line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number")
        };
        let files = fs::read_dir("/proc/self/fd").expect("/proc").count();
        Use { memory_kib: field("VmRSS:"), files, threads: field("Threads:") }
    }
}
