//! What shards do for each other: calls, values made once for all, the start and the end.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::{TestClient, TestServer};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn bare(_: Shard) -> Result<App<()>> {
    Ok(App::new(()).get("/", async |cx| cx.text("up")))
}

fn get(server: &TestServer, path: &str) -> String {
    let answer = server.raw(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    format!("{} {body}", head.split(' ').nth(1).unwrap_or_default())
}

/// A future that has been polled once, or what it gave at once.
async fn once_polled<'a, T>(
    future: impl Future<Output = T> + 'a,
) -> Result<Pin<Box<dyn Future<Output = T> + 'a>>, T> {
    let mut future: Pin<Box<dyn Future<Output = T> + 'a>> = Box::pin(future);
    let first = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    match first {
        Poll::Ready(ended) => Err(ended),
        Poll::Pending => Ok(future),
    }
}

/// Status and the whole text of an error.
fn told<T>(result: Result<T>) -> (u16, String) {
    match result {
        Ok(_) => (200, String::new()),
        Err(error) => (error.status(), error.to_string()),
    }
}

#[track_caller]
fn is(got: (u16, String), status: u16, part: &str) {
    assert!(got.0 == status && got.1.contains(part), "{got:?}, not {status} {part}");
}

#[test]
fn in_memory_a_shard_calls_itself() {
    TestClient::run(bare, async |client| {
        let shard = client.shard();
        assert_eq!(shard.on(0, async |there| Ok(there.id())).await.expect("done"), 0);
        let slow = async |there: Shard| {
            there.sleep(ms(20)).await; // virtual time: the clock below says that it went by
            Ok(there.count())
        };
        assert_eq!(shard.on_all(slow).await.expect("done"), [1]);
        let closure = |there: Shard| async move { Ok(there.now_ms()) };
        assert_eq!(shard.on(0, closure).await.expect("done"), 20);

        let failing = shard.on(0, async |_| Err::<(), _>(Error::not_found()));
        is(told(failing.await), 404, "shard 0: 404 not found");
        let failing = shard.on(0, async |_| Ok("x".parse::<u8>()?));
        is(told(failing.await), 500, "shard 0: 500 internal error: invalid digit");
        let panicking = shard.on(0, async |_| -> Result<()> { panic!("on purpose") });
        is(told(panicking.await), 500, "shard 0 panicked: on purpose");
        let panicking = shard.on_all(|_| -> std::future::Ready<Result<()>> { panic!("early") });
        is(told(panicking.await), 500, "panicked: early");
        is(told(shard.on(1, async |_| Ok(())).await), 500, "no shard 1: they are 0 to 0");

        let before = shard.now_ms();
        let stuck = shard.on(0, async |_| pending::<Result<()>>().await);
        is(told(stuck.await), 503, "shard 0 took longer than 5000 ms");
        let stuck = shard.on_all_within(ms(30), async |_| pending::<Result<()>>().await);
        is(told(stuck.await), 503, "took longer than 30 ms");
        assert_eq!(shard.now_ms() - before, 5_030);
    });
}

#[test]
fn a_call_that_is_dropped_drops_its_work() {
    struct Bell(Arc<AtomicUsize>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    TestClient::run(bare, async |client| {
        let (shard, dropped) = (client.shard(), Arc::new(AtomicUsize::new(0)));
        let stuck = || {
            let bell = Bell(dropped.clone());
            shard.on(0, async move |_| {
                let _bell = bell;
                pending::<Result<()>>().await
            })
        };
        drop(stuck());
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "never begun");
        for (nth, longest) in [(2, 0), (3, 50)] {
            assert!(shard.timeout(ms(longest), stuck()).await.is_err());
            client.advance(ms(1)).await;
            assert_eq!(dropped.load(Ordering::SeqCst), nth, "dropped after {longest} ms");
        }
    });
}

