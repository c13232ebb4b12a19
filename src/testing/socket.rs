//! The client of a WebSocket, for tests: tungstenite's, so that both sides do not share a mistake.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::task::Poll;

use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message as Frame};

use super::rig::{Rig, begin, collect};
use super::{Answer, Call, TestClient};
use crate::app::ws::message::Message;
use crate::base::wire::{Close, Wire};
use crate::shard::waker::TaskKey;
use crate::ws::Kind;

impl TestClient {
    /// Opens a WebSocket: see [`Call::ws`] for one with header fields of its own.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// use soloist::testing::TestClient;
    ///
    /// let echo = async |_| {
    ///     Ok(App::new(()).ws("/echo", async |_, ws| {
    ///         while let Some(message) = ws.recv().await? {
    ///             ws.send(message).await?;
    ///         }
    ///         Ok(())
    ///     }))
    /// };
    /// TestClient::run(echo, async |client| {
    ///     let mut ws = client.ws("/echo").await;
    ///     ws.send("hi").await;
    ///     assert_eq!(ws.next().await, "hi");
    ///     ws.close(1000).await;
    ///     assert_eq!(ws.closed().await, 1000);
    /// });
    /// ```
    ///
    /// # Panics
    /// When the answer is not a 101; the message shows it.
    pub async fn ws(&self, path: &str) -> TestSocket<'_> {
        self.get(path).ws().await
    }
}

impl<'a> Call<'a> {
    /// Opens a WebSocket, on a connection of its own.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::WsOptions;
    /// # use soloist::testing::TestClient;
    /// # let options = WsOptions::new().protocols(&["v2"]);
    /// # let app = async |_| Ok(App::new(()).ws_with("/", options, async |_, ws| {
    /// #     let name = ws.protocol().unwrap_or("none").to_owned();
    /// #     ws.send(name).await
    /// # }));
    /// # TestClient::run(app, async |client| {
    /// let call = client.get("/").header("sec-websocket-protocol", "v3, v2");
    /// assert_eq!(call.ws().await.next().await, "v2");
    /// # });
    /// ```
    ///
    /// # Panics
    /// When the answer is not a 101; the message shows it.
    pub async fn ws(self) -> TestSocket<'a> {
        let rig = &self.client.rig;
        let asks = self
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let (wire, task) = rig.connect_task();
        let head = asks.head();
        wire.push(head.as_bytes());
        let (answer, raw) = begin(&wire, &head).await;
        let answer = answer.asked_by(head);
        assert!(answer.status() == 101, "a WebSocket expected, but\n{}", answer.exchange());
        let pipe = Pipe { wire: wire.clone(), received: raw };
        let config = WebSocketConfig::default();
        let socket = WebSocket::from_raw_socket(pipe, Role::Client, Some(config));
        TestSocket { rig, wire, task, answer, socket, code: None }
    }
}

/// The client's end of a WebSocket: see [`TestClient::ws`]. Dropped, it vanishes as a client that
/// lost its network does.
///
/// ```
/// # use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// # let app = async |_| Ok(App::new(()).ws("/", async |_, ws| {
/// #     while ws.recv().await?.is_some() {}
/// #     Ok(())
/// # }));
/// # TestClient::run(app, async |client| {
/// let ws = client.ws("/").await;
/// assert_eq!(client.shard().stats().get("ws_open"), 1);
/// drop(ws);
/// assert_eq!(client.shard().stats().get("ws_open"), 0);
/// # });
/// ```
pub struct TestSocket<'a> {
    rig: &'a Rig,
    wire: Rc<Wire>,
    task: TaskKey,
    answer: Answer,
    socket: WebSocket<Pipe>,
    /// What the server closed with.
    code: Option<u16>,
}

