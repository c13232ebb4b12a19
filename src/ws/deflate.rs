//! permessage-deflate (RFC 7692): a message's bytes, squeezed and bounded.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{INVALID, Violation};

/// The window that zlib may use at most.
pub(crate) const WINDOW_BITS_MAX: u8 = 15;

/// Every message ends with these bytes, which are not sent (section 7.2.1).
pub(crate) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Room that an output grows by.
const STEP_BYTES: usize = 4 * 1024;

/// One window's compressor.
pub(crate) struct Deflater(Compress);

impl Deflater {
    /// `level` 1 (fast) to 9, `window_bits` 9 to 15.
    pub(crate) fn new(level: u32, window_bits: u8) -> Deflater {
        Deflater(Compress::new_with_window_bits(Compression::new(level), false, window_bits))
    }

    /// Adds a slice of a message; the `last` one ends it.
    pub(crate) fn add(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        let flush = if last { FlushCompress::Sync } else { FlushCompress::None };
        let mut rest = bytes;
        loop {
            // zlib asks for room beyond the flush, or it writes the marker again.
            out.reserve(STEP_BYTES.max(rest.len() / 2));
            let before = self.0.total_in();
            let status = self.0.compress_vec(rest, out, flush);
            rest = &rest[(self.0.total_in() - before) as usize..];
            let full = out.len() == out.capacity();
            if rest.is_empty() && !full || matches!(status, Ok(Status::BufError) | Err(_)) {
                break;
            }
        }
        if last && out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        } else if last {
            out.push(0); // zlib flushes nothing twice: an empty block (section 7.2.3.6)
        }
    }

    /// Forgets what went before: the next message stands alone.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

/// One window's decompressor.
pub(crate) struct Inflater(Decompress);

impl Inflater {
    pub(crate) fn new() -> Inflater {
        Inflater(Decompress::new_with_window_bits(false, WINDOW_BITS_MAX))
    }

    /// Adds a slice of a compressed message to `out`, and says how much of it was taken: all, and
    /// all that is in it is out, unless `out` now has more than `bytes_max`.
    pub(crate) fn add(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<usize, Violation> {
        let mut rest = bytes;
        loop {
            let room = bytes_max.saturating_sub(out.len()).saturating_add(1);
            out.reserve(room.min(STEP_BYTES.max(rest.len() * 2)));
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress_vec(rest, out, FlushDecompress::Sync);
            let taken = (self.0.total_in() - before_in) as usize;
            let made = self.0.total_out() - before_out;
            rest = &rest[taken..];
            match status {
                Err(_) => return Err(Violation { code: INVALID, reason: "bad compressed data" }),
                // A final block in the middle of the connection (section 7.2.3.5).
                Ok(Status::StreamEnd) => self.0.reset(false),
                Ok(_) => {}
            }
            let full = out.len() == out.capacity();
            if out.len() > bytes_max || rest.is_empty() && !full {
                return Ok(bytes.len() - rest.len());
            }
            if taken == 0 && made == 0 && !full {
                return Err(Violation { code: INVALID, reason: "bad compressed data" });
            }
        }
    }

    #[cfg(test)]
    fn reset(&mut self) {
        self.0.reset(false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::TOO_LARGE;
    use super::*;

    fn inflate(inflater: &mut Inflater, bytes: &[u8], max: usize) -> Result<Vec<u8>, u16> {
        let mut out = Vec::new();
        for slice in bytes.chunks(3).chain([&TAIL[..]]) {
            inflater.add(slice, &mut out, max).map_err(|it| it.code)?;
            if out.len() > max {
                return Err(TOO_LARGE);
            }
        }
        Ok(out)
    }

    #[test]
    fn what_is_squeezed_comes_back() {
        let long: Vec<u8> =
            (0..20_000u32).flat_map(|it| it.wrapping_mul(it).to_le_bytes()).collect();
        let zeros = vec![0; 300_000];
        for bits in [9, 12, WINDOW_BITS_MAX] {
            let (mut deflater, mut inflater) = (Deflater::new(6, bits), Inflater::new());
            for takeover in [true, false] {
                for message in [&b"Hello"[..], b"", b"", &long, &zeros, b"x", b"Hello"] {
                    let mut squeezed = Vec::new();
                    let (one, two) = message.split_at(message.len() / 2);
                    deflater.add(one, false, &mut squeezed);
                    deflater.add(two, true, &mut squeezed);
                    assert!(!squeezed.ends_with(&TAIL));
                    let back = inflate(&mut inflater, &squeezed, 1 << 20).expect("valid");
                    assert!(back == message, "{bits} {}", message.len());
                    if !takeover {
                        deflater.reset();
                        inflater.reset();
                    }
                }
            }
        }
    }

    #[test]
    fn examples_of_the_rfc_and_their_enemies() {
        // Sections 7.2.3.1, 7.2.3.3 to 5; then what is no DEFLATE.
        type Row<'a> = (&'a [u8], usize, Result<&'a [u8], u16>);
        let cases: &[Row<'_>] = &[
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5, Ok(b"Hello")),
            (&[0x00, 0x05, 0x00, 0xfa, 0xff, b'H', b'e', b'l', b'l', b'o', 0x00], 5, Ok(b"Hello")),
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], 5, Ok(b"Hello")),
            (&[0xf2, 0x48, 0x05, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0], 5, Ok(b"Hello")),
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 4, Err(TOO_LARGE)),
            (&[0xff, 0xff, 0xff], 9, Err(INVALID)),
            (&[0], 9, Ok(b"")),
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], usize::MAX, Ok(b"Hello")),
        ];
        for (bytes, max, wanted) in cases {
            let found = inflate(&mut Inflater::new(), bytes, *max);
            assert_eq!(found, wanted.map(<[u8]>::to_vec), "{bytes:?}");
        }
        let mut bomb = Vec::new();
        Deflater::new(9, 15).add(&vec![0; 50 << 20], true, &mut bomb);
        assert!(bomb.len() < 100_000);
        let mut out = Vec::new();
        let taken = Inflater::new().add(&bomb, &mut out, 1 << 20).expect("valid");
        assert!(taken < bomb.len() && out.len() > 1 << 20);
        assert!(out.capacity() <= 2 << 20, "{}", out.capacity());
    }
}
