//! PostgreSQL on shards: what an application does with it, and what becomes of requests when the
//! server, the network or a connection fails. After each fault every lease is accounted for.

use std::cell::Cell;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::sqlx::{self, Postgres, Row};
use soloist::testing::TestServer;
use soloist::{Db, DbFault, DbOptions, DbTransaction};

#[path = "stores/ledger.rs"]
mod ledger;
#[path = "stores/pooler.rs"]
mod pooler;
#[path = "stores/postgres.rs"]
mod postgres;
#[path = "stores/proxy.rs"]
mod proxy;

use ledger::{
    BUDGET, Habits, Load, all_is_accounted_for, ask, connections, is_whole, number, options, reset,
    serve, stats, until,
};
use pooler::Pooler;
use postgres::Postgres as Store;
use proxy::Proxy;

/// What it is called, what brings it about, and what ends it.
type Fault<'a> = (&'a str, &'a dyn Fn(), &'a dyn Fn());

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE application_name = 'soloist'";
/// Time for a condition that another process brings about.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn faults_end_in_clear_errors_and_lose_nothing() {
    let store = Store::start(40);
    let proxy = Proxy::before(store.port());
    let url = format!("postgres://soloist@127.0.0.1:{}/soloist", proxy.port());
    let server = serve(2, options(&url));
    let faults: [Fault; 8] = [
        ("killed and started again", &|| store.kill(), &|| store.restart()),
        ("frozen", &|| store.freeze(), &|| store.thaw()),
        ("a network that eats packets", &|| proxy.freeze(), &|| proxy.pass()),
        ("refusing", &|| proxy.refuse(), &|| proxy.pass()),
        ("connections reset", &|| proxy.cut(), &|| {}),
        ("connections ended by the server", &|| drop(store.psql(TERMINATE)), &|| {}),
        (
            "read only, as one that was demoted",
            &|| {
                store.psql("ALTER SYSTEM SET default_transaction_read_only = on");
                store.psql("SELECT pg_reload_conf()");
            },
            &|| {
                store.psql("ALTER SYSTEM RESET default_transaction_read_only");
                store.psql("SELECT pg_reload_conf()");
            },
        ),
        ("slow", &|| proxy.delay_ms(30), &|| proxy.pass()),
    ];
    for (name, begin, end) in faults {
        let load = Load::start(server.addr(), 12, Habits { leave: false, mark: true });
        until(name, 2 * SOON, || load.written() > 50);
        begin();
        thread::sleep(Duration::from_millis(1_500)); // longer than any bound of the options
        end();
        let (before, start) = (load.written(), Instant::now());
        until(&format!("{name}: writes go on"), 2 * SOON, || load.written() > before + 50);
        let after = start.elapsed();
        let seen = load.end();
        let (written, burst) = (seen.written.len(), proxy.burst_max());
        println!(
            "{name}: {written} written, {} refused, {:?} at most, 50 more {after:?} after its end, \
             {burst} connections at once",
            seen.refused, seen.took_max,
        );
        all_is_accounted_for(&server, &store, name);
        is_whole(&store, &seen.written, name);
        // All of them anew, those that stop what runs, tries that fail, and leases that move.
        assert!(burst <= 3 * BUDGET, "{name}: a storm of {burst} connections");
    }
}

#[test]
fn a_server_that_is_full_is_waited_for() {
    let store = Store::start(20);
    let others = store.fill();
    assert!(others.len() >= 15, "{} got in", others.len());
    let url = store.url();
    let server = TestServer::start(1, async move |shard: Shard| {
        let app = App::new(shard.db::<Postgres>(options(&url).lazy()).await?);
        Ok(app
            .get("/one", async |cx| {
                let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(cx.state()).await?;
                cx.json(&one)
            })
            .get("/stats", async |cx| cx.json(&cx.state().stats_everywhere())))
    });
    for _ in 0..3 {
        let (status, retries, body) = ask(server.addr(), "/one");
        assert_eq!((status, retries, &*body), (503, true, "the database is not available"));
    }
    drop(others);
    all_is_accounted_for(&server, &store, "room again");
    server.get("/one").expect(200);

    // With room for a few, those few are shared: nobody is refused.
    let mut others = store.fill();
    let _ = store.psql(TERMINATE);
    until("none is left", SOON, || connections(&store) == 0);
    others.extend(store.fill());
    others.truncate(others.len() - 2);
    until("it works again", SOON, || ask(server.addr(), "/one").0 == 200);
    let askers = (0..12).map(|_| {
        let addr = server.addr();
        thread::spawn(move || (0..50).map(|_| ask(addr, "/one").0).collect::<Vec<_>>())
    });
    let askers: Vec<_> = askers.collect();
    for asker in askers {
        let answers = asker.join().expect("no panic");
        assert!(answers.iter().all(|it| *it == 200), "{answers:?}");
    }
    assert!(connections(&store) <= 3, "two, and one on its way");
    drop(others);
    all_is_accounted_for(&server, &store, "room for a few");
}

