//! One connection of a slice, and who holds it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::backend::{Backend, Stop};
use super::counting::Closed;
use super::fault::DbFault;
use super::slice::Slice;
use super::watch::{Abroad, Watch};

/// A connection, and what its keeper has to know of it.
pub(super) struct Live<B: Backend> {
    pub(super) conn: B::Connection,
    pub(super) stop: Stop,
    /// Of the query that runs on it.
    pub(super) watch: Arc<Watch>,
    /// When it is too old.
    pub(super) expires_ms: u64,
    /// When it was last given back.
    pub(super) idle_since_ms: u64,
    /// What ended another one may have ended it too: it is tested before it is used.
    pub(super) is_suspect: bool,
    /// The generation of addresses that it was made with.
    pub(super) generation: u64,
}

/// What is known of a connection that somebody holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Its last query has ended well: it may be used again.
    Clean,
    /// It is held by who may have left something on it.
    Unproven,
    /// A query runs on it.
    Running,
    /// It is of no more use.
    Broken(Closed),
}

/// A connection on loan. Dropped, it goes back to its slice, if it is proven clean; is asked for a
/// proof, if it is not known; is stopped and closed, if a query still runs on it.
///
/// It is sqlx's own connection by `&mut *conn`: for what is more than a query, such as COPY.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// use soloist::sqlx::{self, Sqlite};
/// use soloist::{Db, prelude::*};
///
/// async fn journal(db: &Db<Sqlite>) -> Result<String> {
///     let mut conn = db.acquire().await?;
///     Ok(sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *conn).await?)
/// }
/// # }
/// ```
pub struct DbConnection<B: Backend> {
    /// None once it was taken out.
    live: Option<Live<B>>,
    slice: Arc<Slice<B>>,
    known: Known,
    /// SQLite: the turn to write.
    turn: Option<OwnedSemaphorePermit>,
    abroad: Option<Abroad>,
    since: Option<Instant>,
}

impl<B: Backend> DbConnection<B> {
    pub(super) fn new(live: Live<B>, slice: &Arc<Slice<B>>) -> Self {
        let (slice, known) = (slice.clone(), Known::Clean);
        DbConnection { live: Some(live), slice, known, turn: None, abroad: None, since: None }
    }

    pub(super) fn with_turn(mut self, turn: Option<OwnedSemaphorePermit>) -> Self {
        self.turn = turn;
        self
    }

    /// For who uses it as he likes.
    pub(super) fn lend(mut self) -> Self {
        self.known = Known::Unproven;
        self
    }

    /// A query begins: what it runs on, and the watch over its time.
    pub(super) fn begin(&mut self) -> (&mut B::Connection, &Watch) {
        self.known = Known::Running;
        self.abroad = Some(Abroad::new(&self.slice.abroad));
        self.since = Some(Instant::now());
        let live = self.live.as_mut().expect("there until it drops");
        live.watch.start(self.slice.server.query_ms);
        (&mut live.conn, &live.watch)
    }

    /// The query has ended: with an error, without one, or (none) not in time.
    pub(super) fn end<T>(
        &mut self,
        name: Option<&'static str>,
        outcome: Option<Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let took_ns = self.since.take().map_or(0, |it| it.elapsed().as_nanos() as u64);
        self.abroad = None;
        let live = self.live.as_ref().expect("there until it drops");
        live.watch.stop();
        let Some(outcome) = outcome else {
            self.slice.counting().timed_out();
            // It drops as running: stopped on the server, then closed.
            return Err(self.slice.too_slow().into());
        };
        self.slice.counting().query(name, took_ns, outcome.is_err());
        self.known = match &outcome {
            Ok(_) => Known::Clean,
            Err(error) => match DbFault::of(error) {
                DbFault::NotFound => Known::Clean,
                fault if fault.ends_connection() => Known::Broken(Closed::Error),
                _ => Known::Unproven,
            },
        };
        outcome
    }

    pub(super) fn is_running(&self) -> bool {
        self.known == Known::Running
    }

    pub(super) fn live(&self) -> &Live<B> {
        self.live.as_ref().expect("there until it drops")
    }

    pub(super) fn break_for(&mut self, why: Closed) {
        self.known = Known::Broken(why);
    }
}

impl<B: Backend> Deref for DbConnection<B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        &self.live().conn
    }
}

impl<B: Backend> DerefMut for DbConnection<B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        &mut self.live.as_mut().expect("there until it drops").conn
    }
}

impl<B: Backend> Drop for DbConnection<B> {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        live.watch.stop();
        match self.known {
            Known::Clean => self.slice.give_back(live),
            Known::Unproven => self.slice.prove(live, self.turn.take()),
            Known::Running => self.slice.stop(live, self.turn.take()),
            Known::Broken(why) => self.slice.close(live, why),
        }
    }
}

impl<B: Backend> std::fmt::Debug for DbConnection<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DbConnection of {}", B::NAME)
    }
}
