//! Messages between shards: one bounded queue per ordered pair, drained in batches by its
//! receiver. A push that finds the receiver asleep rings its doorbell once.
//!
//! No order is promised between senders. A full queue gives the message back and is counted:
//! what a lost message would corrupt must not be dropped by its sender.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

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
    /// Set when this shard takes nothing any more.
    over: Arc<AtomicBool>,
}

/// The sending end, before it has reached the thread it is for: made for all shards at once.
pub(crate) struct Ends<M> {
    to: Vec<Option<End<M>>>,
    from: Vec<(usize, Consumer<M>)>,
    over: Arc<AtomicBool>,
}

/// A queue's sending end, and whether its receiver is over.
type End<M> = (Producer<M>, Arc<AtomicBool>);

struct Outlet<M> {
    /// None once the receiver is over.
    queue: RefCell<Option<Producer<M>>>,
    over: Arc<AtomicBool>,
    inbox: &'static Inbox,
}

/// The ends for `count` shards, in the order of their ids.
pub(crate) fn ends<M>(count: usize) -> Vec<Ends<M>> {
    let end = |_| Ends { to: Vec::new(), from: Vec::new(), over: Arc::default() };
    let mut all: Vec<Ends<M>> = (0..count).map(end).collect();
    for sender in 0..count {
        for receiver in 0..count {
            if sender == receiver {
                all[sender].to.push(None);
                continue;
            }
            let (producer, consumer) = RingBuffer::new(MESH_MESSAGES_MAX);
            let over = all[receiver].over.clone();
            all[sender].to.push(Some((producer, over)));
            all[receiver].from.push((sender, consumer));
        }
    }
    all
}

impl<M> Mesh<M> {
    /// `seats` are the seats of all shards, in the order of their ids.
    pub(crate) fn new(ends: Ends<M>, seats: &[u16]) -> Mesh<M> {
        let outlet = |(to, end): (usize, Option<End<M>>)| {
            let (inbox, (queue, over)) = (inbox::of(seats[to])?, end?);
            Some(Outlet { queue: RefCell::new(Some(queue)), over, inbox })
        };
        let to = ends.to.into_iter().enumerate().map(outlet).collect();
        Mesh { to, from: RefCell::new(ends.from), next: Cell::new(0), over: ends.over }
    }

    /// Shards in all, this one included.
    pub(crate) fn count(&self) -> usize {
        self.to.len()
    }

    /// Queues a message, or gives it back: the queue is full, or there is no such other shard, or
    /// it has ended.
    pub(crate) fn send(&self, to: usize, message: M) -> Result<(), M> {
        let Some(Some(outlet)) = self.to.get(to) else { return Err(message) };
        if outlet.over.load(Ordering::SeqCst) {
            return Err(message); // the other shard has ended
        }
        let pushed = match &mut *outlet.queue.borrow_mut() {
            Some(queue) => queue.push(message),
            None => return Err(message),
        };
        match pushed {
            Ok(()) => {
                // It may have looked for the last time before the push: one of the two sees the
                // other, as `over` and the queue's indices are in one order.
                fence(Ordering::SeqCst);
                if outlet.over.load(Ordering::SeqCst) {
                    outlet.forsake();
                } else {
                    outlet.inbox.notify();
                }
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
            Some(Some(outlet)) => outlet.over.load(Ordering::SeqCst),
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

impl<M> Outlet<M> {
    /// Drops what an ended receiver has left in its queue.
    #[cold]
    fn forsake(&self) {
        let queue = self.queue.take();
        if let Some(queue) = &queue {
            while !queue.is_abandoned() {
                std::thread::yield_now(); // it drops its end at this moment
            }
        }
        drop(queue); // not borrowed: what is dropped may send
    }
}

/// Who waits for an answer to what is left hears that there is none.
impl<M> Drop for Mesh<M> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
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

    /// A message is an Arc: taken or not, it is dropped by the time that the sender is refused.
    #[test]
    fn nothing_is_left_in_the_queue_of_a_shard_that_ends() {
        let seats: Vec<Seat> = (0..2).map(|_| Seat::take().expect("a seat")).collect();
        let numbers: Vec<u16> = seats.iter().map(Seat::number).collect();
        for round in 0..2_000 {
            let mut ends = ends(2).into_iter();
            let (here, there) = (ends.next().expect("one"), ends.next().expect("two"));
            let here: Mesh<Arc<()>> = Mesh::new(here, &numbers);
            let seats = numbers.clone();
            let ending = std::thread::spawn(move || {
                let there = Mesh::new(there, &seats);
                for _ in 0..round % 64 {
                    there.drain(|_, message| drop(message));
                }
            });
            let (message, mut sent) = (Arc::new(()), 0_u64);
            loop {
                match here.send(1, message.clone()) {
                    Ok(()) => sent += 1,
                    Err(_) if here.has_ended(1) => break,
                    Err(_) => std::thread::yield_now(), // full
                }
            }
            ending.join().expect("it ends");
            assert_eq!(Arc::strong_count(&message), 1, "of {sent} some are left in round {round}");
        }
    }
}
