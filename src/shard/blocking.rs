//! Threads for work that blocks: a bounded pool of our own, shared by all shards.
//!
//! glommio's pool is one thread a shard, pinned to the shard's core, and a panic in it takes the
//! executor along. Here a thread starts when it is first needed, takes off the affinity mask it
//! inherited, and outlives what its work does; the result wakes whoever awaits the `Job`.

use std::any::Any;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::affinity::{Mask, unpin_current_thread};

/// A handle of the pool. When the last one goes, work that has not started is refused and the
/// threads end; work that runs is not waited for.
#[derive(Clone)]
pub(crate) struct Blocking(Arc<Handle>);

/// Work on its way: awaits the result. Dropped before a thread took the work up, the work never
/// runs; afterwards its result is thrown away.
pub(crate) struct Job<T> {
    slot: Arc<Slot<T>>,
    /// The place in the queue, to leave it early.
    queued: Option<(Arc<Shared>, u64)>,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockingError {
    /// All threads are busy and the queue is at its bound.
    Full,
    /// The work panicked; the text is the panic's.
    Panicked(String),
    /// The pool ended before the work started.
    Stopped,
    /// The system gave no thread; the text is its reason.
    NoThread(String),
}

/// Counters of the pool, taken at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockingStats {
    pub threads: usize,
    pub threads_peak: usize,
    pub threads_idle: usize,
    pub queued: usize,
    pub running: usize,
    /// Work that ran to its end, panics among them.
    pub done: u64,
    pub panicked: u64,
    /// Work that was not accepted or could not be started.
    pub refused: u64,
    /// Work that left the queue because its `Job` was dropped.
    pub cancelled: u64,
}

impl Blocking {
    /// At most `threads_max` threads and `queue_max` pieces of work that wait for one, each at
    /// least one. Nothing is started yet. The threads run on the CPUs of `mask`.
    pub(crate) fn new(threads_max: usize, queue_max: usize, mask: Mask) -> Self {
        Self::with_idle(threads_max, queue_max, mask, IDLE_MAX)
    }

    fn with_idle(threads_max: usize, queue_max: usize, mask: Mask, idle_max: Duration) -> Self {
        Self(Arc::new(Handle(Arc::new(Shared {
            pool: Mutex::default(),
            turn: Condvar::new(),
            threads_max: threads_max.max(1),
            queue_max: queue_max.max(1),
            idle_max,
            mask,
        }))))
    }

    /// Hands `work` to a thread. Never blocks; what goes wrong is the result of the `Job`.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Job<T> {
        let shared = &self.0.0;
        let slot = Arc::new(Slot::new());
        let errand = Errand { work, slot: slot.clone() };
        let mut pool = shared.lock();
        if pool.queue.len() >= shared.queue_max {
            pool.counts.refused += 1;
            drop(pool);
            Box::new(errand).refuse(BlockingError::Full);
            return Job { slot, queued: None };
        }
        let id = pool.next_id;
        pool.next_id += 1;
        pool.queue.push_back((id, Box::new(errand)));
        // An idle thread stays counted as idle until it has woken, so compare with all that wait.
        let start = pool.queue.len() > pool.idle && pool.threads < shared.threads_max;
        let number = pool.threads_started;
        if start {
            pool.threads += 1;
            pool.threads_started += 1;
            pool.counts.threads_peak = pool.counts.threads_peak.max(pool.threads);
        }
        drop(pool);
        if start {
            start_thread(shared, number);
        } else {
            shared.turn.notify_one();
        }
        Job { slot, queued: Some((shared.clone(), id)) }
    }

    #[cfg(test)]
    pub(crate) fn stats(&self) -> BlockingStats {
        let pool = self.0.0.lock();
        BlockingStats {
            threads: pool.threads,
            threads_idle: pool.idle,
            queued: pool.queue.len(),
            running: pool.running,
            ..pool.counts
        }
    }

    /// Pieces of work that wait or run.
    pub(crate) fn in_flight(&self) -> usize {
        let pool = self.0.0.lock();
        pool.queue.len() + pool.running
    }
}

