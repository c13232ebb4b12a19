//! What all nodes of a service remember together: Redis, memcached, and what is heard of changes.

pub(crate) mod breaker;
pub(crate) mod ears;
pub(crate) mod error;
mod link;
#[cfg(feature = "memcached")]
pub(crate) mod memcached;
#[cfg(feature = "memcached")]
mod meta;
pub(crate) mod options;
#[cfg(feature = "memcached")]
mod pipe;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod stats;
pub(crate) mod stored;
