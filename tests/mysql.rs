//! MySQL on a shard, against a MariaDB of its own: queries, transactions and their ends, prepared
//! statements, named errors, and what a server that is killed, frozen or full costs.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use soloist::prelude::*;
use soloist::sqlx::migrate::Migrator;
use soloist::sqlx::{self, Any, Connection, MySql, MySqlConnection};
use soloist::{Db, DbFault, DbOptions, DbStats};

use mariadb::MariaDb;
use shard::{at_rest, fault, on_shard, on_shards, until};

#[path = "stores/mariadb.rs"]
mod mariadb;
#[path = "stores/shard.rs"]
mod shard;

static NAMES: Migrator = sqlx::migrate!("tests/stores/migrations");

/// What a statement is stopped in.
const LONG: &str = "SELECT SLEEP(60)";

/// Runs work on a shard with a database of a server, and its table.
#[track_caller]
fn with(
    store: &Arc<MariaDb>,
    options: impl FnOnce(DbOptions) -> DbOptions,
    work: impl AsyncFnOnce(Shard, Db<MySql>, Arc<MariaDb>) + Clone + Send + 'static,
) {
    let (store, options) = (store.clone(), options(DbOptions::new(store.url())));
    on_shard(async move |shard| {
        let db = shard.db::<MySql>(options).await.expect("a database");
        let table = "CREATE TABLE IF NOT EXISTS t (id INT AUTO_INCREMENT PRIMARY KEY, \
             n BIGINT NOT NULL UNIQUE)";
        sqlx::query(table).execute(&db).await.expect("a table");
        sqlx::query("DELETE FROM t").execute(&db).await.expect("none in it");
        work(shard, db, store).await;
    });
}

async fn insert(db: &Db<MySql>, n: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO t (n) VALUES (?)").bind(n).execute(db).await.map(drop)
}

async fn all(db: &Db<MySql>) -> Vec<i64> {
    try_all(db).await.expect("rows")
}

async fn try_all(db: &Db<MySql>) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT n FROM t ORDER BY n").fetch_all(db).await
}

/// Does something to a server on a thread that may wait.
async fn to<T: Send + 'static>(
    shard: &Shard,
    store: &Arc<MariaDb>,
    work: impl FnOnce(&MariaDb) -> T + Send + 'static,
) -> T {
    let store = store.clone();
    shard.blocking(move || work(&store)).await.expect("done")
}

/// Until no statement with such words runs on the server.
async fn until_stopped(shard: &Shard, store: &Arc<MariaDb>, words: &'static str) {
    until(shard, "it is stopped", async || {
        to(shard, store, |store| store.running(words)).await == 0
    })
    .await;
}

