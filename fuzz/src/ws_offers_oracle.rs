//! The target `ws_offers`: Sec-WebSocket-Extensions, and what is answered to it.

use crate::ws::handshake;

/// The first byte chooses whether windows are kept; each line of the rest is one field.
pub fn ws_offers(data: &[u8]) {
    let [takeover, text @ ..] = data else { return };
    let (takeover, text) = (takeover & 1 == 1, String::from_utf8_lossy(text));
    let lines = || text.lines();
    for line in lines() {
        let _ = handshake::is_key(line) && handshake::accept_key(line).is_empty();
        let _ = handshake::has_token(line, "upgrade");
    }
    let agreed = handshake::agree(lines(), takeover);
    let naive = lines().flat_map(|it| it.split(',')).take(16).find_map(Offer::parse);
    assert_eq!(agreed.is_some(), naive.is_some());
    let (Some(agreed), Some(offer)) = (agreed, naive) else { return };

    let answer = agreed.answer();
    let answered = Offer::parse(&answer).expect("an answer is an offer's kind");
    // Both sides keep to what was offered, and say so (RFC 7692 section 7.1).
    assert_eq!(answered.server_none, offer.server_none || !takeover, "{answer}");
    assert_eq!(answered.client_none, offer.client_none || !takeover, "{answer}");
    assert_eq!(answered.server_bits, offer.server_bits, "{answer}");
    assert_eq!(answered.client_bits, None, "{answer}");
    assert_eq!(agreed.server_takeover, !answered.server_none);
    assert_eq!(agreed.client_takeover, !answered.client_none);
    assert_eq!(agreed.window_bits, offer.server_bits.unwrap_or(15));
    // To the answer as an offer, the answer is the same.
    let again = handshake::agree(std::iter::once(answer.as_str()), takeover).map(|it| it.answer());
    assert_eq!(again, Some(answer));
}

#[derive(Default)]
struct Offer {
    server_none: bool,
    client_none: bool,
    server_bits: Option<u8>,
    /// The outer one: it was named.
    client_bits: Option<Option<u8>>,
}

impl Offer {
    /// None if it is not one for this side.
    fn parse(text: &str) -> Option<Offer> {
        let parts: Vec<&str> = text.split(';').map(str::trim_ascii).collect();
        let (name, parameters) = parts.split_first()?;
        if name.to_ascii_lowercase() != "permessage-deflate" {
            return None;
        }
        let mut offer = Offer::default();
        for parameter in parameters {
            let (name, value) = match parameter.find('=') {
                Some(at) => (&parameter[..at], Some(parameter[at + 1..].trim_ascii())),
                None => (*parameter, None),
            };
            let bits = || {
                let value = value?;
                let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
                let value = if quoted { &value[1..value.len() - 1] } else { value };
                (8..=15u8).find(|it| it.to_string() == value)
            };
            let fresh = match &*name.trim_ascii().to_ascii_lowercase() {
                "server_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut offer.server_none, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut offer.client_none, true)
                }
                "server_max_window_bits" => {
                    let bits = bits().filter(|it| *it != 8)?;
                    offer.server_bits.replace(bits).is_none()
                }
                "client_max_window_bits" if value.is_none() => {
                    offer.client_bits.replace(None).is_none()
                }
                "client_max_window_bits" => offer.client_bits.replace(Some(bits()?)).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(offer)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/ws_offers")).unwrap()
        {
            super::ws_offers(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