#[test]
fn another_server_is_gone_to() {
    let (old, new) = (Store::start(20), Store::start(20));
    let (url, other) = (old.url(), new.url());
    let server = TestServer::start(2, async move |shard: Shard| {
        let db = shard.db::<Postgres>(options(&url)).await?;
        Ok(App::new((db, other))
            .get("/port", async |cx| {
                let query = sqlx::query_scalar("SELECT current_setting('port')");
                let port: String = query.fetch_one(&cx.state().0).await?;
                cx.text(port)
            })
            .get("/go", async |cx| {
                let (db, other) = cx.state();
                db.set_url(other)?;
                cx.empty()
            })
            .get("/one", async |cx| cx.text("1"))
            .get("/stats", async |cx| cx.json(&cx.state().0.stats_everywhere())))
    });
    let addr = server.addr();
    let askers = |count: usize| {
        let all = (0..count).map(|_| thread::spawn(move || ask(addr, "/port")));
        all.collect::<Vec<_>>().into_iter().map(|it| it.join().expect("no panic"))
    };
    let is = |store: &Store| store.port().to_string();
    assert!(askers(8).all(|(status, _, port)| status == 200 && port == is(&old)));
    old.freeze(); // it does not even say goodbye
    let asked = thread::spawn(move || ask(addr, "/port"));
    until("one waits", SOON, || number(&stats(&server), "in_use") > 0);
    server.get("/go").expect(204);
    let (status, retries, _) = asked.join().expect("no panic");
    assert_eq!((status, retries), (503, true));
    until("the new one answers", SOON, || ask(addr, "/port").2 == is(&new));
    until("the old ones are closed", SOON, || {
        let stats = stats(&server);
        number(&stats, "in_use") == 0 && stats["closed"]["replaced"].as_u64() > Some(0)
    });
    assert!(askers(16).all(|(status, _, port)| status == 200 && port == is(&new)));
    old.thaw();
    until("nobody is at the old one", SOON, || connections(&old) == 0);
    assert!(askers(16).all(|(status, _, port)| status == 200 && port == is(&new)));
    all_is_accounted_for(&server, &new, "another server");
}