#[test]
fn queries_transactions_and_all_of_their_ends() {
    let store = Arc::new(MariaDb::start(20));
    with(
        &store,
        |it| it.open_max(3),
        async |shard, db, store| {
            for n in [3, 1, 2] {
                insert(&db, n).await.expect("in");
            }
            assert_eq!(all(&db).await, [1, 2, 3]);
            let rows =
                sqlx::query_as::<_, (i64, i64)>("SELECT n, n * n FROM t ORDER BY n").fetch(&db);
            let rows: Vec<_> = rows.map(|it| it.expect("a row")).collect().await;
            assert_eq!(rows, [(1, 1), (2, 4), (3, 9)]);
            assert_eq!(fault(insert(&db, 1).await.expect_err("taken")), (DbFault::Unique, 500));

            let add = async |conn: &mut MySqlConnection, n: i64| {
                sqlx::query("INSERT INTO t (n) VALUES (?)")
                    .bind(n)
                    .execute(conn)
                    .await
                    .expect("in");
            };
            for how in ["drop", "rollback", "error", "late", "cancelled", "panic", "left"] {
                let mut tx = db.begin().await.expect("begun");
                add(&mut tx, 4).await;
                let ms = Duration::from_millis(20);
                match how {
                    "rollback" => tx.rollback().await.expect("undone"),
                    "error" => {
                        let taken = sqlx::query("INSERT INTO t (n) VALUES (1)");
                        assert!(taken.execute(&mut *tx).await.is_err());
                        drop(tx);
                    }
                    "late" => {
                        let late = shard.timeout(ms, sqlx::query(LONG).execute(&mut *tx)).await;
                        assert!(late.is_err());
                        drop(tx);
                        until_stopped(&shard, &store, "SLEEP").await;
                    }
                    "cancelled" | "panic" => {
                        let task = shard.spawn(async move {
                            let _ = sqlx::query("SELECT SLEEP(0.01)").execute(&mut *tx).await;
                            assert_ne!(how, "panic", "on purpose");
                            std::future::pending::<()>().await;
                        });
                        if how == "cancelled" {
                            shard.sleep(ms).await; // wherever it stands by then
                            task.abort();
                        }
                        task.ended().await;
                    }
                    _ => drop(tx),
                }
                until(&shard, "undone", async || all(&db).await == [1, 2, 3]).await;
                let stats = at_rest(&shard, &db).await;
                assert!(stats.leases <= 3, "{how}: {stats:?}");
            }

            let mut tx = db.begin().await.expect("begun");
            add(&mut tx, 5).await;
            {
                let mut inner = tx.begin().await.expect("a savepoint");
                add(&mut inner, 6).await;
            } // dropped: undone alone
            let mut inner = tx.begin().await.expect("a savepoint");
            add(&mut inner, 7).await;
            let mut innermost = inner.begin().await.expect("another");
            add(&mut innermost, 8).await;
            innermost.rollback().await.expect("undone");
            inner.commit().await.expect("released");
            tx.commit().await.expect("committed");
            assert_eq!(all(&db).await, [1, 2, 3, 5, 7]);

            // What was begun on a connection that was lent, and not through sqlx's own words.
            let mut conn = db.acquire().await.expect("one");
            sqlx::raw_sql("START TRANSACTION").execute(&mut *conn).await.expect("begun");
            add(&mut conn, 9).await;
            drop(conn);
            at_rest(&shard, &db).await;
            assert_eq!(all(&db).await, [1, 2, 3, 5, 7]);
        },
    );
}

#[test]
fn prepared_statements_are_used_again_and_counted() {
    let store = Arc::new(MariaDb::start(20));
    with(
        &store,
        |it| it.open_max(1).statements_max(8),
        async |shard, db, store| {
            let prepared = async || to(&shard, &store, |it| it.status("Com_stmt_prepare")).await;
            insert(&db, 0).await.expect("prepared");
            let before = prepared().await;
            for n in 1..50 {
                insert(&db, n).await.expect("in");
            }
            assert_eq!(prepared().await, before, "no query was prepared twice");
            for n in 0..30 {
                let text = format!("SELECT {n}");
                sqlx::query(sqlx::AssertSqlSafe(text)).fetch_one(&db).await.expect("a row");
            }
            assert_eq!(prepared().await, before + 30);
            let stats = at_rest(&shard, &db).await;
            assert_eq!(stats.statements, 8, "the least used go first");
            assert_eq!(to(&shard, &store, |it| it.status("Prepared_stmt_count")).await, 8);
        },
    );
    with(
        &store,
        |it| it.open_max(1).behind_pooler(),
        async |shard, db, store| {
            for n in 0..5 {
                insert(&db, n).await.expect("in");
            }
            assert_eq!(at_rest(&shard, &db).await.statements, 0);
            until(&shard, "none is kept", async || {
                to(&shard, &store, |it| it.status("Prepared_stmt_count")).await == 0
            })
            .await;
        },
    );
}

