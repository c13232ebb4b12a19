//! WebSockets of an application: routes, sockets, rooms, and what crosses to the other shards.

#[cfg(any(feature = "nats", feature = "redis"))]
pub(crate) mod cluster;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod options;
pub(crate) mod publish;
pub(crate) mod rooms;
pub(crate) mod route;
mod run;
pub(crate) mod socket;
mod sse;
pub(crate) mod stream;
