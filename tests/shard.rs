//! What a shard gives to those who live on it: time, tasks, threads for work that blocks, and the
//! way to its neighbours; and what a server says when it cannot be built.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::{TestClient, TestServer};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn bare(_: Shard) -> Result<App<()>> {
    Ok(App::new(()).get("/", async |cx| cx.text("up")))
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_never_early() {
    TestClient::run(bare, async |client| {
        let shard = client.shard();
        let log = Rc::new(RefCell::new(Vec::new()));
        for length in [30, 10, 20, 70_000, 10] {
            let (here, log) = (shard.clone(), log.clone());
            shard.spawn(async move {
                here.sleep(ms(length)).await;
                log.borrow_mut().push((length, here.now_ms()));
            });
        }
        client.advance(ms(70_001)).await;
        let seen = [(10, 10), (10, 10), (20, 20), (30, 30), (70_000, 70_000)];
        assert_eq!(*log.borrow(), seen);
    });
}

#[test]
fn a_timeout_drops_what_is_late_and_an_interval_skips_what_it_missed() {
    TestClient::run(bare, async |client| {
        let shard = client.shard();
        assert!(shard.timeout(ms(50), shard.sleep(ms(60))).await.is_err());
        assert_eq!(shard.now_ms(), 50);
        assert!(shard.timeout(ms(50), shard.sleep(ms(40))).await.is_ok());
        let mut interval = shard.interval(ms(100)); // at 90: 190, 290, ...
        interval.tick().await;
        assert_eq!(shard.now_ms(), 190);
        shard.sleep(ms(250)).await; // 440: the round of 290 is late, that of 390 missed
        interval.tick().await;
        assert_eq!(shard.now_ms(), 440);
        interval.tick().await;
        assert_eq!(shard.now_ms(), 490);
    });
}

#[test]
fn tasks_end_by_themselves_by_abort_and_by_panic_alone() {
    TestClient::run(bare, async |client| {
        let shard = client.shard();
        let log = Rc::new(RefCell::new(Vec::new()));
        let note = |name: &'static str| {
            let (here, log) = (shard.clone(), log.clone());
            shard.spawn(async move {
                here.sleep(ms(10)).await;
                assert!(name != "panics", "on purpose");
                log.borrow_mut().push(name);
            })
        };
        note("ends");
        note("aborted").abort();
        note("panics");
        note("last");
        client.advance(ms(20)).await;
        assert_eq!(*log.borrow(), ["ends", "last"]);
        client.get("/").await.expect(200).text("up");
    });
}

#[test]
fn blocking_work_comes_back_and_its_panic_is_an_error() {
    TestClient::run(bare, async |client| {
        let shard = client.shard();
        let here = std::thread::current().id();
        let there = shard.blocking(|| std::thread::current().id()).await.expect("a thread");
        assert_ne!(here, there);
        let error = shard.blocking(|| panic!("on purpose")).await.expect_err("a panic");
        assert_eq!(error.status(), 500);
    });
}

#[test]
fn shards_answer_each_other_and_the_one_who_embeds_them() {
    let build = async |shard: Shard| {
        let (id, count) = (shard.id(), shard.count());
        Ok(App::new(()).get("/", async move |cx| {
            let there = cx.ping((id + 1) % count).await.is_some();
            let nowhere = cx.ping(count).await.is_none() && cx.ping(id).await.is_some();
            let each = cx.stats_each().await.len();
            cx.text(format!("{there} {nowhere} {each}"))
        }))
    };
    let server = TestServer::start(3, build);
    let answer = server.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.ends_with("\r\n\r\ntrue true 3"), "{answer}");
    let running = server.into_running();
    let all = running.stats();
    assert_eq!(all.len(), 3);
    assert_eq!(all.iter().map(|stats| stats.get("requests")).sum::<u64>(), 1);
    running.stop_now();
    // Asked while shards end, or after: an answer or none, never a wait without end.
    while !running.stats().is_empty() {}
    running.join().expect("a clean end");
}

#[test]
fn a_server_that_cannot_be_built_says_why_and_is_gone() {
    let start = |which: &'static str| {
        let build = async move |shard: Shard| {
            shard.sleep(ms(1)).await; // time goes on while an application is built
            match which {
                "error" if shard.id() == 1 => Err(Error::new(500, "no database")),
                "panic" if shard.id() == 1 => panic!("on purpose"),
                "routes" => {
                    let app = App::new(()).get("/a/:b", async |cx| cx.text("b"));
                    Ok(app.get("/a/:c", async |cx| cx.text("c")).get("x", async |cx| cx.empty()))
                }
                _ => Ok(App::new(())),
            }
        };
        let started = Server::bind("127.0.0.1:0").unpinned(2).start(build);
        started.expect_err("it cannot be built").message().to_owned()
    };
    assert!(start("error").contains("no database"));
    assert!(start("panic").contains("panicked while it was built"));
    let routes = start("routes");
    assert!(routes.contains("GET /a/:c") && routes.contains("GET /a/:b"), "{routes}");
    assert_eq!(routes.matches("tests/shard.rs:").count(), 3, "every line by name: {routes}");
    assert!(routes.contains("a path begins with a slash"), "{routes}");
    let limits = Limits { head_bytes_max: 1 << 20, ..Limits::default() };
    let error = Server::bind("127.0.0.1:0").unpinned(1).limits(limits).start(bare);
    assert!(error.expect_err("over the ceiling").message().contains("head_bytes_max"));
}
