//! The names that an application file needs.

#[cfg(feature = "ws")]
pub use crate::Ws;
pub use crate::{App, Ctx, Error, Event, Limits, Next, Own, Reply, Result, Server, Shard};
