//! Loads that are under way: one a key, whoever else wants it waits.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::process::Terms;
use crate::error::{Error, SentError};

/// One load and those who wait for it.
pub(super) struct Flight<V> {
    end: RefCell<Option<End<V>>>,
    waiting: RefCell<Vec<Waker>>,
    /// What it loads was invalidated meanwhile: it is not stored.
    pub(super) void: Cell<bool>,
    /// Of before it began; its time begins with its end.
    pub(super) terms: Terms,
}

/// How a load ended, for those who waited.
#[derive(Clone)]
pub(super) enum End<V> {
    Loaded(V),
    /// All but the cause, which has one owner.
    Failed(SentError),
    /// It panicked or was dropped: somebody else may try.
    Abandoned,
}

impl<V: Clone> Flight<V> {
    pub(super) fn new(terms: Terms) -> Flight<V> {
        Flight {
            end: RefCell::default(),
            waiting: RefCell::default(),
            void: Cell::new(false),
            terms,
        }
    }

    pub(super) async fn ended(&self) -> End<V> {
        let mut place = None;
        poll_fn(|cx| match &*self.end.borrow() {
            Some(end) => Poll::Ready(end.clone()),
            None => {
                let mut waiting = self.waiting.borrow_mut();
                let place = *place.get_or_insert(waiting.len());
                match waiting.get_mut(place) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => waiting.push(cx.waker().clone()),
                }
                Poll::Pending
            }
        })
        .await
    }

    pub(super) fn end(&self, end: End<V>) {
        self.end.borrow_mut().get_or_insert(end);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }
}

impl<V> End<V> {
    pub(super) fn failed(error: &Error) -> End<V> {
        End::Failed(SentError::pack(error))
    }
}
