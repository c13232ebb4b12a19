//! SQLite on a shard: queries, transactions and their ends, one writer at a time, named errors,
//! time limits, streams, and the numbers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join;
use soloist::prelude::*;
use soloist::sqlx::migrate::Migrator;
use soloist::sqlx::sqlite::SqliteConnectOptions;
use soloist::sqlx::{self, Any, ConnectOptions, Row, Sqlite, SqliteConnection};
use soloist::testing::{TestClient, TestServer};
use soloist::{Db, DbFault, DbOptions, DbStats};

use shard::{at_rest, fault, on_shard, on_shards, until};

#[path = "stores/shard.rs"]
mod shard;

/// What never ends by itself, and has no rows until it does.
const ENDLESS: &str =
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c";

/// A database of its own, in a folder that goes with the last who has it.
#[derive(Clone)]
struct Place(Arc<Folder>);

struct Folder(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("soloist-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Place(Arc::new(Folder(path)))
    }

    fn folder(&self) -> &Path {
        &self.0.0
    }

    fn file(&self) -> PathBuf {
        self.folder().join("db.sqlite")
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.file().display())
    }

    fn options(&self) -> DbOptions {
        DbOptions::new(self.url())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn table(db: &Db<Sqlite>) -> Result<()> {
    sqlx::query("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE)")
        .execute(db)
        .await?;
    Ok(())
}

/// Runs work on a shard with a database of that name and its table.
#[track_caller]
fn with(
    options: impl Into<DbOptions>,
    work: impl AsyncFnOnce(Shard, Db<Sqlite>) + Clone + Send + 'static,
) {
    let options = options.into();
    on_shard(async move |shard| {
        let db = shard.db::<Sqlite>(options).await.expect("a database");
        table(&db).await.expect("a table");
        work(shard, db).await;
    });
}

async fn insert(db: &Db<Sqlite>, n: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n).execute(db).await.map(drop)
}

async fn all(db: &Db<Sqlite>) -> Vec<i64> {
    sqlx::query_scalar("SELECT n FROM t ORDER BY n").fetch_all(db).await.expect("rows")
}

