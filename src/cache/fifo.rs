//! Queues of entries by their numbers, linked in one table: O(1) to push, to pop and to take out of
//! the middle.

/// Links of every entry; each is in one queue at most.
#[derive(Default)]
pub(crate) struct Links(Vec<Link>);

#[derive(Clone, Copy)]
struct Link {
    /// Nearer to the newest.
    newer: u32,
    older: u32,
}

/// The ends of one queue.
pub(crate) struct Fifo {
    newest: u32,
    oldest: u32,
}

pub(crate) const NONE: u32 = u32::MAX;

impl Links {
    fn at(&mut self, id: u32) -> &mut Link {
        let id = id as usize;
        if id >= self.0.len() {
            self.0.resize(id + 1, Link { newer: NONE, older: NONE });
        }
        &mut self.0[id]
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

impl Fifo {
    pub(crate) fn new() -> Fifo {
        Fifo { newest: NONE, oldest: NONE }
    }

    /// The next one to leave.
    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Adds an entry that is in no queue.
    pub(crate) fn push(&mut self, links: &mut Links, id: u32) {
        *links.at(id) = Link { newer: NONE, older: self.newest };
        match self.newest {
            NONE => self.oldest = id,
            newest => links.at(newest).newer = id,
        }
        self.newest = id;
    }

    /// Takes out an entry that is in this queue.
    pub(crate) fn remove(&mut self, links: &mut Links, id: u32) {
        let Link { newer, older } = *links.at(id);
        match newer {
            NONE => self.newest = older,
            newer => links.at(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => links.at(older).newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::VecDeque;

    #[test]
    fn they_agree_with_a_list() {
        let (mut links, mut fifos) = (Links::default(), [Fifo::new(), Fifo::new()]);
        let mut model: [VecDeque<u32>; 2] = Default::default();
        let mut seed = 7u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (at, id) = ((seed >> 40) as usize % 2, (seed >> 33) as u32 % 50);
            match (0..2).find(|it| model[*it].contains(&id)) {
                Some(holder) => {
                    fifos[holder].remove(&mut links, id);
                    model[holder].retain(|it| *it != id);
                }
                None => {
                    fifos[at].push(&mut links, id);
                    model[at].push_back(id);
                }
            }
            for (fifo, model) in fifos.iter().zip(&model) {
                assert_eq!(fifo.oldest(), model.front().copied());
            }
        }
    }
}
