//! memcached's meta commands (its doc/protocol.txt): bytes in, bytes out.
//!
//! Every command has one answer, in their order.

use super::stored::STAMP;
use crate::limits::{MEMCACHED_KEY_BYTES_MAX, MEMCACHED_LINE_BYTES_MAX};

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Value(Vec<u8>),
    /// There was none.
    Miss,
    /// It was done.
    Done,
    /// It was not.
    Error(String),
}

/// A key as it is sent: text as it is, anything else in base64, which the server undoes.
pub(super) enum Key {
    Text(Vec<u8>),
    Base64(Vec<u8>),
}

impl Key {
    /// None if it is longer than the server takes; then the length that it would have.
    pub(super) fn new(key: Vec<u8>) -> Result<Key, usize> {
        let key = match key.iter().all(u8::is_ascii_graphic) {
            true => Key::Text(key),
            false => Key::Base64(base64(&key)),
        };
        let (bytes, _) = key.parts();
        if bytes.len() > MEMCACHED_KEY_BYTES_MAX { Err(bytes.len()) } else { Ok(key) }
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        match self {
            Key::Text(key) => (key, b""),
            Key::Base64(key) => (key, b" b"),
        }
    }
}

pub(super) fn get(key: &Key, out: &mut Vec<u8>) {
    let (key, flag) = key.parts();
    put(out, &[b"mg ", key, flag, b" v\r\n"]);
}

/// `ttl` is in the server's words: see [`ttl_word`].
pub(super) fn set(key: &Key, value: &[u8], ttl: Option<u64>, out: &mut Vec<u8>) {
    let (key, flag) = key.parts();
    let bytes = (value.len() + STAMP.len()).to_string();
    let ttl = ttl.map(|word| format!(" T{word}")).unwrap_or_default();
    out.reserve(key.len() + value.len() + 64);
    put(out, &[b"ms ", key, b" ", bytes.as_bytes(), flag, ttl.as_bytes(), b"\r\n"]);
    put(out, &[&STAMP, value, b"\r\n"]);
}

pub(super) fn delete(key: &Key, out: &mut Vec<u8>) {
    let (key, flag) = key.parts();
    put(out, &[b"md ", key, flag, b"\r\n"]);
}

/// Answered by whoever knows meta commands.
pub(super) fn ping(out: &mut Vec<u8>) {
    put(out, &[b"mn\r\n"]);
}

/// Seconds, rounded up; what is longer than 30 days it takes for a moment, so it is given one. Its
/// moments end in 2038: none for what ends later, which lives for ever then.
pub(super) fn ttl_word(ttl_ms: u128, unix_secs: u64) -> Option<u64> {
    const DAYS_30_S: u64 = 30 * 86_400;
    let seconds = u64::try_from(ttl_ms.div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
    if seconds <= DAYS_30_S {
        return Some(seconds);
    }
    Some(unix_secs.saturating_add(seconds)).filter(|moment| *moment <= i32::MAX as u64)
}

/// The first answer and its length; none if it is not all there. An error is the end: what comes
/// after it cannot be told apart.
pub(super) fn parse(
    bytes: &[u8],
    value_bytes_max: usize,
) -> Result<Option<(Answer, usize)>, String> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() > MEMCACHED_LINE_BYTES_MAX { Err(strange(bytes)) } else { Ok(None) };
    };
    if end > MEMCACHED_LINE_BYTES_MAX {
        return Err(strange(bytes));
    }
    let Some(line) = bytes[..end].strip_suffix(b"\r") else { return Err(strange(bytes)) };
    let after = end + 1;
    let mut words = line.split(|byte| *byte == b' ');
    let answer = match words.next().unwrap_or_default() {
        b"HD" | b"MN" => Answer::Done,
        b"EN" | b"NF" => Answer::Miss,
        b"NS" => Answer::Error("memcached: the value was not stored".to_owned()),
        b"VA" => {
            let length = words.next().and_then(|word| str::from_utf8(word).ok()?.parse().ok());
            let length: usize = length.ok_or_else(|| strange(bytes))?;
            if length > value_bytes_max.saturating_add(STAMP.len()) {
                return Err(format!("a value of {length} bytes; at most {value_bytes_max}"));
            }
            let Some(rest) = bytes.get(after..after.saturating_add(length).saturating_add(2))
            else {
                return Ok(None);
            };
            let value = rest.strip_suffix(b"\r\n").ok_or_else(|| strange(rest))?;
            return Ok(Some((Answer::Value(value.to_vec()), after + length + 2)));
        }
        b"SERVER_ERROR" => Answer::Error(format!("memcached: {}", String::from_utf8_lossy(line))),
        b"ERROR" => return Err("it knows no meta commands: take memcached 1.6 or later".to_owned()),
        _ => return Err(strange(bytes)),
    };
    Ok(Some((answer, after)))
}

