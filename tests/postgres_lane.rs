//! The lane of PostgreSQL: values, errors, many queries at once on one connection, and its ends.

#[path = "stores/postgres.rs"]
mod postgres;
#[path = "stores/proxy.rs"]
mod proxy;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::join_all;
use postgres::Postgres as Store;
use proxy::Proxy;
use soloist::prelude::*;
use soloist::sqlx::{self, AssertSqlSafe, Postgres};
use soloist::testing::{TestClient, TestServer};
use soloist::{Db, DbFault, DbOptions, PgLane};

const PATIENCE: Duration = Duration::from_secs(20);
/// What a fault may take to be known: a statement's second, the grace, and a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(8);

/// A shard with a lane.
struct Stage {
    shard: Shard,
    db: Db<Postgres>,
    lane: PgLane,
}

fn options(url: &str) -> DbOptions {
    DbOptions::new(url).open_max(8)
}

/// Runs a test on a real shard.
fn on_a_shard(options: DbOptions, test: impl AsyncFnOnce(&Stage) + Clone + Send + 'static) {
    let app = async move |shard: Shard| {
        let db: Db<Postgres> = shard.db(options).await?;
        let lane = db.lane().await?;
        test(&Stage { shard, db, lane }).await;
        Ok(App::new(()))
    };
    TestServer::start(1, app);
}

impl Stage {
    /// Waits until it is so.
    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !is_so().await {
            assert!(start.elapsed() < PATIENCE, "never: {what}; {:?}", self.db.stats());
            self.shard.sleep(Duration::from_millis(5)).await; // a server has its say
        }
    }

    /// The process that serves it.
    async fn process(&self) -> i32 {
        self.lane.one("SELECT pg_backend_pid()", &[], |row| row.get(0)).await.expect("an answer")
    }

    async fn is_back(&self) {
        self.until("it is back", async || self.lane.execute("SELECT 1", &[]).await.is_ok()).await;
    }

    async fn number(&self, sql: &'static str) -> Result<i64, sqlx::Error> {
        self.lane.one(sql, &[], |row| row.get(0)).await
    }
}

fn code(error: &sqlx::Error) -> String {
    let database = error.as_database_error();
    database.and_then(|it| it.code()).unwrap_or_default().into_owned()
}

#[test]
fn values_go_there_and_back() {
    let store = Store::start(40);
    on_a_shard(options(&store.url()), async |stage| {
        let lane = &stage.lane;
        macro_rules! same {
            ($($sql:literal: $type:ty = $value:expr;)*) => {$(
                let value: $type = $value;
                let got: $type = lane.one($sql, &[&value], |row| row.get(0)).await.expect($sql);
                assert_eq!(got, value, $sql);
            )*};
        }
        same! {
            "SELECT $1::int8": i64 = i64::MIN;
            "SELECT $1::int4": i32 = -7;
            "SELECT $1::int2": i16 = 7;
            "SELECT $1::bool": bool = true;
            "SELECT $1::float8": f64 = 0.1;
            "SELECT $1::text": String = "caf\u{e9} '; --".to_owned();
            "SELECT $1::bytea": Vec<u8> = vec![0, 255, 1];
            "SELECT $1::int8[]": Vec<Option<i64>> = vec![Some(1), None];
            "SELECT $1::text[]": Vec<String> = vec!["a".to_owned(), String::new()];
            "SELECT $1::text ": Option<String> = None;
            "SELECT $1::timestamptz": SystemTime = SystemTime::UNIX_EPOCH;
        }
        let both = lane.one("SELECT 'a' AS text, 2 AS n", &[], |row| {
            assert_eq!((row.len(), row.is_empty()), (2, false));
            Ok((row.get::<&str>("text")?.to_owned(), row.get::<i32>(1)?))
        });
        assert_eq!(both.await.expect("a row"), ("a".to_owned(), 2));

        lane.execute("CREATE TABLE t (id int8 PRIMARY KEY, n int8)", &[]).await.expect("made");
        let fill = "INSERT INTO t SELECT i, i * i FROM generate_series(1, 1000) i";
        assert_eq!(lane.execute(fill, &[]).await.expect("filled"), 1_000);
        let all = lane.all("SELECT n FROM t ORDER BY id", &[], |row| row.get::<i64>(0)).await;
        assert_eq!(all.expect("rows"), (1..=1_000).map(|n| n * n).collect::<Vec<i64>>());
        let some = "SELECT n FROM t WHERE id = ANY($1) ORDER BY 1";
        let some = lane.all(some, &[&vec![3i64, 2]], |row| row.get::<i64>(0)).await;
        assert_eq!(some.expect("rows"), [4, 9]);
        let none = "SELECT n FROM t WHERE id = 0";
        assert_eq!(lane.optional(none, &[], |row| row.get::<i64>(0)).await.expect("none"), None);
        let error = lane.one(none, &[], |row| row.get::<i64>(0)).await.expect_err("none");
        assert!(matches!(error, sqlx::Error::RowNotFound), "{error}");
        let first = "SELECT n FROM t ORDER BY id";
        assert_eq!(lane.one(first, &[], |row| row.get::<i64>(0)).await.expect("a row"), 1);
        let made = AssertSqlSafe(format!("SELECT count(*) FROM {}", "t"));
        assert_eq!(lane.one(made, &[], |row| row.get::<i64>(0)).await.expect("a row"), 1_000);

        let stats = stage.db.stats();
        // One of the pool's, at the start.
        assert_eq!((stats.lane_queries + 1, stats.errors), (stats.queries, 0), "{stats:?}");
        let named = lane.named("one");
        named.execute("SELECT 1", &[]).await.expect("done");
        assert_eq!(stage.db.stats().names[0].name, "one");
    });
}

