//! The arena of a request: its values and its handlers' futures, freed at once when it ends.
//!
//! Misuse leaks, it never corrupts: safe code may poll a future that lies here, forget it, and
//! let the request end. `Pin` promises that such memory is never reused. So the arena counts the
//! futures that are alive, and gives its memory up when the count is not zero.

use std::any::TypeId;
use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use bumpalo::Bump;

/// Memory of one request at a time.
pub(crate) struct Arena {
    bump: Bump,
    /// Futures placed here and not yet dropped.
    ///
    /// Invariant: memory of `bump` is reused or freed only while this is zero.
    live: Cell<usize>,
    /// Newest first; each node and its value lie in `bump`.
    values: Cell<Option<NonNull<Node>>>,
    first_bytes: usize,
}

struct Node {
    id: TypeId,
    value: NonNull<()>,
    drop: unsafe fn(NonNull<()>),
    next: Option<NonNull<Node>>,
}

impl Arena {
    /// An arena whose first chunk has about `first_bytes`.
    pub(crate) fn with_capacity(first_bytes: usize) -> Arena {
        Arena {
            bump: Bump::with_capacity(first_bytes),
            live: Cell::new(0),
            values: Cell::new(None),
            first_bytes,
        }
    }

    /// Moves a future here and erases its type. Costs no heap while the chunk lasts.
    #[inline]
    pub(crate) fn place<'a, F: Future + 'a>(
        &'a self,
        make: impl FnOnce() -> F,
    ) -> Placed<'a, F::Output> {
        let future: &'a mut F = self.bump.alloc_with(make);
        self.live.set(self.live.get() + 1);
        let future: &'a mut (dyn Future<Output = F::Output> + 'a) = future;
        Placed { future: NonNull::from(future), live: &self.live, owns: PhantomData }
    }

    /// A plain value that needs no drop (checked at compile time).
    #[inline]
    pub(crate) fn keep<T>(&self, value: T) -> &T {
        const { assert!(!mem::needs_drop::<T>()) };
        self.bump.alloc(value)
    }

    /// Formatted text.
    pub(crate) fn text(&self, text: std::fmt::Arguments<'_>) -> &str {
        let mut out = bumpalo::collections::String::new_in(&self.bump);
        let _ = std::fmt::Write::write_fmt(&mut out, text);
        out.into_bump_str()
    }

    /// A copy of `text`.
    pub(crate) fn copy(&self, text: &str) -> &str {
        self.bump.alloc_str(text)
    }

    /// Keeps `value` until the reset; the newest of a type wins.
    pub(crate) fn put<T: 'static>(&self, value: T) -> &T {
        unsafe fn drop_as<T>(value: NonNull<()>) {
            // SAFETY: called once, by `drop_values`, with the pointer stored beside this function.
            unsafe { ptr::drop_in_place(value.cast::<T>().as_ptr()) }
        }
        let value: NonNull<T> = NonNull::from(self.bump.alloc(value));
        let id = TypeId::of::<T>();
        let node = Node { id, value: value.cast(), drop: drop_as::<T>, next: self.values.get() };
        self.values.set(Some(NonNull::from(self.bump.alloc(node))));
        // SAFETY: the value lives until `reset(&mut self)`, which cannot run while `&self` is
        // borrowed; no `&mut` to it is ever made.
        unsafe { value.as_ref() }
    }

    /// The newest value of that type.
    pub(crate) fn got<T: 'static>(&self) -> Option<&T> {
        let mut next = self.values.get();
        while let Some(node) = next {
            // SAFETY: nodes live until `reset(&mut self)`.
            let node = unsafe { node.as_ref() };
            if node.id == TypeId::of::<T>() {
                // SAFETY: the id says that the pointee is a `T`.
                return Some(unsafe { node.value.cast::<T>().as_ref() });
            }
            next = node.next;
        }
        None
    }

    /// Ends the request: drops its values and makes the memory free again; more than
    /// `keep_bytes_max` goes back to the allocator.
    #[inline]
    pub(crate) fn reset(&mut self, keep_bytes_max: usize) {
        if self.values.get().is_some() {
            self.drop_values();
        }
        if self.live.get() != 0 {
            let fresh = Bump::with_capacity(self.first_bytes);
            mem::forget(mem::replace(&mut self.bump, fresh));
            self.live.set(0);
        } else if self.bump.allocated_bytes() > keep_bytes_max {
            self.bump = Bump::with_capacity(self.first_bytes);
        } else {
            self.bump.reset();
        }
    }

    /// Bytes held from the allocator.
    #[inline]
    pub(crate) fn bytes_held(&self) -> usize {
        self.bump.allocated_bytes()
    }

    fn drop_values(&mut self) {
        while let Some(node) = self.values.get() {
            // SAFETY: `&mut self` proves that no reference into the arena is left.
            let node = unsafe { node.as_ref() };
            // Unlinked first, so that a panic in the drop cannot drop the value twice.
            self.values.set(node.next);
            // SAFETY: the function was stored for this value's type, and the node is unlinked.
            unsafe { (node.drop)(node.value) };
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Held back first: if a value's drop panics, the memory leaks rather than being freed
        // under a forgotten future.
        let bump = mem::ManuallyDrop::new(mem::take(&mut self.bump));
        self.drop_values();
        if self.live.get() == 0 {
            drop(mem::ManuallyDrop::into_inner(bump));
        }
    }
}

