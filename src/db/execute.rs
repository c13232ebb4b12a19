//! `&Db`, and a connection of it, as executors of sqlx.

use async_stream::try_stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use sqlx::{Acquire, Connection, Describe, Either, Executor, SqlStr, Transaction};

use sqlx_core::transaction::TransactionManager;

use super::backend::Backend;
use super::handle::Db;
use super::live::DbConnection;
use super::query::{Parts, is_read};
use super::watch::yield_now;
use crate::limits::DB_ROWS_A_TURN;

impl<B: Backend> Db<B> {
    /// A connection for one query, and the turn to write if it needs it.
    async fn checkout_for(&self, sql: &str) -> Result<DbConnection<B>, sqlx::Error> {
        if !self.needs_kind() {
            return Ok(self.slice_for(false).checkout().await?.named(self.name));
        }
        let reads = is_read(sql);
        if !reads {
            self.has_written();
        }
        let slice = self.slice_for(reads);
        let turn = if reads { None } else { slice.turn().await? };
        Ok(slice.checkout().await?.named(self.name).with_turn(turn))
    }

    /// A connection for what asks about a query, and does not run it.
    async fn checkout_to_ask(&self) -> Result<DbConnection<B>, sqlx::Error> {
        Ok(self.slice_for(false).checkout().await?.named(self.name))
    }
}

/// One call on a connection, within its time.
macro_rules! run {
    ($conn:expr, $method:ident, $($argument:expr),+) => {{
        let conn = &mut $conn;
        let (sqlx, watch) = conn.start_query()?;
        let outcome = watch.within(B::$method(sqlx, $($argument),+)).await;
        conn.end_query(outcome)
    }};
}

/// One query on a connection, within its time: in a transaction of its own, where a pooler would
/// run its halves on two connections.
macro_rules! run_query {
    ($conn:expr, $method:ident, $parts:expr) => {{
        let (conn, mut parts) = (&mut $conn, $parts);
        let is_pinned = conn.make_ready_for(&mut parts);
        let (sqlx, watch) = conn.start_query()?;
        let outcome = watch.within(async {
            if !is_pinned {
                return B::$method(sqlx, parts).await;
            }
            B::TransactionManager::begin(sqlx, None).await?;
            let outcome = B::$method(sqlx, parts).await;
            match outcome {
                Ok(_) => B::TransactionManager::commit(sqlx).await?,
                Err(_) => drop(B::TransactionManager::rollback(sqlx).await),
            }
            outcome
        });
        let outcome = outcome.await;
        conn.end_query(outcome)
    }};
}

/// One query on a connection that is checked out for it.
macro_rules! run_on_one {
    ($db:expr, $query:ident, $method:ident) => {{
        let db = $db.clone();
        Box::pin(async move {
            let parts = Parts::of($query)?;
            let mut conn = db.checkout_for(parts.text()).await?;
            run_query!(conn, $method, parts)
        })
    }};
}

impl<'c, B: Backend> Executor<'c> for &'_ Db<B> {
    type Database = B;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<B::QueryResult, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        run_on_one!(self, query, execute)
    }

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<B::QueryResult, B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        let db = self.clone();
        try_stream! {
            let parts = Parts::of(query)?;
            let mut conn = db.checkout_for(parts.text()).await?;
            let mut rows = Executor::fetch_many(&mut conn, parts);
            while let Some(row) = rows.next().await {
                yield row?;
            }
        }
        .boxed()
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Vec<B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        run_on_one!(self, query, fetch_all)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        run_on_one!(self, query, fetch_optional)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [B::TypeInfo],
    ) -> BoxFuture<'e, Result<B::Statement, sqlx::Error>>
    where
        'c: 'e,
    {
        let db = self.clone();
        Box::pin(async move {
            let mut conn = db.checkout_to_ask().await?;
            run!(conn, prepare_with, sql, parameters)
        })
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<B>, sqlx::Error>>
    where
        'c: 'e,
    {
        let db = self.clone();
        Box::pin(async move {
            let mut conn = db.checkout_to_ask().await?;
            run!(conn, describe, sql)
        })
    }
}

impl<'c, B: Backend> Executor<'c> for &'c mut DbConnection<B> {
    type Database = B;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<B::QueryResult, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        Box::pin(async move { run_query!(*self, execute, Parts::of(query)?) })
    }

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<B::QueryResult, B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        try_stream! {
            let mut parts = Parts::of(query)?;
            let is_pinned = self.make_ready_for(&mut parts);
            let (sqlx, watch) = self.start_query()?;
            if is_pinned {
                let begun = watch.within(B::TransactionManager::begin(sqlx, None)).await;
                if !matches!(begun, Some(Ok(()))) {
                    return self.end_query(begun)?;
                }
            }
            let mut rows = B::fetch_many(&mut *sqlx, parts);
            let mut count = 0;
            let outcome = loop {
                match watch.within(rows.next()).await {
                    Some(Some(Ok(row))) => yield row,
                    Some(Some(Err(error))) => break Some(Err(error)),
                    Some(None) => break Some(Ok(())),
                    None => break None,
                }
                count += 1;
                if count % DB_ROWS_A_TURN == 0 {
                    yield_now().await;
                }
            };
            drop(rows);
            let outcome = match outcome {
                Some(Ok(())) if is_pinned => {
                    let commit = B::TransactionManager::commit(sqlx);
                    watch.within(commit).await
                }
                Some(Err(_)) if is_pinned => {
                    let _ = watch.within(B::TransactionManager::rollback(sqlx)).await;
                    outcome
                }
                outcome => outcome,
            };
            self.end_query(outcome)?;
        }
        .boxed()
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Vec<B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        Box::pin(async move { run_query!(*self, fetch_all, Parts::of(query)?) })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        Box::pin(async move { run_query!(*self, fetch_optional, Parts::of(query)?) })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [B::TypeInfo],
    ) -> BoxFuture<'e, Result<B::Statement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move { run!(*self, prepare_with, sql, parameters) })
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<B>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move { run!(*self, describe, sql) })
    }
}

/// For migrations, and for what is generic over it. [`Db::begin`] is the better way to a
/// transaction: these come one at a time, from a stock pool of one connection.
impl<'c, B: Backend> Acquire<'c> for &'_ Db<B> {
    type Database = B;
    type Connection = DbConnection<B>;

    fn acquire(self) -> BoxFuture<'c, Result<DbConnection<B>, sqlx::Error>> {
        let db = self.clone();
        Box::pin(async move { db.acquire().await })
    }

    fn begin(self) -> BoxFuture<'c, Result<Transaction<'c, B>, sqlx::Error>> {
        let db = self.clone();
        Box::pin(async move {
            db.has_written();
            db.slice_for(false).stock()?.begin().await
        })
    }
}

/// For what is generic over it: queries on what it gives are sqlx's own, counted and bounded by
/// nobody.
impl<'c, B: Backend> Acquire<'c> for &'c mut DbConnection<B> {
    type Database = B;
    type Connection = &'c mut B::Connection;

    fn acquire(self) -> BoxFuture<'c, Result<&'c mut B::Connection, sqlx::Error>> {
        Box::pin(async move { Ok(&mut **self) })
    }

    fn begin(self) -> BoxFuture<'c, Result<Transaction<'c, B>, sqlx::Error>> {
        Box::pin(Connection::begin(&mut **self))
    }
}
