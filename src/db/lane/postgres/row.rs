//! A row of a lane.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::db::lane::LaneColumn;

/// A row that a [`PgLane`](crate::PgLane) has read. Texts and bytes may be borrowed from it.
///
/// ```
/// # use soloist::{PgLane, sqlx};
/// # async fn sample(lane: &PgLane) -> Result<(i64, Option<String>), sqlx::Error> {
/// let sql = "SELECT id, nick FROM users WHERE name = $1";
/// lane.one(sql, &[&"ann"], |row| Ok((row.get(0)?, row.get("nick")?))).await
/// # }
/// ```
#[derive(Debug)]
pub struct PgLaneRow(pub(super) Row);

impl PgLaneRow {
    /// A column, by its place or its name.
    ///
    /// # Errors
    /// `ColumnIndexOutOfBounds`, `ColumnNotFound`, or `ColumnDecode` where it is of another type,
    /// or NULL and not asked for as an `Option`.
    ///
    /// ```
    /// # use soloist::{PgLaneRow, sqlx};
    /// # fn sample(row: &PgLaneRow) -> Result<(), sqlx::Error> {
    /// let name: &str = row.get("name")?;
    /// let age: Option<i32> = row.get(1)?;
    /// # Ok(()) }
    /// ```
    pub fn get<'r, T: FromSql<'r>>(&'r self, at: impl LaneColumn) -> Result<T, sqlx::Error> {
        let at = at.at(self.0.columns().iter().map(|it| it.name()))?;
        self.0.try_get(at).map_err(|error| {
            let text = error.to_string();
            let source = error.into_source().unwrap_or_else(|| text.into());
            sqlx::Error::ColumnDecode { index: at.to_string(), source }
        })
    }

    /// How many columns it has.
    ///
    /// ```
    /// # use soloist::{PgLane, sqlx};
    /// # async fn sample(lane: &PgLane) -> Result<(), sqlx::Error> {
    /// let len = lane.one("SELECT 1, 2", &[], |row| Ok(row.len())).await?;
    /// assert_eq!(len, 2);
    /// # Ok(()) }
    /// ```
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none, as the row of `SELECT FROM users`.
    ///
    /// ```
    /// # use soloist::PgLaneRow;
    /// # fn sample(row: &PgLaneRow) {
    /// assert!(!row.is_empty());
    /// # }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The row as tokio-postgres has it.
    ///
    /// ```
    /// # use soloist::PgLaneRow;
    /// # fn sample(row: &PgLaneRow) {
    /// let names: Vec<&str> = row.inner().columns().iter().map(|it| it.name()).collect();
    /// # }
    /// ```
    pub fn inner(&self) -> &Row {
        &self.0
    }
}
