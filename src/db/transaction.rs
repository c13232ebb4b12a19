//! A transaction on a connection of a slice.

use std::ops::{Deref, DerefMut};

use sqlx::{Connection, Transaction};
use sqlx_core::transaction::TransactionManager;

use super::backend::Backend;
use super::live::DbConnection;

/// A transaction: see [`Db::begin`](crate::Db::begin). Queries run on `&mut *tx`. Dropped before its
/// [`commit`](DbTransaction::commit), by an error, a panic or a request that was cancelled, it is
/// rolled back, and its connection is used again only when that is proven.
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
pub struct DbTransaction<B: Backend> {
    conn: DbConnection<B>,
    is_open: bool,
}

impl<B: Backend> DbTransaction<B> {
    pub(super) fn new(conn: DbConnection<B>) -> Self {
        DbTransaction { conn, is_open: true }
    }

    /// Makes what it did last.
    ///
    /// # Errors
    /// When the server refuses, or is gone: then nobody knows whether it has happened.
    ///
    /// ```
    /// # use soloist::{Backend, DbTransaction, Result};
    /// # async fn sample<B: Backend>(tx: DbTransaction<B>) -> Result<()> {
    /// tx.commit().await?;
    /// # Ok(()) }
    /// ```
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let (sqlx, watch) = self.conn.begin();
        let done = watch.within(B::TransactionManager::commit(sqlx)).await;
        let done = self.conn.end(None, done);
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
    /// # async fn sample<B: Backend>(tx: DbTransaction<B>) -> Result<()> {
    /// tx.rollback().await?;
    /// # Ok(()) }
    /// ```
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        let (sqlx, watch) = self.conn.begin();
        let done = watch.within(B::TransactionManager::rollback(sqlx)).await;
        let done = self.conn.end(None, done);
        self.is_open = done.is_err();
        done
    }

    /// A savepoint: a transaction within this one, sqlx's own, rolled back alone if it drops.
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
    pub async fn begin(&mut self) -> Result<Transaction<'_, B>, sqlx::Error> {
        Connection::begin(&mut *self.conn).await
    }
}

impl<B: Backend> Deref for DbTransaction<B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        &self.conn
    }
}

impl<B: Backend> DerefMut for DbTransaction<B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        &mut self.conn
    }
}

impl<B: Backend> Drop for DbTransaction<B> {
    fn drop(&mut self) {
        // While a commit or rollback runs, its connection is stopped and closed.
        if self.is_open && !self.conn.is_running() {
            B::TransactionManager::start_rollback(&mut self.conn);
        }
    }
}
