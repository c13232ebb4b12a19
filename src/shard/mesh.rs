//! Messages between shards: one bounded queue per ordered pair, drained in batches by its
//! receiver. A push that finds the receiver asleep rings its doorbell once.
//!
//! No order is promised between senders. A full queue gives the message back and is counted:
//! what a lost message would corrupt must not be dropped by its sender.

use std::cell::{Cell, RefCell};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::inbox::{self, Inbox};
use crate::limits::{MESH_BATCH_MAX, MESH_MESSAGES_MAX};

/// One shard's ends of the queues: to each other shard, and from each.
pub(crate) struct Mesh<M> {
    /// By receiving shard; none to itself.
    to: Vec<Option<Outlet<M>>>,
    /// By sending shard.
    from: RefCell<Vec<(usize, Consumer<M>)>>,
    /// Where the next drain begins, so that no sender is always first.
    next: Cell<usize>,
}

/// The sending end, before it has reached the thread it is for: made for all shards at once.
pub(crate) struct Ends<M> {
    to: Vec<Option<Producer<M>>>,
    from: Vec<(usize, Consumer<M>)>,
}

struct Outlet<M> {
    queue: RefCell<Producer<M>>,
    inbox: &'static Inbox,
}

/// The ends for `count` shards, in the order of their ids.
pub(crate) fn ends<M>(count: usize) -> Vec<Ends<M>> {
    let mut all: Vec<Ends<M>> =
        (0..count).map(|_| Ends { to: Vec::new(), from: Vec::new() }).collect();
    for sender in 0..count {
        for receiver in 0..count {
            if sender == receiver {
                all[sender].to.push(None);
                continue;
            }
            let (producer, consumer) = RingBuffer::new(MESH_MESSAGES_MAX);
            all[sender].to.push(Some(producer));
            all[receiver].from.push((sender, consumer));
        }
    }
    all
}

impl<M> Mesh<M> {
    /// `seats` are the seats of all shards, in the order of their ids.
    pub(crate) fn new(ends: Ends<M>, seats: &[u16]) -> Mesh<M> {
        let outlet = |(to, queue): (usize, Option<Producer<M>>)| {
            let inbox = inbox::of(seats[to])?;
            Some(Outlet { queue: RefCell::new(queue?), inbox })
        };
        let to = ends.to.into_iter().enumerate().map(outlet).collect();
        Mesh { to, from: RefCell::new(ends.from), next: Cell::new(0) }
    }

    /// Shards in all, this one included.
    pub(crate) fn count(&self) -> usize {
        self.to.len()
    }

    /// Queues a message, or gives it back: the queue is full, or there is no such other shard, or
    /// it has ended.
    pub(crate) fn send(&self, to: usize, message: M) -> Result<(), M> {
        let Some(Some(outlet)) = self.to.get(to) else { return Err(message) };
        let mut queue = outlet.queue.borrow_mut();
        if queue.is_abandoned() {
            return Err(message); // the other shard has ended
        }
        let pushed = queue.push(message);
        drop(queue);
        match pushed {
            Ok(()) => {
                outlet.inbox.notify();
                Ok(())
            }
            Err(PushError::Full(message)) => {
                outlet.inbox.notify();
                Err(message)
            }
        }
    }

    /// Whether that other shard is over, or never was.
    pub(crate) fn has_ended(&self, shard: usize) -> bool {
        match self.to.get(shard) {
            Some(Some(outlet)) => outlet.queue.borrow().is_abandoned(),
            _ => true,
        }
    }

    /// Messages that have come and wait.
    pub(crate) fn waiting(&self) -> usize {
        self.from.borrow().iter().map(|(_, queue)| queue.slots()).sum()
    }

    /// Hands over what has come, a batch from each sender. True if there may be more.
    pub(crate) fn drain(&self, mut deliver: impl FnMut(usize, M)) -> bool {
        let senders = self.from.borrow().len();
        let first = self.next.replace(self.next.get().wrapping_add(1));
        let mut more = false;
        for turn in 0..senders {
            let at = (first + turn) % senders;
            for taken in 0.. {
                if taken == MESH_BATCH_MAX {
                    more = true;
                    break;
                }
                // Not borrowed while it is delivered: what is delivered may send.
                let next = {
                    let (sender, queue) = &mut self.from.borrow_mut()[at];
                    queue.pop().ok().map(|message| (*sender, message))
                };
                match next {
                    Some((sender, message)) => deliver(sender, message),
                    None => break,
                }
            }
        }
        more
    }
}

/// Who waits for an answer to what is left hears that there is none.
impl<M> Drop for Mesh<M> {
    fn drop(&mut self) {
        for (_, queue) in self.from.get_mut() {
            while queue.pop().is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::inbox::Seat;

    #[test]
    fn every_pair_has_a_queue_with_a_bound() {
        let seats: Vec<Seat> = (0..3).map(|_| Seat::take().expect("a seat")).collect();
        let numbers: Vec<u16> = seats.iter().map(Seat::number).collect();
        let meshes: Vec<Mesh<u32>> =
            ends(3).into_iter().map(|ends| Mesh::new(ends, &numbers)).collect();
        for message in 0..MESH_MESSAGES_MAX as u32 {
            assert_eq!(meshes[0].send(1, message), Ok(()));
        }
        assert_eq!(meshes[0].send(1, 7), Err(7), "full: given back, not lost");
        assert_eq!(meshes[2].send(1, 9), Ok(()), "another sender has its own queue");
        assert_eq!(meshes[1].send(1, 9), Err(9), "not to itself");
        assert_eq!(meshes[1].send(3, 9), Err(9), "nobody is there");
        let mut seen = vec![Vec::new(); 3];
        let mut drains = 0;
        assert!(meshes[1].waiting() > 0);
        while meshes[1].drain(|from, message| seen[from].push(message)) {
            drains += 1;
        }
        assert_eq!(seen[0], (0..MESH_MESSAGES_MAX as u32).collect::<Vec<_>>());
        assert_eq!(seen[2], [9]);
        assert_eq!(drains, MESH_MESSAGES_MAX / MESH_BATCH_MAX);
        assert!(inbox::of(numbers[1]).expect("there").take_mail());
        let mut meshes = meshes;
        meshes.remove(1);
        assert_eq!(meshes[0].send(1, 7), Err(7), "it has ended: nobody would take it");
    }
}
