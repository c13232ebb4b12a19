//! What of a file an answer has for a body.

use std::rc::Rc;

use super::open::Open;
use crate::http::range::Span;

/// A file, or parts of it.
pub(crate) struct FileBody {
    pub(crate) open: Rc<Open>,
    pub(crate) parts: Parts,
}

/// What of it, in order.
pub(crate) enum Parts {
    One(Span),
    Several(Box<Several>),
}

/// Ranges, each behind a head of its own, then the end (multipart/byteranges).
pub(crate) struct Several {
    pub(crate) parts: Vec<(Vec<u8>, Span)>,
    pub(crate) end: Vec<u8>,
}

impl FileBody {
    pub(crate) fn whole(open: Rc<Open>) -> FileBody {
        let span = Span { from: 0, to: open.len };
        FileBody { open, parts: Parts::One(span) }
    }

    pub(crate) fn len(&self) -> u64 {
        match &self.parts {
            Parts::One(span) => span.to - span.from,
            Parts::Several(several) => {
                let len = |(head, span): &(Vec<u8>, Span)| head.len() as u64 + span.len();
                several.parts.iter().map(len).sum::<u64>() + several.end.len() as u64
            }
        }
    }
}
