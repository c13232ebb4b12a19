//! The names that an application file needs.

pub use crate::{App, Ctx, Error, Event, Limits, Next, Own, Reply, Result, Server, Shard};