#[test]
fn a_request_that_has_gone_leaves_nothing_running() {
    let store = Store::start(40);
    let url = store.url();
    let server = TestServer::start(1, async move |shard: Shard| {
        let app = ledger::ledger(shard, options(&url).query_max(Duration::from_secs(60))).await?;
        Ok(app.get("/impatient/:what", async |cx| {
            let db = cx.state();
            let (within, sleep) = (Duration::from_millis(50), "SELECT pg_sleep(60)");
            match cx.param("what")? {
                "query" => cx.timeout(within, sqlx::query(sleep).execute(db)).await?.map(drop)?,
                "transaction" => {
                    let mut tx = db.begin().await?;
                    let query = sqlx::query("INSERT INTO ledger VALUES (-1)");
                    query.execute(&mut *tx).await?;
                    cx.timeout(within, sqlx::query(sleep).execute(&mut *tx)).await?.map(drop)?;
                }
                _ => {
                    let mut conn = db.acquire().await?;
                    cx.timeout(within, sqlx::query(sleep).execute(&mut *conn)).await?.map(drop)?;
                }
            }
            cx.empty()
        }))
    });
    let running = |sql: &str| {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
            AND pid <> pg_backend_pid() AND query LIKE";
        store.psql(&format!("{count} '%{sql}%'")).trim() != "0"
    };
    for what in ["query", "transaction", "connection"] {
        server.get(&format!("/impatient/{what}")).expect(503);
        until(what, SOON, || !running("pg_sleep(60)"));
        all_is_accounted_for(&server, &store, what);
    }
    assert_eq!(number(&stats(&server), "stopped"), 3);
    assert_eq!(store.psql("SELECT count(*) FROM ledger").trim(), "0", "rolled back");

    // A client that goes away while it is waited for.
    let mut socket = TcpStream::connect(server.addr()).expect("a connection");
    socket.write_all(b"GET /sleep/60 HTTP/1.1\r\nhost: test\r\n\r\n").expect("sent");
    until("it runs", SOON, || running("pg_sleep($1)"));
    reset(socket);
    until("it is stopped", SOON, || !running("pg_sleep($1)"));
    all_is_accounted_for(&server, &store, "a client that went away");

    // A connection that ends under its query.
    let addr = server.addr();
    let asked = thread::spawn(move || ask(addr, "/sleep/60"));
    until("it runs", SOON, || running("pg_sleep($1)"));
    store.psql(TERMINATE);
    let (status, retries, body) = asked.join().expect("no panic");
    assert_eq!((status, retries, &*body), (503, true, "the database is not available"));
    all_is_accounted_for(&server, &store, "a connection that ended");
}

