//! Fast lanes: ways to a database beside its pool, each for queries of one kind.

#[cfg(feature = "postgres-lane")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite-lane")]
pub(crate) mod sqlite;

/// A column of a lane's row: by its place, from 0 on, or by its name.
///
/// ```
/// # #[cfg(feature = "sqlite-lane")]
/// # mod sample {
/// # use soloist::{SqliteLane, sqlx};
/// # async fn sample(lane: &SqliteLane) -> Result<(i64, String), sqlx::Error> {
/// let sql = "SELECT id, name FROM users LIMIT 1";
/// lane.one(sql, &[], |row| Ok((row.get(0)?, row.get("name")?))).await
/// # }
/// # }
/// ```
pub trait LaneColumn: sealed::Sealed {
    /// Where it is among these.
    #[doc(hidden)]
    fn at<'n>(&self, names: impl ExactSizeIterator<Item = &'n str>) -> Result<usize, sqlx::Error>;
}

mod sealed {
    /// Ours alone: places and names are what there is.
    pub trait Sealed {}
    impl Sealed for usize {}
    impl Sealed for &str {}
}

impl LaneColumn for usize {
    fn at<'n>(&self, names: impl ExactSizeIterator<Item = &'n str>) -> Result<usize, sqlx::Error> {
        let (index, len) = (*self, names.len());
        if index < len {
            Ok(index)
        } else {
            Err(sqlx::Error::ColumnIndexOutOfBounds { index, len })
        }
    }
}

impl LaneColumn for &str {
    fn at<'n>(
        &self,
        mut names: impl ExactSizeIterator<Item = &'n str>,
    ) -> Result<usize, sqlx::Error> {
        let at = names.position(|it| it == *self);
        at.ok_or_else(|| sqlx::Error::ColumnNotFound((*self).to_owned()))
    }
}