#[test]
fn queries_work_without_any_server_and_on_a_virtual_clock() {
    let app = async |shard: Shard| {
        let db = shard.db::<Sqlite>("sqlite::memory:").await?;
        table(&db).await?;
        Ok(App::new(db)
            .post("/:n", async |cx| {
                let n: i64 = cx.param("n")?;
                sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n).execute(cx.state()).await?;
                cx.empty()
            })
            .get("/sum", async |cx| {
                let sum: i64 =
                    sqlx::query_scalar("SELECT sum(n) FROM t").fetch_one(cx.state()).await?;
                cx.json(&sum)
            })
            .get("/all", async |cx| {
                let rows = sqlx::query("SELECT n FROM t ORDER BY n").fetch_all(cx.state()).await?;
                let all: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                cx.json(&all)
            }))
    };
    TestClient::run(app, async |client| {
        for n in [3, 4, 5] {
            client.post(&format!("/{n}")).await.expect(204);
        }
        client.get("/sum").await.expect(200).text("12");
        client.get("/all").await.expect(200).text("[3,4,5]");
        client.post("/3").await.expect(500); // taken: for the handler to say what it means
    });
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let place = Place::new("transactions");
    let options = place.options().open_max(2);
    let app = async move |shard: Shard| {
        let db = shard.db::<Sqlite>(options).await?;
        table(&db).await?;
        Ok(App::new(db)
            .get("/commit", async |cx| {
                let mut tx = cx.state().begin().await?;
                sqlx::query("INSERT INTO t (n) VALUES (1)").execute(&mut *tx).await?;
                tx.commit().await?;
                cx.empty()
            })
            .get("/:how", async |cx| {
                let mut tx = cx.state().begin().await?;
                sqlx::query("INSERT INTO t (n) VALUES (2)").execute(&mut *tx).await?;
                match cx.param("how")? {
                    "drop" => cx.empty(),
                    "rollback" => {
                        tx.rollback().await?;
                        cx.empty()
                    }
                    "error" => Err(Error::new(418, "changed my mind")),
                    "panic" => panic!("on purpose"),
                    "taken" => {
                        let again = sqlx::query("INSERT INTO t (n) VALUES (2)");
                        again.execute(&mut *tx).await?;
                        cx.empty()
                    }
                    "slow" => {
                        cx.timeout(Duration::from_millis(5), std::future::pending::<()>()).await?;
                        cx.empty()
                    }
                    "long" => {
                        // A statement that runs when its request ends.
                        let long = sqlx::query(ENDLESS).fetch_one(&mut *tx);
                        cx.timeout(Duration::from_millis(5), long).await??;
                        cx.empty()
                    }
                    _ => {
                        std::future::pending::<()>().await; // until the client leaves
                        cx.empty()
                    }
                }
            })
            .get("/all", async |cx| cx.json(&all(cx.state()).await))
            .get("/in_use/:count", async |cx| {
                let count: usize = cx.param("count")?;
                let db = cx.state();
                until(&cx.shard(), "in use", async || db.stats().in_use == count).await;
                cx.empty()
            })
            .get("/stats", async |cx| cx.json(&at_rest(&cx.shard(), cx.state()).await)))
    };
    let server = TestServer::start(1, app);
    let ends = [("drop", 204), ("rollback", 204), ("error", 418), ("panic", 500), ("slow", 503)];
    for _ in 0..3 {
        for (how, status) in ends.iter().copied().chain([("taken", 500), ("long", 503)]) {
            server.get(&format!("/{how}")).expect(status);
            server.get("/all").expect(200).text("[]");
        }
        let mut socket = TcpStream::connect(server.addr()).expect("a connection");
        socket.write_all(b"GET /leave HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
        server.get("/in_use/1").expect(204);
        let now = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        now.expect("a reset");
        drop(socket); // the client leaves
        server.get("/in_use/0").expect(204);
        server.get("/all").expect(200).text("[]");
    }
    server.get("/commit").expect(204);
    server.get("/all").expect(200).text("[1]");
    let stats: serde_json::Value = server.get("/stats").expect(200).json();
    let (leases, idle, errors) = (&stats["leases"], &stats["idle"], &stats["closed"]["error"]);
    assert_eq!((leases, errors), (idle, &serde_json::json!(0)), "{stats}");
}

#[test]
fn savepoints_are_undone_alone() {
    let place = Place::new("savepoints");
    with(place.options(), async |shard, db| {
        let mut tx = db.begin().await.expect("begun");
        let add = async |conn: &mut SqliteConnection, n: i64| {
            sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n).execute(conn).await.map(drop)
        };
        add(&mut tx, 1).await.expect("1");
        {
            let mut inner = tx.begin().await.expect("a savepoint");
            add(&mut inner, 2).await.expect("2");
            {
                let mut innermost = inner.begin().await.expect("another");
                add(&mut innermost, 3).await.expect("3");
            } // dropped
            let mut innermost = inner.begin().await.expect("another");
            add(&mut innermost, 4).await.expect("4");
            innermost.commit().await.expect("released");
            inner.commit().await.expect("released");
        }
        let mut inner = tx.begin().await.expect("a savepoint");
        add(&mut inner, 5).await.expect("5");
        let taken = add(&mut inner, 1).await.expect_err("there already");
        assert_eq!(DbFault::of(&taken), DbFault::Unique);
        inner.rollback().await.expect("undone");
        add(&mut tx, 6).await.expect("6");
        tx.commit().await.expect("committed");
        assert_eq!(all(&db).await, [1, 2, 4, 6]);

        // One that nobody ends: its transaction undoes it.
        let mut tx = db.begin().await.expect("begun");
        let mut inner = tx.begin().await.expect("a savepoint");
        add(&mut inner, 7).await.expect("7");
        std::mem::forget(inner);
        drop(tx);
        let stats = at_rest(&shard, &db).await;
        assert_eq!(all(&db).await, [1, 2, 4, 6]);
        assert_eq!(stats.leases, stats.open);
        add(&mut db.acquire().await.expect("one that is in no transaction"), 8).await.expect("8");
        assert_eq!(all(&db).await, [1, 2, 4, 6, 8]);
    });
}

