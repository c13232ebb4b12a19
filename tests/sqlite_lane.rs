//! The fast lane of SQLite: values, errors, the guard over its time, and that what it reads is what
//! the pool has written.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::rusqlite::{self, Connection, ToSql, types::Null, types::Value, types::ValueRef};
use soloist::sqlx::{self, AssertSqlSafe, Sqlite};
use soloist::testing::{TestClient, TestServer};
use soloist::{Db, DbFault, DbOptions, SqliteLane, SqliteLaneRow};

/// A database of its own, in a folder that goes with it.
struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("soloist-lane-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Place(path)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("db.sqlite")
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.file().display())
    }

    fn options(&self) -> DbOptions {
        DbOptions::new(self.url()).open_max(2)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Users 1 to 100, by their names.
const USERS: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL); \
    WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100) \
    INSERT INTO users SELECT id, 'user ' || id FROM n";
const NAME: &str = "SELECT name FROM users WHERE id = $1";
/// Takes tens of milliseconds.
const SLOW: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
    SELECT count(*) FROM n";
const STEPS: i64 = 200_000;
/// No guard ends it before the query does, on however busy a machine.
const LONG: Duration = Duration::from_secs(60);

/// Runs a test on a shard that has such a database.
fn on_shard(options: DbOptions, test: impl AsyncFnOnce(&Db<Sqlite>, &SqliteLane)) {
    let app = async |shard: Shard| {
        let db = shard.db::<Sqlite>(options).await?;
        test(&db, &db.lane()?).await;
        Ok(App::new(()))
    };
    TestClient::run(app, async |_| {});
}

/// The same on the shard, by the worker, and by the worker in memory.
fn on_each(name: &str, test: impl AsyncFn(&Db<Sqlite>, &SqliteLane, bool)) {
    let (place, memory) = (Place::new(name), DbOptions::new("sqlite::memory:"));
    on_shard(place.options().lane_max(LONG), async |db, lane| test(db, lane, true).await);
    let place = Place::new(name);
    on_shard(place.options().lane_max(Duration::ZERO), async |db, lane| {
        test(db, lane, false).await;
    });
    on_shard(memory, async |db, lane| test(db, lane, false).await);
}

async fn run(db: &Db<Sqlite>, sql: &'static str) {
    sqlx::raw_sql(sql).execute(db).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5)); // between two looks
    }
}

/// Lets others of the shard go first, once.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}

