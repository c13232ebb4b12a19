//! A message of a socket: text or binary.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use serde::Serialize;
use serde::de::Deserialize;

use crate::base::spares::Spares;
use crate::error::Result;
use crate::limits::BACKLOG_SHARED_BYTES_MIN;
use crate::ws::{Kind, frame};

/// Text or bytes, received or to be sent.
///
/// ```
/// use soloist::Message;
/// let text = Message::from("hello");
/// assert_eq!((text.text(), text.bytes()), (Some("hello"), &b"hello"[..]));
/// let bytes = Message::from(vec![1, 2, 3]);
/// assert_eq!((bytes.text(), bytes.bytes().len()), (None, 3));
/// ```
pub struct Message {
    pub(crate) kind: Kind,
    bytes: Vec<u8>,
    /// The payload begins here.
    start: usize,
    /// 0: none.
    pub(crate) key: u64,
    /// Where the buffer came from, and goes back to.
    spares: Option<Rc<Spares>>,
}

impl Message {
    /// A value as JSON, as text.
    ///
    /// # Errors
    /// When it cannot be serialised.
    ///
    /// ```
    /// # use soloist::Message;
    /// assert_eq!(Message::json(&[1, 2])?.text(), Some("[1,2]"));
    /// # Ok::<(), soloist::Error>(())
    /// ```
    pub fn json(value: &impl Serialize) -> Result<Message> {
        Ok(Message::new(Kind::Text, serde_json::to_vec(value)?))
    }

    /// The text, if it is one.
    ///
    /// ```
    /// # use soloist::Message;
    /// assert_eq!(Message::from("hi").text(), Some("hi"));
    /// ```
    pub fn text(&self) -> Option<&str> {
        // What came in was checked once; a second look costs a tenth of its way here.
        if self.kind == Kind::Text { simdutf8::basic::from_utf8(self.bytes()).ok() } else { None }
    }

    /// Its bytes, whatever it is.
    ///
    /// ```
    /// # use soloist::Message;
    /// assert_eq!(Message::from("hi").bytes(), b"hi");
    /// ```
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Reads it as JSON, text or binary. 400 with the place of a mistake, as of
    /// [`Ctx::body_json`](crate::Ctx::body_json).
    ///
    /// ```
    /// # use soloist::Message;
    /// let numbers: Vec<u32> = Message::from("[1, 2]").read_json()?;
    /// assert_eq!(numbers, [1, 2]);
    /// # Ok::<(), soloist::Error>(())
    /// ```
    pub fn read_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        crate::app::json::read(self.bytes())
    }

    /// Names what it is about: in the queue of a socket that is behind, a newer message with the
    /// same key takes the place of an older one. For values of which only the last one counts.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::Message;
    /// # fn price(cx: &Ctx<()>) {
    /// cx.publish("prices", Message::from("ACME 17.20").key("ACME"));
    /// # }
    /// ```
    pub fn key(mut self, key: impl Hash) -> Message {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.key = hasher.finish().max(1);
        self
    }

    pub(crate) fn new(kind: Kind, bytes: Vec<u8>) -> Message {
        Message { kind, bytes, start: 0, key: 0, spares: None }
    }

    /// The buffer, and where a server's frame begins in it: its header takes the place of the
    /// client's. Given back if there is no room for it, or the message is small.
    pub(crate) fn into_frame(mut self) -> std::result::Result<(Vec<u8>, usize), Message> {
        let mut head = [0; frame::HEAD_BYTES_MAX];
        let len = frame::head_of(&mut head, self.kind.opcode(), self.bytes().len());
        if self.start < len || self.bytes().len() < BACKLOG_SHARED_BYTES_MIN {
            return Err(self);
        }
        let from = self.start - len;
        self.bytes[from..self.start].copy_from_slice(&head[..len]);
        Ok((std::mem::take(&mut self.bytes), from))
    }

    pub(crate) fn received(
        kind: Kind,
        bytes: Vec<u8>,
        start: usize,
        spares: &Rc<Spares>,
    ) -> Message {
        Message { kind, bytes, start, key: 0, spares: Some(spares.clone()) }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(spares) = &self.spares {
            spares.give(std::mem::take(&mut self.bytes));
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::new(Kind::Text, text.as_bytes().to_vec())
    }
}

impl From<&String> for Message {
    fn from(text: &String) -> Message {
        Message::from(text.as_str())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::new(Kind::Text, text.into_bytes())
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Message {
        Message::new(Kind::Binary, bytes.to_vec())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::new(Kind::Binary, bytes)
    }
}

/// Text as it is, bytes by their number.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "({} bytes)", self.bytes().len()),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => fmt::Debug::fmt(text, f),
            None => fmt::Debug::fmt(self.bytes(), f),
        }
    }
}
