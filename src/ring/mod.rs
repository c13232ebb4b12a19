//! One shard's io_uring: operations in, completions out. The only folder that names io-uring.

mod buffers;
mod event;
#[cfg(feature = "files")]
pub(crate) mod file;
pub(crate) mod probe;
pub(crate) mod socket;
mod uring;

pub(crate) use buffers::BufferId;
pub(crate) use event::{Event, Timer, Token};
pub(crate) use uring::{Issued, Ring, SendStep, eventfd, signal};
