//! Hit ratios, time of a hit and memory of caches: ours, quick_cache, moka, mini-moka, on traces of
//! a seeded generator.
//!
//! `cargo run --release -p soloist-peers --features caches --bin cache`

#![allow(dead_code)] // the store has more than is asked of it here

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use stale::Places;
use store::{Store, Terms};

#[path = "../../../../src/cache/expiry.rs"]
mod expiry;
#[path = "../../../../src/cache/fifo.rs"]
mod fifo;
#[path = "../../../../src/cache/ghost.rs"]
mod ghost;
#[path = "../../../../src/cache/glob.rs"]
mod glob;
#[path = "../../../../src/cache/stale.rs"]
mod stale;
#[path = "../../../../src/cache/store.rs"]
mod store;

/// As the crate has it.
mod limits {
    pub(crate) const CACHE_BANS_MAX: usize = 64;
}

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
}

impl Peer for Store<u64, u64> {
    fn with_entries(count: usize) -> Self {
        Store::new(u64::MAX, count, Places::default(), 0)
    }
    fn hit(&mut self, key: u64) -> bool {
        black_box(self.get(&key, 0)).is_some()
    }
    fn put(&mut self, key: u64) {
        self.insert(key, key, Terms { weight: 1, ..Terms::default() }, 0);
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
    f64::from(hits) * 100.0 / trace.len() as f64
}

/// Nanoseconds of a hit, the median of five, and bytes an entry beyond its key and value.
fn cost<P: Peer>(trace: &[u64], entries: usize) -> (f64, f64) {
    let before = HELD.load(Ordering::Relaxed);
    let mut peer = P::with_entries(entries);
    (0..entries as u64).for_each(|key| peer.put(key));
    let bytes = (HELD.load(Ordering::Relaxed) - before) as f64 / entries as f64;
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let since = Instant::now();
            trace.iter().for_each(|key| _ = peer.hit(*key));
            since.elapsed().as_nanos() as f64 / trace.len() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[2], bytes - 16.0)
}

fn main() {
    type Ours = Store<u64, u64>;
    type Quick = quick_cache::unsync::Cache<u64, u64>;
    type Moka = moka::sync::Cache<u64, u64>;
    type MiniMoka = mini_moka::unsync::Cache<u64, u64>;
    const KEYS: usize = 200_000;
    println!("| trace | entries, % of keys | soloist | quick_cache | moka | mini-moka |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for scans in [false, true] {
        for skew in [0.7, 0.9, 1.0] {
            let trace = trace(KEYS, skew, 1_500_000, scans);
            for share in [0.001, 0.01, 0.1] {
                let entries = (KEYS as f64 * share) as usize;
                println!(
                    "| Zipf {skew:.1}{} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} |",
                    if scans { ", scans" } else { "" },
                    share * 100.0,
                    hit_ratio::<Ours>(&trace, entries),
                    hit_ratio::<Quick>(&trace, entries),
                    hit_ratio::<Moka>(&trace, entries),
                    hit_ratio::<MiniMoka>(&trace, entries),
                );
            }
        }
    }
    let trace = trace(1_000_000, 0.99, 3_000_000, false);
    println!("\n| 1 million entries, Zipf 0.99 | ns a hit | bytes an entry beyond key and value |");
    println!("| --- | ---: | ---: |");
    for (name, (ns, bytes)) in [
        ("soloist", cost::<Ours>(&trace, 1_000_000)),
        ("quick_cache", cost::<Quick>(&trace, 1_000_000)),
        ("moka", cost::<Moka>(&trace, 1_000_000)),
        ("mini-moka", cost::<MiniMoka>(&trace, 1_000_000)),
    ] {
        println!("| {name} | {ns:.1} | {bytes:.0} |");
    }
    let mut tagged: Ours = Store::new(u64::MAX, 200_000, 0);
    for key in 0..100_000 {
        let marks = Some(tagged.marks(&["all"]));
        tagged.insert(key, key, 1, Life::default(), marks, 0);
    }
    let (held, since) = (HELD.load(Ordering::Relaxed), Instant::now());
    tagged.invalidate("all");
    let took = since.elapsed();
    (0..10_000_000u64).for_each(|churn| tagged.invalidate(&format!("tag {churn}")));
    let grown = HELD.load(Ordering::Relaxed) - held;
    println!(
        "\na tag of 100,000 entries invalidated in {took:?}; after 10 million tags {grown} bytes more"
    );
}
