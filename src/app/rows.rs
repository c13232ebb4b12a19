//! A JSON array of any length, written row by row.

#[cfg(feature = "db")]
use std::future::poll_fn;
#[cfg(feature = "db")]
use std::pin::pin;

#[cfg(feature = "db")]
use futures_core::Stream as Source;
use serde::Serialize;

use super::ctx::Ctx;
use super::reply::{Reply, Stream};
use crate::error::Result;
use crate::limits::ROWS_BYTES_MAX;

/// Answering with rows.
impl<S> Ctx<S> {
    /// Sends the head now and lends a writer for a JSON array, which never lies in memory whole.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn squares(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut rows = cx.json_rows().await?;
    ///     for n in 0..1_000_000_u64 {
    ///         rows.push(&(n * n)).await?; // waits while the client is slow
    ///     }
    ///     rows.finish().await
    /// }
    /// ```
    ///
    /// # Errors
    /// When the answer has begun already, or a header field cannot be sent.
    pub async fn json_rows(&self) -> Result<Rows<'_>> {
        self.check_open()?;
        let out = Stream::begin(&self.core, "application/json")?;
        Ok(Rows { out, gathered: Vec::new(), any: false })
    }

    /// Answers with the rows of a query as a JSON array, which never lies in memory whole: they are
    /// taken from the database as fast as the client reads.
    ///
    /// A client that is slow holds a connection to the database for as long as it takes.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::{self, Sqlite};
    /// # use soloist::{Db, prelude::*};
    /// async fn names(cx: &Ctx<Db<Sqlite>>) -> Result<Reply> {
    ///     let query = sqlx::query_scalar::<_, String>("SELECT name FROM users");
    ///     cx.json_stream(query.fetch(cx.state())).await
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The query's, if it fails before its first row: it is answered as any other. One that fails
    /// later cuts the connection: nobody takes half an array for a whole one.
    #[cfg(feature = "db")]
    pub async fn json_stream<T, E>(&self, rows: impl Source<Item = Result<T, E>>) -> Result<Reply>
    where
        T: Serialize,
        E: Into<Box<dyn std::error::Error>>,
    {
        let mut rows = pin!(rows);
        let mut next = poll_fn(|cx| rows.as_mut().poll_next(cx)).await.transpose()?;
        let mut out = self.json_rows().await?;
        while let Some(row) = next {
            out.push(&row).await?;
            next = poll_fn(|cx| rows.as_mut().poll_next(cx)).await.transpose()?;
        }
        out.finish().await
    }
}

/// The writer of a streamed JSON array: see [`Ctx::json_rows`].
///
/// Dropped before `finish`, it cuts the connection: nobody takes half an array for a whole one.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn users(cx: &Ctx<()>) -> Result<Reply> {
///     let mut rows = cx.json_rows().await?;
///     for (id, name) in [(1, "ann"), (2, "bob")] {
///         rows.push(&(id, name)).await?;
///     }
///     rows.finish().await
/// }
/// # let app = App::new(()).get("/", users);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.get("/").await.text(r#"[[1,"ann"],[2,"bob"]]"#);
/// # });
/// ```
#[must_use = "rows end with `finish`"]
pub struct Rows<'a> {
    out: Stream<'a>,
    gathered: Vec<u8>,
    any: bool,
}

impl Rows<'_> {
    /// Adds a row. Rows leave by 16 KiB, after waiting while more than 64 KiB are unsent.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut rows = cx.json_rows().await?;
    /// rows.push("a").await?;
    /// let bad = std::collections::BTreeMap::from([((1, 2), 3)]); // JSON has no such keys
    /// assert!(rows.push(&bad).await.is_err());
    /// rows.push("b").await?; // the array goes on without it
    /// rows.finish().await
    /// # }
    /// # let app = App::new(()).get("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.text(r#"["a","b"]"#);
    /// # });
    /// ```
    ///
    /// # Errors
    /// When the row cannot be serialised (it is left out then: the array may go on), and when the
    /// client is gone.
    pub async fn push(&mut self, row: &(impl Serialize + ?Sized)) -> Result<()> {
        let before = self.gathered.len();
        if before == 0 && self.gathered.capacity() == 0 {
            self.gathered = self.out.core.local.spares.take();
        }
        self.gathered.push(if self.any { b',' } else { b'[' });
        if let Err(error) = serde_json::to_writer(&mut self.gathered, row) {
            self.gathered.truncate(before);
            return Err(error.into());
        }
        self.any = true;
        if self.gathered.len() >= ROWS_BYTES_MAX {
            self.out.write(&self.gathered).await?;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Ends the array.
    ///
    /// # Errors
    /// When the client is gone.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| cx.json_rows().await?.finish().await);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/").await.text("[]"); // no rows: an array all the same
    /// # });
    /// ```
    pub async fn finish(mut self) -> Result<Reply> {
        self.gathered.extend_from_slice(if self.any { b"]" } else { b"[]" });
        self.out.write(&self.gathered).await?;
        self.out.core.local.spares.give(std::mem::take(&mut self.gathered));
        self.out.finish().await
    }
}
