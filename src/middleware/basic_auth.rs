//! Basic authentication (RFC 7617).

use super::bearer_auth::{credentials, quoted};
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::error::{Error, Result};

/// Lets through who gives a name and a password that `check` accepts; anyone else gets 401 and
/// `WWW-Authenticate: Basic`.
///
/// `check` may await: a look-up in a database, or a slow hash by
/// [`Shard::blocking`](crate::Shard::blocking). What the handler should know of the user it keeps
/// with [`Ctx::put`]. Compare secrets with [`same_secret`](super::same_secret), which takes the
/// same time for a near miss. Use it over https only: a password travels in the clear.
///
/// ```
/// use soloist::middleware::{basic_auth, same_secret};
/// use soloist::prelude::*;
///
/// let admins = basic_auth("admin", async |_: &Ctx<()>, name: &str, password: &str| {
///     Ok(name == "ann" && same_secret(password, "swordfish"))
/// });
/// let app = App::new(()).wrap(admins).get("/", async |cx| cx.text("hello, ann"));
/// ```
pub fn basic_auth<S: 'static>(
    realm: &str,
    check: impl AsyncFn(&Ctx<S>, &str, &str) -> Result<bool> + 'static,
) -> impl Middleware<S> {
    let challenge = format!("Basic realm={}, charset=\"UTF-8\"", quoted(realm));
    async move |cx: &Ctx<S>, next: Next<'_>| {
        if let Some(text) = credentials(cx, "basic").and_then(|it| decoded(cx, it))
            && let Some((name, password)) = text.split_once(':')
            && check(cx, name, password).await?
        {
            return next.run().await;
        }
        Err(Error::unauthorized().set("www-authenticate", challenge.as_str()))
    }
}

/// Base64 of UTF-8 without control characters, in the arena.
fn decoded<'a, S>(cx: &'a Ctx<S>, base64: &str) -> Option<&'a str> {
    let spares = &cx.core.local.spares;
    let mut bytes = spares.take();
    let whole = decode_base64(base64, &mut bytes);
    let text = whole.and_then(|()| str::from_utf8(&bytes).ok());
    let text = text.filter(|text| !text.contains(|c: char| c.is_ascii_control()));
    let text = text.map(|text| cx.core.arena.copy(text));
    spares.give(bytes);
    text
}

/// RFC 4648 section 4, strictly: padded, without line breaks, unused bits zero.
fn decode_base64(text: &str, into: &mut Vec<u8>) -> Option<()> {
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
    fn base64() {
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
            let got = decode_base64(text, &mut into).map(|()| str::from_utf8(&into).unwrap());
            assert_eq!(got, want, "{text:?}");
        }
    }
}
