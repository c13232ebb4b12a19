//! Databases on a shard: sqlx, driven by the shard, with slices of one budget of connections.
//!
//! Read first: `slice.rs` (how queries and connections meet), then `keeper.rs` (what is done beside
//! them).

pub(crate) mod adapt;
pub(crate) mod backend;
pub(crate) mod batch;
mod budget;
mod call;
pub(crate) mod counting;
mod execute;
pub(crate) mod fault;
pub(crate) mod handle;
pub(crate) mod health;
mod keeper;
#[cfg(any(feature = "postgres-lane", feature = "sqlite-lane"))]
pub(crate) mod lane;
#[cfg(feature = "postgres")]
pub(crate) mod listen;
pub(crate) mod live;
pub(crate) mod options;
mod query;
mod server;
pub(crate) mod sizing;
mod slice;
mod standings;
pub(crate) mod stats;
pub(crate) mod transaction;
mod watch;
