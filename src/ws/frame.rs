//! One frame's header, both ways (RFC 6455 section 5.2), and the payload of a Close.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::{INVALID, Kind, PROTOCOL, Violation};

/// A header that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) last: bool,
    pub(crate) compressed: bool,
    pub(crate) opcode: OpCode,
    pub(crate) key: [u8; 4],
    pub(crate) payload_bytes: u64,
    /// Bytes of the header itself.
    pub(crate) bytes: usize,
}

/// Payload of a control frame (section 5.5).
pub(crate) const CONTROL_BYTES_MAX: u64 = 125;
/// A reason in a Close, behind the two bytes of its code.
pub(crate) const REASON_BYTES_MAX: usize = 123;

/// Reads a client's header; none if it is not whole yet. `deflate`: RSV1 is agreed on.
pub(crate) fn parse(bytes: &[u8], deflate: bool) -> Result<Option<Head>, Violation> {
    let refuse = |reason| Err(Violation { code: PROTOCOL, reason });
    // Said before the rest has come: what follows such a byte is of no use.
    if let Some(first) = bytes.first() {
        if matches!(first & 0x0f, 3..=7 | 11..=15) {
            return refuse("an unknown opcode");
        }
        if first & 0x30 != 0 || (first & 0x40 != 0 && !deflate) {
            return refuse("a reserved bit is set");
        }
    }
    if bytes.get(1).is_some_and(|second| second & 0x80 == 0) {
        return refuse("a frame of a client is not masked");
    }
    let mut cursor = Cursor::new(bytes);
    let Ok(parsed) = FrameHeader::parse(&mut cursor) else {
        return refuse("a frame's header is not valid");
    };
    let Some((header, payload_bytes)) = parsed else { return Ok(None) };
    let head = Head {
        last: header.is_final,
        compressed: header.rsv1,
        opcode: header.opcode,
        key: header.mask.unwrap_or_default(),
        payload_bytes,
        bytes: cursor.position() as usize,
    };
    if header.len(payload_bytes) != head.bytes || payload_bytes >> 63 != 0 {
        return refuse("a length takes more bytes than it needs");
    }
    if let OpCode::Control(_) = head.opcode {
        if !head.last {
            return refuse("a control frame in fragments");
        }
        if payload_bytes > CONTROL_BYTES_MAX {
            return refuse("a control frame of more than 125 bytes");
        }
        if head.compressed {
            return refuse("a compressed control frame");
        }
    }
    Ok(Some(head))
}

/// Writes a server's header: it is never masked.
#[inline]
pub(crate) fn head(out: &mut Vec<u8>, opcode: OpCode, last: bool, compressed: bool, bytes: usize) {
    let (rsv2, rsv3, mask) = (false, false, None);
    let header = FrameHeader { is_final: last, rsv1: compressed, rsv2, rsv3, opcode, mask };
    header.format(bytes as u64, out).expect("a Vec takes what it is given");
}

/// The header of a whole, plain frame; its length.
pub(crate) fn head_of(into: &mut [u8; HEAD_BYTES_MAX], opcode: OpCode, bytes: usize) -> usize {
    let (rsv1, rsv2, rsv3, mask) = (false, false, false, None);
    let header = FrameHeader { is_final: true, rsv1, rsv2, rsv3, opcode, mask };
    let mut rest = &mut into[..];
    header.format(bytes as u64, &mut rest).expect("the longest header fits");
    HEAD_BYTES_MAX - rest.len()
}

/// A whole frame.
#[inline]
pub(crate) fn whole(out: &mut Vec<u8>, opcode: OpCode, compressed: bool, payload: &[u8]) {
    out.reserve(payload.len() + HEAD_BYTES_MAX);
    head(out, opcode, true, compressed, payload.len());
    out.extend_from_slice(payload);
}

pub(crate) fn control(out: &mut Vec<u8>, control: Control, payload: &[u8]) {
    whole(out, OpCode::Control(control), false, payload);
}

/// A Close; 1005 is one without a code. A reason that is too long is cut.
pub(crate) fn close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut payload = Vec::with_capacity(2 + REASON_BYTES_MAX);
    if code != NO_CODE {
        payload.extend_from_slice(&code.to_be_bytes());
        let end = (0..=reason.len().min(REASON_BYTES_MAX)).rfind(|it| reason.is_char_boundary(*it));
        payload.extend_from_slice(&reason.as_bytes()[..end.unwrap_or(0)]);
    }
    control(out, Control::Close, &payload);
}

