//! Answering: a status, header fields, and a body of any kind.

use std::future::Future;

use serde::Serialize;

use super::core::{Phase, TEXT};
use super::ctx::Ctx;
use super::reply::{Reply, Stream};
use super::upgrade::{Raw, Upgrade};
use crate::error::{Error, Result};
use crate::http::encode::field_is_clean;

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
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn no_sniffing(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     let reply = next.reply().await; // an error has been answered too
    ///     if cx.reply_header("content-type").is_some_and(|it| it.starts_with("text/html")) {
    ///         cx.set_header("x-content-type-options", "nosniff");
    ///     }
    ///     Ok(reply)
    /// }
    /// # let app = App::new(()).wrap(no_sniffing).get("/html", async |cx| cx.html("<p>"))
    /// #     .get("/text", async |cx| cx.text("a"));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # assert_eq!(client.get("/text").await.header("x-content-type-options"), None);
    /// # client.get("/html").await.has("x-content-type-options", "nosniff");
    /// # });
    /// ```
    pub fn reply_header(&self, name: &str) -> Option<String> {
        self.core.field(name)
    }

    /// Takes the body of a finished answer, for middleware that changes it: see
    /// [`replace_body`](Ctx::replace_body). None if there is no answer yet, it was streamed, or it
    /// is a file.
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
        let whole = self.core.phase.get() == Phase::Answered && !self.core.has_file();
        whole.then(|| {
            self.core.own_body();
            self.core.body.take()
        })
    }

    /// Puts another body in place of a finished answer's; nothing if there is none.
    ///
    /// Its length is told right; a checksum or an entity tag of the old one is yours to mend.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn in_a_page(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     let reply = next.reply().await;
    ///     if let Some(body) = cx.reply_body() {
    ///         cx.replace_body([b"<main>", &*body, b"</main>"].concat());
    ///     }
    ///     Ok(reply)
    /// }
    /// # let app = App::new(()).wrap(in_a_page).get("/", async |cx| cx.html("hello"));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("<main>hello</main>").has("content-length", "18");
    /// # });
    /// ```
    pub fn replace_body(&self, body: Vec<u8>) {
        if self.core.phase.get() == Phase::Answered {
            self.core.drop_substitute();
            self.core.body.set(body);
        }
    }

    /// The status as it stands.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::Cell;
    /// async fn count_misses(cx: &Ctx<Cell<u64>>, next: Next<'_>) -> Result<Reply> {
    ///     let reply = next.reply().await;
    ///     if cx.status_now() == 404 {
    ///         cx.state().set(cx.state().get() + 1);
    ///     }
    ///     Ok(reply)
    /// }
    /// # let app = App::new(Cell::new(0)).wrap(count_misses)
    /// #     .get("/misses", async |cx| cx.json(cx.state()));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/x").await.expect(404);
    /// # client.get("/misses").await.expect(200).text("1");
    /// # });
    /// ```
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

    /// Plain text.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(())
    ///     .get("/hello", async |cx| cx.text("hello"))
    ///     .get("/table", async |cx| cx.set_header("content-type", "text/csv").text("a,b\n1,2\n"));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/hello").await.has("content-type", "text/plain; charset=utf-8");
    /// client.get("/table").await.has("content-type", "text/csv"); // yours goes before
    /// # });
    /// ```
    pub fn text(&self, text: impl AsRef<str>) -> Result<Reply> {
        self.answer(TEXT, text.as_ref().as_bytes())
    }

    /// HTML.
    ///
    /// It is sent as it is: what a client wrote is yours to escape.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/:name", async |cx| {
    ///     let name: &str = cx.param("name")?;
    ///     cx.html(format!("<h1>{}</h1>", name.replace('&', "&amp;").replace('<', "&lt;")))
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/%3Cscript>").await.text("<h1>&lt;script></h1>");
    /// # });
    /// ```
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
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn echo(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.upgrade("echo", async |mut raw| {
    ///         let mut bytes = Vec::new();
    ///         while raw.read(&mut bytes).await? > 0 {
    ///             raw.write(&bytes).await?;
    ///         }
    ///         Ok(()) // the connection closes
    ///     })
    /// }
    /// # let app = App::new(()).get("/", echo);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.expect(426).has("upgrade", "echo"); // it did not ask
    /// # let asked = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    /// # let out = client.raw(&[asked, b"any bytes"]).await;
    /// # assert!(out.starts_with(b"HTTP/1.1 101 ") && out.ends_with(b"\r\n\r\nany bytes"));
    /// # });
    /// ```
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
        self.core.upgrade.set(Some(Box::new(Upgrade::new(protocol, run))));
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
        self.core.drop_substitute();
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
