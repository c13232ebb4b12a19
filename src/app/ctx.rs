//! The context: what a handler knows of its request, and what lives with that.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Deserialize;

use super::body::Chunk;
use super::core::Core;
use super::param::FromParam;
use crate::base::counters::Stats;
use crate::error::{Error, Result};
use crate::http::percent;
use crate::shard::Shard;
use crate::shard::background::Task;
use crate::shard::time::Sleep;

/// One request and its answer, with the state of the application that answers it.
///
/// What it lends (`&str` of a path, a header, a body) lives until the answer is given: it lies in
/// the connection's own buffers. A `Ctx` never changes threads.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # use std::cell::Cell;
/// async fn greet(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
///     let name = cx.query_param("name").unwrap_or("stranger"); // lent, not copied
///     let number = cx.state().get() + 1;
///     cx.state().set(number); // this shard's alone
///     cx.set_header("cache-control", "no-store").text(format!("{name}, you are number {number}"))
/// }
/// # let app = App::new(Cell::new(0)).get("/", greet);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.get("/?name=ann").await.expect(200).text("ann, you are number 1");
/// # });
/// ```
pub struct Ctx<S> {
    pub(crate) core: Rc<Core>,
    pub(crate) state: Rc<S>,
}

/// Reading.
impl<S> Ctx<S> {
    /// `GET`, `POST`, or whatever token the client sent.
    ///
    /// Its case counts (RFC 9110 section 9.1). Where a GET route answers a HEAD it is `HEAD`.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).fallback(async |cx| cx.text(format!("no {} here", cx.method())));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.call("PURGE", "/x").await.text("no PURGE here");
    /// client.call("get", "/x").await.text("no get here"); // that is another method than GET
    /// # });
    /// ```
    pub fn method(&self) -> &str {
        self.core.head.method_name.text(self.core.bytes())
    }

    /// The path of the target, as it came: percent-encoded, without the query.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).fallback(async |cx| cx.text(cx.path()));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/a%20b/?page=2").await.text("/a%20b/");
    /// client.get("http://example.com/a").await.text("/a"); // as it is sent to a proxy
    /// # });
    /// ```
    pub fn path(&self) -> &str {
        self.core.head.path.text(self.core.bytes())
    }

    /// The pattern of the route that matched, such as `/todos/:id`.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.text(cx.route().unwrap_or("none")) // "/users/:id" for /users/7
    /// # }
    /// ```
    pub fn route(&self) -> Option<&str> {
        self.core.route.as_ref().map(|route| &*route.pattern)
    }

    /// The query, as it came, without its question mark; empty if there is none.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| cx.text(cx.query()));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/?q=a%26b&page=2").await.text("q=a%26b&page=2"); // `query_param` decodes
    /// client.get("/").await.text("");
    /// # });
    /// ```
    pub fn query(&self) -> &str {
        self.core.head.query.text(self.core.bytes())
    }

    /// The first value of that name in the query, decoded.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let page: u32 = cx.query_param("page").and_then(|it| it.parse().ok()).unwrap_or(1);
    /// cx.json(&page)
    /// # }
    /// ```
    pub fn query_param(&self, name: &str) -> Option<&str> {
        for (key, value) in percent::pairs(self.query()).flatten() {
            if key == name {
                return Some(match value {
                    Cow::Borrowed(text) => text,
                    Cow::Owned(text) => self.core.arena.copy(&text),
                });
            }
        }
        None
    }

    /// The authority that the client asked for: of an absolute target, else the Host field.
    ///
    /// Its port is there if the client sent one. The target goes before the field (RFC 9112
    /// section 3.2.2).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| cx.text(cx.host()));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.text("test"); // what a test client sends
    /// client.get("http://example.com:81/").await.text("example.com:81");
    /// # });
    /// ```
    pub fn host(&self) -> &str {
        self.core.head.host.text(self.core.bytes())
    }

