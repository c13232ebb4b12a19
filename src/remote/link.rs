//! One connection of a shard to a server, which is made when it is first wanted and again whenever
//! it is lost, and the calls over it.
//!
//! A task, the keeper, makes it and lives as long as a handle does. Calls wait for a connection
//! that is being made, within their time limit; while the keeper pauses after a failure they fail
//! at once. A breaker stands before them.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use super::breaker::{Admitted, Breaker};
use super::ears::{Ears, Heard};
use super::error::RemoteError;
use super::options::RemoteOptions;
use super::stats::{Counting, RemoteStats};
use crate::limits::{REMOTE_BACKOFF_MS_MAX, REMOTE_BACKOFF_MS_MIN};
use crate::shard::Shard;
use crate::shard::background::Task;

/// How a server is connected to.
pub(super) trait Dial: 'static {
    /// What calls go over; clones share one connection.
    type Conn: Clone + 'static;
    /// Whether changes are heard over it.
    const HEARS: bool;

    /// Its address, for messages.
    fn address(&self) -> &str;

    /// Makes a connection, over which the server has answered; and the future that turns it, which
    /// ends with the reason when it is lost.
    fn dial(&self) -> impl Future<Output = Result<(Self::Conn, Life), RemoteError>>;
}

pub(super) type Life = Pin<Box<dyn Future<Output = RemoteError>>>;

/// What handles share. The last one that drops ends the keeper, which holds the link.
pub(super) struct Handle<D: Dial>(pub(super) Rc<Link<D>>);

impl<D: Dial> Drop for Handle<D> {
    fn drop(&mut self) {
        if let Some(keeper) = self.0.keeper.take() {
            keeper.abort();
        }
    }
}

pub(super) struct Link<D: Dial> {
    pub(super) shard: Shard,
    pub(super) dialer: D,
    pub(super) options: RemoteOptions,
    pub(super) ears: Rc<Ears>,
    pub(super) counting: Counting,
    state: RefCell<State<D::Conn>>,
    /// Connections that were made.
    epoch: Cell<u64>,
    /// The state is another.
    changed: Notify,
    /// A probe waits: the keeper's pause is over.
    hurry: Notify,
    /// Which connection does not answer any more.
    given_up: Cell<u64>,
    give_up: Notify,
    breaker: RefCell<Breaker>,
    calls: Cell<usize>,
    keeper: RefCell<Option<Task>>,
}

enum State<C> {
    Dialing,
    Up(C),
    /// The keeper pauses, for this reason.
    Down(RemoteError),
}

impl<D: Dial> Link<D> {
    pub(super) fn new(shard: &Shard, dialer: D, options: RemoteOptions, ears: Rc<Ears>) -> Self {
        let rules = options.rules();
        Link {
            shard: shard.clone(),
            dialer,
            options,
            ears,
            counting: Counting::new(),
            state: RefCell::new(State::Dialing),
            epoch: Cell::new(0),
            changed: Notify::new(),
            hurry: Notify::new(),
            given_up: Cell::new(0),
            give_up: Notify::new(),
            breaker: RefCell::new(Breaker::new(rules)),
            calls: Cell::new(0),
            keeper: RefCell::new(None),
        }
    }

