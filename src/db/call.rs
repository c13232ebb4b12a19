//! What runs on a connection, for every database by one name.
//!
//! sqlx tells of each connection that it is an executor, but not of all: a bound that says so on
//! each of our own executors would send the compiler round in a circle where the database is yet
//! to be inferred.

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::{Database, Describe, Either, Executor, SqlStr};

use super::query::Parts;

type Outcome<'e, T> = BoxFuture<'e, Result<T, sqlx::Error>>;
type Results<'e, B> =
    BoxStream<'e, Result<Either<<B as Database>::QueryResult, <B as Database>::Row>, sqlx::Error>>;

/// sqlx's executor of each database. Ours alone: what a backend's items promise is held by this
/// crate.
pub trait Call: Database {
    fn execute(conn: &mut Self::Connection, query: Parts<Self>) -> Outcome<'_, Self::QueryResult>;
    fn fetch_many(conn: &mut Self::Connection, query: Parts<Self>) -> Results<'_, Self>;
    fn fetch_all(conn: &mut Self::Connection, query: Parts<Self>) -> Outcome<'_, Vec<Self::Row>>;
    fn fetch_optional(
        conn: &mut Self::Connection,
        query: Parts<Self>,
    ) -> Outcome<'_, Option<Self::Row>>;
    fn prepare_with<'e>(
        conn: &'e mut Self::Connection,
        sql: SqlStr,
        parameters: &'e [Self::TypeInfo],
    ) -> Outcome<'e, Self::Statement>;
    fn describe(conn: &mut Self::Connection, sql: SqlStr) -> Outcome<'_, Describe<Self>>;
}

macro_rules! call {
    ($database:ty) => {
        impl Call for $database {
            fn execute(
                conn: &mut Self::Connection,
                query: Parts<Self>,
            ) -> Outcome<'_, Self::QueryResult> {
                Executor::execute(conn, query)
            }

            fn fetch_many(conn: &mut Self::Connection, query: Parts<Self>) -> Results<'_, Self> {
                Executor::fetch_many(conn, query)
            }

            fn fetch_all(
                conn: &mut Self::Connection,
                query: Parts<Self>,
            ) -> Outcome<'_, Vec<Self::Row>> {
                Executor::fetch_all(conn, query)
            }

            fn fetch_optional(
                conn: &mut Self::Connection,
                query: Parts<Self>,
            ) -> Outcome<'_, Option<Self::Row>> {
                Executor::fetch_optional(conn, query)
            }

            fn prepare_with<'e>(
                conn: &'e mut Self::Connection,
                sql: SqlStr,
                parameters: &'e [Self::TypeInfo],
            ) -> Outcome<'e, Self::Statement> {
                Executor::prepare_with(conn, sql, parameters)
            }

            fn describe(conn: &mut Self::Connection, sql: SqlStr) -> Outcome<'_, Describe<Self>> {
                Executor::describe(conn, sql)
            }
        }
    };
}

call!(sqlx::Any);
#[cfg(feature = "mysql")]
call!(sqlx::MySql);
#[cfg(feature = "postgres")]
call!(sqlx::Postgres);
#[cfg(feature = "sqlite")]
call!(sqlx::Sqlite);
