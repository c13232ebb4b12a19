//! The end of a shard, as those hear of it who run on it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{Local, Shard};

/// For loops that end by themselves.
impl Shard {
    /// Whether the server has begun to stop: it takes no more connections, and what runs may end.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn health(cx: &Ctx<()>) -> Result<Reply> {
    ///     if cx.shard().is_stopping() {
    ///         return Err(Error::new(503, "stopping")); // the balancer looks elsewhere
    ///     }
    ///     cx.text("well")
    /// }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/health", health)), async |client| {
    /// #     client.get("/health").await.expect(200);
    /// #     client.stop().await;
    /// #     client.get("/health").await.expect(503);
    /// # });
    /// ```
    pub fn is_stopping(&self) -> bool {
        self.0.draining_ms.get().is_some()
    }

    /// Waits until the server begins to stop; at once if it has. A loop is better off with
    /// [`until_stop`](Shard::until_stop).
    ///
    /// ```
    /// use soloist::prelude::*;
    /// # use std::cell::Cell;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let stopping = shard.stopping();
    ///     let goodbye = shard.spawn(async move {
    ///         stopping.await;
    ///         println!("stopping"); // or take the name out of a directory
    ///     });
    ///     Ok(App::new(()).on_stop(async move || goodbye.ended().await))
    /// }
    /// # TestClient::run(app, async |client| client.stop().await);
    /// ```
    pub fn stopping(&self) -> Stopping {
        Stopping { local: self.0.clone(), place: None }
    }

    /// Runs a future until the server begins to stop: then drops it, and gives none.
    ///
    /// It is the head of a loop that ends by itself. Tasks do not hold up the end of a shard: what
    /// must not be cut off is awaited by an [`on_stop`](crate::App::on_stop), whose time is the
    /// grace.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::prelude::*;
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let here = shard.clone();
    ///     let flusher = shard.spawn(async move {
    ///         let mut interval = here.interval(Duration::from_secs(5));
    ///         while here.until_stop(interval.tick()).await.is_some() {
    ///             // write what has gathered
    ///         }
    ///         // write the rest
    ///     });
    ///     Ok(App::new(()).on_stop(async move || flusher.ended().await))
    /// }
    /// ```
    pub async fn until_stop<F: Future>(&self, future: F) -> Option<F::Output> {
        let (mut future, mut stopping) = (pin!(future), self.stopping());
        poll_fn(|cx| {
            if Pin::new(&mut stopping).poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Waits until the server begins to stop: see [`Shard::stopping`].
///
/// ```
/// use soloist::{Stopping, prelude::*};
/// # use soloist::testing::TestClient;
///
/// /// Knows of no shard, only that there is an end.
/// async fn worker(stopping: Stopping) {
///     stopping.await;
/// }
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let task = client.shard().spawn(worker(client.shard().stopping()));
/// client.stop().await;
/// assert!(task.is_finished());
/// # });
/// ```
#[must_use = "it waits only while it is awaited"]
pub struct Stopping {
    local: Rc<Local>,
    /// Of its waker among those that wait.
    place: Option<usize>,
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.local.draining_ms.get().is_some() {
            return Poll::Ready(());
        }
        let place = self.place;
        let mut waiting = self.local.stop_wakers.borrow_mut();
        match place.and_then(|place| waiting.get_mut(place)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                let place = waiting.insert(cx.waker().clone());
                drop(waiting);
                self.place = Some(place);
            }
        }
        Poll::Pending
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.local.stop_wakers.borrow_mut().try_remove(place);
        }
    }
}

impl Local {
    /// The drain begins: who waits for it hears of it.
    pub(crate) fn begin_drain(&self) {
        self.draining_ms.set(Some(self.clock.now_ms()));
        // Every task looks around once, and so do wakers that belong to none.
        self.tasks.wake_all();
        let waiting: Vec<_> = self.stop_wakers.borrow().iter().map(|it| it.1.clone()).collect();
        waiting.into_iter().for_each(|waker| waker.wake());
    }
}