type Read = fn(&SqliteLaneRow<'_>) -> Result<String, sqlx::Error>;

#[test]
fn values_come_as_they_are_wherever_they_are_read() {
    let cases: &[(&str, Read, &str)] = &[
        ("SELECT 7", |row| Ok(format!("{:?}", row.get::<i64>(0)?)), "7"),
        ("SELECT -7", |row| Ok(format!("{:?}", row.get::<i8>(0)?)), "-7"),
        ("SELECT 7", |row| Ok(format!("{:?}", row.get::<f64>(0)?)), "7.0"),
        ("SELECT 1", |row| Ok(format!("{:?}", row.get::<bool>(0)?)), "true"),
        ("SELECT 1.5", |row| Ok(format!("{:?}", row.get::<f64>(0)?)), "1.5"),
        ("SELECT 'a'", |row| Ok(format!("{:?}", row.get::<&str>(0)?)), "\"a\""),
        ("SELECT ''", |row| Ok(format!("{:?}", row.get::<&str>(0)?)), "\"\""),
        ("SELECT 'a'", |row| Ok(format!("{:?}", row.get::<String>(0)?)), "\"a\""),
        ("SELECT 'a'", |row| Ok(format!("{:?}", row.get::<&[u8]>(0)?)), "[97]"),
        ("SELECT x'00ff'", |row| Ok(format!("{:?}", row.get::<&[u8]>(0)?)), "[0, 255]"),
        ("SELECT x''", |row| Ok(format!("{:?}", row.get::<Vec<u8>>(0)?)), "[]"),
        ("SELECT x'0001'", |row| Ok(format!("{:?}", row.get::<[u8; 2]>(0)?)), "[0, 1]"),
        ("SELECT NULL", |row| Ok(format!("{:?}", row.get::<Option<&str>>(0)?)), "None"),
        ("SELECT 'a'", |row| Ok(format!("{:?}", row.get::<Option<&str>>(0)?)), "Some(\"a\")"),
        ("SELECT 7", |row| Ok(format!("{:?}", row.get::<Value>(0)?)), "Integer(7)"),
        ("SELECT 7", |row| Ok(format!("{:?}", row.get::<ValueRef>(0)?)), "Integer(7)"),
        ("SELECT 7", |row| Ok(format!("{:?}", row.decode::<std::num::NonZeroU8>(0)?)), "7"),
        ("SELECT 1 AS a, 2 AS b", |row| Ok(format!("{:?}", row.get::<u8>("b")?)), "2"),
        ("SELECT 1, 2, 3", |row| Ok(format!("{}", row.columns())), "3"),
        ("SELECT CAST(x'ff' AS TEXT)", |row| Ok(format!("{:?}", row.get::<&[u8]>(0)?)), "[255]"),
        // Read twice, and as two types.
        (
            "SELECT 'a'",
            |row| {
                Ok(row.get::<&str>(0)?.to_owned() + row.get::<&str>(0)? + &row.get::<String>(0)?)
            },
            "aaa",
        ),
        // Errors, with what is wrong and where.
        ("SELECT 300", |row| Ok(row.get::<u8>(0)?.to_string()), "ColumnDecode \"0\" 300"),
        ("SELECT -1", |row| Ok(row.get::<u64>(0)?.to_string()), "ColumnDecode \"0\" -1"),
        ("SELECT 1, 'a'", |row| Ok(row.get::<i64>(1)?.to_string()), "ColumnDecode \"1\" type"),
        ("SELECT NULL", |row| Ok(row.get::<&str>(0)?.to_owned()), "ColumnDecode \"0\" type"),
        ("SELECT CAST(x'ff' AS TEXT)", |row| row.get::<String>(0), "ColumnDecode \"0\" utf-8"),
        ("SELECT 1", |row| Ok(row.get::<u8>(1)?.to_string()), "ColumnIndexOutOfBounds 1 1"),
        ("SELECT 1 AS a", |row| Ok(row.get::<u8>("b")?.to_string()), "ColumnNotFound \"b\""),
        ("SELECT 1", |_| Err(sqlx::Error::WorkerCrashed), "WorkerCrashed"),
        ("SELECT 1 WHERE 0", |_| Ok(String::new()), "RowNotFound"),
    ];
    on_each("values", async |_, lane, _| {
        for (sql, read, want) in cases {
            match lane.one(*sql, &[], *read).await {
                Ok(got) => assert_eq!(got, *want, "{sql}"),
                Err(error) => {
                    let got = format!("{error:?} {error}");
                    let has = |word| got.to_lowercase().contains(&str::to_lowercase(word));
                    assert!(want.split(' ').all(has), "{sql}: {got}, not {want}");
                }
            }
        }
    });
}

#[test]
fn values_go_in_by_their_numbers() {
    let (five, text, bytes): (i64, &str, &[u8]) = (5, "a'b", &[0, 1]);
    let (none, owned): (Option<i64>, String) = (None, "\u{e9}".to_owned());
    let cases: &[(&str, &[&dyn ToSql], &str)] = &[
        ("SELECT $1", &[&five], "5"),
        ("SELECT ?", &[&five], "5"),
        ("SELECT ?1", &[&five], "5"),
        ("SELECT ? || '|' || ?", &[&five, &text], "5|a'b"),
        ("SELECT $2 || '|' || $1", &[&five, &text], "a'b|5"),
        ("SELECT ?2 || '|' || ?1 || '|' || ?2", &[&five, &text], "a'b|5|a'b"),
        ("SELECT quote($1)", &[&bytes], "X'0001'"),
        ("SELECT quote($1)", &[&none], "NULL"),
        ("SELECT quote($1)", &[&Null], "NULL"),
        ("SELECT quote($1)", &[&1.5], "1.5"),
        ("SELECT quote($1)", &[&true], "1"),
        ("SELECT quote($1)", &[&u64::MAX], "!OutOfRange"),
        ("SELECT quote($1)", &[&i64::MIN], "-9223372036854775808"),
        ("SELECT $1", &[&owned], "\u{e9}"),
        ("SELECT $1", &[&Some("x")], "x"),
        ("SELECT 1", &[&five], "1"),
    ];
    on_each("in", async |_, lane, is_shard| {
        let text = |row: &SqliteLaneRow<'_>| {
            Ok(match row.get::<Value>(0)? {
                Value::Text(text) => text,
                Value::Integer(number) => number.to_string(),
                other => format!("{other:?}"),
            })
        };
        for (sql, values, want) in cases {
            let got = lane.one(*sql, values, text).await;
            match want.strip_prefix('!') {
                None => assert_eq!(got.expect(sql), *want, "{sql}"),
                Some(_) => assert!(matches!(got, Err(sqlx::Error::Encode(_))), "{sql}: {got:?}"),
            }
        }
        let wrong: &[(&'static str, &[&dyn ToSql], &str)] = &[
            ("SELECT $2", &[&five], "value 2 of the statement is missing"),
            ("SELECT $1", &[], "value 1 of the statement is missing: 0 given"),
            ("SELECT $0", &[&five], "value 0"),
            ("SELECT :name", &[&five], ":name is no value"),
            ("SELECT $name", &[&five], "$name is no value"),
        ];
        for (sql, values, why) in wrong {
            if is_shard {
                let error = lane.one(*sql, values, text).await.expect_err(sql).to_string();
                assert!(error.contains(why), "{sql}: {error}");
            }
        }
    });
}

#[test]
fn mistakes_have_their_codes_and_writes_are_refused() {
    on_each("mistakes", async |db, lane, is_shard| {
        run(db, USERS).await;
        for (sql, code) in [
            ("SELECT name FROM nobody", "1"),
            ("SELECT nothing FROM users", "1"),
            ("SELECT * FROM users WHERE", "1"),
            ("SELECT json_extract('{', '$.a')", "1"),
        ] {
            let error = lane.optional(sql, &[], |_| Ok(())).await.expect_err(sql);
            assert_eq!(DbFault::of(&error), DbFault::Other, "{sql}");
            let database = error.as_database_error().unwrap_or_else(|| panic!("{sql}: {error}"));
            assert_eq!(database.code().as_deref(), Some(code), "{sql}: {error}");
        }
        for sql in [
            "INSERT INTO users (name) VALUES ('x')",
            "INSERT INTO users (name) VALUES ('x') RETURNING id",
            "WITH n AS (SELECT 1) INSERT INTO users (name) SELECT 'x' FROM n",
            "UPDATE users SET name = 'x'",
            "DELETE FROM users",
            "/* SELECT */ REPLACE INTO users VALUES (1, 'x')",
            "CREATE TABLE t (a)",
            "DROP TABLE users",
            "BEGIN",
            "COMMIT",
            "SAVEPOINT a",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA user_version = 3",
            "ATTACH ':memory:' AS other",
            "VACUUM",
        ] {
            let error = lane.all(sql, &[], |_| Ok(())).await.expect_err(sql).to_string();
            assert!(
                error.contains("a lane only reads: run this statement on &db"),
                "{sql}: {error}"
            );
        }
        if is_shard {
            let two = "SELECT 1; DELETE FROM users";
            let error = lane.all(two, &[], |_| Ok(())).await.expect_err(two).to_string();
            assert!(error.to_lowercase().contains("multiple statements"), "{error}");
            assert_eq!(db.stats().lane_fallbacks, 0);
        }
        run(db, "INSERT INTO users VALUES (101, 'late')").await;
        let count = "SELECT count(*) FROM users";
        assert_eq!(lane.one(count, &[], |row| row.get::<i64>(0)).await.expect(count), 101);
    });
}

#[test]
fn what_the_pool_has_written_is_read() {
    let place = Place::new("writes");
    on_shard(place.options().lane_max(LONG), async |db, lane| {
        run(db, USERS).await;
        let name = async |id: i64| lane.optional(NAME, &[&id], |row| row.get::<String>(0)).await;
        for n in 0..200 {
            let new = format!("name {n}");
            let query = sqlx::query("UPDATE users SET name = $1 WHERE id = 7").bind(&new);
            query.execute(db).await.expect("a write");
            assert_eq!(name(7).await.expect("a read"), Some(new));
        }
        let mut tx = db.begin().await.expect("a transaction");
        let insert = sqlx::query("INSERT INTO users VALUES (200, 'new')");
        insert.execute(&mut *tx).await.expect("a write");
        assert_eq!(name(200).await.expect("a read"), None, "before the commit");
        tx.commit().await.expect("a commit");
        assert_eq!(name(200).await.expect("a read").as_deref(), Some("new"));
        for (change, columns) in [
            ("ALTER TABLE users ADD COLUMN age INTEGER DEFAULT 7", 3),
            ("CREATE INDEX by_name ON users (name)", 3),
            ("ALTER TABLE users DROP COLUMN age", 2),
            ("DROP TABLE users; CREATE TABLE users (id INTEGER PRIMARY KEY, a, b, c, d)", 5),
        ] {
            run(db, change).await;
            run(db, "INSERT OR IGNORE INTO users (id) SELECT 1 WHERE 0").await;
            let all = lane.all("SELECT * FROM users", &[], |row| Ok(row.columns())).await;
            assert!(all.expect(change).iter().all(|it| *it == columns), "{change}");
        }
        run(db, "INSERT INTO users (id) VALUES (1)").await;
        let all = lane.all("SELECT * FROM users", &[], |row| Ok(row.columns())).await;
        assert_eq!(all.expect("the new table"), [5]);
        assert_eq!(db.stats().lane_fallbacks, 0, "all of it on the shard");
        // Under another address: another file.
        let other = Place::new("other");
        let with = Connection::open(other.file()).expect("a file");
        with.execute_batch(USERS).expect("users");
        db.set_url(&other.url()).expect("a URL");
        assert_eq!(name(3).await.expect("a read").as_deref(), Some("user 3"));
    });
}

#[test]
fn a_query_that_takes_too_long_ends_with_the_worker_and_is_remembered() {
    let place = Place::new("slow");
    let options = place.options().lane_max(Duration::from_micros(500));
    on_shard(options, async |db, lane| {
        let count = async |steps: i64| lane.one(SLOW, &[&steps], |row| row.get::<i64>(0)).await;
        let start = Instant::now();
        for n in 1..=4 {
            assert_eq!(count(STEPS).await.expect("in the end"), STEPS);
            assert_eq!(db.stats().lane_fallbacks, n);
        }
        assert_eq!(count(1).await.expect("by the worker"), 1, "its text is known");
        assert_eq!((db.stats().lane_fallbacks, db.stats().lane_queries), (5, 0));
        until("it is tried on the shard again", async || {
            count(1).await.expect("either way");
            db.stats().lane_queries > 0
        })
        .await;
        assert!(start.elapsed() >= Duration::from_secs(1), "not before");
    });
}

#[test]
fn rows_that_are_many_or_large_come_by_the_worker_once_each() {
    let place = Place::new("rows");
    on_shard(place.options(), async |db, lane| {
        run(db, "CREATE TABLE t (n INTEGER PRIMARY KEY, bytes BLOB)").await;
        run(
            db,
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000) \
             INSERT INTO t SELECT n, NULL FROM n",
        )
        .await;
        let calls = Cell::new(0);
        let all = lane
            .all("SELECT n FROM t ORDER BY n", &[], |row| {
                calls.set(calls.get() + 1);
                row.get::<i64>(0)
            })
            .await
            .expect("all rows");
        assert!(all.iter().copied().eq(1..=100_000), "{} rows", all.len());
        assert!(calls.get() > 100_000, "some were read on the shard, and again");
        assert_eq!(db.stats().lane_fallbacks, 1);
        run(db, "UPDATE t SET bytes = zeroblob(2000000) WHERE n = 1").await;
        let len = |row: &SqliteLaneRow<'_>| Ok(row.get::<&[u8]>(0)?.len());
        let large = lane.one("SELECT bytes FROM t WHERE n = 1", &[], len).await;
        assert_eq!(large.expect("a large value"), 2_000_000);
        assert_eq!(db.stats().lane_fallbacks, 2);
        let text = "x".repeat(1_000_000);
        let given = lane.one("SELECT length($1)", &[&text], |row| row.get::<i64>(0)).await;
        assert_eq!(given.expect("a large value"), 1_000_000);
        assert_eq!(db.stats().lane_fallbacks, 3);
    });
}

