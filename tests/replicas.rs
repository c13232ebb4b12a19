//! PostgreSQL and its replicas: who gets which queries, replicas that are behind, dead or frozen,
//! and a primary whose place a replica takes.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use soloist::prelude::*;
use soloist::sqlx::{self, Postgres as Pg};
use soloist::testing::TestServer;
use soloist::{Db, DbOptions};

use postgres::Postgres;

#[path = "stores/postgres.rs"]
mod postgres;

/// Which server it runs on.
const PORT: &str = "SELECT inet_server_port()";

/// A primary with a table, and replicas that have it.
fn cluster(replicas: usize) -> (Postgres, Vec<Postgres>) {
    let primary = Postgres::start(30);
    let made = "CREATE TABLE t (n BIGINT PRIMARY KEY); ALTER TABLE t OWNER TO soloist; \
         GRANT pg_monitor TO soloist;";
    primary.psql(made);
    let replicas: Vec<_> = (0..replicas).map(|_| primary.replica()).collect();
    (primary, replicas)
}

fn options(primary: &Postgres, replicas: &[Postgres]) -> DbOptions {
    let ms = Duration::from_millis;
    let options = DbOptions::new(primary.url()).open_max(4).lag_max(ms(1_500));
    let options = options.query_max(ms(1_500)).acquire_max(ms(1_000)).connect_max(ms(500));
    replicas.iter().fold(options, |it, replica| it.replica(replica.url()))
}

async fn port(db: &Db<Pg>) -> Result<i32> {
    Ok(sqlx::query_scalar(PORT).fetch_one(db).await?)
}

async fn insert(db: &Db<Pg>, n: i64) -> Result<i32> {
    let insert = "INSERT INTO t VALUES ($1) RETURNING inet_server_port()";
    Ok(sqlx::query_scalar(insert).bind(n).fetch_one(db).await?)
}

fn serve(options: DbOptions) -> TestServer {
    TestServer::start(1, async move |shard: Shard| {
        let app = App::new(shard.db::<Pg>(options).await?)
            .get("/read", async |cx| cx.json(&port(&cx.db(cx.state())).await?))
            .get("/plain", async |cx| cx.json(&port(cx.state()).await?))
            .get("/replica", async |cx| cx.json(&port(&cx.state().replica()).await?))
            .get("/primary", async |cx| cx.json(&port(&cx.db(cx.state()).primary()).await?))
            .get("/write/:n", async |cx| {
                let db = cx.db(cx.state());
                let before = port(&db).await?;
                let write = insert(&db, cx.param("n")?).await?;
                // What follows is asked of another handle of the same request.
                let after = port(&cx.db(cx.state())).await?;
                let now = port(&cx.state().replica()).await?;
                cx.json(&[before, write, after, now])
            })
            .get("/transaction", async |cx| {
                let mut tx = cx.db(cx.state()).begin().await?;
                let within: i32 = sqlx::query_scalar(PORT).fetch_one(&mut *tx).await?;
                tx.commit().await?;
                cx.json(&[within, port(&cx.db(cx.state())).await?])
            })
            .get("/acquire", async |cx| {
                let db = cx.db(cx.state());
                let mut conn = db.acquire().await?;
                let its: i32 = sqlx::query_scalar(PORT).fetch_one(&mut conn).await?;
                cx.json(&[its, port(&db).await?])
            })
            .get("/lock", async |cx| {
                let db = cx.db(cx.state());
                let locked = "SELECT inet_server_port() FROM t FOR UPDATE";
                let rows: Vec<i32> = sqlx::query_scalar(locked).fetch_all(&db).await?;
                cx.json(&[rows[0], port(&db).await?])
            })
            .get("/slow", async |cx| {
                let slow = "SELECT inet_server_port() FROM pg_sleep(0.5)";
                cx.json(&sqlx::query_scalar::<_, i32>(slow).fetch_one(&cx.db(cx.state())).await?)
            })
            .get("/max", async |cx| {
                let max = sqlx::query_scalar::<_, Option<i64>>("SELECT max(n) FROM t");
                cx.json(&max.fetch_one(&cx.db(cx.state())).await?)
            })
            .get("/stats", async |cx| cx.json(&cx.state().stats_everywhere()));
        Ok(app)
    })
}

/// Waits until something is so, which servers and looks at them bring about.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_millis(10)); // they have their say
    }
}

