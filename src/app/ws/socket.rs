//! A socket as its handler sees it: one reader, and as many writers as one likes.

use std::future::poll_fn;
use std::rc::Rc;

use tungstenite::protocol::frame::coding::Control;

use super::link::{Closing, Link};
use super::message::Message;
use super::publish;
use super::rooms::{Rooms, SocketId};
use super::stream::{Part, WsStream};
use crate::base::counters::Count;
use crate::base::wire::Input;
use crate::error::{Error, Result};
use crate::limits::OUTBOX_BYTES_MAX;
use crate::ws::incoming::{Incoming, Item, Rules};
use crate::ws::{Kind, Violation};

/// An open WebSocket: see [`App::ws`](crate::App::ws).
///
/// ```
/// # use soloist::prelude::*;
/// async fn greet(cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
///     ws.send(format!("hello from shard {}", cx.shard().id())).await?;
///     while let Some(message) = ws.recv().await? {
///         ws.send(message).await?;
///     }
///     Ok(())
/// }
/// ```
pub struct Ws {
    reader: WsReader,
    writer: WsWriter,
    protocol: Option<Box<str>>,
}

/// The receiving half of a socket: see [`Ws::split`].
///
/// ```
/// # use soloist::{Result, WsReader};
/// /// Skips what is no text.
/// async fn next_text(reader: &mut WsReader) -> Result<Option<String>> {
///     while let Some(message) = reader.recv().await? {
///         if let Some(text) = message.text() {
///             return Ok(Some(text.to_owned()));
///         }
///     }
///     Ok(None)
/// }
/// ```
pub struct WsReader {
    link: Rc<Link>,
    incoming: Incoming,
}

/// A sending half of a socket; a clone may be kept anywhere on the shard.
///
/// ```
/// # use soloist::{Result, WsWriter};
/// /// Kept by a task beside the handler.
/// async fn progress(writer: WsWriter) -> Result<()> {
///     for percent in 0..=100 {
///         writer.send(percent.to_string()).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct WsWriter {
    pub(super) link: Rc<Link>,
}

impl Ws {
    pub(super) fn new(link: Rc<Link>, protocol: Option<String>) -> Ws {
        let reader = WsReader { link: link.clone(), incoming: Incoming::default() };
        let protocol = protocol.map(String::into_boxed_str);
        Ws { reader, writer: WsWriter { link }, protocol }
    }

