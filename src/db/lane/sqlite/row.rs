//! A row of SQLite and its values, wherever it was read.

use std::rc::Rc;
use std::sync::Arc;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, Value, ValueRef};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Column, Decode, Row, Sqlite, TypeInfo, ValueRef as _};

use crate::db::lane::LaneColumn;

/// A row of a [`SqliteLane`](crate::SqliteLane), for as long as a closure looks at it.
///
/// ```
/// # use soloist::{SqliteLane, sqlx};
/// async fn initial(lane: &SqliteLane, id: i64) -> Result<Option<char>, sqlx::Error> {
///     lane.one("SELECT name FROM users WHERE id = $1", &[&id], |row| {
///         let name: &str = row.get("name")?; // borrowed, not copied
///         Ok(name.chars().next())
///     })
///     .await
/// }
/// ```
pub struct SqliteLaneRow<'r>(pub(super) Source<'r>);

pub(super) enum Source<'r> {
    Shard(&'r rusqlite::Row<'r>),
    Worker(&'r SqliteRow),
}

impl<'r> SqliteLaneRow<'r> {
    /// The value of a column.
    ///
    /// # Errors
    /// A column that is not there; a value of another type, or NULL where no `Option` is asked for.
    ///
    /// ```
    /// # use soloist::{SqliteLaneRow, sqlx};
    /// fn entry(row: &SqliteLaneRow<'_>) -> Result<(i64, Option<String>), sqlx::Error> {
    ///     Ok((row.get("id")?, row.get("name")?))
    /// }
    /// ```
    pub fn get<'a, T: FromSqlite<'a>>(&'a self, column: impl LaneColumn) -> Result<T, sqlx::Error> {
        self.read(column, T::from_sqlite)
    }

    /// The value of a column as any type that rusqlite knows, by its features or by an
    /// implementation of yours.
    ///
    /// # Errors
    /// As of [`get`](SqliteLaneRow::get).
    ///
    /// ```
    /// # use soloist::{SqliteLaneRow, rusqlite, sqlx};
    /// use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
    ///
    /// enum Colour { Red, Blue }
    ///
    /// impl FromSql for Colour {
    ///     fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
    ///         match value.as_str()? {
    ///             "red" => Ok(Colour::Red),
    ///             "blue" => Ok(Colour::Blue),
    ///             other => Err(FromSqlError::Other(format!("no colour: {other}").into())),
    ///         }
    ///     }
    /// }
    ///
    /// fn colour(row: &SqliteLaneRow<'_>) -> Result<Colour, sqlx::Error> {
    ///     row.decode("colour")
    /// }
    /// ```
    pub fn decode<T: FromSql>(&self, column: impl LaneColumn) -> Result<T, sqlx::Error> {
        self.read(column, T::column_result)
    }

    /// How many columns it has.
    ///
    /// ```
    /// # use soloist::SqliteLaneRow;
    /// fn is_wide(row: &SqliteLaneRow<'_>) -> bool {
    ///     row.columns() > 20
    /// }
    /// ```
    pub fn columns(&self) -> usize {
        match self.0 {
            Source::Shard(row) => row.as_ref().column_count(),
            Source::Worker(row) => row.len(),
        }
    }

    fn read<'a, T>(
        &'a self,
        column: impl LaneColumn,
        read: impl FnOnce(ValueRef<'a>) -> FromSqlResult<T>,
    ) -> Result<T, sqlx::Error> {
        let places = 0..self.columns();
        let (at, value) = match self.0 {
            Source::Shard(row) => {
                let statement = row.as_ref();
                let at = column.at(places.map(|at| statement.column_name(at).unwrap_or("")))?;
                (at, row.get_ref(at).map_err(|it| decode_error(at, it))?)
            }
            Source::Worker(row) => {
                let at = column.at(places.map(|at| row.column(at).name()))?;
                (at, value_of(row, at)?)
            }
        };
        read(value).map_err(|error| decode_error(at, error))
    }
}

impl std::fmt::Debug for SqliteLaneRow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteLaneRow of {} columns", self.columns())
    }
}

fn decode_error(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: at.to_string(), source: Box::new(error) }
}

