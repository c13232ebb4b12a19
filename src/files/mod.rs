//! Files: what is known of them, where they may lie, and their way to the socket.

pub(crate) mod append;
pub(crate) mod body;
pub(crate) mod open;
pub(crate) mod send;
pub(crate) mod temp;
pub(crate) mod tree;
pub(crate) mod uploads;
