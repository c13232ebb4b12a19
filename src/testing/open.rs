//! A connection in bytes, for tests of clients that misbehave.

use std::rc::Rc;

use super::rig::{Rig, collect};
use crate::base::wire::{Close, Wire};
use crate::shard::waker::TaskKey;

/// A connection of a [`TestClient`](super::TestClient), in bytes: see
/// [`TestClient::open`](super::TestClient::open). It stays open until one side ends it, even when
/// this is dropped.
///
/// ```
/// # use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
/// # TestClient::run(app, async |client| {
/// let open = client.open();
/// open.send(b"GET / HT"); // a first segment ...
/// assert!(open.receive().is_empty());
/// open.send(b"TP/1.1\r\nhost: a\r\n\r\n"); // ... and the rest
/// assert!(open.receive().ends_with(b"\r\n\r\nhello"));
/// # });
/// ```
pub struct Open<'a> {
    rig: &'a Rig,
    wire: Rc<Wire>,
    task: TaskKey,
}

impl<'a> Open<'a> {
    pub(super) fn new(rig: &'a Rig) -> Open<'a> {
        let (wire, task) = rig.connect_task();
        Open { rig, wire, task }
    }

    /// Sends bytes, runs what can run, and appends what comes back to `out`; time stands still. No
    /// bytes are fine: then it only looks.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// # TestClient::run(app, async |client| {
    /// let (open, mut out) = (client.open(), Vec::new());
    /// for byte in b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" {
    ///     assert!(out.is_empty()); // no word before the head is whole
    ///     open.exchange(&[*byte], &mut out);
    /// }
    /// assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n"));
    /// # });
    /// ```
    pub fn exchange(&self, bytes: &[u8], out: &mut Vec<u8>) {
        self.send(bytes);
        collect(&self.wire, out);
    }

    /// Sends bytes and runs what can run, but reads nothing: a deaf client. What the server may
    /// write then is bounded, and its handler waits.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// async fn flood(cx: &Ctx<Cell<usize>>) -> Result<Reply> {
    ///     let mut out = cx.stream("text/plain").await?;
    ///     loop {
    ///         out.write([b'x'; 1024]).await?;
    ///         cx.state().set(cx.state().get() + 1024);
    ///     }
    /// }
    /// # let app = async |_| Ok(App::new(Cell::new(0)).get("/", flood));
    /// # TestClient::run(app, async |client| {
    /// client.open().send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    /// let written = client.shard().got::<Cell<usize>>().expect("the state").get();
    /// assert!((32 * 1024..=128 * 1024).contains(&written), "{written}");
    /// # });
    /// ```
    pub fn send(&self, bytes: &[u8]) {
        self.wire.push(bytes);
        while self.rig.pump() {}
    }

    /// Reads what has been written so far, and lets the handler go on: a slow client. Empty when
    /// there is nothing.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// async fn large(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut out = cx.stream("text/plain").await?;
    ///     for _ in 0..1024 {
    ///         out.write([b'x'; 1024]).await?;
    ///     }
    ///     out.finish().await
    /// }
    /// # let app = async |_| Ok(App::new(()).get("/", large));
    /// # TestClient::run(app, async |client| {
    /// let open = client.open();
    /// open.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    /// let lengths = std::iter::repeat_with(|| open.receive().len());
    /// let pieces: Vec<usize> = lengths.take_while(|len| *len > 0).collect();
    /// assert!(pieces.len() > 2 && pieces.iter().sum::<usize>() > 1024 * 1024);
    /// # });
    /// ```
    pub fn receive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        collect(&self.wire, &mut out);
        while self.rig.pump() {}
        out
    }

    /// Sends FIN: nothing more will be asked. What was asked before is answered still.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn slow(cx: &Ctx<()>) -> Result<Reply> {
    /// #     cx.sleep(Duration::from_secs(3)).await;
    /// #     cx.text("late")
    /// # }
    /// # let app = async |_| Ok(App::new(()).get("/slow", slow));
    /// # TestClient::run(app, async |client| {
    /// let open = client.open();
    /// open.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    /// open.finish(); // a half of the connection is closed
    /// client.advance(Duration::from_secs(4)).await;
    /// assert!(open.receive().ends_with(b"late"));
    /// # });
    /// ```
    pub fn finish(&self) {
        self.wire.push_eof();
        while self.rig.pump() {}
    }

    /// Vanishes with a reset: a handler that runs is dropped at its next await.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn never(_: &Ctx<()>) -> Result<Reply> { std::future::pending().await }
    /// # let app = async |_| Ok(App::new(()).get("/never", never));
    /// # TestClient::run(app, async |client| {
    /// let open = client.open();
    /// open.send(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n");
    /// assert_eq!(client.shard().stats().get("requests_active"), 1);
    /// open.reset();
    /// assert_eq!(client.shard().stats().get("requests_active"), 0);
    /// # });
    /// ```
    pub fn reset(&self) {
        self.rig.reset(&self.wire, self.task);
    }

    /// Whether the server has closed the connection, or wants to, or this side has reset it.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// # TestClient::run(app, async |client| {
    /// let open = client.open();
    /// open.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    /// assert!(!open.is_closed()); // kept alive
    /// open.send(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    /// assert!(open.is_closed()); // a lie like this ends it
    /// # });
    /// ```
    pub fn is_closed(&self) -> bool {
        self.wire.closing() != Close::Open
    }
}
