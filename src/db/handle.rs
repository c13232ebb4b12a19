//! A database as handlers see it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use sqlx::Pool;
use sqlx_core::transaction::TransactionManager;

use super::backend::Backend;
use super::fault;
use super::health;
use super::keeper;
use super::live::DbConnection;
use super::options::DbOptions;
use super::server::{Server, without_secrets};
use super::slice::Slice;
use super::standings::Standings;
use super::transaction::DbTransaction;
use super::watch::lock;
use crate::error::{Error, Result, judge_by};
use crate::shard::Shard;

/// A database, as one shard has it: connections of its own, under a budget that all shards share.
/// Made by [`Shard::db`](crate::Shard::db); clones are the same.
///
/// `&db` is an executor of sqlx: `query`, `query_as`, the checked macros, `QueryBuilder` and
/// migrations work on it as on a pool of its own. A query that ends well gives its connection to
/// the next at once; one that is dropped, as a request that was cancelled drops it, is stopped on
/// the server.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # mod sample {
/// use soloist::sqlx::{self, Sqlite};
/// use soloist::{Db, prelude::*};
///
/// fn main() -> Result<()> {
///     Server::bind("127.0.0.1:8080").run(app)
/// }
///
/// async fn app(shard: Shard) -> Result<App<Db<Sqlite>>> {
///     let db = shard.db("sqlite://visits.db").await?; // made if it is not there
///     sqlx::query("CREATE TABLE IF NOT EXISTS visits (at TEXT)").execute(&db).await?;
///     Ok(App::new(db).get("/", visit))
/// }
///
/// async fn visit(cx: &Ctx<Db<Sqlite>>) -> Result<Reply> {
///     let db = cx.state();
///     sqlx::query("INSERT INTO visits VALUES (datetime())").execute(db).await?;
///     let count: i64 = sqlx::query_scalar("SELECT count(*) FROM visits").fetch_one(db).await?;
///     cx.text(count.to_string())
/// }
/// # }
/// ```
pub struct Db<B: Backend> {
    pub(super) cluster: Arc<Cluster<B>>,
    /// Of this shard: one of each server of the cluster.
    pub(super) slices: Arc<[Arc<Slice<B>>]>,
    pub(super) route: Route,
    /// What its queries are counted under.
    pub(super) name: Option<&'static str>,
}

/// Which server a query goes to.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Primary,
    Replica,
    /// Reads to a replica until the request has written.
    Request {
        wrote: Arc<AtomicBool>,
    },
}

/// A primary and its replicas, as the whole process sees them.
pub(super) struct Cluster<B: Backend> {
    pub(super) servers: Vec<Arc<Server<B>>>,
    pub(super) standings: Arc<Standings>,
    /// What it was asked for with.
    options: DbOptions,
    /// Somebody asks how many connections the server allows.
    asks: tokio::sync::Mutex<bool>,
}

/// Clusters of the process by their first URL.
type Clusters<B> = Mutex<HashMap<String, Arc<Cluster<B>>>>;
/// Handles of the shard by it, and whether their server was there.
struct Handles<B: Backend>(RefCell<HashMap<String, (Db<B>, bool)>>);