fn strange(bytes: &[u8]) -> String {
    let some = &bytes[..bytes.len().min(40)];
    format!("is it a memcached? It said {:?}", String::from_utf8_lossy(some))
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= three.len() { digit } else { b'=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_as_documented() {
        let key = |bytes: &[u8]| Key::new(bytes.to_vec()).expect("short enough");
        let out = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).expect("text")
        };
        let (text, spaced) = (key(b"a:1"), key(b"a 1"));
        assert_eq!(out(&|it| get(&text, it)), "mg a:1 v\r\n");
        assert_eq!(out(&|it| get(&spaced, it)), "mg YSAx b v\r\n");
        assert_eq!(out(&|it| set(&text, b"x\r\n", None, it)), "ms a:1 4\r\n\x01x\r\n\r\n");
        assert_eq!(out(&|it| set(&spaced, b"", Some(9), it)), "ms YSAx 1 b T9\r\n\x01\r\n");
        assert_eq!(out(&|it| delete(&spaced, it)), "md YSAx b\r\n");
        assert_eq!(out(&|it| ping(it)), "mn\r\n");
        assert!(Key::new(vec![b'a'; 250]).is_ok());
        assert_eq!(Key::new(vec![b'a'; 251]).err(), Some(251));
        assert!(Key::new(vec![0; 186]).is_ok());
        assert_eq!(Key::new(vec![0; 188]).err(), Some(252));
    }

    #[test]
    fn answers_are_cut_anywhere() {
        let value = |bytes: &[u8]| Answer::Value(bytes.to_vec());
        let table: [(&[u8], Answer); 9] = [
            (b"HD\r\n", Answer::Done),
            (b"HD b kYSAx\r\n", Answer::Done),
            (b"MN\r\n", Answer::Done),
            (b"EN\r\n", Answer::Miss),
            (b"NF\r\n", Answer::Miss),
            (b"VA 3\r\nabc\r\n", value(b"abc")),
            (b"VA 4 b\r\n\r\n\0\n\r\n", value(b"\r\n\0\n")),
            (b"VA 0\r\n\r\n", value(b"")),
            (b"SERVER_ERROR out\r\n", Answer::Error("memcached: SERVER_ERROR out".to_owned())),
        ];
        for (bytes, want) in table {
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut], 8), Ok(None), "{bytes:?} cut at {cut}");
            }
            let two = [bytes, b"HD\r\n"].concat();
            assert_eq!(parse(&two, 8), Ok(Some((want, bytes.len()))), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_the_end() {
        let long = vec![b'a'; MEMCACHED_LINE_BYTES_MAX + 1];
        let table: [(&[u8], &str); 10] = [
            (b"HTTP/1.1 400 Bad Request\r\n", "is it a memcached?"),
            (b"\r\n", "is it a memcached?"),
            (b"HD\n", "is it a memcached?"),
            (b"VA\r\n", "is it a memcached?"),
            (b"VA x\r\n", "is it a memcached?"),
            (b"VA -1\r\n", "is it a memcached?"),
            (b"VA 10\r\n", "at most 8"),
            (b"VA 1\r\nabcd", "is it a memcached?"),
            (b"ERROR\r\n", "1.6 or later"),
            (&long, "is it a memcached?"),
        ];
        for (bytes, want) in table {
            let got = parse(bytes, 8).expect_err("no answer");
            assert!(got.contains(want), "{bytes:?}: {got}");
        }
    }

    #[test]
    fn times_to_live_are_seconds_or_a_moment() {
        for (ttl_ms, want) in [
            (0, Some(1)),
            (1, Some(1)),
            (1_000, Some(1)),
            (1_001, Some(2)),
            (2_592_000_000, Some(2_592_000)),
            (2_592_000_001, Some(1_000 + 2_592_001)),
            (2_147_482_647_000, Some(2_147_483_647)),
            (2_147_482_647_001, None),
            (u128::MAX, None),
        ] {
            assert_eq!(ttl_word(ttl_ms, 1_000), want, "{ttl_ms}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let table =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (text, want) in table {
            assert_eq!(base64(text.as_bytes()), want.as_bytes(), "{text}");
        }
    }
}
