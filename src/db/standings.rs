//! What is known of the servers of a cluster: who is the primary, who is well. It is told of each
//! look at one of them; what it says depends on that alone.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::backend::Standing;
use super::watch::lock;
use crate::limits::DB_POSITIONS_MAX;

pub(super) struct Standings {
    inner: Mutex<Inner>,
    /// What each query asks.
    elected: AtomicUsize,
    well: Vec<AtomicBool>,
    /// How often another one was elected.
    elections: AtomicU64,
    lag_max: Duration,
}

struct Inner {
    servers: Vec<Seen>,
    /// Where they are, for messages.
    addresses: Vec<String>,
    /// The newest timeline that a primary was on.
    timeline: u64,
    /// Where the primary was in its log, and when: the oldest first.
    positions: VecDeque<(Instant, u64)>,
}

/// What the last look at a server has shown.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// None if it did not answer, or was not asked yet.
    pub(super) standing: Option<Standing>,
    pub(super) lag_ms: u64,
    /// Another one has taken its place, and it has not followed anybody since.
    is_deposed: bool,
}

/// What a look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Another one is the primary now.
    Elected { from: usize, to: usize },
    /// It says that it is the primary, but another one has taken its place.
    Stale,
    /// A replica gets reads from now on.
    Well,
    /// A replica gets no reads any more: it does not answer, is too far behind, or is no replica.
    Unwell,
}

impl Standings {
    pub(super) fn new(servers: usize, lag_max: Duration) -> Standings {
        let inner = Inner {
            servers: vec![Seen::default(); servers],
            addresses: vec![String::new(); servers],
            timeline: 0,
            positions: VecDeque::new(),
        };
        Standings {
            inner: Mutex::new(inner),
            elected: AtomicUsize::new(0),
            well: (0..servers).map(|_| AtomicBool::new(false)).collect(),
            elections: AtomicU64::new(0),
            lag_max,
        }
    }

    /// The primary: the one that was, for as long as nobody knows better.
    pub(super) fn primary(&self) -> usize {
        self.elected.load(Ordering::Relaxed)
    }

    /// Whether it is a replica that is fit for reads.
    pub(super) fn is_well(&self, at: usize) -> bool {
        self.well[at].load(Ordering::Relaxed)
    }

    /// Whether it has answered the last look.
    pub(super) fn is_there(&self, at: usize) -> bool {
        self.seen(at).standing.is_some()
    }

    pub(super) fn elections(&self) -> u64 {
        self.elections.load(Ordering::Relaxed)
    }

    pub(super) fn seen(&self, at: usize) -> Seen {
        lock(&self.inner).servers[at]
    }

    pub(super) fn address(&self, at: usize) -> String {
        lock(&self.inner).addresses[at].clone()
    }

    /// A server is at this address from now on, and nothing is known of it.
    pub(super) fn place(&self, at: usize, address: String) {
        let mut inner = lock(&self.inner);
        inner.servers[at] = Seen::default();
        inner.addresses[at] = address;
        self.well[at].store(false, Ordering::Relaxed);
        if at == self.primary() {
            (inner.timeline, inner.positions) = (0, VecDeque::new());
        }
    }

    /// A look at a server has ended.
    pub(super) fn saw(
        &self,
        at: usize,
        standing: Option<Standing>,
        now: Instant,
    ) -> Option<Change> {
        let mut inner = lock(&self.inner);
        let before = inner.servers[at];
        inner.servers[at].standing = standing;
        if standing.is_some_and(|it| it.is_replica) {
            inner.servers[at].is_deposed = false;
        }
        let (from, to) = (self.primary(), inner.elect(self.primary()));
        if from != to {
            inner.servers[from].is_deposed = true;
            inner.positions.clear();
            self.elected.store(to, Ordering::Relaxed);
            self.elections.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(its) = inner.servers[to].standing.filter(|it| !it.is_replica) {
            inner.timeline = inner.timeline.max(its.timeline);
            if at == to {
                inner.note(now, its.position);
            }
        }
        let mut judge = |at: usize| {
            let is_well = to != at && inner.follow(at, now, self.lag_max);
            (self.well[at].swap(is_well, Ordering::Relaxed), is_well)
        };
        if from != to {
            for at in 0..self.well.len() {
                judge(at);
            }
            return Some(Change::Elected { from, to });
        }
        let (was_well, is_well) = judge(at);
        let is_stale = at != to && standing.is_some_and(|it| !it.is_replica);
        let was_stale = before.standing.is_some_and(|it| !it.is_replica);
        match (was_well, is_well) {
            _ if is_stale && !was_stale => Some(Change::Stale),
            (false, true) => Some(Change::Well),
            (true, false) => Some(Change::Unwell),
            _ => None,
        }
    }
}

impl Inner {
    /// Who is to be the primary: of those that say so the one on the newest timeline, and never one
    /// whose place another has taken, unless it has followed that one since.
    fn elect(&self, elected: usize) -> usize {
        let timeline_of = |at: usize| {
            let seen = &self.servers[at];
            let standing = seen.standing.filter(|it| !it.is_replica)?;
            let is_newer = standing.timeline > self.timeline;
            let may = is_newer || standing.timeline == self.timeline && !seen.is_deposed;
            may.then_some(standing.timeline)
        };
        let mut best = elected;
        for at in 0..self.servers.len() {
            if timeline_of(at) > timeline_of(best) {
                best = at;
            }
        }
        best
    }

