//! What a client sends, as messages: frames put together, unmasked in place, checked as they come.

use std::mem;

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::deflate::{Inflater, TAIL};
use super::{INVALID, Kind, PROTOCOL, TOO_LARGE, Violation, frame, mask};

/// One connection's receiving side.
#[derive(Default)]
pub(crate) struct Incoming {
    /// Bytes as they came; those before `at` are done with.
    buf: Vec<u8>,
    at: usize,
    /// A message of which a part is here. Boxed: a socket that waits holds no room for it.
    partial: Option<Box<Partial>>,
    inflater: Option<Box<Inflater>>,
    /// Nothing more is read: a Close came, or something that is no WebSocket.
    over: bool,
}

/// What a connection takes.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) message_bytes_max: usize,
    pub(crate) frame_bytes_max: usize,
    /// permessage-deflate is agreed on.
    pub(crate) deflate: bool,
    /// The client's compressor goes on from message to message.
    pub(crate) takeover: bool,
    /// Messages are wanted in parts, as they come.
    pub(crate) parts: bool,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A whole message: `bytes` from `start` on.
    Message {
        kind: Kind,
        bytes: Vec<u8>,
        start: usize,
    },
    /// Some bytes of one.
    Part {
        kind: Kind,
        bytes: Vec<u8>,
        last: bool,
    },
    Ping(Vec<u8>),
    Pong,
    Close {
        code: u16,
        reason: String,
    },
}

struct Begun {
    left_bytes: u64,
    key: [u8; 4],
    phase: usize,
    last: bool,
    /// Of what ends each compressed message, so much is inflated.
    tail_bytes: usize,
}

struct Partial {
    /// The data frame of which a part is here.
    frame: Option<Begun>,
    kind: Kind,
    compressed: bool,
    /// No payload has come yet.
    empty: bool,
    bytes: Vec<u8>,
    /// So many of `bytes` are known to be text.
    checked: usize,
}

