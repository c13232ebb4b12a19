//! Answering with files: folders as routes, and single ones from handlers.

mod answer;
mod listing;
pub(crate) mod options;
mod route;
mod upload;
