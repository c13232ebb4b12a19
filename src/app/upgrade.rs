//! The seam for connections that leave HTTP: 101, then bytes both ways.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;

use super::core::Core;
use crate::base::wire::{Input, Wire};
use crate::error::{Error, Result};

pub(super) type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// What runs on the connection's bytes, once its answer is written.
pub(crate) enum Run {
    Raw(Box<dyn FnOnce(Raw) -> Running>),
    /// With the request, in a core of its size.
    #[cfg(feature = "ws")]
    Socket(Box<dyn FnOnce(Rc<Wire>, Rc<Core>) -> Running>),
}

/// What follows a 101. It owns nothing of the request: the arena is free again.
pub(crate) struct Upgrade {
    pub(crate) protocol: &'static str,
    pub(crate) run: Run,
}

impl Upgrade {
    pub(crate) fn new<F: Future<Output = Result<()>> + 'static>(
        protocol: &'static str,
        run: impl FnOnce(Raw) -> F + 'static,
    ) -> Upgrade {
        Upgrade { protocol, run: Run::Raw(Box::new(|raw| Box::pin(run(raw)))) }
    }
}

impl Run {
    /// Made to run: what it needs of the request is taken out of `core`, which serves others.
    #[cfg_attr(not(feature = "ws"), expect(unused_variables))]
    pub(super) fn start(self, wire: &Rc<Wire>, core: &mut Core) -> Running {
        match self {
            Run::Raw(run) => run(Raw(wire.clone())),
            #[cfg(feature = "ws")]
            Run::Socket(run) => run(wire.clone(), Rc::new(core.split_upgraded())),
        }
    }
}

/// An upgraded connection: its bytes, in order, with back-pressure both ways.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # use soloist::Raw;
/// /// Says how many lines came: called by `cx.upgrade("lines", count)`.
/// async fn count(mut raw: Raw) -> Result<()> {
///     let (mut bytes, mut lines) = (Vec::new(), 0);
///     while raw.read(&mut bytes).await? > 0 {
///         lines += bytes.iter().filter(|byte| **byte == b'\n').count();
///     }
///     raw.write(format!("{lines} lines")).await // it closes when this is dropped
/// }
/// # let app = App::new(()).get("/", async |cx| cx.upgrade("lines", count));
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n";
/// # let out = client.raw(&[head.as_bytes(), b"one\ntwo\n"]).await;
/// # assert!(out.ends_with(b"2 lines"), "{}", String::from_utf8_lossy(&out));
/// # });
/// ```
pub struct Raw(pub(crate) Rc<Wire>);

impl Raw {
    /// What has come since the last read, at least one byte; none after the peer's FIN. An error
    /// if the connection is broken. `into` is cleared first.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::Raw;
    /// async fn first_line(raw: &mut Raw) -> Result<Vec<u8>> {
    ///     let (mut line, mut bytes) = (Vec::new(), Vec::new());
    ///     while !line.ends_with(b"\n") && raw.read(&mut bytes).await? > 0 {
    ///         line.extend_from_slice(&bytes); // a line may come in pieces
    ///     }
    ///     Ok(line)
    /// }
    /// # async fn serve(mut raw: Raw) -> Result<()> {
    /// #     let line = first_line(&mut raw).await?;
    /// #     raw.write(&line).await
    /// # }
    /// # let app = App::new(()).get("/", async |cx| cx.upgrade("lines", serve));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n";
    /// # let out = client.raw(&[head.as_bytes(), b"one\ntwo\n"]).await;
    /// # assert!(out.ends_with(b"two\n"), "{}", String::from_utf8_lossy(&out));
    /// # });
    /// ```
    pub async fn read(&mut self, into: &mut Vec<u8>) -> Result<usize> {
        into.clear();
        match poll_fn(|cx| self.0.poll_input(0, cx)).await {
            Input::Bytes => self.0.take_into(into),
            Input::Eof => {}
            Input::Dead => return Err(Error::from("the connection is broken")),
        }
        Ok(into.len())
    }

    /// Sends bytes, after waiting while more than 64 KiB are unsent. An error if the connection is
    /// broken.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::Raw;
    /// async fn greet(mut raw: Raw) -> Result<()> {
    ///     raw.write("hello\n").await?; // the server speaks first, if the protocol wants it
    ///     for n in 1..=3 {
    ///         raw.write(format!("{n}\n")).await?;
    ///     }
    ///     Ok(())
    /// }
    /// # let app = App::new(()).get("/", async |cx| cx.upgrade("lines", greet));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n";
    /// # let out = client.raw(&[head.as_bytes(), b"one\ntwo\n"]).await;
    /// # assert!(out.ends_with(b"hello\n1\n2\n3\n"), "{}", String::from_utf8_lossy(&out));
    /// # });
    /// ```
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        poll_fn(|cx| self.0.poll_writable(cx)).await;
        if self.0.is_dead() {
            return Err(Error::from("the connection is broken"));
        }
        self.0.write(|out| out.extend_from_slice(bytes.as_ref()));
        Ok(())
    }
}
