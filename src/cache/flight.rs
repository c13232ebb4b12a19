//! Loads that are under way: one a key, whoever else wants it waits.

use std::cell::Cell;

use super::process::Terms;
use crate::base::told::Told;
use crate::error::{Error, SentError};

/// One load and those who wait for it.
pub(super) struct Flight<V> {
    pub(super) end: Told<End<V>>,
    /// What it loads was invalidated meanwhile: it is not stored.
    pub(super) void: Cell<bool>,
    /// Of before it began; its time begins with its end.
    pub(super) terms: Terms,
}

/// How a load ended, for those who waited.
#[derive(Clone)]
pub(super) enum End<V> {
    Loaded(V),
    /// All but the cause, which has one owner.
    Failed(SentError),
    /// It panicked or was dropped: somebody else may try.
    Abandoned,
}

impl<V> Flight<V> {
    pub(super) fn new(terms: Terms) -> Flight<V> {
        Flight { end: Told::default(), void: Cell::new(false), terms }
    }
}

impl<V> End<V> {
    pub(super) fn failed(error: &Error) -> End<V> {
        End::Failed(SentError::pack(error))
    }
}