#[test]
fn a_shard_takes_as_many_tasks_as_it_may() {
    let limits = Limits { tasks_max: 2, ..Limits::default() };
    TestClient::run_with(limits, bare, async |client| {
        let shard = client.shard();
        let first = shard.spawn(pending());
        let second = shard.spawn(pending());
        let ran = Rc::new(Cell::new(false));
        let third = shard.spawn({
            let ran = ran.clone();
            async move { ran.set(true) }
        });
        assert!(third.is_finished() && !first.is_finished());
        third.ended().await;
        third.abort();
        is(told(shard.on(0, async |_| Ok(())).await), 503, "tasks_max");
        assert_eq!(shard.stats().get("tasks_refused"), 2);
        client.get("/").await.expect(200); // connections are not counted
        second.abort();
        assert!(shard.on(0, async |_| Ok(())).await.is_ok());
        let ended = shard.spawn(async {});
        ended.ended().await;
        assert!(ended.is_finished() && !ran.get());
    });
}

#[test]
fn loops_end_by_themselves_and_on_stop_awaits_them() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let app = async |shard: Shard| {
        let note = {
            let (shard, log) = (shard.clone(), log.clone());
            move |what| log.borrow_mut().push((what, shard.now_ms()))
        };
        let mut interval = shard.interval(ms(100));
        let (here, noted) = (shard.clone(), note.clone());
        let flusher = shard.spawn(async move {
            while here.until_stop(interval.tick()).await.is_some() {
                noted("round");
            }
            here.sleep(ms(30)).await; // virtual time: work that the stop must wait for
            noted("last");
        });
        let (here, noted) = (shard.clone(), note.clone());
        shard.spawn(async move {
            drop(here.stopping()); // never polled
            here.stopping().await;
            here.stopping().await; // at once
            noted("told");
        });
        Ok(App::new(()).on_stop(async move || {
            flusher.ended().await;
            note("stopped");
        }))
    };
    TestClient::run(app, async |client| {
        client.advance(ms(250)).await;
        assert!(!client.shard().is_stopping());
        client.stop().await;
        assert!(client.shard().is_stopping());
    });
    let seen = [("round", 100), ("round", 200), ("told", 250), ("last", 280), ("stopped", 280)];
    assert_eq!(*log.borrow(), seen);
}

#[test]
fn what_is_put_on_a_shard_is_found_there() {
    let app = async |shard: Shard| {
        shard.put(7_u8);
        shard.put(8_u8);
        Ok(App::new(Own::new(vec!["built"])))
    };
    TestClient::run(app, async |client| {
        let shard = client.shard();
        assert_eq!(shard.got::<u8>().as_deref(), Some(&8));
        assert_eq!(shard.got::<u16>(), None);
        let state = shard.got::<Own<Vec<&str>>>().expect("the state of the application");
        assert_eq!(state.take(), ["built"]);
    });
}

#[test]
fn one_makes_it_and_the_others_wait() {
    TestClient::run(bare, async |client| {
        let (shard, made) = (client.shard(), Rc::new(Cell::new(0)));
        let log = Rc::new(RefCell::new(Vec::new()));
        let ask = |name: &'static str, gives: Result<u32, &'static str>| {
            let (here, made, log) = (shard.clone(), made.clone(), log.clone());
            shard.spawn(async move {
                let make = async || {
                    made.set(made.get() + 1);
                    here.sleep(ms(10)).await; // virtual time: the second asks meanwhile
                    Ok(gives?)
                };
                let got = here.once(name, make).await;
                log.borrow_mut().push(got.map_err(|error| error.to_string()));
            })
        };
        // Those who wait get the error of the one who made it; the next one tries again.
        [Err("down"), Ok(1), Ok(2)].into_iter().for_each(|gives| drop(ask("a", gives)));
        client.advance(ms(11)).await;
        let text = "500 internal error: ";
        let waiting = Err(format!("{text}a: {text}down"));
        assert_eq!(log.take(), [Err(format!("{text}down")), waiting.clone(), waiting]);
        [Ok(3), Err("late")].into_iter().for_each(|gives| drop(ask("a", gives)));
        client.advance(ms(11)).await;
        ask("a", Ok(4));
        client.advance(ms(1)).await;
        assert_eq!(log.take(), [Ok(3), Ok(3), Ok(3)]);
        assert_eq!(made.get(), 2);
        // One that is dropped half-way leaves it to another.
        let first = ask("b", Ok(5));
        [Ok(6), Ok(7)].into_iter().for_each(|gives| drop(ask("b", gives)));
        client.advance(ms(5)).await;
        first.abort();
        client.advance(ms(11)).await;
        assert_eq!(log.take(), [Ok(6), Ok(6)]);
        assert_eq!(made.get(), 4);
        // Another type of the same name is another value.
        assert_eq!(shard.once("a", async || Ok("text")).await.expect("made"), "text");
    });
}

