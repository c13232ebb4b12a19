//! Server-sent events: an answer that goes on for as long as its client listens.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;

use super::core::Phase;
use super::ctx::Ctx;
use super::reply::{Reply, Stream};
use crate::base::counters::Count;
use crate::base::wire::Input;
use crate::error::{Error, Result};
use crate::http::sse;
use crate::limits::EVENTS_KEEP_ALIVE_MS;
use crate::shard::Local;
use crate::shard::time::Armed;

/// Answering with events.
impl<S> Ctx<S> {
    /// Sends the head of an event stream (WHATWG HTML, section 9.2) and lends its writer.
    ///
    /// The fields `cache-control: no-store` and `x-accel-buffering: no` keep caches and proxies
    /// from holding events back; set them yourself to say otherwise. A client that is to ask no
    /// more gets 204 instead: `cx.empty()`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::prelude::*;
    ///
    /// async fn clock(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut seconds = cx.shard().interval(Duration::from_secs(1));
    ///     let mut events = cx.events().await?;
    ///     while let Some(()) = events.wait(seconds.tick()).await {
    ///         events.send(Event::json(&cx.shard().now_ms()).event("tick")).await?;
    ///     }
    ///     events.finish().await
    /// }
    /// ```
    ///
    /// What a waiting client holds is made to measure: the first stream of a route keeps the
    /// roomy buffers of any request (some 10 KiB), those after it the bytes that it needed. What
    /// the handler puts into the request's arena ([`format`](Ctx::format), [`put`](Ctx::put))
    /// stays there until the stream ends: a loop works in buffers of its own.
    ///
    /// # Errors
    /// When the answer has begun already, or a header field cannot be sent.
    pub async fn events(&self) -> Result<Events<'_>> {
        self.check_open()?;
        for (name, value) in [("cache-control", "no-store"), ("x-accel-buffering", "no")] {
            if !self.core.has_field(name) {
                self.core.set_field(name, value, false);
            }
        }
        let out = Stream::begin(&self.core, "text/event-stream")?;
        if out.silent {
            self.core.phase.set(Phase::Finished); // HEAD: the head is all
        }
        self.core.settle_in();
        let keep_alive_ms = EVENTS_KEEP_ALIVE_MS;
        let next_ms = self.core.local.clock.now_ms() + keep_alive_ms;
        Ok(Events { out, keep_alive_ms, next_ms })
    }

    /// The id of the last event that a client saw which comes back; none at its first visit.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let seen: u64 = cx.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);
    /// cx.json(&seen)
    /// # }
    /// ```
    pub fn last_event_id(&self) -> Option<&str> {
        self.header("last-event-id").filter(|id| !id.is_empty())
    }
}

/// The writer of an event stream: see [`Ctx::events`].
///
/// Dropped before `finish`, it cuts the connection; clients of event streams then come back.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn countdown(cx: &Ctx<()>) -> Result<Reply> {
///     let mut events = cx.events().await?;
///     for n in [3, 2, 1] {
///         events.send(Event::json(&n)).await?;
///     }
///     events.send(Event::data("").event("lift-off")).await?;
///     events.finish().await // on every way out: `?` cuts, and the client comes back
/// }
/// # let app = App::new(()).get("/", countdown);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # let mut events = client.get("/").events().await;
/// # assert_eq!(events.next().await.expect("an event").data, "3");
/// # });
/// ```
#[must_use = "an event stream ends with `finish`"]
pub struct Events<'a> {
    out: Stream<'a>,
    /// 0: none.
    keep_alive_ms: u64,
    /// When a comment is due.
    next_ms: u64,
}

