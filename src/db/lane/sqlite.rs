//! Reads of SQLite on the shard itself: a read-only connection of the shard's own, a guard over the
//! time of each query, and the worker for whatever takes longer.

mod error;
pub(crate) mod row;
mod slow;

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{CachedStatement, Connection, OpenFlags, ToSql, ffi};
use sqlx::{Executor, SqlSafeStr, SqlStr, Sqlite};

use error::LaneError;
use row::{Source, SqliteLaneRow, arguments};
use slow::Slow;

use crate::db::backend::Backend;
use crate::db::handle::Db;
use crate::db::query::is_read;
use crate::db::slice::Slice;
use crate::db::watch::yield_now;
use crate::error::{Error, Result};
use crate::limits::{
    DB_ROWS_A_TURN, SQLITE_LANE_BYTES_MAX, SQLITE_LANE_OPS, SQLITE_LANE_QUERIES_A_TURN,
    SQLITE_LANE_REOPEN_MS, SQLITE_LANE_ROWS, SQLITE_LANE_TURN_US_MAX,
};

/// A fast lane for reads of SQLite that find a few rows by a key: see [`Db::lane`]. Clones are the
/// same; it cannot leave its thread.
///
/// Values are what rusqlite's `ToSql` knows; `$1`, `?1` and `?` stand for them. A closure makes of
/// a row what is wanted. It may borrow from it; it is to do nothing else, as it is called again
/// for the same rows if the query is run anew by the worker.
///
/// ```
/// use soloist::sqlx::{self, Sqlite};
/// use soloist::{Db, SqliteLane, prelude::*};
///
/// struct State {
///     db: Db<Sqlite>,
///     lane: SqliteLane,
/// }
///
/// async fn app(shard: Shard) -> Result<App<State>> {
///     let db = shard.db::<Sqlite>("sqlite://users.db").await?;
///     let lane = db.lane()?; // once on each core
///     Ok(App::new(State { db, lane }).get("/users/:id", user).post("/users/:name", add))
/// }
///
/// async fn user(cx: &Ctx<State>) -> Result<Reply> {
///     let id: i64 = cx.param("id")?;
///     let name: Option<String> = cx
///         .state()
///         .lane
///         .optional("SELECT name FROM users WHERE id = $1", &[&id], |row| row.get(0))
///         .await?;
///     cx.text(name.ok_or_else(Error::not_found)?)
/// }
///
/// async fn add(cx: &Ctx<State>) -> Result<Reply> {
///     let insert = sqlx::query("INSERT INTO users (name) VALUES ($1)");
///     let insert = insert.bind(cx.param::<String>("name")?);
///     insert.execute(&cx.state().db).await?; // what the lane reads from now on has it
///     cx.empty()
/// }
/// ```
#[derive(Clone)]
pub struct SqliteLane {
    lane: Rc<Lane>,
    /// What its queries are counted under.
    name: Option<&'static str>,
}

struct Lane {
    /// For what goes to the worker.
    db: Db<Sqlite>,
    reader: RefCell<Option<Rc<Reader>>>,
    /// When the file may be opened again, if it could not be.
    reopen: Cell<Option<Instant>>,
    slow: RefCell<Slow>,
    /// Queries since others of the shard had their turn, and the time of them.
    turn_queries: Cell<u32>,
    turn: Cell<Duration>,
}