#[test]
fn others_of_the_shard_are_answered_while_a_query_takes_long() {
    let place = Place::new("others");
    let options = place.options();
    let app = async move |shard: Shard| {
        let db = shard.db::<Sqlite>(options).await?;
        run(&db, "CREATE TABLE IF NOT EXISTS t (a)").await;
        let lane = db.lane()?;
        Ok(App::new((db, lane))
            .get("/", async |cx| cx.text("hello"))
            .get("/slow", async |cx| {
                let steps = 50 * STEPS;
                let count: i64 = cx.state().1.one(SLOW, &[&steps], |row| row.get(0)).await?;
                cx.json(&count)
            })
            .get("/cancelled", async |cx| {
                let values: &[&dyn ToSql] = &[&i64::MAX];
                let query = cx.state().1.one(SLOW, values, |row| row.get::<i64>(0));
                cx.timeout(Duration::from_millis(50), query).await??;
                cx.empty()
            })
            .get("/panic", async |cx| {
                cx.state()
                    .1
                    .one("SELECT 1", &[], |_| -> Result<(), _> { panic!("on purpose") })
                    .await?;
                cx.empty()
            })
            .get("/one", async |cx| {
                let one: i64 = cx.state().1.one("SELECT 1", &[], |row| row.get(0)).await?;
                cx.json(&one)
            })
            .get("/stopped", async |cx| cx.json(&cx.state().0.stats().stopped)))
    };
    let server = TestServer::start(1, app);
    server.get("/panic").expect(500);
    server.get("/one").expect(200).text("1");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            server.get("/slow").expect(200).text(&(50 * STEPS).to_string());
        });
        let mut took = Vec::new();
        while !slow.is_finished() {
            let start = Instant::now();
            server.get("/").expect(200).text("hello");
            took.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(1)); // leaves the core to the worker
        }
        took.sort();
        assert!(took.len() > 20, "{} answers meanwhile", took.len());
        assert!(took[took.len() / 2] < Duration::from_millis(20), "{took:?}");
    });
    server.get("/cancelled").expect(503);
    let start = Instant::now();
    while server.get("/stopped").expect(200).json::<u64>() < 1 {
        assert!(start.elapsed() < Duration::from_secs(10), "it was never stopped");
        std::thread::sleep(Duration::from_millis(5)); // between two looks
    }
    server.get("/one").expect(200).text("1");
}