#[test]
fn a_connection_that_was_lent_comes_back_without_what_was_begun_on_it() {
    let place = Place::new("lent");
    with(place.options().open_max(2), async |shard, db| {
        for statement in ["BEGIN IMMEDIATE", "BEGIN", "SAVEPOINT a", "BEGIN EXCLUSIVE"] {
            let mut conn = db.acquire().await.expect("one");
            sqlx::query(statement).execute(&mut *conn).await.expect("begun");
            sqlx::query("INSERT INTO t (n) VALUES (1)").execute(&mut *conn).await.expect("one");
            drop(conn);
            at_rest(&shard, &db).await;
            assert_eq!(all(&db).await, [0; 0], "{statement}");
            let mut tx = db.begin().await.expect(statement);
            sqlx::query("INSERT INTO t (n) VALUES (1)").execute(&mut *tx).await.expect("free");
            tx.rollback().await.expect("undone");
        }
    });
}

/// A connection that knows nothing of the others, as another process would have it.
async fn stranger(place: &Place) -> SqliteConnection {
    SqliteConnectOptions::new().filename(place.file()).connect().await.expect("another one")
}

async fn run(conn: &mut SqliteConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(conn).await.expect(statement);
}

#[test]
fn busy_is_who_waits_for_another_process_for_too_long() {
    let place = Place::new("busy");
    with(place.options().open_max(2), async move |shard, db| {
        let mut other = stranger(&place).await;
        run(&mut other, "BEGIN IMMEDIATE").await;
        let start = Instant::now();
        let error = insert(&db, 1).await.expect_err("the other one writes");
        assert_eq!(fault(error), (DbFault::Busy, 503));
        let took = start.elapsed();
        assert!(took > Duration::from_secs(4) && took < Duration::from_secs(9), "{took:?}");
        assert_eq!(all(&db).await, [0; 0], "reading goes on");

        // One that waits for less long is answered by then, and its connection is given up.
        let start = Instant::now();
        let limit = shard.timeout(Duration::from_millis(50), insert(&db, 2)).await;
        assert!(limit.is_err() && start.elapsed() < Duration::from_secs(1));
        // It waits for its turn meanwhile, if not for the other one.
        let waits = shard.timeout(Duration::from_millis(50), db.begin()).await;
        assert!(waits.is_err(), "who gave up is not done yet");
        run(&mut other, "COMMIT").await;
        insert(&db, 3).await.expect("nobody writes");
        at_rest(&shard, &db).await;
        assert!(all(&db).await.contains(&3));

        // The snapshot that it read has changed: begun by a read, it cannot write any more.
        let mut tx = db.begin_with("BEGIN").await.expect("a transaction that reads");
        sqlx::query("SELECT count(*) FROM t").fetch_one(&mut *tx).await.expect("read");
        run(&mut other, "INSERT INTO t (n) VALUES (100)").await;
        let write = sqlx::query("INSERT INTO t (n) VALUES (101)").execute(&mut *tx).await;
        assert_eq!(fault(write.expect_err("stale")), (DbFault::Busy, 503));
        drop(tx);
        at_rest(&shard, &db).await;
        insert(&db, 101).await.expect("at once");
    });
}

#[test]
fn locked_is_who_would_wait_for_himself_in_a_shared_cache() {
    with("sqlite::memory:", async |shard, db| {
        let attempt = async |n: i64| {
            let mut tx = db.begin_with("BEGIN").await.expect("begun");
            sqlx::query("SELECT count(*) FROM t").fetch_one(&mut *tx).await.expect("both read");
            shard.sleep(Duration::from_millis(20)).await; // before either writes
            let write = sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n);
            write.execute(&mut *tx).await.map_err(fault)?;
            tx.commit().await.map_err(fault)
        };
        // Each would have to wait for the other: one of them goes on, once the other is told.
        let (one, other) = join(attempt(1), attempt(2)).await;
        let (won, lost) = if one.is_ok() { ([1], other) } else { ([2], one) };
        assert_eq!(lost, Err((DbFault::Busy, 503)));
        at_rest(&shard, &db).await;
        assert_eq!(all(&db).await, won);
    });
}

