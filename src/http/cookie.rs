//! The Cookie field: RFC 6265 section 5.4, read with the patience that browsers' cookies need.

use crate::limits::COOKIES_MAX;

/// Names and values as they came, quotes around a value taken off. What is no pair, has no name,
/// or holds a control character is passed over; at most [`COOKIES_MAX`] pieces are looked at.
///
/// Names are not decoded: one that only looks like `__Host-a` once it is must not pass for it.
pub(crate) fn cookies<'a>(
    fields: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let pieces = fields.flat_map(|field| field.split(';')).take(COOKIES_MAX);
    pieces.filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        let (name, value) = (name.trim_matches(BLANKS), value.trim_matches(BLANKS));
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = bare.unwrap_or(value);
        let is_clean = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control());
        (!name.is_empty() && is_clean(name) && is_clean(value)).then_some((name, value))
    })
}

/// `cookie-octet` of RFC 6265 section 4.1.1, without the percent sign that escapes the others.
pub(crate) fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'$' | b'&'..=b'+' | b'-'..=b':' | b'<'..=b'[' | b']'..=b'~')
}

/// Writes a value so that [`percent::decode`](super::percent::decode) gives it back.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            match is_plain(byte) {
                true => std::fmt::Write::write_char(f, char::from(byte))?,
                false => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::percent;

    #[test]
    fn pairs() {
        let rows: &[(&[&str], &str)] = &[
            (&[], ""),
            (&[""], ""),
            (&["a=1"], "a:1"),
            (&["a=1; b=2;c=3"], "a:1 b:2 c:3"),
            (&["a=1", "b=2; a=3"], "a:1 b:2 a:3"),
            (&["a=b=c; d=="], "a:b=c d:="),
            (&[" a\t=  \"1\" ;b=\"\""], "a:1 b:"),
            (&["a=\"; b=\"x; c=x\"; d=\"\"\""], "a:\" b:\"x c:x\" d:\""),
            (&["a; =1; ; ;;b=2;"], "b:2"),
            (&["a\t\tb=1; a=x\ty; c=3"], "c:3"),
            (&["%61=1; a[]=%20"], "%61:1 a[]:%20"),
            (&["caf\u{e9}=\u{e9}"], "caf\u{e9}:\u{e9}"),
        ];
        for (fields, want) in rows {
            let all =
                cookies(fields.iter().copied()).map(|(name, value)| format!("{name}:{value}"));
            assert_eq!(all.collect::<Vec<_>>().join(" "), *want, "{fields:?}");
        }
        let many = "a=1;".repeat(20_000);
        assert_eq!(cookies([&*many].into_iter()).count(), COOKIES_MAX);
    }

    #[test]
    fn escapes() {
        for (value, want) in [
            ("plain-._~!#$&'()*+/:<=>?@[]^`{|}", "plain-._~!#$&'()*+/:<=>?@[]^`{|}"),
            ("a b;c,d\"e\\f%g", "a%20b%3Bc%2Cd%22e%5Cf%25g"),
            ("\r\n\0\x7f\u{e9}", "%0D%0A%00%7F%C3%A9"),
        ] {
            assert_eq!(Escaped(value).to_string(), want);
            assert_eq!(percent::decode(want).as_deref(), Ok(value));
        }
    }
}
