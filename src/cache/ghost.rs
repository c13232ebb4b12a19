//! Keys that were thrown out lately, as fingerprints: who comes back so soon was thrown out too
//! early (S3-FIFO, Yang et al., SOSP 2023, section 4.2).

/// The last so many fingerprints, in buckets of four: O(1), and nothing to be pruned.
pub(crate) struct Ghost {
    buckets: Vec<[Trace; WAYS]>,
    /// Fingerprints that were put in so far.
    turn: u32,
    /// How many of the last ones count.
    kept: u32,
}

#[derive(Clone, Copy, Default)]
struct Trace {
    print: u32,
    turn: u32,
}

const WAYS: usize = 4;

impl Ghost {
    pub(crate) fn new() -> Ghost {
        Ghost { buckets: Vec::new(), turn: 0, kept: 0 }
    }

    /// Remembers about so many from now on.
    pub(crate) fn keep(&mut self, count: usize) {
        self.kept = count.min(1 << 28) as u32;
        let buckets = (count.div_ceil(WAYS)).next_power_of_two().max(4);
        if buckets > self.buckets.len() {
            let old = std::mem::take(&mut self.buckets);
            self.buckets = vec![Default::default(); buckets];
            // A fingerprint tells its bucket in every size.
            for trace in old.into_iter().flatten().filter(|it| it.print != 0) {
                self.put(trace);
            }
        }
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        if self.buckets.is_empty() {
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        self.put(Trace { print: print(hash), turn: self.turn });
    }

    /// Takes a key out, if it is there.
    pub(crate) fn remove(&mut self, hash: u64) -> bool {
        if self.buckets.is_empty() {
            return false;
        }
        let (print, turn, kept) = (print(hash), self.turn, self.kept);
        let found = self.bucket(print).iter_mut().find(|it| it.print == print);
        let Some(trace) = found else { return false };
        let fresh = turn.wrapping_sub(trace.turn) < kept;
        *trace = Trace::default();
        fresh
    }

    pub(crate) fn clear(&mut self) {
        *self = Ghost::new();
    }

    /// In place of the oldest of its bucket.
    fn put(&mut self, trace: Trace) {
        let turn = self.turn;
        let oldest = |it: &&mut Trace| match it.print {
            0 => u32::MAX,
            print if print == trace.print => u32::MAX - 1,
            _ => turn.wrapping_sub(it.turn).min(u32::MAX - 2),
        };
        if let Some(place) = self.bucket(trace.print).iter_mut().max_by_key(oldest) {
            *place = trace;
        }
    }

    fn bucket(&mut self, print: u32) -> &mut [Trace; WAYS] {
        let mask = self.buckets.len() - 1;
        &mut self.buckets[print as usize & mask]
    }
}

/// Never 0, which is no trace.
fn print(hash: u64) -> u32 {
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 | 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ key << 40
    }

    #[test]
    fn the_last_ones_are_remembered_once() {
        let mut ghost = Ghost::new();
        assert!(!ghost.remove(hash(1)), "it remembers nothing yet");
        ghost.keep(1_000);
        for key in 0..10_000 {
            ghost.insert(hash(key));
        }
        let known = (9_000..10_000).filter(|key| ghost.remove(hash(*key))).count();
        assert!(known > 850, "{known} of 1,000");
        assert_eq!((9_000..10_000).filter(|key| ghost.remove(hash(*key))).count(), 0, "once");
        assert_eq!((0..8_000).filter(|key| ghost.remove(hash(*key))).count(), 0, "long ago");
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut ghost = Ghost::new();
        ghost.keep(64);
        (0..8).for_each(|key| ghost.insert(hash(key)));
        ghost.keep(100_000);
        assert_eq!((0..8).filter(|key| ghost.remove(hash(*key))).count(), 8);
    }
}
