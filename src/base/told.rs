//! A word that is said once, and those who wait for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

pub(crate) struct Told<T> {
    word: RefCell<Option<T>>,
    waiting: RefCell<Vec<Waker>>,
}

impl<T: Clone> Told<T> {
    /// Says it; no word after the first one counts.
    pub(crate) fn tell(&self, word: T) {
        self.word.borrow_mut().get_or_insert(word);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// The word, once it is said.
    pub(crate) async fn told(&self) -> T {
        let mut place = None;
        poll_fn(|cx| match &*self.word.borrow() {
            Some(word) => Poll::Ready(word.clone()),
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
}

impl<T> Default for Told<T> {
    fn default() -> Told<T> {
        Told { word: RefCell::new(None), waiting: RefCell::default() }
    }
}