#[test]
fn tasks_of_the_shard_have_their_turn_between_queries() {
    let place = Place::new("turns");
    let options = place.options().lane_max(LONG);
    let app = async move |shard: Shard| {
        let lane = shard.db::<Sqlite>(options).await?.lane()?;
        let (turns, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        shard.spawn({
            let (turns, done) = (turns.clone(), done.clone());
            async move {
                while !done.get() {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            }
        });
        for _ in 0..6_400 {
            lane.one("SELECT 1", &[], |row| row.get::<i64>(0)).await?;
        }
        done.set(true);
        assert!(turns.get() >= 99, "{} turns", turns.get());
        Ok(App::new(()))
    };
    TestServer::start(1, app);
}

#[test]
fn a_file_that_is_locked_is_waited_for_by_the_worker() {
    let place = Place::new("locked");
    let other = Connection::open(place.file()).expect("a file");
    other.execute_batch(USERS).expect("users"); // no WAL: who writes keeps readers out
    let options = DbOptions::new(format!("{}?mode=ro", place.url())).lane_max(LONG);
    on_shard(options, async |db, lane| {
        let name = async || lane.one(NAME, &[&5], |row| row.get::<String>(0)).await;
        assert_eq!(name().await.expect("a read"), "user 5");
        assert_eq!(db.stats().lane_fallbacks, 0);
        other.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
        let unlock = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50)); // the lock's life, well below 5 s
            other.execute_batch("COMMIT").expect("a commit");
        });
        assert_eq!(name().await.expect("a read that waits"), "user 5");
        assert_eq!(db.stats().lane_fallbacks, 1);
        unlock.join().expect("unlocked");
        assert_eq!(name().await.expect("a read"), "user 5");
        assert_eq!(db.stats().lane_fallbacks, 1, "on the shard again");
    });
}

