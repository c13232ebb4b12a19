//! The target `ws_deflate`: what is compressed comes back, and what is not compressed does no harm.

use flate2::{Decompress, FlushDecompress};

use crate::pieces::Pieces;
use crate::ws::deflate::{Deflater, Inflater};

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const BYTES_MAX: usize = 1 << 16;

/// The first byte chooses level, window and takeover, the second the sizes of the pieces. The
/// rest are messages: a byte of how often its bytes are repeated, one of how many they are.
pub fn ws_deflate(data: &[u8]) {
    let [choice, seed, rest @ ..] = data else { return };
    anything(rest, *seed);
    let (level, bits) = (1 + u32::from(choice % 9), 9 + choice / 9 % 7);
    let takeover = choice / 63 % 2 == 0;
    let mut deflater = Deflater::new(level, bits);
    let mut flate = Decompress::new_with_window_bits(false, bits);
    let mut inflater = Inflater::new();
    let mut rest = rest;
    while let [repeat, len, more @ ..] = rest {
        let (bytes, more) = more.split_at(usize::from(*len).min(more.len()));
        rest = more;
        let message = bytes.repeat(1 + usize::from(*repeat));
        let mut squeezed = Vec::new();
        let sent = if *repeat % 3 == 0 { bytes.len() } else { 0 };
        for piece in Pieces::new(&message[..sent], *seed) {
            deflater.add(piece, false, &mut squeezed);
        }
        let (one, two) = message[sent..].split_at((message.len() - sent) / 2);
        deflater.add(one, false, &mut squeezed);
        deflater.add(two, true, &mut squeezed);
        assert!(!squeezed.is_empty() && !squeezed.ends_with(&TAIL));
        assert!(squeezed.capacity() <= 3 * message.len() + (64 << 10));

        let whole = [&squeezed[..], &TAIL].concat();
        let mut out = Vec::with_capacity(message.len() + 1);
        flate.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("valid");
        assert_eq!(out, message);

        let mut out = Vec::new();
        for piece in Pieces::new(&squeezed, seed.wrapping_add(*len)) {
            inflater.add(piece, &mut out, message.len()).expect("valid");
        }
        inflater.add(&TAIL, &mut out, message.len()).expect("valid");
        assert_eq!(out, message);
        if !takeover {
            deflater.reset();
            (flate, inflater) = (Decompress::new_with_window_bits(false, bits), Inflater::new());
        }
    }
}

/// Bytes that may be no DEFLATE at all: the same in any pieces, and never more than wanted.
fn anything(bytes: &[u8], seed: u8) {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut out, mut inflater) = (Vec::new(), Inflater::new());
        for piece in pieces.chain([&TAIL[..]]) {
            let taken = inflater.add(piece, &mut out, BYTES_MAX).map_err(|it| it.code)?;
            assert!(out.capacity() <= 3 * BYTES_MAX);
            if out.len() > BYTES_MAX {
                return Err(1009);
            }
            assert_eq!(taken, piece.len());
        }
        Ok::<_, u16>(out)
    };
    let whole = read(&mut std::iter::once(bytes));
    assert_eq!(read(&mut Pieces::new(bytes, seed)), whole);
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/ws_deflate")).unwrap()
        {
            super::ws_deflate(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
