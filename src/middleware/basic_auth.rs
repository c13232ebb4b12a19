//! Basic authentication (RFC 7617).

use super::bearer_auth::{credentials, quoted};
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::error::{Error, Result};
use crate::http::base64;

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
fn decoded<'a, S>(cx: &'a Ctx<S>, text: &str) -> Option<&'a str> {
    let spares = &cx.core.local.spares;
    let mut bytes = spares.take();
    let whole = base64::decode(text, &mut bytes);
    let text = whole.and_then(|()| str::from_utf8(&bytes).ok());
    let text = text.filter(|text| !text.contains(|c: char| c.is_ascii_control()));
    let text = text.map(|text| cx.core.arena.copy(text));
    spares.give(bytes);
    text
}
