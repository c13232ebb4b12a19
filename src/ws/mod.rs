//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692): bytes in, bytes out, no I/O.
//!
//! Opcodes, close codes, frame headers and the accept key are tungstenite's. What lies between is
//! our own: its reader copies each payload into a message of its own, knows no compression, and
//! has no frame that is made once for many sockets.

pub(crate) mod deflate;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod incoming;
mod mask;

/// Why a connection fails (RFC 6455 section 7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The close code (section 7.4.1).
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

/// The peer breaks the protocol.
pub(crate) const PROTOCOL: u16 = 1002;
/// Bytes that are not what they say they are.
pub(crate) const INVALID: u16 = 1007;
/// More than this side takes.
pub(crate) const TOO_LARGE: u16 = 1009;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}