    /// The next message; none once the socket is closed, by either side. Dropped before it is
    /// ready, it has lost nothing. Pings are answered on the way.
    ///
    /// # Errors
    /// When the client breaks the protocol, or sends more than it may: it has been told so by the
    /// close code that RFC 6455 names.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn echo(_: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    ///     while let Some(message) = ws.recv().await? {
    ///         ws.send(message).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn recv(&mut self) -> Result<Option<Message>> {
        self.reader.recv().await
    }

    /// The next piece of a message as it comes, however long the message is; text is cut between
    /// characters. None once the socket is closed.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn count(_: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    ///     let mut bytes = 0;
    ///     while let Some(part) = ws.recv_part().await? {
    ///         bytes += part.bytes().len();
    ///         if part.is_last() {
    ///             ws.send(std::mem::take(&mut bytes).to_string()).await?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn recv_part(&mut self) -> Result<Option<Part>> {
        self.reader.recv_part().await
    }

    /// Sends a message: text from `&str` and `String`, binary from bytes, or one that was
    /// received. Waits while the client is behind.
    ///
    /// # Errors
    /// When the socket is closed.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::Message;
    /// # async fn three(ws: &mut Ws) -> Result<()> {
    /// ws.send("text").await?;
    /// ws.send(vec![1, 2, 3]).await?; // binary
    /// ws.send(Message::json(&[1, 2, 3])?).await
    /// # }
    /// ```
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<()> {
        self.writer.send(message).await
    }

    /// Sends a message of unknown length, in fragments. What others send meanwhile waits.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn numbers(ws: &mut Ws) -> Result<()> {
    /// let mut out = ws.stream_text().await?;
    /// for n in 0..1_000 {
    ///     out.write(format!("{n}\n")).await?;
    /// }
    /// out.finish().await
    /// # }
    /// ```
    pub async fn stream_text(&mut self) -> Result<WsStream<'_>> {
        WsStream::begin(&self.writer.link, Kind::Text).await
    }

    /// The same in bytes.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn zeros(ws: &mut Ws) -> Result<()> {
    /// let mut out = ws.stream_binary().await?;
    /// out.write([0; 4_096]).await?;
    /// out.finish().await
    /// # }
    /// ```
    pub async fn stream_binary(&mut self) -> Result<WsStream<'_>> {
        WsStream::begin(&self.writer.link, Kind::Binary).await
    }

    /// Says goodbye: 1000 is a normal end, 4000 to 4999 are the application's own. At most 123
    /// bytes of the reason are sent. The handler may go on reading until
    /// [`recv`](Ws::recv) gives none.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn full(ws: &mut Ws) {
    /// ws.close(4000, "the room is full");
    /// # }
    /// ```
    pub fn close(&mut self, code: u16, reason: &str) {
        self.writer.close(code, reason);
    }

    /// Asks for a sign of life now; the wheel does so every
    /// [`ping_every`](crate::WsOptions::ping_every) by itself. At most 125 bytes.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn ask(ws: &mut Ws) {
    /// ws.ping("are you there?");
    /// # }
    /// ```
    pub fn ping(&mut self, payload: impl AsRef<[u8]>) {
        self.writer.ping(payload);
    }

    /// Hears what is published in a room from here on, and first what is
    /// [kept](crate::Shard::replay) of it. The socket leaves its rooms when it ends.
    ///
    /// # Errors
    /// 400 when the name has more than 256 bytes, or the socket is in 1,024 rooms.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn enter(ws: &mut Ws) -> Result<()> {
    /// ws.join("lobby")
    /// # }
    /// ```
    pub fn join(&mut self, room: &str) -> Result<()> {
        Rooms::of(&self.writer.link.local).join(self.id(), room, None)
    }

    /// Hears no more of a room.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn swap(ws: &mut Ws) -> Result<()> {
    /// ws.leave("lobby");
    /// ws.join("table/7")
    /// # }
    /// ```
    pub fn leave(&mut self, room: &str) {
        Rooms::of(&self.writer.link.local).leave(self.id(), room);
    }

    /// Sends to everyone in a room but this socket: see [`Ctx::publish`](crate::Ctx::publish).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn typing(ws: &mut Ws) {
    /// ws.publish_others("lobby", "ann is typing");
    /// # }
    /// ```
    pub fn publish_others(&mut self, room: &str, message: impl Into<Message>) {
        let link = &self.writer.link;
        publish::publish(&link.local, room, &message.into(), link.id.get());
    }

    /// Says who this is, for those who ask for the [presence](crate::Shard::presence) in a room.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn sign_in(ws: &mut Ws) {
    /// ws.set_name("ann");
    /// # }
    /// ```
    pub fn set_name(&mut self, name: &str) {
        Rooms::of(&self.writer.link.local).set_name(self.id(), name);
    }

    /// Its id, by which any shard can [send to it](crate::Shard::send_to).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn tell(ws: &mut Ws) -> Result<()> {
    /// let id = ws.id().to_string();
    /// ws.send(id).await
    /// # }
    /// ```
    pub fn id(&self) -> SocketId {
        self.writer.link.id.get().expect("it was entered before its handler ran")
    }

    /// The subprotocol that was agreed on: see
    /// [`WsOptions::protocols`](crate::WsOptions::protocols).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn version(ws: &Ws) -> u32 {
    /// if ws.protocol() == Some("chat.v2") { 2 } else { 1 }
    /// # }
    /// ```
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The code that the client closed with, once it has: 1005 if it gave none, 1006 if the
    /// connection ended without a word.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn until_gone(_: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    ///     while ws.recv().await?.is_some() {}
    ///     println!("{:?}", ws.close_code());
    ///     Ok(())
    /// }
    /// ```
    pub fn close_code(&self) -> Option<u16> {
        self.writer.link.close.get().received
    }

    /// Both halves, to be used at the same time.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn both(ws: &mut Ws) -> Result<()> {
    /// let (reader, writer) = ws.split();
    /// while let Some(message) = reader.recv().await? {
    ///     writer.send(message).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn split(&mut self) -> (&mut WsReader, &WsWriter) {
        (&mut self.reader, &self.writer)
    }

    /// A writer of one's own, for a task beside the handler.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn ticking(cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    ///     let (writer, shard) = (ws.writer(), cx.shard());
    ///     cx.spawn(async move {
    ///         while writer.send("tick").await.is_ok() {
    ///             shard.sleep(std::time::Duration::from_secs(1)).await;
    ///         }
    ///     });
    ///     while ws.recv().await?.is_some() {}
    ///     Ok(())
    /// }
    /// ```
    pub fn writer(&self) -> WsWriter {
        self.writer.clone()
    }

    pub(super) fn link(&self) -> &Rc<Link> {
        &self.writer.link
    }

    /// Reads on until the client has closed too.
    pub(super) async fn hear_close(&mut self) {
        while let Ok(Some(_)) = self.reader.next(true).await {}
    }
}

