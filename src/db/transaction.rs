//! A transaction on a connection of a slice.

use std::ops::{Deref, DerefMut};

use sqlx_core::transaction::TransactionManager;

use super::backend::Backend;
use super::counting::Closed;
use super::live::DbConnection;

/// A transaction: see [`Db::begin`](crate::Db::begin). Queries run on `&mut *tx`. Dropped before
/// its [`commit`](DbTransaction::commit), by an error, a panic or a request that was cancelled, it
/// is rolled back, and its connection is used again only when that is proven.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// # use soloist::sqlx::{self, Sqlite};
/// # use soloist::{Db, prelude::*};
/// async fn rename(db: &Db<Sqlite>, id: i64, name: &str) -> Result<()> {
///     let mut tx = db.begin().await?;
///     let query = sqlx::query("UPDATE users SET name = $1 WHERE id = $2").bind(name).bind(id);
///     if query.execute(&mut *tx).await?.rows_affected() == 0 {
///         return Err(Error::not_found()); // nothing has happened
///     }
///     Ok(tx.commit().await?)
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct DbTransaction<'c, B: Backend> {
    conn: Held<'c, B>,
    is_open: bool,
}

/// What a transaction runs on: a connection of its own, or that of the one around it.
#[derive(Debug)]
enum Held<'c, B: Backend> {
    Own(DbConnection<B>),
    Outer(&'c mut DbConnection<B>),
}

/// Refused in a transaction that was given up.
const ASK: &str = "SELECT 1";

impl<B: Backend> DbTransaction<'static, B> {
    pub(super) fn new(mut conn: DbConnection<B>) -> Self {
        conn.set_in_transaction(true);
        DbTransaction { conn: Held::Own(conn), is_open: true }
    }
}

impl<B: Backend> DbTransaction<'_, B> {
    /// Makes what it did last; of a savepoint, a part of the transaction around it.
    ///
    /// # Errors
    /// When the server refuses, or is gone: then nobody knows whether it has happened. When a query
    /// of it has failed and the server has given it up for that, also if the error was passed over:
    /// then nothing has happened. A savepoint around such a query keeps the rest.
    ///
    /// ```
    /// # use soloist::{Backend, DbTransaction, Result};
    /// # async fn sample<B: Backend>(tx: DbTransaction<'_, B>) -> Result<()> {
    /// tx.commit().await?;
    /// # Ok(()) }
    /// ```
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let is_in_doubt = self.is_in_doubt();
        let (sqlx, watch) = self.start_query()?;
        let done = watch.within(async {
            if is_in_doubt {
                // PostgreSQL rolls back what it was asked to commit, and calls it done.
                B::run(sqlx, ASK.to_owned()).await?;
            }
            B::TransactionManager::commit(sqlx).await
        });
        let done = done.await;
        self.comes_back();
        let done = self.end_query(done);
        self.is_open = done.is_err();
        done
    }

    /// Undoes what it did, and waits until that is done. A drop does it too, later.
    ///
    /// # Errors
    /// When the server is gone.
    ///
    /// ```
    /// # use soloist::{Backend, DbTransaction, Result};
    /// # async fn sample<B: Backend>(tx: DbTransaction<'_, B>) -> Result<()> {
    /// tx.rollback().await?;
    /// # Ok(()) }
    /// ```
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.is_gone() {
            return Ok(());
        }
        self.comes_back();
        let (sqlx, watch) = self.start_query()?;
        let done = watch.within(B::TransactionManager::rollback(sqlx)).await;
        let done = self.end_query(done);
        self.is_open = done.is_err();
        done
    }

    /// A savepoint: a transaction within this one, rolled back alone if it drops.
    ///
    /// # Errors
    /// When the server refuses, or is gone.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::{self, Sqlite};
    /// # use soloist::{Db, prelude::*};
    /// async fn add(db: &Db<Sqlite>, names: &[&str]) -> Result<()> {
    ///     let mut tx = db.begin().await?;
    ///     for name in names {
    ///         let mut each = tx.begin().await?;
    ///         let query = sqlx::query("INSERT INTO users (name) VALUES ($1)").bind(*name);
    ///         if query.execute(&mut *each).await.is_ok() {
    ///             each.commit().await?; // a name that is taken undoes its own insert only
    ///         }
    ///     }
    ///     Ok(tx.commit().await?)
    /// }
    /// # }
    /// ```
    pub async fn begin(&mut self) -> Result<DbTransaction<'_, B>, sqlx::Error> {
        let (sqlx, watch) = self.start_query()?;
        let begun = watch.within(B::TransactionManager::begin(sqlx, None)).await;
        self.end_query(begun)?;
        Ok(DbTransaction { conn: Held::Outer(&mut *self), is_open: true })
    }

    /// Whether the server has rolled it back as a part of the whole transaction.
    fn is_gone(&self) -> bool {
        self.is_rolled_back() && (self.is_unusable() || matches!(self.conn, Held::Outer(_)))
    }

    /// Its end tells what is left on its connection, unless it is another's.
    fn comes_back(&mut self) {
        if let Held::Own(conn) = &mut self.conn {
            conn.set_in_transaction(false);
        }
    }
}

impl<B: Backend> Deref for DbTransaction<'_, B> {
    type Target = DbConnection<B>;

    fn deref(&self) -> &DbConnection<B> {
        match &self.conn {
            Held::Own(conn) => conn,
            Held::Outer(conn) => conn,
        }
    }
}

impl<B: Backend> DerefMut for DbTransaction<'_, B> {
    fn deref_mut(&mut self) -> &mut DbConnection<B> {
        match &mut self.conn {
            Held::Own(conn) => conn,
            Held::Outer(conn) => conn,
        }
    }
}

impl<B: Backend> Drop for DbTransaction<'_, B> {
    fn drop(&mut self) {
        if self.is_gone() {
            // sqlx counts a savepoint that is no more.
            self.break_for(Closed::Error);
        }
        // A connection whose query has not ended is stopped and closed.
        if self.is_open && !self.is_unusable() {
            B::TransactionManager::start_rollback(&mut ***self);
        }
    }
}