/// Databases.
impl Shard {
    /// This shard's handle of a database: call it on every shard, where the application is built.
    /// The budget of connections ([`DbOptions::open_max`]) is for all shards together; leases move
    /// to where requests wait.
    ///
    /// # Errors
    /// A URL that cannot be read; a database that is not there, unless
    /// [`lazy`](DbOptions::lazy); a budget that is smaller than the shards are many, or larger than
    /// the server allows; the same URL with other options than before.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// use soloist::sqlx::Sqlite;
    /// use soloist::{Db, DbOptions, prelude::*};
    ///
    /// async fn app(shard: Shard) -> Result<App<Db<Sqlite>>> {
    ///     let options = DbOptions::new("sqlite://todos.db").open_max(16);
    ///     Ok(App::new(shard.db(options).await?))
    /// }
    /// # }
    /// ```
    pub async fn db<B: Backend>(&self, options: impl Into<DbOptions>) -> Result<Db<B>> {
        judge_by(fault::verdict);
        let options = options.into();
        let url = options.url.clone();
        let handles = match self.got::<Handles<B>>() {
            Some(handles) => handles,
            None => self.put(Handles(RefCell::default())),
        };
        let known = handles.0.borrow().get(&url).cloned();
        if let Some((db, has_met)) = known {
            db.cluster.is_asked_alike(&options)?;
            return if has_met || options.is_lazy { Ok(db) } else { db.meet_as(self, url).await };
        }
        let name = ("databases", std::any::TypeId::of::<B>());
        let clusters = self.0.common::<Clusters<B>>(name, Clusters::default);
        let cluster = {
            let mut clusters = lock(&clusters);
            match clusters.get(&url) {
                Some(cluster) => {
                    cluster.is_asked_alike(&options)?;
                    cluster.clone()
                }
                None => {
                    let new = Arc::new(Cluster::new(&options, self.count())?);
                    clusters.insert(url.clone(), new.clone());
                    new
                }
            }
        };
        let slices = cluster.servers.iter().map(|server| {
            let slice = Slice::new(self.id(), server.clone(), self.0.abroad.clone());
            let slice = Arc::new(slice);
            server.budget.sit(self.id(), slice.bell.clone());
            lock(&server.slices).push(Arc::downgrade(&slice));
            self.spawn_own(keeper::keep(slice.clone(), self.clone()));
            slice
        });
        let slices = slices.collect();
        let db = Db { cluster, slices, route: Route::Primary, name: None };
        handles.0.borrow_mut().insert(url.clone(), (db.clone(), false));
        if options.is_lazy { Ok(db) } else { db.meet_as(self, url).await }
    }
}

impl<B: Backend> Db<B> {
    /// Itself, once its server is there.
    async fn meet_as(self, shard: &Shard, url: String) -> Result<Db<B>> {
        self.meet(shard).await?;
        if let Some(handles) = shard.got::<Handles<B>>() {
            handles.0.borrow_mut().insert(url, (self.clone(), true));
        }
        Ok(self)
    }

    /// The first connections: that the server is there, and allows what was asked for.
    async fn meet(&self, shard: &Shard) -> Result<()> {
        let mut asked = self.cluster.asks.lock().await;
        if !*asked && self.slices.len() > 1 {
            // Who is the primary by now, and who is there at all.
            join_all(self.slices.iter().map(|it| health::look(&it.server, shard, None))).await;
        }
        let primary = self.cluster.standings.primary();
        for (at, slice) in self.slices.iter().enumerate() {
            let may_be_away = at != primary;
            if may_be_away && (*asked || !self.cluster.standings.is_there(at)) {
                continue;
            }
            let met = self.meet_one(slice, *asked).await;
            match met {
                Ok(None) => {}
                Ok(Some(misfit)) => return Err(Error::from(misfit)),
                Err(_) if may_be_away => {}
                Err(error) => {
                    return Err(Error::new(503, "the database is not available").because(format!(
                        "{}: {error}; see DbOptions::lazy to start without it",
                        slice.server.address()
                    )));
                }
            }
        }
        if !*asked {
            let server = &self.cluster.servers[primary];
            tracing::info!(
                database = B::NAME,
                open_max = server.options.open_max,
                shards = shard.count(),
                allowed = lock(&server.rules).map(|it| it.connections_max),
                "connected"
            );
        }
        *asked = true;
        Ok(())
    }

    /// A connection, and why what the server allows does not do.
    async fn meet_one(
        &self,
        slice: &Arc<Slice<B>>,
        asked: bool,
    ) -> Result<Option<String>, sqlx::Error> {
        let mut conn = slice.checkout().await?;
        if asked {
            return Ok(None);
        }
        let (sqlx, watch) = conn.start_query()?;
        let rules = watch.within(B::rules(sqlx)).await;
        let rules = conn.end_query(rules)?;
        *lock(&slice.server.rules) = rules;
        Ok(rules.and_then(|rules| slice.server.misfit(rules)))
    }

