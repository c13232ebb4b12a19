//! The head of an answer, on its way out, and what waits for it: a closure of one request, or one
//! that a middleware keeps.

use std::rc::Rc;

use super::core::{Core, Phase};
use super::ctx::Ctx;
use super::reply::BodyFilter;

/// Runs just before the head leaves.
pub(crate) enum OnHead {
    Once(Box<dyn FnOnce(&ReplyHead<'_>)>),
    Kept(KeptOnHead),
}

/// Made once, used for every request: costs no heap.
pub(crate) type KeptOnHead = Rc<dyn Fn(&ReplyHead<'_>)>;

impl OnHead {
    #[inline]
    pub(crate) fn run(self, head: &ReplyHead<'_>) {
        match self {
            OnHead::Once(f) => f(head),
            OnHead::Kept(f) => f(head),
        }
    }
}

impl<S> Ctx<S> {
    /// Runs `f` once, just before the head of the answer leaves, streamed or not.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.on_head(|head| {
    ///     head.set_header("server-timing", "db;dur=3"); // on errors and streams too
    /// });
    /// cx.text("hello")
    /// # }
    /// ```
    pub fn on_head(&self, f: impl FnOnce(&ReplyHead<'_>) + 'static) {
        self.core.on_head.borrow_mut().push(OnHead::Once(Box::new(f)));
    }

    /// As [`on_head`](Ctx::on_head), with a closure that a middleware keeps: a warm request takes
    /// nothing from the heap for it. What differs from request to request it finds by
    /// [`ReplyHead::got`] and [`ReplyHead::request_header`].
    ///
    /// ```
    /// use std::rc::Rc;
    /// use soloist::prelude::*;
    /// use soloist::{Middleware, ReplyHead};
    ///
    /// fn server_name<S: 'static>(name: &'static str) -> impl Middleware<S> {
    ///     let kept: Rc<dyn Fn(&ReplyHead<'_>)> = Rc::new(move |head: &ReplyHead<'_>| {
    ///         head.set_header("server", name);
    ///     });
    ///     async move |cx: &Ctx<S>, next: Next<'_>| {
    ///         cx.on_head_kept(&kept);
    ///         next.run().await
    ///     }
    /// }
    /// # let app = App::new(()).wrap(server_name("a"));
    /// ```
    #[inline]
    pub fn on_head_kept(&self, f: &Rc<dyn Fn(&ReplyHead<'_>)>) {
        self.core.on_head.borrow_mut().push(OnHead::Kept(f.clone()));
    }
}

/// The head of an answer, on its way out: see [`Ctx::on_head`].
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn brief(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
///     cx.on_head(|head| {
///         if head.status() == 200 && head.header("cache-control").is_none() {
///             head.set_header("cache-control", "max-age=60");
///         }
///     });
///     next.run().await
/// }
/// # let app = App::new(()).wrap(brief).get("/", async |cx| cx.text("a"));
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/").await.has("cache-control", "max-age=60");
/// # assert_eq!(client.get("/x").await.expect(404).header("cache-control"), None);
/// # });
/// ```
pub struct ReplyHead<'a>(pub(crate) &'a Core);

impl ReplyHead<'_> {
    /// The final status.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.on_head(|head| assert_eq!(head.status(), 404)); // not the 200 of this moment
    ///     Err(Error::not_found())
    /// }
    /// # let app = App::new(()).get("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(404);
    /// # });
    /// ```
    pub fn status(&self) -> u16 {
        self.0.status.get()
    }

    /// The value of a header field of the answer.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.on_head(|head| {
    ///     let is_page = head.header("content-type").is_some_and(|it| it.starts_with("text/html"));
    ///     head.set_header("referrer-policy", if is_page { "same-origin" } else { "no-referrer" });
    /// });
    /// cx.html("<p>hello")
    /// # }
    /// # let app = App::new(()).get("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.has("referrer-policy", "same-origin");
    /// # });
    /// ```
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.field(name)
    }

    /// Whether the body follows in pieces; if not, it is whole already.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn no_buffering(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     cx.on_head(|head| {
    ///         if head.is_streamed() {
    ///             head.set_header("x-accel-buffering", "no"); // nginx passes it on piece by piece
    ///         }
    ///     });
    ///     next.run().await
    /// }
    /// # let app = App::new(()).wrap(no_buffering).get("/whole", async |cx| cx.text("a"))
    /// #     .get("/pieces", async |cx| cx.stream("text/plain").await?.finish().await);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # assert_eq!(client.get("/whole").await.header("x-accel-buffering"), None);
    /// # client.get("/pieces").await.has("x-accel-buffering", "no");
    /// # });
    /// ```
    pub fn is_streamed(&self) -> bool {
        self.0.phase.get() == Phase::Open
    }

    /// Puts a filter between a streamed body and the client; it does nothing for a whole one.
    ///
    /// One at a time: another one takes its place. A whole body is changed by
    /// [`Ctx::replace_body`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::BodyFilter;
    /// struct Shout;
    ///
    /// impl BodyFilter for Shout {
    ///     fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
    ///         out.extend(bytes.to_ascii_uppercase());
    ///     }
    ///     fn finish(&mut self, _: &mut Vec<u8>) {}
    /// }
    /// async fn shout(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     cx.on_head(|head| head.filter_body(Shout));
    ///     next.run().await
    /// }
    /// # let app = App::new(()).wrap(shout).get("/", async |cx| {
    /// #     let mut out = cx.stream("text/plain").await?;
    /// #     out.write("hello").await?;
    /// #     out.finish().await
    /// # });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("HELLO");
    /// # });
    /// ```
    pub fn filter_body(&self, filter: impl BodyFilter + 'static) {
        self.0.filter.replace(Some(Box::new(filter)));
    }

    /// As [`Ctx::set_header`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn timed(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     let (shard, start_ms) = (cx.shard(), cx.shard().now_ms());
    ///     cx.on_head(move |head| {
    ///         let ms = shard.now_ms() - start_ms;
    ///         head.set_header("server-timing", format!("app;dur={ms}"));
    ///     });
    ///     next.run().await
    /// }
    /// # let app = App::new(()).wrap(timed).get("/", async |cx| {
    /// #     cx.sleep(std::time::Duration::from_millis(30)).await;
    /// #     cx.empty()?;
    /// #     cx.status(200).text("a")
    /// # });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(200).has("server-timing", "app;dur=30");
    /// # });
    /// ```
    pub fn set_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.0.set_field(name, value.as_ref(), false);
        self
    }

    /// As [`Ctx::add_header`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.on_head(|head| {
    ///     head.add_header("vary", "origin"); // the `vary` of the handler stays
    /// });
    /// cx.set_header("vary", "accept").text("hello")
    /// # }
    /// # let app = App::new(()).get("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # assert!(client.get("/").await.snapshot().contains("vary: accept\nvary: origin\n"));
    /// # });
    /// ```
    pub fn add_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.0.set_field(name, value.as_ref(), true);
        self
    }

    /// The newest value of that type which the request keeps: see [`Ctx::put`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// struct Shown(u32);
    ///
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.on_head(|head| {
    ///     let count = head.got::<Shown>().map_or(0, |Shown(count)| *count);
    ///     head.set_header("x-count", count.to_string());
    /// });
    /// cx.put(Shown(3)); // after it: what counts is the moment the head leaves
    /// cx.text("a b c")
    /// # }
    /// # let app = App::new(()).get("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.has("x-count", "3");
    /// # });
    /// ```
    pub fn got<T: 'static>(&self) -> Option<&T> {
        self.0.arena.got()
    }

    /// The value of the request's first header field of that name, in any case.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.on_head(|head| {
    ///     if let Some(id) = head.request_header("x-request-id") {
    ///         head.set_header("x-request-id", id); // so that the client's log and ours agree
    ///     }
    /// });
    /// cx.text("hello")
    /// # }
    /// # let app = App::new(()).get("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").header("X-Request-Id", "a7").await.has("x-request-id", "a7");
    /// # });
    /// ```
    pub fn request_header(&self, name: &str) -> Option<&str> {
        self.0.head.field(self.0.bytes(), name)
    }
}
