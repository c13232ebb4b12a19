//! The meeting place: from bytes to a handler and back.

pub(crate) mod body;
pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod conn;
pub(crate) mod core;
pub(crate) mod ctx;
pub(crate) mod fields;
pub(crate) mod handler;
pub(crate) mod json;
pub(crate) mod mailbox;
pub(crate) mod mount;
pub(crate) mod negotiate;
pub(crate) mod next;
pub(crate) mod once;
pub(crate) mod reply;
pub(crate) mod router;
pub(crate) mod routes;
pub(crate) mod site;
pub(crate) mod take;
pub(crate) mod upgrade;
pub(crate) mod url;
