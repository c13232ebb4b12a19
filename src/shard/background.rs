//! Work beside the requests: spawned, bounded, awaited, aborted.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::waker::TaskKey;
use super::{Local, Shard};
use crate::base::counters::Count;

impl Shard {
    /// Runs a future on this shard, beside the requests, until it ends, is aborted, or the server
    /// has stopped. A panic in it is logged and ends it alone.
    ///
    /// With [`tasks_max`](crate::Limits::tasks_max) of them already there it is dropped unrun,
    /// which is logged and counted (`tasks_refused`); its [`Task`] has finished then.
    ///
    /// ```
    /// use soloist::prelude::*;
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let table = shard.put(Own::new(Vec::<u32>::new()));
    ///     let filling = shard.spawn(async move {
    ///         table.with(|table| table.extend(1..=1_000)); // read from a file, say
    ///     });
    ///     Ok(App::new(()).get("/ready", async move |cx| cx.json(&filling.is_finished())))
    /// }
    /// # soloist::testing::TestClient::run(app, async |client| {
    /// #     client.get("/ready").await.expect(200).text("true");
    /// # });
    /// ```
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Task {
        self.try_spawn(future).unwrap_or_else(|| {
            let refused = self.0.counters.get(Count::TasksRefused);
            if refused.is_power_of_two() {
                let max = self.0.limits.tasks_max;
                tracing::error!(
                    shard = self.0.id,
                    refused,
                    "a task was not spawned: {max} run already (Limits::tasks_max)"
                );
            }
            Task { key: None, local: self.0.clone() }
        })
    }

    /// A task of the framework's own: not bounded, as whoever spawns it is.
    #[cfg(any(feature = "cache", feature = "db"))]
    pub(crate) fn spawn_own(&self, future: impl Future<Output = ()> + 'static) {
        self.0.tasks.spawn(Box::pin(future));
    }

    /// As [`spawn`](Shard::spawn); none if there are too many.
    pub(crate) fn try_spawn(&self, future: impl Future<Output = ()> + 'static) -> Option<Task> {
        let local = &self.0;
        if local.spawned.get() >= local.limits.tasks_max {
            local.counters.add(Count::TasksRefused, 1);
            return None;
        }
        local.spawned.set(local.spawned.get() + 1);
        let one = Spawned(local.clone());
        let counted = async move {
            let _one = one;
            future.await;
        };
        Some(Task { key: Some(local.tasks.spawn(Box::pin(counted))), local: local.clone() })
    }
}

/// A future that runs on a shard. Dropping the handle lets it run on.
///
/// ```
/// use std::{cell::RefCell, time::Duration};
/// use soloist::prelude::*;
/// # use soloist::{Task, testing::TestClient};
///
/// /// Each new draft is saved once nobody has typed for a second.
/// async fn typed(cx: &Ctx<RefCell<Option<Task>>>) -> Result<Reply> {
///     let shard = cx.shard();
///     let save = cx.spawn(async move { shard.sleep(Duration::from_secs(1)).await /* save */ });
///     if let Some(earlier) = cx.state().replace(Some(save)) {
///         earlier.abort();
///     }
///     cx.empty()
/// }
/// # let app = async |_| Ok(App::new(RefCell::new(None)).post("/draft", typed));
/// # TestClient::run(app, async |client| {
/// #     client.post("/draft").await.expect(204);
/// #     client.post("/draft").await.expect(204);
/// # });
/// ```
#[derive(Clone)]
pub struct Task {
    /// None if it was not spawned.
    key: Option<TaskKey>,
    local: Rc<Local>,
}

impl Task {
    /// Drops the future wherever it stands; nothing if it has ended.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let task = cx.spawn(std::future::pending());
    /// task.abort();
    /// task.ended().await;
    /// assert!(task.is_finished());
    /// cx.empty()
    /// # }
    /// ```
    pub fn abort(&self) {
        if let Some(key) = self.key {
            self.local.tasks.abort(key);
        }
    }

    /// Whether it has ended, by itself, by a panic or by [`abort`](Task::abort).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let shard = client.shard();
    /// let nap = shard.spawn({
    ///     let shard = shard.clone();
    ///     async move { shard.sleep(Duration::from_secs(60)).await }
    /// });
    /// assert!(!nap.is_finished());
    /// client.advance(Duration::from_secs(61)).await; // no time at all in a test
    /// assert!(nap.is_finished());
    /// # });
    /// ```
    pub fn is_finished(&self) -> bool {
        !self.key.is_some_and(|key| self.local.tasks.is_alive(key))
    }

    /// Waits until it has ended, however it did.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn both(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (first, second) = (cx.spawn(async { /* .. */ }), cx.spawn(async { /* .. */ }));
    ///     first.ended().await; // they run beside each other, and on if this request is dropped
    ///     second.ended().await;
    ///     cx.text("both are done")
    /// }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", both)), async |client| {
    /// #     client.get("/").await.expect(200).text("both are done");
    /// # });
    /// ```
    pub async fn ended(&self) {
        Ended { task: self, place: None }.await;
    }
}

/// One of the tasks that are counted.
struct Spawned(Rc<Local>);

impl Drop for Spawned {
    fn drop(&mut self) {
        self.0.spawned.set(self.0.spawned.get() - 1);
    }
}

struct Ended<'a> {
    task: &'a Task,
    /// Among the wakers of those who watch.
    place: Option<usize>,
}

impl Future for Ended<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.task.key else { return Poll::Ready(()) };
        let tasks = &self.task.local.tasks;
        if !tasks.is_alive(key) {
            return Poll::Ready(());
        }
        let place = tasks.watch(key, cx.waker(), self.place);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.task.local.tasks.unwatch(place);
        }
    }
}