/// Code and reason of a Close (section 5.5.1).
pub(crate) fn parse_close(payload: &[u8]) -> Result<(u16, &str), Violation> {
    match payload {
        [] => Ok((NO_CODE, "")),
        [_] => Err(Violation { code: PROTOCOL, reason: "a Close with half a code" }),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !CloseCode::from(code).is_allowed() {
                return Err(Violation { code: PROTOCOL, reason: "a close code that is not sent" });
            }
            match simdutf8::basic::from_utf8(reason) {
                Ok(reason) => Ok((code, reason)),
                Err(_) => Err(Violation { code: INVALID, reason: "a reason that is not UTF-8" }),
            }
        }
    }
}

/// No code was sent (section 7.1.5).
pub(crate) const NO_CODE: u16 = 1005;
/// The longest header of a server.
pub(crate) const HEAD_BYTES_MAX: usize = 10;

impl Kind {
    pub(crate) fn opcode(self) -> OpCode {
        OpCode::Data(match self {
            Kind::Text => Data::Text,
            Kind::Binary => Data::Binary,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_clients() {
        // (bytes, deflate) -> header bytes and payload bytes, or why not
        type Row<'a> = (&'a [u8], bool, Result<Option<(usize, u64)>, &'a str>);
        let cases: &[Row<'_>] = &[
            (&[], false, Ok(None)),
            (&[0x81], false, Ok(None)),
            (&[0x81, 0x85, 1, 2, 3], false, Ok(None)),
            (&[0x81, 0x85, 1, 2, 3, 4], false, Ok(Some((6, 5)))),
            (&[0x81, 0xfe, 0, 126, 1, 2, 3, 4], false, Ok(Some((8, 126)))),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], false, Ok(Some((14, 65536)))),
            (&[0x81, 0xfe, 0, 125, 1, 2, 3, 4], false, Err("a length takes more bytes")),
            (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4], false, Err("a length takes")),
            (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4], false, Err("a length")),
            (&[0x81, 0x05], false, Err("a frame of a client is not masked")),
            (&[0x83], false, Err("an unknown opcode")),
            (&[0x8b], false, Err("an unknown opcode")),
            (&[0x91], true, Err("a reserved bit")),
            (&[0xa1], true, Err("a reserved bit")),
            (&[0xc1], false, Err("a reserved bit")),
            (&[0xc1, 0x80, 0, 0, 0, 0], true, Ok(Some((6, 0)))),
            (&[0xc9, 0x80, 0, 0, 0, 0], true, Err("a compressed control")),
            (&[0x09, 0x80, 0, 0, 0, 0], false, Err("a control frame in fragments")),
            (&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], false, Err("a control frame of more")),
        ];
        for (bytes, deflate, wanted) in cases {
            match (parse(bytes, *deflate), wanted) {
                (Ok(found), Ok(wanted)) => {
                    let found = found.map(|it| (it.bytes, it.payload_bytes));
                    assert_eq!(found, *wanted, "{bytes:?}");
                }
                (Err(found), Err(wanted)) => {
                    assert_eq!(found.code, PROTOCOL);
                    assert!(found.reason.starts_with(wanted), "{bytes:?}: {}", found.reason);
                }
                (found, _) => panic!("{bytes:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn closes() {
        type Row<'a> = (&'a [u8], Result<(u16, &'a str), u16>);
        let cases: &[Row<'_>] = &[
            (b"", Ok((NO_CODE, ""))),
            (b"\x03", Err(PROTOCOL)),
            (b"\x03\xe8bye", Ok((1000, "bye"))),
            (b"\x0b\xb8", Ok((3000, ""))),
            (b"\x03\xed", Err(PROTOCOL)),
            (b"\x03\xee", Err(PROTOCOL)),
            (b"\x00\x00", Err(PROTOCOL)),
            (b"\x03\xe8\xff", Err(INVALID)),
        ];
        for (payload, wanted) in cases {
            assert_eq!(parse_close(payload).map_err(|it| it.code), *wanted, "{payload:?}");
        }
        let mut out = Vec::new();
        close(&mut out, 1000, &"\u{e9}".repeat(100));
        assert_eq!(out.len(), 2 + 2 + 122, "cut between two characters");
    }
}