#[test]
fn shards_work_for_each_other() {
    let build = async |shard: Shard| {
        let id = shard.id();
        Ok(App::new(Cell::new(id * 10))
            .get("/on/:to", async |cx| {
                let (to, from) = (cx.param("to")?, cx.shard().id());
                let work = async move |there: Shard| {
                    there.sleep(ms(1)).await; // so that it answers in another turn than it began
                    let state = there.got::<Cell<usize>>().ok_or("no state")?;
                    state.set(state.get() + 1);
                    Ok((there.id(), state.get(), from))
                };
                let (id, state, back) = cx.shard().on(to, work).await?;
                cx.text(format!("{id} {state} {}", back == cx.shard().id()))
            })
            .get("/all", async |cx| {
                let work = async |there: Shard| Ok(there.got::<Cell<usize>>().map(|it| it.get()));
                cx.json(&cx.shard().on_all(work).await?)
            })
            .get("/some", async |cx| {
                let work = async |there: Shard| match there.id() {
                    1 => Err(Error::new(418, "one fails").set("retry-after", "7")),
                    id => Ok(id),
                };
                let failed = cx.shard().on_all(work).await;
                cx.text(format!("{:?}", failed.map_err(|error| error.to_string())))
            })
            .get("/panic", async |cx| {
                let last = cx.shard().count() - 1;
                let work = async |_| -> Result<()> { panic!("on purpose") };
                let failed = cx.shard().on(last, work).await;
                cx.text(failed.expect_err("a panic").to_string())
            })
            .get("/flood", async |cx| {
                // More than the queue holds, while the other shard is held up.
                let shard = cx.shard();
                let to = (shard.id() + 1) % shard.count();
                let held = Arc::new(AtomicUsize::new(0));
                let hold = held.clone();
                let holding = once_polled(shard.on(to, async move |_| {
                    hold.store(1, Ordering::SeqCst);
                    while hold.load(Ordering::SeqCst) == 1 {
                        std::thread::yield_now();
                    }
                    Ok(())
                }));
                let holding = holding.await.map_err(|_| "it has ended")?;
                while held.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                let (mut full, mut calls) = (0, Vec::new());
                for _ in 0..3_000 {
                    match once_polled(shard.on(to, async |_| Ok(()))).await {
                        Err(Err(error)) if error.status() == 503 => full += 1,
                        Err(ended) => ended?,
                        Ok(call) => calls.push(call),
                    }
                }
                held.store(2, Ordering::SeqCst);
                holding.await?;
                let sent = calls.len();
                for call in calls {
                    call.await?;
                }
                cx.text(format!("{sent} sent, {full} refused"))
            }))
    };
    let server = TestServer::start(3, build);
    for to in 0..3 {
        assert_eq!(get(&server, &format!("/on/{to}")), format!("200 {to} {} true", to * 10 + 1));
    }
    assert_eq!(get(&server, "/on/3"), "500 internal error");
    assert_eq!(get(&server, "/all"), "200 [1,11,21]");
    let text = get(&server, "/some");
    assert_eq!(text, "200 Err(\"418 one fails: shard 1: 418 one fails\")");
    let text = get(&server, "/panic");
    assert_eq!(text, "200 500 internal error: shard 2 panicked: on purpose");
    assert_eq!(get(&server, "/flood"), "200 1024 sent, 1976 refused");
    assert_eq!(get(&server, "/all"), "200 [1,11,21]", "all are alive");
}

