//! HTTP/1.1 as bytes in, bytes out: no I/O and no clock of its own.

pub(crate) mod accept;
pub(crate) mod base64;
#[cfg(feature = "cache")]
pub(crate) mod cache_control;
pub(crate) mod chunked;
#[cfg(any(feature = "files", feature = "cache"))]
pub(crate) mod conditional;
pub(crate) mod cookie;
pub(crate) mod date;
pub(crate) mod disposition;
pub(crate) mod encode;
pub(crate) mod form;
pub(crate) mod forwarded;
pub(crate) mod head;
pub(crate) mod location;
pub(crate) mod multipart;
pub(crate) mod net;
pub(crate) mod percent;
#[cfg(feature = "files")]
pub(crate) mod range;
pub(crate) mod sse;
pub(crate) mod tags;
pub(crate) mod trailer;
