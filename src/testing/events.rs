//! The client of an event stream, for tests.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::answer::chunk_limits;
use super::rig::{Rig, begin, collect};
use super::{Answer, Call};
use crate::base::wire::{Close, Wire};
use crate::http::chunked::{Chunked, Step};
use crate::shard::waker::TaskKey;

/// How much of the shard's time may go by before an event comes.
const PATIENCE_MS: u64 = 48 * 3_600_000;

impl<'a> Call<'a> {
    /// Asks on a connection of its own and listens to the events that come: see
    /// [`Ctx::events`](crate::Ctx::events).
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::prelude::*;
    /// use soloist::testing::TestClient;
    ///
    /// async fn clock(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut hours = cx.shard().interval(Duration::from_secs(3600));
    ///     let mut events = cx.events().await?;
    ///     while let Some(()) = events.wait(hours.tick()).await {
    ///         events.send(Event::data("cuckoo").event("hour")).await?;
    ///     }
    ///     events.finish().await
    /// }
    ///
    /// async fn app(_: Shard) -> Result<App<()>> {
    ///     Ok(App::new(()).get("/clock", clock))
    /// }
    ///
    /// TestClient::run(app, async |client| {
    ///     let mut events = client.get("/clock").events().await;
    ///     let told = events.next().await.expect("an event"); // takes no hour
    ///     assert_eq!((&*told.event, &*told.data), ("hour", "cuckoo"));
    ///     client.stop().await;
    ///     assert!(events.next().await.is_none());
    /// });
    /// ```
    ///
    /// # Panics
    /// When the answer is not an event stream of status 200; the message shows the exchange.
    pub async fn events(self) -> TestEvents<'a> {
        let rig = &self.client.rig;
        let (wire, task) = rig.connect_task();
        let head = self.head();
        wire.push(&[head.as_bytes(), &self.body].concat());
        let (answer, raw) = begin(&wire, &head).await;
        let mime = answer.header("content-type").unwrap_or_default();
        let is_stream = answer.status() == 200 && mime.starts_with("text/event-stream");
        let answer = answer.asked_by(head);
        assert!(is_stream, "an event stream expected, but\n{}", answer.exchange());
        let chunked = answer.header("transfer-encoding").is_some();
        let decoder = chunked.then(|| Chunked::new(chunk_limits()));
        TestEvents { rig, wire, task, answer, decoder, raw, text: Vec::new(), ended: false }
    }
}

/// An event stream that a test listens to: see [`Call::events`]. Dropped, it vanishes as a client
/// that lost its network does: the handler is dropped at its next await.
///
/// ```
/// # use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// # async fn quiet(cx: &Ctx<()>) -> Result<Reply> {
/// #     let mut events = cx.events().await?;
/// #     events.send(Event::data("hello")).await?;
/// #     std::future::pending().await
/// # }
/// # TestClient::run(async |_| Ok(App::new(()).get("/", quiet)), async |client| {
/// let mut events = client.get("/").events().await;
/// assert_eq!(events.next().await.expect("an event").data, "hello");
/// assert_eq!(client.shard().stats().get("requests_active"), 1);
/// drop(events);
/// assert_eq!(client.shard().stats().get("requests_active"), 0);
/// # });
/// ```
pub struct TestEvents<'a> {
    rig: &'a Rig,
    wire: Rc<Wire>,
    task: TaskKey,
    answer: Answer,
    decoder: Option<Chunked>,
    /// Bytes of the body, still in chunks.
    raw: Vec<u8>,
    /// The stream from the first event on that was not given out yet.
    text: Vec<u8>,
    ended: bool,
}

