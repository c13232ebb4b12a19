//! Which publications of each other node were heard: by their numbers.

use std::collections::HashMap;

use crate::limits::cluster::NODES_MAX;

/// The nodes that were heard.
#[derive(Default)]
pub(super) struct Senders {
    nodes: HashMap<u128, Sender>,
    /// Counts what was heard: who was silent the longest is forgotten first.
    heard: u64,
}

struct Sender {
    last: u64,
    heard: u64,
}

/// What a number says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It comes behind all that was heard of its node, and so many are missing in between.
    Behind { lost: u64 },
    /// It was heard, or given up, before.
    Again,
}

impl Senders {
    /// Takes note of a node's publication. What a node sent before it was first heard is not lost:
    /// nobody was there to hear it.
    pub(super) fn hear(&mut self, node: u128, number: u64) -> Heard {
        self.heard += 1;
        let heard = self.heard;
        if let Some(sender) = self.nodes.get_mut(&node) {
            if number <= sender.last {
                return Heard::Again;
            }
            let lost = number - sender.last - 1;
            *sender = Sender { last: number, heard };
            return Heard::Behind { lost };
        }
        if self.nodes.len() >= NODES_MAX {
            let silent = self.nodes.iter().min_by_key(|(_, sender)| sender.heard);
            if let Some(silent) = silent.map(|(node, _)| *node) {
                self.nodes.remove(&silent);
            }
        }
        self.nodes.insert(node, Sender { last: number, heard });
        Heard::Behind { lost: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_and_nothing_is_heard_twice() {
        let mut senders = Senders::default();
        let lost = |lost| Heard::Behind { lost };
        let cases = [
            ((1, 5), lost(0)),
            ((1, 6), lost(0)),
            ((1, 6), Heard::Again),
            ((1, 4), Heard::Again),
            ((1, 9), lost(2)),
            ((1, 8), Heard::Again),
            ((2, 1), lost(0)),
            ((2, 2), lost(0)),
            ((1, 10), lost(0)),
            ((2, u64::MAX), lost(u64::MAX - 3)),
            ((2, u64::MAX), Heard::Again),
        ];
        for ((node, number), want) in cases {
            assert_eq!(senders.hear(node, number), want, "{number} of {node}");
        }
    }

    #[test]
    fn of_too_many_nodes_the_silent_one_is_forgotten() {
        let mut senders = Senders::default();
        for node in 0..NODES_MAX as u128 {
            senders.hear(node, 3);
        }
        senders.hear(0, 4);
        senders.hear(u128::MAX, 1);
        assert_eq!(senders.nodes.len(), NODES_MAX);
        assert_eq!(senders.hear(0, 4), Heard::Again);
        assert_eq!(senders.hear(1, 3), Heard::Behind { lost: 0 }, "it was forgotten");
    }
}
