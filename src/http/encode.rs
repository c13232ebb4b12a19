//! The head of an answer, and the chunks of a streamed one, written as bytes.

use super::date::DATE_BYTES;
use super::head::{Refusal, is_token_byte};

/// How the length of the body is told (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Known(u64),
    Chunked,
    /// The body ends with the connection: `connection: close` is written whatever [`Persist`] says.
    Close,
    /// 1xx, 204 and 304 have no body and tell no length.
    None,
}

/// What is said of the connection's life after this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persist {
    /// What the version implies.
    Default,
    Close,
    /// An HTTP/1.0 client asked to keep it, and it is kept.
    KeepAlive,
}

/// The whole interim answer to an expectation (RFC 9110 section 10.1.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a head. `mime` is left out when empty; `fields` are whole lines, CRLF included.
#[inline]
pub(crate) fn answer_head(
    out: &mut Vec<u8>,
    status: u16,
    mime: &str,
    fields: &[u8],
    length: Length,
    persist: Persist,
    date: &[u8; DATE_BYTES],
) {
    // The fixed text takes at most 192 bytes: the longest status line 47, the rest 145.
    out.reserve(192 + mime.len() + fields.len());
    // Each line brings the end of the one before it: half as many pieces.
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK");
    } else {
        status_line(out, status);
    }
    if !mime.is_empty() {
        out.extend_from_slice(b"\r\ncontent-type: ");
        out.extend_from_slice(mime.as_bytes());
    }
    match length {
        Length::Known(len) => {
            out.extend_from_slice(b"\r\ncontent-length: ");
            decimal(out, len);
        }
        Length::Chunked => out.extend_from_slice(b"\r\ntransfer-encoding: chunked"),
        Length::Close | Length::None => {}
    }
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(date);
    match persist {
        Persist::Close => out.extend_from_slice(b"\r\nconnection: close"),
        _ if length == Length::Close => out.extend_from_slice(b"\r\nconnection: close"),
        Persist::KeepAlive => out.extend_from_slice(b"\r\nconnection: keep-alive"),
        Persist::Default => {}
    }
    if fields.is_empty() {
        out.extend_from_slice(b"\r\n\r\n");
    } else {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(fields);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one chunk. Nothing for no data: an empty chunk would end the body.
pub(crate) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + CHUNK_BYTES_MORE);
    hexadecimal(out, data.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// What a chunk takes beside its data: a size of 16 digits, twice CRLF.
pub(crate) const CHUNK_BYTES_MORE: usize = 20;

/// Appends an interim answer (RFC 9110 section 15.2). `fields` are whole lines, CRLF included.
pub(crate) fn interim(out: &mut Vec<u8>, status: u16, fields: &[u8]) {
    status_line(out, status);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(fields);
    out.extend_from_slice(b"\r\n");
}

/// Appends the whole answer to a request that is refused; the connection closes after it.
pub(crate) fn refusal(out: &mut Vec<u8>, refusal: &Refusal, date: &[u8; DATE_BYTES]) {
    let Refusal { status, reason } = *refusal;
    let length = Length::Known(reason.len() as u64 + 1);
    answer_head(out, status, "text/plain; charset=utf-8", b"", length, Persist::Close, date);
    out.extend_from_slice(reason.as_bytes());
    out.push(b'\n');
}

/// Whether a field can be written without becoming two, or something else (RFC 9110 section 5.5).
pub(crate) fn field_is_clean(name: &str, value: &str) -> bool {
    let is_control = |b: u8| (b < b' ' && b != b'\t') || b == 0x7f;
    !name.is_empty() && name.bytes().all(is_token_byte) && !value.bytes().any(is_control)
}

/// The reason phrase of the IANA registry, empty for a code that is not there.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        104 => "Upload Resumption Supported",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// A status is three digits (RFC 9112 section 4): anything else becomes 500.
/// Without its CRLF.
fn status_line(out: &mut Vec<u8>, status: u16) {
    let status = if (100..=999).contains(&status) { status } else { 500 };
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
}

#[inline]
fn decimal(out: &mut Vec<u8>, value: u64) {
    digits::<10>(out, value);
}

fn hexadecimal(out: &mut Vec<u8>, value: u64) {
    digits::<16>(out, value);
}

/// Radix 10 or 16: at most 20 digits.
#[inline]
fn digits<const RADIX: u64>(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    while at > 0 {
        at -= 1;
        text[at] = b"0123456789abcdef"[(value % RADIX) as usize];
        value /= RADIX;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; DATE_BYTES] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const TEXT: &str = "text/plain; charset=utf-8";

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads() {
        use {Length::*, Persist::*};
        for (status, mime, fields, length, persist, want) in [
            (
                200,
                TEXT,
                "",
                Known(12),
                Persist::Default,
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 12\r\n\
                 date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
            ),
            (
                404,
                "",
                "x-a: 1\r\nx-b: 2\r\n",
                Known(0),
                Persist::Close,
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 connection: close\r\nx-a: 1\r\nx-b: 2\r\n\r\n",
            ),
            (
                200,
                "a/b",
                "",
                Chunked,
                KeepAlive,
                "HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ntransfer-encoding: chunked\r\n\
                 date: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: keep-alive\r\n\r\n",
            ),
            (
                200,
                "",
                "",
                Length::Close,
                Persist::Default,
                "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 connection: close\r\n\r\n",
            ),
            (
                304,
                "",
                "etag: \"1\"\r\n",
                Length::None,
                Persist::Default,
                "HTTP/1.1 304 Not Modified\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 etag: \"1\"\r\n\r\n",
            ),
            (
                299,
                "",
                "",
                Known(u64::MAX),
                Persist::Default,
                "HTTP/1.1 299 \r\ncontent-length: 18446744073709551615\r\n\
                 date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
            ),
            (
                7,
                "",
                "",
                Known(1_002_003),
                Persist::Default,
                "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 1002003\r\n\
                 date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
            ),
        ] {
            let fields = fields.as_bytes();
            let got = written(|out| answer_head(out, status, mime, fields, length, persist, DATE));
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_head_is_reserved_once() {
        for status in 0..1000 {
            let mut out = Vec::new();
            let length = Length::Known(u64::MAX);
            answer_head(&mut out, status, TEXT, b"a: b\r\n", length, Persist::KeepAlive, DATE);
            assert!(out.len() <= 192 + TEXT.len() + 6, "{status}: {}", out.len());
        }
    }

    #[test]
    fn refusals() {
        let no = Refusal { status: 400, reason: "no" };
        assert_eq!(
            written(|out| refusal(out, &no, DATE)),
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: 3\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: close\r\n\r\nno\n"
        );
    }

    #[test]
    fn chunks() {
        for (data, want) in [
            ("", String::new()),
            ("a", "1\r\na\r\n".to_owned()),
            ("0123456789abcdef", "10\r\n0123456789abcdef\r\n".to_owned()),
            (&"x".repeat(0xabc), format!("abc\r\n{}\r\n", "x".repeat(0xabc))),
        ] {
            assert_eq!(written(|out| chunk(out, data.as_bytes())), want);
        }
        let hints = written(|out| interim(out, 103, b"link: </a>\r\n"));
        assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }

    #[test]
    fn clean_fields() {
        for (name, value, want) in [
            ("x-a", "plain \t value", true),
            ("x-a", "", true),
            ("x-a", "caf\u{e9}", true),
            ("", "v", false),
            ("x a", "v", false),
            ("x:a", "v", false),
            ("x-\u{e9}", "v", false),
            ("x-a\r\nb", "v", false),
            ("x-a", "v\r\nset-cookie: a=b", false),
            ("x-a", "v\n", false),
            ("x-a", "v\r", false),
            ("x-a", "v\0", false),
            ("x-a", "v\u{7f}", false),
        ] {
            assert_eq!(field_is_clean(name, value), want, "{name:?}: {value:?}");
        }
    }
}
