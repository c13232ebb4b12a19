//! A hierarchical timing wheel: 1 ms a slot, seven levels of 64, O(1) to set and to cancel, and no
//! allocation once it is warm (Varghese and Lauck, 1987).

use slab::Slab;

/// Timers with a value each, fired in the order of their deadlines, never early.
pub(crate) struct Wheel<T> {
    now_ms: u64,
    /// Heads of lists of entries.
    slots: Box<[[Option<u32>; SLOTS]; LEVELS]>,
    /// A bit for each slot that has entries.
    occupied: [u64; LEVELS],
    entries: Slab<Entry<T>>,
    generation: u32,
}

/// Names one timer; useless after it has fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    key: u32,
    generation: u32,
}

struct Entry<T> {
    value: T,
    at_ms: u64,
    generation: u32,
    level: u8,
    slot: u8,
    prev: Option<u32>,
    next: Option<u32>,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now_ms: u64) -> Wheel<T> {
        Wheel {
            now_ms,
            slots: Box::new([[None; SLOTS]; LEVELS]),
            occupied: [0; LEVELS],
            entries: Slab::new(),
            generation: 0,
        }
    }

    /// Sets a timer; one in the past fires at the next `pop_due`.
    pub(crate) fn insert(&mut self, at_ms: u64, value: T) -> TimerId {
        let at_ms = at_ms.clamp(self.now_ms, self.now_ms + SPAN_MS - 1);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = Entry { value, at_ms, generation, level: 0, slot: 0, prev: None, next: None };
        let key = self.entries.insert(entry) as u32;
        self.link(key);
        TimerId { key, generation }
    }

    /// Takes a timer back before it fires.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.key as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        self.unlink(id.key);
        Some(self.entries.remove(id.key as usize).value)
    }

    /// The value of a timer that is set.
    pub(crate) fn get_mut(&mut self, id: TimerId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.key as usize)?;
        (entry.generation == id.generation).then_some(&mut entry.value)
    }

    /// The next timer that is due at `now_ms`, soonest first.
    #[inline]
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<T> {
        loop {
            // Level 0 holds deadlines of the current 64 ms only, so its slots are exact.
            if self.occupied[0] != 0 {
                let slot = self.occupied[0].trailing_zeros() as usize;
                let key = self.slots[0][slot]?;
                let at_ms = self.entries[key as usize].at_ms;
                if at_ms > now_ms {
                    self.now_ms = self.now_ms.max(now_ms);
                    return None;
                }
                self.now_ms = self.now_ms.max(at_ms);
                self.unlink(key);
                return Some(self.entries.remove(key as usize).value);
            }
            // The lowest level that has entries holds the soonest: spread its first slot out.
            let Some(level) = (1..LEVELS).find(|level| self.occupied[*level] != 0) else {
                self.now_ms = self.now_ms.max(now_ms);
                return None;
            };
            let slot = self.occupied[level].trailing_zeros() as usize;
            let start_ms = self.start_of(level, slot);
            if start_ms > now_ms {
                self.now_ms = self.now_ms.max(now_ms);
                return None;
            }
            self.now_ms = self.now_ms.max(start_ms);
            self.spread(level, slot);
        }
    }

    /// No timer fires before this; exact within the current 64 ms, else the start of its slot.
    #[inline]
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let level = (0..LEVELS).find(|level| self.occupied[*level] != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        Some(self.start_of(level, slot).max(self.now_ms))
    }

    /// The deadline where a slot begins. Slots of a level lie in the same span of the next level
    /// as now does, so the high bits are now's.
    fn start_of(&self, level: usize, slot: usize) -> u64 {
        let shift = BITS * level as u32;
        let above = self.now_ms >> (shift + BITS) << (shift + BITS);
        above | (slot as u64) << shift
    }

    fn spread(&mut self, level: usize, slot: usize) {
        let mut next = self.slots[level][slot].take();
        self.occupied[level] &= !(1 << slot);
        // The list is newest first; linking at the head would turn it round, so does this.
        let mut reversed = None;
        while let Some(key) = next {
            let entry = &mut self.entries[key as usize];
            next = entry.next;
            entry.next = reversed;
            reversed = Some(key);
        }
        while let Some(key) = reversed {
            reversed = self.entries[key as usize].next;
            self.link(key);
        }
    }

    /// Puts an entry where the highest bit in which its deadline differs from now says.
    fn link(&mut self, key: u32) {
        let at_ms = self.entries[key as usize].at_ms;
        let differs = (at_ms ^ self.now_ms) | 1;
        let level = ((63 - differs.leading_zeros()) / BITS).min(LEVELS as u32 - 1) as usize;
        let slot = (at_ms >> (BITS * level as u32)) as usize & (SLOTS - 1);
        let head = self.slots[level][slot].replace(key);
        self.occupied[level] |= 1 << slot;
        if let Some(head) = head {
            self.entries[head as usize].prev = Some(key);
        }
        let entry = &mut self.entries[key as usize];
        (entry.level, entry.slot) = (level as u8, slot as u8);
        (entry.prev, entry.next) = (None, head);
    }

    fn unlink(&mut self, key: u32) {
        let entry = &self.entries[key as usize];
        let (prev, next) = (entry.prev, entry.next);
        let (level, slot) = (usize::from(entry.level), usize::from(entry.slot));
        if let Some(next) = next {
            self.entries[next as usize].prev = prev;
        }
        match prev {
            Some(prev) => self.entries[prev as usize].next = next,
            None => {
                self.slots[level][slot] = next;
                if next.is_none() {
                    self.occupied[level] &= !(1 << slot);
                }
            }
        }
    }
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 7;
/// A timer lies at most 2.1 years ahead: longer ones are cut to that.
const SPAN_MS: u64 = 1 << (BITS * (LEVELS as u32 - 1));

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_does_what_a_sorted_map_does() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut wheel = Wheel::new(1_000_003);
        let mut now_ms = 1_000_003;
        let mut model: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut ids = Vec::new();
        for step in 0..60_000u64 {
            match random(8) {
                0..=3 => {
                    let reach = [3, 70, 5_000, 400_000, 20_000_000][random(5) as usize];
                    let at_ms = (now_ms + random(reach)).saturating_sub(random(3)).max(now_ms);
                    ids.push((wheel.insert(at_ms, step), at_ms, step));
                    model.entry(at_ms).or_default().push(step);
                }
                4..=5 if !ids.is_empty() => {
                    let (id, at_ms, value) = ids.swap_remove(random(ids.len() as u64) as usize);
                    let known = model.get_mut(&at_ms).is_some_and(|values| {
                        let before = values.len();
                        values.retain(|it| *it != value);
                        values.len() < before
                    });
                    assert_eq!(wheel.get_mut(id).copied(), known.then_some(value));
                    assert_eq!(wheel.cancel(id), known.then_some(value));
                    model.retain(|_, values| !values.is_empty());
                }
                _ => {
                    now_ms += [1, 1, 5, 64, 5_000, 1_000_000][random(6) as usize];
                    let mut fired = Vec::new();
                    while let Some(value) = wheel.pop_due(now_ms) {
                        fired.push(value);
                    }
                    let later = model.split_off(&(now_ms + 1));
                    let due = std::mem::replace(&mut model, later);
                    let mut fired = fired.into_iter();
                    for (at_ms, mut values) in due {
                        let mut batch: Vec<u64> = fired.by_ref().take(values.len()).collect();
                        batch.sort_unstable();
                        values.sort_unstable();
                        assert_eq!(batch, values, "due at {at_ms}");
                    }
                    assert_eq!(fired.next(), None, "too early");
                }
            }
            let first = model.keys().next().copied();
            assert_eq!(wheel.next_ms().is_some(), first.is_some());
            assert!(wheel.next_ms() <= first, "{:?} is after {first:?}", wheel.next_ms());
            assert_eq!(wheel.entries.len(), model.values().map(Vec::len).sum::<usize>());
        }
    }

    #[test]
    fn a_lower_bound_makes_progress() {
        let mut wheel = Wheel::new(0);
        wheel.insert(10_000_000, ());
        let mut looks = 0;
        while wheel.pop_due(wheel.next_ms().expect("one is set")).is_none() {
            looks += 1;
            assert!(looks < 2 * LEVELS, "one look a level is enough");
        }
    }
}