impl Db<Sqlite> {
    /// A fast lane for point reads, on this thread: see [`SqliteLane`]. It opens a connection of
    /// its own that can only read; call it once on each shard, where the application is built.
    ///
    /// A query that takes longer than [`DbOptions::lane_max`](crate::DbOptions::lane_max) is given
    /// up and run by the worker, as `&db` does it, and so is one that finds the file locked or
    /// damaged. A database in memory has no lane of its own: all goes to the worker.
    ///
    /// # Errors
    /// A file that cannot be opened, unless [`lazy`](crate::DbOptions::lazy).
    ///
    /// ```
    /// # mod sample {
    /// use soloist::sqlx::Sqlite;
    /// use soloist::{SqliteLane, prelude::*};
    ///
    /// async fn app(shard: Shard) -> Result<App<SqliteLane>> {
    ///     Ok(App::new(shard.db::<Sqlite>("sqlite://users.db").await?.lane()?))
    /// }
    /// # }
    /// ```
    pub fn lane(&self) -> Result<SqliteLane> {
        let lane = Lane {
            db: self.primary(),
            reader: RefCell::default(),
            reopen: Cell::default(),
            slow: RefCell::default(),
            turn_queries: Cell::default(),
            turn: Cell::default(),
        };
        if lane.has_file() && !lane.slice().server.options.is_lazy {
            lane.open().map_err(|error| {
                let address = lane.slice().server.address();
                Error::new(503, "the database is not available").because(format!(
                    "{address}: the lane cannot open it to read: {error}; use &db for such a file"
                ))
            })?;
        }
        Ok(SqliteLane { name: self.name, lane: Rc::new(lane) })
    }
}

impl SqliteLane {
    /// The same lane, whose queries are counted under a name too: see [`Db::named`].
    ///
    /// ```
    /// # use soloist::{SqliteLane, sqlx};
    /// async fn name_of(lane: &SqliteLane, id: i64) -> Result<String, sqlx::Error> {
    ///     let lane = lane.named("name_of");
    ///     lane.one("SELECT name FROM users WHERE id = $1", &[&id], |row| row.get(0)).await
    /// }
    /// ```
    pub fn named(&self, name: &'static str) -> SqliteLane {
        SqliteLane { name: Some(name), ..self.clone() }
    }

