//! One connection of a slice, and who holds it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use sqlx_core::transaction::TransactionManager;
use tokio::sync::OwnedSemaphorePermit;

use super::backend::{Backend, Stop};
use super::counting::Closed;
use super::fault::{DbFault, PoolError, ends_connection};
use super::query::{Parts, leaves_state};
use super::slice::Slice;
use super::watch::{Abroad, Watch};
use crate::limits::DB_BACKOFF_MS_MAX;

/// A connection, and what its keeper has to know of it.
pub(super) struct Live<B: Backend> {
    pub(super) conn: B::Connection,
    pub(super) stop: Stop,
    /// Of the query that runs on it.
    pub(super) watch: Arc<Watch>,
    pub(super) made_ms: u64,
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
    /// A query runs on it, or was dropped before its end.
    Running,
    /// A query that ran on it has taken too long.
    Late,
    /// It is of no more use.
    Broken(Closed),
}

/// What an error did to a transaction, whoever passed it over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    None,
    /// The server may refuse the rest, and take a commit for a rollback.
    Doubt,
    /// The server has rolled it back, and would commit the rest one by one.
    RolledBack,
}

/// A connection on loan. Dropped, it goes back to its slice, if it is proven clean; is asked for a
/// proof, if it is not known; is stopped and closed, if a query still runs on it.
///
/// `&mut conn` is an executor of sqlx, whose queries are counted and bounded as those of
/// [`Db`](crate::Db) are. `&mut *conn` is sqlx's own connection, for what is more than a query,
/// such as COPY, or takes longer.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// use soloist::sqlx::{self, Sqlite};
/// use soloist::{Db, prelude::*};
///
/// async fn journal(db: &Db<Sqlite>) -> Result<String> {
///     let mut conn = db.acquire().await?;
///     Ok(sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut conn).await?)
/// }
/// # }
/// ```
pub struct DbConnection<B: Backend> {
    /// None once it was taken out.
    live: Option<Live<B>>,
    slice: Arc<Slice<B>>,
    known: Known,
    /// No query proves it clean before its transaction has ended.
    is_in_transaction: bool,
    /// Something was done on it that may have left more than an answer.
    is_tainted: bool,
    /// It is of no more use when its holder is done: nothing takes back what was set.
    is_marked: bool,
    /// What an error did to its transaction.
    harm: Harm,
    /// What its queries are counted under.
    name: Option<&'static str>,
    /// SQLite: the turn to write.
    turn: Option<OwnedSemaphorePermit>,
    abroad: Option<Abroad>,
    since: Option<Instant>,
}

impl<B: Backend> DbConnection<B> {
    pub(super) fn new(live: Live<B>, slice: &Arc<Slice<B>>) -> Self {
        DbConnection {
            live: Some(live),
            slice: slice.clone(),
            known: Known::Clean,
            is_in_transaction: false,
            is_tainted: false,
            is_marked: false,
            harm: Harm::None,
            name: None,
            turn: None,
            abroad: None,
            since: None,
        }
    }

    pub(super) fn named(mut self, name: Option<&'static str>) -> Self {
        self.name = name;
        self
    }

    pub(super) fn with_turn(mut self, turn: Option<OwnedSemaphorePermit>) -> Self {
        self.turn = turn;
        self
    }

    /// Something is to run on it that may leave more than an answer.
    pub(super) fn taint(&mut self) {
        self.is_tainted = true;
        if self.known == Known::Clean {
            self.known = Known::Unproven;
        }
    }

    /// It is within a transaction from now on, or no more after what runs next.
    pub(super) fn set_in_transaction(&mut self, is_so: bool) {
        self.is_in_transaction = is_so;
        self.harm = Harm::None;
        if is_so && self.known == Known::Clean {
            self.known = Known::Unproven;
        }
    }

