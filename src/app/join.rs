//! Many futures at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// What they all give, in their order.
pub(super) async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut ends: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut left = false;
        for (future, end) in all.iter_mut().zip(&mut ends) {
            if end.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(it) => *end = Some(it),
                    Poll::Pending => left = true,
                }
            }
        }
        if left { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    ends.into_iter().flatten().collect()
}
