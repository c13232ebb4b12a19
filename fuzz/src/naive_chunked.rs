//! A chunked body by the letter of RFC 9112 section 7.1, from bytes that are all there.

use crate::chunked::ChunkLimits;
use crate::reader::{Reader, Stop, is_tchar, is_value_byte, without_ows};

/// What a body held as far as it got.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct NaiveBody {
    pub payload: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// Reads into `body`; gives the length of what was read.
pub(crate) fn decode(
    bytes: &[u8],
    limits: &ChunkLimits,
    body: &mut NaiveBody,
) -> Result<usize, Stop> {
    let mut reader = Reader::new(bytes);
    while read_chunk(&mut reader, limits, body)? > 0 {}
    read_trailers(&mut reader, limits, body)?;
    Ok(reader.at)
}

const BAD: Stop = Stop::Refused(400);

/// chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF, or last-chunk, which has neither data nor
/// an end of its own.
fn read_chunk(
    reader: &mut Reader,
    limits: &ChunkLimits,
    body: &mut NaiveBody,
) -> Result<u64, Stop> {
    let mut line = Line { reader, left: limits.line_bytes_max, refusal: BAD };

    // chunk-size = 1*HEXDIG, and no more than 64 bits hold
    let mut size = String::new();
    let mut byte = line.next()?;
    while byte.is_ascii_hexdigit() {
        size.push(char::from(byte));
        if size.len() > 16 {
            return Err(BAD);
        }
        byte = line.next()?;
    }
    let size = u64::from_str_radix(&size, 16).map_err(|_| BAD)?;

    // chunk-ext = *( ";" chunk-ext-name [ "=" chunk-ext-val ] )
    while byte == b';' {
        byte = line.token()?;
        if byte == b'=' {
            byte = match line.next()? {
                b'"' => {
                    line.quoted()?;
                    line.next()?
                }
                byte if is_tchar(byte) => line.rest_of_token()?,
                _ => return Err(BAD),
            };
        }
    }
    line.end(byte)?;

    for _ in 0..size {
        body.payload.push(reader.next()?);
    }
    if size > 0 {
        for want in *b"\r\n" {
            if reader.next()? != want {
                return Err(BAD);
            }
        }
    }
    Ok(size)
}

/// trailer-section CRLF = *( field-line CRLF ) CRLF
fn read_trailers(
    reader: &mut Reader,
    limits: &ChunkLimits,
    body: &mut NaiveBody,
) -> Result<(), Stop> {
    let too_large = Stop::Refused(431);
    let mut line = Line { reader, left: limits.trailer_bytes_max, refusal: too_large };
    loop {
        let mut byte = line.next()?;
        if byte == b'\r' {
            return line.end(byte);
        }
        if is_tchar(byte) && body.trailers.len() == limits.trailers_max {
            return Err(too_large);
        }
        let mut name = String::new();
        while is_tchar(byte) {
            name.push(char::from(byte));
            byte = line.next()?;
        }
        if name.is_empty() || byte != b':' {
            return Err(BAD);
        }
        let mut value = Vec::new();
        byte = line.next()?;
        while is_value_byte(byte) {
            value.push(byte);
            byte = line.next()?;
        }
        line.end(byte)?;
        let value = String::from_utf8(value).map_err(|_| BAD)?;
        // RFC 9110 section 6.5.1: framing, routing, request modifiers, authentication, content.
        let forbidden = "transfer-encoding content-length host connection keep-alive te trailer \
            upgrade proxy-connection expect max-forwards range cache-control authorization \
            proxy-authorization cookie set-cookie content-encoding content-type content-range";
        if forbidden.split_whitespace().any(|f| f.eq_ignore_ascii_case(&name)) {
            return Err(BAD);
        }
        body.trailers.push((name, without_ows(&value).to_owned()));
    }
}

/// Reading with a bound.
struct Line<'a, 'b> {
    reader: &'a mut Reader<'b>,
    left: usize,
    refusal: Stop,
}

impl Line<'_, '_> {
    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.reader.next()?;
        self.left = self.left.checked_sub(1).ok_or(self.refusal)?;
        Ok(byte)
    }

    /// A token that is not empty; the byte after it.
    fn token(&mut self) -> Result<u8, Stop> {
        if !is_tchar(self.next()?) {
            return Err(BAD);
        }
        self.rest_of_token()
    }

    fn rest_of_token(&mut self) -> Result<u8, Stop> {
        loop {
            let byte = self.next()?;
            if !is_tchar(byte) {
                return Ok(byte);
            }
        }
    }

    /// quoted-string after its first quote (RFC 9110 section 5.6.4).
    fn quoted(&mut self) -> Result<(), Stop> {
        loop {
            let mut byte = self.next()?;
            if byte == b'"' {
                return Ok(());
            }
            if byte == b'\\' {
                byte = self.next()?;
            }
            if !is_value_byte(byte) {
                return Err(BAD);
            }
        }
    }

    fn end(&mut self, byte: u8) -> Result<(), Stop> {
        if byte == b'\r' && self.next()? == b'\n' { Ok(()) } else { Err(BAD) }
    }
}