    /// The first row that a query finds.
    ///
    /// # Errors
    /// [`RowNotFound`](sqlx::Error::RowNotFound) if there is none; a statement that writes, or that
    /// SQLite does not understand; what the closure says; for one that goes to the worker, whatever
    /// `&db` says.
    ///
    /// ```
    /// # use soloist::{SqliteLane, sqlx};
    /// async fn name_of(lane: &SqliteLane, id: i64) -> Result<String, sqlx::Error> {
    ///     lane.one("SELECT name FROM users WHERE id = $1", &[&id], |row| row.get(0)).await
    /// }
    /// ```
    pub async fn one<T>(
        &self,
        sql: impl SqlSafeStr,
        values: &[&dyn ToSql],
        map: impl FnMut(&SqliteLaneRow<'_>) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.optional(sql, values, map).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The first row that a query finds, if there is one.
    ///
    /// # Errors
    /// As of [`one`](SqliteLane::one), none for no row.
    ///
    /// ```
    /// # use soloist::{SqliteLane, sqlx};
    /// async fn id_of(lane: &SqliteLane, name: &str) -> Result<Option<i64>, sqlx::Error> {
    ///     lane.optional("SELECT id FROM users WHERE name = $1", &[&name], |row| row.get(0)).await
    /// }
    /// ```
    pub async fn optional<T>(
        &self,
        sql: impl SqlSafeStr,
        values: &[&dyn ToSql],
        map: impl FnMut(&SqliteLaneRow<'_>) -> Result<T, sqlx::Error>,
    ) -> Result<Option<T>, sqlx::Error> {
        self.run(sql.into_sql_str(), values, map).await
    }

    /// All rows that a query finds: some tens on the shard, any number by the worker.
    ///
    /// # Errors
    /// As of [`one`](SqliteLane::one), none for no row.
    ///
    /// ```
    /// # use soloist::{SqliteLane, sqlx};
    /// async fn titles(lane: &SqliteLane, author: i64) -> Result<Vec<String>, sqlx::Error> {
    ///     let sql = "SELECT title FROM books WHERE author = $1 ORDER BY year LIMIT 20";
    ///     lane.all(sql, &[&author], |row| row.get(0)).await
    /// }
    /// ```
    pub async fn all<T>(
        &self,
        sql: impl SqlSafeStr,
        values: &[&dyn ToSql],
        map: impl FnMut(&SqliteLaneRow<'_>) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, sqlx::Error> {
        self.run(sql.into_sql_str(), values, map).await
    }

    async fn run<T, G: Gather<T>>(
        &self,
        sql: SqlStr,
        values: &[&dyn ToSql],
        mut map: impl FnMut(&SqliteLaneRow<'_>) -> Result<T, sqlx::Error>,
    ) -> Result<G, sqlx::Error> {
        let lane = &*self.lane;
        lane.let_others_go().await;
        let mut known_to_read = false;
        if let Some(reader) = lane.reader_for(sql.as_str(), &mut known_to_read) {
            let start = Instant::now();
            let read = reader.read(sql.as_str(), values, start, &mut map);
            let took = start.elapsed();
            lane.count_turn(took);
            match lane.judge(sql.as_str(), read, took) {
                Ok(outcome) => {
                    let (took_ns, failed) = (took.as_nanos() as u64, outcome.is_err());
                    lane.slice().counting().lane(self.name, took_ns, failed);
                    return outcome;
                }
                Err(reads) => known_to_read = reads,
            }
        }
        lane.slice().counting().lane_fallbacks += 1;
        if !known_to_read && !is_read(sql.as_str()) {
            return Err(writes());
        }
        let query = sqlx::query_with(sql, arguments(values)?);
        let db = Db { name: self.name, ..lane.db.clone() };
        let mut gathered = G::default();
        if G::IS_ONE {
            if let Some(row) = (&db).fetch_optional(query).await? {
                gathered.take(map(&SqliteLaneRow(Source::Worker(&row)))?);
            }
            return Ok(gathered);
        }
        for (count, row) in (1..).zip((&db).fetch_all(query).await?) {
            gathered.take(map(&SqliteLaneRow(Source::Worker(&row)))?);
            if count % DB_ROWS_A_TURN == 0 {
                yield_now().await;
            }
        }
        Ok(gathered)
    }
}

impl fmt::Debug for SqliteLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteLane of {}", self.lane.slice().server.address())
    }
}

impl Lane {
    fn slice(&self) -> &Arc<Slice<Sqlite>> {
        self.db.slice_for(false)
    }

    /// Whether there is something to open: not in memory, and reached as files are.
    fn has_file(&self) -> bool {
        let server = &self.slice().server;
        let url = server.url();
        !Sqlite::is_in_memory(&url) && !url.contains("vfs=") && !server.options.lane_max.is_zero()
    }

    /// What is answered at once never waits: it would keep the shard from its other tasks.
    async fn let_others_go(&self) {
        let queries = self.turn_queries.get();
        let is_over = self.turn.get() >= Duration::from_micros(SQLITE_LANE_TURN_US_MAX);
        if is_over || queries >= SQLITE_LANE_QUERIES_A_TURN {
            self.turn_queries.set(0);
            self.turn.set(Duration::ZERO);
            yield_now().await;
        }
    }

    fn count_turn(&self, took: Duration) {
        self.turn_queries.set(self.turn_queries.get() + 1);
        self.turn.set(self.turn.get() + took);
    }

    /// What a statement is to be read by, unless that is the worker.
    fn reader_for(&self, sql: &str, known_to_read: &mut bool) -> Option<Rc<Reader>> {
        let mut slow = self.slow.borrow_mut();
        if !slow.is_empty() && slow.spares(sql, Instant::now()) {
            *known_to_read = true; // it has run here
            return None;
        }
        drop(slow);
        let reader = self.reader.borrow().clone();
        if let Some(reader) = reader.filter(|it| !it.is_old(self.slice())) {
            return Some(reader);
        }
        let is_soon = self.reopen.get().is_some_and(|at| Instant::now() < at);
        if is_soon || !self.has_file() {
            return None;
        }
        match self.open() {
            Ok(reader) => Some(reader),
            Err(error) => {
                let address = self.slice().server.address();
                let error = &error as &dyn StdError;
                tracing::warn!(address, error, "the lane cannot open it: reads go to the worker");
                self.leave_file();
                None
            }
        }
    }

    fn open(&self) -> rusqlite::Result<Rc<Reader>> {
        self.reader.take(); // one at a time
        let reader = Rc::new(Reader::open(self.slice())?);
        self.reader.replace(Some(reader.clone()));
        self.reopen.set(None);
        Ok(reader)
    }

    /// The file is not as it should be: it is opened anew, but not at once.
    fn leave_file(&self) {
        self.reader.take();
        self.reopen.set(Some(Instant::now() + Duration::from_millis(SQLITE_LANE_REOPEN_MS)));
    }

    /// What came of a read: an outcome, or that it is the worker's, and whether it is known to read
    /// only.
    fn judge<G>(
        &self,
        sql: &str,
        read: Result<Result<G, sqlx::Error>, Left>,
        took: Duration,
    ) -> Result<Result<G, sqlx::Error>, bool> {
        let mut slow = self.slow.borrow_mut();
        match read {
            Ok(outcome) if took > self.slice().server.options.lane_max => {
                slow.late(sql, Instant::now());
                Ok(outcome)
            }
            Ok(outcome) => {
                slow.in_time(sql);
                Ok(outcome)
            }
            Err(Left::Interrupted) => {
                slow.late(sql, Instant::now());
                Err(true)
            }
            Err(Left::Unfit { reads, is_file }) => {
                if is_file {
                    self.leave_file();
                }
                Err(reads)
            }
        }
    }
}

/// What rows are gathered in.
trait Gather<T>: Default {
    /// The first row is enough.
    const IS_ONE: bool;

    fn take(&mut self, row: T);
}

impl<T> Gather<T> for Option<T> {
    const IS_ONE: bool = true;

    fn take(&mut self, row: T) {
        *self = Some(row);
    }
}

impl<T> Gather<T> for Vec<T> {
    const IS_ONE: bool = false;

    fn take(&mut self, row: T) {
        self.push(row);
    }
}

/// Why a read goes on with the worker.
enum Left {
    /// Its time was over.
    Interrupted,
    /// SQLite could not go on with it here.
    Unfit { reads: bool, is_file: bool },
}

/// A connection that only reads, on the thread that uses it.
struct Reader {
    conn: Connection,
    began: Instant,
    /// When the query that runs is over time, in ns since it began.
    over_ns: Arc<AtomicU64>,
    lane_max: Duration,
    /// When it is too old.
    expires_ms: u64,
    /// The generation of addresses that it was made with.
    generation: u64,
}

impl Reader {
    fn open(slice: &Slice<Sqlite>) -> rusqlite::Result<Reader> {
        let (options, (with, generation)) = (&slice.server.options, slice.server.with());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE
            | OpenFlags::SQLITE_OPEN_URI; // as sqlx has it
        let conn = Connection::open_with_flags(with.get_filename(), flags)?;
        conn.busy_timeout(Duration::ZERO)?; // it would sleep
        conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, SQLITE_LANE_BYTES_MAX)?;
        conn.set_prepared_statement_cache_capacity(options.statements_max);
        conn.pragma_update(None, "query_only", true)?;
        // Reads the file for the first time: what is wrong with it is seen here.
        conn.pragma_query_value(None, "schema_version", |_| Ok(()))?;
        let (began, over_ns) = (Instant::now(), Arc::new(AtomicU64::new(u64::MAX)));
        let over = over_ns.clone();
        let is_over = move || began.elapsed().as_nanos() as u64 > over.load(Ordering::Relaxed);
        conn.progress_handler(SQLITE_LANE_OPS, Some(is_over))?;
        conn.authorizer(Some(authorize))?;
        let life_ms = options.life_max.as_millis().try_into().unwrap_or(u64::MAX);
        let expires_ms = slice.now_ms().saturating_add(life_ms);
        Ok(Reader { conn, began, over_ns, lane_max: options.lane_max, expires_ms, generation })
    }

    fn is_old(&self, slice: &Slice<Sqlite>) -> bool {
        self.generation != slice.server.generation() || slice.now_ms() >= self.expires_ms
    }

    /// Runs a statement to its end, or to the end of its time.
    fn read<T, G: Gather<T>>(
        &self,
        sql: &str,
        values: &[&dyn ToSql],
        start: Instant,
        map: &mut impl FnMut(&SqliteLaneRow<'_>) -> Result<T, sqlx::Error>,
    ) -> Result<Result<G, sqlx::Error>, Left> {
        let over_ns = (start - self.began).as_nanos().saturating_add(self.lane_max.as_nanos());
        self.over_ns.store(over_ns.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut statement = match self.conn.prepare_cached(sql) {
            Ok(statement) => statement,
            Err(error) => return said(error, false).map(Err),
        };
        if !statement.readonly() {
            statement.discard();
            return Ok(Err(writes()));
        }
        if let Err(error) = bind(&mut statement, values)? {
            return Ok(Err(error));
        }
        let (mut rows, mut gathered) = (statement.raw_query(), G::default());
        for count in 1.. {
            match rows.next() {
                Ok(Some(row)) => match map(&SqliteLaneRow(Source::Shard(row))) {
                    Ok(row) => gathered.take(row),
                    Err(error) => return Ok(Err(error)),
                },
                Ok(None) => break,
                Err(error) => return said(error, true).map(Err),
            }
            if G::IS_ONE {
                break;
            }
            if count % SQLITE_LANE_ROWS == 0 && start.elapsed() > self.lane_max {
                return Err(Left::Interrupted);
            }
        }
        Ok(Ok(gathered))
    }
}

/// SQLite takes these for reads, but they change what the next query finds: a transaction's
/// snapshot would stay.
fn authorize(asks: AuthContext<'_>) -> Authorization {
    match asks.action {
        // FTS5 asks it of its own accord.
        AuthAction::Pragma { pragma_name: "data_version", .. } => Authorization::Allow,
        AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Pragma { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Transaction { .. } => Authorization::Deny,
        _ => Authorization::Allow,
    }
}

/// Values by their numbers, as sqlx has it: `$2` is the second one, wherever it stands.
fn bind(
    statement: &mut CachedStatement<'_>,
    values: &[&dyn ToSql],
) -> Result<Result<(), sqlx::Error>, Left> {
    let mut in_order = 0;
    for at in 1..=statement.parameter_count() {
        let number = match statement.parameter_name(at) {
            None => {
                in_order += 1;
                in_order
            }
            Some(name) => match name.strip_prefix(['?', '$']).map(str::parse::<usize>) {
                Some(Ok(number)) => number,
                _ => return Ok(Err(mistake(format!("{name} is no value: use $1, ?1 or ?")))),
            },
        };
        let Some(value) = number.checked_sub(1).and_then(|at| values.get(at)) else {
            let count = values.len();
            let why = format!("value {number} of the statement is missing: {count} given");
            return Ok(Err(mistake(why)));
        };
        match statement.raw_bind_parameter(at, value) {
            Ok(()) => {}
            Err(rusqlite::Error::ToSqlConversionFailure(why)) => {
                return Ok(Err(sqlx::Error::Encode(why)));
            }
            Err(error) => return said(error, true).map(Err), // too large for here, say
        }
    }
    Ok(Ok(()))
}

/// What SQLite says: an error of the statement, or one of the place, which the worker is to see.
fn said(error: rusqlite::Error, reads: bool) -> Result<sqlx::Error, Left> {
    let code = error.source().and_then(|it| it.downcast_ref::<ffi::Error>());
    let Some(code) = code.map(|it| it.extended_code) else {
        return Ok(mistake(error.to_string())); // of rusqlite: more than one statement, say
    };
    match code & 0xff {
        ffi::SQLITE_ERROR => {
            Ok(LaneError { code: Some(code.to_string()), message: error.to_string() }.into())
        }
        ffi::SQLITE_AUTH => Ok(writes()),
        ffi::SQLITE_INTERRUPT if reads => Err(Left::Interrupted),
        primary => {
            let passes = [
                ffi::SQLITE_BUSY,
                ffi::SQLITE_INTERRUPT,
                ffi::SQLITE_LOCKED,
                ffi::SQLITE_NOMEM,
                ffi::SQLITE_TOOBIG,
            ];
            Err(Left::Unfit { reads, is_file: !passes.contains(&primary) })
        }
    }
}

fn mistake(message: String) -> sqlx::Error {
    LaneError { code: None, message }.into()
}

fn writes() -> sqlx::Error {
    mistake("a lane only reads: run this statement on &db".to_owned())
}
