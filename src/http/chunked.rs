//! The chunked transfer coding, decoded as it arrives: RFC 9112 section 7.1 without leniency.
//!
//! Lines end in CRLF only. A size is 1 to 16 hex digits. No blanks stand around extensions, whose
//! tokens and quoted strings are checked and dropped. Trailer fields are checked as header fields
//! are, and those that would change framing, routing or the handling of the request are refused
//! (RFC 9110 section 6.5.1). What is wrong is said at its byte, so segmentation changes nothing.

use std::str;

use super::head::{Refusal, is_token_byte};

/// Decoder of one body after another: [`Chunked::reset`] keeps its buffers.
#[derive(Debug)]
pub(crate) struct Chunked {
    limits: ChunkLimits,
    state: State,
    /// Payload bytes of the current chunk still to come; the size while its digits are read.
    remaining: u64,
    /// Bytes of the current chunk line, or of the trailer section, so far.
    counted: usize,
    /// The trailer line being read: name, then value.
    line: Vec<u8>,
    name_bytes: usize,
    /// Names and values of the trailer fields, end to end.
    text: String,
    trailers: Vec<Trailer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkLimits {
    /// Of a chunk line: size, extensions and CRLF.
    pub line_bytes_max: usize,
    /// Of the trailer section: field lines and the empty line.
    pub trailer_bytes_max: usize,
    pub trailers_max: usize,
}

/// What [`Chunked::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All of the input is taken, more must come.
    More { taken: usize },
    /// The payload at `input[start..end]`: as much as there is. `end` bytes are taken.
    Data { start: usize, end: usize },
    /// The body is over; what follows is the next request.
    End { taken: usize },
}

impl Chunked {
    pub(crate) fn new(limits: ChunkLimits) -> Chunked {
        Chunked {
            limits,
            state: State::Size { digits: 0 },
            remaining: 0,
            counted: 0,
            line: Vec::new(),
            name_bytes: 0,
            text: String::new(),
            trailers: Vec::new(),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.state = State::Size { digits: 0 };
        self.remaining = 0;
        self.counted = 0;
        self.line.clear();
        self.text.clear();
        self.trailers.clear();
    }

    /// Takes the next bytes. Call again with what follows the taken ones until `End`; a refusal,
    /// like the end, is final.
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let here = input.len() - at;
                    let len = usize::try_from(self.remaining).map_or(here, |r| r.min(here));
                    self.remaining -= len as u64;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Step::Data { start: at, end: at + len });
                }
                State::Done => break,
                State::Refused(refusal) => return Err(refusal),
                _ => match self.byte(*byte) {
                    Ok(state) => self.state = state,
                    Err(refusal) => {
                        self.state = State::Refused(refusal);
                        return Err(refusal);
                    }
                },
            }
            at += 1;
        }
        match self.state {
            State::Done => Ok(Step::End { taken: at }),
            State::Refused(refusal) => Err(refusal),
            _ => Ok(Step::More { taken: at }),
        }
    }

    /// The value of the first trailer field of that name.
    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All trailer fields, in order; complete after `End`.
    pub(crate) fn trailers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.trailers.iter().map(|t| {
            let (name, value) = self.text[t.start..t.end].split_at(t.name_bytes);
            (name, value)
        })
    }

    /// The state after one byte of framing.
    fn byte(&mut self, byte: u8) -> Result<State, Refusal> {
        self.count()?;
        let next = match (self.state, byte) {
            (State::Size { digits: 1.. }, b'\r') => State::LineLf,
            (State::Size { digits: 1.. }, b';') => State::ExtensionName { empty: true },
            (State::Size { digits: 16.. }, _) => return Err(BAD_SIZE),
            (State::Size { digits }, byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(BAD_SIZE)?;
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::Size { digits: digits + 1 }
            }

            (State::ExtensionName { empty: false }, b'\r') => State::LineLf,
            (State::ExtensionName { empty: false }, b';') => State::ExtensionName { empty: true },
            (State::ExtensionName { empty: false }, b'=') => State::ExtensionValue { empty: true },
            (State::ExtensionName { .. }, byte) if is_token_byte(byte) => {
                State::ExtensionName { empty: false }
            }

            (State::ExtensionValue { empty: true }, b'"') => State::Quoted { escaped: false },
            (State::ExtensionValue { empty: false }, b'\r') => State::LineLf,
            (State::ExtensionValue { empty: false }, b';') => State::ExtensionName { empty: true },
            (State::ExtensionValue { .. }, byte) if is_token_byte(byte) => {
                State::ExtensionValue { empty: false }
            }
            (State::Quoted { escaped: false }, b'"') => State::QuotedEnd,
            (State::Quoted { escaped: false }, b'\\') => State::Quoted { escaped: true },
            (State::Quoted { .. }, byte) if is_field_byte(byte) => State::Quoted { escaped: false },
            (State::QuotedEnd, b'\r') => State::LineLf,
            (State::QuotedEnd, b';') => State::ExtensionName { empty: true },

            (State::LineLf, b'\n') if self.remaining > 0 => State::Data,
            (State::LineLf, b'\n') => {
                self.counted = 0;
                State::FieldStart
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.counted = 0;
                State::Size { digits: 0 }
            }

            (State::FieldStart, b'\r') => State::EndLf,
            (State::FieldStart, byte) if is_token_byte(byte) => {
                if self.trailers.len() >= self.limits.trailers_max {
                    return Err(TOO_MANY_TRAILERS);
                }
                self.line.clear();
                self.line.push(byte);
                State::FieldName
            }
            (State::FieldName, b':') => {
                self.name_bytes = self.line.len();
                State::FieldValue
            }
            (State::FieldName, byte) if is_token_byte(byte) => {
                self.line.push(byte);
                State::FieldName
            }
            (State::FieldValue, b'\r') => State::FieldLf,
            (State::FieldValue, byte) if is_field_byte(byte) => {
                self.line.push(byte);
                State::FieldValue
            }
            (State::FieldLf, b'\n') => {
                self.keep_trailer()?;
                State::FieldStart
            }
            (State::EndLf, b'\n') => State::Done,

            (State::DataCr | State::DataLf, _) => return Err(BAD_DATA_END),
            (State::LineLf | State::FieldLf | State::EndLf, _) => return Err(BARE_CR),
            (State::FieldStart | State::FieldName | State::FieldValue, _) => {
                return Err(BAD_TRAILER);
            }
            _ => return Err(BAD_EXTENSION),
        };
        Ok(next)
    }

    /// Holds lines and the trailer section to their bounds.
    fn count(&mut self) -> Result<(), Refusal> {
        let (bound, refusal) = match self.state {
            State::FieldStart
            | State::FieldName
            | State::FieldValue
            | State::FieldLf
            | State::EndLf => (self.limits.trailer_bytes_max, TRAILERS_TOO_LONG),
            State::DataCr | State::DataLf => return Ok(()),
            _ => (self.limits.line_bytes_max, LINE_TOO_LONG),
        };
        self.counted += 1;
        if self.counted > bound { Err(refusal) } else { Ok(()) }
    }

    fn keep_trailer(&mut self) -> Result<(), Refusal> {
        let line = str::from_utf8(&self.line).map_err(|_| BAD_TRAILER)?;
        let (name, value) = line.split_at(self.name_bytes);
        if FORBIDDEN.iter().any(|f| name.eq_ignore_ascii_case(f)) {
            return Err(FORBIDDEN_TRAILER);
        }
        let start = self.text.len();
        self.text.push_str(name);
        self.text.push_str(value.trim_matches([' ', '\t']));
        self.trailers.push(Trailer { start, name_bytes: name.len(), end: self.text.len() });
        Ok(())
    }
}