impl Incoming {
    /// Adds what has come, and gives back what of the buffer is free for others.
    pub(crate) fn feed(&mut self, take: impl FnOnce(&mut Vec<u8>)) {
        if self.at > 0 {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        take(&mut self.buf);
    }

    /// The buffer, if nothing waits in it.
    pub(crate) fn take_idle(&mut self) -> Vec<u8> {
        if self.at < self.buf.len() {
            return Vec::new();
        }
        self.at = 0;
        mem::take(&mut self.buf)
    }

    /// The next whole thing that is here; none if more must come first. `spare` gives buffers.
    pub(crate) fn next(
        &mut self,
        rules: &Rules,
        spare: impl Fn() -> Vec<u8>,
    ) -> Result<Option<Item>, Violation> {
        if self.over {
            return Ok(None);
        }
        let next = self.step(rules, spare);
        self.over = matches!(next, Err(_) | Ok(Some(Item::Close { .. })));
        next
    }

    fn step(
        &mut self,
        rules: &Rules,
        spare: impl Fn() -> Vec<u8>,
    ) -> Result<Option<Item>, Violation> {
        loop {
            if self.partial.as_ref().is_none_or(|it| it.frame.is_none()) {
                let here = &self.buf[self.at..];
                let Some(head) = frame::parse(here, rules.deflate)? else { return Ok(None) };
                let whole = (here.len() - head.bytes) as u64 >= head.payload_bytes;
                let data = match head.opcode {
                    OpCode::Control(control) if whole => {
                        return self.control(control, &head).map(Some);
                    }
                    OpCode::Control(_) => return Ok(None),
                    OpCode::Data(data) => data,
                };
                if !rules.parts
                    && let Some(item) = self.whole_message(data, &head, whole, rules, &spare)?
                {
                    return Ok(Some(item));
                }
                self.begin(data, &head, rules, &spare)?;
            }
            let ended = self.take_payload(rules)?;
            if let Some(item) = self.finish_frame(ended, rules, &spare)? {
                return Ok(Some(item));
            }
            if !ended {
                return Ok(None);
            }
        }
    }

    /// A message in one frame that is all here needs no second copy.
    #[inline]
    fn whole_message(
        &mut self,
        data: Data,
        head: &frame::Head,
        whole: bool,
        rules: &Rules,
        spare: &impl Fn() -> Vec<u8>,
    ) -> Result<Option<Item>, Violation> {
        let kind = match data {
            Data::Text => Kind::Text,
            Data::Binary => Kind::Binary,
            _ => return Ok(None),
        };
        let fits = head.payload_bytes <= rules.message_bytes_max.min(rules.frame_bytes_max) as u64;
        if !whole || !head.last || head.compressed || self.partial.is_some() || !fits {
            return Ok(None);
        }
        let start = self.at + head.bytes;
        let end = start + head.payload_bytes as usize;
        let payload = &mut self.buf[start..end];
        mask::apply(payload, head.key, 0);
        if kind == Kind::Text && simdutf8::basic::from_utf8(payload).is_err() {
            return Err(NOT_TEXT);
        }
        if end == self.buf.len() {
            self.at = 0;
            return Ok(Some(Item::Message { kind, bytes: mem::take(&mut self.buf), start }));
        }
        let mut bytes = spare();
        bytes.extend_from_slice(&self.buf[start..end]);
        self.at = end;
        Ok(Some(Item::Message { kind, bytes, start: 0 }))
    }

    /// A data frame begins, and with it perhaps a message.
    fn begin(
        &mut self,
        data: Data,
        head: &frame::Head,
        rules: &Rules,
        spare: &impl Fn() -> Vec<u8>,
    ) -> Result<(), Violation> {
        let refuse = |reason| Err(Violation { code: PROTOCOL, reason });
        let kind = match data {
            Data::Text => Some(Kind::Text),
            Data::Binary => Some(Kind::Binary),
            _ => None,
        };
        match (kind, &self.partial) {
            (Some(_), Some(_)) => return refuse("a message within a message"),
            (None, None) => return refuse("a continuation of nothing"),
            (None, Some(_)) if head.compressed => return refuse("RSV1 within a message"),
            _ => {}
        }
        let held = self.partial.as_ref().map_or(0, |it| it.bytes.len()) as u64;
        let compressed = self.partial.as_ref().map_or(head.compressed, |it| it.compressed);
        // What cannot be compressed grows: nine bits for eight, and what blocks begin with.
        let least_bytes = match compressed {
            true => (head.payload_bytes - head.payload_bytes / 8).saturating_sub(BLOCK_BYTES),
            false => head.payload_bytes,
        };
        let message_fits =
            rules.parts || held.saturating_add(least_bytes) <= rules.message_bytes_max as u64;
        if head.payload_bytes > rules.frame_bytes_max as u64 || !message_fits {
            return Err(TOO_MUCH);
        }
        self.at += head.bytes;
        let (left_bytes, key, last) = (head.payload_bytes, head.key, head.last);
        let frame = Some(Begun { left_bytes, key, phase: 0, last, tail_bytes: 0 });
        match (kind, &mut self.partial) {
            (Some(kind), _) => {
                let (empty, bytes, checked) = (true, spare(), 0);
                let partial = Partial { frame, kind, compressed, empty, bytes, checked };
                self.partial = Some(Box::new(partial));
            }
            (None, Some(partial)) => partial.frame = frame,
            (None, None) => {}
        }
        Ok(())
    }

    /// Moves what is here of the frame into its message. True at the frame's end.
    fn take_payload(&mut self, rules: &Rules) -> Result<bool, Violation> {
        let Some(message) = self.partial.as_deref_mut() else { return Ok(true) };
        let Some(frame) = &mut message.frame else { return Ok(true) };
        let here = self.buf.len() - self.at;
        let len = here.min(usize::try_from(frame.left_bytes).unwrap_or(usize::MAX));
        let payload = &mut self.buf[self.at..self.at + len];
        mask::apply(payload, frame.key, frame.phase);
        message.empty &= len == 0;
        let mut taken = len;
        let mut more = false;
        if message.compressed {
            // A part has room for a character at least.
            let bytes_max = rules.message_bytes_max.max(if rules.parts { 4 } else { 0 });
            let inflater = self.inflater.get_or_insert_with(|| Box::new(Inflater::new()));
            taken = inflater.add(payload, &mut message.bytes, bytes_max)?;
            more = message.bytes.len() > bytes_max;
            if !more && len as u64 == frame.left_bytes && frame.last && !message.empty {
                let tail = &TAIL[frame.tail_bytes..];
                frame.tail_bytes += inflater.add(tail, &mut message.bytes, bytes_max)?;
                more = message.bytes.len() > bytes_max;
            }
            if more && !rules.parts {
                return Err(TOO_MUCH);
            }
            // It is unmasked again when its turn has come.
            mask::apply(&mut payload[taken..], frame.key, frame.phase + taken);
        } else {
            message.bytes.extend_from_slice(payload);
        }
        self.at += taken;
        frame.phase = (frame.phase + taken) % 4;
        frame.left_bytes -= taken as u64;
        let ended = frame.left_bytes == 0 && !more;
        if ended && frame.last && message.compressed && !rules.takeover {
            self.inflater = None;
        }
        if message.kind == Kind::Text {
            message.check()?;
        }
        Ok(ended)
    }

    /// The message, or a part of it, if there is one now.
    fn finish_frame(
        &mut self,
        ended: bool,
        rules: &Rules,
        spare: &impl Fn() -> Vec<u8>,
    ) -> Result<Option<Item>, Violation> {
        let Some(message) = &mut self.partial else { return Ok(None) };
        let last = ended && message.frame.as_ref().is_some_and(|it| it.last);
        if ended {
            message.frame = None;
        }
        let kind = message.kind;
        if last {
            if kind == Kind::Text && message.checked < message.bytes.len() {
                return Err(NOT_TEXT);
            }
            let bytes = mem::take(&mut message.bytes);
            self.partial = None;
            return Ok(Some(match rules.parts {
                true => Item::Part { kind, bytes, last },
                false => Item::Message { kind, bytes, start: 0 },
            }));
        }
        if !rules.parts {
            return Ok(None);
        }
        let known = if kind == Kind::Text { message.checked } else { message.bytes.len() };
        if known == 0 {
            return Ok(None);
        }
        let mut rest = spare();
        rest.extend_from_slice(&message.bytes[known..]);
        message.bytes.truncate(known);
        message.checked = 0;
        let bytes = mem::replace(&mut message.bytes, rest);
        Ok(Some(Item::Part { kind, bytes, last }))
    }

    fn control(&mut self, control: Control, head: &frame::Head) -> Result<Item, Violation> {
        let start = self.at + head.bytes;
        let end = start + head.payload_bytes as usize;
        let payload = &mut self.buf[start..end];
        mask::apply(payload, head.key, 0);
        let item = match control {
            Control::Ping => Item::Ping(payload.to_vec()),
            Control::Pong => Item::Pong,
            Control::Close => {
                let (code, reason) = frame::parse_close(payload)?;
                Item::Close { code, reason: reason.to_owned() }
            }
            Control::Reserved(_) => {
                return Err(Violation { code: PROTOCOL, reason: "an unknown opcode" });
            }
        };
        self.at = end;
        Ok(item)
    }
}

impl Partial {
    /// Text is refused with the first byte that cannot be one's.
    fn check(&mut self) -> Result<(), Violation> {
        match simdutf8::compat::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_TEXT),
        }
        Ok(())
    }
}