#[test]
fn bounds_hold_and_say_so() {
    let store = Store::start(20);
    let server = serve(1, options(&store.url()));
    let addr = server.addr();

    // A query that takes too long.
    let (status, retries, body) = ask(addr, "/sleep/60");
    assert_eq!((status, retries, &*body), (503, true, "the database did not answer in time"));

    // All connections are in use for longer than a wait may take.
    let sleepers: Vec<_> =
        (0..BUDGET).map(|_| thread::spawn(move || ask(addr, "/sleep/1.1").0)).collect();
    until("all are in use", SOON, || number(&stats(&server), "in_use") == BUDGET as u64);
    let (status, retries, body) = ask(addr, "/one");
    assert_eq!((status, retries, &*body), (503, true, "the database is busy"));
    sleepers.into_iter().for_each(|it| assert_eq!(it.join().expect("no panic"), 204));
    assert_eq!(number(&stats(&server), "acquire_timeouts"), 1);
    all_is_accounted_for(&server, &store, "bounds");

    // A mistake is no fault of the server, and costs no connection.
    server.get("/write/7").expect(200);
    let opened = number(&stats(&server), "opened");
    for _ in 0..3 * BUDGET {
        assert_eq!(ask(addr, "/write/7").0, 500);
    }
    assert_eq!(number(&stats(&server), "opened"), opened);
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let store = Store::start(20);
    let nobody = "postgres://soloist@127.0.0.1:1/x";
    for (name, options, why) in [
        (
            "more than the server allows",
            DbOptions::new(store.url()).open_max(30),
            "the budget is 30 connections (open_max) and 1 that cancels queries, but the server \
             allows 20 (max_connections), 3 of them for administrators: set open_max to 16 at most",
        ),
        (
            "fewer than shards",
            DbOptions::new(store.url()).open_max(1),
            "2 shards need a connection",
        ),
        ("nobody there", DbOptions::new(nobody), "refused"),
        ("no URL", DbOptions::new("postgres//x"), "URL"),
        ("no such database", DbOptions::new(store.url().replace("/soloist", "/no")), "\"no\""),
    ] {
        let started = Server::bind("127.0.0.1:0")
            .unpinned(2)
            .start(async move |shard| ledger::ledger(shard, options).await);
        let error = started.err().unwrap_or_else(|| panic!("{name}: it started")).to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    // Asked again, it is no less away; and no budget holds for two.
    let twice = Server::bind("127.0.0.1:0")
        .unpinned(1)
        .start(async move |shard| {
            for _ in 0..2 {
                let refused = shard.db::<Postgres>(options(nobody)).await.expect_err("nobody");
                assert_eq!(refused.status(), 503);
            }
            shard.db::<Postgres>(options(nobody).lazy()).await.expect_err("other options");
            let lazy = options("postgres://soloist@127.0.0.1:1/y").lazy();
            shard.db::<Postgres>(lazy.clone()).await.expect("not asked");
            shard.db::<Postgres>(lazy.clone()).await.expect("the same");
            let other = shard.db::<Postgres>(lazy.open_max(9)).await.expect_err("another budget");
            assert!(format!("{other:?}").contains("different options"), "{other:?}");
            Ok(App::new(()))
        })
        .expect("a start");
    twice.stop();
    twice.join().expect("an end");
    // One that need not be there at the start.
    let options = options(nobody).lazy();
    let lazy = TestServer::start(1, async move |shard: Shard| {
        Ok(App::new(shard.db::<Postgres>(options).await?).get("/", async |cx| {
            let asked = sqlx::query("SELECT 1").execute(cx.state()).await;
            let error = asked.expect_err("nobody is there");
            assert_eq!(DbFault::of(&error), DbFault::Unreachable);
            Err(error.into())
        }))
    });
    lazy.get("/").expect(503).has("retry-after", "1");
}

/// How, by which statement, and how the request ends.
const LEFT: [(&str, &str, u16); 19] = [
    ("query", "", 204),
    ("query", "SET soloist.mark = 'here'", 204),
    ("query", "BEGIN", 204),
    ("query", "SELECT no", 500),
    ("connection", "SET soloist.mark = 'here'", 204),
    ("connection", "SET search_path TO pg_catalog", 204),
    ("connection", "SET ROLE pg_read_all_data", 500),
    ("connection", "CREATE TEMP TABLE mine (n int)", 204),
    ("connection", "SELECT pg_advisory_lock(1)", 204),
    ("connection", "LISTEN words", 204),
    ("connection", "BEGIN; INSERT INTO ledger VALUES (-4)", 204),
    ("connection", "BEGIN; SELECT no", 500),
    ("copy", "", 204),
    ("rows", "", 204),
    ("drop", "", 204),
    ("error", "", 500),
    ("panic", "", 500),
    ("savepoint", "", 204),
    ("time", "", 503),
];

#[test]
fn what_one_leaves_on_a_connection_nobody_finds() {
    let store = Store::start(20);
    let url = store.url();
    let server = TestServer::start(1, async move |shard: Shard| {
        // One for all.
        let app = ledger::ledger(shard, options(&url).open_max(1)).await?;
        Ok(app
            .get("/leave-by/:at", async |cx| {
                let (db, (how, sql, _)) = (cx.state(), LEFT[cx.param::<usize>("at")?]);
                let insert = sqlx::query("INSERT INTO ledger VALUES (-1)");
                match how {
                    "query" => sqlx::query(sql).execute(db).await.map(drop)?,
                    "connection" => {
                        let mut conn = db.acquire().await?;
                        sqlx::raw_sql(sql).execute(&mut conn).await?;
                    }
                    "copy" => {
                        let mut conn = db.acquire().await?;
                        let mut copy = conn.copy_in_raw("COPY ledger FROM STDIN").await?;
                        copy.send(&b"-2\n"[..]).await?;
                    }
                    "rows" => {
                        let sql = "SELECT generate_series(1, 100000000)";
                        let mut rows = sqlx::query(sql).fetch(db);
                        assert!(next(&mut rows).await.is_some());
                    }
                    how => {
                        let mut tx = db.begin().await?;
                        insert.execute(&mut *tx).await?;
                        match how {
                            "drop" => {}
                            "error" => fails(&mut tx).await?,
                            "panic" => panic!("on purpose"),
                            "savepoint" => {
                                let mut inner = tx.begin().await?;
                                let insert = sqlx::query("INSERT INTO ledger VALUES (-3)");
                                insert.execute(&mut *inner).await?;
                            }
                            "time" => {
                                let long = std::future::pending::<()>();
                                cx.timeout(Duration::from_millis(5), long).await?;
                            }
                            _ => unreachable!("{how}"),
                        }
                    }
                }
                cx.empty()
            })
            .get("/look", async |cx| {
                let sql = "SELECT concat_ws('|', now() = statement_timestamp(), current_user, \
                    current_setting('search_path'), \
                    coalesce(current_setting('soloist.mark', true), ''), \
                    coalesce(to_regclass('pg_temp.mine')::text, ''), \
                    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), \
                    (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM ledger))";
                let row = sqlx::raw_sql(sql).fetch_one(cx.state()).await?;
                cx.text(row.get::<String, _>(0))
            }))
    });
    for (at, (how, sql, status)) in LEFT.into_iter().enumerate() {
        server.get(&format!("/leave-by/{at}")).expect(status);
        let found = server.get("/look").expect(200);
        let clean = r#"t|soloist|"$user", public|||0|0|0"#;
        assert_eq!(std::str::from_utf8(found.body()), Ok(clean), "{how} {sql}");
    }
    all_is_accounted_for(&server, &store, "what was left");
    let stats = stats(&server);
    assert!(number(&stats, "opened") <= 7, "what can be made clean is used again: {stats}");
}

/// What a transaction does, and what is there after its commit.
const COMMITS: [(&str, Result<[i64; 2], &str>); 5] = [
    ("1", Ok([1, 0])),
    ("1 fails", Err("25P02")),
    ("fails 1", Err("25P02")),
    ("1 (fails) 2", Ok([1, 1])),
    ("1 (2 fails)", Ok([1, 0])), // a savepoint that drops is undone alone
];

/// Does it; what fails is passed over.
async fn try_all(tx: &mut DbTransaction<'_, Postgres>, words: &str) {
    for word in words.split_whitespace() {
        let query = match word {
            "1" => "INSERT INTO ledger VALUES (-1)",
            "2" => "INSERT INTO ledger VALUES (-2)",
            _ => "INSERT INTO ledger SELECT 1 / 0",
        };
        drop(sqlx::query(query).execute(&mut **tx).await);
    }
}

#[test]
fn a_commit_that_commits_nothing_is_an_error() {
    let store = Store::start(20);
    let url = store.url();
    let server = TestServer::start(1, async move |shard: Shard| {
        let app = ledger::ledger(shard, options(&url).open_max(1)).await?;
        Ok(app.get("/commit/:at", async |cx| {
            let (db, (does, ends)) = (cx.state(), COMMITS[cx.param::<usize>("at")?]);
            sqlx::query("TRUNCATE ledger").execute(db).await?;
            let mut tx = db.begin().await?;
            for (at, words) in does.split(['(', ')']).enumerate() {
                if at % 2 == 0 {
                    try_all(&mut tx, words).await;
                } else {
                    try_all(&mut tx.begin().await?, words).await;
                }
            }
            let ended = tx.commit().await;
            let code = |error: &sqlx::Error| {
                error.as_database_error().and_then(|it| it.code()).map(|it| it.into_owned())
            };
            match ends {
                Ok(_) => ended?,
                Err(known) => assert_eq!(code(&ended.expect_err(does)).as_deref(), Some(known)),
            }
            let count = "SELECT count(*) FILTER (WHERE n = $1) FROM ledger";
            for (n, there) in [-1i64, -2].into_iter().zip(ends.unwrap_or([0, 0])) {
                let count: i64 = sqlx::query_scalar(count).bind(n).fetch_one(db).await?;
                assert_eq!(count, there, "{n} after {does}");
            }
            cx.empty()
        }))
    });
    for at in 0..COMMITS.len() {
        server.get(&format!("/commit/{at}")).expect(204);
    }
    all_is_accounted_for(&server, &store, "commits");
    assert_eq!(number(&stats(&server), "opened"), 1, "its connection is used again");
}

async fn fails(tx: &mut DbTransaction<'_, Postgres>) -> Result<()> {
    Ok(sqlx::query("SELECT no").execute(&mut **tx).await.map(drop)?)
}

/// The next item of a stream.
async fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)).await
}

