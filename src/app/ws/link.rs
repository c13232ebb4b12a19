//! What the parts of one socket share: its wire, what was agreed on, how far its close has come.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use tungstenite::protocol::frame::coding::{Control, OpCode};

use super::message::Message;
use super::options::{WhenFull, WsOptions};
use super::rooms::SocketId;
use crate::base::backlog::{Full, Lost};
use crate::base::counters::Count;
use crate::base::piece::{Frame, Piece};
use crate::base::wire::Wire;
use crate::error::{Error, Result};
use crate::limits::{DEFLATE_SLICE_BYTES, OUTBOX_BYTES_MAX};
use crate::shard::Local;
use crate::ws::deflate::Deflater;
use crate::ws::frame;
use crate::ws::handshake::Deflate;

/// One socket, as its reader, its writers and its rooms see it.
pub(crate) struct Link {
    pub(crate) local: Rc<Local>,
    pub(crate) wire: Rc<Wire>,
    pub(crate) options: Rc<WsOptions>,
    pub(crate) deflate: Option<Deflate>,
    /// The compressor that goes on from message to message, where one was agreed on.
    deflater: RefCell<Option<Box<Deflater>>>,
    /// What a compressor has written that the client's window does not end with.
    stale: Cell<bool>,
    pub(crate) id: Cell<Option<SocketId>>,
    pub(crate) close: Cell<Closing>,
    /// A message in fragments is on its way.
    streaming: Cell<bool>,
    /// Of the shard's clock: when the client last gave a sign of life, and last a message.
    pub(crate) heard_ms: Cell<u64>,
    pub(crate) message_ms: Cell<u64>,
    /// Since when it has been asked for one. Not a comparison of times: an answer may come within
    /// the same millisecond.
    pub(crate) asked_ms: Cell<Option<u64>>,
}

/// How far the closing handshake has come (RFC 6455 section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closing {
    /// The code of the Close that was sent.
    pub(crate) sent: Option<u16>,
    /// The code of the one that has come; 1006 if the connection ended without.
    pub(crate) received: Option<u16>,
}

impl Link {
    pub(crate) fn new(
        local: Rc<Local>,
        wire: Rc<Wire>,
        options: Rc<WsOptions>,
        deflate: Option<Deflate>,
    ) -> Link {
        let now_ms = local.clock.now_ms();
        Link {
            local,
            wire,
            options,
            deflate,
            deflater: RefCell::default(),
            stale: Cell::new(false),
            id: Cell::new(None),
            close: Cell::default(),
            streaming: Cell::new(false),
            heard_ms: Cell::new(now_ms),
            message_ms: Cell::new(now_ms),
            asked_ms: Cell::new(None),
        }
    }

    /// The client gives a sign of life.
    pub(crate) fn hear(&self) {
        self.heard_ms.set(self.local.clock.now_ms());
        self.asked_ms.set(None);
    }

    /// Whether messages may still be sent.
    pub(crate) fn is_open(&self) -> bool {
        let close = self.close.get();
        close.sent.is_none() && close.received.is_none() && !self.wire.is_dead()
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_open() { Ok(()) } else { Err(Error::from("the socket is closed")) }
    }

    /// Sends a message once there is room for it.
    pub(crate) async fn send(&self, message: Message) -> Result<()> {
        self.check_open()?;
        let squeeze = self.deflate.is_some()
            && message.bytes().len() >= self.options.deflate_bytes_min
            && !self.streaming.get();
        if !squeeze && !self.must_queue() {
            if self.wire.unsent() > OUTBOX_BYTES_MAX {
                poll_fn(|cx| self.wire.poll_writable(cx)).await;
                self.check_open()?;
            }
            if !self.must_queue() {
                match message.into_frame() {
                    Ok((bytes, from)) => self.wire.write_owned(Piece::Rest(bytes, from)),
                    Err(message) => {
                        let opcode = message.kind.opcode();
                        self.wire.write(|out| frame::whole(out, opcode, false, message.bytes()));
                    }
                }
                return Ok(());
            }
        }
        // Boxed: a socket that waits for messages does not hold room for this.
        Box::pin(self.send_whole(&message, squeeze)).await
    }