#[test]
fn a_query_that_nobody_waits_for_is_stopped_on_the_server() {
    let store = Arc::new(MariaDb::start(20));
    let options = |it: DbOptions| it.open_max(3).query_max(Duration::from_millis(300));
    with(&store, options, async |shard, db, store| {
        // The request's time is over, its own time is, it is dropped by who reads it.
        for (how, words) in [
            ("dropped", "SELECT SLEEP(61)"),
            ("late", "SELECT SLEEP(62)"),
            ("read no further", "SELECT SLEEP(63)"),
            ("busy", "SELECT BENCHMARK(1000000000000, SHA2('a', 256))"),
        ] {
            let before = at_rest(&shard, &db).await;
            let start = Instant::now();
            match how {
                "late" | "busy" => {
                    let late = sqlx::query(words).execute(&db).await.expect_err("late");
                    assert_eq!(fault(late), (DbFault::TooSlow, 503), "{how}");
                }
                "dropped" => {
                    let limit = Duration::from_millis(50);
                    let ended = shard.timeout(limit, sqlx::query(words).execute(&db)).await;
                    assert!(ended.is_err());
                }
                _ => {
                    let mut rows = sqlx::query(words).fetch(&db);
                    assert!(shard.timeout(Duration::from_millis(50), rows.next()).await.is_err());
                }
            }
            assert!(start.elapsed() < Duration::from_secs(2), "{how}: {:?}", start.elapsed());
            until_stopped(&shard, &store, words).await;
            let after = at_rest(&shard, &db).await;
            let closed = after.closed.stopped - before.closed.stopped;
            assert_eq!((closed, after.stopped - before.stopped), (1, 1), "{how}: {after:?}");
        }
        assert_eq!(all(&db).await, [0; 0], "others go on");
    });
}

