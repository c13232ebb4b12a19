//! Messages in pieces, both ways (RFC 6455 section 5.4).

use std::future::poll_fn;

use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::link::Link;
use crate::error::{Error, Result};
use crate::ws::Kind;

/// A piece of a message: see [`Ws::recv_part`](crate::Ws::recv_part).
///
/// ```
/// # use soloist::prelude::*;
/// # async fn copy(ws: &mut Ws, into: &mut Vec<u8>) -> Result<()> {
/// while let Some(part) = ws.recv_part().await? {
///     into.extend_from_slice(part.bytes());
///     if part.is_last() {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Part {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
    pub(super) last: bool,
}

impl Part {
    /// Its text, if the message is one.
    ///
    /// ```
    /// # use soloist::Part;
    /// # fn print(part: Part) {
    /// print!("{}", part.text().unwrap_or("(bytes)"));
    /// # }
    /// ```
    pub fn text(&self) -> Option<&str> {
        if self.kind == Kind::Text { std::str::from_utf8(&self.bytes).ok() } else { None }
    }

    /// Its bytes; the last piece of a message may have none.
    ///
    /// ```
    /// # use soloist::Part;
    /// # fn count(part: &Part) -> usize {
    /// part.bytes().len()
    /// # }
    /// ```
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the message ends with it.
    ///
    /// ```
    /// # use soloist::Part;
    /// # fn is_over(part: &Part) -> bool {
    /// part.is_last()
    /// # }
    /// ```
    pub fn is_last(&self) -> bool {
        self.last
    }
}

/// A message on its way out in fragments: see [`Ws::stream_text`](crate::Ws::stream_text).
///
/// Dropped before `finish`, it ends the connection: the client would wait for the rest.
///
/// ```
/// # use soloist::prelude::*;
/// # async fn rows(ws: &mut Ws) -> Result<()> {
/// let mut out = ws.stream_text().await?;
/// for row in ["a", "b", "c"] {
///     out.write(row).await?; // a fragment
/// }
/// out.finish().await // one message: "abc"
/// # }
/// ```
#[must_use = "a message ends with `finish`"]
pub struct WsStream<'a> {
    link: &'a Link,
    /// Of the next fragment.
    opcode: OpCode,
    kind: Kind,
    /// Bytes of a character that is not whole yet.
    rest: Vec<u8>,
}

impl<'a> WsStream<'a> {
    pub(super) async fn begin(link: &'a Link, kind: Kind) -> Result<WsStream<'a>> {
        // Those that wait have their turn first.
        poll_fn(|cx| {
            if !link.must_queue() || !link.is_open() {
                return std::task::Poll::Ready(());
            }
            link.wire.wait_sent(cx);
            std::task::Poll::Pending
        })
        .await;
        link.check_open()?;
        link.set_streaming(true);
        Ok(WsStream { link, opcode: kind.opcode(), kind, rest: Vec::new() })
    }

    /// Sends a fragment, after waiting while the client is behind. Text may be cut anywhere, but
    /// must be UTF-8 as a whole.
    ///
    /// # Errors
    /// When the socket is closed, or a text is none.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn two(ws: &mut Ws) -> Result<()> {
    /// let mut out = ws.stream_text().await?;
    /// out.write("one ").await?;
    /// out.write("message").await?;
    /// out.finish().await
    /// # }
    /// ```
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.link.check_open()?;
        poll_fn(|cx| self.link.wire.poll_writable(cx)).await;
        self.link.check_open()?;
        let bytes = bytes.as_ref();
        if self.kind == Kind::Text {
            self.rest.extend_from_slice(bytes);
            let whole = match simdutf8::compat::from_utf8(&self.rest) {
                Ok(_) => self.rest.len(),
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(error) => return Err(Error::from(error)),
            };
            let rest = self.rest.split_off(whole);
            let bytes = std::mem::replace(&mut self.rest, rest);
            self.fragment(&bytes);
        } else {
            self.fragment(bytes);
        }
        Ok(())
    }

    /// Ends the message.
    ///
    /// # Errors
    /// When the socket is closed, or a text ends within a character.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn empty(ws: &mut Ws) -> Result<()> {
    /// ws.stream_text().await?.finish().await
    /// # }
    /// ```
    pub async fn finish(mut self) -> Result<()> {
        self.link.check_open()?;
        if !self.rest.is_empty() {
            return Err(Error::from("a text that ends within a character"));
        }
        self.link.fragment(self.opcode, true, b"");
        self.opcode = OpCode::Data(Data::Continue);
        self.link.set_streaming(false);
        Ok(())
    }

    fn fragment(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.link.fragment(self.opcode, false, bytes);
            self.opcode = OpCode::Data(Data::Continue);
        }
    }
}

impl Drop for WsStream<'_> {
    fn drop(&mut self) {
        if self.link.is_streaming() {
            self.link.wire.close(crate::base::wire::Close::Abort);
        }
    }
}
