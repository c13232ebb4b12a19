//! The target `ws`: the same messages in any pieces, those that were put in, and those that
//! tungstenite reads.

use std::io::{Cursor, Read, Write};

use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::pieces::Pieces;
use crate::ws::Kind;
use crate::ws::incoming::{Incoming, Item, Rules};
use crate::ws_recipe::cook;

const BOUNDS: [usize; 4] = [1 << 20, 5_000, 200, 16];
/// The longest header, a control frame's payload.
const KEPT_BYTES_MAX: usize = 14 + 125;

/// The first byte chooses the rules, the second bounds and whether the rest is a recipe or what
/// a client sends, the third the sizes of the pieces.
pub fn ws(data: &[u8]) {
    let [flags, bounds, seed, rest @ ..] = data else { return };
    let rules = Rules {
        message_bytes_max: BOUNDS[usize::from(bounds & 3)],
        frame_bytes_max: [usize::MAX, 5_000, 200, 16][usize::from(bounds >> 2 & 3)],
        deflate: flags & 1 == 0,
        takeover: flags & 2 == 0,
        parts: flags & 4 != 0,
    };
    let recipe = flags & 8 == 0;
    let stream = if recipe { cook(rest, &rules) } else { Default::default() };
    let bytes = if recipe { &stream.bytes } else { rest };

    let whole = read(std::iter::once(bytes), &rules);
    assert!(whole.items.starts_with(&stream.wanted), "{:?}", whole.items);
    let pieces = read(Pieces::new(bytes, *seed), &rules);
    assert_eq!(pieces.items, whole.items);
    assert_eq!(pieces.failed.is_some(), whole.failed.is_some());
    if recipe && stream.plain || !rules.deflate {
        assert_eq!(pieces.failed, whole.failed);
    } else if let (Some(one), Some(other)) = (pieces.failed, whole.failed) {
        // What is inflated may be too much and no text: which is seen first depends on the pieces.
        assert!(one == other || one != 1002 && other != 1002, "{one} {other}");
    }
    if !rules.parts && (recipe && stream.plain || !rules.deflate) {
        compare(bytes, &rules, &whole);
    }
}

/// What was read; messages are whole, even if they were read in parts.
#[derive(Debug, Default)]
struct Found {
    items: Vec<Item>,
    /// The code that the connection failed with.
    failed: Option<u16>,
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, rules: &Rules) -> Found {
    let mut incoming = Incoming::default();
    let mut found = Found::default();
    let mut open: Option<(Kind, Vec<u8>)> = None;
    let mut fed_bytes = 0;
    for piece in pieces {
        incoming.feed(|buf| {
            assert!(buf.len() <= KEPT_BYTES_MAX, "{} bytes are kept", buf.len());
            buf.extend_from_slice(piece);
        });
        fed_bytes += piece.len();
        loop {
            match incoming.next(rules, Vec::new) {
                Ok(None) => break,
                Ok(Some(Item::Part { kind, bytes, last })) => {
                    assert!(rules.parts && (last || !bytes.is_empty()));
                    assert!(
                        bytes.capacity() <= 3 * (rules.message_bytes_max.max(fed_bytes) + 4_096)
                    );
                    assert!(kind == Kind::Binary || std::str::from_utf8(&bytes).is_ok());
                    let (of, message) = open.get_or_insert_with(|| (kind, Vec::new()));
                    assert_eq!(*of, kind);
                    message.extend_from_slice(&bytes);
                    if last && let Some((kind, bytes)) = open.take() {
                        found.items.push(Item::Message { kind, bytes, start: 0 });
                    }
                }
                Ok(Some(Item::Message { kind, bytes, start })) => {
                    assert!(!rules.parts && bytes.len() - start <= rules.message_bytes_max);
                    assert!(
                        bytes.capacity() <= 3 * (rules.message_bytes_max.max(fed_bytes) + 4_096)
                    );
                    let bytes = bytes[start..].to_vec();
                    assert!(kind == Kind::Binary || std::str::from_utf8(&bytes).is_ok());
                    found.items.push(Item::Message { kind, bytes, start: 0 });
                }
                Ok(Some(item)) => {
                    let closed = matches!(item, Item::Close { .. });
                    found.items.push(item);
                    if closed {
                        is_over(&mut incoming, rules);
                        return found;
                    }
                }
                Err(violation) => {
                    found.failed = Some(violation.code);
                    assert!(matches!(violation.code, 1002 | 1007 | 1009));
                    is_over(&mut incoming, rules);
                    return found;
                }
            }
        }
    }
    found
}

/// Nothing comes out any more, whatever goes in.
fn is_over(incoming: &mut Incoming, rules: &Rules) {
    incoming.feed(|buf| buf.extend_from_slice(b"\x81\x82\0\0\0\0hi"));
    assert_eq!(incoming.next(rules, Vec::new), Ok(None));
}

/// tungstenite takes all that is taken here; here nothing is taken that it does not.
fn compare(bytes: &[u8], rules: &Rules, found: &Found) {
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .max_message_size(Some(rules.message_bytes_max))
        .max_frame_size(Some(BOUNDS[0])); // it holds control frames against it too
    let mut socket =
        WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), Role::Server, Some(config));
    for (at, item) in found.items.iter().enumerate() {
        let theirs = match socket.read() {
            Ok(message) => message,
            Err(error) => panic!("item {at} is {item:?} here, and there {error}"),
        };
        let same = match (item, &theirs) {
            (Item::Message { kind: Kind::Text, bytes, .. }, Message::Text(text)) => {
                bytes == text.as_bytes()
            }
            (Item::Message { kind: Kind::Binary, bytes, .. }, Message::Binary(other)) => {
                bytes[..] == other[..]
            }
            (Item::Ping(payload), Message::Ping(other)) => payload[..] == other[..],
            (Item::Pong, Message::Pong(_)) => true,
            (Item::Close { code, .. }, Message::Close(None)) => *code == 1005,
            (Item::Close { code, reason }, Message::Close(Some(frame))) => {
                *code == u16::from(frame.code) && reason == frame.reason.as_str()
            }
            _ => false,
        };
        assert!(same, "item {at} is {item:?} here, and there {theirs:?}");
    }
    let closed = matches!(found.items.last(), Some(Item::Close { .. }));
    if found.failed.is_none() && !closed {
        let rest = socket.read();
        assert!(
            matches!(
                rest,
                Err(Error::Protocol(_)
                    | Error::Io(_)
                    | Error::ConnectionClosed
                    | Error::Capacity(_)
                    | Error::Utf8(_))
            ),
            "nothing more is here, and there {rest:?}"
        );
    }
}

/// A connection on which nobody listens.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/ws")).unwrap() {
            super::ws(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
