//! Base64.

/// RFC 4648 section 4, strictly: padded, without line breaks, unused bits zero. None if it is not
/// that; what it was so far is in `into` then.
pub(crate) fn decode(text: &str, into: &mut Vec<u8>) -> Option<()> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    if padding > 2 {
        return None;
    }
    let (mut bits, mut count) = (0_u32, 0);
    for byte in body.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            into.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0 && count == 2 * padding as u32).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictly_base64() {
        for (text, want) in [
            ("", Some("")),
            ("Zg==", Some("f")),
            ("Zm8=", Some("fo")),
            ("Zm9v", Some("foo")),
            ("Zm9vYg==", Some("foob")),
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some("Aladdin:open sesame")),
            ("Zg", None),
            ("Zg=", None),
            ("Zh==", None),
            ("Zm9=", None),
            ("Z===", None),
            ("====", None),
            ("Zm9v\n", None),
            ("Zm 9v", None),
            ("Zg==Zg==", None),
            ("Zm-v", None),
        ] {
            let mut into = Vec::new();
            let got = decode(text, &mut into).map(|()| str::from_utf8(&into).unwrap());
            assert_eq!(got, want, "{text:?}");
        }
    }
}