#[test]
fn a_damaged_file_has_its_name() {
    let place = Place::new("damaged");
    {
        let conn = Connection::open(place.file()).expect("a file");
        conn.execute_batch(
            "CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT); \
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000) \
             INSERT INTO t SELECT n, hex(randomblob(100)) FROM n",
        )
        .expect("rows");
    }
    let mut bytes = std::fs::read(place.file()).expect("a file");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 8 * 4096].fill(0xa5);
    std::fs::write(place.file(), bytes).expect("a damaged file");
    on_shard(place.options().lane_max(LONG), async |db, lane| {
        let sum = "SELECT sum(length(text)) FROM t";
        for _ in 0..2 {
            let error = lane.one(sum, &[], |row| row.get::<i64>(0)).await.expect_err("damaged");
            assert_eq!(DbFault::of(&error), DbFault::Corrupt, "{error}");
        }
        let first = "SELECT n FROM t WHERE n = 1";
        assert_eq!(lane.one(first, &[], |row| row.get::<i64>(0)).await.expect("whole"), 1);
        let lane_queries = async || {
            lane.one(first, &[], |row| row.get::<i64>(0)).await.expect("whole");
            db.stats().lane_queries > 0
        };
        until("the file is opened again", lane_queries).await;
    });
    std::fs::write(place.file(), "no database at all, but a text that is long enough")
        .expect("text");
    let lazy = place.options().lazy();
    on_shard(lazy, async |_, lane| {
        let error = lane.one("SELECT 1 FROM t", &[], |_| Ok(())).await.expect_err("no database");
        assert_eq!(DbFault::of(&error), DbFault::Corrupt, "{error}");
    });
}