#[test]
fn a_value_is_made_once_for_all_shards_of_a_server() {
    let made = Arc::new(AtomicUsize::new(0));
    let build = {
        let made = made.clone();
        async move |shard: Shard| {
            let config = shard.once("config", async || {
                shard.sleep(ms(20)).await; // so that the other shards ask while it is made
                Ok(Arc::new(made.fetch_add(1, Ordering::SeqCst) + 40))
            });
            let state = config.await?;
            Ok(App::new(state).get("/all", async |cx| {
                let work = async |there: Shard| Ok(there.got::<Arc<usize>>().map(|it| **it));
                cx.json(&cx.shard().on_all(work).await?)
            }))
        }
    };
    for nth in [40, 41] {
        let server = TestServer::start(3, build.clone());
        assert_eq!(get(&server, "/all"), format!("200 [{nth},{nth},{nth}]"));
    }
    assert_eq!(made.load(Ordering::SeqCst), 2, "once a server");

    let failing = async |shard: Shard| {
        shard.once("config", async || Err::<(), _>(Error::new(500, "no such file"))).await?;
        Ok(App::new(()))
    };
    let failed = Server::bind("127.0.0.1:0").unpinned(3).start(failing);
    is(told(failed), 500, "no such file");
}

#[test]
fn on_start_runs_when_all_are_built_and_fails_the_start() {
    let start = |what: &'static str, said: mpsc::Sender<String>| {
        let build = async move |shard: Shard| {
            shard.sleep(ms(10 * shard.id() as u64)).await;
            let (first, second) = (said.clone(), said.clone());
            let app = App::new(shard.id()).get("/", async |cx| cx.text("up"));
            let id = shard.id();
            Ok(app
                .on_start(async move || {
                    let built = shard.on_all(async |it| Ok(it.got::<usize>().is_some())).await?;
                    first.send(format!("{id} first {built:?}"))?;
                    match what {
                        "error" if id == 1 => Err(Error::new(500, "no peer")),
                        "panic" if id == 1 => panic!("on purpose"),
                        _ => Ok(()),
                    }
                })
                .on_start(async move || Ok(second.send(format!("{id} second"))?)))
        };
        Server::bind("127.0.0.1:0").unpinned(2).start(build)
    };
    let (said, heard) = mpsc::channel();
    let running = start("", said).expect("it starts");
    let mut heard: Vec<String> = heard.try_iter().collect();
    heard.sort();
    let each = ["0 first [true, true]", "0 second", "1 first [true, true]", "1 second"];
    assert_eq!(heard, each, "over before the start returns");
    running.stop();
    running.join().expect("a clean end");
    for (what, text) in [("error", "no peer"), ("panic", "a shard panicked while it was started")] {
        is(told(start(what, mpsc::channel().0)), 500, text);
    }
}

#[test]
fn the_end_of_a_shard_ends_the_calls_to_it() {
    // Shard 1 ends as soon as it is told to; shard 0 is held up, and asks it.
    let (said, heard) = mpsc::channel();
    let build = async move |shard: Shard| {
        let said = said.clone();
        let here = shard.clone();
        let app = App::new(()).on_start(async move || {
            if here.id() == 0 {
                let asked = here.clone();
                let stuck = async |_| pending::<Result<()>>().await;
                here.spawn(async move {
                    let ended = asked.on_within(Duration::from_secs(60), 1, stuck).await;
                    let _ = said.send(told(ended));
                    let gone = asked.on(1, async |_| Ok(())).await;
                    let _ = said.send(told(gone));
                });
            }
            Ok(())
        });
        let id = shard.id();
        Ok(app.on_stop(async move || {
            // Until the task above has heard, or the grace is over.
            if id == 0 {
                shard.sleep(Duration::from_secs(2)).await;
            }
        }))
    };
    let running = Server::bind("127.0.0.1:0").unpinned(2).start(build).expect("it starts");
    running.stop();
    for _ in 0..2 {
        is(heard.recv_timeout(Duration::from_secs(20)).expect("an end"), 503, "shard 1 has ended");
    }
    running.stop_now();
    running.join().expect("a clean end");
}

