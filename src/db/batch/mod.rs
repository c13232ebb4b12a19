//! Many values in few statements: lists for IN, inserts of many rows, one statement for many rows.

mod dialect;
pub(crate) mod in_list;
pub(crate) mod insert;
pub(crate) mod repeat;
pub(crate) mod row;
mod statement;