    /// The way of a message that is compressed, or that others wait before.
    #[cold]
    async fn send_whole(&self, message: &Message, squeeze: bool) -> Result<()> {
        let alone = if squeeze { self.squeeze_alone(message).await } else { None };
        poll_fn(|cx| {
            if self.is_open() && !self.has_room(message.bytes().len()) {
                self.wire.wait_sent(cx);
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        self.check_open()?;
        // From here on nothing waits: in the order in which messages are compressed they leave.
        let mut bytes = self.local.spares.take();
        let opcode = message.kind.opcode();
        match (&alone, squeeze) {
            (Some(squeezed), _) => frame::whole(&mut bytes, opcode, true, squeezed),
            (None, true) => self.squeeze(message, &mut bytes),
            (None, false) => frame::whole(&mut bytes, opcode, false, message.bytes()),
        }
        let frame = Rc::new(Frame { bytes: bytes.as_slice().into(), key: message.key });
        self.local.spares.give(bytes);
        let mut lost = Lost::default();
        self.wire.offer(frame, (usize::MAX, usize::MAX), Full::Refuse, &mut lost);
        self.count(lost);
        if alone.is_some() {
            self.stale.set(true);
        }
        Ok(())
    }

    /// Whether so many bytes find room in the outbox: one message always does in an empty one.
    fn has_room(&self, bytes: usize) -> bool {
        let (messages, held_bytes) = self.wire.backlog();
        let options = &self.options;
        messages == 0
            || (messages < options.outbox_messages_max
                && held_bytes + bytes <= options.outbox_bytes_max)
    }

    /// Whether what is written now would overtake what waits, or cut a message in two.
    pub(crate) fn must_queue(&self) -> bool {
        self.streaming.get() || self.wire.has_backlog()
    }

    /// A large message compressed on its own, with an empty window: the others on the shard have
    /// their turn between two slices, and may send to this socket meanwhile.
    async fn squeeze_alone(&self, message: &Message) -> Option<Vec<u8>> {
        let agreed = self.deflate?;
        if message.bytes().len() <= DEFLATE_SLICE_BYTES {
            return None;
        }
        let mut deflater = Deflater::new(self.options.deflate_level, agreed.window_bits);
        let mut squeezed = Vec::new();
        let slices = message.bytes().chunks(DEFLATE_SLICE_BYTES);
        let count = slices.len();
        for (at, slice) in slices.enumerate() {
            if at > 0 {
                crate::shard::tasks::yield_now().await;
            }
            deflater.add(slice, at + 1 == count, &mut squeezed);
        }
        Some(squeezed)
    }

    /// A whole compressed frame, with the window that goes on where there is one.
    ///
    /// Invariant: a frame that needs what went before it is never behind one that may be dropped.
    /// So a client that is behind gets frames that stand alone.
    fn squeeze(&self, message: &Message, out: &mut Vec<u8>) {
        let Some(agreed) = self.deflate else { return };
        let mut kept = self.deflater.borrow_mut();
        let level = self.options.deflate_level;
        let deflater =
            kept.get_or_insert_with(|| Box::new(Deflater::new(level, agreed.window_bits)));
        if self.stale.take() || self.wire.has_backlog() {
            deflater.reset();
        }
        let mut squeezed = self.local.spares.take();
        deflater.add(message.bytes(), true, &mut squeezed);
        frame::whole(out, message.kind.opcode(), true, &squeezed);
        self.local.spares.give(squeezed);
        if !agreed.server_takeover {
            *kept = None;
        }
    }

    /// What is lost leaves a hole in the client's window.
    fn count(&self, lost: Lost) {
        if lost != Lost::default() {
            self.local.counters.add(Count::WsDroppedOldest, lost.oldest);
            self.local.counters.add(Count::WsReplaced, lost.replaced);
            self.stale.set(true);
        }
    }

    /// Queues a frame of somebody else; a full outbox does as the route's policy says.
    pub(crate) fn offer(&self, frame: &Rc<Frame>, compressed: bool) {
        if !self.is_open() {
            return;
        }
        let bounds = (self.options.outbox_messages_max, self.options.outbox_bytes_max);
        let policy = self.options.when_full;
        let full = if policy == WhenFull::DropOldest { Full::DropOldest } else { Full::Refuse };
        let mut lost = Lost::default();
        let taken = self.wire.offer(frame.clone(), bounds, full, &mut lost);
        let counters = &self.local.counters;
        if taken {
            counters.add(Count::WsDelivered, 1);
            // The client's window now ends with bytes that this compressor has not seen.
            self.stale.set(self.stale.get() || compressed);
        } else if policy == WhenFull::DropNewest {
            counters.add(Count::WsDroppedNewest, 1);
        }
        self.count(lost);
        if let (WhenFull::Close(code), false) = (policy, taken) {
            counters.add(Count::WsClosedFull, 1);
            self.wire.clear_backlog(); // it would come behind the Close
            self.send_close(code, "too far behind");
        }
    }

    /// Sends a Close, once.
    pub(crate) fn send_close(&self, code: u16, reason: &str) {
        let close = self.close.get();
        if close.sent.is_some() || self.wire.is_dead() {
            return;
        }
        self.close.set(Closing { sent: Some(code), ..close });
        if self.wire.has_backlog() && !self.streaming.get() {
            let mut bytes = Vec::new();
            frame::close(&mut bytes, code, reason);
            let frame = Rc::new(Frame { bytes: bytes.into(), key: 0 });
            self.wire.offer(frame, (usize::MAX, usize::MAX), Full::Refuse, &mut Lost::default());
        } else {
            self.wire.write(|out| frame::close(out, code, reason));
        }
    }

    /// Writes a control frame between two others.
    pub(crate) fn control(&self, control: Control, payload: &[u8]) {
        if self.close.get().sent.is_none() {
            self.wire.write(|out| frame::control(out, control, payload));
        }
    }

    /// A piece of a message in fragments.
    pub(crate) fn fragment(&self, opcode: OpCode, last: bool, bytes: &[u8]) {
        self.wire.write(|out| {
            frame::head(out, opcode, last, false, bytes.len());
            out.extend_from_slice(bytes);
        });
    }

    pub(crate) fn set_streaming(&self, streaming: bool) {
        self.streaming.set(streaming);
        self.wire.hold_backlog(streaming);
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.streaming.get()
    }
}
