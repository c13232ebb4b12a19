//! A shard: one core, one executor, and everything it owns. The only folder that names glommio.

pub(crate) mod affinity;
pub(crate) mod background;
pub(crate) mod blocking;
pub(crate) mod cancel;
mod drain;
pub(crate) mod driver;
pub(crate) mod executor;
pub(crate) mod guest;
pub(crate) mod inbox;
pub(crate) mod mesh;
#[cfg(feature = "files")]
pub(crate) mod operations;
#[cfg(feature = "postgres-lane")]
pub(crate) mod outbound;
mod park;
pub(crate) mod placement;
#[cfg(feature = "tokio")]
pub(crate) mod pump;
pub(crate) mod stop;
mod table;
pub(crate) mod tasks;
pub(crate) mod time;
pub(crate) mod waker;
mod watch;

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
#[cfg(feature = "db")]
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
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
use slab::Slab;
use tasks::Tasks;
use time::{Elapsed, Interval, Sleep};
use watch::Watch;

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
    /// Of those who wait for the drain.
    stop_wakers: RefCell<Slab<Waker>>,
    /// Background tasks that run.
    spawned: Cell<usize>,
    /// What was put on the shard, one value a type.
    kept: RefCell<Vec<(TypeId, Rc<dyn Any>)>>,
    /// What was made once for all shards of the server.
    pub(crate) commons: Commons,
    /// Work of this shard that other threads do: a virtual clock stands still meanwhile.
    #[cfg(feature = "db")]
    pub(crate) abroad: Arc<AtomicUsize>,
    /// A descriptor that the ring watches.
    pub(crate) watch: Watch,
    /// What tasks ask of the ring.
    #[cfg(feature = "files")]
    pub(crate) operations: Rc<operations::Operations>,
    /// Connections of its own.
    #[cfg(feature = "postgres-lane")]
    pub(crate) outbound: outbound::Outbound,
    /// Requests that were received and answered in this turn.
    answered: Cell<u64>,
}