    /// The same database, whose queries are counted under a name too: see
    /// [`DbStats::names`](crate::DbStats).
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::{self, Sqlite};
    /// # use soloist::{Db, prelude::*};
    /// async fn name_of(db: &Db<Sqlite>, id: i64) -> Result<String> {
    ///     let query = sqlx::query_scalar("SELECT name FROM users WHERE id = $1").bind(id);
    ///     Ok(query.fetch_one(&db.named("name_of")).await?)
    /// }
    /// # }
    /// ```
    pub fn named(&self, name: &'static str) -> Db<B> {
        Db { name: Some(name), ..self.clone() }
    }

    /// The same database, always its primary.
    ///
    /// ```
    /// # use soloist::{Backend, Db};
    /// # fn sample<B: Backend>(db: &Db<B>) {
    /// let db = db.primary(); // for a read that must see what others have just written
    /// # }
    /// ```
    pub fn primary(&self) -> Db<B> {
        Db { route: Route::Primary, ..self.clone() }
    }

    /// The same database, for reads that may be a little behind: a replica, if one is well.
    ///
    /// ```
    /// # use soloist::{Backend, Db};
    /// # fn sample<B: Backend>(db: &Db<B>) {
    /// let db = db.replica(); // for a report
    /// # }
    /// ```
    pub fn replica(&self) -> Db<B> {
        Db { route: Route::Replica, ..self.clone() }
    }

    /// The same database for one request, which has written if `wrote` says so.
    pub(crate) fn of_request(&self, wrote: Arc<AtomicBool>) -> Db<B> {
        Db { route: Route::Request { wrote }, ..self.clone() }
    }

    /// A connection, for what is more than one query and no transaction, such as COPY. It goes back
    /// when it drops.
    ///
    /// # Errors
    /// When none becomes free in time.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")]
    /// # mod sample {
    /// # use soloist::sqlx::{self, Postgres};
    /// # use soloist::{Db, prelude::*};
    /// async fn load(db: &Db<Postgres>, csv: &[u8]) -> Result<u64> {
    ///     let mut conn = db.acquire().await?;
    ///     sqlx::query("TRUNCATE users").execute(&mut conn).await?;
    ///     let mut copy = conn.copy_in_raw("COPY users FROM STDIN (FORMAT csv)").await?;
    ///     copy.send(csv).await?;
    ///     Ok(copy.finish().await?)
    /// }
    /// # }
    /// ```
    pub async fn acquire(&self) -> Result<DbConnection<B>, sqlx::Error> {
        let slice = self.slice_for(matches!(self.route, Route::Replica));
        self.has_written();
        Ok(slice.checkout().await?.named(self.name))
    }

