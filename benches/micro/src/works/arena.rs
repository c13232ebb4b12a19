//! The arena of a request.

use std::future::{Future, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::arena::Arena;
use crate::runner::Runner;

const FIRST_BYTES: usize = 8 * 1024;
const KEEP_BYTES_MAX: usize = 64 * 1024;

pub fn run(runner: &mut Runner) {
    let mut arena = Arena::with_capacity(FIRST_BYTES);
    let mut context = Context::from_waker(Waker::noop());
    let bytes = black_box([7_u8; 256]);
    runner.run("arena_future", || {
        let mut placed = arena.place(|| async {
            let held = bytes;
            ready(()).await;
            held[black_box(3)]
        });
        assert_eq!(Pin::new(&mut placed).poll(&mut context), Poll::Ready(7));
        drop(placed);
        arena.reset(KEEP_BYTES_MAX);
    });
    runner.run("arena_text", || {
        black_box(arena.text(format_args!("user {}", black_box(42))));
        arena.reset(KEEP_BYTES_MAX);
    });
}
