//! One registry of counters per shard: plain cells, merged when somebody asks.

use std::cell::{Cell, RefCell};

use hdrhistogram::Histogram;

/// What one shard counts. No lock, no atomic: only its own thread touches it.
pub(crate) struct Counters {
    cells: [Cell<u64>; COUNTS],
    latency: RefCell<Histogram<u64>>,
}

/// One counter or gauge; those from `ArenaBytes` on are highest values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
// Those of sockets are named without the feature too: a reader of counters need not know it.
#[cfg_attr(not(feature = "ws"), allow(dead_code))]
pub(crate) enum Count {
    Accepted,
    Open,
    Requests,
    Active,
    BytesIn,
    BytesOut,
    RefusedHead,
    RefusedBody,
    RefusedFull,
    TimedOut,
    Stalled,
    Reset,
    Panics,
    Errors,
    CutOff,
    Turns,
    Completions,
    Parks,
    BuffersShort,
    MeshSent,
    MeshReceived,
    MeshFull,
    ForeignWakes,
    TasksRefused,
    WsOpen,
    WsRefused,
    WsDelivered,
    WsDroppedNewest,
    WsDroppedOldest,
    WsReplaced,
    WsClosedFull,
    WsGone,
    WsViolations,
    PublishLost,
    ArenaBytes,
    BuffersOut,
    MeshDepth,
}

/// Names as in [`Stats::get`], in the order of `Count`.
const NAMES: [&str; COUNTS] = [
    "connections_accepted",
    "connections_open",
    "requests",
    "requests_active",
    "bytes_in",
    "bytes_out",
    "refused_head",
    "refused_body",
    "refused_full",
    "timed_out",
    "write_stalled",
    "connections_reset",
    "panics",
    "errors",
    "cut_off",
    "ring_turns",
    "ring_completions",
    "parks",
    "buffers_short",
    "mesh_sent",
    "mesh_received",
    "mesh_full",
    "foreign_wakes",
    "tasks_refused",
    "ws_open",
    "ws_refused",
    "ws_delivered",
    "ws_dropped_newest",
    "ws_dropped_oldest",
    "ws_replaced",
    "ws_closed_full",
    "ws_gone",
    "ws_violations",
    "publish_lost",
    "arena_bytes_max",
    "buffers_out_max",
    "mesh_depth_max",
];
const COUNTS: usize = Count::MeshDepth as usize + 1;
/// Latencies above a minute are counted as a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

impl Counters {
    pub(crate) fn new() -> Counters {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("valid bounds");
        Counters { cells: [const { Cell::new(0) }; COUNTS], latency: RefCell::new(latency) }
    }

    #[inline]
    pub(crate) fn add(&self, count: Count, by: u64) {
        let cell = &self.cells[count as usize];
        cell.set(cell.get().wrapping_add(by));
    }

    /// One less of a gauge.
    #[inline]
    pub(crate) fn sub(&self, count: Count) {
        let cell = &self.cells[count as usize];
        cell.set(cell.get().saturating_sub(1));
    }

    /// Keeps the highest value.
    #[inline]
    pub(crate) fn raise(&self, count: Count, to: u64) {
        let cell = &self.cells[count as usize];
        cell.set(cell.get().max(to));
    }

    #[inline]
    pub(crate) fn get(&self, count: Count) -> u64 {
        self.cells[count as usize].get()
    }

    /// `requests` answers that took `ns` each, from their last byte in to their first byte out.
    #[inline]
    pub(crate) fn record(&self, ns: u64, requests: u64) {
        let _ = self.latency.borrow_mut().record_n(ns.clamp(1, LATENCY_NS_MAX), requests);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            counts: std::array::from_fn(|at| self.cells[at].get()),
            latency: self.latency.borrow().clone(),
        }
    }
}

/// The counters of one shard, or of several merged, at one moment.
///
/// ```
/// use soloist::testing::TestClient;
/// use soloist::prelude::*;
///
/// async fn app(_: Shard) -> Result<App<()>> {
///     Ok(App::new(()).get("/", async |cx|
/// cx.text(cx.shard().stats().get("requests").to_string()))) }
/// TestClient::run(app, async |client| {
///     client.get("/").await.expect(200).text("1");
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Stats {
    counts: [u64; COUNTS],
    latency: Histogram<u64>,
}

impl Stats {
    /// The counter of that name, as in [`Stats::counts`]; 0 if there is none.
    pub fn get(&self, name: &str) -> u64 {
        NAMES.iter().position(|known| *known == name).map_or(0, |at| self.counts[at])
    }

    /// Every counter with its name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().copied().zip(self.counts)
    }

    /// Nanoseconds from a request's last byte received to its answer's first byte written, at
    /// `quantile` (0.5 is the median).
    pub fn latency_ns(&self, quantile: f64) -> u64 {
        self.latency.value_at_quantile(quantile)
    }

    /// The whole latency histogram, in nanoseconds.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Adds the counters of another shard; of a highest value, the higher one stays.
    pub fn merge(&mut self, other: &Stats) {
        for (at, (mine, theirs)) in self.counts.iter_mut().zip(other.counts).enumerate() {
            if at >= Count::ArenaBytes as usize {
                *mine = (*mine).max(theirs);
            } else {
                *mine = mine.wrapping_add(theirs);
            }
        }
        let _ = self.latency.add(&other.latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_counts_and_keeps_highs() {
        let (one, two) = (Counters::new(), Counters::new());
        one.add(Count::Requests, 3);
        two.add(Count::Requests, 4);
        one.raise(Count::ArenaBytes, 10);
        two.raise(Count::ArenaBytes, 7);
        one.record(1_000, 3);
        two.record(9_000, 1);
        let mut all = one.snapshot();
        all.merge(&two.snapshot());
        assert_eq!(all.get("requests"), 7);
        assert_eq!(all.get("arena_bytes_max"), 10);
        assert_eq!(all.latency().len(), 4);
        assert!((990..=1_010).contains(&all.latency_ns(0.5)));
        assert_eq!(all.get("no such thing"), 0);
    }
}