    /// The value of the first header field of that name, in any case.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.text(cx.header("user-agent").unwrap_or("unknown")) // any case
    /// # }
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.core.head.field(self.core.bytes(), name)
    }

    /// Every header field, in the order of the request.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// for (name, value) in cx.headers() {
    ///     println!("{name}: {value}");
    /// }
    /// cx.empty()
    /// # }
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let bytes = self.core.bytes();
        self.core.head.fields.iter().map(|field| (field.name.text(bytes), field.value.text(bytes)))
    }

    /// A field of the trailer section of a chunked body that has been read to its end.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn store(cx: &Ctx<()>) -> Result<Reply> {
    ///     let bytes = cx.body().await?.len(); // the trailers are behind it
    ///     match cx.trailer("x-bytes").and_then(|it| it.parse::<usize>().ok()) {
    ///         Some(said) if bytes == said => cx.empty(),
    ///         _ => Err(Error::bad_request("x-bytes: not what came")),
    ///     }
    /// }
    /// # let app = App::new(()).post("/", store);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    /// # let raw = format!("{head}2\r\nhi\r\n0\r\nx-bytes: 2\r\n\r\n");
    /// # assert!(client.raw(&[raw.as_bytes()]).await.starts_with(b"HTTP/1.1 204 "));
    /// # let raw = format!("{head}2\r\nhi\r\n0\r\nx-bytes: 3\r\n\r\n");
    /// # assert!(client.raw(&[raw.as_bytes()]).await.starts_with(b"HTTP/1.1 400 "));
    /// # });
    /// ```
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.core.trailer(name)
    }

    /// A path parameter as text, number or bool. 400 if it is not one.
    ///
    /// For a foreign type with `FromStr` use [`parse`](Ctx::parse).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let id: u64 = cx.param("id")?; // not a number: 400
    /// let name: &str = cx.param("name")?; // borrowed from the request
    /// cx.text(format!("{id} {name}"))
    /// # }
    /// ```
    pub fn param<'a, T: FromParam<'a>>(&'a self, name: &str) -> Result<T> {
        let text = self.param_text(name)?;
        T::from_param(text).map_err(|kind| Error::bad_request(format!("{name}: not {kind}")))
    }

    /// A path parameter of any type with `FromStr`. 400 if it is not one.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let address: std::net::IpAddr = cx.parse("address")?;
    /// cx.text(address.to_string())
    /// # }
    /// ```
    pub fn parse<T: FromStr>(&self, name: &str) -> Result<T> {
        let text = self.param_text(name)?;
        text.parse().map_err(|_| Error::bad_request(format!("{name}: not valid")))
    }

    /// The whole body, at most [`body_bytes_max`](crate::Limits::body_bytes_max) (else 413).
    /// Borrowed from the receive buffer when it came with the head.
    ///
    /// Dropped half-way, it goes on where it stopped when it is called again.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let bytes = cx.body().await?; // more than `body_bytes_max`: 413
    /// cx.json(&bytes.len())
    /// # }
    /// ```
    pub async fn body(&self) -> Result<&[u8]> {
        self.core.read_body().await
    }

    /// The whole body as JSON. Strings without escapes may be borrowed. 400 if it is not valid,
    /// with the path of the field that does not suit, such as `lines[2].price`.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let numbers: Vec<u32> = cx.body_json().await?; // a mistake: 400 with its place
    /// cx.json(&numbers.iter().sum::<u32>())
    /// # }
    /// ```
    pub async fn body_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        let body = self.core.read_body().await?;
        super::json::read(body)
    }

    /// The next bytes of the body, none at its end; in all at most
    /// [`stream_bytes_max`](crate::Limits::stream_bytes_max) (else 413).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn count(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut bytes = 0;
    ///     while let Some(chunk) = cx.next_chunk().await? {
    ///         bytes += chunk.len();
    ///     }
    ///     cx.text(bytes.to_string())
    /// }
    /// ```
    pub async fn next_chunk(&self) -> Result<Option<Chunk<'_>>> {
        self.core.read_chunk(self.core.body_limit(self.core.local.limits.stream_bytes_max)).await
    }

    /// The address of the connection's other end, which may be a proxy: see
    /// [`client`](Ctx::client). None in memory, or if the connection was gone before anyone asked.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| match cx.peer() {
    ///     Some(addr) => cx.text(addr.to_string()),
    ///     None => cx.text("from nowhere"),
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.text("from nowhere");
    /// client.peer(([192, 0, 2, 7], 4711)); // connections of this address from now on
    /// client.get("/").await.text("192.0.2.7:4711");
    /// # });
    /// ```
    pub fn peer(&self) -> Option<SocketAddr> {
        self.core.peer()
    }

    fn param_text(&self, name: &str) -> Result<&str> {
        let route = self.core.route.as_ref();
        let at = route.and_then(|it| it.names.iter().position(|known| **known == *name));
        let Some(text) = at.and_then(|at| self.core.params.of(self.path(), at)) else {
            let path = self.route().unwrap_or("this route").to_owned();
            return Err(Error::new(500, "internal error")
                .because(format!("{path} has no parameter named {name}")));
        };
        match percent::decode(text) {
            Ok(Cow::Borrowed(text)) => Ok(text),
            Ok(Cow::Owned(text)) => Ok(self.core.arena.copy(&text)),
            Err(_) => Err(Error::bad_request(format!("{name}: bad percent-encoding"))),
        }
    }
}

