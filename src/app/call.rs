//! Work that one shard does for another: a closure crosses, makes its future there, and what the
//! future returns crosses back.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::mailbox::{self, Message, Receiver, Sender, oneshot};
use crate::base::counters::Count;
use crate::error::{Error, Result, SentError};
use crate::limits::CALL_MS_MAX;
use crate::shard::blocking::text_of;
use crate::shard::{Local, Shard};

/// The way to the other shards.
impl Shard {
    /// Does work on another shard, or on this one, and brings back what it returns.
    ///
    /// The closure crosses, so it captures what is `Send`; its future is made over there, and may
    /// hold whatever that shard owns: what was [`put`](Shard::put) on it, the application's state
    /// among it. An error comes back with its status and text.
    ///
    /// Dropping the future drops the work at its next `.await`. 503 if the queue to that shard is
    /// full, if it has as many tasks as it may have, if it has ended, or after 5 s; 500 if there is
    /// no such shard, or the work panics.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// # use soloist::prelude::*;
    /// /// What the owner of a key knows: every key has one shard.
    /// async fn hits(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
    ///     let key: usize = cx.param("key")?;
    ///     let shard = cx.shard();
    ///     let hits = shard.on(key % shard.count(), async move |there| {
    ///         let state = there.got::<Cell<u64>>().ok_or("not built yet")?;
    ///         state.set(state.get() + 1);
    ///         Ok(state.get())
    ///     });
    ///     cx.json(&hits.await?)
    /// }
    /// ```
    pub async fn on<T: Send + 'static>(
        &self,
        shard: usize,
        work: impl AsyncFnOnce(Shard) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.on_within(Duration::from_millis(CALL_MS_MAX), shard, work).await
    }

    /// [`on`](Shard::on) with another time limit than 5 s.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::time::Duration;
    /// # async fn slow_sum() -> Result<u64> { std::future::pending().await }
    /// async fn sum(cx: &Ctx<()>) -> Result<Reply> {
    ///     let longest = Duration::from_millis(50);
    ///     match cx.shard().on_within(longest, 0, async |_| slow_sum().await).await {
    ///         Ok(sum) => cx.json(&sum),
    ///         Err(error) if error.status() == 503 => cx.text("later"), // it is dropped there
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// # let app = App::new(()).get("/", sum);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(200).text("later");
    /// # });
    /// ```
    pub async fn on_within<T: Send + 'static>(
        &self,
        longest: Duration,
        shard: usize,
        work: impl AsyncFnOnce(Shard) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let call = Call::begin(self, shard, work)?;
        let ended = self.timeout(longest, call.answer.receive()).await;
        ended.map_err(|_| late(shard, longest)).and_then(|answer| open(shard, answer))
    }

    /// Does work on every shard, this one among them, all at a time; what they return is in the
    /// order of their ids.
    ///
    /// Every shard is tried, and waited for, even if one fails: then the first error is returned.
    /// Otherwise as [`on`](Shard::on).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn parks(cx: &Ctx<()>) -> Result<Reply> {
    ///     let each = cx.shard().on_all(async |it| Ok(it.stats().get("parks"))).await?;
    ///     cx.json(&each)
    /// }
    /// ```
    pub async fn on_all<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(Shard) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        self.on_all_within(Duration::from_millis(CALL_MS_MAX), work).await
    }

    /// [`on_all`](Shard::on_all) with another time limit than 5 s, for all of it.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::time::Duration;
    /// async fn busiest(cx: &Ctx<()>) -> Result<Reply> {
    ///     let longest = Duration::from_millis(100);
    ///     let requests = async |it: Shard| Ok(it.stats().get("requests"));
    ///     let each = cx.shard().on_all_within(longest, requests).await?;
    ///     cx.json(&each.iter().max())
    /// }
    /// # let app = App::new(()).get("/", busiest);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(200).text("1");
    /// # });
    /// ```
    pub async fn on_all_within<T: Send + 'static>(
        &self,
        longest: Duration,
        work: impl AsyncFnOnce(Shard) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let begin = |to| Call::begin(self, to, work.clone());
        let calls: Vec<Result<Call<T>>> = (0..self.count()).map(begin).collect();
        let mut late_after = self.sleep(longest);
        let mut all = Ok(Vec::with_capacity(calls.len()));
        for (to, call) in calls.into_iter().enumerate() {
            let answer = match call {
                Ok(call) => {
                    let mut receive = pin!(call.answer.receive());
                    poll_fn(|cx| {
                        if let Poll::Ready(answer) = receive.as_mut().poll(cx) {
                            return Poll::Ready(open(to, answer));
                        }
                        let over = pin!(&mut late_after).poll(cx);
                        over.map(|()| Err(late(to, longest)))
                    })
                    .await
                }
                Err(error) => Err(error),
            };
            all = match (all, answer) {
                (Ok(mut all), Ok(answer)) => {
                    all.push(answer);
                    Ok(all)
                }
                (Err(first), _) => Err(first),
                (Ok(_), Err(error)) => Err(error),
            };
        }
        all
    }
}

