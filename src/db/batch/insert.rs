//! Inserts of many rows: few statements, of few texts, all of them or none.

use std::collections::VecDeque;
use std::iter::{Fuse, Peekable};

use sqlx::{AssertSqlSafe, Error, Executor, SqlSafeStr, SqlStr};

use super::dialect::{Dialect, affected};
use super::row::DbRow;
use super::statement::Statement;
use crate::db::backend::Backend;
use crate::db::handle::Db;
use crate::db::live::DbConnection;
use crate::db::watch::yield_now;
use crate::limits::{DB_INSERT_ROWS_KEPT, DB_INSERT_ROWS_MAX};

/// An insert of many rows: see [`Db::insert`].
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// # use soloist::sqlx::Sqlite;
/// # use soloist::{Db, prelude::*};
/// async fn import(db: &Db<Sqlite>, prices: Vec<(String, i64)>) -> Result<u64> {
///     let insert = db.insert("prices", &["item", "cents"]).upsert(&["item"]);
///     Ok(insert.rows(prices, |row, (item, cents)| row.bind(item).bind(cents)).await?)
/// }
/// # }
/// ```
#[must_use = "nothing happens before `rows`"]
pub struct DbInsert<'a, B: Backend> {
    db: Db<B>,
    table: &'a str,
    columns: &'a [&'a str],
    /// The columns that say which row it is.
    keys: Option<&'a [&'a str]>,
    rows_max: usize,
    /// In a transaction of somebody else.
    conn: Option<&'a mut DbConnection<B>>,
}

impl<B: Backend> Db<B> {
    /// Inserts many rows by few statements: with one value for each of these columns, all of them
    /// or none. They are sent as they come out of the iterator, so that it may be a long one.
    ///
    /// Names are put in quotes as they are, so no name can be more than a name; a dot parts schema
    /// and table.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::Sqlite;
    /// # use soloist::{Db, prelude::*};
    /// struct User {
    ///     id: i64,
    ///     name: String,
    /// }
    ///
    /// async fn save(db: &Db<Sqlite>, users: &[User]) -> Result<u64> {
    ///     let insert = db.insert("users", &["id", "name"]);
    ///     Ok(insert.rows(users, |row, user| row.bind(user.id).bind(&user.name)).await?)
    /// }
    /// # }
    /// ```
    pub fn insert<'a>(&self, table: &'a str, columns: &'a [&'a str]) -> DbInsert<'a, B> {
        let (db, rows_max) = (self.clone(), DB_INSERT_ROWS_MAX);
        DbInsert { db, table, columns, keys: None, rows_max, conn: None }
    }
}

