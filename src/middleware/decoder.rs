//! One compressed body, decoded piece by piece. Strict: one frame or member, and nothing after it.

use std::io::{self, Read};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use crate::limits::ZSTD_WINDOW_LOG_MAX;

/// Reads from a whole compressed body.
pub(super) enum Decoder<'a> {
    Gzip(Box<GzDecoder<&'a [u8]>>),
    /// The zlib format, as `deflate` is defined (RFC 9110 section 8.4.1.2).
    Deflate(Box<Decompress>, &'a [u8]),
    Brotli(Box<Brotli>, &'a [u8]),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// What [`Decoder::new`] knows, as the value of Accept-Encoding.
pub(super) const NAMES: &str = "gzip, br, zstd, deflate";

impl<'a> Decoder<'a> {
    /// None for a coding that is not known.
    pub(super) fn new(coding: &str, bytes: &'a [u8]) -> io::Result<Option<Decoder<'a>>> {
        let is = |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(coding));
        Ok(if is(&["gzip", "x-gzip"]) {
            Some(Decoder::Gzip(Box::new(GzDecoder::new(bytes))))
        } else if is(&["deflate"]) {
            Some(Decoder::Deflate(Box::new(Decompress::new(true)), bytes))
        } else if is(&["br"]) {
            // Strict: without the extension whose windows take up to a gigabyte.
            let alloc = StandardAlloc::default;
            let state = BrotliState::new_strict(alloc(), alloc(), alloc());
            Some(Decoder::Brotli(Box::new(state), bytes))
        } else if is(&["zstd"]) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Some(Decoder::Zstd(Box::new(decoder)))
        } else {
            None
        })
    }

    /// The next bytes; 0 at the end of a body that is whole, and followed by nothing.
    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (read, rest) = match self {
            Decoder::Gzip(decoder) => (decoder.read(out)?, decoder.get_ref().len()),
            Decoder::Zstd(decoder) => (decoder.read(out)?, decoder.get_ref().len()),
            Decoder::Deflate(decoder, bytes) => {
                let (came, went) = (decoder.total_in(), decoder.total_out());
                let status = decoder.decompress(bytes, out, FlushDecompress::None)?;
                *bytes = &bytes[(decoder.total_in() - came) as usize..];
                let read = (decoder.total_out() - went) as usize;
                if read == 0 && status != Status::StreamEnd {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                (read, bytes.len())
            }
            Decoder::Brotli(state, bytes) => {
                let (mut input, mut used, mut room, mut read) = (bytes.len(), 0, out.len(), 0);
                let done = BrotliDecompressStream(
                    &mut input, &mut used, bytes, &mut room, &mut read, out, &mut 0, state,
                );
                *bytes = &bytes[used..];
                match done {
                    BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
                    BrotliResult::NeedsMoreInput if read == 0 => {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    _ => {}
                }
                (read, bytes.len())
            }
        };
        match read {
            0 if rest > 0 => Err(io::Error::other("something follows its end")),
            _ => Ok(read),
        }
    }
}