impl<T> Future for Job<T> {
    type Output = Result<T, BlockingError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = self.slot.poll(cx.waker());
        if done.is_ready() {
            self.queued = None;
        }
        done
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.slot.abandon();
        let Some((shared, id)) = self.queued.take() else { return };
        let mut pool = shared.lock();
        // Ids grow towards the back.
        let left = match pool.queue.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(place) => {
                pool.counts.cancelled += 1;
                pool.queue.remove(place)
            }
            Err(_) => None,
        };
        drop(pool);
        // What the work captured is dropped outside the lock.
        drop(left);
    }
}

impl fmt::Display for BlockingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "the blocking pool's queue is full"),
            Self::Panicked(text) => write!(f, "blocking work panicked: {text}"),
            Self::Stopped => write!(f, "the blocking pool has stopped"),
            Self::NoThread(why) => write!(f, "the blocking pool got no thread: {why}"),
        }
    }
}

impl Error for BlockingError {}

/// A thread without work ends after this.
const IDLE_MAX: Duration = Duration::from_secs(10);

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut pool = self.0.lock();
        pool.stopping = true;
        let waiting = mem::take(&mut pool.queue);
        pool.counts.refused += waiting.len() as u64;
        drop(pool);
        self.0.turn.notify_all();
        for (_, work) in waiting {
            work.refuse(BlockingError::Stopped);
        }
    }
}

struct Shared {
    pool: Mutex<Pool>,
    turn: Condvar,
    threads_max: usize,
    queue_max: usize,
    idle_max: Duration,
    mask: Mask,
}

#[derive(Default)]
struct Pool {
    queue: VecDeque<(u64, Box<dyn Work>)>,
    next_id: u64,
    threads: usize,
    threads_started: u64,
    idle: usize,
    running: usize,
    stopping: bool,
    /// The counters that are not fields above.
    counts: BlockingStats,
}

impl Shared {
    /// No code of the user's runs under the lock, so nobody can have poisoned it half-way.
    fn lock(&self) -> MutexGuard<'_, Pool> {
        locked(&self.pool)
    }
}

fn start_thread(shared: &Arc<Shared>, number: u64) {
    let inside = shared.clone();
    let started = thread::Builder::new()
        .name(format!("soloist-blocking-{number}"))
        .spawn(move || serve(&inside));
    let Err(error) = started else { return };
    let mut pool = shared.lock();
    pool.threads -= 1;
    if pool.threads > 0 {
        return;
    }
    // Nobody is left to take the queue up.
    let waiting = mem::take(&mut pool.queue);
    pool.counts.refused += waiting.len() as u64;
    drop(pool);
    for (_, work) in waiting {
        work.refuse(BlockingError::NoThread(error.to_string()));
    }
}

/// The life of a thread.
fn serve(shared: &Shared) {
    // A mask that can no longer be set (the cpuset has changed) is no reason not to work.
    let _ = unpin_current_thread(&shared.mask);
    let mut pool = shared.lock();
    loop {
        if let Some((_, work)) = pool.queue.pop_front() {
            pool.running += 1;
            drop(pool);
            let end = catch_unwind(AssertUnwindSafe(|| work.run()));
            pool = shared.lock();
            pool.running -= 1;
            pool.counts.done += 1;
            // An outer panic is that of a waker or of a result nobody wants.
            pool.counts.panicked += u64::from(!matches!(end, Ok(Outcome::Returned)));
            if let Err(payload) = end {
                mem::forget(payload);
            }
            continue;
        }
        if pool.stopping {
            break;
        }
        pool.idle += 1;
        let (woken, wait) =
            shared.turn.wait_timeout(pool, shared.idle_max).unwrap_or_else(PoisonError::into_inner);
        pool = woken;
        pool.idle -= 1;
        if wait.timed_out() && pool.queue.is_empty() {
            break;
        }
    }
    pool.threads -= 1;
}

/// Work as the queue holds it: its result's type is erased.
trait Work: Send {
    fn run(self: Box<Self>) -> Outcome;
    fn refuse(self: Box<Self>, why: BlockingError);
}

enum Outcome {
    Returned,
    Panicked,
}

struct Errand<T, F> {
    work: F,
    slot: Arc<Slot<T>>,
}

impl<T: Send, F: FnOnce() -> T + Send> Work for Errand<T, F> {
    fn run(self: Box<Self>) -> Outcome {
        let Self { work, slot } = *self;
        let (result, outcome) = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => (Ok(value), Outcome::Returned),
            Err(payload) => (Err(BlockingError::Panicked(text_of(payload))), Outcome::Panicked),
        };
        slot.deliver(result);
        outcome
    }

    fn refuse(self: Box<Self>, why: BlockingError) {
        self.slot.deliver(Err(why));
    }
}

