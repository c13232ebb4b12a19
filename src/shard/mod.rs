//! A shard: one core, one executor, and everything it owns. The only folder that names glommio.

pub(crate) mod affinity;
pub(crate) mod blocking;
mod drain;
pub(crate) mod driver;
pub(crate) mod executor;
pub(crate) mod guest;
pub(crate) mod inbox;
pub(crate) mod mesh;
mod park;
pub(crate) mod placement;
mod table;
pub(crate) mod tasks;
pub(crate) mod time;
pub(crate) mod waker;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::counters::{Counters, Stats};
use crate::base::spares::Spares;
use crate::base::wheel::Wheel;
use crate::base::wire::Dirty;
use crate::error::{Error, Result};
use crate::limits::Limits;
use blocking::{Blocking, BlockingError};
use tasks::Tasks;
use time::{Elapsed, Interval, Sleep};
use waker::TaskKey;

/// What one core owns, shared by reference among all that run on it.
pub(crate) struct Local {
    pub(crate) id: usize,
    pub(crate) count: usize,
    pub(crate) core: Option<usize>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) wheel: RefCell<Wheel<Waker>>,
    pub(crate) tasks: Rc<Tasks>,
    pub(crate) spares: Rc<Spares>,
    pub(crate) dirty: Rc<Dirty>,
    pub(crate) counters: Counters,
    pub(crate) blocking: Blocking,
    /// Since when the shard drains, in ms of its clock.
    pub(crate) draining_ms: Cell<Option<u64>>,
    /// Requests that were received and answered in this turn.
    answered: Cell<u64>,
}

/// Where a shard stands among the others.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) id: usize,
    pub(crate) count: usize,
    pub(crate) core: Option<usize>,
    /// Its number in this process, of which wakers know.
    pub(crate) seat: u16,
}

impl Local {
    pub(crate) fn new(place: Place, limits: Limits, clock: Clock, blocking: Blocking) -> Local {
        Local {
            id: place.id,
            count: place.count,
            core: place.core,
            limits,
            wheel: RefCell::new(Wheel::new(clock.now_ms())),
            clock,
            tasks: Rc::new(Tasks::new(place.seat)),
            spares: Rc::default(),
            dirty: Rc::default(),
            counters: Counters::new(),
            blocking,
            draining_ms: Cell::new(None),
            answered: Cell::new(0),
        }
    }

    /// A request has its answer. Answers of the turn that received their requests leave together,
    /// and are timed together.
    #[inline]
    pub(crate) fn answered(&self, received_ns: u64) {
        if received_ns == self.clock.now_ns() {
            self.answered.set(self.answered.get() + 1);
        } else {
            self.counters.record(self.clock.peek_ns() - received_ns, 1);
        }
    }

    /// The turn's answers are about to leave.
    #[inline]
    pub(crate) fn end_turn(&self) {
        let answered = self.answered.take();
        if answered > 0 {
            self.counters.record(self.clock.peek_ns() - self.clock.now_ns(), answered);
        }
    }

    /// Wakes what is due. The time is the clock's.
    #[inline]
    pub(crate) fn advance_wheel(&self) {
        let now_ms = self.clock.now_ms();
        // One at a time: what a waker does must find the wheel unborrowed.
        loop {
            let due = self.wheel.borrow_mut().pop_due(now_ms);
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

/// The shard that this code runs on: its clock, its tasks, its counters.
///
/// A handle, cheap to clone, that cannot leave its thread. Applications get one when they are
/// built, once on every shard, and handlers by [`Ctx::shard`](crate::Ctx::shard).
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use soloist::prelude::*;
///
/// async fn app(shard: Shard) -> Result<App<Cell<u32>>> {
///     let ticks = Rc::new(Cell::new(0));
///     let mut interval = shard.interval(Duration::from_secs(1));
///     shard.spawn({
///         let ticks = ticks.clone();
///         async move {
///             loop {
///                 interval.tick().await;
///                 ticks.set(ticks.get() + 1);
///             }
///         }
///     });
///     Ok(App::shared(ticks).get("/", async |cx| cx.text(cx.state().get().to_string())))
/// }
/// ```
#[derive(Clone)]
pub struct Shard(pub(crate) Rc<Local>);

impl Shard {
    /// From 0 to `count() - 1`.
    pub fn id(&self) -> usize {
        self.0.id
    }

    /// Shards of this server.
    pub fn count(&self) -> usize {
        self.0.count
    }

    /// The core it is pinned to, if it is.
    pub fn core(&self) -> Option<usize> {
        self.0.core
    }

    /// Runs a future on this shard, beside the requests, until it ends, is aborted, or the server
    /// has stopped. A panic in it is logged and ends it alone.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Task {
        Task { key: self.0.tasks.spawn(Box::pin(future)), local: self.0.clone() }
    }

    /// Waits on the shard's clock; late by at most 5 ms when the shard is busy.
    pub fn sleep(&self, length: Duration) -> Sleep {
        Sleep::new(self.0.clone(), length)
    }

    /// Runs a future for at most `length`; then drops it.
    pub async fn timeout<F: Future>(
        &self,
        length: Duration,
        future: F,
    ) -> std::result::Result<F::Output, Elapsed> {
        time::timeout(self.0.clone(), length, future).await
    }

    /// Comes round every `every`, for the first time after that long.
    pub fn interval(&self, every: Duration) -> Interval {
        Interval::new(self.0.clone(), every)
    }

    /// Milliseconds of the shard's clock since it started, as of this turn.
    pub fn now_ms(&self) -> u64 {
        self.0.clock.now_ms()
    }

    /// Runs work that blocks on a thread of the process's own pool. 503 when its queue is full;
    /// 500 when it panics. Dropping the future before the work has begun cancels it.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn hosts(cx: &Ctx<()>) -> Result<Reply> {
    ///     let text = cx.shard().blocking(|| std::fs::read_to_string("/etc/hosts")).await??;
    ///     cx.text(text)
    /// }
    /// ```
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.0.blocking.run(work).await.map_err(|error| match error {
            BlockingError::Full => {
                Error::new(503, "too much work is waiting").set("retry-after", "1").because(error)
            }
            _ => Error::from(error),
        })
    }

    /// This shard's counters, now. Those of all: [`Ctx::stats_all`](crate::Ctx::stats_all).
    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot()
    }
}

/// The address of a connection's other end.
pub(crate) fn peer(fd: i32) -> Option<std::net::SocketAddr> {
    if fd < 0 { None } else { crate::ring::socket::peer(fd) }
}

/// A future that runs on a shard. Dropping the handle lets it run on.
#[derive(Clone)]
pub struct Task {
    key: TaskKey,
    local: Rc<Local>,
}

impl Task {
    /// Drops the future wherever it stands; nothing if it has ended.
    pub fn abort(&self) {
        self.local.tasks.abort(self.key);
    }
}