fn stats(server: &TestServer) -> Value {
    server.get("/stats").expect(200).json()
}

/// Until the looks at servers have shown this of one of them.
#[track_caller]
fn until_stats(server: &TestServer, at: usize, name: &str, value: impl Into<Value>) {
    let value = value.into();
    until(&format!("{name} of {at} is {value}"), || stats(server)["servers"][at][name] == value);
}

/// Who answered: the place of its port.
#[track_caller]
fn who<const N: usize>(server: &TestServer, path: &str, of: &[&Postgres]) -> [usize; N] {
    let answer = server.get(path).expect(200);
    let ports: Vec<u16> = match answer.json::<Value>() {
        Value::Array(ports) => ports.iter().map(|it| it.as_u64().expect("a port") as u16).collect(),
        port => vec![port.as_u64().expect("a port") as u16],
    };
    let at = |port: &u16| of.iter().position(|it| it.port() == *port).expect("one of them");
    ports.iter().map(at).collect::<Vec<_>>().try_into().expect("as many as are asked for")
}

/// Who has a slow read, and who gets those that come meanwhile: whoever is the least busy.
#[track_caller]
fn two_at_once(server: &TestServer, all: &[&Postgres]) -> [usize; 2] {
    let is_busy = |at: usize| stats(server)["servers"][at]["in_use"] == 1;
    let (slow, others) = thread::scope(|scope| {
        let slow = scope.spawn(|| who::<1>(server, "/slow", all)[0]);
        until("one is busy", || is_busy(1) || is_busy(2));
        let others: HashSet<usize> = (0..5).map(|_| who::<1>(server, "/read", all)[0]).collect();
        (slow.join().expect("one of them"), others)
    });
    assert_eq!(others.len(), 1, "always the other one: {others:?}");
    let mut two = [slow, others.into_iter().next().expect("one")];
    two.sort_unstable();
    two
}

/// Nobody holds a connection of any of them, and each lease is one that is open.
fn leases_add_up(server: &TestServer) {
    until("all have come back", || {
        let stats = stats(server);
        let servers = stats["servers"].as_array().expect("servers");
        servers.iter().all(|it| it["leases"] == it["open"] && it["in_use"] == 0)
    });
}

#[test]
fn reads_go_to_replicas_and_what_follows_a_write_to_the_primary() {
    let (primary, replicas) = cluster(2);
    let all = [&primary, &replicas[0], &replicas[1]];
    let server = serve(options(&primary, &replicas));
    // They were looked at before the first request.
    for _ in 0..5 {
        let [read] = who(&server, "/read", &all);
        assert!(read > 0, "a replica");
        assert_eq!(who(&server, "/plain", &all), [0]);
        assert_eq!(who(&server, "/primary", &all), [0]);
        let [replica] = who(&server, "/replica", &all);
        assert!(replica > 0);
    }
    for n in 0..5 {
        let [before, write, after, override_] = who(&server, &format!("/write/{n}"), &all);
        assert!(before > 0 && override_ > 0, "a replica, before the write and by its name");
        assert_eq!([write, after], [0, 0]);
    }
    for path in ["/transaction", "/acquire", "/lock"] {
        assert_eq!(who(&server, path, &all), [0, 0], "{path}");
    }
    assert_eq!(two_at_once(&server, &all), [1, 2]);
    let stats = stats(&server);
    for at in 0..3 {
        let its = &stats["servers"][at];
        let address = format!("postgres://127.0.0.1:{}/soloist", all[at].port());
        assert_eq!(its["address"], address.as_str());
        assert_eq!((&its["is_primary"], &its["answers"]), (&(at == 0).into(), &true.into()));
        assert_eq!((&its["gets_reads"], &its["timeline"]), (&(at > 0).into(), &1.into()));
        assert!(its["queries"].as_u64() > Some(5) && its["query_p99_us"].as_u64() > Some(0));
    }
    assert_eq!(stats["elections"], 0);
    leases_add_up(&server);
}

