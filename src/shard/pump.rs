//! tokio on a shard (feature `tokio`): a `current_thread` runtime, entered on the shard's thread
//! and turned by the shard.
//!
//! Its epoll descriptor is polled on the shard's ring. When it is readable, and every few
//! milliseconds while something may wait for one of tokio's timers, which fire only when its
//! driver turns, a task of the shard turns it: `block_on` of a future that yields twice. Each half
//! polls what is ready, then asks epoll without waiting.
//!
//! Where tokio has tasks of its own, what epoll has in the last look makes some ready that this
//! turn does not poll, and no readiness tells of them any more. So such a turn is followed by
//! another until its second half takes no longer than one with nothing to do: then hardly anything
//! can have come between its two looks, and what has is found by the next turn on time. Tasks of
//! the shard are polled by the shard: where only they wait, one look is enough.

use std::cell::Cell;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::UnixDatagram;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::sync::oneshot;

use super::Local;
use super::affinity::{Mask, unpin_current_thread};
use super::time::Alarm;
use crate::base::counters::Count;
use crate::limits::{PUMP_AWAKE_MS_MAX, PUMP_IDLE_MS_MAX, PUMP_POLLS_MAX, PUMP_TURNS_MAX, TICK_MS};

/// A shard's tokio.
pub(crate) enum Pump {
    /// The shard turns it.
    Here(Here),
    /// A thread of its own does: where there is no /proc to find the descriptor by.
    Beside(Beside),
}

pub(crate) struct Here {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    epoll: RawFd,
    /// The shortest second half of a turn so far: one with nothing to do.
    idle_turn: Cell<Duration>,
}

pub(crate) struct Beside {
    handle: Handle,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
}

impl Pump {
    /// A runtime whose other threads run on the CPUs of `mask`.
    pub(crate) fn new(mask: &Mask) -> io::Result<Pump> {
        let threads_mask = mask.clone();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(PUMP_POLLS_MAX / 2)
            // They inherit the shard's core; a mask that cannot be set is no reason to stop.
            .on_thread_start(move || drop(unpin_current_thread(&threads_mask)))
            .build()?;
        match find_epoll(&runtime) {
            Some(epoll) => Ok(Pump::Here(Here::new(runtime, epoll))),
            None => {
                tracing::warn!("no /proc: tokio runs on a thread beside its shard, and is slower");
                Beside::start(runtime, mask.clone()).map(Pump::Beside)
            }
        }
    }

    /// Makes this tokio the one that code on this thread finds, until the guard drops.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        match self {
            Pump::Here(here) => here.runtime().enter(),
            Pump::Beside(beside) => beside.handle.enter(),
        }
    }

    /// Turns it whenever there is reason to; it has no end.
    pub(crate) async fn run(self: Rc<Self>, local: Rc<Local>) {
        let Pump::Here(here) = &*self else { return };
        let alarm = Alarm::default();
        let (mut turns, mut turned_ms, mut readable_ms) = (0, 0, 0);
        local.watch.want(here.epoll);
        poll_fn(|cx| {
            let now_ms = local.clock.now_ms();
            local.watch.set_waker(cx.waker());
            if let Some(ok) = local.watch.take_fired() {
                (turns, readable_ms) = (PUMP_TURNS_MAX, now_ms);
                if ok {
                    local.watch.want(here.epoll);
                }
            }
            let awake = now_ms < readable_ms + PUMP_AWAKE_MS_MAX;
            let every_ms = if awake { TICK_MS } else { PUMP_IDLE_MS_MAX };
            let waits = here.may_wait(&local);
            if turns == 0 && waits && now_ms >= turned_ms + every_ms {
                turns = PUMP_TURNS_MAX;
            }
            if turns > 0 {
                turned_ms = now_ms;
                turns = if here.turn() { turns - 1 } else { 0 };
            }
            if turns > 0 {
                cx.waker().wake_by_ref(); // others of the shard go first
            } else if waits {
                let _ = alarm.poll(&local, turned_ms + every_ms, cx);
            }
            Poll::<()>::Pending
        })
        .await;
    }
}

impl Here {
    fn new(runtime: Runtime, epoll: RawFd) -> Here {
        let here = Here { runtime: Some(runtime), epoll, idle_turn: Cell::new(Duration::MAX) };
        for _ in 0..WARM_UP_TURNS {
            here.turn_with_tasks();
        }
        here
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("there until it is dropped")
    }

    /// One turn. True if another is to follow.
    fn turn(&self) -> bool {
        if self.runtime().metrics().num_alive_tasks() > 0 {
            return self.turn_with_tasks();
        }
        // Only tasks of the shard wait: one look makes them ready, and what comes after it makes
        // the descriptor readable again.
        self.runtime().block_on(tokio::task::yield_now());
        false
    }