/// Writes until it cannot.
async fn fill(db: &Db<Sqlite>) -> sqlx::Error {
    loop {
        let many = sqlx::query("INSERT INTO blobs VALUES (zeroblob(50000))");
        if let Err(error) = many.execute(db).await {
            return error;
        }
    }
}

#[test]
fn full_is_named_and_what_was_there_stays() {
    let place = Place::new("full");
    with(place.options().open_max(1), async |shard, db| {
        run(&mut db.acquire().await.expect("one"), "PRAGMA max_page_count = 100").await;
        sqlx::query("CREATE TABLE blobs (b BLOB)").execute(&db).await.expect("a table");
        insert(&db, 1_000).await.expect("room");
        assert_eq!(fault(fill(&db).await), (DbFault::Full, 507));
        // The same connection goes on: there is nothing wrong with it.
        assert!(all(&db).await.contains(&1_000));
        let mut tx = db.begin().await.expect("begun");
        let mut all_fit = true;
        while all_fit {
            let many = sqlx::query("INSERT INTO blobs VALUES (zeroblob(50000))");
            all_fit = many.execute(&mut *tx).await.is_ok();
        }
        drop(tx);
        sqlx::query("DELETE FROM blobs").execute(&db).await.expect("room again");
        insert(&db, 1_001).await.expect("room again");
        // Where SQLite has ended the transaction by itself, sqlx does not know: one was closed.
        let stats = at_rest(&shard, &db).await;
        assert!(stats.opened == 1 + stats.closed.error && stats.closed.error <= 1, "{stats:?}");
    });
}

/// A file system of a megabyte, where tests may mount one.
struct Small(PathBuf);

impl Small {
    fn mount(place: &Place) -> Option<Small> {
        let small = Small(place.folder().join("small"));
        fs::create_dir_all(&small.0).expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(&small.0)
            .output();
        mount.is_ok_and(|it| it.status.success()).then_some(small)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_disk_that_is_full_is_named_and_recovered_from() {
    let place = Place::new("disk");
    let Some(small) = Small::mount(&place) else {
        eprintln!("skipped: who runs this may not mount");
        return;
    };
    let (ballast, url) = (small.0.join("ballast"), format!("sqlite://{}/db", small.0.display()));
    with(DbOptions::new(url).open_max(2), async move |shard, db| {
        sqlx::query("CREATE TABLE blobs (b BLOB)").execute(&db).await.expect("a table");
        insert(&db, 1_000).await.expect("room");
        fs::write(&ballast, vec![0; 300_000]).expect("room");
        assert_eq!(fault(fill(&db).await), (DbFault::Full, 507));
        assert!(all(&db).await.contains(&1_000), "reading goes on");
        fs::remove_file(&ballast).expect("room again");
        until(&shard, "it writes again", async || insert(&db, 1_001).await.is_ok()).await;
        at_rest(&shard, &db).await;
    });
    drop(small);
}

#[test]
fn a_file_that_is_damaged_or_no_database_is_named_at_the_start() {
    for (what, words) in [
        ("no database", "file is not a database"),
        ("a folder", "unable to open"),
        ("not there", "unable to open"),
    ] {
        let place = Place::new("damaged");
        let done = match what {
            "no database" => fs::write(place.file(), "no database".repeat(1_000)),
            "a folder" => fs::create_dir(place.file()),
            _ => fs::remove_dir_all(place.folder()),
        };
        done.expect(what);
        let options = place.options();
        let file = place.file().display().to_string();
        on_shard(async move |shard| {
            let error = shard.db::<Sqlite>(options).await.expect_err("no database");
            let text = format!("{error:?}");
            for word in [words, &file] {
                assert!(text.contains(word), "\"{word}\" is not in: {text}");
            }
        });
    }
}

#[test]
fn a_file_that_is_damaged_while_it_is_open_is_named() {
    let place = Place::new("corrupt");
    with(place.options().open_max(2), async move |shard, db| {
        for from in 0..20 {
            let numbers = sqlx::query("INSERT INTO t (n) SELECT value + $1 FROM json_each($2)");
            let values: Vec<i64> = (0..1_000).collect();
            numbers
                .bind(from * 1_000)
                .bind(sqlx::types::Json(values))
                .execute(&db)
                .await
                .expect("many");
        }
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&db)
            .await
            .expect("all is in the file");
        let mut bytes = fs::read(place.file()).expect("the file");
        let length = bytes.len();
        assert!(length > 200_000);
        bytes[8_192..length - 8_192].fill(0x5a);
        fs::write(place.file(), bytes).expect("damaged");
        // Pages that it has read before are in its memory: another connection reads them anew.
        run(&mut db.acquire().await.expect("one"), "PRAGMA shrink_memory").await;
        let sum = sqlx::query("SELECT sum(n) FROM t NOT INDEXED").fetch_one(&db).await;
        assert_eq!(fault(sum.expect_err("damaged")), (DbFault::Corrupt, 500));
        at_rest(&shard, &db).await;
        let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&db).await.expect("it goes on");
        assert_eq!(one, 1);
    });
}

