//! Answering with files: folders as routes, and single ones from handlers.

mod answer;
pub(crate) mod form;
mod listing;
pub(crate) mod options;
mod route;
mod upload;