#[test]
fn errors_have_names_and_leave_the_lane_as_it_was() {
    let store = Store::start(40);
    on_a_shard(options(&store.url()), async |stage| {
        let (lane, process) = (&stage.lane, stage.process().await);
        for sql in [
            "CREATE TABLE a (id int8 PRIMARY KEY, n int8 NOT NULL CHECK (n > 0))",
            "CREATE TABLE b (a int8 REFERENCES a DEFERRABLE INITIALLY DEFERRED)",
            "INSERT INTO a VALUES (1, 1)",
        ] {
            lane.execute(sql, &[]).await.expect(sql);
        }
        for (sql, fault, sqlstate, constraint) in [
            ("INSERT INTO a VALUES (1, 1)", DbFault::Unique, "23505", Some("a_pkey")),
            ("INSERT INTO a VALUES (2, 0)", DbFault::Check, "23514", Some("a_n_check")),
            ("INSERT INTO a VALUES (2, NULL)", DbFault::Check, "23502", None),
            // Said at the end of its transaction, when the row has been sent.
            (
                "INSERT INTO b VALUES (7) RETURNING a",
                DbFault::ForeignKey,
                "23503",
                Some("b_a_fkey"),
            ),
            ("SELECT 1 / 0", DbFault::Other, "22012", None),
            ("SELEC 1", DbFault::Other, "42601", None),
            ("SELECT * FROM nowhere", DbFault::Other, "42P01", None),
            ("SELECT pg_sleep(60)", DbFault::Cancelled, "57014", None),
        ] {
            let error = lane.optional(sql, &[], |_| Ok(())).await.expect_err(sql);
            assert_eq!(DbFault::of(&error), fault, "{sql}: {error}");
            let said = error.as_database_error().expect("of the database");
            assert_eq!((said.code().as_deref(), said.constraint()), (Some(sqlstate), constraint));
            assert!(
                !error.to_string().is_empty()
                    && said.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_none()
            );
        }
        let of_column = async |what: &str| {
            let error = lane.one("SELECT 'x' AS a, NULL::text AS b", &[], |row| match what {
                "out" => row.get::<i64>(2),
                "type" => row.get::<i64>(0),
                "null" => row.get::<String>("b").map(|_| 0),
                _ => row.get::<i64>("c"),
            });
            error.await.expect_err("no such value")
        };
        assert!(matches!(of_column("out").await, sqlx::Error::ColumnIndexOutOfBounds { .. }));
        assert!(matches!(of_column("type").await, sqlx::Error::ColumnDecode { .. }));
        assert!(matches!(of_column("null").await, sqlx::Error::ColumnDecode { .. }));
        assert!(matches!(of_column("name").await, sqlx::Error::ColumnNotFound(_)));
        let too_few = lane.execute("SELECT $1::int8", &[]).await.expect_err("none given");
        assert!(matches!(too_few, sqlx::Error::Encode(_)), "{too_few}");
        let another = lane.execute("SELECT $1::int8", &[&"text"]).await.expect_err("of no int8");
        assert!(matches!(another, sqlx::Error::Encode(_)), "{another}");
        for sql in
            ["BEGIN", "/* a */ start transaction", "SET a.b = 1", "COPY a TO STDOUT", "commit"]
        {
            let error = lane.execute(sql, &[]).await.expect_err(sql);
            let text = error.to_string();
            assert!(text.contains(sql) && text.contains("Db::begin"), "{text}");
        }
        assert_eq!(stage.process().await, process, "the same connection all the time");
    });
}