    /// A transaction, rolled back if it drops before its commit. On SQLite it may write: it waits
    /// for the other writers of the process first.
    ///
    /// # Errors
    /// When no connection becomes free in time, or the server refuses.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::{self, Sqlite};
    /// # use soloist::{Db, prelude::*};
    /// async fn transfer(db: &Db<Sqlite>, from: i64, to: i64, cents: i64) -> Result<()> {
    ///     let mut tx = db.begin().await?;
    ///     for (id, change) in [(from, -cents), (to, cents)] {
    ///         let query = sqlx::query("UPDATE accounts SET cents = cents + $1 WHERE id = $2");
    ///         query.bind(change).bind(id).execute(&mut *tx).await?; // an error rolls back
    ///     }
    ///     Ok(tx.commit().await?)
    /// }
    /// # }
    /// ```
    pub async fn begin(&self) -> Result<DbTransaction<'static, B>, sqlx::Error> {
        self.begin_by(B::begin(&self.slices[0].server.options.url), true).await
    }

    /// As [`begin`](Db::begin), by a statement of your own: `BEGIN ISOLATION LEVEL SERIALIZABLE`,
    /// or `BEGIN` on SQLite for reads that see one state.
    ///
    /// # Errors
    /// As of [`begin`](Db::begin).
    ///
    /// ```
    /// # #[cfg(feature = "postgres")]
    /// # mod sample {
    /// # use soloist::sqlx::{self, Postgres};
    /// # use soloist::{Db, prelude::*};
    /// async fn total(db: &Db<Postgres>) -> Result<i64> {
    ///     let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    ///     let sum = sqlx::query_scalar("SELECT sum(n)::int8 FROM t").fetch_one(&mut *tx).await?;
    ///     tx.commit().await?;
    ///     Ok(sum)
    /// }
    /// # }
    /// ```
    pub async fn begin_with(
        &self,
        statement: &'static str,
    ) -> Result<DbTransaction<'static, B>, sqlx::Error> {
        let upper = statement.to_ascii_uppercase();
        let writes = upper.contains("IMMEDIATE") || upper.contains("EXCLUSIVE");
        self.begin_by(Some(statement), writes).await
    }

    async fn begin_by(
        &self,
        statement: Option<&'static str>,
        writes: bool,
    ) -> Result<DbTransaction<'static, B>, sqlx::Error> {
        self.has_written();
        let slice = self.slice_for(false);
        let turn = if writes { slice.turn().await? } else { None };
        let mut conn = slice.checkout().await?.named(self.name).with_turn(turn);
        let (sqlx, watch) = conn.start_query()?;
        let statement = statement.map(sqlx::SqlSafeStr::into_sql_str);
        let begun = watch.within(B::TransactionManager::begin(sqlx, statement)).await;
        conn.end_query(begun)?;
        Ok(DbTransaction::new(conn))
    }

    /// A stock pool of sqlx, for crates that want one, with connections that are taken out of the
    /// budget for as long as it is held: give it few. Its own rules hold for them, not ours.
    ///
    /// # Errors
    /// When fewer than `count` leases are free.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// # use soloist::sqlx::{Pool, Sqlite};
    /// # use soloist::{Db, prelude::*};
    /// # fn sessions_of(_: Pool<Sqlite>) {}
    /// async fn sessions(db: &Db<Sqlite>) -> Result<()> {
    ///     let pool = db.pool(2)?;
    ///     sessions_of(pool.clone()); // a session store, say
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn pool(&self, count: usize) -> Result<DbPool<B>> {
        DbPool::new(&self.slice_for(false).server, count)
    }

    /// Another URL from now on: with a new password, for the server of that address; of an address
    /// that is none of theirs, for the first. Connections in use are closed when they come back,
    /// idle ones within a second, on all shards.
    ///
    /// # Errors
    /// A URL that cannot be read.
    ///
    /// ```
    /// # use soloist::{Backend, Db, Result};
    /// # fn sample<B: Backend>(db: &Db<B>) -> Result<()> {
    /// db.set_url("postgres://ann:new-password@db.local/shop")?;
    /// # Ok(()) }
    /// ```
    pub fn set_url(&self, url: &str) -> Result<()> {
        let servers = &self.cluster.servers;
        let address = without_secrets(url);
        let same = servers.iter().find(|it| it.address() == address);
        Ok(same.unwrap_or(&servers[0]).set_url(url)?)
    }

    pub(super) fn has_written(&self) {
        if let Route::Request { wrote } = &self.route {
            wrote.store(true, Ordering::Relaxed);
        }
    }

    /// The slice for what only reads, or for what may write.
    pub(super) fn slice_for(&self, reads: bool) -> &Arc<Slice<B>> {
        if self.slices.len() == 1 {
            return &self.slices[0];
        }
        let primary = self.cluster.standings.primary();
        let replica_will_do = match &self.route {
            Route::Primary => false,
            Route::Replica => true,
            Route::Request { wrote } => reads && !wrote.load(Ordering::Relaxed),
        };
        if !replica_will_do {
            return &self.slices[primary];
        }
        let well = self
            .slices
            .iter()
            .enumerate()
            .filter(|(at, slice)| self.cluster.standings.is_well(*at) && !slice.is_away());
        let least = well.min_by_key(|(_, slice)| {
            let state = slice.state();
            state.in_use + state.waiters.len()
        });
        &self.slices[least.map_or(primary, |(at, _)| at)]
    }

    /// Whether it matters to whom a query goes.
    pub(super) fn needs_kind(&self) -> bool {
        self.slices[0].server.turns.is_some() || self.slices.len() > 1
    }
}

