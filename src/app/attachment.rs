//! Answers that are to be saved as files.

use super::ctx::Ctx;
use crate::http::disposition::Attachment;

/// Answering with a file to save.
impl<S> Ctx<S> {
    /// Makes the answer a download with that name: sets Content-Disposition (RFC 6266), in UTF-8
    /// too where the name needs it (RFC 8187). Path separators and control characters become `_`.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn report(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.attachment("2024 report.csv").bytes("text/csv", "a,b\n1,2\n")
    /// }
    /// ```
    pub fn attachment(&self, name: impl AsRef<str>) -> &Self {
        let value = self.format(format_args!("{}", Attachment(name.as_ref())));
        self.set_header("content-disposition", value)
    }
}