/// One trailer field in [`Chunked::text`].
#[derive(Debug)]
struct Trailer {
    start: usize,
    name_bytes: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { digits: u8 },
    ExtensionName { empty: bool },
    ExtensionValue { empty: bool },
    Quoted { escaped: bool },
    QuotedEnd,
    LineLf,
    Data,
    DataCr,
    DataLf,
    FieldStart,
    FieldName,
    FieldValue,
    FieldLf,
    EndLf,
    Done,
    Refused(Refusal),
}

/// A field value's byte, or a quoted string's beside `"` and `\`: HTAB, SP, VCHAR or obs-text.
fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Fields that have no meaning after the body, or a dangerous one.
pub(super) const FORBIDDEN: [&str; 20] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const BAD_SIZE: Refusal = Refusal { status: 400, reason: "a chunk size is not 1 to 16 hex digits" };
const BAD_EXTENSION: Refusal = Refusal { status: 400, reason: "a chunk extension is malformed" };
const LINE_TOO_LONG: Refusal = Refusal { status: 400, reason: "a chunk line is too long" };
const BARE_CR: Refusal = Refusal { status: 400, reason: "a line of the body does not end in CRLF" };
const BAD_DATA_END: Refusal = Refusal { status: 400, reason: "a chunk does not end in CRLF" };
const BAD_TRAILER: Refusal = Refusal { status: 400, reason: "a trailer field is malformed" };
const FORBIDDEN_TRAILER: Refusal =
    Refusal { status: 400, reason: "a trailer field may not be one of these" };