impl<'a, B: Backend> DbInsert<'a, B> {
    /// A row that is there already, by the unique index of these columns, gets the new values in
    /// place of the old ones. MySQL looks at all unique indexes of the table.
    ///
    /// PostgreSQL refuses a key that comes twice in one statement (`21000`).
    ///
    /// ```
    /// # use soloist::{Backend, Db, DbInsert};
    /// # fn sample<B: Backend>(db: &Db<B>) -> DbInsert<'_, B> {
    /// db.insert("stock", &["shop", "item", "count"]).upsert(&["shop", "item"])
    /// # }
    /// ```
    pub fn upsert(mut self, keys: &'a [&'a str]) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Rows in one statement, at most and by default 512, or fewer where the database binds fewer
    /// values. Large values want few rows: MySQL refuses a statement above `max_allowed_packet`.
    ///
    /// ```
    /// # use soloist::{Backend, Db, DbInsert};
    /// # fn sample<B: Backend>(db: &Db<B>) -> DbInsert<'_, B> {
    /// db.insert("photos", &["id", "jpeg"]).rows_max(4)
    /// # }
    /// ```
    pub fn rows_max(mut self, count: usize) -> Self {
        self.rows_max = count.clamp(1, DB_INSERT_ROWS_MAX);
        self
    }

    /// Inserts in a transaction of yours, whose commit is yours too.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::{self, Sqlite};
    /// # use soloist::{Db, prelude::*};
    /// async fn replace(db: &Db<Sqlite>, names: &[&str]) -> Result<()> {
    ///     let mut tx = db.begin().await?;
    ///     sqlx::query("DELETE FROM names").execute(&mut *tx).await?;
    ///     let insert = db.insert("names", &["name"]).within(&mut tx);
    ///     insert.rows(names, |row, name| row.bind(*name)).await?;
    ///     Ok(tx.commit().await?)
    /// }
    /// # }
    /// ```
    pub fn within(mut self, transaction: &'a mut DbConnection<B>) -> Self {
        self.conn = Some(transaction);
        self
    }

    /// Inserts these rows: `values` binds one value for each column. Gives how many rows the
    /// database has counted; MySQL counts one that was there and has changed as two.
    ///
    /// What fits in one statement is one, and nothing more. More are a transaction, with a
    /// statement for each 512 rows, between which others of the shard have their turn.
    ///
    /// # Errors
    /// Those of the database, and [`InvalidArgument`](sqlx::Error::InvalidArgument) for a row with
    /// more or fewer values than columns, for no columns or too many, and for a name that is none.
    /// Then no row was inserted; within a transaction of yours, drop it.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::Sqlite;
    /// # use soloist::{Db, prelude::*};
    /// async fn tag(db: &Db<Sqlite>, post: i64, tags: &[String]) -> Result<u64> {
    ///     let insert = db.insert("tags", &["post", "tag"]).upsert(&["post", "tag"]);
    ///     Ok(insert.rows(tags, |row, tag| row.bind(post).bind(tag)).await?)
    /// }
    /// # }
    /// ```
    pub async fn rows<T>(
        mut self,
        rows: impl IntoIterator<Item = T>,
        values: impl FnMut(DbRow<B>, T) -> DbRow<B>,
    ) -> Result<u64, Error> {
        let text = Text::new(&self)?;
        let rows = rows.into_iter().fuse().peekable();
        let waiting = VecDeque::new();
        let mut chunks = Chunks { text, rows, waiting, values, full: None, rows_count: 0 };
        let Some(first) = chunks.next()? else { return Ok(0) };
        if let Some(conn) = self.conn.take() {
            return chunks.send(first, conn).await;
        }
        if chunks.is_over() {
            return Ok(affected(&self.db.execute(first).await?));
        }
        let mut tx = self.db.begin().await?;
        let count = chunks.send(first, &mut tx).await?;
        tx.commit().await?;
        Ok(count)
    }
}

/// The rows, as statements.
struct Chunks<I: Iterator, F> {
    text: Text,
    rows: Peekable<Fuse<I>>,
    /// Taken out of them, the most that one statement takes.
    waiting: VecDeque<I::Item>,
    values: F,
    /// The text of a statement with the most rows.
    full: Option<SqlStr>,
    rows_count: usize,
}

impl<T, I: Iterator<Item = T>, F> Chunks<I, F> {
    fn is_over(&mut self) -> bool {
        self.waiting.is_empty() && self.rows.peek().is_none()
    }

    fn next<B: Backend>(&mut self) -> Result<Option<Statement<B>>, Error>
    where
        F: FnMut(DbRow<B>, T) -> DbRow<B>,
    {
        let more = self.text.rows_max - self.waiting.len();
        self.waiting.extend(self.rows.by_ref().take(more));
        let (count, is_kept) = self.text.share(self.waiting.len());
        if count == 0 {
            return Ok(None);
        }
        let mut row = DbRow::new();
        for (at, next) in self.waiting.drain(..count).enumerate() {
            row = (self.values)(row, next);
            let (columns, before) = (self.text.columns, at * self.text.columns);
            if row.is_well() && row.count() != before + columns {
                let (number, got) = (self.rows_count + at + 1, row.count() - before);
                return Err(Error::InvalidArgument(format!(
                    "row {number} has {got} values for {columns} columns"
                )));
            }
        }
        self.rows_count += count;
        let arguments = row.end()?;
        let sql = if count < self.text.rows_max {
            self.text.sql(count)
        } else {
            self.full.get_or_insert_with(|| self.text.sql(count)).clone()
        };
        Ok(Some(Statement { sql, arguments, is_kept }))
    }

