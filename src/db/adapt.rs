//! A budget that follows the load: it grows while requests wait, and shrinks while most of it is
//! idle. What it says depends on what it is told alone.

use std::collections::VecDeque;

use serde::Serialize;

use crate::limits::{DB_CHANGES_MAX, DB_GROW_WINDOWS, DB_SHRINK_WINDOWS, DB_WAIT_US_MAX};

/// A change of a budget's size: see [`DbStats`](crate::DbStats).
///
/// ```
/// # use soloist::DbChange;
/// # fn log(change: &DbChange) {
/// println!("{} -> {}: {}", change.from, change.to, change.why);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DbChange {
    /// Connections before.
    pub from: usize,
    /// Connections from then on.
    pub to: usize,
    /// What made it change.
    pub why: String,
}

/// What a window has shown, over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The worst shard's 99th percentile.
    pub(super) wait_p99_us: u64,
    pub(super) waits: u64,
    /// Most that were in use at once.
    pub(super) in_use_max: usize,
    pub(super) held: usize,
}

pub(super) struct Adapt {
    limit: usize,
    min: usize,
    max: usize,
    grow: u32,
    shrink: u32,
    /// The most that were in use in the windows that could make it shrink.
    in_use_max: usize,
    changes: VecDeque<DbChange>,
}

impl Adapt {
    /// Fixed, if `min` is none.
    pub(super) fn new(limit: usize, min: usize, max: usize) -> Adapt {
        let min = if min == 0 { max } else { min.min(max) };
        Adapt { limit, min, max, grow: 0, shrink: 0, in_use_max: 0, changes: VecDeque::new() }
    }

    pub(super) fn changes(&self) -> Vec<DbChange> {
        self.changes.iter().cloned().collect()
    }

    /// The end of a window: the new size, if it is another. Growth takes windows in a row, and
    /// shrinking far more of them, so that a budget between two sizes does not swing.
    pub(super) fn judge(&mut self, seen: Seen) -> Option<DbChange> {
        let is_short = seen.waits > 0
            && seen.wait_p99_us > DB_WAIT_US_MAX
            && seen.held >= self.limit
            && self.limit < self.max;
        let is_idle = 2 * seen.in_use_max < self.limit && seen.waits == 0 && self.limit > self.min;
        self.grow = if is_short { self.grow + 1 } else { 0 };
        self.in_use_max = if is_idle { self.in_use_max.max(seen.in_use_max) } else { 0 };
        self.shrink = if is_idle { self.shrink + 1 } else { 0 };
        if self.grow >= DB_GROW_WINDOWS {
            let to = (self.limit + (self.limit / 4).max(1)).min(self.max);
            let why = format!(
                "requests waited {} us for a connection (99th percentile) with all {} in use",
                seen.wait_p99_us, self.limit
            );
            return Some(self.change(to, why));
        }
        if self.shrink >= DB_SHRINK_WINDOWS {
            let to = (self.limit - (self.limit / 8).max(1)).max(self.min);
            let why = format!(
                "no more than {} of {} were in use in {DB_SHRINK_WINDOWS} windows",
                self.in_use_max, self.limit
            );
            return Some(self.change(to, why));
        }
        None
    }

    fn change(&mut self, to: usize, why: String) -> DbChange {
        let change = DbChange { from: self.limit, to, why };
        (self.limit, self.grow, self.shrink, self.in_use_max) = (to, 0, 0, 0);
        if self.changes.len() == DB_CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change.clone());
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Seen = Seen { wait_p99_us: 9_000, waits: 50, in_use_max: 10, held: 10 };
    const IDLE: Seen = Seen { wait_p99_us: 0, waits: 0, in_use_max: 2, held: 10 };
    const BUSY: Seen = Seen { wait_p99_us: 100, waits: 5, in_use_max: 10, held: 10 };

    #[test]
    fn it_grows_on_waits_and_shrinks_on_idleness_within_its_bounds() {
        for (name, windows, end) in [
            ("one window is no reason", vec![(SHORT, 1)], 10),
            ("two are", vec![(SHORT, 2)], 12),
            ("not with one between", vec![(SHORT, 1), (BUSY, 1), (SHORT, 1)], 10),
            ("short waits are none", vec![(BUSY, 100)], 10),
            ("half a minute of idleness", vec![(IDLE, 30)], 9),
            ("a busy window begins it anew", vec![(IDLE, 29), (BUSY, 1), (IDLE, 29)], 10),
            ("never below", vec![(IDLE, 3_000)], 4),
        ] {
            let mut adapt = Adapt::new(10, 4, 40);
            for (seen, count) in windows {
                for _ in 0..count {
                    adapt.judge(Seen { held: adapt.limit, ..seen });
                }
            }
            assert_eq!(adapt.limit, end, "{name}");
        }
        let mut adapt = Adapt::new(10, 4, 40);
        (0..200).for_each(|_| drop(adapt.judge(Seen { held: adapt.limit, ..SHORT })));
        assert_eq!(adapt.limit, 40, "never above");
        assert!(adapt.changes().len() <= DB_CHANGES_MAX);
        assert!(adapt.changes().iter().all(|it| it.why.contains("waited")));
    }

    #[test]
    fn a_fixed_budget_stays() {
        let mut adapt = Adapt::new(10, 0, 10);
        for _ in 0..1_000 {
            assert_eq!(adapt.judge(SHORT), None);
            assert_eq!(adapt.judge(IDLE), None);
        }
    }
}