#[test]
fn what_can_only_be_read_is_read() {
    for ending in ["?mode=ro", "?immutable=1"] {
        let place = Place::new("read-only");
        with(place.options(), async |_, db| insert(&db, 1).await.expect("written"));
        let options = DbOptions::new(place.url() + ending).open_max(2);
        let log = place.file().with_extension("sqlite-wal");
        on_shard(async move |shard| {
            // Its threads close the file after their shard; immutable, its log is not looked at.
            until(&shard, "the file is whole", async || !log.exists()).await;
            let db = shard.db::<Sqlite>(options).await.expect("it is there");
            assert_eq!(all(&db).await, [1]);
            for _ in 0..3 {
                let error = insert(&db, 2).await.expect_err("read only");
                assert_eq!(fault(error), (DbFault::ReadOnly, 503), "{ending}");
            }
            assert_eq!(all(&db).await, [1]);
            at_rest(&shard, &db).await;
        });
    }
}

#[test]
fn a_scan_without_an_end_is_stopped_and_its_connection_used_again() {
    let place = Place::new("scan");
    let options = place.options().open_max(1).query_max(Duration::from_millis(200));
    with(options, async |shard, db| {
        let start = Instant::now();
        let error = sqlx::query(ENDLESS).fetch_one(&db).await.expect_err("endless");
        assert_eq!(fault(error), (DbFault::TooSlow, 503));
        let took = start.elapsed();
        assert!(took > Duration::from_millis(150) && took < Duration::from_secs(1), "{took:?}");
        // The only connection is free by the time that the next one may wait: the scan has ended.
        insert(&db, 1).await.expect("free");
        // The request's time may be shorter, and a request may end at any time.
        for limit_ms in [0, 1, 5, 20, 50] {
            let limit = Duration::from_millis(limit_ms);
            let ended = shard.timeout(limit, sqlx::query(ENDLESS).fetch_one(&db)).await;
            assert!(ended.is_err(), "{limit_ms} ms");
            let mut rows = sqlx::query(ENDLESS).fetch(&db);
            let ended = shard.timeout(limit, rows.next()).await;
            assert!(ended.is_err(), "{limit_ms} ms");
            drop(rows);
            let mut tx = db.begin().await.expect("free");
            sqlx::query("INSERT INTO t (n) VALUES (7)").execute(&mut *tx).await.expect("7");
            let ended = shard.timeout(limit, sqlx::query(ENDLESS).fetch_one(&mut *tx)).await;
            assert!(ended.is_err(), "{limit_ms} ms");
            drop(tx);
            assert_eq!(all(&db).await, [1], "{limit_ms} ms");
        }
        let stats = at_rest(&shard, &db).await;
        assert_eq!(stats.query_timeouts, 1);
        assert_eq!(stats.closed.stopped, 5, "of the transactions alone: {stats:?}");
        assert_eq!(stats.opened, 6, "{stats:?}");
        assert!(stats.stopped >= 10, "{stats:?}");
    });
}

