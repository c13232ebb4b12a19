//! Percent-decoding of paths and queries: RFC 3986 section 2.1, and `+` for a space in forms.

use std::borrow::Cow;

/// A `%` without two hex digits, or bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPercent;

/// Decodes a piece of a path; borrows when there is nothing to decode.
pub(crate) fn decode(piece: &str) -> Result<Cow<'_, str>, BadPercent> {
    match memchr::memchr(b'%', piece.as_bytes()) {
        None => Ok(Cow::Borrowed(piece)),
        Some(first) => unescape(piece, first, false),
    }
}

/// Decodes a name or value of a query, where `+` is a space.
pub(crate) fn decode_form(piece: &str) -> Result<Cow<'_, str>, BadPercent> {
    match memchr::memchr2(b'%', b'+', piece.as_bytes()) {
        None => Ok(Cow::Borrowed(piece)),
        Some(first) => unescape(piece, first, true),
    }
}

/// The same into `scratch`, in place of what it held: none when there is nothing to decode.
pub(crate) fn decode_into<'b>(
    piece: &str,
    plus_is_space: bool,
    scratch: &'b mut Vec<u8>,
) -> Result<Option<&'b str>, BadPercent> {
    let first = match plus_is_space {
        true => memchr::memchr2(b'%', b'+', piece.as_bytes()),
        false => memchr::memchr(b'%', piece.as_bytes()),
    };
    let Some(first) = first else { return Ok(None) };
    scratch.clear();
    unescape_into(piece, first, plus_is_space, scratch)?;
    std::str::from_utf8(scratch).map(Some).map_err(|_| BadPercent)
}

/// The pairs of a query, decoded, in order. A piece without `=` has an empty value; empty pieces
/// are passed over.
pub(crate) fn pairs(query: &str) -> Pairs<'_> {
    Pairs(raw_pairs(query))
}

/// The same, not decoded.
pub(crate) fn raw_pairs(query: &str) -> RawPairs<'_> {
    RawPairs { rest: query }
}

#[derive(Clone, Debug)]
pub(crate) struct Pairs<'a>(RawPairs<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), BadPercent>;

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.next()?;
        Some(decode_form(name).and_then(|n| Ok((n, decode_form(value)?))))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RawPairs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for RawPairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (piece, rest) = self.rest.split_once('&').unwrap_or((self.rest, ""));
            self.rest = rest;
            if !piece.is_empty() {
                return Some(piece.split_once('=').unwrap_or((piece, "")));
            }
        }
        None
    }
}

/// `first` is the first byte to change.
fn unescape(piece: &str, first: usize, plus_is_space: bool) -> Result<Cow<'_, str>, BadPercent> {
    let mut decoded = Vec::with_capacity(piece.len());
    unescape_into(piece, first, plus_is_space, &mut decoded)?;
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadPercent)
}

fn unescape_into(
    piece: &str,
    first: usize,
    plus_is_space: bool,
    decoded: &mut Vec<u8>,
) -> Result<(), BadPercent> {
    let (clean, mut rest) = piece.as_bytes().split_at(first);
    decoded.extend_from_slice(clean);
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match byte {
            b'%' => {
                let [high, low, after @ ..] = after else { return Err(BadPercent) };
                rest = after;
                nibble(*high)? << 4 | nibble(*low)?
            }
            b'+' if plus_is_space => b' ',
            byte => *byte,
        });
    }
    Ok(())
}

fn nibble(digit: u8) -> Result<u8, BadPercent> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadPercent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        for (piece, path, form) in [
            ("", Ok(""), Ok("")),
            ("plain-._~", Ok("plain-._~"), Ok("plain-._~")),
            ("a%20b", Ok("a b"), Ok("a b")),
            ("a+b", Ok("a+b"), Ok("a b")),
            ("%2B+%2b", Ok("+++"), Ok("+ +")),
            ("%2F%3f", Ok("/?"), Ok("/?")),
            ("caf%C3%A9", Ok("caf\u{e9}"), Ok("caf\u{e9}")),
            ("%00", Ok("\0"), Ok("\0")),
            ("%41%", Err(BadPercent), Err(BadPercent)),
            ("%4", Err(BadPercent), Err(BadPercent)),
            ("%zz", Err(BadPercent), Err(BadPercent)),
            ("%+1", Err(BadPercent), Err(BadPercent)),
            ("%%41", Err(BadPercent), Err(BadPercent)),
            ("%ff", Err(BadPercent), Err(BadPercent)),
            ("%C3x", Err(BadPercent), Err(BadPercent)),
            ("%ED%A0%80", Err(BadPercent), Err(BadPercent)),
        ] {
            assert_eq!(decode(piece).as_deref(), path.as_ref().map(|p| *p), "path {piece}");
            assert_eq!(decode_form(piece).as_deref(), form.as_ref().map(|f| *f), "form {piece}");
            for (plus_is_space, want) in [(false, path), (true, form)] {
                let mut scratch = b"old".to_vec();
                let decoded = decode_into(piece, plus_is_space, &mut scratch);
                assert_eq!(decoded.map(|text| text.unwrap_or(piece)), want, "into {piece}");
            }
        }
    }

    #[test]
    fn nothing_to_decode_borrows() {
        assert!(matches!(decode("a+b/c"), Ok(Cow::Borrowed("a+b/c"))));
        assert!(matches!(decode_form("a-b"), Ok(Cow::Borrowed("a-b"))));
    }

    #[test]
    fn queries() {
        let all = |query| {
            let pair = |(n, v): (Cow<'_, str>, Cow<'_, str>)| format!("{n}:{v}");
            pairs(query).map(|p| p.map_or("bad".to_owned(), pair)).collect::<Vec<_>>().join(" ")
        };
        for (query, want) in [
            ("", ""),
            ("a=1&b=2", "a:1 b:2"),
            ("a", "a:"),
            ("a=", "a:"),
            ("=1", ":1"),
            ("a=1=2", "a:1=2"),
            ("&&a=1&&", "a:1"),
            ("a%26=%3D+x", "a&:= x"),
            ("a=%&b=2", "bad b:2"),
            ("%x=1&b=2", "bad b:2"),
        ] {
            assert_eq!(all(query), want, "{query}");
        }
    }
}
