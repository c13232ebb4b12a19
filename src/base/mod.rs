//! The ground floor: what every other floor stands on. No I/O, no HTTP.

pub(crate) mod arena;
#[cfg(feature = "ws")]
pub(crate) mod backlog;
pub(crate) mod clock;
pub(crate) mod counters;
#[cfg(feature = "files")]
pub(crate) mod map;
pub(crate) mod own;
pub(crate) mod piece;
pub(crate) mod spares;
#[cfg(feature = "cache")]
pub(crate) mod told;
pub(crate) mod wheel;
pub(crate) mod wire;
