//! Lists of values for IN, in sqlx's `QueryBuilder`.

use sqlx::{Any, Encode, Error, QueryBuilder, Type};

use crate::limits::DB_IN_VALUES_MAX;

/// Lists of values in a [`QueryBuilder`] of sqlx, behind the column they are of: one statement for
/// as many lengths as possible, so that few are prepared.
///
/// PostgreSQL gets one array. The others get `IN (?, ?, ..)`, whose last value is repeated up to
/// the next power of two. `QueryBuilder<Any>` writes `?`, which PostgreSQL does not read.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// use soloist::sqlx::{QueryBuilder, Sqlite};
/// use soloist::{Db, PushIn, prelude::*};
///
/// async fn names(db: &Db<Sqlite>, ids: &[i64]) -> Result<Vec<String>> {
///     let mut query = QueryBuilder::new("SELECT name FROM users WHERE id ");
///     query.push_in(ids)?.push(" ORDER BY name");
///     Ok(query.build_query_scalar().fetch_all(db).await?)
/// }
/// # }
/// ```
pub trait PushIn<T> {
    /// Writes the condition that the column before it has one of these values. With none of them it
    /// is false. For "none of them", write NOT before the column.
    ///
    /// # Errors
    /// More than 16,384 values, but on PostgreSQL: ask for one part after the other, as
    /// `values.chunks(n)` gives them.
    ///
    /// # Panics
    /// As `push_bind` of sqlx does, for a value whose type refuses to be written; none of sqlx's
    /// own does.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// use soloist::PushIn;
    /// use soloist::sqlx::{QueryBuilder, Sqlite};
    ///
    /// let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM users WHERE NOT name ");
    /// query.push_in(&["ann", "bob", "eve"]).expect("they are few");
    /// assert!(query.into_string().ends_with("WHERE NOT name IN (?, ?, ?, ?)"));
    /// # }
    /// ```
    fn push_in(&mut self, values: &[T]) -> Result<&mut Self, Error>;
}

#[cfg(feature = "postgres")]
impl<'q, T> PushIn<T> for QueryBuilder<sqlx::Postgres>
where
    T: Encode<'q, sqlx::Postgres> + Type<sqlx::Postgres> + sqlx::postgres::PgHasArrayType,
{
    fn push_in(&mut self, values: &[T]) -> Result<&mut Self, Error> {
        Ok(self.push("= ANY(").push_bind(values).push(")"))
    }
}

/// A list for a database that has no arrays.
macro_rules! in_list {
    ($database:ty, $empty:literal) => {
        impl<'q, T> PushIn<T> for QueryBuilder<$database>
        where
            T: Encode<'q, $database> + Type<$database>,
        {
            fn push_in(&mut self, values: &[T]) -> Result<&mut Self, Error> {
                let places = places(values.len())?;
                let Some(last) = values.last() else { return Ok(self.push($empty)) };
                self.push("IN (");
                let mut list = self.separated(", ");
                for at in 0..places {
                    list.push_bind(values.get(at).unwrap_or(last));
                }
                Ok(self.push(")"))
            }
        }
    };
}

#[cfg(feature = "sqlite")]
in_list!(sqlx::Sqlite, "IN ()");
#[cfg(feature = "mysql")]
in_list!(sqlx::MySql, "IN (SELECT 1 FROM (SELECT 1) AS t WHERE 1 = 0)");
in_list!(Any, "IN (SELECT 1 FROM (SELECT 1) AS t WHERE 1 = 0)");

/// How long the list is for so many values.
fn places(count: usize) -> Result<usize, Error> {
    match count {
        0 => Ok(0),
        1..=DB_IN_VALUES_MAX => Ok(count.next_power_of_two()),
        _ => Err(Error::InvalidArgument(format!(
            "{count} values for one IN: {DB_IN_VALUES_MAX} at most, ask for one part after the other"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_few_lengths_and_a_bound() {
        let all: Vec<usize> = (0..=DB_IN_VALUES_MAX).map(|it| places(it).expect("few")).collect();
        assert!(all.iter().enumerate().all(|(count, places)| *places >= count));
        let mut lengths = all;
        lengths.dedup();
        assert_eq!(lengths.len(), 16, "0, 1, 2, 4, .. 16,384");
        let error = places(DB_IN_VALUES_MAX + 1).expect_err("too many").to_string();
        assert!(error.starts_with("16385 values for one IN: 16384 at most"), "{error}");
    }
}
