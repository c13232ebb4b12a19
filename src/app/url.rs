//! Paths of routes by their names: links that stay right when a route moves.

use std::fmt::{Display, Write as _};

use super::ctx::Ctx;
use crate::error::{Error, Result};

impl<S> Ctx<S> {
    /// The path of the route with that [name](crate::App::name), its parameters filled in and
    /// percent-encoded (RFC 3986 section 2.1). Slashes stay slashes in a `*rest` only.
    ///
    /// A name or parameter that is not there is a mistake of the application: 500, logged.
    ///
    /// ```
    /// use soloist::prelude::*;
    ///
    /// async fn made(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.text(cx.url("todo", &[("id", &7)])?)
    /// }
    /// let app = App::new(())
    ///     .get("/todos/:id", async |cx| cx.text("a todo"))
    ///     .name("todo")
    ///     .get("/made", made);
    /// ```
    pub fn url(&self, name: &str, params: &[(&str, &dyn Display)]) -> Result<&str> {
        let Some(info) = self.core.whole.urls.get(name) else {
            return Err(Error::from(format!("no route is named {name}")));
        };
        let mut path = String::with_capacity(info.pattern.len() + 16);
        for segment in info.pattern[1..].split('/') {
            path.push('/');
            let Some(wanted) = segment.strip_prefix([':', '*']) else {
                path.push_str(segment);
                continue;
            };
            let Some((_, value)) = params.iter().find(|(known, _)| *known == wanted) else {
                return Err(Error::from(format!("url {name}: no value for {wanted}")));
            };
            let keep_slash = segment.starts_with('*');
            if write!(Encoder { out: &mut path, keep_slash }, "{value}").is_err() {
                return Err(Error::from(format!("url {name}: {wanted} cannot be written")));
            }
        }
        Ok(self.core.arena.copy(&path))
    }
}

/// Writes text as part of a path.
struct Encoder<'a> {
    out: &'a mut String,
    keep_slash: bool,
}

impl std::fmt::Write for Encoder<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.out.push(char::from(byte));
                }
                b'/' if self.keep_slash => self.out.push('/'),
                byte => write!(self.out, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}
