//! Server-sent events as bytes (WHATWG HTML, section 9.2, "Server-sent events").

/// The line that keeps a stream alive: a comment, which clients pass over.
pub(crate) const KEEP_ALIVE: &[u8] = b":\n\n";

/// Appends one `data` line for each line of `text`; CR, LF and CRLF end lines, as clients read
/// them.
pub(crate) fn data(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let end = memchr::memchr2(b'\n', b'\r', rest);
        field(out, "data", &rest[..end.unwrap_or(rest.len())]);
        let Some(end) = end else { return };
        let crlf = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(crlf)..];
    }
}

/// Appends a field of one line. Its value is one: see [`is_one_line`].
pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 3);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Whether a value can be the id or the name of an event. Clients pass over an id with a NUL.
pub(crate) fn is_one_line(value: &str) -> bool {
    !value.bytes().any(|byte| matches!(byte, b'\n' | b'\r' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_one_field_a_line() {
        for (text, want) in [
            ("", "data: \n"),
            ("a", "data: a\n"),
            (" a:b", "data:  a:b\n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\rb", "data: a\ndata: b\n"),
            ("a\r\nb", "data: a\ndata: b\n"),
            ("a\n\rb", "data: a\ndata: \ndata: b\n"),
            ("a\n", "data: a\ndata: \n"),
            ("\r\n\r\n", "data: \ndata: \ndata: \n"),
            ("a\rid: 7\n\nevent: x", "data: a\ndata: id: 7\ndata: \ndata: event: x\n"),
            ("caf\u{e9}\u{2028}x", "data: caf\u{e9}\u{2028}x\n"),
        ] {
            let mut out = Vec::new();
            data(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn values_of_one_line() {
        for (value, want) in
            [("", true), ("a b", true), ("a\n", false), ("\r", false), ("a\0b", false)]
        {
            assert_eq!(is_one_line(value), want, "{value:?}");
        }
    }
}
