//! A statement with its values, as it is sent.

use sqlx::error::BoxDynError;
use sqlx::{Execute, SqlStr};

use crate::db::backend::Backend;

pub(super) struct Statement<B: Backend> {
    pub(super) sql: SqlStr,
    pub(super) arguments: B::Arguments,
    /// The connection keeps it prepared.
    pub(super) is_kept: bool,
}

impl<'q, B: Backend> Execute<'q, B> for Statement<B> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&B::Statement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<B::Arguments>, BoxDynError> {
        Ok(Some(std::mem::take(&mut self.arguments)))
    }

    fn persistent(&self) -> bool {
        self.is_kept
    }
}
