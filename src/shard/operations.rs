//! What tasks ask of the shard's ring: reads and writes of files, opening them, a socket's room.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::ring::file::Op;

/// Between the tasks that ask and the driver that has the ring.
#[derive(Default)]
pub(crate) struct Operations {
    wanted: RefCell<Vec<(u32, Op)>>,
    cancelled: RefCell<Vec<u32>>,
    places: RefCell<Slab<Place>>,
}

enum Place {
    Waits(Waker),
    /// What came of it, and what it was given.
    Done(Result<usize, i32>, Op),
    /// Nobody waits any more.
    Abandoned,
}

/// One operation on its way. Dropped before its end it is cancelled; what the kernel holds stays
/// until it has let go.
pub(crate) struct Operation {
    all: Rc<Operations>,
    state: State,
}

enum State {
    Fresh(Option<Op>),
    Asked(u32),
    Over,
}

impl Operations {
    /// Asks for an operation, from its first poll on.
    pub(crate) fn start(self: &Rc<Self>, op: Op) -> Operation {
        Operation { all: self.clone(), state: State::Fresh(Some(op)) }
    }

    /// For the driver, once a turn: what is to be asked of the ring.
    #[inline]
    pub(crate) fn next_wanted(&self) -> Option<(u32, Op)> {
        self.wanted.borrow_mut().pop()
    }

    /// For the driver: whose end nobody waits for any more.
    #[inline]
    pub(crate) fn next_cancelled(&self) -> Option<u32> {
        self.cancelled.borrow_mut().pop()
    }

    /// From the driver: it has ended.
    pub(crate) fn done(&self, id: u32, result: Result<usize, i32>, op: Op) {
        let mut places = self.places.borrow_mut();
        let Some(place) = places.get_mut(id as usize) else { return };
        match std::mem::replace(place, Place::Done(result, op)) {
            Place::Waits(waker) => {
                drop(places);
                waker.wake();
            }
            Place::Abandoned => {
                // Its number is another's soon: that one is not to be cancelled.
                self.cancelled.borrow_mut().retain(|it| *it != id);
                let unused = places.remove(id as usize);
                drop(places);
                forget(unused);
            }
            Place::Done(..) => {}
        }
    }
}

impl Future for Operation {
    type Output = (Result<usize, i32>, Op);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let all = self.all.clone();
        match &mut self.state {
            State::Fresh(op) => {
                let id = all.places.borrow_mut().insert(Place::Waits(cx.waker().clone())) as u32;
                if let Some(op) = op.take() {
                    all.wanted.borrow_mut().push((id, op));
                }
                self.state = State::Asked(id);
                Poll::Pending
            }
            State::Asked(id) => {
                let id = *id as usize;
                let mut places = all.places.borrow_mut();
                if let Some(Place::Waits(waker)) = places.get_mut(id) {
                    waker.clone_from(cx.waker());
                    return Poll::Pending;
                }
                let Place::Done(result, op) = places.remove(id) else { return Poll::Pending };
                drop(places);
                self.state = State::Over;
                Poll::Ready((result, op))
            }
            State::Over => Poll::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let State::Asked(id) = self.state else { return };
        let mut places = self.all.places.borrow_mut();
        match places.get_mut(id as usize) {
            Some(place @ Place::Waits(_)) => {
                let waker = std::mem::replace(place, Place::Abandoned);
                drop(places);
                drop(waker);
                self.all.cancelled.borrow_mut().push(id);
            }
            Some(Place::Done(..)) => {
                let unused = places.remove(id as usize);
                drop(places);
                forget(unused);
            }
            _ => {}
        }
    }
}

/// A file that was opened for nobody is closed again.
fn forget(place: Place) {
    if let Place::Done(Ok(result), Op::Open { .. }) = place {
        drop(crate::ring::file::opened(result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_one_that_has_ended_does_not_reach_the_next_of_its_number() {
        let all = Rc::new(Operations::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut start = || {
            let mut operation = all.start(Op::Writable { socket: -1 });
            assert!(Pin::new(&mut operation).poll(&mut cx).is_pending());
            let (id, op) = all.next_wanted().expect("asked for");
            (operation, id, op)
        };
        let (first, id, op) = start();
        drop(first);
        all.done(id, Ok(0), op);
        let (second, again, op) = start();
        assert_eq!((again, all.next_cancelled()), (id, None));
        drop(second);
        assert_eq!(all.next_cancelled(), Some(again), "one that runs is cancelled");
        all.done(again, Err(libc::ECANCELED), op);
        assert_eq!(all.places.borrow().len(), 0, "no place is lost");
    }
}
