//! The opening handshake, seen from the server (RFC 6455 section 4.2, RFC 7692 section 7.1).

use super::deflate::WINDOW_BITS_MAX;

/// What of permessage-deflate both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deflate {
    /// This side's compressor goes on from message to message.
    pub(crate) server_takeover: bool,
    /// So does the client's.
    pub(crate) client_takeover: bool,
    /// This side's window.
    pub(crate) window_bits: u8,
    /// The client asked for it, so it must hear it.
    named_bits: bool,
}

/// What Sec-WebSocket-Accept answers to a key.
pub(crate) fn accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

/// Whether a key is 16 bytes in base64, as it must be.
pub(crate) fn is_key(key: &str) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with("==") && key.as_bytes()[..22].iter().all(base64)
}

/// Whether a list such as that of Connection has a token, in any case.
pub(crate) fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|it| it.trim_ascii().eq_ignore_ascii_case(token))
}

/// The first offer that suits, of the values of Sec-WebSocket-Extensions. `takeover`: this side
/// would keep its windows.
pub(crate) fn agree<'a>(offers: impl Iterator<Item = &'a str>, takeover: bool) -> Option<Deflate> {
    offers.flat_map(|list| list.split(',')).take(OFFERS_MAX).find_map(|it| suits(it, takeover))
}

fn suits(offer: &str, takeover: bool) -> Option<Deflate> {
    let mut parts = offer.split(';').map(str::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut agreed = Deflate {
        server_takeover: takeover,
        client_takeover: takeover,
        window_bits: WINDOW_BITS_MAX,
        named_bits: false,
    };
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_ascii(), Some(unquote(value.trim_ascii()))),
            None => (part, None),
        };
        let at = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        if std::mem::replace(&mut seen[at], true) {
            return None;
        }
        match (at, value) {
            (0, None) => agreed.server_takeover = false,
            (1, None) => agreed.client_takeover = false,
            (2, Some(value)) => {
                // zlib has no window of 256 bytes for what it writes.
                agreed.window_bits = bits(value).filter(|bits| *bits > 8)?;
                agreed.named_bits = true;
            }
            (3, Some(value)) => {
                bits(value)?;
            }
            (3, None) => {}
            _ => return None,
        }
    }
    Some(agreed)
}

const NAMES: [&str; 4] = [
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits",
];
/// Offers that are looked at: clients send one or two.
const OFFERS_MAX: usize = 16;

fn bits(value: &str) -> Option<u8> {
    match value.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value)
}

impl Deflate {
    /// The value of Sec-WebSocket-Extensions that says so.
    pub(crate) fn answer(&self) -> String {
        let mut out = String::from("permessage-deflate");
        if !self.server_takeover {
            out.push_str("; server_no_context_takeover");
        }
        if !self.client_takeover {
            out.push_str("; client_no_context_takeover");
        }
        if self.named_bits {
            out.push_str(&format!("; server_max_window_bits={}", self.window_bits));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        // The example of RFC 6455 section 1.3.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let cases = [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZ-==", false),
            ("", false),
        ];
        for (key, valid) in cases {
            assert_eq!(is_key(key), valid, "{key}");
        }
        assert!(has_token("keep-alive, Upgrade", "upgrade"));
        assert!(!has_token("keep-alive, upgraded", "upgrade"));
    }

    #[test]
    fn what_is_agreed_on() {
        let none = "; server_no_context_takeover; client_no_context_takeover";
        // (offers, own windows kept) -> answer behind the name, or no compression
        let cases: &[(&[&str], bool, Option<&str>)] = &[
            (&["permessage-deflate"], false, Some(none)),
            (&["permessage-deflate"], true, Some("")),
            (&["Permessage-Deflate; client_max_window_bits"], true, Some("")),
            (
                &["permessage-deflate; client_no_context_takeover"],
                true,
                Some("; client_no_context_takeover"),
            ),
            (
                &["permessage-deflate; server_no_context_takeover"],
                true,
                Some("; server_no_context_takeover"),
            ),
            (
                &["permessage-deflate; server_max_window_bits=\"10\""],
                true,
                Some("; server_max_window_bits=10"),
            ),
            (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], true, Some("")),
            (&["foo", "bar, permessage-deflate"], true, Some("")),
            (&["permessage-deflate; server_max_window_bits"], true, None),
            (&["permessage-deflate; server_max_window_bits=16"], true, None),
            (&["permessage-deflate; server_max_window_bits=010"], true, None),
            (&["permessage-deflate; client_max_window_bits=7"], true, None),
            (&["permessage-deflate; server_no_context_takeover=1"], true, None),
            (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], true, None),
            (&["permessage-deflate; unknown"], true, None),
            (&["x-webkit-deflate-frame"], true, None),
            (&[], true, None),
        ];
        for (offers, takeover, wanted) in cases {
            let agreed = agree(offers.iter().copied(), *takeover).map(|it| it.answer());
            let wanted = wanted.map(|it| format!("permessage-deflate{it}"));
            assert_eq!(agreed, wanted, "{offers:?}");
        }
    }
}