#[test]
fn writers_of_four_shards_wait_their_turn() {
    const EACH: i64 = 100;
    let place = Place::new("writers");
    let options = place.options().open_max(8);
    let done = Arc::<AtomicU64>::default();
    on_shards(4, async move |shard| {
        let db = shard.db::<Sqlite>(options).await.expect("a database");
        shard.once("table", async || table(&db).await).await.expect("a table");
        let (one, two) = (db.named("one"), db.named("two"));
        let single = async {
            for n in 0..EACH {
                insert(&one, (shard.id() as i64 + 1) * 1_000 + n).await.expect("never busy");
            }
        };
        let together = async {
            for n in 0..EACH {
                let mut tx = two.begin().await.expect("never busy");
                let last = sqlx::query_scalar::<_, i64>(
                    "SELECT coalesce(max(n), 0) FROM t WHERE n > 1000000",
                );
                let last = last.fetch_one(&mut *tx).await.expect("never busy").max(1_000_000);
                let next = sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(last + 1);
                next.execute(&mut *tx).await.expect("nobody was faster");
                if n % 10 == 0 {
                    continue; // dropped: nobody else is held up, and the next takes its number
                }
                tx.commit().await.expect("never busy");
            }
        };
        join(single, together).await;
        let stats = at_rest_of_shard(&shard, &db).await;
        assert_eq!((stats.errors, stats.acquire_timeouts), (0, 0), "{stats:?}");
        done.fetch_add(1, Ordering::SeqCst);
        until(&shard, "all are done", async || done.load(Ordering::SeqCst) == 4).await;
        let count = 4 * (EACH + EACH * 9 / 10);
        assert_eq!(all(&db).await.len() as i64, count);
        assert_eq!(all(&db).await.last(), Some(&(1_000_000 + 4 * EACH * 9 / 10)), "no gap");
    });
}

/// As [`at_rest`], while other shards are busy.
async fn at_rest_of_shard(shard: &Shard, db: &Db<Sqlite>) -> DbStats {
    until(shard, "all have come back", async || db.stats().in_use == 0).await;
    db.stats()
}

/// The same for whichever type a database in memory is asked for by.
macro_rules! in_memory {
    ($name:ident, $type:ty) => {
        #[test]
        fn $name() {
            const EACH: i64 = 100;
            let (made, done) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
            on_shards(2, async move |shard| {
                let options = DbOptions::new("sqlite::memory:").idle_for_max(Duration::ZERO);
                let db = shard.db::<$type>(options).await.expect("a database");
                let create = sqlx::query("CREATE TABLE t (n INTEGER NOT NULL UNIQUE)");
                let table = shard.once("table", async || {
                    made.fetch_add(1, Ordering::SeqCst);
                    Ok(create.execute(&db).await.map(drop)?)
                });
                table.await.expect("a table");
                let first = EACH * shard.id() as i64;
                let write = async {
                    for n in first..first + EACH {
                        let insert = sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n);
                        insert.execute(&db).await.expect("a turn");
                    }
                };
                let read = async {
                    let mut seen = 0;
                    for _ in 0..EACH {
                        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM t");
                        let count = count.fetch_one(&db).await.expect("read while others write");
                        assert!(count >= seen, "{count} after {seen}");
                        seen = count;
                    }
                };
                join(write, read).await;
                done.fetch_add(1, Ordering::SeqCst);
                until(&shard, "both are done", async || done.load(Ordering::SeqCst) == 2).await;
                let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM t");
                assert_eq!(count.fetch_one(&db).await.expect("all of both"), 2 * EACH);
            });
        }
    };
}

in_memory!(a_database_in_memory_is_one_for_all_shards, Sqlite);
in_memory!(a_database_in_memory_is_one_for_all_shards_of_any, Any);