/// Work on its way. Dropped, it calls the work off.
struct Call<T> {
    answer: Receiver<Answer<T>>,
    _hang_up: Sender<()>,
}

/// What comes back from the other shard.
enum Answer<T> {
    Returned(T),
    Failed(SentError),
    Panicked(String),
    /// It has as many tasks as it may have.
    Full,
}

impl<T: Send + 'static> Call<T> {
    fn begin(
        from: &Shard,
        to: usize,
        work: impl AsyncFnOnce(Shard) -> Result<T> + Send + 'static,
    ) -> Result<Call<T>> {
        let (sender, answer) = oneshot();
        let (hang_up, hung_up) = oneshot();
        let run = move |local: &Rc<Local>| run(Shard(local.clone()), work, sender, hung_up);
        if to == from.id() {
            run(&from.0);
        } else if to >= from.count() {
            let why = format!("there is no shard {to}: they are 0 to {}", from.count() - 1);
            return Err(Error::from(why));
        } else if !mailbox::send(&from.0, to, Message::Run(Box::new(run))) {
            return Err(match mailbox::has_ended(to) {
                true => ended(to),
                false => full(to, "its queue is full"),
            });
        }
        Ok(Call { answer, _hang_up: hang_up })
    }
}

/// The other end: runs as a task of its own.
fn run<T: Send + 'static>(
    shard: Shard,
    work: impl AsyncFnOnce(Shard) -> Result<T> + 'static,
    sender: Sender<Answer<T>>,
    hung_up: Receiver<()>,
) {
    let (here, local) = (shard.clone(), shard.0.clone());
    // The sender waits outside until it is clear that the task runs.
    let place = Rc::new(Cell::new(Some(sender)));
    let task = {
        let place = place.clone();
        async move {
            let Some(sender) = place.take() else { return };
            let mut hung_up = pin!(hung_up.receive());
            // Made inside: a closure that panics before its future is there is caught too.
            let mut working = pin!(async move { work(shard).await });
            let ended = poll_fn(|cx| {
                if hung_up.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                match catch_unwind(AssertUnwindSafe(|| working.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(|result| Some(Ok(result))),
                    Err(panic) => Poll::Ready(Some(Err(text_of(panic)))),
                }
            })
            .await;
            match ended {
                None => {}
                Some(Ok(Ok(value))) => sender.send(Answer::Returned(value)),
                Some(Ok(Err(error))) => sender.send(Answer::Failed(SentError::pack(&error))),
                Some(Err(panic)) => {
                    local.counters.add(Count::Panics, 1);
                    sender.send(Answer::Panicked(panic));
                }
            }
        }
    };
    if here.try_spawn(task).is_none()
        && let Some(sender) = place.take()
    {
        sender.send(Answer::Full);
    }
}

fn open<T>(shard: usize, answer: Option<Answer<T>>) -> Result<T> {
    match answer {
        Some(Answer::Returned(value)) => Ok(value),
        Some(Answer::Failed(error)) => Err(error.unpack(&format!("shard {shard}"))),
        Some(Answer::Panicked(text)) => Err(Error::from(format!("shard {shard} panicked: {text}"))),
        Some(Answer::Full) => Err(full(shard, "it has as many tasks as it may (tasks_max)")),
        None => Err(ended(shard)),
    }
}

fn full(shard: usize, why: &str) -> Error {
    let busy = Error::new(503, "too much work is waiting").set("retry-after", "1");
    busy.because(format!("shard {shard}: {why}"))
}

fn ended(shard: usize) -> Error {
    Error::new(503, "not available").because(format!("shard {shard} has ended"))
}

fn late(shard: usize, longest: Duration) -> Error {
    let ms = longest.as_millis();
    Error::new(503, "took too long").because(format!("shard {shard} took longer than {ms} ms"))
}