    /// Where the primary is in its log.
    fn note(&mut self, now: Instant, position: u64) {
        if position == 0 || self.positions.back().is_some_and(|it| it.1 >= position) {
            return; // nobody has written: who was not behind is not now
        }
        if self.positions.len() == DB_POSITIONS_MAX {
            self.positions.pop_front();
        }
        self.positions.push_back((now, position));
    }

    /// How far behind a replica is, and whether that is near enough.
    fn follow(&mut self, at: usize, now: Instant, lag_max: Duration) -> bool {
        let Some(its) = self.servers[at].standing.filter(|it| it.is_replica) else { return false };
        // Since when it lacks what the primary has tells more than what it says itself: it may have
        // been sent nothing for long.
        let lacks = self.positions.iter().position(|it| it.1 > its.position);
        let age_ms = |at: usize| now.duration_since(self.positions[at].0).as_millis() as u64;
        let lag_ms = match lacks {
            _ if self.positions.is_empty() => its.lag_ms,
            Some(0) => age_ms(0).max(its.lag_ms), // it lacked it before anybody looked
            Some(at) => age_ms(at),
            None => 0,
        };
        self.servers[at].lag_ms = lag_ms;
        let is_of_ours = its.timeline == 0 || its.timeline >= self.timeline;
        // Since when it lacks what the primary had before anybody looked, it alone could tell.
        let is_known = lacks != Some(0) || its.lag_ms > 0;
        is_of_ours && is_known && u128::from(lag_ms) <= lag_max.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Option<Standing> = None;

    fn primary(timeline: u64, position: u64) -> Option<Standing> {
        Some(Standing { is_replica: false, lag_ms: 0, timeline, position })
    }

    fn replica(timeline: u64, position: u64) -> Option<Standing> {
        Some(Standing { is_replica: true, lag_ms: 0, timeline, position })
    }

    /// Looks at servers a second apart, and who is the primary after each.
    #[test]
    fn the_primary_is_who_was_promoted_last() {
        for (name, looks) in [
            ("for as long as nobody knows better", &[(0, DEAD, 0), (1, replica(1, 9), 0)][..]),
            (
                "a replica is promoted",
                &[(0, primary(1, 9), 0), (0, DEAD, 0), (1, primary(2, 9), 1)],
            ),
            ("while the old one still answers", &[(0, primary(1, 9), 0), (1, primary(2, 9), 1)]),
            (
                "the old one comes back, and the new one is away for a moment",
                &[
                    (0, primary(1, 9), 0),
                    (1, primary(2, 9), 1),
                    (0, primary(1, 20), 1),
                    (1, DEAD, 1),
                    (0, primary(1, 30), 1),
                    (1, primary(2, 9), 1),
                ],
            ),
            (
                "the old one follows the new one, and is promoted in its turn",
                &[
                    (1, primary(2, 9), 1),
                    (0, replica(2, 9), 1),
                    (1, DEAD, 1),
                    (0, primary(3, 9), 0),
                    (1, primary(2, 9), 0),
                ],
            ),
            (
                "two were promoted: the last one",
                &[
                    (0, DEAD, 0),
                    (1, primary(2, 9), 1),
                    (2, primary(3, 9), 2),
                    (1, primary(2, 9), 2),
                ],
            ),
            (
                "at the start, whichever is seen first",
                &[(0, primary(1, 9), 0), (2, primary(4, 9), 2), (0, primary(1, 9), 2)],
            ),
            (
                "without timelines: not the old one, before it has followed somebody",
                &[
                    (0, primary(0, 0), 0),
                    (1, primary(0, 0), 0),
                    (0, DEAD, 1),
                    (0, primary(0, 0), 1),
                    (1, DEAD, 1),
                    (0, primary(0, 0), 1),
                    (0, replica(0, 0), 1),
                    (0, primary(0, 0), 0),
                ],
            ),
        ] {
            let standings = Standings::new(3, Duration::from_secs(5));
            let mut now = Instant::now();
            for (step, &(at, standing, elected)) in looks.iter().enumerate() {
                standings.saw(at, standing, now);
                now += Duration::from_secs(1);
                assert_eq!(standings.primary(), elected, "{name}: step {step}");
            }
        }
    }

    #[test]
    fn who_is_behind_gets_no_reads() {
        // A second each: the primary's place, the replica's, its lag, whether it gets reads.
        for (name, seconds) in [
            ("it keeps up", &[(10, 10, 0, true), (20, 20, 0, true), (20, 20, 0, true)][..]),
            (
                "it stands still",
                &[
                    (10, 10, 0, true),
                    (20, 10, 0, true),
                    (30, 10, 1_000, true),
                    (40, 10, 2_000, true),
                    (50, 10, 3_000, false),
                    (60, 59, 0, true),
                ],
            ),
            ("nobody writes", &[(10, 10, 0, true), (10, 10, 0, true), (11, 10, 0, true)]),
            ("it is ahead of the last look", &[(10, 12, 0, true), (12, 15, 0, true)]),
            (
                "it has nothing yet, since nobody knows when",
                &[(10, 0, 0, false), (10, 0, 1_000, false), (10, 10, 0, true), (20, 10, 0, true)],
            ),
        ] {
            let standings = Standings::new(2, Duration::from_secs(2));
            let mut now = Instant::now();
            for &(ours, its, lag_ms, is_well) in seconds {
                standings.saw(0, primary(1, ours), now);
                standings.saw(1, replica(1, its), now);
                assert_eq!(standings.is_well(1), is_well, "{name}: {its} of {ours}");
                assert_eq!(standings.seen(1).lag_ms, lag_ms, "{name}: {its} of {ours}");
                now += Duration::from_secs(1);
            }
        }
        let (standings, now) = (Standings::new(3, Duration::from_secs(2)), Instant::now());
        let late = Standing { is_replica: true, lag_ms: 2_001, timeline: 0, position: 0 };
        standings.saw(1, Some(late), now);
        assert!(!standings.is_well(1), "by its own word, where nothing else is known");
        standings.saw(0, primary(2, 10), now);
        standings.saw(1, replica(1, 10), now);
        assert!(!standings.is_well(1), "it follows one whose place another has taken");
        standings.saw(1, replica(2, 10), now);
        assert!(standings.is_well(1));
        standings.saw(1, DEAD, now);
        assert!(!standings.is_well(1));
    }

    #[test]
    fn who_was_looked_at_before_the_primary_was_known_is_judged_again() {
        let (standings, now) = (Standings::new(2, Duration::from_secs(2)), Instant::now());
        standings.saw(0, replica(1, 10), now);
        standings.saw(1, primary(1, 10), now);
        assert_eq!((standings.primary(), standings.is_well(0)), (1, true));
    }

    #[test]
    fn each_change_is_told_once() {
        let (standings, now) = (Standings::new(2, Duration::from_secs(2)), Instant::now());
        for (at, standing, change) in [
            (0, primary(1, 10), None),
            (1, replica(1, 10), Some(Change::Well)),
            (1, replica(1, 10), None),
            (1, DEAD, Some(Change::Unwell)),
            (1, DEAD, None),
            (1, primary(2, 10), Some(Change::Elected { from: 0, to: 1 })),
            (0, DEAD, None),
            (0, primary(1, 10), Some(Change::Stale)),
            (0, primary(1, 11), None),
            (0, replica(2, 11), Some(Change::Well)),
        ] {
            assert_eq!(standings.saw(at, standing, now), change, "{standing:?}");
        }
        assert_eq!(standings.elections(), 1);
    }
}