const TRAILERS_TOO_LONG: Refusal = Refusal { status: 431, reason: "the trailer is too long" };
const TOO_MANY_TRAILERS: Refusal =
    Refusal { status: 431, reason: "the trailer has too many fields" };

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ChunkLimits =
        ChunkLimits { line_bytes_max: 24, trailer_bytes_max: 40, trailers_max: 2 };

    /// Payload, trailer as text and what is left over, or the refusal.
    type Outcome = Result<(Vec<u8>, String, usize), Option<Refusal>>;

    /// Feeds `pieces` one after another; `Err(None)` when more is wanted at the end.
    fn feed<'a>(decoder: &mut Chunked, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
        let mut payload = Vec::new();
        let mut left = None;
        for piece in pieces {
            if let Some(left) = &mut left {
                *left += piece.len();
                continue;
            }
            let mut input = piece;
            loop {
                match decoder.decode(input).map_err(Some)? {
                    Step::More { taken } => {
                        assert_eq!(taken, input.len());
                        break;
                    }
                    Step::Data { start, end } => {
                        assert!(start < end);
                        payload.extend_from_slice(&input[start..end]);
                        input = &input[end..];
                    }
                    Step::End { taken } => {
                        left = Some(input.len() - taken);
                        break;
                    }
                }
            }
        }
        let pairs: Vec<_> = decoder.trailers().map(|(n, v)| format!("{n}={v}")).collect();
        left.map(|left| (payload, pairs.join("&"), left)).ok_or(None)
    }

    /// Whole, in pieces of every size, and in two pieces cut at every byte: one outcome.
    fn outcome(body: &[u8]) -> Outcome {
        let mut decoder = Chunked::new(LIMITS);
        let whole = feed(&mut decoder, std::iter::once(body));
        if let Err(Some(refusal)) = whole {
            assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(refusal));
            assert_eq!(decoder.decode(b""), Err(refusal));
        }
        for size in 1..=body.len() {
            decoder.reset();
            assert_eq!(feed(&mut decoder, body.chunks(size)), whole, "pieces of {size}");
            decoder.reset();
            let halves = [&body[..size], &body[size..]];
            assert_eq!(feed(&mut decoder, halves.into_iter()), whole, "cut at {size}");
        }
        whole
    }

    #[test]
    fn bodies() {
        for (body, payload, trailers, left) in [
            ("0\r\n\r\n", "", "", 0),
            ("000\r\n\r\nGET", "", "", 3),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", "", 0),
            ("5\r\nhello\r\n3\r\n\r\n\0\r\n0\r\n\r\n", "hello\r\n\0", "", 0),
            ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", "", 0),
            ("0000000000000001\r\nx\r\n0\r\n\r\n", "x", "", 0),
            ("1;a\r\nx\r\n0;b=c;d\r\n\r\n", "x", "", 0),
            ("1;a=\"q \\\" \\\\ \t\u{e9}\"\r\nx\r\n0\r\n\r\n", "x", "", 0),
            ("1;a=\"\"\r\nx\r\n0;a=\"b\";c\r\n\r\n", "x", "", 0),
            ("0\r\nA: 1\r\nb:\t caf\u{e9} \r\n\r\n", "", "A=1&b=caf\u{e9}", 0),
            ("0\r\na:\r\n\r\n\r\n", "", "a=", 2),
        ] {
            let want = Ok((payload.as_bytes().to_vec(), trailers.to_owned(), left));
            assert_eq!(outcome(body.as_bytes()), want, "{body:?}");
        }
    }

    #[test]
    fn trailers_by_name() {
        let mut decoder = Chunked::new(LIMITS);
        let body: &[u8] = b"0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n";
        assert!(feed(&mut decoder, std::iter::once(body)).is_ok());
        assert_eq!(decoder.trailer("x-SUM"), Some("1"));
        assert_eq!(decoder.trailer("sum"), None);
        decoder.reset();
        assert_eq!(decoder.trailers().count(), 0);
    }

    #[test]
    fn unfinished() {
        for body in ["", "1", "1\r", "1\r\n", "1\r\nx", "1\r\nx\r", "0\r\n", "0\r\na: b", "0\r\n\r"]
        {
            assert_eq!(outcome(body.as_bytes()), Err(None), "{body:?}");
        }
        assert_eq!(outcome(b"ffffffffffffffff\r\nx"), Err(None));
    }

    #[test]
    fn refusals() {
        for (body, refusal) in [
            ("\r\n", BAD_SIZE),
            ("\n", BAD_SIZE),
            (" 1\r\nx\r\n", BAD_SIZE),
            ("1 \r\nx\r\n", BAD_SIZE),
            ("1\t;a\r\nx\r\n", BAD_SIZE),
            ("+1\r\nx\r\n", BAD_SIZE),
            ("-1\r\nx\r\n", BAD_SIZE),
            ("0x1\r\nx\r\n", BAD_SIZE),
            ("1_0\r\nx\r\n", BAD_SIZE),
            ("g\r\n", BAD_SIZE),
            (";a\r\n", BAD_SIZE),
            ("1\nx\r\n", BAD_SIZE),
            ("00000000000000001\r\nx\r\n", BAD_SIZE),
            ("10000000000000000\r\n", BAD_SIZE),
            ("1\rx", BARE_CR),
            ("1;\r\nx\r\n", BAD_EXTENSION),
            ("1; a\r\nx\r\n", BAD_EXTENSION),
            ("1;a \r\nx\r\n", BAD_EXTENSION),
            ("1;a=\r\nx\r\n", BAD_EXTENSION),
            ("1;a =b\r\nx\r\n", BAD_EXTENSION),
            ("1;a=b=c\r\nx\r\n", BAD_EXTENSION),
            ("1;=b\r\nx\r\n", BAD_EXTENSION),
            ("1;;a\r\nx\r\n", BAD_EXTENSION),
            ("1;a\nx\r\n", BAD_EXTENSION),
            ("1;a=\"b\nc\"\r\n", BAD_EXTENSION),
            ("1;a=\"b\r\nc\"\r\n", BAD_EXTENSION),
            ("1;a=\"b\"c\r\n", BAD_EXTENSION),
            ("1;a=\"b\" \r\n", BAD_EXTENSION),
            ("1;a=b\"c\"\r\n", BAD_EXTENSION),
            ("1;a=\"\\\0\"\r\n", BAD_EXTENSION),
            ("1;\0\r\nx\r\n", BAD_EXTENSION),
            ("1;aaaaaaaaaaaaaaaaaaaaaa\r\n", LINE_TOO_LONG),
            ("1;a=\"                     ", LINE_TOO_LONG),
            ("1\r\nxy", BAD_DATA_END),
            ("1\r\nx\n", BAD_DATA_END),
            ("1\r\nx\r\r", BAD_DATA_END),
            ("1\r\nx0\r\n\r\n", BAD_DATA_END),
            ("0\r\n\n", BAD_TRAILER),
            ("0\r\n\r\r", BARE_CR),
            ("0\r\n: a\r\n", BAD_TRAILER),
            ("0\r\na : b\r\n", BAD_TRAILER),
            ("0\r\n a: b\r\n", BAD_TRAILER),
            ("0\r\na: b\r\n c\r\n", BAD_TRAILER),
            ("0\r\na\r\n", BAD_TRAILER),
            ("0\r\na: b\n", BAD_TRAILER),
            ("0\r\na: b\rc", BARE_CR),
            ("0\r\na: \0", BAD_TRAILER),
            ("0\r\na: \u{7f}", BAD_TRAILER),
            ("0\r\na:\r\nb:\r\nc", TOO_MANY_TRAILERS),
            ("0\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", TRAILERS_TOO_LONG),
            ("0\r\na: bbbbbbbbbbbbbbbbbb\r\na: bbbbbbbbbbbb\r\n\r\n", TRAILERS_TOO_LONG),
        ] {
            assert_eq!(outcome(body.as_bytes()), Err(Some(refusal)), "{body:?}");
        }
        assert_eq!(outcome(b"0\r\na: \xff\r\n"), Err(Some(BAD_TRAILER)));
    }

    #[test]
    fn forbidden_trailers() {
        let names = "authorization cache-control connection content-encoding Content-Length \
            content-range content-type cookie expect HOST keep-alive max-forwards \
            proxy-authorization proxy-connection range set-cookie te trailer Transfer-Encoding \
            upgrade";
        for name in names.split_whitespace() {
            let body = format!("0\r\n{name}: 1\r\n\r\n");
            assert_eq!(outcome(body.as_bytes()), Err(Some(FORBIDDEN_TRAILER)), "{name}");
        }
    }

    #[test]
    fn limits_are_exact() {
        for (body, fits) in [
            ("0;aaaaaaaaaaaaaaaaaaaa\r\n\r\n", true),
            ("0;aaaaaaaaaaaaaaaaaaaaa\r\n\r\n", false),
            ("0\r\na: bbbbbbbbbbbbbbbb\r\na: bbbbbbbbbbbb\r\n\r\n", true),
            ("0\r\na: bbbbbbbbbbbbbbbb\r\na: bbbbbbbbbbbbb\r\n\r\n", false),
        ] {
            assert_eq!(outcome(body.as_bytes()).is_ok(), fits, "{body:?}");
        }
    }

    #[test]
    fn data_comes_in_one_piece() {
        let mut body = b"10000\r\n".to_vec();
        body.resize(7 + 0x10000, b'x');
        let mut decoder = Chunked::new(LIMITS);
        assert_eq!(decoder.decode(&body), Ok(Step::Data { start: 7, end: body.len() }));
        assert_eq!(decoder.decode(b"\r\n"), Ok(Step::More { taken: 2 }));
    }
}