#[test]
fn a_thousand_at_once_go_over_one_connection() {
    let store = Store::start(40);
    // Each way takes 20 ms: one after the other, they would take 40 s.
    let proxy = Proxy::before(store.port());
    let url = store.url().replace(&store.port().to_string(), &proxy.port().to_string());
    let proxy = Arc::new(proxy);
    on_a_shard(options(&url), async move |stage| {
        stage.process().await;
        proxy.delay_ms(20);
        let start = Instant::now();
        let ask = async |n: i64| {
            let sql = "SELECT $1::int8, pg_backend_pid()";
            let lane = &stage.lane;
            let both = lane.one(sql, &[&n], |row| Ok((row.get(0)?, row.get(1)?))).await;
            both.expect("an answer")
        };
        let all: Vec<(i64, i32)> = join_all((0..1_000).map(ask)).await;
        assert!(start.elapsed() < Duration::from_secs(10), "they wait for each other");
        assert!(
            all.iter()
                .enumerate()
                .all(|(at, (n, process))| { (*n, *process) == (at as i64, all[0].1) })
        );
        proxy.pass();
        let prepared =
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%int8, pg%id()'";
        assert_eq!(stage.number(prepared).await.expect("a row"), 1, "once for all");
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'soloist'";
        assert_eq!(stage.number(open).await.expect("a row"), 2, "and one of the pool's");

        // One that is begun and looked at no more keeps nobody from what it has asked for.
        let begun = std::pin::pin!(stage.number("SELECT 6::int8"));
        assert!(begun.now_or_never().is_none());
        assert_eq!(stage.number("SELECT 6::int8").await.expect("a row"), 6);

        // More than there is room for wait for it.
        let all = join_all((0..1_500).map(ask)).await;
        assert!(all.iter().enumerate().all(|(at, (n, _))| *n == at as i64));
        assert!(stage.db.stats().waits > 0);
    });
}

#[test]
fn statements_are_few_and_follow_their_tables() {
    let store = Store::start(40);
    on_a_shard(options(&store.url()).statements_max(3), async |stage| {
        let lane = &stage.lane;
        for n in 0..20 {
            let sql = AssertSqlSafe(format!("SELECT {n}"));
            lane.execute(sql, &[]).await.expect("done");
        }
        let count = "SELECT count(*) FROM pg_prepared_statements";
        assert!(stage.number(count).await.expect("a row") <= 3);
        lane.execute("CREATE TABLE t (a int8)", &[]).await.expect("made");
        lane.execute("INSERT INTO t VALUES (1)", &[]).await.expect("done");
        let all = "SELECT * FROM t";
        assert_eq!(lane.one(all, &[], |row| Ok(row.len())).await.expect("a row"), 1);
        lane.execute("ALTER TABLE t ADD b int8", &[]).await.expect("altered");
        let error = lane.one(all, &[], |row| Ok(row.len())).await.expect_err("another type now");
        assert_eq!(code(&error), "0A000");
        assert_eq!(lane.one(all, &[], |row| Ok(row.len())).await.expect("prepared anew"), 2);
    });
}