#[test]
fn who_is_behind_gets_no_reads_until_it_has_caught_up() {
    let (primary, replicas) = cluster(2);
    let all = [&primary, &replicas[0], &replicas[1]];
    let server = serve(options(&primary, &replicas));
    let is_over = AtomicBool::new(false);
    let last = AtomicU64::new(0);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            for n in 1.. {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                server.get(&format!("/write/{n}")).expect(200);
                last.store(n, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20)); // a moderate load
            }
        });
        let is_fresh = || {
            let before = last.load(Ordering::SeqCst);
            let max = server.get("/max").expect(200).json::<Option<u64>>().unwrap_or(0);
            max + 100 >= before // 1.5 s and a look, at 50 a second
        };
        // It is sent changes, and shows none of them.
        replicas[0].pause_replay();
        until_stats(&server, 1, "gets_reads", false);
        for _ in 0..10 {
            assert_eq!(who(&server, "/read", &all), [2]);
            assert!(is_fresh());
        }
        // It is sent none, and says by its own word that it is not behind.
        let upstream = replicas[1].psql("SHOW primary_conninfo").trim().replace('\'', "''");
        let follow = |whom: &str| {
            replicas[1].psql(&format!("ALTER SYSTEM SET primary_conninfo = '{whom}'"));
            replicas[1].psql("SELECT pg_reload_conf()");
        };
        follow("host=127.0.0.1 port=1");
        until_stats(&server, 2, "gets_reads", false);
        assert!(stats(&server)["servers"][2]["lag_ms"].as_u64() > Some(1_500));
        for path in ["/read", "/replica"] {
            assert_eq!(who(&server, path, &all), [0], "there is no other: {path}");
        }
        replicas[0].resume_replay();
        until_stats(&server, 1, "gets_reads", true);
        for _ in 0..10 {
            assert_eq!(who(&server, "/read", &all), [1]);
            assert!(is_fresh());
        }
        follow(&upstream);
        until_stats(&server, 2, "gets_reads", true);
    });
    leases_add_up(&server);
}

/// Ends the loops of other threads, after a panic too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn who_is_dead_or_frozen_gets_no_reads_and_returns_by_itself() {
    let (primary, replicas) = cluster(2);
    let all = [&primary, &replicas[0], &replicas[1]];
    let server = serve(options(&primary, &replicas));
    for at in [1, 2] {
        for is_frozen in [false, true] {
            if is_frozen {
                all[at].freeze();
            } else {
                all[at].kill();
            }
            // What is under way ends with an error within its time; then all go elsewhere.
            let start = Instant::now();
            let mut failed = 0;
            while stats(&server)["servers"][at]["gets_reads"] == true {
                let start = Instant::now();
                let status = server.get("/read").status();
                assert!(matches!(status, 200 | 503), "{status}");
                failed += usize::from(status == 503);
                assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
                assert!(failed < 20, "{failed} reads have failed");
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
            for n in 0..10 {
                assert_eq!(who(&server, "/read", &all), [3 - at], "the other one");
                let n = at * 1_000 + usize::from(is_frozen) * 100 + n;
                let [_, write, after, _] = who(&server, &format!("/write/{n}"), &all);
                assert_eq!([write, after], [0, 0]);
            }
            until_stats(&server, at, "answers", false);
            if is_frozen {
                all[at].thaw();
            } else {
                all[at].restart();
            }
            until_stats(&server, at, "gets_reads", true);
            assert_eq!(two_at_once(&server, &all), [1, 2], "it is used again");
        }
    }
    // Both are gone: the primary has all.
    replicas.iter().for_each(Postgres::kill);
    until("nobody gets reads", || {
        (1..3).all(|at| stats(&server)["servers"][at]["gets_reads"] == false)
    });
    assert_eq!(who(&server, "/read", &all), [0]);
    replicas.iter().for_each(Postgres::restart);
    until("both get reads", || {
        (1..3).all(|at| stats(&server)["servers"][at]["gets_reads"] == true)
    });
    leases_add_up(&server);
}

