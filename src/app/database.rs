//! A request's view of a database.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::ctx::Ctx;
use crate::db::backend::Backend;
use crate::db::handle::Db;

/// Whether the request has written to a database.
struct Wrote(Arc<AtomicBool>);

impl<S> Ctx<S> {
    /// The database for this request: where it has replicas, reads go to the least busy one that is
    /// well, until the request writes; what follows goes to the primary, so that it sees its own
    /// writes. Without replicas it is the same as `db`.
    ///
    /// What a statement does is told from its words: a `SELECT` of a function that writes is to be
    /// run on [`Db::primary`].
    ///
    /// ```
    /// # #[cfg(feature = "postgres")]
    /// # mod sample {
    /// use soloist::sqlx::{self, Postgres};
    /// use soloist::{Db, prelude::*};
    ///
    /// async fn rename(cx: &Ctx<Db<Postgres>>) -> Result<Reply> {
    ///     let (db, id) = (cx.db(cx.state()), cx.param::<i64>("id")?);
    ///     let update = sqlx::query("UPDATE users SET name = $1 WHERE id = $2");
    ///     let new = std::str::from_utf8(cx.body().await?)?;
    ///     update.bind(new).bind(id).execute(&db).await?; // the primary
    ///     let name = sqlx::query_scalar("SELECT name FROM users WHERE id = $1").bind(id);
    ///     let name: String = name.fetch_one(&db).await?; // the primary too, now
    ///     cx.text(name)
    /// }
    /// # }
    /// ```
    pub fn db<B: Backend>(&self, db: &Db<B>) -> Db<B> {
        let wrote = match self.got::<Wrote>() {
            Some(wrote) => wrote,
            None => self.put(Wrote(Arc::default())),
        };
        db.of_request(wrote.0.clone())
    }
}
