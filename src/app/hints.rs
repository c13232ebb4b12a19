//! Early hints: what a client may fetch while the answer is still being made.

use super::core::Phase;
use super::ctx::Ctx;
use crate::error::{Error, Result};
use crate::http::encode::{self, field_is_clean};

/// Answering ahead of the answer.
impl<S> Ctx<S> {
    /// Sends 103 Early Hints with these fields before the answer (RFC 8297). Nothing is sent to an
    /// HTTP/1.0 client, which knows no interim answers.
    ///
    /// It leaves when the handler waits for the first time. What it says is not said again in the
    /// answer. Some old proxies and clients take an interim answer for the final one: send it
    /// where you know who is in between.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn slow_query() -> Result<String> { Ok(String::new()) }
    /// async fn page(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.early_hints(&[("link", "</a.css>; rel=preload; as=style")])?;
    ///     cx.html(slow_query().await?)
    /// }
    /// ```
    ///
    /// # Errors
    /// When the head of the answer has left, and when a field cannot be sent: a line break, or a
    /// field that frames the message. Then nothing is sent.
    pub fn early_hints(&self, fields: &[(&str, &str)]) -> Result<()> {
        if !matches!(self.core.phase.get(), Phase::Open | Phase::Answered) {
            return Err(Error::from("early hints after the head of the answer"));
        }
        let framing = |name: &str| FRAMING.iter().any(|it| name.eq_ignore_ascii_case(it));
        if let Some((name, _)) = fields.iter().find(|(n, v)| !field_is_clean(n, v) || framing(n)) {
            return Err(Error::from(format!("{name:?} cannot be sent in early hints")));
        }
        if self.core.head.minor == 0 {
            return Ok(());
        }
        let spares = &self.core.local.spares;
        let mut lines = spares.take();
        for (name, value) in fields {
            for part in [name, ": ", value, "\r\n"] {
                lines.extend_from_slice(part.as_bytes());
            }
        }
        self.core.wire().write(|out| encode::interim(out, 103, &lines));
        spares.give(lines);
        Ok(())
    }
}

/// They would say how long an answer is that has no body, or end the connection.
const FRAMING: [&str; 5] =
    ["connection", "content-length", "trailer", "transfer-encoding", "upgrade"];