    /// The same where tokio has tasks of its own, as far as the time it took can tell.
    fn turn_with_tasks(&self) -> bool {
        let took = self.runtime().block_on(async {
            tokio::task::yield_now().await; // what was ready; epoll's first look
            let start = Instant::now();
            tokio::task::yield_now().await; // what that look has found; the second look
            start.elapsed()
        });
        let idle = self.idle_turn.get().min(took);
        self.idle_turn.set(idle);
        took > idle * 2 + Duration::from_micros(1)
    }

    /// Whether somebody may wait for a timer: who does not run cannot.
    fn may_wait(&self, local: &Local) -> bool {
        local.counters.get(Count::Open) > 0
            || local.spawned.get() > 0
            || self.runtime().metrics().num_alive_tasks() > 0
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // waits for no blocking thread
        }
    }
}

impl Beside {
    fn start(runtime: Runtime, mask: Mask) -> io::Result<Beside> {
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("soloist-tokio".to_owned()).spawn(move || {
            let _ = unpin_current_thread(&mask);
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Beside { handle, _end: end })
    }
}

/// The descriptor of the runtime's epoll: the one that lists a socket while the runtime watches
/// it, and no longer. None without /proc.
fn find_epoll(runtime: &Runtime) -> Option<RawFd> {
    let _entered = runtime.enter();
    let watched = UnixDatagram::unbound().ok()?;
    let number = watched.as_raw_fd();
    let while_watched = epolls_that_list(number)?;
    let open = watched.into_std().ok()?;
    let afterwards = epolls_that_list(number)?;
    drop(open);
    while_watched.into_iter().find(|epoll| !afterwards.contains(epoll))
}

/// Descriptors of epolls of this process that have that one among theirs (proc(5)).
fn epolls_that_list(number: RawFd) -> Option<Vec<RawFd>> {
    let is_epoll = |fd: &RawFd| {
        let target = fs::read_link(format!("/proc/self/fd/{fd}"));
        target.is_ok_and(|it| it.as_os_str() == "anon_inode:[eventpoll]")
    };
    let lists = |fd: &RawFd| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let listed =
            |line: &str| line.strip_prefix("tfd:")?.split_whitespace().next()?.parse().ok();
        info.lines().filter_map(listed).any(|listed: RawFd| listed == number)
    };
    let all = fs::read_dir("/proc/self/fd").ok()?;
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Some(all.filter(is_epoll).filter(lists).collect())
}

/// Turns at the start, to know how long one with nothing to do takes.
const WARM_UP_TURNS: usize = 16;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    use super::*;
    use crate::shard::affinity::original_mask;

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Polls on this thread, with `between` in every pause.
    fn drive<T>(future: impl Future<Output = T>, between: impl Fn()) -> T {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        let start = Instant::now();
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it never ended");
            between();
        }
    }

    async fn work() -> u32 {
        let sum = |n: u32| async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            n
        };
        let tasks: Vec<_> = (0..100).map(|n| tokio::spawn(sum(n))).collect();
        let mut all = 0;
        for task in tasks {
            all += task.await.expect("no panic");
        }
        all
    }

    #[test]
    fn turned_here_it_runs_tasks_and_timers() {
        let pump = Pump::new(&original_mask().expect("a mask")).expect("a runtime");
        let Pump::Here(here) = &pump else { panic!("no descriptor found") };
        let _entered = pump.enter();
        assert_eq!(drive(work(), || while here.turn() {}), 99 * 50);
        assert_eq!(here.runtime().metrics().num_alive_tasks(), 0);
    }

    #[test]
    fn the_descriptor_is_that_of_the_runtime_asked_for() {
        let runtimes: Vec<Runtime> = (0..3)
            .map(|_| Builder::new_current_thread().enable_all().build().expect("a runtime"))
            .collect();
        let found: Vec<RawFd> =
            runtimes.iter().map(|it| find_epoll(it).expect("a descriptor")).collect();
        assert!(found[0] != found[1] && found[1] != found[2] && found[0] != found[2], "{found:?}");
        assert_eq!(find_epoll(&runtimes[1]), Some(found[1]), "the same again");
    }

    #[test]
    fn beside_its_shard_it_needs_no_turns() {
        let mask = original_mask().expect("a mask");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let pump = Pump::Beside(Beside::start(runtime, mask).expect("a thread"));
        let _entered = pump.enter();
        let all = drive(work(), || thread::park_timeout(Duration::from_secs(20)));
        assert_eq!(all, 99 * 50);
    }
}