#[test]
fn what_goes_wrong_has_a_name() {
    let store = Arc::new(MariaDb::start_with(20, &["max-heap-table-size=16384"]));
    with(
        &store,
        |it| it.open_max(4),
        async |shard, db, store| {
            insert(&db, 1).await.expect("in");
            insert(&db, 2).await.expect("in");
            NAMES.run(&db).await.expect("tables");
            sqlx::query("CREATE TABLE heap (b CHAR(200)) ENGINE=MEMORY")
                .execute(&db)
                .await
                .expect("made");
            // statement, name, status
            for (sql, name, status) in [
                ("INSERT INTO t (n) VALUES (1)", DbFault::Unique, 500),
                ("INSERT INTO t (n) VALUES (NULL)", DbFault::Check, 500),
                ("INSERT INTO t VALUES ()", DbFault::Check, 500),
                ("INSERT INTO nicknames VALUES (1, 'a')", DbFault::ForeignKey, 500),
                ("INSERT INTO nicknames VALUES (1, '')", DbFault::Check, 500),
                ("SELECT nothing", DbFault::Other, 500),
                ("SELECT FROM WHERE", DbFault::Other, 500),
                ("INSERT INTO heap SELECT 'a' FROM seq_1_to_1000000", DbFault::Full, 507),
                ("KILL QUERY CONNECTION_ID()", DbFault::Cancelled, 503),
                ("KILL CONNECTION_ID()", DbFault::Restarting, 503),
            ] {
                let error = sqlx::query(sql).execute(&db).await.expect_err(sql);
                let text = error.to_string();
                assert_eq!(fault(error), (name, status), "{sql}: {text}");
                assert_eq!(all(&db).await, [1, 2], "after {sql}");
            }
            at_rest(&shard, &db).await;

            // Two transactions in each other's way: one is told, the other goes on.
            let have_one = Cell::new(0);
            let attempt = async |first: i64, second: i64| {
                let mut tx = db.begin().await.expect("begun");
                for n in [first, second] {
                    let update = sqlx::query("UPDATE t SET n = n + 10 WHERE n = ?").bind(n);
                    update.execute(&mut *tx).await.map_err(fault)?;
                    have_one.set(have_one.get() + 1);
                    until(&shard, "both have one", async || have_one.get() >= 2).await;
                }
                tx.commit().await.map_err(fault)
            };
            let (one, other) = join(attempt(1, 2), attempt(2, 1)).await;
            let lost = if one.is_ok() { other } else { one };
            assert_eq!(lost, Err((DbFault::Conflict, 503)));
            assert_eq!(all(&db).await, [11, 12]);
            // Who passes the error over, and goes on: half of it would be committed.
            for how in ["commit", "rollback", "savepoint", "drop"] {
                sqlx::query("DELETE FROM t WHERE n NOT IN (11, 12)").execute(&db).await.expect("");
                have_one.set(0);
                let add = async |conn: &mut MySqlConnection, n: i64| {
                    let add = sqlx::query("UPDATE t SET n = n + 10 WHERE n = ?").bind(n);
                    add.execute(conn).await.map(drop)
                };
                let attempt = async |first: i64, second: i64| {
                    let mut outer = db.begin().await.expect("begun");
                    add(&mut outer, first).await.expect("nobody is in the way yet");
                    have_one.set(have_one.get() + 1);
                    until(&shard, "both have one", async || have_one.get() >= 2).await;
                    let mut inner = outer.begin().await.expect("a savepoint");
                    let query = sqlx::query("UPDATE t SET n = n + 10 WHERE n = ?").bind(second);
                    if query.execute(&mut *inner).await.is_ok() {
                        drop(inner);
                        drop(outer);
                        return false;
                    }
                    let more = sqlx::query("INSERT INTO t (n) VALUES (99)");
                    let refused = more.execute(&mut *inner).await.expect_err("not outside of it");
                    assert_eq!(fault(refused), (DbFault::Conflict, 503), "{how}");
                    match how {
                        "savepoint" => assert!(inner.commit().await.is_err()),
                        "rollback" => inner.rollback().await.expect("there is nothing left"),
                        _ => drop(inner),
                    }
                    match how {
                        "commit" => assert!(outer.commit().await.is_err()),
                        "rollback" => outer.rollback().await.expect("there is nothing left"),
                        _ => drop(outer),
                    }
                    true
                };
                let (one, other) = join(attempt(11, 12), attempt(12, 11)).await;
                assert!(one != other, "{how}: one is told");
                at_rest(&shard, &db).await;
                assert_eq!(all(&db).await, [11, 12], "{how}");
            }

            // One that waits for longer than the server lets it.
            let mut tx = db.begin().await.expect("begun");
            sqlx::query("DELETE FROM t").execute(&mut *tx).await.expect("locked");
            let mut conn = db.acquire().await.expect("one");
            sqlx::query("SET innodb_lock_wait_timeout = 0").execute(&mut conn).await.expect("set");
            let waits = sqlx::query("DELETE FROM t").execute(&mut conn).await.expect_err("locked");
            assert_eq!(fault(waits), (DbFault::Conflict, 503));
            drop((tx, conn));

            // What was set for a session is gone with it.
            for (sets, asks, before) in [
                ("SET @mine = 7", "SELECT COALESCE(@mine, 0) = 0", 1),
                ("SET sql_mode = ''", "SELECT @@sql_mode = ''", 0),
                ("USE information_schema", "SELECT DATABASE() = 'soloist'", 1),
                ("CREATE TEMPORARY TABLE t (n INT)", "SELECT COUNT(*) > 0 FROM t", 1),
            ] {
                let changed = at_rest(&shard, &db).await.closed.changed;
                sqlx::raw_sql(sets).execute(&db).await.expect(sets);
                assert_eq!(at_rest(&shard, &db).await.closed.changed, changed + 1, "{sets}");
                let asked = async || {
                    let found: i64 = sqlx::query_scalar(asks).fetch_one(&db).await.expect(asks);
                    assert_eq!(found, before, "{sets}");
                };
                join_all((0..4).map(|_| asked())).await;
            }

            // A server that takes no writes.
            to(&shard, &store, |it| it.sql("SET GLOBAL read_only = 1")).await;
            assert_eq!(
                fault(insert(&db, 3).await.expect_err("read only")),
                (DbFault::ReadOnly, 503)
            );
            assert_eq!(all(&db).await, [11, 12]);
            to(&shard, &store, |it| it.sql("SET GLOBAL read_only = 0")).await;
            insert(&db, 3).await.expect("it takes them again");

            // Connections that were killed while nobody used them.
            let kill = "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist \
             WHERE user = 'soloist'";
            to(&shard, &store, move |it| it.sql(&it.sql(kill))).await;
            let first = insert(&db, 4).await;
            if let Err(error) = first {
                let text = error.to_string();
                let name = DbFault::of(&error);
                assert!(
                    matches!(name, DbFault::Unreachable | DbFault::Restarting),
                    "{name:?} {text}"
                );
            }
            insert(&db, 5).await.expect("at most one has seen it: the others are tested first");
            let stats = at_rest(&shard, &db).await;
            assert!(stats.closed.error + stats.closed.test >= 1, "{stats:?}");
        },
    );
}

