//! The values of a row on their way into a statement.

use sqlx::error::BoxDynError;
use sqlx::{Arguments, Encode, Error, Type};

use crate::db::backend::Backend;

/// A row that is being written: see [`DbInsert::rows`](crate::DbInsert::rows) and
/// [`DbBatch::rows`](crate::DbBatch::rows).
///
/// ```
/// use soloist::{Backend, DbRow, sqlx};
///
/// struct Point {
///     x: i64,
///     y: i64,
/// }
///
/// fn values<B: Backend>(row: DbRow<B>, point: &Point) -> DbRow<B>
/// where
///     i64: for<'q> sqlx::Encode<'q, B> + sqlx::Type<B>,
/// {
///     row.bind(point.x).bind(point.y)
/// }
/// ```
pub struct DbRow<B: Backend> {
    arguments: B::Arguments,
    /// The first value that could not be written.
    error: Option<BoxDynError>,
}

impl<B: Backend> DbRow<B> {
    pub(super) fn new() -> DbRow<B> {
        DbRow { arguments: B::Arguments::default(), error: None }
    }

    /// The next value: of the next column, or in the next place of the statement.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::{DbRow, sqlx::Sqlite};
    /// fn values(row: DbRow<Sqlite>, (id, name): (i64, &str)) -> DbRow<Sqlite> {
    ///     row.bind(id).bind(name)
    /// }
    /// # }
    /// ```
    pub fn bind<'q, T>(mut self, value: T) -> DbRow<B>
    where
        T: Encode<'q, B> + Type<B>,
    {
        if self.error.is_none() {
            self.error = self.arguments.add(value).err();
        }
        self
    }

    pub(super) fn count(&self) -> usize {
        self.arguments.len()
    }

    pub(super) fn is_well(&self) -> bool {
        self.error.is_none()
    }

    /// The values, if all could be written.
    pub(super) fn end(self) -> Result<B::Arguments, Error> {
        match self.error {
            None => Ok(self.arguments),
            Some(error) => Err(Error::Encode(error)),
        }
    }
}

impl<B: Backend> std::fmt::Debug for DbRow<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DbRow with {} values", self.count())
    }
}