impl WsReader {
    /// The next message: see [`Ws::recv`].
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn first(ws: &mut Ws) -> Result<()> {
    /// let (reader, _) = ws.split();
    /// let first = reader.recv().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Result<Option<Message>> {
        match self.next(false).await? {
            Some(Item::Message { kind, bytes, start }) => {
                Ok(Some(Message::received(kind, bytes, start, &self.link.local.spares)))
            }
            _ => Ok(None),
        }
    }

    /// The next piece of a message: see [`Ws::recv_part`].
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn first(ws: &mut Ws) -> Result<()> {
    /// let (reader, _) = ws.split();
    /// let first = reader.recv_part().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_part(&mut self) -> Result<Option<Part>> {
        match self.next(true).await? {
            Some(Item::Part { kind, bytes, last }) => Ok(Some(Part { kind, bytes, last })),
            _ => Ok(None),
        }
    }

    /// The next message or part; control frames are dealt with.
    async fn next(&mut self, parts: bool) -> Result<Option<Item>> {
        let link = &self.link;
        let options = &link.options;
        let rules = Rules {
            message_bytes_max: options.message_bytes_max,
            frame_bytes_max: options.frame_bytes_max.unwrap_or(usize::MAX),
            deflate: link.deflate.is_some(),
            takeover: link.deflate.is_some_and(|it| it.client_takeover),
            parts,
        };
        loop {
            if link.close.get().received.is_some() {
                return Ok(None);
            }
            let spares = &link.local.spares;
            match self.incoming.next(&rules, || spares.take()) {
                Ok(Some(Item::Ping(payload))) => {
                    if link.wire.unsent() > OUTBOX_BYTES_MAX {
                        poll_fn(|cx| link.wire.poll_writable(cx)).await;
                    }
                    link.control(Control::Pong, &payload);
                }
                Ok(Some(Item::Pong)) => {}
                Ok(Some(Item::Close { code, .. })) => {
                    link.close.set(Closing { received: Some(code), ..link.close.get() });
                    link.send_close(code, "");
                    return Ok(None);
                }
                Ok(Some(item)) => {
                    link.message_ms.set(link.local.clock.now_ms());
                    return Ok(Some(item));
                }
                Ok(None) => {
                    spares.give(self.incoming.take_idle());
                    match poll_fn(|cx| link.wire.poll_input(0, cx)).await {
                        Input::Bytes => self.incoming.feed(|buf| link.wire.take_into(buf)),
                        Input::Eof | Input::Dead => {
                            link.close.set(Closing { received: Some(1006), ..link.close.get() });
                            return Ok(None);
                        }
                    }
                    link.hear();
                }
                Err(Violation { code, reason }) => {
                    link.local.counters.add(Count::WsViolations, 1);
                    link.send_close(code, reason);
                    link.close.set(Closing { received: Some(1006), ..link.close.get() });
                    return Err(Error::bad_request(reason));
                }
            }
        }
    }
}

impl WsWriter {
    /// Sends a message: see [`Ws::send`].
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn hello(ws: &mut Ws) -> Result<()> {
    /// let writer = ws.writer();
    /// writer.send("hello").await
    /// # }
    /// ```
    pub async fn send(&self, message: impl Into<Message>) -> Result<()> {
        self.link.send(message.into()).await
    }

    /// Says goodbye: see [`Ws::close`].
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn kick(ws: &mut Ws) {
    /// ws.writer().close(1008, "not here");
    /// # }
    /// ```
    pub fn close(&self, code: u16, reason: &str) {
        self.link.send_close(code, reason);
    }

    /// Asks for a sign of life: see [`Ws::ping`].
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn ask(ws: &mut Ws) {
    /// ws.writer().ping("");
    /// # }
    /// ```
    pub fn ping(&self, payload: impl AsRef<[u8]>) {
        let payload = payload.as_ref();
        self.link.control(Control::Ping, &payload[..payload.len().min(125)]);
    }

    /// Whether messages may still be sent.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # fn is_there(ws: &mut Ws) -> bool {
    /// ws.writer().is_open()
    /// # }
    /// ```
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }
}
