//! What the WebSocket servers share: `/echo` sends every message back, `/room` is one room whose
//! members all get, as it is, each text that begins with `!`. Nothing is compressed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// How many messages a broadcast channel holds for those that lag.
pub const ROOM_MESSAGES: usize = 1024;
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A frame from a client, still masked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub opcode: u8,
    pub head_bytes: usize,
    pub payload_bytes: usize,
    pub mask: [u8; 4],
}

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;

/// What `sec-websocket-accept` answers.
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(MAGIC).finalize())
}

impl Frame {
    /// None: not whole yet. These benches fragment no message, so FIN is not looked at.
    #[inline]
    pub fn parse(input: &[u8]) -> Option<Frame> {
        let opcode = input.first()? & 0x0f;
        let (payload_bytes, at) = match input.get(1)? & 0x7f {
            126 => (u16::from_be_bytes(input.get(2..4)?.try_into().ok()?).into(), 4),
            127 => (u64::from_be_bytes(input.get(2..10)?.try_into().ok()?) as usize, 10),
            small => (small.into(), 2),
        };
        let mask = input.get(at..at + 4)?.try_into().ok()?;
        let whole = input.len() - at - 4 >= payload_bytes;
        whole.then_some(Frame { opcode, head_bytes: at + 4, payload_bytes, mask })
    }

    pub fn bytes(&self) -> usize {
        self.head_bytes + self.payload_bytes
    }
}

/// Takes the mask off, eight bytes at a time.
#[inline]
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u64::from_ne_bytes([mask, mask].concat().try_into().expect("twice four"));
    let mut words = payload.chunks_exact_mut(8);
    for eight in &mut words {
        let masked = u64::from_ne_bytes((&*eight).try_into().expect("eight"));
        eight.copy_from_slice(&(masked ^ word).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// The head of a whole message to a client, and its length.
#[inline]
pub fn head(opcode: u8, payload_bytes: usize) -> ([u8; 10], usize) {
    let mut head = [0; 10];
    head[0] = 0x80 | opcode;
    match payload_bytes {
        0..126 => {
            head[1] = payload_bytes as u8;
            (head, 2)
        }
        126..=0xffff => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            (head, 4)
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            (head, 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts() {
        // The example of RFC 6455.
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames() {
        let mask = [1, 2, 3, 4];
        for len in [0, 1, 7, 8, 13, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let (mut head, head_bytes) = head(TEXT, len);
            head[1] |= 0x80;
            let mut bytes = [&head[..head_bytes], &mask, &payload].concat();
            unmask(&mut bytes[head_bytes + 4..], mask);
            assert_eq!(Frame::parse(&bytes[..bytes.len() - 1]), None, "{len}");
            let frame = Frame::parse(&bytes).unwrap();
            assert_eq!((frame.opcode, frame.payload_bytes, frame.mask), (TEXT, len, mask));
            assert_eq!(frame.bytes(), bytes.len());
            unmask(&mut bytes[frame.head_bytes..], mask);
            assert_eq!(bytes[frame.head_bytes..], payload);
        }
    }
}
