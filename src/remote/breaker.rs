//! A circuit breaker: calls to a server that does not answer end at once, without it.
//!
//! Closed, it lets all calls pass. Once so many have failed it opens and refuses them for a pause.
//! Then it is half open: one call may probe. If that ends well it closes, else it opens again, for
//! twice as long, up to a bound.

use serde::{Serialize, Serializer};

/// Whether calls reach the server: see [`RemoteStats`](crate::RemoteStats).
///
/// ```
/// let state = soloist::BreakerState::default();
/// assert_eq!(state, soloist::BreakerState::Closed);
/// assert_eq!(serde_json::to_string(&state).unwrap(), "\"closed\"");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// All do.
    #[default]
    Closed,
    /// None does, until the pause is over.
    Open,
    /// One does, and tells what becomes of the others.
    HalfOpen,
}

impl Serialize for BreakerState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        })
    }
}

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Failures after which it opens: in a row, or within a window in which no more went well.
    pub(super) failures: u32,
    pub(super) window_ms: u64,
    pub(super) pause_ms_min: u64,
    pub(super) pause_ms_max: u64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Pass,
    /// It passes, and its end is awaited: tell it, or [`Breaker::abandoned`].
    Probe,
    Refused {
        retry_ms: u64,
    },
}

pub(super) struct Breaker {
    rules: Rules,
    phase: Phase,
    window_start_ms: u64,
    failed: u32,
    went_well: u32,
    in_a_row: u32,
    /// Of the pause that comes next.
    pause_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until_ms: u64 },
    Probing,
}

impl Breaker {
    pub(super) fn new(rules: Rules) -> Breaker {
        let pause_ms = rules.pause_ms_min;
        Breaker {
            rules,
            phase: Phase::Closed,
            window_start_ms: 0,
            failed: 0,
            went_well: 0,
            in_a_row: 0,
            pause_ms,
        }
    }

    pub(super) fn admit(&mut self, now_ms: u64) -> Admitted {
        match self.phase {
            Phase::Closed => Admitted::Pass,
            Phase::Open { until_ms } if now_ms < until_ms => {
                Admitted::Refused { retry_ms: until_ms - now_ms }
            }
            Phase::Open { .. } => {
                self.phase = Phase::Probing;
                Admitted::Probe
            }
            Phase::Probing => Admitted::Refused { retry_ms: self.pause_ms },
        }
    }

    /// A call that was admitted ended well. Late words of calls from before it opened say nothing.
    pub(super) fn succeeded(&mut self, as_probe: bool, now_ms: u64) {
        match self.phase {
            Phase::Closed => {
                self.turn_window(now_ms);
                self.went_well = self.went_well.saturating_add(1);
                self.in_a_row = 0;
            }
            Phase::Probing if as_probe => self.close(),
            Phase::Probing | Phase::Open { .. } => {}
        }
    }

    /// A call that was admitted failed.
    pub(super) fn failed(&mut self, as_probe: bool, now_ms: u64) {
        match self.phase {
            Phase::Closed => {
                self.turn_window(now_ms);
                self.failed += 1;
                self.in_a_row += 1;
                let many = self.failed >= self.rules.failures && self.failed >= self.went_well;
                if many || self.in_a_row >= self.rules.failures {
                    self.open(now_ms);
                }
            }
            Phase::Probing if as_probe => self.open(now_ms),
            Phase::Probing | Phase::Open { .. } => {}
        }
    }

    /// A probe was dropped before it ended: the next call is the probe.
    pub(super) fn abandoned(&mut self, now_ms: u64) {
        if self.phase == Phase::Probing {
            self.phase = Phase::Open { until_ms: now_ms };
        }
    }