#[test]
fn blocking_work_is_told_when_nobody_waits() {
    TestClient::run(bare, async |client| {
        let shard = client.shard();
        let done = shard.blocking_with(|cancel| cancel.is_cancelled()).await;
        assert!(!done.expect("it ran"), "awaited: not cancelled");
    });
    // On the real clock, where the work has begun when the future is dropped.
    let (said, heard) = mpsc::channel();
    let build = async move |shard: Shard| {
        let (began, begun) = mpsc::channel();
        let said = said.clone();
        let work = shard.blocking_with(move |cancel| {
            began.send(()).expect("heard");
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            said.send("cancelled").expect("heard");
        });
        let mut work = Box::pin(work);
        loop {
            assert!(shard.timeout(ms(5), work.as_mut()).await.is_err());
            if begun.try_recv().is_ok() {
                break;
            }
        }
        drop(work);
        Ok(App::new(()))
    };
    let _server = TestServer::start(1, build);
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok("cancelled"));
}

#[test]
fn a_held_shard_delays_and_refuses_calls_and_nothing_else() {
    let build = async |_: Shard| {
        let nap = Duration::from_millis(20);
        Ok(App::new(())
            .get("/id", async |cx| cx.text(cx.shard().id().to_string()))
            .get("/call", async move |cx| {
                let shard = cx.shard();
                cx.json(&shard.on_within(nap, 1, async |it| Ok(it.id())).await?)
            })
            .get("/calls", async |cx| {
                let shard = cx.shard();
                let mut calls = Vec::new();
                let refused = loop {
                    match once_polled(shard.on(1, async |_| Ok(()))).await {
                        Err(ended) => break ended,
                        Ok(call) => calls.push(call),
                    }
                };
                let status = refused.err().map_or(200, |error| error.status());
                cx.text(format!("{status} after {}", calls.len()))
            }))
    };
    let server = TestServer::start(2, build);
    // A connection stays where it landed: one that is on the first shard.
    let on_first = (0..200).find_map(|_| {
        let mut socket = TcpStream::connect(server.addr()).ok()?;
        (ask(&mut socket, "/id") == "200 0").then_some(socket)
    });
    let mut socket = on_first.expect("a connection to the first shard");
    assert_eq!(ask(&mut socket, "/call"), "200 1");
    let held = server.hold(1);
    assert_eq!(ask(&mut socket, "/id"), "200 0");
    assert!(ask(&mut socket, "/call").starts_with("503 "), "its time is over");
    // The call that ran into its limit lies there still.
    assert_eq!(ask(&mut socket, "/calls"), "200 503 after 1023");
    drop(held);
    let start = std::time::Instant::now();
    while ask(&mut socket, "/call") != "200 1" {
        assert!(start.elapsed() < Duration::from_secs(5), "it goes on");
    }
}

/// Status and body of an answer with a length, on a connection that stays.
fn ask(socket: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("a request");
    let mut out = String::new();
    loop {
        let mut bytes = [0; 1024];
        let count = socket.read(&mut bytes).expect("an answer");
        assert!(count > 0, "closed after {out:?}");
        out += str::from_utf8(&bytes[..count]).expect("text");
        let Some((head, body)) = out.split_once("\r\n\r\n") else { continue };
        let length =
            head.split_once("content-length: ").and_then(|(_, it)| it.split("\r\n").next());
        if length == Some(&body.len().to_string()) {
            return format!("{} {body}", head.split(' ').nth(1).unwrap_or_default());
        }
    }
}
