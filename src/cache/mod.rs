//! What a shard keeps for the next request: entries under a budget, for a time.

pub(crate) mod announce;
mod expiry;
// Nothing implements it without a store of all nodes.
#[cfg_attr(not(any(feature = "memcached", feature = "redis")), allow(dead_code))]
pub(crate) mod far;
mod fifo;
mod flight;
mod ghost;
mod glob;
mod hear;
pub(crate) mod hub;
pub(crate) mod key;
mod load;
mod memory;
pub(crate) mod near;
pub(crate) mod options;
mod process;
mod stale;
pub(crate) mod stats;
mod store;