    /// The server was heard otherwise: a new connection has had its answers.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
        (self.failed, self.went_well, self.in_a_row) = (0, 0, 0);
        self.pause_ms = self.rules.pause_ms_min;
    }

    pub(super) fn state(&self, now_ms: u64) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { until_ms } if now_ms < until_ms => BreakerState::Open,
            Phase::Open { .. } | Phase::Probing => BreakerState::HalfOpen,
        }
    }

    fn open(&mut self, now_ms: u64) {
        self.phase = Phase::Open { until_ms: now_ms.saturating_add(self.pause_ms) };
        self.pause_ms = self.pause_ms.saturating_mul(2).min(self.rules.pause_ms_max);
    }

    fn turn_window(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.window_start_ms) >= self.rules.window_ms {
            self.window_start_ms = now_ms;
            (self.failed, self.went_well) = (0, 0);
            // A row that is as old as the window says nothing of now.
            self.in_a_row = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script against a breaker (3 failures in 1 s, pauses of 100 to 400 ms). Each step is a
    /// time, what happens, and how it stands then:
    /// `pass`, `probe`, `no` ask for a call; `+` and `-` end one, `p+` and `p-` the probe, `p0`
    /// drops it; `up` is a new connection.
    fn runs(script: &[(u64, &str, BreakerState)]) {
        let rules = Rules { failures: 3, window_ms: 1_000, pause_ms_min: 100, pause_ms_max: 400 };
        let mut breaker = Breaker::new(rules);
        for (step, &(now_ms, what, want)) in script.iter().enumerate() {
            let at = format!("step {step}: {now_ms} {what}");
            match what {
                "pass" => assert_eq!(breaker.admit(now_ms), Admitted::Pass, "{at}"),
                "probe" => assert_eq!(breaker.admit(now_ms), Admitted::Probe, "{at}"),
                "no" => {
                    let got = breaker.admit(now_ms);
                    assert!(matches!(got, Admitted::Refused { .. }), "{at}: {got:?}");
                }
                "+" => breaker.succeeded(false, now_ms),
                "-" => breaker.failed(false, now_ms),
                "p+" => breaker.succeeded(true, now_ms),
                "p-" => breaker.failed(true, now_ms),
                "p0" => breaker.abandoned(now_ms),
                "up" => breaker.close(),
                other => panic!("no step {other}"),
            }
            assert_eq!(breaker.state(now_ms), want, "{at}");
        }
    }

    use BreakerState::{Closed, HalfOpen, Open};

    #[test]
    fn it_opens_for_longer_and_longer_and_closes_again() {
        runs(&[
            (0, "pass", Closed),
            (1, "-", Closed),
            (2, "-", Closed),
            (3, "-", Open), // until 103
            (4, "no", Open),
            (5, "-", Open), // late ones change nothing
            (6, "+", Open),
            (102, "no", Open),
            (103, "probe", HalfOpen),
            (104, "no", HalfOpen), // one at a time
            (104, "+", HalfOpen),
            (110, "p-", Open), // until 310
            (309, "no", Open),
            (310, "probe", HalfOpen),
            (320, "p-", Open), // until 720
            (719, "no", Open),
            (720, "probe", HalfOpen),
            (730, "p-", Open), // no longer than 400: until 1130
            (1_129, "no", Open),
            (1_130, "probe", HalfOpen),
            (1_131, "p+", Closed),
            (1_132, "pass", Closed),
            (1_133, "-", Closed), // counted anew
            (1_133, "-", Closed),
            (1_134, "-", Open), // until 1234: the pause is the first one again
            (1_234, "probe", HalfOpen),
        ]);
    }

    #[test]
    fn failures_count_in_a_row_or_in_a_window() {
        // In a row: a success between them begins it anew.
        runs(&[
            (0, "-", Closed),
            (0, "-", Closed),
            (0, "+", Closed),
            (0, "+", Closed),
            (0, "+", Closed),
            (0, "+", Closed),
            (0, "+", Closed),
            (0, "+", Closed),
            (0, "-", Closed),
            (0, "-", Closed),
            (0, "-", Open),
        ]);
        // In a window: as many as went well, though never three in a row.
        runs(&[
            (0, "-", Closed),
            (1, "+", Closed),
            (2, "-", Closed),
            (3, "+", Closed),
            (4, "-", Open),
        ]);
        // Few among many.
        runs(&[
            (0, "+", Closed),
            (0, "+", Closed),
            (0, "+", Closed),
            (0, "+", Closed),
            (1, "-", Closed),
            (2, "+", Closed),
            (3, "-", Closed),
            (4, "+", Closed),
            (5, "-", Closed),
        ]);
        // Far apart.
        runs(&[
            (0, "-", Closed),
            (900, "-", Closed),
            (1_000, "-", Closed),
            (1_900, "-", Closed),
            (2_000, "-", Closed),
            (2_001, "-", Closed),
            (2_002, "-", Open),
        ]);
    }

    #[test]
    fn a_probe_that_is_dropped_leaves_its_place() {
        runs(&[
            (0, "-", Closed),
            (0, "-", Closed),
            (0, "-", Open),
            (100, "probe", HalfOpen),
            (101, "p0", HalfOpen),
            (101, "probe", HalfOpen),
            (102, "p+", Closed),
            (103, "p0", Closed), // too late
        ]);
    }

    #[test]
    fn a_new_connection_closes_it() {
        runs(&[
            (0, "-", Closed),
            (0, "-", Closed),
            (0, "-", Open),
            (50, "up", Closed),
            (50, "pass", Closed),
            (51, "-", Closed),
            (51, "-", Closed),
            (51, "-", Open),
            (151, "probe", HalfOpen),
            (152, "up", Closed),
            (153, "p-", Closed), // a failure as any other
        ]);
    }
}