    /// One call: within its time, its bound and the breaker's leave.
    pub(super) async fn call<T>(
        self: &Rc<Self>,
        work: impl AsyncFnOnce(D::Conn) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        self.counting.count(|it| it.calls += 1);
        if self.calls.get() >= self.options.calls_max {
            self.counting.count(|it| it.busy += 1);
            return Err(RemoteError::Busy);
        }
        let is_probe = match self.breaker.borrow_mut().admit(self.shard.now_ms()) {
            Admitted::Pass => false,
            Admitted::Probe => true,
            Admitted::Refused { retry_ms } => {
                self.counting.count(|it| it.refused += 1);
                return Err(RemoteError::Refused { retry_ms });
            }
        };
        let mut seat = Seat::take(self, is_probe);
        let start_ns = self.shard.0.clock.peek_ns();
        let within = self.options.call_max;
        let done = self.shard.timeout(within, async {
            self.keep();
            let conn = self.connection(is_probe).await?;
            let epoch = self.epoch.get();
            let value = work(conn).await?;
            if epoch != self.epoch.get() {
                // Everything has been told meanwhile; this is older.
                return Err(RemoteError::lost("the connection was lost meanwhile"));
            }
            Ok(value)
        });
        let done = done.await.unwrap_or_else(|_| {
            Err(RemoteError::TimedOut { ms: within.as_millis().try_into().unwrap_or(u64::MAX) })
        });
        match &done {
            Ok(_) => self.counting.record(self.shard.0.clock.peek_ns() - start_ns),
            Err(RemoteError::TimedOut { .. }) => self.counting.count(|it| it.timeouts += 1),
            Err(_) => self.counting.count(|it| it.errors += 1),
        }
        seat.end(done.as_ref().err().is_some_and(RemoteError::is_of_server));
        done
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    pub(super) fn stats(&self) -> RemoteStats {
        RemoteStats {
            breaker: self.breaker.borrow().state(self.shard.now_ms()),
            connected: self.is_up(),
            reconnects: self.epoch.get().saturating_sub(1),
            heard: self.ears.heard(),
            ..self.counting.now()
        }
    }

    /// Starts the keeper unless it runs.
    pub(super) fn keep(self: &Rc<Self>) {
        let runs = self.keeper.borrow().as_ref().is_some_and(|task| !task.is_finished());
        if runs {
            return;
        }
        let link = self.clone();
        *self.state.borrow_mut() = State::Dialing;
        match self.shard.try_spawn(async move { link.run().await }) {
            Some(task) => *self.keeper.borrow_mut() = Some(task),
            None => {
                let why = "no task for the connection: as many run as may (Limits::tasks_max)";
                *self.state.borrow_mut() = State::Down(RemoteError::lost(why));
            }
        }
    }

    /// The connection, once there is one.
    async fn connection(&self, mut hurries: bool) -> Result<D::Conn, RemoteError> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.borrow_mut();
                match &*state {
                    State::Up(conn) => return Ok(conn.clone()),
                    State::Down(why) if !hurries => return Err(why.clone()),
                    State::Down(_) => {
                        self.hurry.notify_one();
                        *state = State::Dialing;
                    }
                    State::Dialing => {}
                }
            }
            hurries = false;
            changed.await;
        }
    }

    /// The keeper's work; it has no end.
    async fn run(&self) {
        let address = self.dialer.address();
        let (mut pause_ms, mut was_up) = (REMOTE_BACKOFF_MS_MIN, true);
        loop {
            let within = self.options.connect_max;
            let dialed = self.shard.timeout(within, self.dialer.dial()).await;
            let dialed = dialed.unwrap_or_else(|_| {
                Err(RemoteError::lost(format!("{address} does not answer within {within:?}")))
            });
            match dialed {
                Ok((conn, life)) => {
                    if D::HEARS {
                        // Before any call is answered over it.
                        self.ears.tell(&Heard::Everything);
                    }
                    let epoch = self.epoch.get() + 1;
                    self.epoch.set(epoch);
                    self.breaker.borrow_mut().close();
                    self.turn(State::Up(conn));
                    if epoch > 1 || !was_up {
                        tracing::info!(address, "a remote store is back");
                    }
                    let why = self.live(life, epoch).await;
                    if D::HEARS {
                        self.ears.tell(&Heard::Nothing);
                    }
                    tracing::warn!(address, "a remote store was lost: {why}");
                    (pause_ms, was_up) = (REMOTE_BACKOFF_MS_MIN, false);
                    // Who calls now waits for the next connection, which is tried soon.
                    self.turn(State::Dialing);
                    self.shard.sleep(jitter(0, pause_ms)).await;
                }
                Err(why) => {
                    if was_up {
                        tracing::warn!(address, "a remote store is away: {why}");
                    }
                    was_up = false;
                    self.turn(State::Down(why));
                    let pause = self.shard.sleep(jitter(pause_ms / 2, pause_ms));
                    let _ = either(pause, self.hurry.notified()).await;
                    *self.state.borrow_mut() = State::Dialing;
                    pause_ms = (2 * pause_ms).min(REMOTE_BACKOFF_MS_MAX);
                }
            }
        }
    }

    /// Until the connection is lost or given up.
    async fn live(&self, life: Life, epoch: u64) -> RemoteError {
        let given_up = async {
            while self.given_up.get() != epoch {
                self.give_up.notified().await;
            }
        };
        either(life, given_up).await.unwrap_or_else(|()| RemoteError::lost("it does not answer"))
    }

    fn turn(&self, state: State<D::Conn>) {
        let old = self.state.replace(state);
        drop(old);
        self.changed.notify_waiters();
    }
}

/// A call's place among those under way. Dropped before its end, a probe leaves its turn to the
/// next call.
struct Seat<'a, D: Dial> {
    link: &'a Link<D>,
    is_probe: bool,
    /// The connection that was there when it began.
    up_since: Option<u64>,
    ended: bool,
}

impl<'a, D: Dial> Seat<'a, D> {
    fn take(link: &'a Link<D>, is_probe: bool) -> Self {
        link.calls.set(link.calls.get() + 1);
        let up_since = link.is_up().then_some(link.epoch.get());
        Seat { link, is_probe, up_since, ended: false }
    }

    fn end(&mut self, failed: bool) {
        self.ended = true;
        let (link, now_ms) = (self.link, self.link.shard.now_ms());
        let mut breaker = link.breaker.borrow_mut();
        if !failed {
            breaker.succeeded(self.is_probe, now_ms);
            return;
        }
        breaker.failed(self.is_probe, now_ms);
        if self.is_probe && self.up_since == Some(link.epoch.get()) {
            // A pause of the server costs some calls; one that lasts also the connection.
            link.given_up.set(link.epoch.get());
            link.give_up.notify_one();
        }
    }
}

impl<D: Dial> Drop for Seat<'_, D> {
    fn drop(&mut self) {
        self.link.calls.set(self.link.calls.get() - 1);
        if self.is_probe && !self.ended {
            self.link.breaker.borrow_mut().abandoned(self.link.shard.now_ms());
        }
    }
}

/// Whichever ends first.
pub(super) async fn either<A, B>(
    one: impl Future<Output = A>,
    other: impl Future<Output = B>,
) -> Result<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        if let Poll::Ready(value) = one.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        other.as_mut().poll(cx).map(Err)
    })
    .await
}

/// Anything between the two, so that not all shards of all nodes come back at once.
fn jitter(ms_min: u64, ms_max: u64) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    Duration::from_millis(ms_min + random % (ms_max - ms_min + 1))
}

/// Whether this shard has a tokio.
pub(super) fn needs_tokio() -> Result<(), RemoteError> {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(RemoteError::lost(
            "no tokio runs here: a TestClient has none, a TestServer and a Server have",
        )),
    }
}