/// Blocks of DEFLATE that hold nothing.
const BLOCK_BYTES: u64 = 64;
const TOO_MUCH: Violation = Violation { code: TOO_LARGE, reason: "a message that is too large" };
const NOT_TEXT: Violation = Violation { code: INVALID, reason: "text that is not UTF-8" };

#[cfg(test)]
mod tests {
    use super::super::deflate::Deflater;
    use super::*;

    const RULES: Rules = Rules {
        message_bytes_max: 1_000,
        frame_bytes_max: 2_000,
        deflate: true,
        takeover: true,
        parts: false,
    };

    /// A frame as a client sends it.
    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let (key, mut out) = ([9, 8, 7, 6], vec![first]);
        match payload.len() {
            len @ ..126 => out.push(0x80 | len as u8),
            len => {
                out.push(0xfe);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(&key);
        let start = out.len();
        out.extend_from_slice(payload);
        mask::apply(&mut out[start..], key, 0);
        out
    }

    fn squeezed(bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::new(6, 15).add(bytes.as_ref(), true, &mut out);
        out
    }

    /// What cannot be compressed.
    fn noise(len: u32) -> Vec<u8> {
        (0..len).map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8 ^ it as u8).collect()
    }

    /// Everything in it, in words, whatever pieces it comes in.
    fn read(bytes: &[u8], piece: usize, rules: &Rules) -> String {
        let (mut incoming, mut seen) = (Incoming::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            incoming.feed(|buf| buf.extend_from_slice(piece));
            loop {
                match incoming.next(rules, Vec::new) {
                    Ok(None) => break,
                    Ok(Some(item)) => seen.push(words(item)),
                    Err(violation) => {
                        seen.push(format!("!{}", violation.code));
                        assert_eq!(incoming.next(rules, Vec::new), Ok(None), "it is over");
                    }
                }
            }
        }
        seen.join(" ")
    }