#[test]
fn a_replica_that_is_promoted_takes_the_writes_and_the_old_primary_does_not() {
    let (primary, replicas) = cluster(1);
    let replica = &replicas[0];
    let all = [&primary, replica];
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.psql("SELECT pg_reload_conf()");
    let server = serve(options(&primary, &replicas));
    let (is_over, next) = (AtomicBool::new(false), AtomicU64::new(1));
    let ledger = Mutex::new(Vec::new());
    let acknowledged = || ledger.lock().expect("no panic").len();
    let goes_on = |what: &str| {
        let so_far = acknowledged();
        until(what, || acknowledged() > so_far + 20);
    };
    thread::scope(|scope| {
        let _over = Over(&is_over);
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    let start = Instant::now();
                    let answer = server.get(&format!("/write/{n}"));
                    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
                    match answer.status() {
                        200 => {
                            let by = answer.json::<[u16; 4]>()[1];
                            ledger.lock().expect("no panic").push((n, by));
                        }
                        503 => thread::sleep(Duration::from_millis(20)), // Retry-After
                        status => panic!("{status}: {}", String::from_utf8_lossy(answer.body())),
                    }
                }
            });
        }
        goes_on("writes are acknowledged");
        primary.kill();
        until_stats(&server, 0, "answers", false);
        assert_eq!(stats(&server)["elections"], 0, "nobody was promoted yet");
        replica.promote();
        goes_on("writes go on at the new primary");
        let now = stats(&server);
        assert_eq!(
            (&now["elections"], &now["servers"][1]["is_primary"]),
            (&1.into(), &true.into())
        );
        assert_eq!(now["servers"][1]["timeline"], 2);

        // The old one comes back as if nothing had happened.
        primary.restart();
        primary.psql("ALTER SYSTEM RESET synchronous_standby_names");
        primary.psql("SELECT pg_reload_conf()");
        until_stats(&server, 0, "answers", true);
        let stale = stats(&server);
        assert_eq!(stale["servers"][0]["is_primary"], false);
        assert_eq!(stale["servers"][0]["gets_reads"], false);
        let before = primary.psql("SELECT count(*), max(n) FROM t");
        goes_on("writes stay where they are");
        // Not even while the new one is away for a moment.
        replica.kill();
        until_stats(&server, 1, "answers", false);
        for _ in 0..50 {
            assert_eq!(server.get("/plain").status(), 503);
        }
        replica.restart();
        goes_on("writes come back with it");
        assert_eq!(primary.psql("SELECT count(*), max(n) FROM t"), before, "not one of them");

        // It follows the new one, is a replica as any other, and takes over in its turn.
        primary.follow(replica);
        until_stats(&server, 0, "gets_reads", true);
        assert_eq!(who(&server, "/read", &all), [0]);
        replica.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        replica.psql("SELECT pg_reload_conf()");
        goes_on("writes wait for both");
        replica.kill();
        primary.promote();
        goes_on("writes go on at the old primary");
        let now = stats(&server);
        assert_eq!(
            (&now["elections"], &now["servers"][0]["is_primary"]),
            (&2.into(), &true.into())
        );
        assert_eq!(now["servers"][0]["timeline"], 3);
    });
    let rows = primary.psql("SELECT n FROM t");
    let there: HashSet<u64> = rows.lines().map(|it| it.parse().expect("a number")).collect();
    let ledger = ledger.into_inner().expect("no panic");
    let lost: Vec<_> = ledger.iter().filter(|(n, _)| !there.contains(n)).collect();
    assert!(lost.is_empty(), "acknowledged, and not there: {lost:?} of {}", ledger.len());
    replica.restart(); // for its end
    leases_add_up(&server);
}

#[test]
fn a_start_finds_the_primary_wherever_it_is() {
    let (primary, replicas) = cluster(1);
    let replica = &replicas[0];
    let all = [&primary, replica];
    // The first is a replica.
    let reversed = || options(replica, &[]).replica(primary.url());
    let server = serve(reversed());
    assert_eq!((who(&server, "/plain", &all), who(&server, "/read", &all)), ([0], [1]));
    drop(server);
    // The first is gone, and the other has taken its place.
    primary.kill();
    replica.promote();
    let server = serve(options(&primary, &replicas));
    assert_eq!((who(&server, "/plain", &all), who(&server, "/read", &all)), ([1], [1]));
    drop(server);
    // Both say that they are the primary: the one that was promoted is.
    primary.restart();
    for options in [options(&primary, &replicas), reversed()] {
        let server = serve(options);
        assert_eq!((who(&server, "/plain", &all), who(&server, "/read", &all)), ([1], [1]));
    }
    // Nobody is there.
    replica.kill();
    primary.kill();
    let options = options(&primary, &replicas);
    let started = Server::bind("127.0.0.1:0")
        .unpinned(1)
        .start(async move |shard: Shard| Ok(App::new(shard.db::<Pg>(options).await?)));
    let text = started.map(drop).expect_err("nobody is there").to_string();
    assert!(text.contains(&format!("127.0.0.1:{}", primary.port())), "{text}");
    replica.restart();
    primary.restart();
}
