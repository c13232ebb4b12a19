//! What a shard keeps for the next request: entries under a budget, for a time.

mod expiry;
mod fifo;
mod flight;
mod ghost;
pub(crate) mod near;
pub(crate) mod options;
pub(crate) mod stats;
mod store;
mod tags;
