//! Bearer tokens (RFC 6750).

use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::error::{Error, Result};

/// Lets through who sends `Authorization: Bearer` with a token that `check` accepts; anyone else
/// gets 401 and `WWW-Authenticate: Bearer`, with `error="invalid_token"` if there was a token.
///
/// `check` may await, and keeps what the handler should know with [`Ctx::put`]. Compare secrets
/// with [`same_secret`](super::same_secret).
///
/// ```
/// use soloist::middleware::{bearer_auth, same_secret};
/// use soloist::prelude::*;
///
/// struct User(&'static str);
///
/// let users = bearer_auth("api", async |cx: &Ctx<()>, token: &str| {
///     let known = same_secret(token, "3c6e0b8a9c15224a");
///     if known {
///         cx.put(User("ann"));
///     }
///     Ok(known)
/// });
/// let app = App::new(()).wrap(users).get("/me", async |cx| {
///     let User(name) = cx.got::<User>().ok_or_else(Error::unauthorized)?;
///     cx.text(name)
/// });
/// ```
pub fn bearer_auth<S: 'static>(
    realm: &str,
    check: impl AsyncFn(&Ctx<S>, &str) -> Result<bool> + 'static,
) -> impl Middleware<S> {
    let challenge = format!("Bearer realm={}", quoted(realm));
    let refused = format!("{challenge}, error=\"invalid_token\"");
    async move |cx: &Ctx<S>, next: Next<'_>| {
        let token = credentials(cx, "bearer");
        if let Some(token) = token.filter(|token| is_token68(token))
            && check(cx, token).await?
        {
            return next.run().await;
        }
        let challenge = if token.is_some() { &refused } else { &challenge };
        Err(Error::unauthorized().set("www-authenticate", challenge.as_str()))
    }
}

/// What follows the scheme in the only Authorization field (RFC 9110 section 11.4).
pub(super) fn credentials<'a, S>(cx: &'a Ctx<S>, scheme: &str) -> Option<&'a str> {
    let (given, rest) = cx.core.only_request_field("authorization")?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim_matches(' '))
}

/// A quoted string (RFC 9110 section 5.6.4). What cannot stand in one is left out.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

fn is_token68(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}