impl Events<'_> {
    /// How long the stream may be silent in [`wait`](Events::wait) before a comment is sent:
    /// 15 s unless it is set. Zero: no comment is ever sent, and a client that vanished without a
    /// word is found out by the next event.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let events = cx.events().await?.keep_alive(std::time::Duration::from_secs(5));
    /// events.finish().await
    /// # }
    /// ```
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.keep_alive_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX / 2);
        if every > Duration::ZERO {
            self.keep_alive_ms = self.keep_alive_ms.max(1);
        }
        self.touch();
        self
    }

    /// Sends an event, after waiting while more than 64 KiB are unsent.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut events = cx.events().await?;
    /// events.send(Event::data("42").id("7").event("answer")).await?;
    /// let refused = events.send(Event::data("43").id("7\n8")).await;
    /// assert!(refused.is_err()); // nothing was sent of it: the stream goes on
    /// events.finish().await
    /// # }
    /// # let app = App::new(()).get("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let mut events = client.get("/").events().await;
    /// # assert_eq!(events.next().await.expect("an event").id.as_deref(), Some("7"));
    /// # assert!(events.next().await.is_none());
    /// # });
    /// ```
    ///
    /// # Errors
    /// When an id or a name holds a line break or NUL, when the value cannot be serialised (then
    /// nothing is sent), and when nobody listens.
    pub async fn send(&mut self, event: Event<'_>) -> Result<()> {
        if self.out.silent {
            return Err(Error::new(400, "nobody listens: this answer has a head alone"));
        }
        self.out.ready(0).await?;
        let spares = &self.out.core.local.spares;
        let mut bytes = spares.take();
        let written = event.write(&mut bytes);
        if written.is_ok() {
            self.out.push(&bytes);
        }
        spares.give(bytes);
        self.touch();
        written
    }

    /// Waits for anything, and keeps the stream alive meanwhile. None when the stream is over: the
    /// server stops, or the client has closed its side; then say goodbye and `finish`.
    ///
    /// A client whose connection breaks ends the handler here, without a word. The future is
    /// dropped when the stream is over.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::time::Duration;
    /// async fn ticks(cx: &Ctx<()>) -> Result<Reply> {
    ///     let shard = cx.shard();
    ///     let mut events = cx.events().await?;
    ///     while let Some(()) = events.wait(shard.sleep(Duration::from_secs(60))).await {
    ///         events.send(Event::data("tick")).await?; // comments kept it alive for that minute
    ///     }
    ///     events.send(Event::data("bye").retry(Duration::from_secs(5))).await?;
    ///     events.finish().await
    /// }
    /// # let app = App::new(()).get("/", ticks);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let mut events = client.get("/").events().await;
    /// # assert_eq!(events.next().await.expect("an event").data, "tick");
    /// # client.stop().await;
    /// # assert_eq!(events.next().await.expect("an event").data, "bye");
    /// # });
    /// ```
    pub async fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let local: &Local = &self.out.core.local;
        let alarm = Armed::new(local);
        let mut future = pin!(future);
        let mut idle = None;
        poll_fn(|cx| {
            if self.is_over(cx) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            self.keep(&alarm, cx);
            idle.get_or_insert_with(|| Idle::new(local));
            Poll::Pending
        })
        .await
    }

    /// Ends the stream. A client comes back for more unless it is told not to.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn news(cx: &Ctx<()>) -> Result<Reply> {
    ///     if cx.last_event_id() == Some("last") {
    ///         return cx.empty(); // 204: do not come back
    ///     }
    ///     let mut events = cx.events().await?;
    ///     events.send(Event::data("that is all").id("last")).await?;
    ///     events.finish().await
    /// }
    /// # let app = App::new(()).get("/", news);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(200);
    /// client.get("/").header("last-event-id", "last").await.expect(204);
    /// # });
    /// ```
    pub async fn finish(self) -> Result<Reply> {
        self.out.finish().await
    }

    fn is_over(&self, cx: &mut Context<'_>) -> bool {
        let core = self.out.core;
        let wire = core.wire();
        let gone =
            matches!(wire.poll_input(wire.unread(), cx), Poll::Ready(Input::Eof | Input::Dead));
        self.out.silent || gone || core.local.draining_ms.get().is_some()
    }

    /// Sends the comment that is due, unless bytes are under way that say as much.
    fn keep(&mut self, alarm: &Armed<'_>, cx: &Context<'_>) {
        while self.keep_alive_ms > 0 && alarm.poll(self.next_ms, cx).is_ready() {
            if self.out.core.wire().unsent() == 0 {
                self.out.push(sse::KEEP_ALIVE);
            }
            self.touch();
        }
    }

    fn touch(&mut self) {
        let now_ms = self.out.core.local.clock.now_ms();
        self.next_ms = now_ms.saturating_add(self.keep_alive_ms);
    }
}