#[test]
fn a_server_that_is_killed_costs_errors_and_no_acknowledged_write() {
    let store = Arc::new(MariaDb::start(20));
    with(
        &store,
        |it| it.open_max(6),
        async |shard, db, store| {
            let (acknowledged, is_over) = (AtomicU64::new(0), AtomicU64::new(0));
            let client = async |at: i64| {
                let mut written = Vec::new();
                for n in 0.. {
                    if is_over.load(Ordering::SeqCst) == 1 {
                        break;
                    }
                    let (n, start) = (at * 1_000_000 + n, Instant::now());
                    match insert(&db, n).await {
                        Ok(()) => {
                            written.push(n);
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            let took = start.elapsed();
                            assert!(took < Duration::from_secs(4), "{took:?}: {error}");
                            assert_eq!(Error::from(error).status(), 503);
                            shard.sleep(Duration::from_millis(5)).await; // Retry-After, so to say
                        }
                    }
                }
                written
            };
            let faults = async {
                for _ in 0..3 {
                    let so_far = acknowledged.load(Ordering::SeqCst);
                    until(&shard, "writes go on", async || {
                        acknowledged.load(Ordering::SeqCst) > so_far + 50
                    })
                    .await;
                    to(&shard, &store, MariaDb::kill).await;
                    until(&shard, "it is known", async || insert(&db, -1).await.is_err()).await;
                    let start = Instant::now();
                    let error = insert(&db, -1).await.expect_err("it is down");
                    assert_eq!(fault(error), (DbFault::Unreachable, 503));
                    let took = start.elapsed();
                    assert!(took < Duration::from_millis(500), "nobody waits for it: {took:?}");
                    to(&shard, &store, MariaDb::restart).await;
                }
                let so_far = acknowledged.load(Ordering::SeqCst);
                until(&shard, "it recovers", async || {
                    acknowledged.load(Ordering::SeqCst) > so_far + 50
                })
                .await;
                is_over.store(1, Ordering::SeqCst);
            };
            let (written, ()) = join(join_all((1..=8).map(client)), faults).await;
            let there: std::collections::HashSet<_> = all(&db).await.into_iter().collect();
            let lost: Vec<_> = written.iter().flatten().filter(|it| !there.contains(it)).collect();
            assert!(lost.is_empty(), "acknowledged, and not there: {lost:?}");
            let stats = at_rest(&shard, &db).await;
            assert!(stats.leases <= 6 && stats.closed.error >= 1, "{stats:?}");
            let storm = stats.opened + stats.connect_errors;
            assert!(storm < 200, "tries to connect: {stats:?}");
        },
    );
}

#[test]
fn a_server_that_is_frozen_costs_the_time_that_a_query_may_take() {
    let store = Arc::new(MariaDb::start(20));
    let ms = Duration::from_millis(300);
    let options = move |it: DbOptions| {
        it.open_max(4).query_max(ms).acquire_max(ms).connect_max(ms).test_idle(Duration::ZERO)
    };
    with(&store, options, async |shard, db, store| {
        for round in 0..3 {
            insert(&db, round).await.expect("it answers");
            to(&shard, &store, MariaDb::freeze).await;
            let start = Instant::now();
            let ask = async |n: i64| {
                let error = insert(&db, 100 + n).await.expect_err("nobody answers");
                let (name, status) = fault(error);
                let is_right = matches!(
                    name,
                    DbFault::TooSlow | DbFault::PoolExhausted | DbFault::Unreachable
                );
                assert!(is_right && status == 503, "{name:?}");
            };
            join_all((0..10).map(ask)).await;
            let took = start.elapsed();
            assert!(took < Duration::from_secs(3), "{took:?}");
            // A transaction ends by then as well, wherever it stands.
            let start = Instant::now();
            assert!(db.begin().await.is_err());
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            to(&shard, &store, MariaDb::thaw).await;
            until(&shard, "it answers again", async || {
                try_all(&db).await.is_ok_and(|all| all.contains(&round))
            })
            .await;
            let stats = at_rest(&shard, &db).await;
            assert!(stats.leases <= 4, "{stats:?}");
            // The server stops what it had begun, or has done it: no connection lingers there.
            until(&shard, "none is left there", async || {
                let open = db.stats_everywhere().open;
                to(&shard, &store, |it| it.running("")).await <= open + 1
            })
            .await;
        }
    });
}