#[test]
fn leases_go_where_requests_wait() {
    let store = Store::start(40);
    let url = store.url();
    let server = TestServer::start(2, async move |shard: Shard| {
        let options = options(&url).open_max(8).acquire_max(Duration::from_secs(10));
        let db = shard.db::<Postgres>(options).await?;
        shard.put(Cell::new(false));
        Ok(App::new(db)
            .get("/load/:shard/:on", async |cx| {
                let (there, on) = (cx.param("shard")?, cx.param::<bool>("on")?);
                let shard = cx.shard();
                let set = shard.on(there, async move |shard| {
                    let db = shard.got::<Db<Postgres>>().expect("the state");
                    let is_on = shard.got::<Cell<bool>>().expect("put above");
                    is_on.set(on);
                    for _ in 0..if on { 16 } else { 0 } {
                        let (db, is_on) = (db.clone(), is_on.clone());
                        shard.spawn(async move {
                            while is_on.get() {
                                let sleep = sqlx::query("SELECT pg_sleep(0.005)");
                                sleep.execute(&*db).await.expect("no query fails");
                            }
                        });
                    }
                    Ok(())
                });
                set.await?;
                cx.empty()
            })
            .get("/open/:shard", async |cx| {
                let (there, shard) = (cx.param("shard")?, cx.shard());
                let open = shard.on(there, async |shard| {
                    Ok(shard.got::<Db<Postgres>>().expect("the state").stats().open)
                });
                cx.json(&open.await?)
            })
            .get("/one", async |cx| cx.text("1"))
            .get("/stats", async |cx| cx.json(&cx.state().stats_everywhere())))
    });
    let open = |shard: usize| -> usize { server.get(&format!("/open/{shard}")).json() };
    let mut times = Vec::new();
    for (loaded, other) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
        let before = stats(&server);
        let start = Instant::now();
        server.get(&format!("/load/{loaded}/true")).expect(204);
        until("all but the other's minimum", SOON, || open(loaded) == 7);
        times.push(start.elapsed());
        assert_eq!(open(other), 1, "the other has its one");
        let now = stats(&server);
        let opened = number(&now, "opened") - number(&before, "opened");
        assert!(opened <= 7, "no more than it was given: {opened}");
        assert!(connections(&store) <= 9, "never more than there are, and one that stops queries");
        server.get(&format!("/load/{loaded}/false")).expect(204);
        all_is_accounted_for(&server, &store, "leases");
    }
    println!("they were there after {times:?}");
    let late = times.iter().filter(|it| **it > Duration::from_millis(200)).count();
    assert!(late <= 1, "200 ms, but for a machine that did something else: {times:?}");
    assert!(number(&stats(&server), "lease_moves") >= 18);
}