/// A value of sqlx as one of rusqlite.
fn value_of(row: &SqliteRow, at: usize) -> Result<ValueRef<'_>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    let wrong = |source| sqlx::Error::ColumnDecode { index: at.to_string(), source };
    if value.is_null() {
        return Ok(ValueRef::Null);
    }
    // Of one that is not NULL, this is what it is stored as, whatever its column was declared.
    let kind = value.type_info().into_owned();
    Ok(match kind.name() {
        "INTEGER" => ValueRef::Integer(<i64 as Decode<Sqlite>>::decode(value).map_err(wrong)?),
        "REAL" => ValueRef::Real(<f64 as Decode<Sqlite>>::decode(value).map_err(wrong)?),
        "TEXT" => ValueRef::Text(<&[u8] as Decode<Sqlite>>::decode(value).map_err(wrong)?),
        _ => ValueRef::Blob(<&[u8] as Decode<Sqlite>>::decode(value).map_err(wrong)?),
    })
}

/// The values of a query for the worker.
pub(super) fn arguments(values: &[&dyn ToSql]) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        let value = value.to_sql().map_err(|it| sqlx::Error::Encode(Box::new(it)))?;
        let value = match &value {
            ToSqlOutput::Borrowed(value) => *value,
            ToSqlOutput::Owned(value) => ValueRef::from(value),
            _ => return Err(sqlx::Error::Encode("a value of no plain type".into())),
        };
        let added = match value {
            ValueRef::Null => arguments.add(None::<i64>),
            ValueRef::Integer(number) => arguments.add(number),
            ValueRef::Real(number) => arguments.add(number),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text);
                arguments.add(text.map_err(|it| sqlx::Error::Encode(Box::new(it)))?)
            }
            ValueRef::Blob(bytes) => arguments.add(bytes),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// What [`SqliteLaneRow::get`] can give: numbers, texts, bytes, borrowed from the row or owned, and
/// `Option` of them where NULL may be.
///
/// ```
/// # use soloist::SqliteLaneRow;
/// # fn sample(row: &SqliteLaneRow<'_>) -> Result<(), soloist::sqlx::Error> {
/// let (name, photo): (&str, Option<&[u8]>) = (row.get("name")?, row.get("photo")?);
/// # Ok(()) }
/// ```
pub trait FromSqlite<'r>: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// One of another type.
    ///
    /// ```
    /// use soloist::{FromSqlite, rusqlite::types::ValueRef};
    /// assert_eq!(i64::from_sqlite(ValueRef::Integer(7)), Ok(7));
    /// assert!(i64::from_sqlite(ValueRef::Null).is_err());
    /// ```
    fn from_sqlite(value: ValueRef<'r>) -> FromSqlResult<Self>;
}

macro_rules! owned {
    ($($type:ty),*) => {
        $(impl FromSqlite<'_> for $type {
            fn from_sqlite(value: ValueRef<'_>) -> FromSqlResult<Self> {
                FromSql::column_result(value)
            }
        })*
    };
}

owned!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64, bool);
owned!(String, Box<str>, Rc<str>, Arc<str>, Vec<u8>, Box<[u8]>, Value);

impl<'r> FromSqlite<'r> for &'r str {
    fn from_sqlite(value: ValueRef<'r>) -> FromSqlResult<Self> {
        value.as_str()
    }
}

impl<'r> FromSqlite<'r> for &'r [u8] {
    fn from_sqlite(value: ValueRef<'r>) -> FromSqlResult<Self> {
        value.as_bytes()
    }
}

impl<'r> FromSqlite<'r> for ValueRef<'r> {
    fn from_sqlite(value: ValueRef<'r>) -> FromSqlResult<Self> {
        Ok(value)
    }
}

impl<'r, const LEN: usize> FromSqlite<'r> for [u8; LEN] {
    fn from_sqlite(value: ValueRef<'r>) -> FromSqlResult<Self> {
        FromSql::column_result(value)
    }
}

impl<'r, T: FromSqlite<'r>> FromSqlite<'r> for Option<T> {
    fn from_sqlite(value: ValueRef<'r>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Null => Ok(None),
            other => T::from_sqlite(other).map(Some),
        }
    }
}
