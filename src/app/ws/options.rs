//! What a WebSocket route allows, and how its sockets behave.

use std::time::Duration;

use crate::limits::{
    WS_IDLE_MS, WS_MESSAGE_BYTES_MAX, WS_OUTBOX_BYTES_MAX, WS_OUTBOX_MESSAGES_MAX, WS_PING_MS,
};

/// How the sockets of a route behave: see [`App::ws_with`](crate::App::ws_with).
///
/// ```
/// use soloist::prelude::*;
/// use soloist::{WhenFull, WsDeflate, WsOptions};
///
/// let options = WsOptions::new()
///     .protocols(&["chat.v2", "chat.v1"])
///     .deflate(WsDeflate::Shared)
///     .when_full(WhenFull::DropOldest);
/// let app = App::new(()).ws_with("/live", options, async |_, ws| {
///     ws.join("news");
///     while ws.recv().await?.is_some() {}
///     Ok(())
/// });
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is for `App::ws_with`"]
pub struct WsOptions {
    pub(crate) origins: Origins,
    pub(crate) protocols: Vec<String>,
    pub(crate) message_bytes_max: usize,
    pub(crate) frame_bytes_max: Option<usize>,
    pub(crate) outbox_messages_max: usize,
    pub(crate) outbox_bytes_max: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) deflate: Option<WsDeflate>,
    pub(crate) deflate_level: u32,
    pub(crate) deflate_bytes_min: usize,
    pub(crate) ping_ms: u64,
    pub(crate) idle_ms_max: u64,
    pub(crate) drain_code: u16,
}

/// Pages that may open a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origins {
    Same,
    Any,
    List(Vec<String>),
}

/// What becomes of a message of others ([`publish`](crate::Ctx::publish),
/// [`send_to`](crate::Shard::send_to)) for a socket whose outbox is full. What its own handler
/// sends waits instead.
///
/// ```
/// # use soloist::*;
/// // A game: only the present counts.
/// let options = WsOptions::new().when_full(WhenFull::DropOldest).outbox_max(4, 16 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is not sent to this one.
    DropNewest,
    /// The oldest ones make room for it.
    DropOldest,
    /// The socket is closed with this code: 1008 (policy) or 1013 (try again later).
    Close(u16),
}

/// How messages are compressed where the client can (RFC 7692).
///
/// ```
/// # use soloist::*;
/// // Few sockets and small messages that resemble each other.
/// let options = WsOptions::new().deflate(WsDeflate::Dedicated);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WsDeflate {
    /// Each message on its own: an idle socket holds no window, and what is published is
    /// compressed once for all.
    Shared,
    /// Each socket keeps its windows from message to message: smaller messages, for up to 300 KiB
    /// a socket.
    Dedicated,
}

impl WsOptions {
    /// The defaults: pages of the same origin, messages of 1 MiB, 256 messages or 1 MiB waiting
    /// and then closed with 1013, no compression, a ping every 30 s.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new(); // strict enough for the open net
    /// ```
    pub fn new() -> WsOptions {
        WsOptions {
            origins: Origins::Same,
            protocols: Vec::new(),
            message_bytes_max: WS_MESSAGE_BYTES_MAX,
            frame_bytes_max: None,
            outbox_messages_max: WS_OUTBOX_MESSAGES_MAX,
            outbox_bytes_max: WS_OUTBOX_BYTES_MAX,
            when_full: WhenFull::Close(1013),
            deflate: None,
            deflate_level: 3,
            deflate_bytes_min: 128,
            ping_ms: WS_PING_MS,
            idle_ms_max: WS_IDLE_MS,
            drain_code: 1001,
        }
    }

    /// Lets pages of these origins open a socket, such as `https://www.example.com`, in place of
    /// those of the same host. Clients that are no browser send no origin, and are let in.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().origins(&["https://www.example.com"]);
    /// ```
    pub fn origins(mut self, origins: &[&str]) -> WsOptions {
        self.origins = Origins::List(origins.iter().map(|it| (*it).to_owned()).collect());
        self
    }

    /// Lets pages of any origin open a socket: a page of anybody may then act with its visitor's
    /// cookies.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().any_origin(); // prices, and nothing of a visitor
    /// ```
    pub fn any_origin(mut self) -> WsOptions {
        self.origins = Origins::Any;
        self
    }

    /// Subprotocols that are spoken here; of those that a client names, its first one is taken:
    /// see [`Ws::protocol`](crate::Ws::protocol).
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().protocols(&["chat.v2", "chat.v1"]);
    /// ```
    pub fn protocols(mut self, names: &[&str]) -> WsOptions {
        self.protocols = names.iter().map(|it| (*it).to_owned()).collect();
        self
    }

    /// Bytes of a message that is received, after decompression; more: closed with 1009. 1 MiB
    /// unless it is set.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().message_bytes_max(16 * 1024); // a chat
    /// ```
    pub fn message_bytes_max(mut self, bytes: usize) -> WsOptions {
        self.message_bytes_max = bytes;
        self
    }

    /// Bytes of one frame; more: closed with 1009. Those of a message unless it is set.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().frame_bytes_max(64 * 1024);
    /// ```
    pub fn frame_bytes_max(mut self, bytes: usize) -> WsOptions {
        self.frame_bytes_max = Some(bytes);
        self
    }

    /// How much may wait for a client that is behind: 256 messages and 1 MiB unless it is set.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().outbox_max(32, 64 * 1024);
    /// ```
    pub fn outbox_max(mut self, messages: usize, bytes: usize) -> WsOptions {
        (self.outbox_messages_max, self.outbox_bytes_max) = (messages.max(1), bytes);
        self
    }

    /// What happens when more would wait: closed with 1013 unless it is set.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().when_full(WhenFull::DropOldest);
    /// ```
    pub fn when_full(mut self, policy: WhenFull) -> WsOptions {
        self.when_full = policy;
        self
    }

    /// Compresses messages for clients that can read them.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().deflate(WsDeflate::Shared);
    /// ```
    pub fn deflate(mut self, deflate: WsDeflate) -> WsOptions {
        self.deflate = Some(deflate);
        self
    }

    /// The level, 1 (fast) to 9, and the bytes from which on a message is compressed: 3 and 128
    /// unless it is set.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().deflate(WsDeflate::Shared).deflate_level(6, 512);
    /// ```
    pub fn deflate_level(mut self, level: u32, bytes_min: usize) -> WsOptions {
        (self.deflate_level, self.deflate_bytes_min) = (level.clamp(1, 9), bytes_min.max(1));
        self
    }

    /// How often a silent client is asked whether it is there: 30 s unless it is set. One that has
    /// sent nothing by the next time is gone. Zero: never.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().ping_every(Duration::from_secs(10));
    /// ```
    pub fn ping_every(mut self, every: Duration) -> WsOptions {
        self.ping_ms = ms(every);
        self
    }

    /// How long a client may send no message before it is closed with 1001; zero, the default, is
    /// for ever.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().idle_max(Duration::from_secs(300));
    /// ```
    pub fn idle_max(mut self, longest: Duration) -> WsOptions {
        self.idle_ms_max = ms(longest);
        self
    }

    /// What a draining server closes with: 1001 (going away) unless it is set; 1012 says that it
    /// restarts.
    ///
    /// ```
    /// # use soloist::*;
    /// # use std::time::Duration;
    /// let options = WsOptions::new().drain_code(1012);
    /// ```
    pub fn drain_code(mut self, code: u16) -> WsOptions {
        self.drain_code = code;
        self
    }
}

impl Default for WsOptions {
    fn default() -> WsOptions {
        WsOptions::new()
    }
}

fn ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX / 2)
}
