//! Time on a shard: sleeping, time limits, intervals; all on the shard's own wheel.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Local;
use crate::base::wheel::TimerId;

/// Waits until a moment of the shard's clock: see [`Shard::sleep`](super::Shard::sleep). Late by
/// at most a tick (5 ms) on a busy shard. The moment is set when it is made, not
/// when it is first awaited.
///
/// ```
/// # use std::time::Duration;
/// # use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let shard = client.shard();
/// let (since_ms, pause) = (shard.now_ms(), shard.sleep(Duration::from_millis(300)));
/// client.advance(Duration::from_millis(100)).await; // work that takes a while
/// pause.await;
/// assert_eq!(shard.now_ms() - since_ms, 300); // not 400
/// # });
/// ```
#[must_use = "a sleep waits only while it is awaited"]
pub struct Sleep {
    local: Rc<Local>,
    at_ms: u64,
    alarm: Alarm,
}

impl Sleep {
    pub(crate) fn new(local: Rc<Local>, length: Duration) -> Sleep {
        let at_ms = local.clock.now_ms().saturating_add(ceil_ms(length));
        Sleep { local, at_ms, alarm: Alarm::default() }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(&self.local, self.at_ms, cx)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.alarm.cancel(&self.local);
    }
}

/// Comes round at a fixed pace: see [`Shard::interval`](super::Shard::interval). What a
/// slow loop has missed is skipped, not made up for.
///
/// ```
/// # use std::time::Duration;
/// # use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// # let (shard, start_ms) = (client.shard(), client.shard().now_ms());
/// let mut seconds = shard.interval(Duration::from_secs(1));
/// seconds.tick().await; // at 1 s
/// client.advance(Duration::from_millis(2_500)).await; // at 3.5 s, past those of 2 and 3 s
/// seconds.tick().await; // one of them, at once
/// seconds.tick().await; // at 4 s
/// # assert_eq!(shard.now_ms() - start_ms, 4_000);
/// # });
/// ```
pub struct Interval {
    local: Rc<Local>,
    every_ms: u64,
    next_ms: u64,
}

impl Interval {
    pub(crate) fn new(local: Rc<Local>, every: Duration) -> Interval {
        let every_ms = ceil_ms(every).max(1);
        let next_ms = local.clock.now_ms().saturating_add(every_ms);
        Interval { local, every_ms, next_ms }
    }

    /// Waits for the next round; at once if it has come. Dropped while it waits, it misses nothing:
    /// the round is still to come.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let mut hours = shard.interval(Duration::from_secs(3600));
    ///     shard.spawn(async move {
    ///         loop {
    ///             hours.tick().await;
    ///             println!("throw out what is old");
    ///         }
    ///     });
    ///     Ok(App::new(()))
    /// }
    /// # TestClient::run(app, async |client| client.advance(Duration::from_secs(7_200)).await);
    /// ```
    pub async fn tick(&mut self) {
        let sleep =
            Sleep { local: self.local.clone(), at_ms: self.next_ms, alarm: Alarm::default() };
        sleep.await;
        let late_ms = self.local.clock.now_ms().saturating_sub(self.next_ms);
        self.next_ms += self.every_ms * (1 + late_ms / self.every_ms);
    }
}

/// A future did not end within its time: see [`Shard::timeout`](super::Shard::timeout).
///
/// ```
/// use std::time::Duration;
/// use soloist::{Elapsed, prelude::*};
/// # use soloist::testing::TestClient;
///
/// async fn price(cx: &Ctx<()>) -> Result<Reply> {
/// #   let ask = cx.sleep(Duration::from_secs(60));
///     match cx.shard().timeout(Duration::from_millis(50), ask).await {
///         Ok(_) => cx.text("today's"),
///         Err(Elapsed) => cx.text("yesterday's"), // better than none
///     }
/// }
/// # TestClient::run(async |_| Ok(App::new(()).get("/", price)), async |client| {
/// #     client.get("/").await.expect(200).text("yesterday's");
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("time limit reached")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `length`.
pub(crate) async fn timeout<F: Future>(
    local: Rc<Local>,
    length: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut sleep = Sleep::new(local, length);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// One timer of the wheel, for a deadline that mostly moves on: it is set again only when it
/// fires too early or the deadline comes nearer. A request on a warm connection costs none.
#[derive(Default)]
pub(crate) struct Alarm(Cell<Option<(TimerId, u64)>>);

impl Alarm {
    /// Ready at `at_ms`. Call it whenever the task is polled.
    #[inline]
    pub(crate) fn poll(&self, local: &Local, at_ms: u64, cx: &Context<'_>) -> Poll<()> {
        if local.clock.now_ms() >= at_ms {
            self.cancel(local);
            return Poll::Ready(());
        }
        if let Some((id, armed_ms)) = self.0.get() {
            let mut wheel = local.wheel.borrow_mut();
            match wheel.get_mut(id) {
                Some(waker) if armed_ms <= at_ms => {
                    if !waker.will_wake(cx.waker()) {
                        *waker = cx.waker().clone();
                    }
                    return Poll::Pending;
                }
                _ => {
                    wheel.cancel(id);
                }
            }
        }
        let id = local.wheel.borrow_mut().insert(at_ms, cx.waker().clone());
        self.0.set(Some((id, at_ms)));
        Poll::Pending
    }

    pub(crate) fn cancel(&self, local: &Local) {
        if let Some((id, _)) = self.0.take() {
            local.wheel.borrow_mut().cancel(id);
        }
    }
}

/// An alarm that is cancelled when it is dropped.
pub(crate) struct Armed<'a> {
    local: &'a Local,
    alarm: Alarm,
}

impl<'a> Armed<'a> {
    pub(crate) fn new(local: &'a Local) -> Armed<'a> {
        Armed { local, alarm: Alarm::default() }
    }

    /// As of [`Alarm::poll`].
    pub(crate) fn poll(&self, at_ms: u64, cx: &Context<'_>) -> Poll<()> {
        self.alarm.poll(self.local, at_ms, cx)
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.alarm.cancel(self.local);
    }
}

fn ceil_ms(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX / 2)
}
