//! `&Db` as an executor of sqlx.

use async_stream::try_stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use sqlx::{Acquire, Describe, Either, Executor, SqlStr, Transaction};

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
            return self.slice_for(false).checkout().await;
        }
        let reads = is_read(sql);
        if !reads {
            self.has_written();
        }
        let slice = self.slice_for(reads);
        let turn = if reads { None } else { slice.turn().await? };
        Ok(slice.checkout().await?.with_turn(turn))
    }
}

/// One call on a connection that is checked out for it, within its time.
macro_rules! run {
    ($db:ident, $query:ident, $method:ident) => {
        Box::pin(async move {
            let parts = Parts::of($query)?;
            let mut conn = $db.checkout_for(parts.text()).await?;
            let (sqlx, watch) = conn.begin();
            let outcome = watch.within(sqlx.$method(parts)).await;
            conn.end($db.name, outcome)
        })
    };
}

impl<'c, B: Backend> Executor<'c> for &'_ Db<B>
where
    for<'a> &'a mut B::Connection: Executor<'a, Database = B>,
{
    type Database = B;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<B::QueryResult, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        let db = self.clone();
        run!(db, query, execute)
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
            let (sqlx, watch) = conn.begin();
            let mut rows = sqlx.fetch_many(parts);
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
            conn.end(db.name, outcome)?;
        }
        .boxed()
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Vec<B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        let db = self.clone();
        run!(db, query, fetch_all)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<B::Row>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, B>,
    {
        let db = self.clone();
        run!(db, query, fetch_optional)
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
            let mut conn = db.slice_for(false).checkout().await?;
            let (sqlx, watch) = conn.begin();
            let outcome = watch.within(sqlx.prepare_with(sql, parameters)).await;
            conn.end(db.name, outcome)
        })
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<B>, sqlx::Error>>
    where
        'c: 'e,
    {
        let db = self.clone();
        Box::pin(async move {
            let mut conn = db.slice_for(false).checkout().await?;
            let (sqlx, watch) = conn.begin();
            let outcome = watch.within(sqlx.describe(sql)).await;
            conn.end(db.name, outcome)
        })
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
