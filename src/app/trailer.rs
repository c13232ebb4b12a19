//! Fields behind a streamed body: what is known only once it has been written.

use super::reply::Stream;
use crate::error::{Error, Result};
use crate::http::trailer;
use crate::limits::{TRAILER_BYTES_MAX, TRAILERS_MAX};

impl Stream<'_> {
    /// Adds a field that follows the body (RFC 9110 section 6.5), in `finish`.
    ///
    /// Only a chunked body has trailers: to an HTTP/1.0 client, and in answer to HEAD, nothing is
    /// sent. Many clients drop them, so say nothing there that must be known. Announce them with
    /// a `trailer` field before the head leaves, if you like.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn export(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut out = cx.set_header("trailer", "x-rows").stream("text/plain").await?;
    ///     out.write("one\ntwo\n").await?;
    ///     out.trailer("x-rows", "2")?;
    ///     out.finish().await
    /// }
    /// ```
    ///
    /// # Errors
    /// When the field frames, routes or authenticates, or steers caches and clients, which is no
    /// use after the body (RFC 9110 section 6.5.1); when it holds a line break; and beyond 32
    /// fields or 8 KiB.
    pub fn trailer(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let value = value.as_ref();
        if !trailer::is_allowed(name, value) {
            return Err(Error::from(format!("{name:?} cannot be sent as a trailer")));
        }
        let fields = self.trailers.iter().filter(|byte| **byte == b'\n').count();
        let line_bytes = name.len() + value.len() + 4;
        if fields >= TRAILERS_MAX || self.trailers.len() + line_bytes > TRAILER_BYTES_MAX {
            return Err(Error::from("too many trailers: at most 32 fields, 8 KiB in all"));
        }
        if self.trailers.capacity() == 0 {
            self.trailers = self.core.local.spares.take();
        }
        for part in [name, ": ", value, "\r\n"] {
            self.trailers.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }
}