#[test]
fn a_budget_follows_the_load() {
    let store = Store::start(20);
    let server = serve(1, options(&store.url()).open_max(4).adaptive_from(2));
    let budget = || number(&stats(&server), "budget");
    assert_eq!(budget(), 2);
    let load = Load::start(server.addr(), 8, Habits::default());
    let sleepers = (0..2).map(|_| {
        let addr = server.addr();
        thread::spawn(move || (0..60).for_each(|_| drop(ask(addr, "/sleep/0.1"))))
    });
    let sleepers: Vec<_> = sleepers.collect();
    until("it grows to its bound", Duration::from_secs(15), || budget() == 4);
    assert!(connections(&store) <= 5, "four, and one that stops queries");
    sleepers.into_iter().for_each(|it| it.join().expect("no panic"));
    assert_eq!(budget(), 4, "and no further");
    is_whole(&store, &load.end().written, "a budget that grows");
    until("it shrinks", Duration::from_secs(45), || budget() == 3);
    all_is_accounted_for(&server, &store, "a budget that shrinks");
    let changes = stats(&server)["changes"].clone();
    println!("{changes}");
    let sizes = |at: usize| (changes[at]["from"].as_u64(), changes[at]["to"].as_u64());
    assert_eq!(
        [sizes(0), sizes(1), sizes(2)],
        [(2, 3), (3, 4), (4, 3)].map(|(from, to)| (Some(from), Some(to)))
    );
}

