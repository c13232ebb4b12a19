//! A request of a test, from its first word to its answer.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use serde::Serialize;

use super::rig::collect;
use super::{Answer, TestClient};
use crate::base::wire::Close;

/// A request that is being put together; await it for the answer. It has a `host`, and a
/// `content-length` once it has a body; the rest is the test's.
///
/// ```
/// # use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// # async fn host(cx: &Ctx<()>) -> Result<Reply> { cx.text(cx.host()) }
/// # TestClient::run(async |_| Ok(App::new(()).get("/", host)), async |client| {
/// let call = client.get("/").header("accept", "text/plain"); // nothing is sent yet
/// let answer = call.await;
/// answer.expect(200).text("test");
/// # });
/// ```
///
/// # Panics
/// When it is awaited and the connection ends without a whole answer; the message shows what came.
#[must_use = "a call is made when it is awaited"]
pub struct Call<'a> {
    pub(super) client: &'a TestClient,
    method: String,
    path: String,
    fields: String,
    pub(super) body: Vec<u8>,
    piece_bytes: usize,
}

impl<'a> Call<'a> {
    pub(super) fn new(client: &'a TestClient, method: &str, path: &str) -> Call<'a> {
        Call {
            client,
            method: method.to_owned(),
            path: path.to_owned(),
            fields: String::new(),
            body: Vec::new(),
            piece_bytes: usize::MAX,
        }
    }

    /// Adds a header field, as it is written: nothing is checked, and a name may come again.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn count(cx: &Ctx<()>) -> Result<Reply> {
    /// #     cx.json(&cx.headers().filter(|(name, _)| *name == "x-tag").count())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", count)), async |client| {
    /// client.get("/").header("x-tag", "a").header("x-tag", "b").await.text("2");
    /// client.get("/").header("host", "twice").await.expect(400);
    /// # });
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> Call<'a> {
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    /// Sets the body, text or bytes. Its `content-type` is for the test to say.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn mime(cx: &Ctx<()>) -> Result<Reply> {
    /// #     let length = cx.body().await?.len();
    /// #     cx.text(format!("{length} of {}", cx.header("content-type").unwrap_or("something")))
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(()).post("/", mime)), async |client| {
    /// client.post("/").body([0xff, 0xd8]).await.text("2 of something");
    /// let call = client.post("/").header("content-type", "text/csv");
    /// call.body("a,b\n").await.text("4 of text/csv");
    /// # });
    /// ```
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Call<'a> {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Sets the body to a value as JSON, and the `content-type` that goes with it.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// use std::collections::BTreeMap;
    ///
    /// async fn sum(cx: &Ctx<()>) -> Result<Reply> {
    ///     let prices: BTreeMap<&str, u32> = cx.body_json().await?;
    ///     cx.json(&prices.values().sum::<u32>())
    /// }
    /// # TestClient::run(async |_| Ok(App::new(()).post("/sum", sum)), async |client| {
    /// let prices = BTreeMap::from([("tea", 3), ("cake", 4)]);
    /// client.post("/sum").json(&prices).await.expect(200).text("7");
    /// client.post("/sum").json(&[3, 4]).await.expect(400); // a list is no table
    /// # });
    /// ```
    ///
    /// # Panics
    /// When the value cannot be serialised, such as a map whose keys are no strings.
    pub fn json(self, value: &impl Serialize) -> Call<'a> {
        let body = serde_json::to_vec(value).expect("a value that serialises");
        self.header("content-type", "application/json").body(body)
    }

    pub(super) fn head(&self) -> String {
        let Call { method, path, fields, .. } = self;
        let length = match self.body.len() {
            0 => String::new(),
            len => format!("content-length: {len}\r\n"),
        };
        format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{fields}{length}\r\n")
    }

    /// Sends the body late, in pieces of so many bytes, at least one: the head first, then a piece
    /// each time that nothing more can run. [`events`](Call::events) sends it whole all the same.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// async fn count(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut chunks = 0;
    ///     while cx.next_chunk().await?.is_some() {
    ///         chunks += 1;
    ///     }
    ///     cx.json(&chunks)
    /// }
    /// # TestClient::run(async |_| Ok(App::new(()).post("/", count)), async |client| {
    /// client.post("/").body("0123456789").await.text("1");
    /// client.post("/").body("0123456789").pieces(3).await.text("4");
    /// # });
    /// ```
    pub fn pieces(mut self, bytes: usize) -> Call<'a> {
        self.piece_bytes = bytes.max(1);
        self
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let head = self.head();
            let Call { client, method, body, piece_bytes, .. } = self;
            let wire = {
                let mut kept = client.wire.borrow_mut();
                match &*kept {
                    Some(wire) if wire.closing() == Close::Open => wire.clone(),
                    _ => kept.insert(client.rig.connect()).clone(),
                }
            };
            if piece_bytes == usize::MAX {
                wire.push(&[head.as_bytes(), &body].concat());
            } else {
                wire.push(head.as_bytes());
                for piece in body.chunks(piece_bytes) {
                    client.rig.settle().await;
                    wire.push(piece);
                }
            }
            let mut raw = Vec::new();
            poll_fn(|_| {
                collect(&wire, &mut raw);
                let closed = wire.closing() != Close::Open;
                match Answer::read(&raw, &method, closed) {
                    Some((answer, _)) => Poll::Ready(answer.asked_by(head.clone())),
                    None if closed => {
                        panic!("no whole answer to\n{head}\nbut\n{}", String::from_utf8_lossy(&raw))
                    }
                    None => Poll::Pending,
                }
            })
            .await
        })
    }
}
