//! The context: what a handler knows of its request, and how it answers.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde::de::Deserialize;

use super::body::Chunk;
use super::core::{Core, Phase, TEXT};
use super::on_head::OnHead;
use super::reply::{BodyFilter, Reply, Stream};
use super::upgrade::{Raw, Upgrade};
use crate::base::counters::Stats;
use crate::error::{Error, Result};
use crate::http::encode::field_is_clean;
use crate::http::percent;
use crate::shard::Shard;
use crate::shard::background::Task;
use crate::shard::time::Sleep;

/// One request and its answer, with the state of the application that answers it.
///
/// What it lends (`&str` of a path, a header, a body) lives until the answer is given: it lies in
/// the connection's own buffers. A `Ctx` never changes threads.
pub struct Ctx<S> {
    pub(crate) core: Rc<Core>,
    pub(crate) state: Rc<S>,
}

/// Reading.
impl<S> Ctx<S> {
    /// `GET`, `POST`, or whatever token the client sent.
    pub fn method(&self) -> &str {
        self.core.head.method_name.text(self.core.bytes())
    }

    /// The path of the target, as it came: percent-encoded, without the query.
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
    pub fn arena_bytes(&self) -> usize {
        self.core.arena.bytes_held()
    }

    /// The shard that this runs on.
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
    pub async fn stats_each(&self) -> Vec<Stats> {
        super::mailbox::stats(&self.core.local).await
    }

    /// The way to another shard over the mesh, and back; none if it is not there, or its queue is
    /// full.
    pub async fn ping(&self, shard: usize) -> Option<Duration> {
        let local = &self.core.local;
        let start_ns = local.clock.peek_ns();
        let there = super::mailbox::ping(local, shard).await;
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

/// Answering.
impl<S> Ctx<S> {
    /// Sets the status; 200 unless it is set.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.status(201).set_header("location", "/todos/7").json(&7)
    /// # }
    /// ```
    pub fn status(&self, status: u16) -> &Self {
        self.core.status.set(status);
        self.core.stated.set(true);
        self
    }

    /// The value of a header field of the answer as it stands.
    pub fn reply_header(&self, name: &str) -> Option<String> {
        self.core.field(name)
    }

    /// Takes the body of a finished answer, for middleware that changes it: see
    /// [`replace_body`](Ctx::replace_body). None if there is no answer yet, or it was streamed.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn shout(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     let reply = next.reply().await;
    ///     if let Some(mut body) = cx.reply_body() {
    ///         body.make_ascii_uppercase();
    ///         cx.replace_body(body);
    ///     }
    ///     Ok(reply)
    /// }
    /// ```
    pub fn reply_body(&self) -> Option<Vec<u8>> {
        (self.core.phase.get() == Phase::Answered).then(|| self.core.body.take())
    }

    /// Puts another body in place of a finished answer's; nothing if there is none.
    pub fn replace_body(&self, body: Vec<u8>) {
        if self.core.phase.get() == Phase::Answered {
            self.core.body.set(body);
        }
    }

    /// The status as it stands.
    pub fn status_now(&self) -> u16 {
        self.core.status.get()
    }

    /// Sets a header field of the answer, in place of an earlier one of that name.
    ///
    /// A name or value that cannot be sent (a line break, framing fields) turns the answer into a
    /// 500, and is logged.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.set_header("cache-control", "max-age=60").text("hello")
    /// # }
    /// ```
    pub fn set_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.core.set_field(name, value.as_ref(), false);
        self
    }

    /// Adds a header field beside earlier ones of that name.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.add_header("link", "</a.css>; rel=preload").add_header("link", "</a.js>; rel=preload");
    /// cx.html("<p>hello")
    /// # }
    /// ```
    pub fn add_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.core.set_field(name, value.as_ref(), true);
        self
    }

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

    /// Plain text.
    pub fn text(&self, text: impl AsRef<str>) -> Result<Reply> {
        self.answer(TEXT, text.as_ref().as_bytes())
    }

    /// HTML.
    pub fn html(&self, html: impl AsRef<str>) -> Result<Reply> {
        self.answer("text/html; charset=utf-8", html.as_ref().as_bytes())
    }

    /// JSON. 500 if the value cannot be serialised.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.json(&[1, 2, 3]) // any `Serialize`
    /// # }
    /// ```
    pub fn json<T: Serialize + ?Sized>(&self, value: &T) -> Result<Reply> {
        self.check_open()?;
        let done = self.core.with_body(|body| {
            body.clear();
            serde_json::to_writer(body, value)
        });
        done?;
        Ok(self.answered("application/json"))
    }

    /// Bytes of that type.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.bytes("application/octet-stream", [1, 2, 3])
    /// # }
    /// ```
    pub fn bytes(&self, mime: &'static str, bytes: impl AsRef<[u8]>) -> Result<Reply> {
        self.answer(mime, bytes.as_ref())
    }