    /// A query begins: what it runs on, and the watch over its time.
    pub(super) fn start_query(&mut self) -> Result<(&mut B::Connection, &Watch), sqlx::Error> {
        if self.is_rolled_back() {
            return Err(PoolError::RolledBack.into());
        }
        if let Known::Late | Known::Broken(_) = self.known {
            return Err(PoolError::Spent.into());
        }
        self.known = Known::Running;
        self.abroad = Some(Abroad::new(&self.slice.abroad));
        self.since = Some(Instant::now());
        let live = self.live.as_mut().expect("there until it drops");
        live.watch.start(self.slice.server.query_ms);
        Ok((&mut live.conn, &live.watch))
    }

    /// The query has ended: with an error, without one, or (none) not in time.
    pub(super) fn end_query<T>(
        &mut self,
        outcome: Option<Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let took_ns = self.since.take().map_or(0, |it| it.elapsed().as_nanos() as u64);
        self.abroad = None;
        let live = self.live.as_ref().expect("there until it drops");
        live.watch.stop();
        // Another connection may lead to another server, but not if this one is as new.
        let is_new = self.slice.now_ms() < live.made_ms + DB_BACKOFF_MS_MAX;
        let Some(outcome) = outcome else {
            self.slice.counting().timed_out();
            self.known = Known::Late;
            return Err(self.slice.too_slow().into());
        };
        self.slice.counting().query(self.name, took_ns, outcome.is_err());
        let is_clean = !self.is_in_transaction && !self.is_tainted;
        let well = if is_clean { Known::Clean } else { Known::Unproven };
        self.known = match &outcome {
            Ok(_) => well,
            Err(sqlx::Error::RowNotFound) => well,
            Err(error) if is_new && DbFault::of(error) == DbFault::ReadOnly => Known::Unproven,
            Err(error) if ends_connection(error) => Known::Broken(Closed::Error),
            Err(_) => Known::Unproven,
        };
        if self.is_in_transaction
            && let Err(sqlx::Error::Database(error)) = &outcome
        {
            let is_over = B::ends_transaction(&**error) || self.is_rolled_back();
            self.harm = if is_over { Harm::RolledBack } else { Harm::Doubt };
        }
        outcome
    }

    /// Looks at what is to run next. Whether it needs a transaction of its own: a pooler gives each
    /// one another of the server's connections, which knows nothing of what was prepared on the one
    /// before.
    pub(super) fn make_ready_for(&mut self, query: &mut Parts<B>) -> bool {
        if !self.is_tainted && leaves_state(query.text()) {
            self.taint();
        }
        if self.is_tainted && !self.is_marked {
            self.is_marked = B::marks(&self.live().conn, query.text());
        }
        if !self.slice.server.is_pooled {
            return false;
        }
        query.prepare_for_once();
        let depth = B::TransactionManager::get_transaction_depth(&self.live().conn);
        query.has_arguments() && depth == 0
    }

    /// Whether an error may have ended its transaction, or spoilt it.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.harm != Harm::None
    }

    /// Whether the server has rolled its transaction back although nobody asked for it.
    pub(super) fn is_rolled_back(&self) -> bool {
        self.harm == Harm::RolledBack
    }

    /// Whether it answers to nobody any more, or not before a query has ended.
    pub(super) fn is_unusable(&self) -> bool {
        !matches!(self.known, Known::Clean | Known::Unproven)
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
    /// Whoever has it may do what he likes.
    fn deref_mut(&mut self) -> &mut B::Connection {
        self.taint();
        &mut self.live.as_mut().expect("there until it drops").conn
    }
}

impl<B: Backend> Drop for DbConnection<B> {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        live.watch.stop();
        match self.known {
            Known::Clean | Known::Unproven if self.is_marked => {
                self.slice.close(live, Closed::Changed);
            }
            Known::Clean => self.slice.give_back(live),
            Known::Unproven => {
                let changed = self.is_tainted || self.is_in_transaction;
                self.slice.prove(live, self.turn.take(), changed);
            }
            Known::Running | Known::Late => self.slice.stop(live, self.turn.take()),
            Known::Broken(why) => self.slice.close(live, why),
        }
    }
}

impl<B: Backend> std::fmt::Debug for DbConnection<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DbConnection of {}", B::NAME)
    }
}
