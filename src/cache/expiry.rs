//! When entries die: a hierarchical timing wheel in ticks, linked by the entries' numbers, so that
//! it costs an entry 12 bytes (Varghese and Lauck, 1987).

use super::fifo::NONE;

/// Milliseconds of a tick, as a power of two.
pub(crate) const TICK_MS_LOG: u32 = 6;

/// Entries by the tick in which they die.
pub(crate) struct Expiry {
    now: u32,
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    links: Vec<Link>,
    len: usize,
}

#[derive(Clone, Copy)]
struct Link {
    /// `NONE` for the first of its slot.
    before: u32,
    after: u32,
    /// `NONE` for an entry that is not here.
    due: u32,
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Six levels of 64: all of 32 bits.
const LEVELS: usize = 6;
const ABSENT: Link = Link { before: NONE, after: NONE, due: NONE };

impl Expiry {
    pub(crate) fn new(now: u32) -> Expiry {
        let heads = Box::new([[NONE; SLOTS]; LEVELS]);
        Expiry { now, heads, links: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sets when an entry dies, in place of an earlier word.
    pub(crate) fn set(&mut self, id: u32, due: u32) {
        self.unset(id);
        let at = id as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, ABSENT);
        }
        self.len += 1;
        self.link(id, due.clamp(self.now, NONE - 1));
    }

    /// The entry does not die by itself.
    pub(crate) fn unset(&mut self, id: u32) {
        let Some(Link { before, after, due }) = self.links.get(id as usize).copied() else {
            return;
        };
        if due == NONE {
            return;
        }
        self.len -= 1;
        self.links[id as usize] = ABSENT;
        match before {
            NONE => {
                let (level, slot) = self.place(due);
                // It may have been linked when now was another: then another level has it.
                let head = self.heads[level][slot];
                match head == id {
                    true => self.heads[level][slot] = after,
                    false => self.unhead(id, after),
                }
            }
            before => self.links[before as usize].after = after,
        }
        if after != NONE {
            self.links[after as usize].before = before;
        }
    }

    /// An entry that dies at `now` or before; call it until there is none.
    pub(crate) fn pop(&mut self, now: u32) -> Option<u32> {
        loop {
            let slot = self.now as usize % SLOTS;
            let id = self.heads[0][slot];
            if id != NONE {
                self.unset(id);
                return Some(id);
            }
            if self.now >= now {
                return None;
            }
            if self.len == 0 {
                self.now = now;
                return None;
            }
            self.now += 1;
            self.cascade();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Expiry::new(self.now);
    }

    /// The level of the highest digit in which the two differ, and that digit.
    fn place(&self, due: u32) -> (usize, usize) {
        let differs = 31 - (due ^ self.now | 1).leading_zeros();
        let level = (differs / BITS) as usize;
        (level, (due >> (BITS * level as u32)) as usize % SLOTS)
    }

    fn link(&mut self, id: u32, due: u32) {
        let (level, slot) = self.place(due);
        let head = self.heads[level][slot];
        self.links[id as usize] = Link { before: NONE, after: head, due };
        if head != NONE {
            self.links[head as usize].before = id;
        }
        self.heads[level][slot] = id;
    }

    #[cold]
    fn unhead(&mut self, id: u32, after: u32) {
        for head in self.heads.iter_mut().flatten().filter(|head| **head == id) {
            *head = after;
        }
    }

    /// Spreads the slots that begin now over the levels below.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let shift = BITS * level as u32;
            if self.now & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = (self.now >> shift) as usize % SLOTS;
            let mut id = std::mem::replace(&mut self.heads[level][slot], NONE);
            while id != NONE {
                let Link { after, due, .. } = self.links[id as usize];
                self.link(id, due);
                id = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    #[test]
    fn it_agrees_with_a_map() {
        let (mut expiry, mut model) = (Expiry::new(1_000), BTreeMap::new());
        let (mut seed, mut now) = (11u64, 1_000u32);
        for _ in 0..30_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(3);
            let (what, id) = ((seed >> 60) as u32, (seed >> 33) as u32 % 200);
            let far = 1u32 << ((seed >> 50) % 20);
            match what {
                0..8 => {
                    let due = now.saturating_sub(3) + (seed >> 20) as u32 % far;
                    expiry.set(id, due);
                    model.insert(id, due.max(now));
                }
                8..11 => {
                    expiry.unset(id);
                    model.remove(&id);
                }
                _ => {
                    now += (seed >> 20) as u32 % far.min(5_000);
                    let mut dead = Vec::new();
                    while let Some(id) = expiry.pop(now) {
                        dead.push(id);
                    }
                    dead.sort_unstable();
                    let want: Vec<u32> =
                        model.iter().filter(|(_, due)| **due <= now).map(|(id, _)| *id).collect();
                    assert_eq!(dead, want, "at {now}");
                    model.retain(|_, due| *due > now);
                }
            }
            assert_eq!(expiry.len(), model.len());
        }
    }
}