    /// Bytes of that type, without copying them: a `Vec<u8>` or a `String` of yours. Above 64 KiB
    /// they go to the kernel from where they lie.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn zeros(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.bytes_owned("application/octet-stream", vec![0; 1_000_000])
    /// }
    /// ```
    pub fn bytes_owned(&self, mime: &'static str, bytes: impl Into<Vec<u8>>) -> Result<Reply> {
        self.check_open()?;
        self.core.local.spares.give(self.core.body.replace(bytes.into()));
        Ok(self.answered(mime))
    }

    /// No body. The status is what was set; 204 if none was.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.empty() // 204
    /// # }
    /// ```
    pub fn empty(&self) -> Result<Reply> {
        if !self.core.stated.get() {
            self.core.status.set(204);
        }
        self.answer("", b"")
    }

    /// Sends the head now and lends a writer for the body.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn numbers(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut out = cx.stream("text/plain").await?;
    ///     for n in 0..1_000 {
    ///         out.write(format!("{n}\n")).await?; // waits while the client is slow
    ///     }
    ///     out.finish().await
    /// }
    /// ```
    pub async fn stream(&self, mime: &'static str) -> Result<Stream<'_>> {
        self.check_open()?;
        Stream::begin(&self.core, mime)
    }

    /// Answers 101 and hands the connection's bytes to `run`, which outlives the request.
    ///
    /// The handler checks the request first; `protocol` is the value of the Upgrade field.
    pub fn upgrade<F: Future<Output = Result<()>> + 'static>(
        &self,
        protocol: &'static str,
        run: impl FnOnce(Raw) -> F + 'static,
    ) -> Result<Reply> {
        self.check_open()?;
        if !self.core.head.upgrade {
            return Err(Error::new(426, "upgrade required").set("upgrade", protocol));
        }
        if !field_is_clean("upgrade", protocol) {
            return Err(Error::from(format!("{protocol:?} is no protocol name")));
        }
        self.core.status.set(101);
        self.core.upgrade.set(Some(Upgrade::new(protocol, run)));
        Ok(self.answered(""))
    }

    #[inline]
    pub(super) fn answer(&self, mime: &'static str, bytes: &[u8]) -> Result<Reply> {
        self.check_open()?;
        self.core.with_body(|body| {
            body.clear();
            body.extend_from_slice(bytes);
        });
        Ok(self.answered(mime))
    }

    #[inline]
    pub(super) fn answered(&self, mime: &'static str) -> Reply {
        if !self.core.has_field("content-type") {
            self.core.mime.set(mime);
        }
        self.core.phase.set(Phase::Answered);
        Reply::new()
    }

    pub(super) fn check_open(&self) -> Result<()> {
        match self.core.phase.get() {
            Phase::Open | Phase::Answered => Ok(()),
            _ => Err(Error::from("the answer has begun already")),
        }
    }
}

/// The head of an answer, on its way out: see [`Ctx::on_head`].
pub struct ReplyHead<'a>(pub(crate) &'a Core);

impl ReplyHead<'_> {
    /// The final status.
    pub fn status(&self) -> u16 {
        self.0.status.get()
    }

    /// The value of a header field of the answer.
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.field(name)
    }

    /// Whether the body follows in pieces; if not, it is whole already.
    pub fn is_streamed(&self) -> bool {
        self.0.phase.get() == Phase::Open
    }

    /// Puts a filter between a streamed body and the client; it does nothing for a whole one.
    pub fn filter_body(&self, filter: impl BodyFilter + 'static) {
        self.0.filter.replace(Some(Box::new(filter)));
    }

    /// As [`Ctx::set_header`].
    pub fn set_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.0.set_field(name, value.as_ref(), false);
        self
    }

    /// As [`Ctx::add_header`].
    pub fn add_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.0.set_field(name, value.as_ref(), true);
        self
    }
}

/// A type that a path parameter can be read as.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a path parameter",
    note = "`param` reads &str, String, numbers and bool; for a type with `FromStr` use `cx.parse(name)?`"
)]
pub trait FromParam<'a>: Sized {
    /// Reads it, or says what it is not (`a number`).
    fn from_param(text: &'a str) -> Result<Self, &'static str>;
}

impl<'a> FromParam<'a> for &'a str {
    fn from_param(text: &'a str) -> Result<Self, &'static str> {
        Ok(text)
    }
}

impl FromParam<'_> for String {
    fn from_param(text: &str) -> Result<Self, &'static str> {
        Ok(text.to_owned())
    }
}

macro_rules! params {
    ($kind:literal: $($type:ty)*) => {$(
        impl FromParam<'_> for $type {
            fn from_param(text: &str) -> Result<Self, &'static str> {
                text.parse().map_err(|_| $kind)
            }
        }
    )*};
}
params!("a number": u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);
params!("true or false": bool);
