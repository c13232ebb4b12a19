//! Answering with files: folders as routes, and single ones from handlers.

mod answer;
pub(crate) mod form;
mod growing;
mod listing;
pub(crate) mod options;
mod route;
pub(crate) mod tus;
mod upload;
