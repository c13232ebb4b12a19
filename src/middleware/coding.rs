//! Content codings (RFC 9110 section 8.4.1), and what each costs.

use std::io::{self, Write};

use crate::limits::{BROTLI_WINDOW_LOG, CODING_SLICE_BYTES};

/// A way to compress an answer (RFC 9110 section 8.4.1).
///
/// ```
/// use soloist::middleware::{Coding, Compress};
///
/// // Where cores are dear: not gzip, which takes the longest of the three.
/// let settings = Compress::new().codings(&[Coding::Zstd, Coding::Brotli]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// `gzip` (RFC 1952), which every client knows.
    Gzip,
}

impl Coding {
    pub(super) const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }
}

/// One body on its way through a coding; what is coded gathers in a buffer of its own.
pub(super) enum Encoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// `bytes` of a body whose length is known: the coder takes no more memory than it needs.
    pub(super) fn new(
        coding: Coding,
        level: u32,
        into: Vec<u8>,
        bytes: Option<usize>,
    ) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Brotli => {
                let window = BROTLI_WINDOW_LOG;
                let coder = brotli::CompressorWriter::new(into, CODING_SLICE_BYTES, level, window);
                Encoder::Brotli(Box::new(coder))
            }
            Coding::Zstd => {
                let mut coder = zstd::stream::write::Encoder::new(into, level.cast_signed())?;
                coder.set_pledged_src_size(bytes.map(|it| it as u64))?;
                Encoder::Zstd(coder)
            }
            Coding::Gzip => {
                let level = flate2::Compression::new(level);
                Encoder::Gzip(flate2::write::GzEncoder::new(into, level))
            }
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Brotli(coder) => {
                coder.write_all(bytes)?;
                coder.flush() // else it holds the shard once in 64 KiB, for four times as long
            }
            Encoder::Zstd(coder) => coder.write_all(bytes),
            Encoder::Gzip(coder) => coder.write_all(bytes),
        }
    }

    /// Moves all that was written so far to `out`, so that the client can decode it.
    pub(super) fn flush_to(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let coded = match self {
            Encoder::Brotli(coder) => {
                coder.flush()?;
                coder.get_mut()
            }
            Encoder::Zstd(coder) => {
                coder.flush()?;
                coder.get_mut()
            }
            Encoder::Gzip(coder) => {
                coder.flush()?;
                coder.get_mut()
            }
        };
        out.append(coded);
        Ok(())
    }

    /// The whole of it, but what was flushed.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Brotli(coder) => Ok(coder.into_inner()),
            Encoder::Zstd(coder) => coder.finish(),
            Encoder::Gzip(coder) => coder.finish(),
        }
    }
}