#[test]
fn a_server_with_too_many_clients_is_waited_for_a_moment_and_then_named() {
    let store = MariaDb::start(10);
    let options = DbOptions::new(store.url()).open_max(4).lazy();
    let (url, options) = (store.url(), options.acquire_max(Duration::from_secs(2)));
    on_shard(async move |shard| {
        let db = shard.db::<MySql>(options).await.expect("a handle");
        let mut others = Vec::new();
        for _ in 0..10 {
            others.push(MySqlConnection::connect(&url).await.expect("one of ten"));
        }
        let one = || sqlx::query_scalar::<_, i64>("SELECT CAST(1 AS SIGNED)").fetch_one(&db);
        let start = Instant::now();
        let error = one().await.expect_err("all are taken");
        assert_eq!(fault(error), (DbFault::TooManyClients, 503));
        let took = start.elapsed();
        assert!(took > Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");
        others.pop().expect("one").close().await.expect("closed");
        until(&shard, "one is free", async || one().await.is_ok()).await;
        let stats = at_rest(&shard, &db).await;
        assert!(stats.leases == 1 && stats.connect_errors >= 2, "{stats:?}");
        // A burst has the one, and waits for it in turn, though three more are allowed.
        let all: Vec<_> = join_all((0..20).map(|_| one())).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        drop(others);
        at_rest(&shard, &db).await;
    });
    drop(store);
}

#[test]
fn a_budget_that_the_server_does_not_allow_fails_the_start_with_numbers() {
    let store = MariaDb::start(10);
    // budget, words of the error; none where it fits
    for (open_max, words) in [
        (9, &[][..]),
        (10, &["10 connections (open_max)", "allows 10 (max_connections)", "open_max to 9"][..]),
        (500, &["500 connections (open_max)", "allows 10", "or raise max_connections"][..]),
    ] {
        for any in [false, true] {
            let options = DbOptions::new(store.url()).open_max(open_max);
            on_shard(async move |shard| {
                let error = match any {
                    true => shard.db::<Any>(options).await.err(),
                    false => shard.db::<MySql>(options).await.err(),
                };
                let text = error.map(|it| format!("{it:?}")).unwrap_or_default();
                assert_eq!(text.is_empty(), words.is_empty(), "{open_max}: {text}");
                for word in words {
                    assert!(text.contains(word), "\"{word}\" is not in: {text}");
                }
                assert!(!text.contains("secret"), "{text}");
            });
        }
    }
}

#[test]
fn a_start_without_a_server_says_where_it_should_be() {
    let store = MariaDb::start(10);
    let (right, port) = (store.url(), store.port().to_string());
    for (url, words) in [
        (right.replace("soloist:secret", "soloist:wrong"), &["Access denied"][..]),
        (right.replace("/soloist", "/nothing"), &["nothing"][..]),
        (right.replace(&port, "1"), &["127.0.0.1:1/soloist", "DbOptions::lazy"][..]),
        (right.replace("mysql://", "mysql:"), &["127.0.0.1"][..]),
        (right.replace("mysql://", ""), &["a database's URL", "mysql://"][..]),
        (right.replace("mysql://", "postgres://"), &["a database's URL", "mysql://"][..]),
    ] {
        on_shard(async move |shard| {
            let error = shard.db::<MySql>(url.clone()).await.expect_err("no such database");
            let text = format!("{error:?}");
            for word in words {
                assert!(text.contains(word), "{url}: \"{word}\" is not in: {text}");
            }
            assert!(!text.contains("secret") && !text.contains("wrong"), "{text}");
        });
    }
}

#[test]
fn migrations_run_once_for_all_shards_and_all_nodes() {
    let store = MariaDb::start(20);
    let (options, runs) = (DbOptions::new(store.url()).open_max(4), Arc::<AtomicU64>::default());
    let count = runs.clone();
    on_shards(2, async move |shard| {
        let db = shard.db::<MySql>(options).await.expect("a database");
        let once = shard.once("migrations", async || {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(NAMES.run(&db).await?)
        });
        once.await.expect("migrated");
        let name = sqlx::query("INSERT INTO names VALUES (?, ?)").bind(shard.id() as i64);
        name.bind(shard.id().to_string()).execute(&db).await.expect("a table is there");
        // Each by itself, as other nodes would: the server's lock makes them wait for each other.
        NAMES.run(&db).await.expect("nothing is left to do");
        at_rest_here(&shard, &db).await;
    });
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(store.sql("SELECT count(*) FROM soloist.names").trim(), "2");
    assert_eq!(store.sql("SELECT count(*) FROM soloist._sqlx_migrations").trim(), "1");
}

/// As [`at_rest`], while the other shard is busy.
async fn at_rest_here(shard: &Shard, db: &Db<MySql>) -> DbStats {
    until(shard, "all have come back", async || db.stats().in_use == 0).await;
    db.stats()
}

/// Follows another one, from its first change on.
fn follow(replica: &MariaDb, primary: &MariaDb) {
    replica.sql(&format!(
        "CHANGE MASTER TO master_host = '127.0.0.1', master_port = {}, master_user = 'copier', \
         master_password = 'copier', master_connect_retry = 1, master_use_gtid = slave_pos; \
         START SLAVE",
        primary.port()
    ));
}

#[test]
fn replicas_by_gtid() {
    let settings = |id: &'static str| [id, "log-bin=log", "log-slave-updates"];
    let primary = Arc::new(MariaDb::start_with(20, &settings("server-id=1")));
    let replica = Arc::new(MariaDb::start_with(20, &settings("server-id=2")));
    replica.sql("RESET MASTER; SET GLOBAL read_only = 1");
    primary.sql(
        "RESET MASTER; CREATE USER copier@127.0.0.1 IDENTIFIED BY 'copier'; \
         GRANT REPLICATION SLAVE ON *.* TO copier@127.0.0.1; \
         CREATE TABLE soloist.t (n BIGINT PRIMARY KEY)",
    );
    follow(&replica, &primary);
    let options = DbOptions::new(primary.url()).replica(replica.url()).open_max(4);
    let options = options.lag_max(Duration::from_millis(1_500));
    on_shard(async move |shard| {
        let db = shard.db::<MySql>(options).await.expect("a database");
        let who = async |db: &Db<MySql>| {
            let port = sqlx::query_scalar::<_, i64>("SELECT CAST(@@port AS SIGNED)").fetch_one(db);
            usize::from(port.await.expect("one of them") == i64::from(replica.port()))
        };
        let gets_reads = || db.stats().servers[1].gets_reads;
        until(&shard, "it has caught up", async || gets_reads()).await;
        assert_eq!((who(&db).await, who(&db.replica()).await, who(&db.primary()).await), (0, 1, 0));
        insert(&db, 1).await.expect("at the primary");
        until(&shard, "it comes", async || try_all(&db.replica()).await.unwrap() == [1]).await;

        // It is sent changes, and shows none of them.
        to(&shard, &replica, |it| it.sql("STOP SLAVE SQL_THREAD")).await;
        insert(&db, 2).await.expect("at the primary");
        until(&shard, "it is known to be behind", async || !gets_reads()).await;
        assert_eq!(all(&db.replica()).await, [1, 2], "by the primary");
        to(&shard, &replica, |it| it.sql("START SLAVE SQL_THREAD")).await;
        until(&shard, "it has caught up", async || gets_reads()).await;
        assert_eq!((who(&db.replica()).await, all(&db.replica()).await), (1, vec![1, 2]));

        // It takes the place of the primary, which comes back as if nothing had happened.
        to(&shard, &primary, MariaDb::kill).await;
        until(&shard, "writes fail", async || insert(&db, 3).await.is_err()).await;
        let promote = "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0";
        to(&shard, &replica, |it| it.sql(promote)).await;
        until(&shard, "writes go on", async || insert(&db, 4).await.is_ok()).await;
        to(&shard, &primary, MariaDb::restart).await;
        until(&shard, "it is seen", async || db.stats().servers[0].answers).await;
        to(&shard, &replica, MariaDb::kill).await;
        until(&shard, "that is seen", async || !db.stats().servers[1].answers).await;
        assert!(insert(&db, 5).await.is_err(), "not to the old one");
        to(&shard, &replica, MariaDb::restart).await;
        until(&shard, "writes come back", async || insert(&db, 6).await.is_ok()).await;
        assert_eq!(db.stats().elections, 1);

        // It follows the new one, and gets reads.
        let (old, new) = (primary.clone(), replica.clone());
        let turned = shard.blocking(move || {
            old.sql("SET GLOBAL read_only = 1");
            new.sql(
                "CREATE USER IF NOT EXISTS copier@127.0.0.1 IDENTIFIED BY 'copier'; \
                 GRANT REPLICATION SLAVE ON *.* TO copier@127.0.0.1",
            );
            old.sql("SET GLOBAL gtid_slave_pos = @@gtid_current_pos");
            follow(&old, &new);
        });
        turned.await.expect("done");
        until(&shard, "the old one gets reads", async || db.stats().servers[0].gets_reads).await;
        assert_eq!((who(&db).await, who(&db.replica()).await), (1, 0));
        assert_eq!(all(&db.replica()).await, [1, 2, 4, 6]);
        at_rest(&shard, &db).await;
    });
}

#[test]
fn any_is_mysql_by_its_url() {
    let store = Arc::new(MariaDb::start(20));
    let options = DbOptions::new(store.url()).open_max(2).query_max(Duration::from_millis(300));
    on_shard(async move |shard| {
        let db = shard.db::<Any>(options).await.expect("a database");
        let create = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, n BIGINT NOT NULL UNIQUE)";
        sqlx::query(create).execute(&db).await.expect("a table");
        let insert = async |n: i64| {
            sqlx::query("INSERT INTO t (n) VALUES (?)").bind(n).execute(&db).await.map(drop)
        };
        insert(1).await.expect("1");
        assert_eq!(fault(insert(1).await.expect_err("taken")), (DbFault::Unique, 500));
        let mut tx = db.begin().await.expect("begun");
        sqlx::query("INSERT INTO t (n) VALUES (2)").execute(&mut *tx).await.expect("2");
        {
            let mut inner = tx.begin().await.expect("a savepoint");
            sqlx::query("INSERT INTO t (n) VALUES (3)").execute(&mut *inner).await.expect("3");
        }
        tx.commit().await.expect("committed");
        let mut tx = db.begin().await.expect("begun");
        sqlx::query("INSERT INTO t (n) VALUES (4)").execute(&mut *tx).await.expect("4");
        drop(tx);
        until(&shard, "undone", async || {
            let all = sqlx::query_scalar::<_, i64>("SELECT n FROM t ORDER BY n").fetch_all(&db);
            all.await.expect("rows") == [1, 2]
        })
        .await;
        let late = sqlx::query(LONG).execute(&db).await.expect_err("late");
        assert_eq!(fault(late), (DbFault::TooSlow, 503));
        until_stopped(&shard, &store, "SLEEP").await;
        let stats = at_rest(&shard, &db).await;
        assert_eq!((stats.closed.stopped, stats.stopped, stats.database), (1, 1, "Any"));
    });
}
