//! What goes over a broker: a publication, who sends it, and its number there.
//!
//! ```text
//! version 1 | node 16 | number 8 | kind 1 | key 8 | id 8 4 8 | room's length 2 | room | payload
//! ```
//! Numbers are in network order. The version comes first, so that every later one can be told.

use crate::app::ws::publish::{Publication, PublicationId};
use crate::limits::ROOM_NAME_BYTES_MAX;
use crate::limits::cluster::PAYLOAD_BYTES_MAX;
use crate::ws::Kind;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 16 + 8 + 1 + 8 + 8 + 4 + 8 + 2;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// One that was opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub(super) node: u128,
    /// Which of the node's publications it is, from 1 on.
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) key: u64,
    pub(super) id: PublicationId,
    pub(super) room: &'a str,
    pub(super) payload: &'a [u8],
}

/// The bytes that go to the broker.
pub(super) fn seal(node: u128, number: u64, publication: &Publication) -> Vec<u8> {
    let (room, payload) = (publication.room.as_bytes(), publication.payload());
    let id = publication.id;
    let mut out = Vec::with_capacity(HEAD_BYTES + room.len() + payload.len());
    out.push(VERSION);
    out.extend(node.to_be_bytes());
    out.extend(number.to_be_bytes());
    out.push(if publication.kind == Kind::Text { TEXT } else { BINARY });
    out.extend(publication.key.to_be_bytes());
    out.extend(id.epoch.to_be_bytes());
    out.extend(id.shard.to_be_bytes());
    out.extend(id.serial.to_be_bytes());
    out.extend((room.len() as u16).to_be_bytes()); // longer ones are not sent
    out.extend(room);
    out.extend(payload);
    out
}

/// Reads bytes that may come from anyone; none if they are not of this version, or not whole.
pub(super) fn open(bytes: &[u8]) -> Option<Envelope<'_>> {
    let rest = &mut &bytes[..];
    let [VERSION] = take(rest)? else { return None };
    let node = u128::from_be_bytes(take(rest)?);
    let number = u64::from_be_bytes(take(rest)?);
    let kind = match take(rest)? {
        [TEXT] => Kind::Text,
        [BINARY] => Kind::Binary,
        _ => return None,
    };
    let key = u64::from_be_bytes(take(rest)?);
    let epoch = u64::from_be_bytes(take(rest)?);
    let shard = u32::from_be_bytes(take(rest)?);
    let serial = u64::from_be_bytes(take(rest)?);
    let room_len = usize::from(u16::from_be_bytes(take(rest)?));
    if room_len > ROOM_NAME_BYTES_MAX {
        return None;
    }
    let (room, payload) = rest.split_at_checked(room_len)?;
    let room = str::from_utf8(room).ok()?;
    // What a socket is told to be text must be.
    let is_sound = kind == Kind::Binary || simdutf8::basic::from_utf8(payload).is_ok();
    if number == 0 || payload.len() > PAYLOAD_BYTES_MAX || !is_sound {
        return None;
    }
    let id = PublicationId { epoch, shard, serial };
    Some(Envelope { node, number, kind, key, id, room, payload })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::limits::Limits;
    use crate::shard::affinity::original_mask;
    use crate::shard::blocking::Blocking;
    use crate::shard::{Local, Place};

    const ID: PublicationId = PublicationId { epoch: 7, shard: 3, serial: u64::MAX };

    fn local() -> Local {
        let blocking = Blocking::new(1, 1, original_mask().expect("a mask"));
        let place = Place { id: 0, count: 1, core: None, seat: 0 };
        Local::new(place, Limits::default(), Clock::frozen(), blocking)
    }

    fn sealed(room: &str, kind: Kind, payload: &[u8]) -> Vec<u8> {
        seal(u128::MAX - 1, 9, &Publication::foreign(&local(), room, kind, 5, ID, payload))
    }

    #[test]
    fn what_is_sealed_opens() {
        let long = "r".repeat(ROOM_NAME_BYTES_MAX);
        let large = vec![0xff; PAYLOAD_BYTES_MAX];
        let cases: &[(&str, Kind, &[u8])] = &[
            ("chat", Kind::Text, b"hi"),
            ("", Kind::Text, b""),
            (&long, Kind::Binary, &[0xff, 0]),
            ("large", Kind::Binary, &large),
        ];
        for (room, kind, payload) in cases {
            let bytes = sealed(room, *kind, payload);
            let (node, number) = (u128::MAX - 1, 9);
            let want = Envelope { node, number, kind: *kind, key: 5, id: ID, room, payload };
            assert_eq!(open(&bytes), Some(want));
        }
    }

    #[test]
    fn what_is_none_does_not_open() {
        let good = sealed("chat", Kind::Text, b"hi");
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            bad
        };
        let cases: &[(&str, Vec<u8>)] = &[
            ("nothing", Vec::new()),
            ("no version", with(0, &[0])),
            ("a later version", with(0, &[2])),
            ("number 0", with(17, &[0; 8])),
            ("no kind", with(25, &[0])),
            ("an unknown kind", with(25, &[3])),
            ("a room longer than all", with(54, &[0, 7])),
            ("a room longer than any", with(54, &[0xff, 0xff])),
            ("a room that is no text", with(56, &[0xff])),
            ("a text that is none", with(60, &[0xff])),
            ("too large", sealed("a", Kind::Binary, &vec![0; PAYLOAD_BYTES_MAX + 1])),
        ];
        assert!(open(&good).is_some());
        for (what, bytes) in cases {
            assert_eq!(open(bytes), None, "{what}");
        }
        for len in 0..HEAD_BYTES + 4 {
            assert_eq!(open(&good[..len]), None, "cut to {len}");
        }
    }

    /// Whatever is changed, it opens or it does not.
    #[test]
    fn mutations_do_no_harm() {
        let good = sealed("chat", Kind::Text, "a \u{e9} b".as_bytes());
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        for _ in 0..200_000 {
            let mut bytes = good.clone();
            for _ in 0..=random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(bytes.len() - random() % 3);
            if let Some(envelope) = open(&bytes) {
                assert!(envelope.room.len() + envelope.payload.len() <= bytes.len() - HEAD_BYTES);
            }
        }
    }
}
