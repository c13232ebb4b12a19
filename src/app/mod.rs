//! The meeting place: from bytes to a handler and back.

mod answering;
pub(crate) mod attachment;
pub(crate) mod body;
pub(crate) mod builder;
#[cfg(feature = "cache")]
mod cache;
pub(crate) mod call;
pub(crate) mod conn;
pub(crate) mod cookies;
pub(crate) mod core;
pub(crate) mod ctx;
#[cfg(feature = "db")]
mod database;
pub(crate) mod events;
pub(crate) mod field_lines;
pub(crate) mod fields;
#[cfg(feature = "files")]
pub(crate) mod files;
pub(crate) mod handler;
pub(crate) mod hints;
mod join;
pub(crate) mod json;
mod lean;
pub(crate) mod loader;
pub(crate) mod mailbox;
pub(crate) mod memo;
pub(crate) mod mount;
pub(crate) mod multipart;
pub(crate) mod negotiate;
pub(crate) mod next;
pub(crate) mod on_head;
pub(crate) mod once;
pub(crate) mod origin;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod over;
pub(crate) mod param;
pub(crate) mod problem;
pub(crate) mod progress;
pub(crate) mod read;
pub(crate) mod redirect;
pub(crate) mod reply;
pub(crate) mod router;
pub(crate) mod routes;
pub(crate) mod rows;
#[cfg(feature = "secure-cookies")]
pub(crate) mod secure_cookies;
pub(crate) mod site;
pub(crate) mod source;
pub(crate) mod take;
pub(crate) mod trailer;
pub(crate) mod upgrade;
pub(crate) mod url;
#[cfg(feature = "ws")]
pub(crate) mod ws;