/// What a panic said.
pub(crate) fn text_of(payload: Box<dyn Any + Send>) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            // Its drop may be anything, a panic too.
            mem::forget(payload);
            "no text".to_owned()
        }
    }
}

/// Where a result waits for its `Job`.
struct Slot<T>(Mutex<State<T>>);

enum State<T> {
    Waiting(Option<Waker>),
    Done(Result<T, BlockingError>),
    /// Taken, or the `Job` is gone.
    Over,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self(Mutex::new(State::Waiting(None)))
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<T, BlockingError>> {
        let mut state = locked(&self.0);
        match mem::replace(&mut *state, State::Over) {
            State::Waiting(Some(known)) if known.will_wake(waker) => {
                *state = State::Waiting(Some(known));
                Poll::Pending
            }
            State::Waiting(stale) => {
                *state = State::Waiting(Some(waker.clone()));
                drop(state);
                drop(stale);
                Poll::Pending
            }
            State::Done(result) => Poll::Ready(result),
            State::Over => Poll::Ready(Err(BlockingError::Stopped)),
        }
    }

    fn deliver(&self, result: Result<T, BlockingError>) {
        let mut state = locked(&self.0);
        if !matches!(*state, State::Waiting(_)) {
            // Unlock first: the result's drop is the user's code.
            drop(state);
            return;
        }
        let before = mem::replace(&mut *state, State::Done(result));
        drop(state);
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }

    fn abandon(&self) {
        let mut state = locked(&self.0);
        let before = mem::replace(&mut *state, State::Over);
        drop(state);
        drop(before);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::panic::resume_unwind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Wake;
    use std::time::Instant;

    use crate::shard::affinity::original_mask;

    /// A test that waits longer has failed.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait<T>(job: Job<T>) -> Result<T, BlockingError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        let mut job = std::pin::pin!(job);
        let start = Instant::now();
        loop {
            match job.as_mut().poll(&mut cx) {
                Poll::Ready(result) => return result,
                Poll::Pending => thread::park_timeout(PATIENCE),
            }
            assert!(start.elapsed() < PATIENCE, "no result");
        }
    }

    fn pool(threads_max: usize, queue_max: usize) -> Blocking {
        Blocking::new(threads_max, queue_max, original_mask().unwrap())
    }

    /// Work that says when it has started and ends when told.
    fn held(pool: &Blocking) -> (Job<()>, Receiver<()>, Sender<()>) {
        let ((started, has_started), (let_go, hold)) = (channel(), channel());
        let job = pool.run(move || {
            started.send(()).unwrap();
            let _ = hold.recv();
        });
        (job, has_started, let_go)
    }

