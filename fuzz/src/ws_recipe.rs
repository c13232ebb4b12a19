//! What a client sends, made from an input: most of it valid, so that much of it is read.

use crate::ws::Kind;
use crate::ws::deflate::Deflater;
use crate::ws::incoming::{Item, Rules};

/// Bytes of a client, and what must be read out of them.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    /// The first items, messages whole; empty where nothing is known.
    pub(crate) wanted: Vec<Item>,
    /// No compressed frame is in it.
    pub(crate) plain: bool,
}

/// Instructions of three bytes and what they take: see the arms.
pub(crate) fn cook(mut input: &[u8], rules: &Rules) -> Stream {
    let mut stream = Stream { plain: true, ..Stream::default() };
    let mut deflater = None; // it is large
    let mut sure = true;
    while let [what, how, len, rest @ ..] = input {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        input = rest;
        match what % 8 {
            // A message in fragments, perhaps compressed, perhaps with pings in between.
            0..=4 => {
                let kind = if what % 2 == 0 { Kind::Text } else { Kind::Binary };
                let compressed = rules.deflate && how & 1 == 1;
                let mut payload = bytes.repeat(1 + usize::from(how >> 5).pow(3));
                if what % 8 < 4 && kind == Kind::Text {
                    payload = String::from_utf8_lossy(&payload).into_owned().into_bytes();
                }
                let is_text = kind == Kind::Binary || std::str::from_utf8(&payload).is_ok();
                let mut sent = payload.clone();
                if compressed {
                    sent.clear();
                    stream.plain = false;
                    let deflater = deflater.get_or_insert_with(|| Deflater::new(6, 15));
                    if !rules.takeover {
                        deflater.reset();
                    }
                    deflater.add(&payload, true, &mut sent);
                }
                let fragments = 1 + usize::from(how >> 1 & 3);
                let size = sent.len().div_ceil(fragments).max(1);
                let frames: Vec<&[u8]> =
                    if sent.is_empty() { vec![&[]] } else { sent.chunks(size).collect() };
                let fits = rules.parts && (!compressed || payload.len() <= rules.message_bytes_max)
                    || payload.len() <= rules.message_bytes_max;
                sure &= is_text && fits && size <= rules.frame_bytes_max;
                for (at, frame) in frames.iter().enumerate() {
                    let opcode = match (at, kind) {
                        (0, Kind::Text) => 1,
                        (0, Kind::Binary) => 2,
                        _ => 0,
                    };
                    let last = u8::from(at + 1 == frames.len()) << 7;
                    let rsv1 = u8::from(at == 0 && compressed) << 6;
                    stream.frame(last | rsv1 | opcode, frame);
                    if how & 8 != 0 && last == 0 {
                        stream.frame(0x89, &[*how]);
                        stream.want(sure, Item::Ping(vec![*how]));
                    }
                }
                stream.want(sure, Item::Message { kind, bytes: payload, start: 0 });
            }
            5 => {
                let payload = &bytes[..bytes.len().min(125)];
                if how & 1 == 0 {
                    stream.frame(0x89, payload);
                    stream.want(sure, Item::Ping(payload.to_vec()));
                } else {
                    stream.frame(0x8a, payload);
                    stream.want(sure, Item::Pong);
                }
            }
            // Any frame, masked; what it holds is perhaps a code.
            6 => {
                sure = false;
                stream.plain &= how & 0x40 == 0;
                stream.frame(*how, bytes);
            }
            _ => {
                sure = false;
                stream.plain = false;
                stream.bytes.extend_from_slice(bytes);
            }
        }
    }
    stream
}

impl Stream {
    fn want(&mut self, sure: bool, item: Item) {
        if sure {
            self.wanted.push(item);
        }
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        let out = &mut self.bytes;
        let key = [first, payload.len() as u8, 0x5a, out.len() as u8];
        out.push(first);
        match payload.len() {
            len @ ..126 => out.push(0x80 | len as u8),
            len @ ..0x1_0000 => {
                out.push(0xfe);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(0xff);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&key);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}