#[test]
fn who_is_slow_is_ended_and_who_is_behind_it_goes_on() {
    let store = Arc::new(Store::start(40));
    on_a_shard(options(&store.url()), async move |stage| {
        let in_the_way = async |what: fn(&Store)| {
            let store = store.clone();
            stage.shard.blocking(move || what(&store)).await.expect("a thread");
        };
        let process = stage.process().await;
        let start = Instant::now();
        let slow = stage.lane.execute("SELECT pg_sleep(60)", &[]);
        let behind = join_all((0..10).map(|_| stage.process()));
        let (slow, behind) = futures_util::future::join(slow, behind).await;
        assert_eq!(code(&slow.expect_err("too slow")), "57014");
        assert!(behind.iter().all(|it| *it == process));
        assert!(start.elapsed() < KNOWN_WITHIN, "{:?}", start.elapsed());

        // Dropped ones: their answers reach nobody else, and more of them than there is room for
        // wait for the server like others.
        let nap = async || {
            let nap = stage.lane.execute("SELECT pg_sleep(0.05)", &[]);
            assert!(stage.shard.timeout(Duration::from_millis(1), nap).await.is_err());
        };
        join_all((0..5).map(|_| nap())).await;
        assert_eq!(stage.number("SELECT 7::int8").await.expect("its own answer"), 7);
        stage.number("SELECT 8::int8").await.expect("prepared");
        in_the_way(Store::freeze).await;
        let quick = join_all((0..1_024).map(|_| stage.number("SELECT 8::int8")));
        assert!(stage.shard.timeout(Duration::from_millis(10), quick).await.is_err());
        let waits = stage.db.stats().waits;
        let next = stage.number("SELECT 8::int8");
        let (next, ()) = futures_util::future::join(next, in_the_way(Store::thaw)).await;
        assert_eq!(next.expect("its own answer"), 8);
        assert!(stage.db.stats().waits > waits, "those that were dropped were in the way");
        assert_eq!(stage.process().await, process, "the same connection all the time");
    });
}

