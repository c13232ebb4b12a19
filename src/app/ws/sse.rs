//! Event streams of rooms: what is published there, to browsers without a socket.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::rooms::{Feed, Rooms, Sink};
use crate::app::ctx::Ctx;
use crate::app::events::Event;
use crate::app::reply::Reply;
use crate::error::Result;

impl<S> Ctx<S> {
    /// Answers with an event stream of what is published in a room, until the client goes or the
    /// server stops.
    ///
    /// A client that comes back says which event it saw last, and gets what it missed as far as it
    /// is [kept](crate::Shard::replay). Bytes that are no text are sent as text, with replacement
    /// characters. A client that is 256 messages behind misses the oldest of them, and is told so
    /// by an event named `missed`.
    ///
    /// # Errors
    /// As of [`events`](Ctx::events), and of [`Ws::join`](crate::Ws::join) for the name.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// use soloist::testing::TestClient;
    ///
    /// let app = async |shard: Shard| {
    ///     shard.replay("news", 10);
    ///     Ok(App::new(()).get("/news", async |cx| cx.sse("news").await).post("/", async |cx| {
    ///         cx.publish("news", "it works");
    ///         cx.empty()
    ///     }))
    /// };
    /// TestClient::run(app, async |client| {
    ///     client.post("/").await.expect(204);
    ///     let mut news = client.get("/news").events().await;
    ///     assert_eq!(news.next().await.expect("an event").data, "it works");
    /// });
    /// ```
    pub async fn sse(&self, room: &str) -> Result<Reply> {
        let local = &self.core.local;
        let (rooms, feed) = (Rooms::of(local), Rc::new(Feed::default()));
        let entered = rooms.enter(local, Sink::Feed(feed.clone()), None);
        rooms.join(entered.id, room, self.last_event_id())?;
        let mut events = self.events().await?;
        while let Some(publication) = events.wait(feed.next()).await {
            if feed.overflowed.take() {
                events.send(Event::data("some messages").event("missed")).await?;
            }
            let text = String::from_utf8_lossy(publication.payload());
            events.send(Event::data(&text).id(&publication.id())).await?;
        }
        drop(entered);
        events.finish().await
    }
}

impl Feed {
    async fn next(&self) -> std::sync::Arc<super::publish::Publication> {
        poll_fn(|cx| {
            if let Some(next) = self.queue.borrow_mut().pop_front() {
                return Poll::Ready(next);
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}