impl TestSocket<'_> {
    /// The head of the 101.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, _| Ok(())));
    /// # TestClient::run(app, async |client| {
    /// let ws = client.ws("/").await;
    /// let accept = ws.answer().header("sec-websocket-accept");
    /// assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    /// # });
    /// ```
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Sends a message, text or binary, and runs what can run.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, ws| {
    /// #     let message = ws.recv().await?;
    /// #     ws.send(format!("{}", message.is_some_and(|it| it.text().is_none()))).await
    /// # }));
    /// # TestClient::run(app, async |client| {
    /// let mut ws = client.ws("/").await;
    /// ws.send(vec![1, 2, 3]).await; // binary
    /// assert_eq!(ws.next().await, "true");
    /// # });
    /// ```
    pub async fn send(&mut self, message: impl Into<Message>) {
        let message = message.into();
        let frame = match message.text() {
            Some(text) => Frame::text(text),
            None => Frame::binary(message.bytes().to_vec()),
        };
        let _ = self.socket.send(frame);
        self.rig.settle().await;
    }

    /// The next message as text.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, ws| ws.send("welcome").await));
    /// # TestClient::run(app, async |client| {
    /// assert_eq!(client.ws("/").await.next().await, "welcome");
    /// # });
    /// ```
    ///
    /// # Panics
    /// When the socket is closed, or the message is binary.
    pub async fn next(&mut self) -> String {
        let message = self.next_message().await;
        let message = message.unwrap_or_else(|| panic!("closed with {:?}", self.code));
        message.text().expect("a text expected, but bytes came").to_owned()
    }

    /// The next message; none once the socket is closed.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, ws| ws.send(vec![7]).await));
    /// # TestClient::run(app, async |client| {
    /// let mut ws = client.ws("/").await;
    /// assert_eq!(ws.next_message().await.expect("a message").bytes(), [7]);
    /// assert!(ws.next_message().await.is_none());
    /// # });
    /// ```
    pub async fn next_message(&mut self) -> Option<Message> {
        poll_fn(|_| {
            loop {
                match self.socket.read() {
                    Ok(Frame::Text(text)) => return Poll::Ready(Some(text.as_str().into())),
                    Ok(Frame::Binary(bytes)) => {
                        return Poll::Ready(Some(Message::new(Kind::Binary, bytes.to_vec())));
                    }
                    Ok(Frame::Close(frame)) => {
                        self.code = Some(frame.map_or(1005, |it| it.code.into()));
                    }
                    Ok(_) => {}
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Poll::Pending;
                    }
                    Err(_) => return Poll::Ready(None),
                }
            }
        })
        .await
    }

    /// Messages that are here, without waiting: what has been sent so far.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, ws| {
    /// #     ws.join("news")?;
    /// #     while ws.recv().await?.is_some() {}
    /// #     Ok(())
    /// # }).post("/", async |cx| { cx.publish("news", "one"); cx.empty() }));
    /// # TestClient::run(app, async |client| {
    /// let mut ws = client.ws("/").await;
    /// assert!(ws.so_far().await.is_empty());
    /// client.post("/").await.expect(204);
    /// assert_eq!(ws.so_far().await, ["one"]);
    /// # });
    /// ```
    pub async fn so_far(&mut self) -> Vec<String> {
        self.rig.settle().await;
        let mut all = Vec::new();
        while let Ok(frame) = self.socket.read() {
            match frame {
                Frame::Text(text) => all.push(text.to_string()),
                Frame::Binary(bytes) => all.push(format!("({} bytes)", bytes.len())),
                Frame::Close(frame) => self.code = Some(frame.map_or(1005, |it| it.code.into())),
                _ => {}
            }
        }
        all
    }

    /// Closes with that code.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, ws| {
    /// #     while ws.recv().await?.is_some() {}
    /// #     assert_eq!(ws.close_code(), Some(4000));
    /// #     Ok(())
    /// # }));
    /// # TestClient::run(app, async |client| {
    /// client.ws("/").await.close(4000).await;
    /// # });
    /// ```
    pub async fn close(&mut self, code: u16) {
        let _ = self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() }));
        self.rig.settle().await;
    }

    /// Waits until the socket is closed, and says with which code: 1006 is without a word.
    /// Messages that come before are dropped.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, _| Err("no".into())));
    /// # TestClient::run(app, async |client| {
    /// assert_eq!(client.ws("/").await.closed().await, 1011); // the handler failed
    /// # });
    /// ```
    pub async fn closed(&mut self) -> u16 {
        while self.next_message().await.is_some() {}
        self.code.unwrap_or(1006)
    }

    /// Sends bytes that are no valid frame, perhaps.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).ws("/", async |_, ws| {
    /// #     while ws.recv().await?.is_some() {}
    /// #     Ok(())
    /// # }));
    /// # TestClient::run(app, async |client| {
    /// let mut ws = client.ws("/").await;
    /// ws.send_raw(&[0x81, 0x00]).await; // a client must mask
    /// assert_eq!(ws.closed().await, 1002);
    /// # });
    /// ```
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.wire.push(bytes);
        self.rig.settle().await;
    }
}

impl Drop for TestSocket<'_> {
    fn drop(&mut self) {
        self.rig.reset(&self.wire, self.task);
    }
}

/// A wire as tungstenite reads and writes it.
struct Pipe {
    wire: Rc<Wire>,
    received: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        collect(&self.wire, &mut self.received);
        if self.received.is_empty() {
            let closed = self.wire.closing() != Close::Open;
            return if closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let len = into.len().min(self.received.len());
        into[..len].copy_from_slice(&self.received[..len]);
        self.received.drain(..len);
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