    /// Yields until `done`, for what another thread does of its own accord.
    fn until(done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "it never happened");
            thread::yield_now();
        }
    }

    #[test]
    fn results_come_back() {
        let pool = pool(2, 100);
        assert_eq!(pool.stats(), BlockingStats::default());
        let jobs: Vec<_> = (0..50).map(|n| pool.run(move || n * 2)).collect();
        let sum: i32 = jobs.into_iter().map(|job| wait(job).unwrap()).sum();
        assert_eq!(sum, 49 * 50);
        until(|| pool.in_flight() == 0);
        let stats = pool.stats();
        assert_eq!((stats.done, stats.panicked, stats.refused), (50, 0, 0));
        assert!(stats.threads_peak <= 2, "{stats:?}");
    }

    #[test]
    fn panics_are_results_and_the_thread_lives_on() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                resume_unwind(Box::new("a bomb"));
            }
        }
        // Without a hook's noise: resume_unwind does not call it.
        type Throw = fn();
        let table: [(Throw, &str); 3] = [
            (|| resume_unwind(Box::new("a str")), "a str"),
            (|| resume_unwind(Box::new(String::from("a string"))), "a string"),
            (|| resume_unwind(Box::new(Bomb)), "no text"),
        ];
        let pool = pool(1, 10);
        for (throw, text) in table {
            assert_eq!(wait(pool.run(throw)), Err(BlockingError::Panicked(text.into())));
        }
        // A result nobody wants whose drop panics.
        let (let_go, hold) = channel::<()>();
        let (started, has_started) = channel();
        let job = pool.run(move || {
            started.send(()).unwrap();
            let _ = hold.recv();
            Bomb
        });
        has_started.recv_timeout(PATIENCE).unwrap();
        drop(job);
        drop(let_go);
        assert_eq!(wait(pool.run(|| 7)), Ok(7));
        let stats = pool.stats();
        assert_eq!((stats.threads, stats.panicked, stats.threads_peak), (1, 4, 1), "{stats:?}");
    }

    #[test]
    fn the_queue_is_bounded() {
        let pool = pool(1, 2);
        let (busy, started, let_go) = held(&pool);
        started.recv_timeout(PATIENCE).unwrap();
        let waiting = [pool.run(|| 1), pool.run(|| 2)];
        assert_eq!(wait(pool.run(|| 3)), Err(BlockingError::Full));
        assert_eq!((pool.in_flight(), pool.stats().refused), (3, 1));
        let_go.send(()).unwrap();
        assert_eq!(wait(busy), Ok(()));
        assert_eq!(waiting.map(wait), [Ok(1), Ok(2)]);
    }

    #[test]
    fn a_dropped_job_never_starts_and_frees_its_place() {
        let pool = pool(1, 2);
        let (busy, started, let_go) = held(&pool);
        started.recv_timeout(PATIENCE).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let count = |pool: &Blocking| {
            let ran = ran.clone();
            pool.run(move || ran.fetch_add(1, Ordering::Relaxed))
        };
        let (first, second) = (count(&pool), count(&pool));
        drop(first);
        let third = count(&pool);
        let_go.send(()).unwrap();
        wait(busy).unwrap();
        assert_eq!((wait(second), wait(third)), (Ok(0), Ok(1)));
        assert_eq!((ran.load(Ordering::Relaxed), pool.stats().cancelled), (2, 1));
        // What it captured went with it.
        assert_eq!(Arc::strong_count(&ran), 1);
    }

    #[test]
    fn stopping_refuses_what_waits_and_ends_the_threads() {
        let pool = pool(1, 10);
        let shared = Arc::downgrade(&pool.0.0);
        let (busy, started, let_go) = held(&pool);
        started.recv_timeout(PATIENCE).unwrap();
        let waiting = pool.run(|| 1);
        let other = pool.clone();
        drop(pool);
        assert_eq!(other.in_flight(), 2);
        drop(other);
        assert_eq!(wait(waiting), Err(BlockingError::Stopped));
        let_go.send(()).unwrap();
        assert_eq!(wait(busy), Ok(()));
        until(|| shared.upgrade().is_none());
    }

    #[test]
    fn idle_threads_end_and_come_again() {
        let mask = original_mask().unwrap();
        let pool = Blocking::with_idle(4, 10, mask, Duration::from_millis(1));
        for _ in 0..3 {
            assert_eq!(wait(pool.run(|| 1)), Ok(1));
            until(|| pool.stats().threads == 0);
        }
    }

    #[test]
    fn threads_have_a_name_and_the_original_mask() {
        let original = original_mask().unwrap();
        let pool = pool(1, 1);
        let inside = pool.clone();
        // The first call comes from a thread pinned to one core, as a shard is.
        let (name, cpus) = thread::spawn(move || {
            let first = original_mask().unwrap().cpus()[0];
            unpin_current_thread(&Mask::of(&[first])).unwrap();
            let name = || thread::current().name().map(str::to_owned);
            wait(inside.run(move || (name(), Mask::of_current_thread().unwrap().cpus()))).unwrap()
        })
        .join()
        .unwrap();
        assert_eq!(name.as_deref(), Some("soloist-blocking-0"));
        assert_eq!(cpus, original.cpus());
    }

    #[test]
    fn no_more_threads_than_needed() {
        let pool = pool(3, 10);
        let (jobs, ends): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (job, started, let_go) = held(&pool);
                started.recv_timeout(PATIENCE).unwrap();
                (job, let_go)
            })
            .unzip();
        assert_eq!(pool.stats().threads, 3);
        drop(ends);
        jobs.into_iter().for_each(|job| wait(job).unwrap());
        until(|| pool.stats().threads_idle == 3);
        for _ in 0..20 {
            wait(pool.run(|| ())).unwrap();
        }
        assert_eq!(pool.stats().threads_peak, 3);
    }
}