#[test]
fn migrations_run_once_for_all_shards() {
    static TODOS: Migrator = sqlx::migrate!("examples/todo/migrations/sqlite");
    let place = Place::new("migrations");
    let again = place.clone();
    let options = place.options();
    let runs = Arc::<AtomicU64>::default();
    let count = runs.clone();
    on_shards(2, async move |shard| {
        let db = shard.db::<Sqlite>(options).await.expect("a database");
        let once = shard.once("migrations", async || {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(TODOS.run(&db).await?)
        });
        once.await.expect("migrated");
        let insert = sqlx::query("INSERT INTO todos (title) VALUES ($1)").bind(shard.id() as i64);
        insert.execute(&db).await.expect("a table that is there for each shard");
    });
    assert_eq!(count.load(Ordering::SeqCst), 1);
    on_shard(async move |shard| {
        let db = shard.db::<Sqlite>(again.options()).await.expect("a database");
        TODOS.run(&db).await.expect("nothing is left to do");
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM todos").fetch_one(&db).await;
        assert_eq!(count.expect("rows"), 2);
        let applied = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM _sqlx_migrations");
        assert_eq!(applied.fetch_one(&db).await.expect("rows"), TODOS.iter().count() as i64);
    });
}

#[test]
fn rows_go_out_as_fast_as_the_client_reads() {
    const ROWS: u64 = 400_000;
    let place = Place::new("rows");
    let (read, options) = (Arc::<AtomicU64>::default(), place.options().open_max(2));
    let count = read.clone();
    let server = TestServer::start(1, async move |shard: Shard| {
        let db = shard.db::<Sqlite>(options).await?;
        Ok(App::new(db)
            .get("/rows", async move |cx| {
                let series = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c \
                     WHERE n < $1) SELECT n, 'a text that is a row of the answer' FROM c";
                let mut rows =
                    sqlx::query_as::<_, (i64, String)>(series).bind(ROWS as i64).fetch(cx.state());
                let mut out = cx.stream("text/plain").await?;
                while let Some(row) = rows.next().await {
                    let (n, text) = row?;
                    count.store(n as u64, Ordering::SeqCst);
                    out.write(format!("{n} {text}\n")).await?;
                }
                drop(rows);
                out.finish().await
            })
            .get("/stats", async |cx| cx.json(&at_rest(&cx.shard(), cx.state()).await)))
    });
    let ask = || {
        read.store(0, Ordering::SeqCst);
        let mut socket = TcpStream::connect(server.addr()).expect("a connection");
        let limit = Some(Duration::from_secs(20));
        socket.set_read_timeout(limit).expect("a limit");
        let head = b"GET /rows HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        socket.write_all(head).expect("sent");
        // Until no row is read any more: what the sockets hold is full.
        let mut before = (0, Instant::now());
        while before.0 == 0 || before.1.elapsed() < Duration::from_millis(300) {
            let now = read.load(Ordering::SeqCst);
            if now != before.0 {
                before = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(5)); // the server has its say
        }
        assert!(before.0 < ROWS / 2, "{} rows were read for a client that reads none", before.0);
        socket
    };
    let (mut socket, mut answer) = (ask(), String::new());
    socket.read_to_string(&mut answer).expect("the rest");
    assert!(answer.contains(&format!("\n{ROWS} a text")) && answer.ends_with("0\r\n\r\n"));
    drop(ask()); // in the middle
    let stats: serde_json::Value = server.get("/stats").expect(200).json();
    assert_eq!((&stats["opened"], &stats["stopped"]), (&1.into(), &1.into()), "{stats}");
    assert_eq!(stats["closed"]["stopped"], 0, "proven clean: {stats}");
}

#[test]
fn any_is_sqlite_by_its_url() {
    let place = Place::new("any");
    let options = place.options().open_max(2).query_max(Duration::from_millis(200));
    on_shard(async move |shard| {
        let db = shard.db::<Any>(options).await.expect("a database");
        let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE)";
        sqlx::query(create).execute(&db).await.expect("a table");
        let insert = async |n: i64| {
            sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n).execute(&db).await.map(drop)
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
        let all = sqlx::query_scalar::<_, i64>("SELECT n FROM t ORDER BY n").fetch_all(&db);
        assert_eq!(all.await.expect("rows"), [1, 2]);
        // What nobody can stop is at least not waited for, and its connection is not used again.
        let long = ENDLESS.replace("FROM c)", "FROM c WHERE n < 20000000)");
        let start = Instant::now();
        let late = sqlx::query(sqlx::AssertSqlSafe(long)).execute(&db).await.expect_err("late");
        assert_eq!(fault(late), (DbFault::TooSlow, 503));
        assert!(start.elapsed() < Duration::from_secs(1));
        let stats = at_rest(&shard, &db).await;
        assert_eq!((stats.closed.stopped, stats.database), (1, "Any"));
        insert(5).await.expect("5");
    });
}