/// What happens to the server or the way there while queries are under way, and how it ends.
type Blow = (&'static str, fn(&Store, &Proxy), fn(&Store, &Proxy));

const BLOWS: [Blow; 6] = [
    ("killed", |store, _| store.kill(), |store, _| store.restart()),
    ("restarted", |store, _| store.restart(), |_, _| ()),
    ("frozen", |store, _| store.freeze(), |store, _| store.thaw()),
    ("terminated", |store, _| terminate(store), |_, _| ()),
    ("cut", |_, proxy| proxy.cut(), |_, _| ()),
    ("eaten", |_, proxy| proxy.freeze(), |_, proxy| proxy.pass()),
];

fn terminate(store: &Store) {
    store.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'soloist'");
}

#[test]
fn who_waits_when_it_ends_hears_of_it_and_it_comes_back() {
    thread::scope(|scope| {
        for blow in BLOWS {
            scope.spawn(move || survive(blow));
        }
    });
}

fn survive((name, strike, mend): Blow) {
    let store = Store::start(40);
    let proxy = Proxy::before(store.port());
    let url = store.url().replace(&store.port().to_string(), &proxy.port().to_string());
    let both = Arc::new((store, proxy));
    let second = Duration::from_secs(1);
    let options = options(&url).acquire_max(second).connect_max(second);
    on_a_shard(options, async move |stage| {
        let in_the_way = async |strike: fn(&Store, &Proxy)| {
            let both = both.clone();
            stage.shard.blocking(move || strike(&both.0, &both.1)).await.expect("a thread");
        };
        stage.process().await;
        let leases = stage.db.stats_everywhere().leases;
        let start = Instant::now();
        let under_way = join_all((0..20).map(|_| stage.lane.execute("SELECT pg_sleep(0.5)", &[])));
        let (ends, ()) = futures_util::future::join(under_way, async {
            stage.shard.sleep(Duration::from_millis(100)).await; // they are at the server
            in_the_way(strike).await;
        })
        .await;
        // The one that runs, at least, and those behind it: nothing is sent again.
        let failed = ends.iter().filter_map(|it| it.as_ref().err());
        let faults: Vec<DbFault> = failed.map(DbFault::of).collect();
        assert!(faults.len() >= 15, "{name}: {faults:?}");
        let is_known = |it: &DbFault| {
            use DbFault::{PoolExhausted, Restarting, TooSlow, Unreachable};
            matches!(it, PoolExhausted | Restarting | TooSlow | Unreachable)
        };
        assert!(faults.iter().all(is_known), "{name}: {faults:?}");
        let is_quick = !matches!(name, "frozen" | "eaten" | "restarted");
        let within = if is_quick { KNOWN_WITHIN / 2 } else { KNOWN_WITHIN };
        assert!(start.elapsed() < within, "{name}: {:?}", start.elapsed());
        // Nobody waits for one that is away longer than for a place.
        let start = Instant::now();
        if let Err(error) = stage.lane.execute("SELECT 1", &[]).await {
            assert!(is_known(&DbFault::of(&error)), "{name}: {error}");
        }
        assert!(start.elapsed() < KNOWN_WITHIN, "{name}: {:?}", start.elapsed());
        in_the_way(mend).await;
        stage.is_back().await;
        assert_eq!(stage.db.stats_everywhere().leases, leases, "{name}");
        assert_eq!(stage.number("SELECT 7::int8").await.expect("an answer"), 7, "{name}");
    });
}

#[test]
fn a_lane_has_a_lease_for_as_long_as_it_is_held() {
    let store = Store::start(40);
    on_a_shard(options(&store.url()).open_max(3), async |stage| {
        let leases = || stage.db.stats_everywhere().leases;
        let before = leases();
        let (second, same) = (stage.db.lane().await.expect("one is free"), stage.lane.clone());
        assert_eq!(leases(), before + 1);
        let error = stage.db.lane().await.expect_err("none is left for it");
        assert!(format!("{error:?}").contains("open_max") && error.status() == 503, "{error:?}");
        drop(same);
        let process: i32 =
            second.one("SELECT pg_backend_pid()", &[], |row| row.get(0)).await.expect("a row");
        assert_ne!(process, stage.process().await);
        drop(second);
        stage.until("its lease is back", async || leases() == before).await;
        let gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        let is_gone = async || {
            let count = stage.lane.one(gone, &[&process], |row| row.get::<i64>(0)).await;
            count.expect("a row") == 0
        };
        stage.until("its connection is closed", is_gone).await;
    });
}

#[test]
fn an_old_connection_is_followed_by_another_and_no_query_notices() {
    let store = Store::start(40);
    store.psql("ALTER ROLE soloist IN DATABASE soloist SET work_mem = '5MB'");
    let life = Duration::from_millis(300);
    let url = store.url();
    let other = url.clone() + "?application_name=other";
    on_a_shard(options(&url).life_max(life), async move |stage| {
        let processes = Rc::new(Cell::new(0));
        let load = async || {
            let (start, mut last) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_secs(2) {
                let process = stage.process().await;
                processes.set(processes.get() + u32::from(process != last));
                last = process;
            }
        };
        join_all((0..8).map(|_| load())).await;
        assert!(processes.get() > 8, "{}", processes.get());
        assert!(stage.db.stats().closed.life > 0);
        stage.db.set_url(&other).expect("a URL");
        let name = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let is_there = async || {
            let name = stage.lane.one(name, &[], |row| row.get::<String>(0)).await;
            name.expect("an answer") == "other"
        };
        stage.until("the new URL is used", is_there).await;
    });
}

#[test]
fn a_primary_whose_place_was_taken_is_left() {
    let store = Store::start(40);
    store.psql("GRANT pg_monitor TO soloist");
    let replica = Arc::new(store.replica());
    let (old, new) = (i32::from(store.port()), i32::from(replica.port()));
    let options = options(&store.url()).replica(replica.url());
    on_a_shard(options, async move |stage| {
        const PORT: &str = "SELECT inet_server_port()";
        let port = async |lane: &PgLane| lane.one(PORT, &[], |row| row.get::<i32>(0)).await;
        let reads = stage.db.replica().lane().await.expect("another lane");
        let is_well = async || matches!(port(&reads).await, Ok(at) if at == new);
        stage.until("the replica is read from", is_well).await;
        assert_eq!(port(&stage.lane).await.expect("an answer"), old);
        stage.shard.blocking(move || replica.promote()).await.expect("promoted");
        // The old one goes on as if nothing had happened.
        let has_moved = async || matches!(port(&stage.lane).await, Ok(at) if at == new);
        stage.until("the new one is asked", has_moved).await;
        for _ in 0..50 {
            assert_eq!(port(&stage.lane).await.expect("an answer"), new);
        }
    });
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let store = Store::start(40);
    let secret = "a b:c/@%d?";
    store.psql("SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'a b:c/@%d?'");
    store.psql("CREATE ROLE new LOGIN PASSWORD 'a b:c/@%d?'");
    let rules = "local all all trust\nhost all old all md5\nhost all all all scram-sha-256\n";
    std::fs::write(store.folder().join("data/pg_hba.conf"), rules).expect("written");
    store.psql("SELECT pg_reload_conf()");
    let (port, folder) = (store.port(), store.folder().display().to_string());
    let written: String = secret.bytes().map(|it| format!("%{it:02x}")).collect();
    let at = move |user: &str, secret: &str, rest: &str| {
        format!("postgres://{user}:{secret}@127.0.0.1:{port}/soloist{rest}")
    };
    let app = async move |shard: Shard| {
        for url in [
            at("old", &written, ""),
            at("new", &written, "?sslmode=disable"),
            format!("postgres://soloist@localhost:{port}/soloist?host={folder}"),
        ] {
            let db: Db<Postgres> = shard.db(options(&url)).await?;
            let lane = db.lane().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
            lane.execute("SELECT 1", &[]).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        }
        for (options, want) in [
            (options(&at("new", "other", "")), "password authentication failed"),
            (options(&at("new", "", "")), "password"),
            (options(&at("new", &written, "?sslmode=require")), "no TLS"),
            (options(&at("new", &written, "?sslmode=disable&")).behind_pooler(), "pooler"),
        ] {
            let db: Db<Postgres> = shard.db(options.lazy()).await?;
            // One that is lazy says it to its first query.
            let error = match db.lane().await {
                Ok(lane) => format!("{:?}", lane.execute("SELECT 1", &[]).await.expect_err(want)),
                Err(error) => format!("{error:?}"),
            };
            assert!(error.contains(want), "{want}: {error}");
        }
        Ok(App::new(()))
    };
    TestServer::start(1, app);
}

/// An application with a lane and a handler that is slow before it asks.
async fn slow_app(shard: Shard, url: String) -> Result<App<PgLane>> {
    let db: Db<Postgres> = shard.db(options(&url)).await?;
    Ok(App::new(db.lane().await?)
        .get("/process", async |cx: &Ctx<PgLane>| {
            let process = cx.state().one("SELECT pg_backend_pid()", &[], |row| row.get::<i32>(0));
            cx.json(&process.await?)
        })
        .get("/late", async |cx: &Ctx<PgLane>| {
            cx.sleep(Duration::from_millis(300)).await; // the drain begins meanwhile
            cx.state().execute("SELECT 1", &[]).await?;
            cx.text("late")
        })
        .get("/fail", async |cx: &Ctx<PgLane>| {
            cx.state().execute("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await?;
            cx.empty()
        }))
}

#[test]
fn each_shard_has_its_own_and_a_drain_lets_them_be() {
    let store = Store::start(40);
    let url = store.url();
    let server = TestServer::start(2, async move |shard| slow_app(shard, url).await);
    let mut processes = std::collections::BTreeSet::new();
    let start = Instant::now();
    while processes.len() < 2 && start.elapsed() < PATIENCE {
        processes.insert(server.get("/process").expect(200).json::<i32>());
    }
    assert_eq!(processes.len(), 2);
    let answer = server.get("/fail");
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
    let mut client = TcpStream::connect(server.addr()).expect("a connection");
    client.write_all(b"GET /late HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    thread::sleep(Duration::from_millis(100)); // it has come in
    let running = server.into_running();
    running.stop();
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("late"), "{answer}");
    running.join().expect("a clean end");
    let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'soloist'";
    let start = Instant::now();
    while store.psql(count).trim() != "0" {
        assert!(start.elapsed() < PATIENCE, "connections are left");
        thread::sleep(Duration::from_millis(10)); // the server has its say
    }
}

#[test]
fn it_works_in_memory_too() {
    let store = Store::start(40);
    let url = store.url();
    TestClient::run(
        async move |shard| slow_app(shard, url).await,
        async |client| {
            let process: i32 = client.get("/process").await.expect(200).json();
            assert!(process > 0);
            client.get("/late").await.expect(200).text("late");
            client.get("/fail").await.expect(503);
            client.get("/late").await.expect(200).text("late");
        },
    );
}
