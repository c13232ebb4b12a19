//! Hit ratios, time of a hit and memory of caches: ours, quick_cache, moka, mini-moka, on traces of
//! a seeded generator.
//!
//! `cargo run --release -p soloist-peers --features caches --bin cache [PLOT.svg | costs]`

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use soloist::prelude::*;
use soloist::testing::TestClient;
use soloist::{Cache, CacheOptions};

mod plot;

/// The system's allocator, and what it has given out.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, with a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

trait Peer {
    fn with_entries(count: usize) -> Self;
    fn hit(&mut self, key: u64) -> bool;
    fn put(&mut self, key: u64);
    /// What does not end by being dropped.
    fn forget(&mut self) {}
}

thread_local! {
    static SHARD: RefCell<Option<Shard>> = const { RefCell::new(None) };
}

impl Peer for Cache<u64, u64> {
    fn with_entries(count: usize) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("cache {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let options = CacheOptions::new().entries_max(count);
        SHARD.with_borrow(|it| it.as_ref().expect("a shard").cache_with(name.leak(), options))
    }
    fn hit(&mut self, key: u64) -> bool {
        black_box(self.get(&key)).is_some()
    }
    fn put(&mut self, key: u64) {
        self.insert(key, key);
    }
    fn forget(&mut self) {
        self.clear();
    }
}

impl Peer for quick_cache::unsync::Cache<u64, u64> {
    fn with_entries(count: usize) -> Self {
        Self::new(count)
    }
    fn hit(&mut self, key: u64) -> bool {
        black_box(self.get(&key)).is_some()
    }
    fn put(&mut self, key: u64) {
        self.insert(key, key);
    }
}

impl Peer for moka::sync::Cache<u64, u64> {
    fn with_entries(count: usize) -> Self {
        Self::new(count as u64)
    }
    fn hit(&mut self, key: u64) -> bool {
        black_box(self.get(&key)).is_some()
    }
    fn put(&mut self, key: u64) {
        self.insert(key, key);
    }
}

