//! Patterns over keys: `*` is any run of characters, `?` is one.

/// A pattern, in parts between its stars.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Glob(Box<str>);

/// What a pattern is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    /// `*`
    Everything,
    /// `user:123:*`: what lies under a prefix that ends with a colon.
    Prefix(&'a str),
    /// Anything else.
    Glob,
}

/// The cheapest way to say a pattern.
pub(crate) fn shape(pattern: &str) -> Shape<'_> {
    if !pattern.is_empty() && pattern.bytes().all(|it| it == b'*') {
        return Shape::Everything;
    }
    match memchr::memchr2(b'*', b'?', pattern.as_bytes()) {
        Some(at) if at + 1 == pattern.len() && pattern.ends_with(":*") => {
            Shape::Prefix(&pattern[..at])
        }
        _ => Shape::Glob,
    }
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Glob {
        Glob(pattern.into())
    }

    /// Whether a key looks so. At worst the product of both lengths: the last star alone is tried
    /// at every place.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // After the last star: where the pattern goes on, and the text that the star has not taken.
        let mut star = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    p += 1;
                    star = Some((p, t));
                }
                Some(b'?') => {
                    p += 1;
                    t += char_bytes(text[t]);
                }
                Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
                _ => match &mut star {
                    None => return false,
                    Some((after, from)) => {
                        *from += 1;
                        (p, t) = (*after, *from);
                    }
                },
            }
        }
        pattern[p..].iter().all(|it| *it == b'*')
    }
}

/// Bytes of the UTF-8 character that begins so.
fn char_bytes(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        // pattern, keys that look so, keys that do not
        let table: [(&str, &[&str], &[&str]); 9] = [
            ("a*c", &["ac", "abc", "abcbc"], &["ab", "", "acb", "xac"]),
            ("*", &["", "a"], &[]),
            ("", &[""], &["a"]),
            ("user:?:*", &["user:1:", "user:2:x"], &["user:12:x", "user::x"]),
            ("*:age", &["a:age", ":age", "b:age:age"], &["age", "a:ages"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a", ""]),
            ("?", &["a", "\u{20ac}", "\u{1f600}"], &["", "ab"]),
            ("a?c", &["a\u{e9}c"], &["ac", "abbc"]),
            ("**a", &["a", "ba"], &["ab"]),
        ];
        for (pattern, yes, no) in table {
            for (keys, want) in [(yes, true), (no, false)] {
                for key in keys {
                    assert_eq!(Glob::new(pattern).matches(key), want, "{pattern} {key}");
                }
            }
        }
        // A star is not tried again for all that came before it.
        let (pattern, text) = ("a*".repeat(100) + "b", "a".repeat(10_000));
        assert!(!Glob::new(&pattern).matches(&text));
    }

    #[test]
    fn shapes() {
        let table = [
            ("*", Shape::Everything),
            ("**", Shape::Everything),
            ("user:1:*", Shape::Prefix("user:1:")),
            ("user:1*", Shape::Glob),
            ("*:1:*", Shape::Glob),
            ("user:?:*", Shape::Glob),
            ("user:1", Shape::Glob),
            ("", Shape::Glob),
            (":*", Shape::Prefix(":")),
        ];
        for (pattern, want) in table {
            assert_eq!(shape(pattern), want, "{pattern}");
        }
    }
}
