//! Token buckets of many clients, in a table that forgets the least recent one.

use std::collections::HashMap;

/// One bucket a client. A bucket is one number, the moment at which it will be full again: the
/// tokens that it lacks are the time until then.
pub(super) struct Buckets {
    /// From one token to the next.
    token_ns: u64,
    /// From an empty bucket to a full one.
    full_ns: u64,
    clients_max: usize,
    places: HashMap<u128, u32>,
    slots: Vec<Slot>,
    /// The most and the least recent slot, `NONE` while there is none.
    newest: u32,
    oldest: u32,
}

struct Slot {
    key: u128,
    full_at_ns: u64,
    newer: u32,
    older: u32,
}

const NONE: u32 = u32::MAX;

impl Buckets {
    pub(super) fn new(per_second: u32, burst: u32, clients_max: usize) -> Buckets {
        let token_ns = 1_000_000_000 / u64::from(per_second.max(1));
        Buckets {
            token_ns,
            full_ns: token_ns * u64::from(burst.max(1)),
            clients_max: clients_max.clamp(1, NONE as usize - 1),
            places: HashMap::new(),
            slots: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// Takes a token of that client, or says how long it lacks one.
    pub(super) fn take(&mut self, key: u128, now_ns: u64) -> Result<(), u64> {
        let at = self.slot_of(key);
        let slot = &mut self.slots[at as usize];
        let full_at_ns = slot.full_at_ns.max(now_ns) + self.token_ns;
        let empty_ns = full_at_ns - now_ns;
        if empty_ns > self.full_ns {
            return Err(empty_ns - self.full_ns);
        }
        slot.full_at_ns = full_at_ns;
        Ok(())
    }

    /// The client's slot, now the newest; a new client has a full bucket.
    fn slot_of(&mut self, key: u128) -> u32 {
        if let Some(&at) = self.places.get(&key) {
            if at != self.newest {
                self.unlink(at);
                self.link(at);
            }
            return at;
        }
        let at = if self.slots.len() < self.clients_max {
            self.slots.push(Slot { key, full_at_ns: 0, newer: NONE, older: NONE });
            self.slots.len() as u32 - 1
        } else {
            let at = self.oldest;
            self.unlink(at);
            self.places.remove(&self.slots[at as usize].key);
            self.slots[at as usize] = Slot { key, full_at_ns: 0, newer: NONE, older: NONE };
            at
        };
        self.places.insert(key, at);
        self.link(at);
        at
    }

    fn link(&mut self, at: u32) {
        let older = self.newest;
        self.slots[at as usize].newer = NONE;
        self.slots[at as usize].older = older;
        match older {
            NONE => self.oldest = at,
            _ => self.slots[older as usize].newer = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Slot { newer, older, .. } = self.slots[at as usize];
        match newer {
            NONE => self.newest = older,
            _ => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            _ => self.slots[older as usize].newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_burst_then_the_rate() {
        let mut buckets = Buckets::new(10, 3, 8);
        for (now_ms, want) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(100)),
            (99, Err(1)),
            (100, Ok(())),
            (100, Err(100)),
            (350, Ok(())),
            (350, Ok(())),
            (350, Err(50)),
            (9_000, Ok(())),
            (9_000, Ok(())),
            (9_000, Ok(())),
            (9_000, Err(100)),
        ] {
            let got = buckets.take(7, now_ms * 1_000_000).map_err(|ns| ns / 1_000_000);
            assert_eq!(got, want, "at {now_ms}");
        }
        assert_eq!(Buckets::new(0, 0, 0).take(1, 0), Ok(()));
        let mut slow = Buckets::new(1, u32::MAX, 1);
        assert!((0..100).all(|_| slow.take(1, u64::MAX / 2).is_ok()));
    }

    /// Against a list in the order of use.
    #[test]
    fn the_least_recent_is_forgotten() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let (mut buckets, mut now_ns, mut refused) = (Buckets::new(2, 2, 5), 0, 0);
        let mut list: Vec<(u128, u64)> = Vec::new();
        for _ in 0..20_000 {
            now_ns += random(SECOND_NS / 8);
            let key = u128::from(random(9));
            let known = list.iter().position(|(it, _)| *it == key);
            let full_at_ns = known.map_or(0, |at| list.remove(at).1);
            let next_ns = full_at_ns.max(now_ns) + SECOND_NS / 2;
            let fits = next_ns - now_ns <= SECOND_NS;
            list.push((key, if fits { next_ns } else { full_at_ns }));
            if list.len() > 5 {
                list.remove(0);
            }
            assert_eq!(buckets.take(key, now_ns).is_ok(), fits);
            assert!(buckets.slots.len() <= 5 && buckets.places.len() == buckets.slots.len());
            refused += u32::from(!fits);
        }
        assert!((1_000..19_000).contains(&refused), "{refused}");
    }
}
