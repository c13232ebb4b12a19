//! Statements that took too long on a shard, and until when they are spared it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::limits::{
    SQLITE_LANE_LATE_MAX, SQLITE_LANE_SLOW_MAX, SQLITE_LANE_SLOW_MS_MAX, SQLITE_LANE_SLOW_MS_MIN,
};

/// By the hashes of their texts: two that share one are slow together, which does no harm.
#[derive(Default)]
pub(super) struct Slow {
    hasher: RandomState,
    /// The one that was met last is the last.
    texts: Vec<Text>,
}

struct Text {
    hash: u64,
    /// How often in a row.
    late: u32,
    pause: Duration,
    until: Option<Instant>,
}

impl Slow {
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether the statement is to go to the worker.
    pub(super) fn spares(&mut self, sql: &str, now: Instant) -> bool {
        if self.texts.is_empty() {
            return false;
        }
        let hash = self.hasher.hash_one(sql);
        let Some(at) = self.texts.iter().position(|it| it.hash == hash) else { return false };
        self.texts[at..].rotate_left(1);
        self.texts.last().and_then(|it| it.until).is_some_and(|until| now < until)
    }

    /// It ended late, or was interrupted.
    pub(super) fn late(&mut self, sql: &str, now: Instant) {
        let text = self.meet(sql);
        text.late += 1;
        if text.late >= SQLITE_LANE_LATE_MAX {
            text.until = Some(now + text.pause);
            text.pause = (2 * text.pause).min(Duration::from_millis(SQLITE_LANE_SLOW_MS_MAX));
        }
    }

    /// It ended in time.
    pub(super) fn in_time(&mut self, sql: &str) {
        if !self.texts.is_empty() {
            let hash = self.hasher.hash_one(sql);
            self.texts.retain(|it| it.hash != hash);
        }
    }

    fn meet(&mut self, sql: &str) -> &mut Text {
        let hash = self.hasher.hash_one(sql);
        let text = match self.texts.iter().position(|it| it.hash == hash) {
            Some(at) => self.texts.remove(at),
            None => {
                let pause = Duration::from_millis(SQLITE_LANE_SLOW_MS_MIN);
                Text { hash, late: 0, pause, until: None }
            }
        };
        if self.texts.len() == SQLITE_LANE_SLOW_MAX {
            self.texts.remove(0);
        }
        self.texts.push(text);
        self.texts.last_mut().expect("pushed above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_slow_is_spared_for_a_while() {
        const MAX: u32 = SQLITE_LANE_LATE_MAX;
        for (name, lates, spared_s) in [
            ("never run", &[] as &[u32], 0),
            ("late once: the core was another's", &[1], 0),
            ("late again and again", &[MAX], 1),
            ("and after that", &[MAX + 1], 2),
            ("and after that, too", &[MAX + 2], 4),
            ("for ever", &[MAX + 30], 60),
            ("in time between", &[MAX - 1, MAX - 1], 0),
            ("in time after all", &[MAX + 3, 0], 0),
            ("late after that", &[MAX + 3, MAX], 1),
        ] {
            let (mut slow, now) = (Slow::default(), Instant::now());
            for (at, late) in lates.iter().enumerate() {
                if at > 0 {
                    slow.in_time("a");
                }
                (0..*late).for_each(|_| slow.late("a", now));
            }
            let end = now + Duration::from_secs(spared_s);
            assert!(!slow.spares("a", end), "{name}: not for longer");
            let before = end.checked_sub(Duration::from_millis(1)).expect("a time");
            assert_eq!(slow.spares("a", before), spared_s > 0, "{name}");
            assert!(!slow.spares("b", now), "{name}: not another one");
        }
    }

    #[test]
    fn the_one_that_was_met_the_longest_ago_is_forgotten() {
        let (mut slow, now) = (Slow::default(), Instant::now());
        let name = |n: usize| format!("SELECT {n}");
        let be_slow = |slow: &mut Slow, sql: &str| {
            (0..SQLITE_LANE_LATE_MAX).for_each(|_| slow.late(sql, now));
        };
        (0..SQLITE_LANE_SLOW_MAX).for_each(|n| be_slow(&mut slow, &name(n)));
        assert!(slow.spares(&name(0), now), "met again");
        be_slow(&mut slow, "one more");
        assert_eq!(slow.texts.len(), SQLITE_LANE_SLOW_MAX);
        assert!(slow.spares(&name(0), now));
        assert!(!slow.spares(&name(1), now));
        assert!(slow.spares("one more", now));
    }
}