impl<B: Backend> Cluster<B> {
    /// One budget, one set of bounds: others for the same URL would be forgotten.
    fn is_asked_alike(&self, options: &DbOptions) -> Result<()> {
        if self.options == *options {
            return Ok(());
        }
        Err(Error::from(format!(
            "{} is asked for twice, with different options: give each shard the same ones",
            without_secrets(&options.url)
        )))
    }

    fn new(options: &DbOptions, shards: usize) -> Result<Cluster<B>> {
        let urls = [&options.url].into_iter().chain(&options.replicas);
        let standings = Arc::new(Standings::new(urls.clone().count(), options.lag_max));
        let servers: Result<Vec<_>, sqlx::Error> = urls
            .enumerate()
            .map(|(at, url)| Server::new(url, options, shards, (at, &standings)).map(Arc::new))
            .collect();
        let servers = servers.map_err(|error| Error::from(format!("a database's URL: {error}")))?;
        if let Some(shortage) = servers[0].shortage() {
            return Err(Error::from(shortage));
        }
        let asks = tokio::sync::Mutex::new(false);
        Ok(Cluster { servers, standings, options: options.clone(), asks })
    }
}

impl<B: Backend> Clone for Db<B> {
    fn clone(&self) -> Db<B> {
        Db {
            cluster: self.cluster.clone(),
            slices: self.slices.clone(),
            route: self.route.clone(),
            name: self.name,
        }
    }
}

impl<B: Backend> fmt::Debug for Db<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db of {}", self.cluster.servers[0].address())
    }
}

/// A stock pool of sqlx: see [`Db::pool`]. Dropped, it closes, and its leases go back.
///
/// ```
/// # use soloist::{Backend, DbPool};
/// # fn sample<B: Backend>(pool: &DbPool<B>) {
/// let stock: &soloist::sqlx::Pool<B> = pool;
/// # }
/// ```
pub struct DbPool<B: Backend> {
    pool: Pool<B>,
    server: Arc<Server<B>>,
    count: usize,
}

impl<B: Backend> DbPool<B> {
    fn new(server: &Arc<Server<B>>, count: usize) -> Result<DbPool<B>> {
        if !server.budget.take_apart(count) {
            let (held, limit) = (server.budget.held(), server.budget.limit());
            return Err(Error::new(503, "the database is busy").because(format!(
                "no {count} connections are free for a pool: {held} of {limit} are out (open_max)"
            )));
        }
        Ok(DbPool { pool: stock(server, count), server: server.clone(), count })
    }

    /// The same with connections of its own.
    #[cfg(feature = "postgres")]
    pub(super) fn renew(&mut self) {
        let old = std::mem::replace(&mut self.pool, stock(&self.server, self.count));
        drop(old.close());
    }
}

fn stock<B: Backend>(server: &Server<B>, count: usize) -> Pool<B> {
    let options = sqlx::pool::PoolOptions::<B>::new()
        .max_connections(count.try_into().unwrap_or(u32::MAX))
        .acquire_timeout(server.options.acquire_max)
        .idle_timeout(server.options.idle_for_max)
        .max_lifetime(server.options.life_max);
    options.connect_lazy_with(server.with().0)
}

impl<B: Backend> Slice<B> {
    /// A stock pool of one connection, made for who first wants it.
    pub(super) fn stock(&self) -> Result<Pool<B>, sqlx::Error> {
        let mut stock = lock(&self.stock);
        if stock.is_none() {
            let new = DbPool::new(&self.server, 1);
            *stock = Some(new.map_err(|it| sqlx::Error::Configuration(it.into_std()))?);
        }
        Ok(stock.as_ref().expect("made above").pool.clone())
    }
}

impl<B: Backend> std::ops::Deref for DbPool<B> {
    type Target = Pool<B>;

    fn deref(&self) -> &Pool<B> {
        &self.pool
    }
}

impl<B: Backend> Drop for DbPool<B> {
    fn drop(&mut self) {
        // Marks it closed at once; connections go as they come back.
        drop(self.pool.close());
        self.server.budget.give_back_apart(self.count);
    }
}