/// State and what lives with the request.
impl<S> Ctx<S> {
    /// The application's state on this shard.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<std::cell::Cell<u64>>) -> Result<Reply> {
    /// cx.state().set(cx.state().get() + 1); // one thread: no atomics
    /// cx.json(&cx.state().get())
    /// # }
    /// ```
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The same, to keep.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::Cell;
    /// # use std::time::Duration;
    /// async fn later(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
    ///     let (state, shard) = (cx.state_rc(), cx.shard());
    ///     cx.spawn(async move {
    ///         shard.sleep(Duration::from_secs(60)).await; // the request is long over
    ///         state.set(state.get() + 1);
    ///     });
    ///     cx.status(202).empty()
    /// }
    /// # let app = App::new(Cell::new(0)).post("/", later);
    /// # let app = app.get("/", async |cx| cx.json(cx.state()));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.post("/").await.expect(202);
    /// # client.get("/").await.text("0");
    /// # client.advance(Duration::from_secs(61)).await;
    /// # client.get("/").await.text("1");
    /// # });
    /// ```
    pub fn state_rc(&self) -> Rc<S> {
        self.state.clone()
    }

    /// Keeps a value for the rest of the request; the newest of a type wins.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// struct User(u64);
    /// cx.put(User(7)); // a middleware says who it is
    /// let user: &User = cx.got().ok_or_else(Error::unauthorized)?; // the handler asks
    /// cx.json(&user.0)
    /// # }
    /// ```
    pub fn put<T: 'static>(&self, value: T) -> &T {
        self.core.arena.put(value)
    }

    /// The newest value of that type.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// struct User(&'static str);
    ///
    /// async fn sign_in(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     if cx.header("authorization") == Some("Bearer 7") {
    ///         cx.put(User("ann"));
    ///     }
    ///     next.run().await
    /// }
    /// async fn whoami(cx: &Ctx<()>) -> Result<Reply> {
    ///     let User(name) = cx.got().ok_or_else(Error::unauthorized)?; // the type says which
    ///     cx.text(name)
    /// }
    /// # let app = App::new(()).wrap(sign_in).get("/", whoami);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(401);
    /// # client.get("/").header("authorization", "Bearer 7").await.expect(200).text("ann");
    /// # });
    /// ```
    pub fn got<T: 'static>(&self) -> Option<&T> {
        self.core.arena.got()
    }

    /// Text in the request's arena.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let greeting: &str = cx.format(format_args!("hello, {}", cx.param::<&str>("name")?));
    /// cx.text(greeting)
    /// # }
    /// ```
    pub fn format(&self, text: fmt::Arguments<'_>) -> &str {
        self.core.arena.text(text)
    }

    /// Bytes that the request's arena holds: 8 KiB to begin with.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn wide(cx: &Ctx<()>) -> Result<Reply> {
    ///     let before = cx.arena_bytes();
    ///     let line = cx.format(format_args!("{:>20000}", 7)); // a chunk more: it is given back
    ///     assert!(cx.arena_bytes() >= before + line.len());
    ///     cx.text(line)
    /// }
    /// # let app = App::new(()).get("/", wide);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(200);
    /// # });
    /// ```
    pub fn arena_bytes(&self) -> usize {
        self.core.arena.bytes_held()
    }

    /// The shard that this runs on.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| {
    ///     let shard = cx.shard(); // a handle: `spawn`ed tasks and hooks may keep it
    ///     cx.text(format!("shard {} of {}", shard.id(), shard.count()))
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.text("shard 0 of 1");
    /// # });
    /// ```
    pub fn shard(&self) -> Shard {
        Shard(self.core.local.clone())
    }

    /// Counters of all shards, merged: one message to each other shard, one back.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let stats = cx.stats_all().await;
    /// cx.json(&[stats.get("requests"), stats.latency_ns(0.999)])
    /// # }
    /// ```
    pub async fn stats_all(&self) -> Stats {
        let shards = super::mailbox::stats(&self.core.local).await;
        let mut shards = shards.into_iter();
        let mut all = shards.next().unwrap_or_else(|| self.core.local.counters.snapshot());
        shards.for_each(|stats| all.merge(&stats));
        all
    }

    /// Counters of each shard, in the order of their ids.
    ///
    /// A shard that has ended, whose queue is full, or that does not answer within a second is left
    /// out.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| {
    ///     let each = cx.stats_each().await;
    ///     let requests: Vec<u64> = each.iter().map(|stats| stats.get("requests")).collect();
    ///     cx.json(&requests) // is one of them idle?
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.text("[1]");
    /// # });
    /// ```
    pub async fn stats_each(&self) -> Vec<Stats> {
        super::mailbox::stats(&self.core.local).await
    }

    /// The way to another shard over the mesh, and back: nothing to this one. None if it is not
    /// there, has ended, does not answer within a second, or its queue is full.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn way(cx: &Ctx<()>) -> Result<Reply> {
    ///     match cx.ping(cx.param("shard")?).await {
    ///         Some(way) => cx.text(format!("{} ns", way.as_nanos())),
    ///         None => Err(Error::not_found()),
    ///     }
    /// }
    /// # let app = App::new(()).get("/ping/:shard", way);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/ping/0").await.text("0 ns"); // this very shard
    /// client.get("/ping/9").await.expect(404);
    /// # });
    /// ```
    pub async fn ping(&self, shard: usize) -> Option<Duration> {
        let local = &self.core.local;
        let start_ns = local.clock.peek_ns();
        let there = shard == local.id || super::mailbox::ping(local, shard).await;
        there.then(|| Duration::from_nanos(local.clock.peek_ns() - start_ns))
    }

    /// Runs a future on this shard that outlives the request.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let shard = cx.shard();
    /// cx.spawn(async move {
    ///     shard.sleep(std::time::Duration::from_secs(5)).await;
    ///     println!("five seconds later");
    /// });
    /// cx.status(202).empty()
    /// # }
    /// ```
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Task {
        self.shard().spawn(future)
    }

    /// Waits on the shard's clock.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.sleep(std::time::Duration::from_millis(20)).await;
    /// cx.empty()
    /// # }
    /// ```
    pub fn sleep(&self, length: Duration) -> Sleep {
        self.shard().sleep(length)
    }

    /// Runs a future for at most `length`: then 503.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// # async fn ask() -> u32 { 1 }
    /// let answer = cx.timeout(std::time::Duration::from_secs(1), ask()).await?; // late: an error
    /// cx.json(&answer)
    /// # }
    /// ```
    pub async fn timeout<F: Future>(&self, length: Duration, future: F) -> Result<F::Output> {
        let ended = crate::shard::time::timeout(self.core.local.clone(), length, future).await;
        ended.map_err(|elapsed| Error::new(503, "took too long").because(elapsed))
    }

    /// What is left until [`request_ms_max`](crate::Limits::request_ms_max); none if it is off.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// match cx.deadline() {
    ///     Some(left) => cx.text(format!("{left:?} are left")),
    ///     None => cx.text("no hurry"),
    /// }
    /// # }
    /// ```
    pub fn deadline(&self) -> Option<Duration> {
        let limit_ms = self.core.local.limits.request_ms_max;
        let since_ms = self.core.received_ns / 1_000_000;
        let left = || (since_ms + limit_ms).saturating_sub(self.core.local.clock.now_ms());
        (limit_ms > 0).then(|| Duration::from_millis(left()))
    }
}