/// One event. Without data it is no event to a client, but may carry an id or a retry time.
///
/// ```
/// use soloist::Event;
/// let event = Event::data("several\nlines").event("note").id("7");
/// let number = Event::json(&[1, 2, 3]);
/// let later = Event::default().retry(std::time::Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Default)]
#[must_use = "an event is sent by `Events::send`"]
pub struct Event<'a> {
    data: Data<'a>,
    id: Option<&'a str>,
    event: Option<&'a str>,
    retry: Option<Duration>,
}

impl<'a> Event<'a> {
    /// An event with that text. CR, LF and CRLF end its lines; a client gets LF for each.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let event = Event::data("two\nlines").event("note").id("7");
    /// ```
    pub fn data(text: &'a (impl AsRef<str> + ?Sized)) -> Event<'a> {
        Event { data: Data::Text(text.as_ref()), ..Event::default() }
    }

    /// An event with that value as JSON, serialised as it is sent.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let event = Event::json(&[1, 2, 3]);
    /// ```
    pub fn json(value: &'a impl Serialize) -> Event<'a> {
        Event { data: Data::Json(value), ..Event::default() }
    }

    /// Its name: what listeners are registered for. Without one it is a `message`.
    ///
    /// ```
    /// # use soloist::Event;
    /// // In a page: source.addEventListener("price", ...). `onmessage` does not see it.
    /// let event = Event::json(&[17, 18]).event("price");
    /// ```
    pub fn event(mut self, name: &'a (impl AsRef<str> + ?Sized)) -> Event<'a> {
        self.event = Some(name.as_ref());
        self
    }

    /// Its id: what a client that comes back says it saw last ([`Ctx::last_event_id`]). An empty
    /// one makes it forget.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn log(cx: &Ctx<()>) -> Result<Reply> {
    ///     let seen: u64 = cx.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);
    ///     let mut events = cx.events().await?;
    ///     for number in seen + 1..=3 {
    ///         events.send(Event::data("a line").id(&number.to_string())).await?;
    ///     }
    ///     events.finish().await
    /// }
    /// # let app = App::new(()).get("/", log);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let mut events = client.get("/").header("last-event-id", "2").events().await;
    /// assert_eq!(events.next().await.expect("an event").id.as_deref(), Some("3"));
    /// # });
    /// ```
    pub fn id(mut self, id: &'a (impl AsRef<str> + ?Sized)) -> Event<'a> {
        self.id = Some(id.as_ref());
        self
    }

    /// How long the client is to wait before it comes back, in whole milliseconds.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let event = Event::data("bye").retry(std::time::Duration::from_secs(30));
    /// ```
    pub fn retry(mut self, after: Duration) -> Event<'a> {
        self.retry = Some(after);
        self
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        for (name, value) in [("event", self.event), ("id", self.id)] {
            let Some(value) = value else { continue };
            if !sse::is_one_line(value) {
                return Err(Error::from(format!("{name} {value:?} of an event: not one line")));
            }
            sse::field(out, name, value.as_bytes());
        }
        if let Some(after) = self.retry {
            let mut text = [0; 39]; // digits of a u128
            sse::field(out, "retry", decimal(&mut text, after.as_millis()));
        }
        match self.data {
            Data::None => {}
            Data::Text(text) => sse::data(out, text.as_bytes()),
            Data::Json(value) => {
                out.extend_from_slice(b"data: ");
                value.write(out)?;
                out.push(b'\n'); // compact JSON is one line
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
enum Data<'a> {
    #[default]
    None,
    Text(&'a str),
    Json(&'a dyn Json),
}

/// `Serialize`, its type forgotten.
trait Json {
    fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()>;
}

impl<T: Serialize> Json for T {
    fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(out, self)
    }
}

fn decimal(text: &mut [u8; 39], mut value: u128) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &text[at..];
        }
    }
}

/// A waiting stream is no work in flight: it does not keep an idle shard awake.
struct Idle<'a>(&'a Local);

impl<'a> Idle<'a> {
    fn new(local: &'a Local) -> Idle<'a> {
        local.counters.sub(Count::Active);
        Idle(local)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.counters.add(Count::Active, 1);
    }
}