/// By name and type: one entry each, shared by the shards of a server.
pub(crate) type Commons = Arc<Mutex<HashMap<(&'static str, TypeId), Arc<dyn Any + Send + Sync>>>>;

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
            stop_wakers: RefCell::default(),
            spawned: Cell::new(0),
            kept: RefCell::default(),
            commons: Commons::default(),
            #[cfg(feature = "db")]
            abroad: Arc::default(),
            watch: Watch::default(),
            #[cfg(feature = "files")]
            operations: Rc::default(),
            #[cfg(feature = "postgres-lane")]
            outbound: outbound::Outbound::default(),
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

    /// What all shards of the server share under a name and a type, made by whoever asks first.
    pub(crate) fn common<T: Send + Sync + 'static>(
        &self,
        name: (&'static str, TypeId),
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let mut commons = self.commons.lock().unwrap_or_else(PoisonError::into_inner);
        let common = commons.entry(name).or_insert_with(|| Arc::new(make())).clone();
        common.downcast().expect("the type is part of the name")
    }

    /// Drops what was put on the shard, which may hold the shard.
    pub(crate) fn forget_kept(&self) {
        let kept = self.kept.take();
        drop(kept);
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
    /// The number of the shard, from 0 to [`count`](Shard::count)` - 1`; the same for as long as
    /// the server runs.
    ///
    /// ```
    /// use soloist::prelude::*;
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     if shard.id() == 0 {
    ///         shard.spawn(async { /* what one shard of the server does for all */ });
    ///     }
    ///     Ok(App::new(()))
    /// }
    /// # soloist::testing::TestClient::run(app, async |_| ());
    /// ```
    pub fn id(&self) -> usize {
        self.0.id
    }

    /// Shards of this server; 1 in a [`TestClient`](crate::testing::TestClient).
    ///
    /// ```
    /// use soloist::prelude::*;
    ///
    /// /// Which shard keeps the things of this user: the same answer on every shard.
    /// fn owner(shard: &Shard, user: u64) -> usize {
    ///     (user % shard.count() as u64) as usize
    /// }
    /// # soloist::testing::TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     assert_eq!(owner(&client.shard(), 7), 0);
    /// # });
    /// ```
    pub fn count(&self) -> usize {
        self.0.count
    }

    /// The core it is pinned to, if it is.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.text(format!("shard {} of {}, on {:?}", cx.shard().id(), cx.shard().count(), cx.shard().core()))
    /// # }
    /// ```
    pub fn core(&self) -> Option<usize> {
        self.0.core
    }

    /// Keeps a value on this shard, for whoever has the shard only: a background task, or work that
    /// another shard sends ([`Shard::on`]). The newest of a type wins. The state of the
    /// application is put there by itself once it is built.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn app(shard: Shard) -> Result<App<()>> {
    /// let names = shard.put(Own::new(vec!["ann"]));
    /// shard.spawn({
    ///     let shard = shard.clone();
    ///     async move {
    ///         let same = shard.got::<Own<Vec<&str>>>().expect("put above");
    ///         same.with(|names| names.push("bob"));
    ///     }
    /// });
    /// # Ok(App::new(()))
    /// # }
    /// ```
    pub fn put<T: 'static>(&self, value: T) -> Rc<T> {
        let value = Rc::new(value);
        self.put_shared(value.clone());
        value
    }

    /// The newest value of that type, put here by [`put`](Shard::put); none if there is none. The
    /// application's state is there under its own type.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn everywhere(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
    ///     let shard = cx.shard();
    ///     let counts = shard.on_all(async |there| {
    ///         Ok(there.got::<Cell<u64>>().map_or(0, |count| count.get())) // its own state
    ///     });
    ///     cx.json(&counts.await?)
    /// }
    /// # let app = async |_| Ok(App::new(Cell::new(3)).get("/", everywhere));
    /// # TestClient::run(app, async |client| {
    /// #     client.get("/").await.expect(200).text("[3]");
    /// # });
    /// ```
    pub fn got<T: 'static>(&self) -> Option<Rc<T>> {
        let kept = self.0.kept.borrow();
        let (_, value) = kept.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.clone().downcast().ok()
    }

    pub(crate) fn put_shared<T: 'static>(&self, value: Rc<T>) {
        let id = TypeId::of::<T>();
        let mut kept = self.0.kept.borrow_mut();
        let old = kept.iter().position(|it| it.0 == id).map(|at| kept.swap_remove(at));
        kept.push((id, value));
        drop(kept);
        drop(old); // its drop is the user's code
    }

    /// Waits on the shard's clock; late by at most 5 ms when the shard is busy.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// # async fn connect() -> Result<u32> { Ok(7) }
    /// async fn until_it_is_there(shard: &Shard) -> u32 {
    ///     let mut pause = Duration::from_millis(100);
    ///     loop {
    ///         if let Ok(connection) = connect().await {
    ///             return connection;
    ///         }
    ///         shard.sleep(pause).await; // longer each time, up to ten seconds
    ///         pause = (2 * pause).min(Duration::from_secs(10));
    ///     }
    /// }
    /// # let app = async |shard| Ok(App::new(until_it_is_there(&shard).await));
    /// # TestClient::run(app, async |_| ());
    /// ```
    pub fn sleep(&self, length: Duration) -> Sleep {
        Sleep::new(self.0.clone(), length)
    }

    /// Runs a future for at most `length`; then drops it where it stands. In a handler
    /// [`Ctx::timeout`](crate::Ctx::timeout) makes a 503 of it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// # let shard = client.shard();
    /// let second = Duration::from_secs(1);
    /// let slow = shard.sleep(Duration::from_secs(60));
    /// assert!(shard.timeout(second, slow).await.is_err()); // after one second
    /// assert_eq!(shard.timeout(second, async { 7 }).await, Ok(7));
    /// # });
    /// ```
    pub async fn timeout<F: Future>(
        &self,
        length: Duration,
        future: F,
    ) -> std::result::Result<F::Output, Elapsed> {
        time::timeout(self.0.clone(), length, future).await
    }

    /// Comes round every `every`, for the first time after that long.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let shard = cx.shard();
    /// let task = cx.spawn(async move {
    ///     let mut minutes = shard.interval(std::time::Duration::from_secs(60));
    ///     loop {
    ///         minutes.tick().await;
    ///         println!("{} requests", shard.stats().get("requests"));
    ///     }
    /// });
    /// cx.empty()
    /// # }
    /// ```
    pub fn interval(&self, every: Duration) -> Interval {
        Interval::new(self.0.clone(), every)
    }

    /// Milliseconds of the shard's clock since it started, as of this turn: a load, no system call.
    /// Shards differ, so it is for lengths of time on one of them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let shard = client.shard();
    /// let (kept, kept_ms) = ("a value from a cache", shard.now_ms());
    /// client.advance(Duration::from_secs(90)).await;
    /// let is_fresh = shard.now_ms() - kept_ms < 60_000;
    /// assert!(!is_fresh, "{kept} is older than a minute");
    /// # });
    /// ```
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
    ///
    /// ```
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn here(cx: &Ctx<()>) -> Result<Reply> {
    ///     let stats = cx.shard().stats();
    ///     cx.json(&(stats.get("requests"), stats.latency_ns(0.99)))
    /// }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", here)), async |client| {
    /// #     client.get("/").await.expect(200).json::<(u64, u64)>();
    /// # });
    /// ```
    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot()
    }
}

/// The address of a connection's other end.
pub(crate) fn peer(fd: i32) -> Option<std::net::SocketAddr> {
    if fd < 0 { None } else { crate::ring::socket::peer(fd) }
}
