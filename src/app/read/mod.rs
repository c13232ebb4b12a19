//! Readers over what comes piece by piece: lines, JSON values, records; each in bounded memory.

#[cfg(feature = "csv")]
pub(crate) mod csv;
mod feed;
#[cfg(feature = "csv")]
mod field;
pub(crate) mod items;
pub(crate) mod lines;
