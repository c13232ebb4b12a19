//! Messages that wait for one connection: bounded in number and bytes, whole or not at all.

use std::collections::VecDeque;
use std::rc::Rc;

use super::piece::{Frame, Piece};
use super::spares::Spares;
use crate::limits::{BACKLOG_SEND_BYTES_MAX, BACKLOG_SHARED_BYTES_MIN};

/// One connection's queue of whole messages, oldest first.
#[derive(Default)]
pub(crate) struct Backlog {
    frames: VecDeque<Rc<Frame>>,
    bytes: usize,
    /// Nothing leaves meanwhile: a message in fragments is on its way.
    pub(crate) held: bool,
}

/// Messages that a newer one has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The oldest ones, to make room.
    pub(crate) oldest: u64,
    /// One of the same key.
    pub(crate) replaced: u64,
}

/// What to do with a message that finds its queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Give it back.
    Refuse,
    /// Forget the oldest ones.
    DropOldest,
}

impl Backlog {
    /// Queues a message; false if it found no room. What it cost others is added to `lost`.
    pub(crate) fn push(
        &mut self,
        frame: Rc<Frame>,
        (messages_max, bytes_max): (usize, usize),
        full: Full,
        lost: &mut Lost,
    ) -> bool {
        let len = frame.bytes.len();
        if frame.key != 0
            && let Some(old) = self.frames.iter_mut().find(|it| it.key == frame.key)
            && self.bytes - old.bytes.len() + len <= bytes_max
        {
            self.bytes = self.bytes - old.bytes.len() + len;
            *old = frame;
            lost.replaced += 1;
            return true;
        }
        let fits = |it: &Backlog| {
            it.frames.is_empty() || (it.frames.len() < messages_max && it.bytes + len <= bytes_max)
        };
        while !fits(self) {
            if full == Full::Refuse {
                return false;
            }
            lost.oldest += u64::from(self.pop().is_some());
        }
        self.bytes += len;
        self.frames.push_back(frame);
        true
    }

    /// What leaves next, in one send: behind `first`, as many of the small ones as a send takes;
    /// a large one alone, uncopied.
    pub(crate) fn take(&mut self, first: Vec<u8>, spares: &Spares) -> Option<Piece> {
        let alone = self.frames.len() == 1 || self.is_next_large();
        if first.is_empty() && alone && !self.held {
            spares.give(first);
            return self.pop().map(Piece::Shared);
        }
        let mut out = first;
        while !self.held
            && let Some(next) = self.frames.front()
            && !self.is_next_large()
            && out.len() + next.bytes.len() <= BACKLOG_SEND_BYTES_MAX
        {
            if out.capacity() == 0 {
                out = spares.take();
            }
            out.extend_from_slice(&next.bytes);
            self.pop();
        }
        if out.is_empty() {
            spares.give(out);
            return None;
        }
        Some(Piece::Own(out))
    }

    /// Whether something may leave.
    pub(crate) fn is_ready(&self) -> bool {
        !self.held && !self.frames.is_empty()
    }

    /// Messages and bytes.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.frames.len(), self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn is_next_large(&self) -> bool {
        self.frames.front().is_some_and(|it| it.bytes.len() >= BACKLOG_SHARED_BYTES_MIN)
    }

    fn pop(&mut self) -> Option<Rc<Frame>> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.bytes.len();
        if self.frames.is_empty() && self.frames.capacity() > 4 {
            self.frames = VecDeque::new(); // one that fell behind once does not hold room for ever
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str, key: u64) -> Rc<Frame> {
        Rc::new(Frame { bytes: text.as_bytes().into(), key })
    }

    #[test]
    fn what_happens_to_a_message_that_finds_no_room() {
        // (in the queue, new one, its key, policy) -> (taken, lost, what leaves)
        let bounds = (3, 10);
        type Row<'a> = (&'a [(&'a str, u64)], &'a str, u64, Full, bool, u64, &'a str);
        let cases: &[Row<'_>] = &[
            (&[], "a", 0, Full::Refuse, true, 0, "a"),
            (&[("a", 0), ("b", 0)], "c", 0, Full::Refuse, true, 0, "abc"),
            (&[("a", 0), ("b", 0), ("c", 0)], "d", 0, Full::Refuse, false, 0, "abc"),
            (&[("a", 0), ("b", 0), ("c", 0)], "d", 0, Full::DropOldest, true, 1, "bcd"),
            (&[("aaaa", 0), ("bbbb", 0)], "ccc", 0, Full::Refuse, false, 0, "aaaabbbb"),
            (&[("aaaa", 0), ("bbbb", 0)], "ccc", 0, Full::DropOldest, true, 1, "bbbbccc"),
            (&[("aa", 7), ("bb", 0)], "cc", 7, Full::Refuse, true, 1, "ccbb"),
            (&[("aa", 7), ("bb", 0)], "0123456789", 7, Full::Refuse, false, 0, "aabb"),
            // One that is larger than the bound passes an empty queue: nothing would ever do.
            (&[], "0123456789ab", 0, Full::Refuse, true, 0, "0123456789ab"),
            (&[("a", 0)], "0123456789ab", 0, Full::DropOldest, true, 1, "0123456789ab"),
        ];
        for (before, new, key, full, taken, lost, leaves) in cases {
            let (mut backlog, mut lost_now) = (Backlog::default(), Lost::default());
            for (text, key) in *before {
                assert!(backlog.push(frame(text, *key), bounds, Full::Refuse, &mut lost_now));
            }
            let took = backlog.push(frame(new, *key), bounds, *full, &mut lost_now);
            assert_eq!(
                (took, lost_now.oldest + lost_now.replaced),
                (*taken, *lost),
                "{before:?} {new}"
            );
            let mut out = Vec::new();
            while let Some(piece) = backlog.take(Vec::new(), &Spares::default()) {
                out.extend_from_slice(piece.bytes());
            }
            assert_eq!(out, leaves.as_bytes(), "{before:?} {new}");
            assert_eq!((backlog.bytes, backlog.is_empty()), (0, true));
        }
    }

    #[test]
    fn what_is_held_waits_and_what_is_large_leaves_alone() {
        let (mut backlog, spares) = (Backlog::default(), Spares::default());
        let mut lost = Lost::default();
        let large = "x".repeat(BACKLOG_SHARED_BYTES_MIN);
        for text in ["a", "b", &large, "c"] {
            backlog.push(frame(text, 0), (9, usize::MAX), Full::Refuse, &mut lost);
        }
        backlog.held = true;
        assert!(backlog.take(Vec::new(), &spares).is_none() && !backlog.is_ready());
        let own = backlog.take(b"fragment".to_vec(), &spares);
        assert_eq!(
            own.as_ref().map(Piece::bytes),
            Some(&b"fragment"[..]),
            "what is written passes"
        );
        backlog.held = false;
        let mut sends = Vec::new();
        while let Some(piece) = backlog.take(Vec::new(), &spares) {
            sends.push((matches!(piece, Piece::Shared(_)), piece.len()));
        }
        assert_eq!(sends, [(false, 2), (true, large.len()), (true, 1)]);
    }
}