/// A future that lies in an arena: `Pin<Box<dyn Future>>` without the heap.
pub(crate) struct Placed<'a, T> {
    future: NonNull<dyn Future<Output = T> + 'a>,
    live: &'a Cell<usize>,
    owns: PhantomData<Box<dyn Future<Output = T> + 'a>>,
}

impl<T> Future for Placed<'_, T> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: we own the pointee, it is never moved out of its place, and `Drop` drops it
        // there.
        unsafe { Pin::new_unchecked(self.future.as_mut()) }.poll(cx)
    }
}

impl<T> Drop for Placed<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: made by `place`, dropped here only. A panic in it leaves `live` raised: then
        // the memory leaks, soundly.
        unsafe { ptr::drop_in_place(self.future.as_ptr()) };
        self.live.set(self.live.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::{pending, poll_fn};
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    const KEEP: usize = 64 * 1024;

    fn poll_once<F: Future>(future: &mut Pin<Box<F>>) {
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    /// What a forgotten future leaves behind: the address of memory inside it, in a list outside,
    /// as an intrusive waiter list does.
    #[test]
    fn a_forgotten_future_keeps_its_memory() {
        let seen: Rc<Cell<*const [u64; 16]>> = Rc::new(Cell::new(ptr::null()));
        let mut arena = Arena::with_capacity(8192);
        {
            let note = seen.clone();
            let placed = arena.place(move || async move {
                let node = [0x5a5a_5a5a_5a5a_5a5a_u64; 16];
                poll_fn(|_| {
                    note.set(&raw const node);
                    Poll::Ready(())
                })
                .await;
                pending::<()>().await;
                std::hint::black_box(&node);
            });
            let mut boxed = Box::pin(placed);
            poll_once(&mut boxed);
            mem::forget(boxed);
        }
        arena.reset(KEEP);
        let reused = arena.bump.alloc_slice_fill_copy(6000, 0u8).as_ptr_range();
        let at = seen.get().cast::<u8>();
        assert!(!reused.contains(&at), "memory of a pinned, undropped future was reused");
        drop(arena);
        // SAFETY: given up by the arena, never freed: that is what is tested (the address
        // sanitizer would see a use after free).
        assert_eq!(unsafe { (*seen.get())[7] }, 0x5a5a_5a5a_5a5a_5a5a);
    }

    #[test]
    fn values_drop_once_newest_first_and_panics_leak_soundly() {
        struct Note(u32, Rc<RefCell<Vec<u32>>>);
        impl Drop for Note {
            fn drop(&mut self) {
                self.1.borrow_mut().push(self.0);
                assert!(self.0 != 2, "on purpose");
            }
        }
        let log = Rc::new(RefCell::new(Vec::new()));
        let mut arena = Arena::with_capacity(256);
        for id in 1..=3 {
            arena.put(Note(id, log.clone()));
        }
        assert_eq!(arena.got::<Note>().map(|note| note.0), Some(3));
        assert!(arena.got::<String>().is_none());
        let reset = std::panic::AssertUnwindSafe(|| arena.reset(KEEP));
        assert!(std::panic::catch_unwind(reset).is_err());
        drop(arena);
        assert_eq!(*log.borrow(), [3, 2, 1]);
    }

    #[test]
    fn a_large_arena_is_given_back() {
        let mut arena = Arena::with_capacity(8192);
        let first = arena.bytes_held();
        assert!((8192..9000).contains(&first), "{first}");
        arena.text(format_args!("{:1000000}", 1));
        assert!(arena.bytes_held() > 1_000_000);
        arena.reset(KEEP);
        assert_eq!(arena.bytes_held(), first);
    }

    #[test]
    fn odd_futures_are_placed_and_dropped() {
        #[repr(align(128))]
        struct Wide(u8);
        let mut arena = Arena::with_capacity(64);
        for _ in 0..1000 {
            let mut nothing = Box::pin(arena.place(|| async {}));
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(nothing.as_mut().poll(cx).is_ready());
            drop(nothing);
            let wide = Wide(7);
            let mut placed = Box::pin(arena.place(move || async move {
                assert_eq!((&raw const wide).addr() % 128, 0);
                wide.0
            }));
            assert_eq!(placed.as_mut().poll(cx), Poll::Ready(7));
            drop(placed);
            arena.reset(KEEP);
        }
        let make = std::panic::AssertUnwindSafe(|| {
            let made: Placed<'_, ()> =
                arena.place(|| -> std::future::Pending<()> { panic!("on purpose") });
            drop(made);
        });
        assert!(std::panic::catch_unwind(make).is_err());
        assert_eq!(arena.live.get(), 0);
    }
}
