//! Trailer fields of an answer (RFC 9110 section 6.5, RFC 9112 section 7.1.2).

use super::chunked::FORBIDDEN;
use super::encode::field_is_clean;

/// Ends a chunked body. `fields` are whole lines, CRLF included.
pub(crate) fn last_chunk(out: &mut Vec<u8>, fields: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(fields);
    out.extend_from_slice(b"\r\n");
}

/// Whether a field can be sent behind a body: not one that frames, routes, authenticates, or that
/// a recipient must know before the body (RFC 9110 section 6.5.1).
pub(crate) fn is_allowed(name: &str, value: &str) -> bool {
    let forbidden = FORBIDDEN.iter().chain(&FORBIDDEN_IN_ANSWERS);
    field_is_clean(name, value) && !forbidden.into_iter().any(|it| name.eq_ignore_ascii_case(it))
}

/// Control data of answers: beside those that no trailer may hold.
const FORBIDDEN_IN_ANSWERS: [&str; 11] = [
    "accept-ranges",
    "age",
    "allow",
    "date",
    "expires",
    "location",
    "pragma",
    "proxy-authenticate",
    "retry-after",
    "vary",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_chunks() {
        for (fields, want) in [("", "0\r\n\r\n"), ("a: b\r\n", "0\r\na: b\r\n\r\n")] {
            let mut out = Vec::new();
            last_chunk(&mut out, fields.as_bytes());
            assert_eq!(out, want.as_bytes());
        }
    }

    #[test]
    fn fields() {
        for (name, value, want) in [
            ("x-sum", "7", true),
            ("server-timing", "db;dur=53", true),
            ("etag", "\"a\"", true),
            ("Content-Length", "7", false),
            ("transfer-encoding", "chunked", false),
            ("SET-COOKIE", "a=b", false),
            ("www-authenticate", "Basic", false),
            ("vary", "*", false),
            ("date", "now", false),
            ("x-sum", "7\r\nb: c", false),
            ("x sum", "7", false),
            ("", "7", false),
        ] {
            assert_eq!(is_allowed(name, value), want, "{name}: {value:?}");
        }
    }
}
