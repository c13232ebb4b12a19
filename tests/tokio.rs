//! Crates made for tokio in handlers: a tokio runtime that every shard turns itself.

use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::testing::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers by asking itself: the address of the other server is in the path.
async fn app(_: Shard) -> Result<App<reqwest::Client>> {
    Ok(App::new(reqwest::Client::new())
        .get("/up", async |cx| cx.text("up"))
        .get("/slow", async |cx| {
            cx.sleep(Duration::from_millis(5)).await;
            cx.text("slow")
        })
        .get("/big", async |cx| cx.bytes("text/plain", vec![b'x'; 1 << 20]))
        .get("/fetch/:port/:page", fetch)
        .get("/fetch-many/:port/:page", fetch_many)
        .get("/timer/:ms", async |cx| {
            let (start, ms) = (Instant::now(), cx.param("ms")?);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            cx.json(&(start.elapsed() >= Duration::from_millis(ms)))
        })
        .get("/timeout", async |cx| {
            let never = std::future::pending::<()>();
            let late = tokio::time::timeout(Duration::from_millis(10), never).await;
            cx.json(&late.is_err())
        })
        .get("/spawn", spawn)
        .get("/blocking", async |cx| cx.json(&tokio::task::spawn_blocking(|| 7).await?))
        .get("/panic", async |cx| {
            let panicked = tokio::spawn(async { panic!("on purpose") }).await;
            cx.json(&panicked.is_err_and(|error| error.is_panic()))
        })
        .get("/echo", echo)
        .get("/alone", alone))
}

async fn fetch(cx: &Ctx<reqwest::Client>) -> Result<Reply> {
    let (port, page): (u16, &str) = (cx.param("port")?, cx.param("page")?);
    let answer = cx.state().get(format!("http://127.0.0.1:{port}/{page}")).send().await?;
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await?;
    cx.json(&(status, bytes.len()))
}

async fn fetch_many(cx: &Ctx<reqwest::Client>) -> Result<Reply> {
    let (port, page): (u16, &str) = (cx.param("port")?, cx.param("page")?);
    let url = format!("http://127.0.0.1:{port}/{page}");
    let fetch = |_| {
        let answer = cx.state().get(&url).send();
        tokio::spawn(async move { answer.await?.bytes().await.map(|bytes| bytes.len()) })
    };
    let all: Vec<_> = (0..200).map(fetch).collect();
    let mut bytes = 0;
    for one in all {
        bytes += one.await??;
    }
    cx.json(&bytes)
}

/// Tasks that wake each other, more than one turn polls.
async fn spawn(cx: &Ctx<reqwest::Client>) -> Result<Reply> {
    let (first, mut from) = tokio::sync::mpsc::channel(1);
    for _ in 0..300 {
        let (into, next) = tokio::sync::mpsc::channel(1);
        let mut from = std::mem::replace(&mut from, next);
        tokio::spawn(async move {
            while let Some(n) = from.recv().await {
                tokio::task::yield_now().await;
                if into.send(n + 1).await.is_err() {
                    return;
                }
            }
        });
    }
    let sender = tokio::spawn(async move {
        for n in 0..10 {
            let _ = first.send(n).await;
        }
    });
    let mut sum = 0;
    while let Some(n) = from.recv().await {
        sum += n;
    }
    sender.await?;
    cx.json(&sum)
}

/// Both ends of a connection, in a handler and in a task.
async fn echo(cx: &Ctx<reqwest::Client>) -> Result<Reply> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await?;
        let (mut from, mut into) = socket.split();
        tokio::io::copy(&mut from, &mut into).await
    });
    let mut socket = TcpStream::connect(addr).await?;
    let mut back = [0; 4];
    for _ in 0..100 {
        socket.write_all(b"ping").await?;
        socket.read_exact(&mut back).await?;
    }
    cx.bytes("text/plain", back)
}

/// Tasks of tokio's that nobody on the shard waits for.
async fn alone(cx: &Ctx<reqwest::Client>) -> Result<Reply> {
    let (sender, receiver) = std::sync::mpsc::channel();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let _ = sender.send(());
    });
    while receiver.try_recv().is_err() {
        cx.sleep(Duration::from_millis(1)).await;
    }
    cx.empty()
}

fn get(server: &TestServer, path: &str) -> String {
    let answer = server.raw(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    format!("{} {body}", head.split(' ').nth(1).unwrap_or_default())
}

/// What is asked for, and what comes; `PORT` is that of a second server.
const TABLE: [(&str, &str); 13] = [
    ("/fetch/PORT/up", "200 [200,2]"),
    ("/fetch/PORT/slow", "200 [200,4]"),
    ("/fetch/PORT/big", "200 [200,1048576]"),
    ("/fetch/PORT/none", "200 [404,9]"),
    ("/fetch/1/up", "500 internal error"),
    ("/fetch-many/PORT/slow", "200 800"),
    ("/timer/1", "200 true"),
    ("/timer/60", "200 true"),
    ("/timeout", "200 true"),
    ("/spawn", "200 3045"),
    ("/blocking", "200 7"),
    ("/panic", "200 true"),
    ("/echo", "200 ping"),
];

#[test]
fn tokio_works_in_handlers() {
    let other = TestServer::start(1, app);
    let server = TestServer::start(2, app);
    let port = other.addr().port().to_string();
    for _ in 0..3 {
        for (path, want) in TABLE {
            let path = path.replace("PORT", &port);
            assert_eq!(get(&server, &path), want, "{path}");
        }
        assert_eq!(get(&server, "/alone"), "204 ");
    }
}

#[test]
fn many_at_once() {
    let server = TestServer::start(1, app);
    // Each request has the server ask itself: on one shard both sides share one thread.
    let port = server.addr().port().to_string();
    let clients = 8;
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (server, port) = (&server, &port);
            scope.spawn(move || {
                for (path, want) in TABLE.iter().cycle().skip(client).take(2 * TABLE.len()) {
                    let path = path.replace("PORT", port);
                    assert_eq!(get(server, &path), *want, "{path}");
                }
            });
        }
    });
}

#[test]
fn answers_of_a_fast_peer_do_not_wait_for_a_timer() {
    let (other, server) = (TestServer::start(1, app), TestServer::start(1, app));
    let path = format!("/fetch/{}/up", other.addr().port());
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..400 {
        let start = Instant::now();
        assert_eq!(get(&server, &path), "200 [200,2]");
        took.push(start.elapsed());
    }
    took.sort();
    // A wake that is lost costs 5 ms or more: one in twenty would be many.
    let late = took[took.len() * 19 / 20];
    assert!(late < Duration::from_millis(5), "{late:?}");
}

#[test]
fn a_server_ends_while_tokio_has_tasks() {
    let build = async |_: Shard| {
        tokio::spawn(std::future::pending::<()>());
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(1)));
        Ok(App::new(()))
    };
    let start = Instant::now();
    let running = Server::bind("127.0.0.1:0").unpinned(2).start(build).expect("it starts");
    running.stop();
    running.join().expect("a clean end");
    assert!(start.elapsed() < Duration::from_millis(900), "it does not wait for threads");
}