    fn words(item: Item) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match item {
            Item::Message { kind: Kind::Text, bytes, start } => text(&bytes[start..]),
            Item::Message { bytes, start, .. } => format!("#{}", bytes.len() - start),
            Item::Part { bytes, last, .. } => text(&bytes) + if last { "." } else { "-" },
            Item::Ping(payload) => format!("ping({})", text(&payload)),
            Item::Pong => "pong".into(),
            Item::Close { code, reason } => format!("close({code}{reason})"),
        }
    }

    #[test]
    fn the_same_in_any_pieces() {
        let cat = |frames: &[Vec<u8>]| frames.concat();
        let euro = "\u{20ac}".as_bytes();
        let cases: &[(Vec<u8>, &str)] = &[
            (client(0x81, b"hi"), "hi"),
            (cat(&[client(0x81, b"a"), client(0x82, &[0; 300]), client(0x81, b"")]), "a #300 "),
            (cat(&[client(0x01, b"a"), client(0x00, b"b"), client(0x80, b"c")]), "abc"),
            (cat(&[client(0x01, b"a"), client(0x89, b"?"), client(0x80, b"c")]), "ping(?) ac"),
            (cat(&[client(0x01, &euro[..1]), client(0x80, &euro[1..])]), "\u{20ac}"),
            (client(0x81, &euro[..2]), "!1007"),
            (cat(&[client(0x01, b"a\xff"), client(0x80, b"b")]), "!1007"),
            (cat(&[client(0x01, b"a"), client(0x81, b"b")]), "!1002"),
            (client(0x80, b"a"), "!1002"),
            (cat(&[client(0xc1, &squeezed("hello")), client(0xc1, b"\0")]), "hello "),
            (
                cat(&[
                    client(0x41, &squeezed("hello")[..2]),
                    client(0x80, &squeezed("hello")[2..]),
                ]),
                "hello",
            ),
            (cat(&[client(0x41, b"\0"), client(0xc0, b"")]), "!1002"),
            (client(0xc1, &squeezed("a".repeat(1_000))), &"a".repeat(1_000)),
            (client(0xc1, &squeezed("a".repeat(1_001))), "!1009"),
            (client(0xc1, b"\xff\xff"), "!1007"),
            // As large as may be, and larger for being compressed; compressed, and yet nothing.
            (client(0xc2, &squeezed(noise(1_000))), "#1000"),
            (client(0xc2, &squeezed(noise(1_001))), "!1009"),
            (cat(&[client(0xc1, b""), client(0xc1, &squeezed("hello"))]), " hello"),
            (client(0x82, &[0; 1_001]), "!1009"),
            (cat(&[client(0x02, &[0; 600]), client(0x80, &[0; 401])]), "!1009"),
            (
                cat(&[client(0x8a, b""), client(0x88, b"\x03\xe8bye"), client(0x81, b"late")]),
                "pong close(1000bye)",
            ),
            (client(0x88, b"\x03"), "!1002"),
            (vec![0x81, 0x02, b'h', b'i'], "!1002"),
        ];
        for (bytes, wanted) in cases {
            for piece in [1, 2, 3, 7, 64, bytes.len()] {
                assert_eq!(read(bytes, piece, &RULES), *wanted, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn parts_that_are_inflated_have_no_bound() {
        let rules = Rules { message_bytes_max: 4, parts: true, ..RULES };
        let text = "\u{20ac}".repeat(30_000);
        let bytes = client(0xc1, &squeezed(&text));
        for piece in [1, 7, bytes.len()] {
            let found = read(&bytes, piece, &rules);
            assert_eq!(found.replace("- ", ""), format!("{text}."), "in pieces of {piece}");
        }
    }

    #[test]
    fn parts_have_no_bound_and_do_not_cut_characters() {
        let rules = Rules { message_bytes_max: 4, parts: true, ..RULES };
        let bytes = [client(0x01, "a\u{20ac}".as_bytes()), client(0x80, b"long enough")].concat();
        assert_eq!(read(&bytes, bytes.len(), &rules), "a\u{20ac}- long enough.");
        assert_eq!(read(&bytes, 8, &rules), "a- \u{20ac}- long eno- ugh.");
    }
}
