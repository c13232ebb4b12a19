//! Words that PostgreSQL passes on: LISTEN and NOTIFY.

use sqlx::Postgres;
use sqlx::postgres::{PgListener, PgNotification};

use super::fault::DbFault;
use super::handle::{Db, DbPool};
use crate::error::Result;

/// Channels that are listened to, on a connection of its own: see [`Db::listen`]. It is taken out
/// of the budget for as long as this lives, and made again when it is lost.
///
/// ```
/// # use soloist::{DbListener, Result, prelude::*};
/// # async fn sample(mut listener: DbListener) -> Result<()> {
/// match listener.recv().await? {
///     Some(word) => println!("{}: {}", word.channel(), word.payload()),
///     None => println!("the connection was lost: what was said meanwhile is gone"),
/// }
/// # Ok(()) }
/// ```
pub struct DbListener {
    /// None when it was lost.
    listener: Option<PgListener>,
    channels: Vec<String>,
    /// Behind it: the listener's connection is of it.
    pool: DbPool<Postgres>,
}

impl Db<Postgres> {
    /// Listens to channels of the primary: in a task of the shard, mostly, that drops from a cache
    /// what others have changed.
    ///
    /// # Errors
    /// When no lease is free, or the server is not there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::sqlx::Postgres;
    /// use soloist::{Db, prelude::*};
    ///
    /// async fn hear(shard: Shard, db: Db<Postgres>) -> Result<()> {
    ///     let mut listener = db.listen(&["users"]).await?;
    ///     while let Some(heard) = shard.until_stop(listener.recv()).await {
    ///         match heard? {
    ///             Some(word) => println!("user {} has changed", word.payload()),
    ///             None => println!("words were lost"), // such as: empty the cache
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn listen(&self, channels: &[&str]) -> Result<DbListener> {
        let pool = self.primary().pool(1)?;
        let channels = channels.iter().map(|&it| it.to_owned()).collect();
        let mut listener = DbListener { listener: None, channels, pool };
        listener.connect().await?;
        Ok(listener)
    }
}

impl DbListener {
    /// The next word; none when the connection was lost, so that words may be too: it is made again
    /// by the next call, which tells when it cannot be.
    ///
    /// Dropped before its end, no word is lost.
    ///
    /// # Errors
    /// When the server is not there: try again after a pause.
    ///
    /// ```
    /// # use soloist::{DbListener, Result};
    /// # async fn sample(listener: &mut DbListener) -> Result<()> {
    /// if let Some(word) = listener.recv().await? {
    ///     println!("{}", word.payload());
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn recv(&mut self) -> Result<Option<PgNotification>, sqlx::Error> {
        let listener = match &mut self.listener {
            Some(listener) => listener,
            None => self.connect().await?,
        };
        let word = match listener.try_recv().await {
            Err(error) if !DbFault::of(&error).is_of_server() => return Err(error),
            word => word.ok().flatten(),
        };
        if word.is_none() {
            self.listener = None;
        }
        Ok(word)
    }

    async fn connect(&mut self) -> Result<&mut PgListener, sqlx::Error> {
        // Another pool each time: the one before may wait for a connection that is dead.
        self.pool.renew();
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.eager_reconnect(false);
        listener.listen_all(self.channels.iter().map(String::as_str)).await?;
        Ok(self.listener.insert(listener))
    }

    /// Listens to one more channel.
    ///
    /// # Errors
    /// When the server is not there.
    ///
    /// ```
    /// # use soloist::{DbListener, Result};
    /// # async fn sample(listener: &mut DbListener) -> Result<()> {
    /// listener.listen("orders").await?;
    /// # Ok(()) }
    /// ```
    pub async fn listen(&mut self, channel: &str) -> Result<(), sqlx::Error> {
        self.channels.push(channel.to_owned());
        match &mut self.listener {
            Some(listener) => listener.listen(channel).await,
            None => Ok(()), // with the next connection
        }
    }
}
