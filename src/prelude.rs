//! The names that an application file needs.

pub use crate::{App, Ctx, Error, Limits, Next, Own, Reply, Result, Server, Shard};
