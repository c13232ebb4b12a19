//! What a remote store has done, as one shard sees it.

use std::cell::{Cell, RefCell};

use hdrhistogram::Histogram;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::breaker::BreakerState;

/// Counters of one store on one shard: see [`Remote::stats`](crate::Remote::stats).
///
/// ```
/// use soloist::{Redis, Remote, prelude::*};
/// # use soloist::testing::TestClient;
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let redis = Redis::connect(&client.shard(), "redis://127.0.0.1:1").expect("a URL");
/// for _ in 0..7 {
///     let _ = redis.get(b"ann").await; // nobody is there
/// }
/// let stats = redis.stats();
/// assert_eq!((stats.calls, stats.errors, stats.refused), (7, 5, 2));
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteStats {
    /// Calls, refused ones included.
    pub calls: u64,
    /// Keys that were asked for and there.
    pub hits: u64,
    /// Keys that were asked for and not there.
    pub misses: u64,
    /// Calls that failed otherwise than by their time limit or by a refusal.
    pub errors: u64,
    /// Calls that reached their time limit.
    pub timeouts: u64,
    /// Calls that the breaker refused.
    pub refused: u64,
    /// Calls that were refused because too many were under way.
    pub busy: u64,
    /// How the breaker stands.
    pub breaker: BreakerState,
    /// Whether there is a connection.
    pub connected: bool,
    /// Connections that were made after the first.
    pub reconnects: u64,
    /// Words of changes that were heard.
    pub heard: u64,
    /// Microseconds that half of the calls which were answered took at most.
    pub p50_us: u64,
    /// Microseconds that 99 of a hundred took at most.
    pub p99_us: u64,
}

impl Serialize for RemoteStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("RemoteStats", 13)?;
        fields.serialize_field("calls", &self.calls)?;
        fields.serialize_field("hits", &self.hits)?;
        fields.serialize_field("misses", &self.misses)?;
        fields.serialize_field("errors", &self.errors)?;
        fields.serialize_field("timeouts", &self.timeouts)?;
        fields.serialize_field("refused", &self.refused)?;
        fields.serialize_field("busy", &self.busy)?;
        fields.serialize_field("breaker", &self.breaker)?;
        fields.serialize_field("connected", &self.connected)?;
        fields.serialize_field("reconnects", &self.reconnects)?;
        fields.serialize_field("heard", &self.heard)?;
        fields.serialize_field("p50_us", &self.p50_us)?;
        fields.serialize_field("p99_us", &self.p99_us)?;
        fields.end()
    }
}

/// The same while they are counted.
pub(super) struct Counting {
    stats: Cell<RemoteStats>,
    took_us: RefCell<Histogram<u64>>,
}

/// A minute: no time limit that makes sense is longer.
const TOOK_US_MAX: u64 = 60_000_000;

impl Counting {
    pub(super) fn new() -> Counting {
        let took_us = Histogram::new_with_bounds(1, TOOK_US_MAX, 2).expect("valid bounds");
        Counting { stats: Cell::default(), took_us: RefCell::new(took_us) }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut RemoteStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// A call that was answered after so long.
    pub(super) fn record(&self, took_ns: u64) {
        let _ = self.took_us.borrow_mut().record((took_ns / 1_000).clamp(1, TOOK_US_MAX));
    }

    pub(super) fn now(&self) -> RemoteStats {
        let took_us = self.took_us.borrow();
        let at =
            |quantile| if took_us.is_empty() { 0 } else { took_us.value_at_quantile(quantile) };
        RemoteStats { p50_us: at(0.5), p99_us: at(0.99), ..self.stats.get() }
    }
}
