//! A hierarchical timing wheel: 1 ms a slot, levels of 64, O(1) to set and to cancel, and no
//! allocation once it is warm (Varghese and Lauck, 1987).

use slab::Slab;

/// Timers with a value each, fired in the order of their deadlines, never early; those of one
/// deadline in the order in which they were set.
///
/// An entry lies in the level of the highest digit, in base 64, in which its deadline differs from
/// now, and in the slot of that digit. So a level's entries share all higher digits with now, and
/// lower levels fire first. A slot spreads out over the levels below when its time begins.
pub(crate) struct Wheel<T> {
    /// Never after the first deadline that has not fired.
    now_ms: u64,
    /// The first entry of each slot's ring, or `NONE`.
    slots: Box<[[u32; SLOTS]; LEVELS]>,
    /// A bit for each slot that has entries.
    occupied: [u64; LEVELS],
    /// A bit for each level that has entries.
    levels: u16,
    entries: Slab<Entry<T>>,
    set: u64,
}

/// Names one timer; useless after it has fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    key: u32,
    generation: u64,
}

struct Entry<T> {
    value: T,
    at_ms: u64,
    generation: u64,
    prev: u32,
    next: u32,
    level: u8,
    slot: u8,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now_ms: u64) -> Wheel<T> {
        Wheel {
            now_ms,
            slots: Box::new([[NONE; SLOTS]; LEVELS]),
            occupied: [0; LEVELS],
            levels: 0,
            entries: Slab::new(),
            set: 0,
        }
    }

    /// Sets a timer; one in the past fires at the next `pop_due`.
    #[inline]
    pub(crate) fn insert(&mut self, at_ms: u64, value: T) -> TimerId {
        let at_ms = at_ms.max(self.now_ms);
        self.set += 1;
        let generation = self.set;
        let entry = Entry { value, at_ms, generation, prev: NONE, next: NONE, level: 0, slot: 0 };
        let key = self.entries.insert(entry) as u32;
        self.link(key, at_ms);
        TimerId { key, generation }
    }

    /// Takes a timer back before it fires.
    #[inline]
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.get_mut(id)?;
        Some(self.remove(id.key))
    }

    /// The value of a timer that is set.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: TimerId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.key as usize)?;
        (entry.generation == id.generation).then_some(&mut entry.value)
    }

    /// The next timer that is due at `now_ms`, soonest first; call it until there is none.
    #[inline]
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<T> {
        while self.levels != 0 {
            let (level, slot) = self.first();
            let start_ms = self.start_of(level, slot);
            if start_ms > now_ms {
                break;
            }
            self.now_ms = start_ms;
            if level == 0 {
                return Some(self.remove(self.slots[0][slot]));
            }
            self.spread(level, slot);
        }
        self.now_ms = self.now_ms.max(now_ms);
        None
    }

    /// No timer fires before this. Exact for a deadline in the current 64 ms; else where the first
    /// slot begins, and then `pop_due` brings the bound nearer, at most once a level. Never more
    /// than two years ahead, so that nanoseconds can be reckoned from it.
    #[inline]
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.levels == 0 {
            return None;
        }
        let (level, slot) = self.first();
        Some(self.start_of(level, slot).min(self.now_ms.saturating_add(AHEAD_MS_MAX)))
    }

    /// Timers that are set.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The level and slot whose time begins first; there is one.
    fn first(&self) -> (usize, usize) {
        let level = self.levels.trailing_zeros() as usize;
        (level, self.occupied[level].trailing_zeros() as usize)
    }

    /// Where a slot that has entries begins: after now, but for the slot of now in level 0.
    fn start_of(&self, level: usize, slot: usize) -> u64 {
        let shift = BITS * level as u32;
        let digit = (SLOTS as u64 - 1) << shift;
        let below = (1 << shift) - 1;
        self.now_ms & !digit & !below | (slot as u64) << shift
    }

    fn spread(&mut self, level: usize, slot: usize) {
        let first = self.slots[level][slot];
        self.vacate(level, slot);
        let mut key = first;
        loop {
            let entry = &self.entries[key as usize];
            let (next, at_ms) = (entry.next, entry.at_ms);
            self.link(key, at_ms);
            if next == first {
                return;
            }
            key = next;
        }
    }

    /// Puts an entry at the end of its slot's ring.
    fn link(&mut self, key: u32, at_ms: u64) {
        let differs = (at_ms ^ self.now_ms) | 1;
        let level = (differs.ilog2() / BITS) as usize;
        let slot = (at_ms >> (BITS * level as u32)) as usize % SLOTS;
        let first = self.slots[level][slot];
        let (prev, next) = if first == NONE {
            self.slots[level][slot] = key;
            self.occupied[level] |= 1 << slot;
            self.levels |= 1 << level;
            (key, key)
        } else {
            let last = std::mem::replace(&mut self.entries[first as usize].prev, key);
            self.entries[last as usize].next = key;
            (last, first)
        };
        let entry = &mut self.entries[key as usize];
        (entry.prev, entry.next) = (prev, next);
        (entry.level, entry.slot) = (level as u8, slot as u8);
    }

    fn remove(&mut self, key: u32) -> T {
        let Entry { value, prev, next, level, slot, .. } = self.entries.remove(key as usize);
        let (level, slot) = (usize::from(level), usize::from(slot));
        if next == key {
            self.vacate(level, slot);
        } else {
            self.entries[prev as usize].next = next;
            self.entries[next as usize].prev = prev;
            if self.slots[level][slot] == key {
                self.slots[level][slot] = next;
            }
        }
        value
    }

    fn vacate(&mut self, level: usize, slot: usize) {
        self.slots[level][slot] = NONE;
        self.occupied[level] &= !(1 << slot);
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Enough for any `u64`.
const LEVELS: usize = u64::BITS.div_ceil(BITS) as usize;
const NONE: u32 = u32::MAX;
const AHEAD_MS_MAX: u64 = 2 * 365 * 86_400_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A sorted map of deadline and order of setting.
    struct Model {
        now_ms: u64,
        timers: BTreeMap<(u64, u64), TimerId>,
        seed: u64,
    }

    impl Model {
        fn random(&mut self, below: u64) -> u64 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            self.seed % below
        }

        /// A distance of any magnitude below `2^bits`.
        fn reach(&mut self, bits: u64) -> u64 {
            let bits = self.random(bits + 1);
            self.random(1 << bits)
        }
    }

    fn against_a_model(start_ms: u64, steps: u64, reach_bits: u64, jump_bits: u64) {
        let mut wheel = Wheel::new(start_ms);
        let timers = BTreeMap::new();
        let mut model = Model { now_ms: start_ms, timers, seed: start_ms | 0x9e37_79b9 };
        let mut ids = Vec::new();
        let mut fired = 0;
        for step in 0..steps {
            match model.random(8) {
                0..=3 => {
                    let ahead = model.reach(reach_bits);
                    let behind = [0, 0, 0, 5][model.random(4) as usize];
                    let at_ms = model.now_ms.saturating_add(ahead).saturating_sub(behind);
                    let id = wheel.insert(at_ms, step);
                    // One in the past counts as due now.
                    let at_ms = at_ms.max(model.now_ms);
                    model.timers.insert((at_ms, step), id);
                    ids.push((id, at_ms, step));
                }
                4..=5 if !ids.is_empty() => {
                    let (id, at_ms, value) =
                        ids.swap_remove(model.random(ids.len() as u64) as usize);
                    let set = model.timers.remove(&(at_ms, value)).map(|_| value);
                    assert_eq!(wheel.get_mut(id).copied(), set);
                    assert_eq!(wheel.cancel(id), set);
                    assert_eq!(wheel.cancel(id), None);
                }
                _ => {
                    let jump = match model.random(4) {
                        0 => model.reach(jump_bits),
                        _ => model.random(3),
                    };
                    model.now_ms = model.now_ms.saturating_add(jump);
                    let later = model.timers.split_off(&(model.now_ms, u64::MAX));
                    for (_, step) in std::mem::replace(&mut model.timers, later).into_keys() {
                        assert_eq!(wheel.pop_due(model.now_ms), Some(step));
                        fired += 1;
                    }
                    assert_eq!(wheel.pop_due(model.now_ms), None, "too early");
                }
            }
            let first = model.timers.keys().next().map(|(at_ms, _)| *at_ms);
            assert_eq!(wheel.next_ms().is_some(), first.is_some());
            assert!(wheel.next_ms() <= first, "{:?} is after {first:?}", wheel.next_ms());
            assert!(wheel.next_ms().is_none_or(|next_ms| next_ms >= model.now_ms));
            assert_eq!(wheel.len(), model.timers.len());
        }
        assert!(fired > steps / 16, "{fired} have fired");
    }

    #[test]
    fn it_does_what_a_sorted_map_does() {
        against_a_model(0, 100_000, 8, 8);
        against_a_model(1_000_003, 100_000, 20, 20);
        against_a_model(1_767_225_599_999, 100_000, 37, 38);
        // Over the border of a high digit, and up to the last millisecond.
        against_a_model((1 << 42) - 500, 100_000, 10, 10);
        against_a_model(u64::MAX - (1 << 22), 100_000, 20, 13);
        against_a_model(7, 20_000, 62, 54);
    }

    #[test]
    fn timers_set_while_others_fire() {
        // As a waker does: what is set for now or earlier fires in this round, and last.
        let mut wheel = Wheel::new(0);
        for (at_ms, value) in [(100, 1), (100, 2), (4_000, 3), (70, 0)] {
            wheel.insert(at_ms, value);
        }
        let mut order = Vec::new();
        while let Some(value) = wheel.pop_due(10_000) {
            order.push(value);
            if value < 4 {
                wheel.insert(99, value + 10);
            }
        }
        assert_eq!(order, [0, 10, 1, 2, 11, 12, 3, 13]);
    }

    #[test]
    fn the_bound_comes_nearer_at_most_once_a_level() {
        for at_ms in [0, 63, 64, 4_095, 10_000_000, AHEAD_MS_MAX] {
            let mut wheel = Wheel::new(0);
            wheel.insert(at_ms, ());
            let mut looks = 1;
            while wheel.pop_due(wheel.next_ms().expect("one is set")).is_none() {
                looks += 1;
            }
            assert!(looks <= LEVELS, "{looks} looks for {at_ms}");
        }
        let mut wheel = Wheel::new(3);
        wheel.insert(u64::MAX, ());
        assert_eq!(wheel.next_ms(), Some(3 + AHEAD_MS_MAX));
        assert_eq!(wheel.pop_due(3 + AHEAD_MS_MAX), None);
        assert_eq!(wheel.next_ms(), Some(3 + 2 * AHEAD_MS_MAX));
    }

    #[test]
    fn an_old_id_names_nothing() {
        let mut wheel = Wheel::new(5);
        let first = wheel.insert(9, 'a');
        assert_eq!(wheel.cancel(first), Some('a'));
        let second = wheel.insert(9, 'b');
        assert_eq!(first.key, second.key);
        assert_eq!(wheel.get_mut(first), None);
        assert_eq!(wheel.cancel(first), None);
        assert_eq!((wheel.pop_due(8), wheel.pop_due(9), wheel.pop_due(9)), (None, Some('b'), None));
        assert_eq!((wheel.cancel(second), wheel.len(), wheel.next_ms()), (None, 0, None));
    }
}
