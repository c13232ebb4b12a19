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
    /// Without bookkeeping.
    first_bytes: usize,
}

struct Node {
    id: TypeId,
    value: NonNull<()>,
    drop: unsafe fn(NonNull<()>),
    #[cfg(feature = "ws")]
    layout: std::alloc::Layout,
    next: Option<NonNull<Node>>,
}

impl Arena {
    /// An arena whose first chunk costs `first_bytes`, bookkeeping and all.
    pub(crate) fn with_capacity(first_bytes: usize) -> Arena {
        let first_bytes = first_bytes.saturating_sub(OVERHEAD_BYTES);
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
    #[inline]
    pub(crate) fn copy(&self, text: &str) -> &str {
        self.bump.alloc_str(text)
    }

    /// Copies of items, of which `count` are expected, put in order by `arrange` before they are
    /// lent; or the first error among them.
    pub(crate) fn list<T: Copy, E>(
        &self,
        count: usize,
        items: impl Iterator<Item = Result<T, E>>,
        arrange: impl FnOnce(&mut [T]),
    ) -> Result<&[T], E> {
        let mut list = bumpalo::collections::Vec::with_capacity_in(count, &self.bump);
        for item in items {
            list.push(item?);
        }
        arrange(&mut list);
        Ok(list.into_bump_slice())
    }

    /// Keeps `value` until the reset; the newest of a type wins.
    pub(crate) fn put<T: 'static>(&self, value: T) -> &T {
        unsafe fn drop_as<T>(value: NonNull<()>) {
            // SAFETY: called once, by `drop_values`, with the pointer stored beside this function.
            unsafe { ptr::drop_in_place(value.cast::<T>().as_ptr()) }
        }
        let value: NonNull<T> = NonNull::from(self.bump.alloc(value));
        let id = TypeId::of::<T>();
        let node = Node {
            id,
            value: value.cast(),
            drop: drop_as::<T>,
            #[cfg(feature = "ws")]
            layout: std::alloc::Layout::new::<T>(),
            next: self.values.get(),
        };
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

    /// Moves the values of another arena here; futures and texts stay there.
    #[cfg(feature = "ws")]
    pub(crate) fn adopt(&mut self, other: &mut Arena) {
        let mut next = other.values.take();
        let mut after: Option<NonNull<Node>> = None;
        while let Some(node) = next {
            // SAFETY: nodes live until the reset of `other`, which `&mut` keeps off; they are
            // unlinked there, so each value has one owner. `&mut` also proves that nobody borrows
            // a value, and what is not pinned may be moved as bytes of its layout.
            let (value, moved) = unsafe {
                let node = node.as_ref();
                let value = self.bump.alloc_layout(node.layout).cast::<()>();
                ptr::copy_nonoverlapping(
                    node.value.cast::<u8>().as_ptr(),
                    value.cast::<u8>().as_ptr(),
                    node.layout.size(),
                );
                (value, Node { value, next: None, ..ptr::read(node) })
            };
            debug_assert!(value.is_aligned());
            // SAFETY: as above.
            next = unsafe { node.as_ref().next };
            let moved = NonNull::from(self.bump.alloc(moved));
            match after {
                None => self.values.set(Some(moved)),
                // SAFETY: a node of this arena that nobody else has seen yet.
                Some(mut before) => unsafe { before.as_mut().next = Some(moved) },
            }
            after = Some(moved);
        }
    }

    /// Ends the request: drops its values and makes the memory free again; more than
    /// `keep_bytes_max` goes back to the allocator.
    #[inline]
    pub(crate) fn reset(&mut self, keep_bytes_max: usize) {
        if self.values.get().is_some() {
            self.drop_values();
        }
        if self.live.get() == 0 && self.bump.allocated_bytes() <= keep_bytes_max {
            self.bump.reset();
        } else {
            self.renew();
        }
    }

    /// Bytes held from the allocator.
    #[inline]
    pub(crate) fn bytes_held(&self) -> usize {
        self.bump.allocated_bytes()
    }

    /// Bytes that this request has taken, with what was left over at the ends of full chunks.
    #[inline]
    pub(crate) fn bytes_used(&self) -> usize {
        self.bump.allocated_bytes() - self.bump.chunk_capacity()
    }

    #[cold]
    fn renew(&mut self) {
        let fresh = Bump::with_capacity(self.first_bytes);
        let old = mem::replace(&mut self.bump, fresh);
        if self.live.replace(0) != 0 {
            mem::forget(old);
        }
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

/// What bumpalo and the allocator put beside a chunk: with it a chunk is a power of two or whole
/// pages, which is what bumpalo rounds up to.
const OVERHEAD_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::hint::black_box;
    use std::marker::PhantomPinned;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::sync::Mutex;
    use std::task::Waker;

    use super::*;

    const FIRST: usize = 8192;
    const KEEP: usize = 64 * 1024;

    /// Where what the tests leak on purpose can be found, or a leak sanitizer complains.
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    /// A list of waiters that lie in their futures, as those of tokio do.
    #[derive(Default)]
    struct Bell(RefCell<Vec<NonNull<Wait>>>);

    /// Pending; from the first poll to its drop in the list.
    struct Wait {
        bell: Rc<Bell>,
        rings: Cell<u64>,
        _pin: PhantomPinned,
    }

    #[cfg(feature = "ws")]
    #[test]
    fn values_move_to_another_arena_and_are_dropped_once() {
        #[repr(align(64))]
        struct Wide(u8, Rc<()>);
        let alive = Rc::new(());
        let (mut from, mut to) = (Arena::with_capacity(FIRST), Arena::with_capacity(0));
        for n in 0..3 {
            from.put(Wide(n, alive.clone()));
            from.put((n, alive.clone()));
        }
        from.put(());
        to.adopt(&mut from);
        assert!(from.got::<Wide>().is_none() && from.got::<()>().is_none());
        from.put(7u64);
        from.reset(KEEP);
        assert_eq!(Rc::strong_count(&alive), 7, "none was dropped with its old arena");
        let wide = to.got::<Wide>().expect("moved");
        assert!(Rc::ptr_eq(&wide.1, &alive));
        assert_eq!((wide.0, (&raw const *wide).addr() % 64), (2, 0), "the newest, in its place");
        assert_eq!(to.got::<(u8, Rc<()>)>().expect("moved").0, 2);
        drop(to);
        assert_eq!(Rc::strong_count(&alive), 1, "each was dropped once");
    }

    const QUIET: u64 = 0x5a5a_5a5a_5a5a_5a5a;

    impl Bell {
        fn wait(self: &Rc<Bell>) -> Wait {
            Wait { bell: self.clone(), rings: Cell::new(QUIET), _pin: PhantomPinned }
        }

        /// Rings all waiters: how many are unharmed, how many are not.
        fn ring(&self) -> (usize, usize) {
            let mut found = (0, 0);
            for wait in self.0.borrow().iter() {
                // SAFETY: a pinned waiter stays where it is until its drop takes it off the list.
                let rings = unsafe { &(*wait.as_ptr()).rings };
                match rings.replace(rings.get().wrapping_add(1)) {
                    QUIET..0x5a5a_5a5a_5a5b_0000 => found.0 += 1,
                    _ => found.1 += 1,
                }
            }
            found
        }
    }

    impl Future for Wait {
        type Output = u64;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u64> {
            let mut waits = self.bell.0.borrow_mut();
            let at = NonNull::from(&*self);
            if !waits.contains(&at) {
                waits.push(at);
            }
            Poll::Pending
        }
    }

    impl Drop for Wait {
        fn drop(&mut self) {
            let at = NonNull::from(&*self);
            self.bell.0.borrow_mut().retain(|known| *known != at);
        }
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn panics(what: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(what)).is_err()
    }

    /// Places a waiter as a middleware might place its `next`, polls it once and forgets it.
    fn forget_a_waiter(arena: &Arena, bell: &Rc<Bell>) {
        let mut placed = arena.place(|| {
            let wait = bell.wait();
            async move { wait.await.wrapping_add(1) }
        });
        assert!(poll(&mut placed).is_pending());
        mem::forget(placed);
    }

    /// The newest chunk leads to the others.
    fn leaks(arena: &Arena) {
        LEAKED.lock().unwrap().push(ptr::from_ref(arena.keep(0_u8)).addr());
    }

    #[test]
    fn a_forgotten_future_survives_the_reset() {
        let bell = Rc::new(Bell::default());
        let mut arena = Arena::with_capacity(FIRST);
        forget_a_waiter(&arena, &bell);
        leaks(&arena);
        arena.reset(KEEP);
        for _ in 0..4 {
            black_box(arena.bump.alloc_slice_fill_copy(FIRST / 2, 0xaa_u8));
        }
        assert_eq!(bell.ring(), (1, 0), "its memory was used again");
        assert_eq!(arena.live.get(), 0, "the arena is as good as new");
    }

    #[test]
    fn a_forgotten_future_survives_the_arena() {
        let bell = Rc::new(Bell::default());
        let arena = Arena::with_capacity(FIRST);
        forget_a_waiter(&arena, &bell);
        leaks(&arena);
        drop(arena);
        assert_eq!(ring_after_reuse(&bell), (1, 0), "its memory was freed");
        // The same where the drop of a value panics, and ends the drop of the arena.
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let arena = Arena::with_capacity(FIRST);
        forget_a_waiter(&arena, &bell);
        arena.put(Bad);
        leaks(&arena);
        assert!(panics(|| drop(arena)));
        assert_eq!(ring_after_reuse(&bell), (2, 0), "its memory was freed");
    }

    /// Chunks that were freed are filled before.
    fn ring_after_reuse(bell: &Bell) -> (usize, usize) {
        let again: Vec<Vec<u8>> = (0..64).map(|more| vec![0xaa; FIRST - 32 + more]).collect();
        let rung = bell.ring();
        drop(black_box(again));
        rung
    }

    #[test]
    fn a_large_arena_is_given_back_unless_something_lives_in_it() {
        let bell = Rc::new(Bell::default());
        let mut arena = Arena::with_capacity(FIRST);
        let first = arena.bytes_held();
        assert_eq!(first, FIRST - OVERHEAD_BYTES);
        for forgets in [false, true] {
            assert_eq!(arena.bytes_used(), 0);
            if forgets {
                forget_a_waiter(&arena, &bell);
            }
            arena.text(format_args!("{:60000}{:60000}", 1, 2));
            if forgets {
                leaks(&arena);
            }
            assert!(arena.bytes_held() > KEEP && arena.bytes_used() >= 120_000);
            arena.reset(KEEP);
            assert_eq!(arena.bytes_held(), first);
        }
        assert_eq!(bell.ring(), (1, 0));
        // What is within the limit stays.
        arena.text(format_args!("{:20000}", 1));
        let held = arena.bytes_held();
        arena.reset(held);
        assert!(arena.bytes_held() > 20_000 && arena.bytes_used() == 0);
        arena.reset(20_000);
        assert_eq!(arena.bytes_held(), first);
    }

    #[test]
    fn a_panic_in_a_drop_leaks_soundly() {
        struct Note(u32, Rc<RefCell<Vec<u32>>>);
        impl Drop for Note {
            fn drop(&mut self) {
                self.1.borrow_mut().push(self.0);
                assert!(self.0 != 2, "on purpose");
            }
        }
        let log = Rc::new(RefCell::new(Vec::new()));
        // In a value, at the reset: the other values go with the next one.
        let mut arena = Arena::with_capacity(256);
        for id in 1..=3 {
            arena.put(Note(id, log.clone()));
        }
        assert_eq!(arena.got::<Note>().map(|note| note.0), Some(3));
        assert!(arena.got::<String>().is_none());
        assert!(panics(|| arena.reset(KEEP)));
        assert_eq!(arena.got::<Note>().map(|note| note.0), Some(1));
        arena.reset(KEEP);
        assert!(arena.got::<Note>().is_none());
        assert_eq!(log.take(), [3, 2, 1]);
        // In a value, as the arena goes: the rest leaks with its memory.
        for id in 1..=3 {
            arena.put(Note(id, log.clone()));
        }
        leaks(&arena);
        assert!(panics(|| drop(arena)));
        assert_eq!(log.take(), [3, 2]);
        // In a future: its memory is not used again.
        let mut arena = Arena::with_capacity(256);
        let note = Note(2, log.clone());
        let placed = arena.place(|| async move {
            black_box(&note);
        });
        leaks(&arena);
        assert!(panics(|| drop(placed)));
        assert_eq!(arena.live.get(), 1);
        arena.reset(KEEP);
        assert_eq!((arena.live.get(), arena.bytes_used()), (0, 0));
        // In the making of a future: nothing was placed.
        assert!(panics(|| {
            arena.place(|| -> std::future::Pending<()> { panic!("on purpose") });
        }));
        assert_eq!(arena.live.get(), 0);
    }

    #[test]
    fn futures_of_any_size_and_alignment() {
        fn check<const BYTES: usize, A: Default>(arena: &mut Arena) {
            for _ in 0..100 {
                arena.keep(1_u8);
                let (bytes, aligned) = ([0x77_u8; BYTES], A::default());
                let mut placed = arena.place(|| async move {
                    std::future::ready(()).await;
                    (bytes == [0x77; BYTES], (&raw const aligned).addr() % align_of::<A>())
                });
                assert_eq!(poll(&mut placed), Poll::Ready((true, 0)));
                drop(placed);
                arena.reset(KEEP);
            }
        }
        #[derive(Default)]
        #[repr(align(32))]
        struct Align32(#[allow(dead_code)] u8);
        #[derive(Default)]
        #[repr(align(4096))]
        struct Align4096(#[allow(dead_code)] u8);
        let mut arena = Arena::with_capacity(64);
        check::<0, ()>(&mut arena);
        check::<1, u128>(&mut arena);
        check::<100, Align32>(&mut arena);
        check::<20_000, Align4096>(&mut arena);
        let mut nothing = arena.place(|| std::future::ready(()));
        assert!(poll(&mut nothing).is_ready());
        assert_eq!(arena.live.get(), 1);
        drop(nothing);
        assert_eq!(arena.live.get(), 0);
    }

    /// A value that knows how many of its kind live.
    struct Counted<const KIND: usize>(u64, Rc<Cell<usize>>);

    impl<const KIND: usize> Counted<KIND> {
        fn new(value: u64, living: &Rc<Cell<usize>>) -> Counted<KIND> {
            living.set(living.get() + 1);
            Counted(value, living.clone())
        }
    }

    impl<const KIND: usize> Drop for Counted<KIND> {
        fn drop(&mut self) {
            self.1.set(self.1.get() - 1);
        }
    }

    /// What one request does to an arena, against what a model says.
    fn one_request(arena: &Arena, bell: &Rc<Bell>, living: &Rc<Cell<usize>>, seed: &mut u64) {
        let mut random = |below: u64| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            *seed % below
        };
        let mut newest: [Option<u64>; 3] = [None; 3];
        let mut texts: Vec<(&str, u64)> = Vec::new();
        let mut placed: Vec<(Placed<'_, u64>, u64)> = Vec::new();
        for _ in 0..random(24) {
            let value = random(u64::MAX);
            match random(12) {
                0 => newest[0] = Some(arena.put(Counted::<0>::new(value, living)).0),
                1 => newest[1] = Some(arena.put(Counted::<1>::new(value, living)).0),
                2 => newest[2] = Some(*arena.put(value)),
                3 => texts.push((arena.text(format_args!("{value}")), value)),
                4 => texts.push((arena.copy(&value.to_string()), value)),
                5 => assert_eq!(*arena.keep(value), value),
                6..8 => {
                    let own = Counted::<2>::new(value, living);
                    placed.push((arena.place(|| async move { own.0 }), value));
                }
                8 => {
                    let wait = bell.wait();
                    placed.push((arena.place(|| wait), 0));
                }
                9 if !placed.is_empty() => {
                    let (mut future, value) =
                        placed.swap_remove(random(placed.len() as u64) as usize);
                    assert!([Poll::Pending, Poll::Ready(value)].contains(&poll(&mut future)));
                }
                10 if random(500) == 0 => forget_a_waiter(arena, bell),
                _ => {
                    for (future, _) in &mut placed {
                        // The ready ones may be polled once only.
                        if bell.0.borrow().contains(&future.future.cast()) {
                            assert!(poll(future).is_pending());
                        }
                    }
                }
            }
            let got = [
                arena.got::<Counted<0>>().map(|it| it.0),
                arena.got::<Counted<1>>().map(|it| it.0),
                arena.got::<u64>().copied(),
            ];
            assert_eq!(got, newest);
        }
        assert!(arena.live.get() >= placed.len());
        for (text, value) in texts {
            assert_eq!(text.parse(), Ok(value));
        }
    }

    #[test]
    fn a_hundred_thousand_requests() {
        let bell = Rc::new(Bell::default());
        let living = Rc::new(Cell::new(0));
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        let mut arena = Arena::with_capacity(256);
        let mut forgotten = 0;
        for request in 0..100_000 {
            one_request(&arena, &bell, &living, &mut seed);
            forgotten += arena.live.get();
            if arena.live.get() > 0 {
                leaks(&arena);
            }
            arena.reset(2048);
            assert_eq!((arena.live.get(), arena.bytes_used(), living.get()), (0, 0, 0));
            assert!(arena.bytes_held() <= 2048);
            if request % 4096 == 0 {
                assert_eq!(bell.ring(), (forgotten, 0));
                arena = Arena::with_capacity(256);
            }
        }
        assert!(forgotten > 0);
        assert_eq!(bell.ring(), (forgotten, 0));
    }
}
