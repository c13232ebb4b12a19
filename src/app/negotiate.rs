//! Content negotiation: what the client takes, of what the handler has.

use super::ctx::Ctx;
use crate::http::accept;

/// Content negotiation (RFC 9110 section 12). An answer that depends on it should say so, with a
/// `vary` field, to the caches on its way.
impl<S> Ctx<S> {
    /// The media type on offer that the client likes best, by its Accept fields (RFC 9110 section
    /// 12.5.1): the greatest `q`, the earlier offer of equals. The first one where the client says
    /// nothing; none where it takes none of them, `q=0` included.
    ///
    /// An offer is `type/subtype`, with parameters if a range may ask for them. At most 64 entries
    /// of the client's list count.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn show(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.set_header("vary", "accept");
    ///     match cx.accepts(&["application/json", "text/html"]) {
    ///         Some("text/html") => cx.html("<p>7</p>"),
    ///         Some(_) => cx.json(&7),
    ///         None => Err(Error::new(406, "it comes as JSON or HTML")),
    ///     }
    /// }
    /// ```
    pub fn accepts<'o>(&self, offers: &[&'o str]) -> Option<&'o str> {
        accept::media(self.core.request_fields("accept"), offers)
    }

    /// The language on offer that suits the client best, by lookup (RFC 4647 section 3.4):
    /// `de-CH` takes `de-CH`, else `de`, never `de-AT`. The first one where the client says
    /// nothing, or takes any; none where no range of its list leads to an offer.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn greet(cx: &Ctx<()>) -> Result<Reply> {
    ///     let language = cx.language(&["en", "de"]).unwrap_or("en");
    ///     cx.set_header("vary", "accept-language").set_header("content-language", language);
    ///     cx.text(if language == "de" { "guten Tag" } else { "hello" })
    /// }
    /// ```
    pub fn language<'o>(&self, offers: &[&'o str]) -> Option<&'o str> {
        accept::language(self.core.request_fields("accept-language"), offers)
    }

    /// The content coding on offer that the client likes best (RFC 9110 section 12.5.3); none
    /// where the answer should go as it is.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn logo(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.set_header("vary", "accept-encoding");
    ///     match cx.encoding(&["br"]) {
    ///         Some(coding) => {
    ///             cx.set_header("content-encoding", coding);
    ///             cx.bytes("image/svg+xml", b"(compressed beforehand)")
    ///         }
    ///         None => cx.bytes("image/svg+xml", b"<svg/>"),
    ///     }
    /// }
    /// ```
    pub fn encoding<'o>(&self, offers: &[&'o str]) -> Option<&'o str> {
        accept::encoding(self.core.request_fields("accept-encoding"), offers)
    }
}