#[test]
fn notifications_are_heard_and_losses_are_told() {
    let store = Store::start(20);
    let url = store.url();
    let server = TestServer::start(1, async move |shard: Shard| {
        let db = shard.db::<Postgres>(options(&url)).await?;
        let heard = shard.put(Own::new(Vec::<String>::new()));
        let (mut listener, here) = (db.listen(&["words"]).await?, shard.clone());
        shard.spawn(async move {
            loop {
                let word = match listener.recv().await {
                    Ok(Some(word)) => word.payload().to_owned(),
                    Ok(None) => "lost".to_owned(),
                    Err(_) => {
                        // As its documentation asks: a pause before the next try.
                        here.sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                heard.with(|heard| heard.push(word));
            }
        });
        Ok(App::new(db)
            .get("/heard", async |cx| {
                let heard = cx.shard().got::<Own<Vec<String>>>().expect("put above");
                cx.json(&heard.with(|heard| heard.clone()))
            })
            .get("/stats", async |cx| cx.json(&cx.state().stats_everywhere())))
    });
    let heard = || -> Vec<String> { server.get("/heard").json() };
    store.psql("NOTIFY words, 'a'");
    until("a word", SOON, || heard() == ["a"]);
    let ends: [Fault; 2] = [
        ("b", &|| store.kill(), &|| store.restart()),
        ("c", &|| drop(store.psql(TERMINATE)), &|| {}),
    ];
    for (word, end, begin) in ends {
        let losses = || heard().iter().filter(|it| *it == "lost").count();
        let before = losses();
        end();
        until("the loss", SOON, || losses() == before + 1);
        begin();
        until("words again", 2 * SOON, || {
            store.psql(&format!("NOTIFY words, '{word}'"));
            heard().last().is_some_and(|it| it == word)
        });
    }
    let stats = stats(&server);
    assert_eq!(number(&stats, "leases"), number(&stats, "open") + 1, "the listener's: {stats}");
}

#[test]
fn a_pooler_may_stand_between() {
    let store = Store::start(20);
    let pooler = Pooler::before(&store, 3);
    let url = pooler.url();
    let server = TestServer::start(1, async move |shard: Shard| {
        let options = options(&url).open_max(8).behind_pooler();
        let app = ledger::ledger(shard, options).await?;
        Ok(app
            .get("/add/:n", async |cx| {
                let n: i64 = cx.param("n")?;
                let query = sqlx::query_scalar("SELECT $1::bigint + 1000").bind(n);
                let sum: i64 = query.fetch_one(cx.state()).await?;
                cx.json(&sum)
            })
            .get("/text/:n", async |cx| {
                let n: i64 = cx.param("n")?;
                let query = sqlx::query_scalar("SELECT 'n is ' || $1::bigint").bind(n);
                let text: String = query.fetch_one(cx.state()).await?;
                cx.text(text)
            })
            .get("/rows/:n", async |cx| {
                let query = sqlx::query("SELECT generate_series(1, $1::bigint)");
                let mut rows = query.bind(cx.param::<i64>("n")?).fetch(cx.state());
                let mut count = 0;
                while let Some(row) = next(&mut rows).await {
                    row?;
                    count += 1;
                }
                cx.json(&count)
            }))
    });
    let addr = server.addr();
    let askers = (0..8).map(|client: i64| {
        thread::spawn(move || {
            for n in 0..100 {
                let n = 1_000 * (1_000 + client) + n; // no other's
                for (path, want) in [
                    (format!("/add/{n}"), (n + 1_000).to_string()),
                    (format!("/text/{n}"), format!("n is {n}")),
                    (format!("/rows/{}", n % 7), (n % 7).to_string()),
                    (format!("/write/{n}"), "written".to_owned()),
                ] {
                    assert_eq!(ask(addr, &path), (200, false, want), "{path}");
                }
            }
        })
    });
    let askers: Vec<_> = askers.collect();
    askers.into_iter().for_each(|it| it.join().expect("no asker failed"));
    let load = Load::start(addr, 8, Habits { leave: true, mark: false });
    until("writes", SOON, || load.written() > 200);
    is_whole(&store, &load.end().written, "behind a pooler");
    until("nothing is under way", SOON, || number(&stats(&server), "in_use") == 0);
    let statements = store.psql("SELECT count(*) FROM pg_prepared_statements");
    assert_eq!(statements.trim(), "0");
    let stats = stats(&server);
    assert_eq!(number(&stats, "leases"), number(&stats, "open"), "{stats}");
}
