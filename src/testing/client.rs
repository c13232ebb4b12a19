//! A client in memory, and the application that it asks.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::rig::{Rig, collect, until_closed};
use super::{Call, Open};
use crate::app::builder::{self, App};
use crate::app::site::Site;
use crate::base::wire::{Close, Wire};
use crate::error::Result;
use crate::limits::Limits;
use crate::shard::{Shard, waker};

/// A client of an application that runs on this thread, in memory.
///
/// Requests go through the same parser and the same connection loop as on a socket, one keep-alive
/// connection for all. Time stands still while anything can run, and jumps to the next timer when
/// nothing can.
///
/// ```
/// # use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// use std::time::Duration;
///
/// async fn nap(cx: &Ctx<()>) -> Result<Reply> {
///     cx.sleep(Duration::from_secs(3600)).await;
///     cx.text("rested")
/// }
/// TestClient::run(async |_| Ok(App::new(()).get("/nap", nap)), async |client| {
///     client.get("/nap").await.expect(200).text("rested"); // takes no hour
///     assert!(client.shard().now_ms() >= 3_600_000);
/// });
/// ```
pub struct TestClient {
    pub(super) rig: Rig,
    /// Of the calls, once there was one.
    pub(super) wire: RefCell<Option<Rc<Wire>>>,
}