#[test]
fn a_file_that_is_not_there_yet_is_opened_once_it_is() {
    let place = Place::new("later");
    on_shard(place.options().lane_max(LONG).lazy(), async |db, lane| {
        let name = async || lane.one(NAME, &[&5], |row| row.get::<String>(0)).await;
        let error = name().await.expect_err("no table").to_string();
        assert!(error.contains("no such table"), "{error}");
        run(db, USERS).await;
        until("it is read on the shard", async || {
            assert_eq!(name().await.expect("a read"), "user 5");
            db.stats().lane_queries > 0
        })
        .await;
    });
    let app = async |shard: Shard| {
        let db = shard.db::<Sqlite>("sqlite://nowhere/to/be/found.sqlite").await?;
        Ok(App::new(db.lane()?))
    };
    let start = std::panic::catch_unwind(|| TestClient::run(app, async |_| {}));
    assert!(start.is_err(), "the start fails");
}

#[test]
fn what_is_kept_is_bounded_and_counted() {
    let place = Place::new("kept");
    on_shard(place.options().statements_max(10).lane_max(LONG), async |db, lane| {
        let resident_kib = || {
            let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc");
            let pages = pages.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
            pages.expect("a number") * 4
        };
        let before = resident_kib();
        for n in 0..20_000 {
            let sql = AssertSqlSafe(format!("SELECT {n} + length($1)"));
            let sum: i64 = lane.one(sql, &[&"ab"], |row| row.get(0)).await.expect("a sum");
            assert_eq!(sum, n + 2);
        }
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 30_000, "{grown} KiB for 20,000 statements of which 10 are kept");
        assert_eq!(db.stats().lane_queries, 20_000);
        let named = lane.named("three");
        for _ in 0..3 {
            named.one("SELECT 3", &[], |row| row.get::<i64>(0)).await.expect("three");
        }
        assert!(named.one("SELECT", &[], |_| Ok(())).await.is_err());
        let stats = db.stats();
        let three = stats.names.iter().find(|it| it.name == "three").expect("by its name");
        assert_eq!((three.queries, stats.errors), (4, 1));
        assert_eq!(stats.lane_queries, 20_004);
        assert!(stats.queries - stats.lane_queries <= 1, "and the first look at the database");
    });
}

#[test]
fn a_lane_of_a_database_in_memory_is_its_worker() {
    on_shard(DbOptions::new("sqlite::memory:"), async |db, lane| {
        run(db, USERS).await;
        let name = lane.one(NAME, &[&5], |row| Ok(row.get::<&str>(0)?.len())).await;
        assert_eq!(name.expect("a read"), "user 5".len());
        assert_eq!((db.stats().lane_queries, db.stats().lane_fallbacks), (0, 1));
        assert!(rusqlite::version_number() > 3_040_000, "one SQLite for both");
    });
}
