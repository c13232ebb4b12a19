//! The target of a redirect, as it may stand in Location (RFC 9110 section 10.2.2).

use std::fmt::{self, Write};

/// A target that can be written: what a URI may not hold raw is percent-encoded, so that no client
/// has to guess. `%` stays: the target may be encoded already.
pub(crate) struct Location<'a>(&'a str);

impl<'a> Location<'a> {
    /// None if it holds a control character: nothing good comes of encoding a line break.
    pub(crate) fn new(target: &'a str) -> Option<Location<'a>> {
        let clean = !target.bytes().any(|byte| byte < b' ' || byte == 0x7f);
        clean.then_some(Location(target))
    }
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
    }
}

/// A name as one segment of a path.
#[cfg(feature = "files")]
pub(crate) struct PathSegment<'a>(pub(crate) &'a str);

#[cfg(feature = "files")]
impl fmt::Display for PathSegment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    }
}

/// Writes `text`, bytes that may not stand for themselves as `%XX`.
pub(super) fn escape(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    stands: impl Fn(u8) -> bool,
) -> fmt::Result {
    for byte in text.bytes() {
        match stands(byte) {
            true => f.write_char(char::from(byte))?,
            false => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (target, want) in [
            ("", Some("")),
            ("/a/b?c=d&e=%20#f", Some("/a/b?c=d&e=%20#f")),
            (
                "https://a.example:8080/[x]@!$&'()*+,;=~",
                Some("https://a.example:8080/[x]@!$&'()*+,;=~"),
            ),
            ("/caf\u{e9}", Some("/caf%C3%A9")),
            ("/a b", Some("/a%20b")),
            ("/\\evil.example", Some("/%5Cevil.example")),
            ("/\"<>^`{|}", Some("/%22%3C%3E%5E%60%7B%7C%7D")),
            ("/a\r\nset-cookie: b=c", None),
            ("/a\n", None),
            ("/\t", None),
            ("/\0", None),
            ("/\u{7f}", None),
        ] {
            let got = Location::new(target).map(|it| it.to_string());
            assert_eq!(got.as_deref(), want, "{target:?}");
        }
    }
}