    /// Sends all that are left, one after the other.
    async fn send<B: Backend>(
        &mut self,
        first: Statement<B>,
        conn: &mut DbConnection<B>,
    ) -> Result<u64, Error>
    where
        F: FnMut(DbRow<B>, T) -> DbRow<B>,
    {
        let mut count = affected(&conn.execute(first).await?);
        while let Some(next) = self.next()? {
            yield_now().await;
            count += affected(&conn.execute(next).await?);
        }
        Ok(count)
    }
}

/// What the statements of an insert have in common.
struct Text {
    dialect: Dialect,
    head: String,
    tail: String,
    columns: usize,
    rows_max: usize,
}

impl Text {
    fn new<B: Backend>(insert: &DbInsert<'_, B>) -> Result<Text, Error> {
        let dialect = Dialect::of::<B>(&insert.db.slices[0].server.options.url);
        let (columns, binds_max) = (insert.columns.len(), dialect.binds_max());
        if columns == 0 || columns > binds_max {
            let table = insert.table;
            return Err(Error::InvalidArgument(format!(
                "{columns} columns for an insert into {table}: 1 at least, {binds_max} at most"
            )));
        }
        let mut head = String::from("INSERT INTO ");
        for (at, part) in insert.table.split('.').enumerate() {
            if at > 0 {
                head.push('.');
            }
            dialect.quote(&mut head, part)?;
        }
        head.push_str(" (");
        dialect.quote_all(&mut head, insert.columns)?;
        head.push_str(") VALUES ");
        let tail = match insert.keys {
            Some(keys) => upsert(dialect, insert.columns, keys)?,
            None => String::new(),
        };
        let rows_max = insert.rows_max.min(binds_max / columns);
        Ok(Text { dialect, head, tail, columns, rows_max })
    }

    /// How many of the rows that wait are one statement, and whether it is kept prepared.
    fn share(&self, waiting: usize) -> (usize, bool) {
        match waiting {
            _ if waiting >= self.rows_max => (self.rows_max, true),
            0..=DB_INSERT_ROWS_KEPT => (waiting, true),
            // One that is not kept is closed without an answer, and without TCP_NODELAY what comes
            // behind that waits for 40 ms: so they are of few lengths.
            _ if self.dialect == Dialect::MySql => (1 << waiting.ilog2(), true),
            _ => (waiting, false),
        }
    }

    /// The statement for so many rows.
    fn sql(&self, rows: usize) -> SqlStr {
        let mut sql = String::with_capacity(self.head.len() + rows * self.columns * 8);
        sql.push_str(&self.head);
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..self.columns {
                if column > 0 {
                    sql.push_str(", ");
                }
                self.dialect.place(&mut sql, row * self.columns + column + 1);
            }
            sql.push(')');
        }
        sql.push_str(&self.tail);
        AssertSqlSafe(sql.into_boxed_str()).into_sql_str()
    }
}

/// What is to happen to a row that is there already.
fn upsert(dialect: Dialect, columns: &[&str], keys: &[&str]) -> Result<String, Error> {
    let Some(first) = keys.first() else {
        return Err(Error::InvalidArgument("no columns say which row it is".to_owned()));
    };
    let (mut tail, mut quoted) = (String::new(), String::new());
    dialect.quote_all(&mut quoted, keys)?;
    let mut others: Vec<&str> = columns.iter().copied().filter(|it| !keys.contains(it)).collect();
    if dialect == Dialect::MySql {
        tail.push_str(" ON DUPLICATE KEY UPDATE ");
        if others.is_empty() {
            others.push(first); // to what it is
        }
    } else {
        let what = if others.is_empty() { "NOTHING" } else { "UPDATE SET " };
        tail = format!(" ON CONFLICT ({quoted}) DO {what}");
    }
    for (at, name) in others.iter().enumerate() {
        if at > 0 {
            tail.push_str(", ");
        }
        dialect.quote(&mut tail, name)?;
        tail.push_str(if dialect == Dialect::MySql { " = VALUES(" } else { " = excluded." });
        dialect.quote(&mut tail, name)?;
        if dialect == Dialect::MySql {
            tail.push(')');
        }
    }
    Ok(tail)
}