impl TestEvents<'_> {
    /// The head of the answer; its body is empty, for it comes as events.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn one(cx: &Ctx<()>) -> Result<Reply> {
    /// #     let mut events = cx.events().await?;
    /// #     events.send(Event::data("hello")).await?;
    /// #     events.finish().await
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", one)), async |client| {
    /// let events = client.get("/").events().await;
    /// assert_eq!(events.answer().header("cache-control"), Some("no-store"));
    /// # });
    /// ```
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The next event, comments passed over; the shard's time goes on until it comes. None when
    /// the stream is over.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn countdown(cx: &Ctx<()>) -> Result<Reply> {
    /// #     let mut events = cx.events().await?;
    /// #     for n in (0..3).rev() {
    /// #         cx.sleep(std::time::Duration::from_secs(1)).await;
    /// #         events.send(Event::json(&n)).await?;
    /// #     }
    /// #     events.finish().await
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/countdown", countdown)), async |client| {
    /// let (mut events, mut seen) = (client.get("/countdown").events().await, Vec::new());
    /// while let Some(event) = events.next().await {
    ///     seen.push(event.data);
    /// }
    /// assert_eq!(seen, ["2", "1", "0"]);
    /// assert!(client.shard().now_ms() >= 3_000); // a second each
    /// # });
    /// ```
    ///
    /// # Panics
    /// When none comes within 48 hours of that time.
    pub async fn next(&mut self) -> Option<TestEvent> {
        let start_ms = self.rig.local.clock.now_ms();
        poll_fn(|_| {
            self.take_in();
            if let Some(event) = self.pop() {
                return Poll::Ready(Some(event));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let waited_ms = self.rig.local.clock.now_ms() - start_ms;
            assert!(waited_ms < PATIENCE_MS, "no event in two days to\n{}", self.answer.exchange());
            Poll::Pending
        })
        .await
    }

    /// Takes in what the server has written.
    fn take_in(&mut self) {
        collect(&self.wire, &mut self.raw);
        let Some(decoder) = &mut self.decoder else {
            self.text.append(&mut self.raw);
            self.ended = self.wire.closing() != Close::Open;
            return;
        };
        let mut at = 0;
        while !self.ended {
            match decoder.decode(&self.raw[at..]) {
                Ok(Step::Data { start, end }) => {
                    self.text.extend_from_slice(&self.raw[at + start..at + end]);
                    at += end;
                }
                Ok(Step::More { taken }) => {
                    at += taken;
                    break;
                }
                Ok(Step::End { .. }) => self.ended = true,
                Err(refusal) => panic!("the server's chunks: {}", refusal.reason),
            }
        }
        self.raw.drain(..at);
        self.ended |= self.wire.closing() != Close::Open;
    }

    /// The first whole event.
    fn pop(&mut self) -> Option<TestEvent> {
        loop {
            let end = self.text.windows(2).position(|two| two == b"\n\n")? + 2;
            let block: Vec<u8> = self.text.drain(..end).collect();
            if let Some(event) = TestEvent::read(&String::from_utf8_lossy(&block)) {
                return Some(event);
            }
        }
    }
}

impl Drop for TestEvents<'_> {
    fn drop(&mut self) {
        self.rig.reset(&self.wire, self.task);
    }
}

/// An event as it came. Browsers pass over one without data.
///
/// ```
/// # use std::time::Duration;
/// # use soloist::prelude::*;
/// # use soloist::testing::{TestClient, TestEvent};
/// # async fn one(cx: &Ctx<()>) -> Result<Reply> {
/// #     let mut events = cx.events().await?;
/// #     events.send(Event::data("tea\ncake").id("7").retry(Duration::from_secs(5))).await?;
/// #     events.finish().await
/// # }
/// # TestClient::run(async |_| Ok(App::new(()).get("/", one)), async |client| {
/// let TestEvent { event, id, data, retry } = client.get("/").events().await.next().await.unwrap();
/// assert_eq!(event, ""); // nameless
/// assert_eq!((id.as_deref(), &*data), (Some("7"), "tea\ncake"));
/// assert_eq!(retry, Some(Duration::from_secs(5)));
/// # });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestEvent {
    /// Its name; browsers call a nameless one `message`.
    pub event: String,
    /// Its id, if it has one; an empty one takes the last id back.
    pub id: Option<String>,
    /// Its data, lines joined with LF.
    pub data: String,
    /// How long a client is to wait before it comes back.
    pub retry: Option<Duration>,
}

impl TestEvent {
    /// The data, read as JSON.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn one(cx: &Ctx<()>) -> Result<Reply> {
    /// #     let mut events = cx.events().await?;
    /// #     events.send(Event::json(&[21.5, 22.0]).event("degrees")).await?;
    /// #     events.finish().await
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/degrees", one)), async |client| {
    /// let event = client.get("/degrees").events().await.next().await.expect("an event");
    /// let degrees: Vec<f64> = event.json();
    /// assert_eq!(degrees.iter().copied().fold(0.0, f64::max), 22.0);
    /// # });
    /// ```
    ///
    /// # Panics
    /// When it is none, or none of that type; the message shows the event.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// None for a comment alone.
    fn read(block: &str) -> Option<TestEvent> {
        let mut event = TestEvent::default();
        let mut lines = Vec::new();
        let mut any = false;
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            any = true;
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => event.event = value.to_owned(),
                "id" => event.id = Some(value.to_owned()),
                "data" => lines.push(value),
                "retry" => event.retry = value.parse().ok().map(Duration::from_millis),
                _ => {}
            }
        }
        event.data = lines.join("\n");
        any.then_some(event)
    }
}