impl Peer for mini_moka::unsync::Cache<u64, u64> {
    fn with_entries(count: usize) -> Self {
        Self::new(count as u64)
    }
    fn hit(&mut self, key: u64) -> bool {
        black_box(self.get(&key)).is_some()
    }
    fn put(&mut self, key: u64) {
        self.insert(key, key);
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below_one(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Keys by Zipf's law, in no order; with `scans`, now and then a row of keys that nobody asks for
/// again.
fn trace(keys: usize, skew: f64, count: usize, scans: bool) -> Vec<u64> {
    let mut random = Random(77);
    let mut sums = Vec::with_capacity(keys);
    let mut sum = 0.0;
    for rank in 1..=keys {
        sum += 1.0 / (rank as f64).powf(skew);
        sums.push(sum);
    }
    let mut names: Vec<u64> = (0..keys as u64).collect();
    for at in (1..keys).rev() {
        names.swap(at, (random.next() % (at as u64 + 1)) as usize);
    }
    let (mut trace, mut fresh) = (Vec::with_capacity(count), keys as u64);
    while trace.len() < count {
        if scans && random.next().is_multiple_of(20_000) {
            trace.extend((0..keys as u64 / 20).map(|at| fresh + at));
            fresh += keys as u64 / 20;
        }
        let wanted = random.below_one() * sum;
        trace.push(names[sums.partition_point(|it| *it < wanted).min(keys - 1)]);
    }
    trace
}

fn hit_ratio<P: Peer>(trace: &[u64], entries: usize) -> f64 {
    let (mut peer, mut hits) = (P::with_entries(entries), 0);
    for key in trace {
        match peer.hit(*key) {
            true => hits += 1,
            false => peer.put(*key),
        }
    }
    peer.forget();
    f64::from(hits) * 100.0 / trace.len() as f64
}

/// One that holds all keys, and its bytes an entry beyond key and value.
fn full<P: Peer>(entries: usize) -> (P, f64) {
    let before = HELD.load(Ordering::Relaxed);
    let mut peer = P::with_entries(entries);
    (0..entries as u64).for_each(|key| peer.put(key));
    let bytes = (HELD.load(Ordering::Relaxed) - before) as f64 / entries as f64;
    (peer, bytes - 16.0)
}

/// Nanoseconds of a hit.
fn round<P: Peer>(peer: &mut P, trace: &[u64]) -> f64 {
    let since = Instant::now();
    trace.iter().for_each(|key| _ = peer.hit(*key));
    since.elapsed().as_nanos() as f64 / trace.len() as f64
}

const NAMES: [&str; 4] = ["soloist", "quick_cache", "moka", "mini-moka"];

type Ours = Cache<u64, u64>;
type Quick = quick_cache::unsync::Cache<u64, u64>;
type Moka = moka::sync::Cache<u64, u64>;
type MiniMoka = mini_moka::unsync::Cache<u64, u64>;

fn main() {
    TestClient::run(
        async |_| Ok(App::new(())),
        async |client| {
            SHARD.set(Some(client.shard()));
            let only = std::env::args().nth(1).unwrap_or_default();
            if only != "costs" {
                ratios(&only);
            }
            costs();
            tags();
            SHARD.set(None);
        },
    );
}

fn ratios(plot: &str) {
    const KEYS: usize = 200_000;
    let mut panels = Vec::new();
    println!("| trace | entries, % of keys | soloist | quick_cache | moka | mini-moka |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for scans in [false, true] {
        for skew in [0.7, 0.9, 1.0] {
            let trace = trace(KEYS, skew, 1_500_000, scans);
            let name = format!("Zipf {skew:.1}{}", if scans { ", scans" } else { "" });
            let rows = [0.001, 0.01, 0.1].map(|share| {
                let entries = (KEYS as f64 * share) as usize;
                let row = [
                    hit_ratio::<Ours>(&trace, entries),
                    hit_ratio::<Quick>(&trace, entries),
                    hit_ratio::<Moka>(&trace, entries),
                    hit_ratio::<MiniMoka>(&trace, entries),
                ];
                let cells: Vec<String> = row.iter().map(|it| format!("{it:.2}")).collect();
                println!("| {name} | {:.1} | {} |", share * 100.0, cells.join(" | "));
                row
            });
            panels.push(plot::Panel { name, rows });
        }
    }
    if !plot.is_empty() {
        std::fs::write(plot, plot::svg(&NAMES, &panels)).expect("written");
    }
}

/// The median of nine rounds in turns.
fn costs() {
    const ENTRIES: usize = 1_000_000;
    let trace = trace(ENTRIES, 0.99, 3_000_000, false);
    let (mut ours, mut quick) = (full::<Ours>(ENTRIES), full::<Quick>(ENTRIES));
    let (mut moka, mut mini) = (full::<Moka>(ENTRIES), full::<MiniMoka>(ENTRIES));
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..9 {
        times[0].push(round(&mut ours.0, &trace));
        times[1].push(round(&mut quick.0, &trace));
        times[2].push(round(&mut moka.0, &trace));
        times[3].push(round(&mut mini.0, &trace));
    }
    println!("\n| 1 million entries, Zipf 0.99 | ns a hit | bytes an entry beyond key and value |");
    println!("| --- | ---: | ---: |");
    let bytes = [ours.1, quick.1, moka.1, mini.1];
    for ((name, times), bytes) in NAMES.iter().zip(&mut times).zip(bytes) {
        times.sort_by(f64::total_cmp);
        println!("| {name} | {:.1} | {bytes:.0} |", times[times.len() / 2]);
    }
    ours.0.clear();
}

fn tags() {
    let mut tagged = Ours::with_entries(200_000);
    (0..100_000).for_each(|key| tagged.insert_tagged(key, key, &["all"]));
    (0..100_000).for_each(|churn| _ = tagged.invalidate_tag(&format!("warm {churn}")));
    let held = HELD.load(Ordering::Relaxed);
    let mut times: Vec<_> = (0..1_001)
        .map(|_| {
            let since = Instant::now();
            tagged.invalidate_tag("all");
            since.elapsed()
        })
        .collect();
    times.sort();
    assert!(!tagged.hit(7));
    (0..10_000_000u64).for_each(|churn| _ = tagged.invalidate_tag(&format!("tag {churn}")));
    let grown = HELD.load(Ordering::Relaxed) as i64 - held as i64;
    println!(
        "\na tag of 100,000 entries invalidated in {:?}; after 10 million tags {grown} bytes more",
        times[500]
    );
}
