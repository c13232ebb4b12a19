//! One statement for many rows, in transactions of a length.

use sqlx::{Error, Executor, SqlSafeStr, SqlStr};

use super::dialect::affected;
use super::row::DbRow;
use super::statement::Statement;
use crate::db::backend::Backend;
use crate::db::handle::Db;
use crate::db::watch::yield_now;
use crate::limits::DB_STATEMENTS_A_TURN;

/// One statement that runs for many rows: see [`Db::batch`].
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// # use soloist::sqlx::Sqlite;
/// # use soloist::{Db, prelude::*};
/// async fn expire(db: &Db<Sqlite>, ids: impl Iterator<Item = i64>) -> Result<u64> {
///     let batch = db.batch("UPDATE sessions SET is_over = 1 WHERE id = $1").commit_every(1_000);
///     Ok(batch.rows(ids, |row, id| row.bind(id)).await?)
/// }
/// # }
/// ```
#[must_use = "nothing happens before `rows`"]
pub struct DbBatch<B: Backend> {
    db: Db<B>,
    sql: SqlStr,
    commit_every: usize,
}

impl<B: Backend> Db<B> {
    /// Runs one statement for many rows, one after the other in one transaction: all of them or
    /// none, and one wait for the disk. For new rows, [`insert`](Db::insert) is faster.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")]
    /// # mod sample {
    /// # use soloist::sqlx::Postgres;
    /// # use soloist::{Db, prelude::*};
    /// async fn raise(db: &Db<Postgres>, raises: &[(i64, i64)]) -> Result<u64> {
    ///     let batch = db.batch("UPDATE accounts SET cents = cents + $1 WHERE id = $2");
    ///     Ok(batch.rows(raises, |row, (id, cents)| row.bind(cents).bind(id)).await?)
    /// }
    /// # }
    /// ```
    pub fn batch(&self, sql: impl SqlSafeStr) -> DbBatch<B> {
        DbBatch { db: self.clone(), sql: sql.into_sql_str(), commit_every: usize::MAX }
    }
}

impl<B: Backend> DbBatch<B> {
    /// Commits after so many rows, and goes on in another transaction: locks are held for a shorter
    /// time, and on SQLite others may write in between. What was committed stays if a later row
    /// fails, so let the statement be one that may be run again.
    ///
    /// ```
    /// # use soloist::{Backend, Db, DbBatch};
    /// # fn sample<B: Backend>(db: &Db<B>) -> DbBatch<B> {
    /// db.batch("DELETE FROM events WHERE id = $1").commit_every(500)
    /// # }
    /// ```
    pub fn commit_every(mut self, rows: usize) -> Self {
        self.commit_every = rows.max(1);
        self
    }

    /// Runs it for these rows: `values` binds what the statement has places for. Gives how many
    /// rows the database has counted. Others of the shard have their turn in between.
    ///
    /// # Errors
    /// Those of the database: then nothing has happened since the last commit.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::Sqlite;
    /// # use soloist::{Db, prelude::*};
    /// async fn rename(db: &Db<Sqlite>, names: &[(i64, String)]) -> Result<u64> {
    ///     let batch = db.batch("UPDATE users SET name = $2 WHERE id = $1");
    ///     Ok(batch.rows(names, |row, (id, name)| row.bind(id).bind(name)).await?)
    /// }
    /// # }
    /// ```
    pub async fn rows<T>(
        self,
        rows: impl IntoIterator<Item = T>,
        mut values: impl FnMut(DbRow<B>, T) -> DbRow<B>,
    ) -> Result<u64, Error> {
        let (mut tx, mut in_tx, mut count) = (None, 0, 0);
        for (at, row) in rows.into_iter().enumerate() {
            let arguments = values(DbRow::new(), row).end()?;
            let current = match &mut tx {
                Some(current) => current,
                None => tx.insert(self.db.begin().await?),
            };
            let statement = Statement { sql: self.sql.clone(), arguments, is_kept: true };
            count += affected(&current.execute(statement).await?);
            in_tx += 1;
            if in_tx == self.commit_every
                && let Some(done) = tx.take()
            {
                done.commit().await?;
                in_tx = 0;
            }
            if at % DB_STATEMENTS_A_TURN == DB_STATEMENTS_A_TURN - 1 {
                yield_now().await;
            }
        }
        if let Some(last) = tx {
            last.commit().await?;
        }
        Ok(count)
    }
}
