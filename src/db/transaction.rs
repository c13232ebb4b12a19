//! A transaction on a connection of a slice.

use std::ops::{Deref, DerefMut};

use sqlx_core::transaction::TransactionManager;

use super::backend::Backend;
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
    /// When the server refuses, or is gone: then nobody knows whether it has happened.
    ///
    /// ```
    /// # use soloist::{Backend, DbTransaction, Result};
    /// # async fn sample<B: Backend>(tx: DbTransaction<'_, B>) -> Result<()> {
    /// tx.commit().await?;
    /// # Ok(()) }
    /// ```
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.comes_back();
        let (sqlx, watch) = self.start_query()?;
        let done = watch.within(B::TransactionManager::commit(sqlx)).await;
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
        // A connection whose query has not ended is stopped and closed.
        if self.is_open && !self.is_unusable() {
            B::TransactionManager::start_rollback(&mut ***self);
        }
    }
}