impl TestClient {
    /// Builds the application and runs `test` against it, with the default bounds. Here what it
    /// sends is counted, by a state that the test has a share of:
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// async fn order(cx: &Ctx<Rc<Cell<u32>>>) -> Result<Reply> {
    ///     cx.state().set(cx.state().get() + 1); // in its place: a letter to the cook
    ///     cx.status(202).text("soon")
    /// }
    /// let letters = Rc::new(Cell::new(0));
    /// let app = async |_| Ok(App::new(letters.clone()).post("/orders", order));
    /// TestClient::run(app, async |client| {
    ///     client.post("/orders").await.expect(202).text("soon");
    ///     client.get("/orders").await.expect(405); // and sends none
    /// });
    /// assert_eq!(letters.get(), 1);
    /// ```
    ///
    /// # Panics
    /// When the application cannot be built, or the test waits for what can never come.
    pub fn run<S: 'static>(
        build: impl AsyncFnOnce(Shard) -> Result<App<S>>,
        test: impl AsyncFnOnce(&TestClient),
    ) {
        TestClient::run_with(Limits::default(), build, test);
    }

    /// The same, with other bounds: small ones are soon reached.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn length(cx: &Ctx<()>) -> Result<Reply> { cx.json(&cx.body().await?.len()) }
    /// # let app = async |_| Ok(App::new(()).post("/length", length));
    /// let limits = Limits { body_bytes_max: 4, ..Limits::default() };
    /// TestClient::run_with(limits, app, async |client| {
    ///     client.post("/length").body("four").await.expect(200).text("4");
    ///     client.post("/length").body("fives").await.expect(413);
    /// });
    /// ```
    ///
    /// # Panics
    /// As [`run`](TestClient::run), and when the bounds contradict each other.
    pub fn run_with<S: 'static>(
        limits: Limits,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>>,
        test: impl AsyncFnOnce(&TestClient),
    ) {
        limits.check().expect("limits");
        let mut rig = Rig::new(limits);
        let local = rig.local.clone();
        let _here = waker::enter(local.tasks.clone());
        let shard = Shard(local.clone());
        let built = rig.block_on(async {
            let mut app = build(shard.clone()).await?;
            let hooks = app.settle_on(&shard);
            let serve = app.build()?;
            builder::run_on_start(hooks).await?;
            Ok::<_, crate::Error>(serve)
        });
        let serve = built.unwrap_or_else(|error| panic!("the app: {error}"));
        rig.site = Some(Rc::new(Site::new(local.clone(), serve)));
        let client = TestClient { rig, wire: RefCell::new(None) };
        client.rig.block_on(test(&client));
        local.tasks.clear();
        local.forget_kept();
    }

    /// A GET. The path is sent as it is written: its query follows a `?`, and what needs escaping
    /// is escaped already.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn search(cx: &Ctx<()>) -> Result<Reply> {
    /// #     cx.text(cx.query_param("q").unwrap_or("all"))
    /// # }
    /// # let app = async |_| Ok(App::new(()).get("/search", search));
    /// # TestClient::run(app, async |client| {
    /// client.get("/search?q=red%20tea").await.expect(200).text("red tea");
    /// client.get("/search").await.expect(200).text("all");
    /// # });
    /// ```
    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A POST. Redirects are not followed: the next step of a form is the test's own.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn add(cx: &Ctx<()>) -> Result<Reply> { cx.body().await?; cx.redirect("/notes/1") }
    /// # let app = async |_| {
    /// #     Ok(App::new(()).post("/notes", add).get("/notes/:id", async |cx| cx.text("milk")))
    /// # };
    /// # TestClient::run(app, async |client| {
    /// let answer = client.post("/notes").body("text=milk").await.expect(303);
    /// let next = answer.header("location").expect("where to go");
    /// client.get(next).await.expect(200).text("milk");
    /// # });
    /// ```
    pub fn post(&self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }

    /// A PUT. The application is the same for all calls of a test: what one writes, the next reads.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # type Motto = Own<Vec<u8>>;
    /// # async fn write(cx: &Ctx<Motto>) -> Result<Reply> {
    /// #     cx.state().replace(cx.body().await?.to_vec());
    /// #     cx.empty()
    /// # }
    /// # async fn read(cx: &Ctx<Motto>) -> Result<Reply> {
    /// #     cx.bytes_owned("text/plain", cx.state().with(|it| it.clone()))
    /// # }
    /// # let app = async |_| {
    /// #     Ok(App::new(Motto::default()).put("/motto", write).get("/motto", read))
    /// # };
    /// # TestClient::run(app, async |client| {
    /// client.put("/motto").body("less, but better").await.expect(204);
    /// client.get("/motto").await.text("less, but better");
    /// # });
    /// ```
    pub fn put(&self, path: &str) -> Call<'_> {
        self.call("PUT", path)
    }

    /// A DELETE.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn remove(cx: &Ctx<Own<Vec<u32>>>) -> Result<Reply> {
    /// #     let id: u32 = cx.param("id")?;
    /// #     let is_there = cx.state().with(|ids| ids.extract_if(.., |it| *it == id).count() > 0);
    /// #     if is_there { cx.empty() } else { Err(Error::not_found()) }
    /// # }
    /// # let app = async |_| Ok(App::new(Own::new(vec![6, 7])).delete("/notes/:id", remove));
    /// # TestClient::run(app, async |client| {
    /// client.delete("/notes/7").await.expect(204);
    /// client.delete("/notes/7").await.expect(404); // is gone already
    /// # });
    /// ```
    pub fn delete(&self, path: &str) -> Call<'_> {
        self.call("DELETE", path)
    }

    /// A request of any method, sent as it is written. The answer to a HEAD is read without a body.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// # TestClient::run(app, async |client| {
    /// let head = client.call("HEAD", "/").await.expect(200).has("content-length", "5");
    /// assert!(head.body().is_empty());
    /// client.call("OPTIONS", "/").await.expect(204).has("allow", "GET, HEAD, OPTIONS");
    /// client.call("PATCH", "/").await.expect(405);
    /// # });
    /// ```
    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call::new(self, method, path)
    }

    /// Sends bytes on a connection of their own, a segment at a time, then FIN; all that came back
    /// until the server closed. Between two segments everything runs that can, without time going
    /// on.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// # TestClient::run(app, async |client| {
    /// // The first request is cut in a word; the second one comes along with its end.
    /// let second = b"TP/1.1\r\nhost: a\r\n\r\nGET /no HTTP/1.0\r\n\r\n";
    /// let out = client.raw(&[b"GET / HT", second]).await;
    /// let out = String::from_utf8_lossy(&out);
    /// assert!(out.starts_with("HTTP/1.1 200 ") && out.contains("helloHTTP/1.1 404 "));
    /// # });
    /// ```
    pub async fn raw(&self, segments: &[&[u8]]) -> Vec<u8> {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        for segment in segments {
            wire.push(segment);
            self.rig.settle().await;
            collect(&wire, &mut out);
        }
        wire.push_eof();
        until_closed(&wire, &mut out).await;
        out
    }

    /// Sends bytes and waits until the server closes, however much of the shard's time that takes:
    /// all that came back. No FIN is sent, so this is a client that falls silent.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// # TestClient::run(app, async |client| {
    /// let start_ms = client.shard().now_ms();
    /// let out = client.raw_until_closed(b"GET / HT").await; // and nothing more
    /// assert!(out.starts_with(b"HTTP/1.1 408 "));
    /// assert!(client.shard().now_ms() - start_ms >= Limits::default().head_ms_max);
    /// # });
    /// ```
    pub async fn raw_until_closed(&self, bytes: &[u8]) -> Vec<u8> {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        wire.push(bytes);
        until_closed(&wire, &mut out).await;
        out
    }

    /// Sends bytes and leaves the connection open: what comes back when nothing more can run,
    /// without time going on, and whether the server has closed.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn length(cx: &Ctx<()>) -> Result<Reply> { cx.json(&cx.body().await?.len()) }
    /// # let app = async |_| Ok(App::new(()).post("/length", length));
    /// # TestClient::run(app, async |client| {
    /// let head = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n";
    /// let asks_first = format!("{head}expect: 100-continue\r\n\r\n");
    /// let (out, is_closed) = client.raw_open(asks_first.as_bytes()).await;
    /// assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n"); // the handler waits for its body
    /// assert!(!is_closed);
    /// # });
    /// ```
    pub async fn raw_open(&self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        wire.push(bytes);
        self.rig.settle().await;
        collect(&wire, &mut out);
        (out, wire.closing() != Close::Open)
    }

    /// A connection to write to and read from byte by byte; a test may have many. What is asked on
    /// one does not wait for the others:
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn never(_: &Ctx<()>) -> Result<Reply> { std::future::pending().await }
    /// # let app = async |_| {
    /// #     Ok(App::new(()).get("/", async |cx| cx.text("hello")).get("/never", never))
    /// # };
    /// # TestClient::run(app, async |client| {
    /// let (stuck, other) = (client.open(), client.open());
    /// stuck.send(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n");
    /// other.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    /// assert!(other.receive().ends_with(b"hello"));
    /// assert!(stuck.receive().is_empty());
    /// # });
    /// ```
    pub fn open(&self) -> Open<'_> {
        Open::new(&self.rig)
    }

    /// Pretends that the connections which are made from now on come from that address; the next
    /// call makes one. Without it a connection in memory comes from nowhere.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn door(cx: &Ctx<()>) -> Result<Reply> {
    /// #     match cx.client() {
    /// #         Some(ip) if ip.is_loopback() => cx.text("come in"),
    /// #         _ => Err(Error::new(403, "from here only")),
    /// #     }
    /// # }
    /// # let app = async |_| Ok(App::new(()).get("/admin", door));
    /// # TestClient::run(app, async |client| {
    /// client.get("/admin").await.expect(403);
    /// client.peer(([127, 0, 0, 1], 4711));
    /// client.get("/admin").await.expect(200);
    /// client.peer(([192, 0, 2, 7], 4711));
    /// client.get("/admin").await.expect(403);
    /// # });
    /// ```
    pub fn peer(&self, addr: impl Into<SocketAddr>) {
        self.rig.peer.set(Some(addr.into()));
        if let Some(wire) = self.wire.take() {
            wire.push_eof();
        }
    }

    /// Lets that much of the shard's time go by; what is due meanwhile runs.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let idle = client.open();
    /// client.advance(Duration::from_secs(74)).await;
    /// assert!(!idle.is_closed());
    /// client.advance(Duration::from_secs(2)).await;
    /// assert!(idle.is_closed()); // `Limits::idle_ms_max` is 75 s
    /// # });
    /// ```
    pub async fn advance(&self, time: Duration) {
        Shard(self.rig.local.clone()).sleep(time).await;
    }

    /// Begins to stop, as SIGTERM does: [`Shard::stopping`] ends, answers close their connections,
    /// and, once nothing more can run without time going on, what was given to
    /// [`App::on_stop`](crate::App::on_stop) runs. Calls are answered still.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// let is_saved = Rc::new(Cell::new(false));
    /// let saved = is_saved.clone();
    /// let app = async |_| Ok(App::new(()).on_stop(async move || saved.set(true)));
    /// TestClient::run(app, async |client| {
    ///     client.stop().await;
    ///     assert!(is_saved.get());
    ///     client.get("/").await.has("connection", "close");
    /// });
    /// ```
    pub async fn stop(&self) {
        self.rig.local.begin_drain();
        self.rig.settle().await;
        let mut hooks = self.rig.site.as_ref().map_or(Vec::new(), |it| it.serve.take_on_stop());
        while let Some(hook) = hooks.pop() {
            hook().await;
        }
    }

    /// The shard that the application runs on: for its clock, its counters and its state.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn add(cx: &Ctx<Own<Vec<String>>>) -> Result<Reply> {
    /// #     let name = cx.param("name")?;
    /// #     cx.state().with(|names| names.push(name));
    /// #     cx.empty()
    /// # }
    /// # let app = async |_| Ok(App::new(Own::new(Vec::<String>::new())).put("/names/:name", add));
    /// # TestClient::run(app, async |client| {
    /// client.put("/names/ann").await.expect(204);
    /// let names = client.shard().got::<Own<Vec<String>>>().expect("the state");
    /// assert_eq!(names.take(), ["ann"]);
    /// assert_eq!(client.shard().stats().get("requests"), 1);
    /// # });
    /// ```
    pub fn shard(&self) -> Shard {
        Shard(self.rig.local.clone())
    }
}