#[test]
fn numbers_have_names_and_queries_times_by_theirs() {
    let place = Place::new("stats");
    with(place.options().open_max(1), async |shard, db| {
        let before = at_rest(&shard, &db).await;
        for n in 0..10 {
            insert(&db.named("insert"), n).await.expect("in");
        }
        assert!(insert(&db.named("insert"), 1).await.is_err());
        let slow = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c \
             WHERE n < 300000) SELECT max(n) FROM c";
        sqlx::query(slow).fetch_one(&db.named("slow")).await.expect("a number");
        let stats = at_rest(&shard, &db).await;
        let insert = stats.names.iter().find(|it| it.name == "insert").expect("named");
        let slow = stats.names.iter().find(|it| it.name == "slow").expect("named");
        assert_eq!((insert.queries, slow.queries), (11, 1));
        assert!(slow.p50_us > 1_000 && slow.p50_us > insert.p50_us, "{stats:?}");
        assert!(
            insert.p50_us > 0 && insert.p50_us <= insert.p99_us && insert.p99_us <= insert.p999_us
        );
        assert_eq!((stats.queries - before.queries, stats.errors - before.errors), (12, 1));
        assert_eq!((stats.open, stats.opened), (1, 1));
        until(&shard, "three statements are kept", async || db.stats().statements == 3).await;

        let json = serde_json::to_value(&stats).expect("JSON");
        let mut names = Vec::new();
        for (name, value) in json.as_object().expect("an object") {
            match value {
                serde_json::Value::Object(inner) => {
                    names.push(format!("{name}: {}", keys(inner)));
                }
                serde_json::Value::Array(items) if !items.is_empty() => {
                    names.push(format!("{name}: {}", keys(items[0].as_object().expect("objects"))));
                }
                _ => names.push(name.clone()),
            }
        }
        names.sort();
        assert_eq!(names.join("\n"), NAMES);
    });
}

fn keys(object: &serde_json::Map<String, serde_json::Value>) -> String {
    let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

#[test]
fn those_who_wait_are_bounded() {
    let place = Place::new("waiters");
    with(place.options().open_max(1).waiters_max(2), async |shard, db| {
        let held = db.acquire().await.expect("the only one");
        let third = async {
            until(&shard, "two wait", async || db.stats().waiters == 2).await;
            let refused = insert(&db, 3).await.expect_err("a third");
            assert!(refused.to_string().contains("2 wait for a connection already"), "{refused}");
            assert_eq!((fault(refused), db.stats().refused), ((DbFault::PoolExhausted, 503), 1));
            drop(held);
        };
        let (waited, ()) = join(join(all(&db), all(&db)), third).await;
        assert_eq!(waited, (vec![], vec![]), "their turn has come");
    });
}

#[test]
fn a_connection_of_an_old_url_is_not_used_again() {
    let (old, new) = (Place::new("old"), Place::new("new"));
    with(old.options().open_max(1), async move |shard, db| {
        insert(&db, 1).await.expect("in the old file");
        let held = db.acquire().await.expect("the only one");
        db.set_url(&new.url()).expect("a URL");
        drop(held);
        assert_eq!(at_rest(&shard, &db).await.closed.replaced, 1);
        table(&db).await.expect("in the new file");
        assert_eq!(all(&db).await, [0; 0]);
    });
}

/// What dashboards ask for: a new one is added here, and none goes without a word in the changelog.
const NAMES: &str = "\
acquire_timeouts
alerts
budget
changes
closed: changed error idle life moved replaced shrunk stopped test
connect_errors
connecting
database
elections
errors
idle
in_use
lane_fallbacks
lane_queries
lease_moves
leases
names: name p50_us p999_us p99_us queries
open
open_max
opened
queries
query_p50_us
query_p999_us
query_p99_us
query_timeouts
refused
server_connections_max
servers
statements
stopped
wait_p50_us
wait_p999_us
wait_p99_us
waiters
waits";
