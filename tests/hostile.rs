//! Bad input, slow clients and broken ones: a clear refusal, the cost on their own connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::{TestClient, TestServer};

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .get("/", async |cx| cx.text("hello"))
        .post("/", async |cx| {
            let length = cx.body().await?.len();
            cx.text(length.to_string())
        })
        .get("/never", async |cx| {
            std::future::pending::<()>().await;
            cx.text("never")
        })
        .get("/big", big)
        .get("/bytes/:n", async |cx| cx.bytes("text/plain", vec![b'x'; cx.param("n")?])))
}

async fn big(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = cx.stream("text/plain").await?;
    for _ in 0..10_000 {
        out.write([b'x'; 16 * 1024]).await?;
    }
    out.finish().await
}

/// Heads and bodies that are refused, and with what.
const TABLE: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\nhost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
    ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nx", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nx", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nexpect: magic\r\n\r\n", 417),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\ng\r\n", 400),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;\x01\r\nx\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         fffffffffffffffff\r\nx",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\ncontent-length: 1\r\n\r\n",
        400,
    ),
    ("\x16\x03\x01\x02\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a", 400),
];

#[track_caller]
fn check_refused(out: &[u8], status: u16, request: &str) {
    let text = String::from_utf8_lossy(out);
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {request:?}\n{text}");
    assert!(text.contains("connection: close\r\n"), "{request:?}\n{text}");
    assert_eq!(text.matches("date: ").count(), 1, "one answer: {request:?}\n{text}");
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    assert!(!body.is_empty() && body.trim_end().lines().count() == 1, "{request:?}\n{text}");
}

#[test]
fn malformed_requests_are_refused_however_they_are_cut() {
    TestClient::run(app, async |client| {
        for (request, status) in TABLE {
            let bytes = request.as_bytes();
            let whole = client.raw(&[bytes]).await;
            check_refused(&whole, *status, request);
            for at in 1..bytes.len() {
                let split = client.raw(&[&bytes[..at], &bytes[at..]]).await;
                assert_eq!(split, whole, "split at {at}: {request:?}");
            }
            // What was refused leaves nothing behind for the next one.
            client.get("/").await.expect(200).text("hello");
        }
    });
}

#[test]
fn limits_have_their_own_status() {
    let limits = Limits {
        target_bytes_max: 100,
        head_bytes_max: 400,
        fields_max: 5,
        body_bytes_max: 10,
        stream_bytes_max: 10,
        ..Limits::default()
    };
    let line = |target: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n", "x".repeat(target));
    let table = [
        (line(99) + "\r\n", 404),
        (line(101) + "\r\n", 414),
        (line(900) + "\r\n", 414),
        (line(0) + &"a: b\r\n".repeat(4) + "\r\n", 200),
        (line(0) + &"a: b\r\n".repeat(5) + "\r\n", 431),
        (line(0) + &format!("a: {}\r\n\r\n", "y".repeat(400)), 431),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n12345678901".into(), 413),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             b\r\n12345678901\r\n0\r\n\r\n"
                .into(),
            413,
        ),
    ];
    TestClient::run_with(limits, app, async |client| {
        for (request, status) in &table {
            let whole = client.raw(&[request.as_bytes()]).await;
            let text = String::from_utf8_lossy(&whole);
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status} ")),
                "{status}: {request}\n{text}"
            );
            let each: Vec<&[u8]> = request.as_bytes().chunks(1).collect();
            let split = client.raw(&each).await;
            assert_eq!(String::from_utf8_lossy(&split), text, "byte by byte: {request}");
        }
    });
}

#[test]
fn slow_clients_run_out_of_time() {
    TestClient::run(app, async |client| {
        let cases: [(&[u8], u64, &str); 4] = [
            (b"", 75_000, ""),
            (b"GET / HT", 10_000, "HTTP/1.1 408 "),
            (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12", 30_000, "HTTP/1.1 408 "),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 75_000, "HTTP/1.1 200 "),
        ];
        for (bytes, ms, answer) in cases {
            let start_ms = client.shard().now_ms();
            let out = client.raw_until_closed(bytes).await;
            let text = String::from_utf8_lossy(&out);
            assert!(text.starts_with(answer) && text.is_empty() == answer.is_empty(), "{text}");
            let took_ms = client.shard().now_ms() - start_ms;
            assert!((ms..ms + 100).contains(&took_ms), "{took_ms} ms for {bytes:?}");
        }
    });
}

#[test]
fn a_deadline_answers_for_a_handler_that_does_not() {
    let limits = Limits { request_ms_max: 500, ..Limits::default() };
    TestClient::run_with(limits, app, async |client| {
        client.get("/never").await.expect(503).text("took too long");
        client.get("/").await.expect(200);
    });
}

fn wait_for(server: &soloist::Running, what: &str, count: u64) {
    for _ in 0..2_000 {
        let all: u64 = server.stats().iter().map(|stats| stats.get(what)).sum();
        if all == count {
            return;
        }
        std::thread::sleep(Duration::from_millis(5)); // the kernel's clock is real here
    }
    panic!("{what} never came to {count}");
}

#[test]
fn clients_that_vanish_or_do_not_read_cost_nothing_but_themselves() {
    let limits = Limits { write_stall_ms_max: 300, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0").unpinned(1).limits(limits);
    let server = TestServer::start_with(server, app);
    let addr = server.addr();
    let ask = |path: &str| {
        let mut socket = TcpStream::connect(addr).expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("a request");
        socket
    };
    // One that does not read, and one whose handler never answers and that then resets.
    let deaf = ask("/big");
    let gone = ask("/never");
    let mut socket = ask("/");
    let mut answer = [0; 17];
    socket.read_exact(&mut answer).expect("an answer while others stall");
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n");
    drop(socket);
    let running = server.into_running();
    let linger = socket2::SockRef::from(&gone);
    linger.set_linger(Some(Duration::ZERO)).expect("RST on close");
    drop(gone);
    wait_for(&running, "write_stalled", 1);
    wait_for(&running, "requests_active", 0);
    wait_for(&running, "connections_open", 0);
    drop(deaf);
    running.stop();
    running.join().expect("a clean end");
}

#[test]
fn the_last_answer_is_whole_whatever_its_size_and_whatever_follows() {
    let server = TestServer::start(1, app);
    let ask = |n: usize, fields: &str, behind: &str| {
        let mut socket = TcpStream::connect(server.addr()).expect("a connection");
        // A small window, so that a large answer is still under way when its connection ends.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(128 * 1024);
        let request = format!("GET /bytes/{n} HTTP/1.1\r\nhost: a\r\n{fields}\r\n{behind}");
        socket.write_all(request.as_bytes()).expect("a request");
        (socket, n)
    };
    let mut open = Vec::new();
    for n in [0, 10, 60_000, 70_000, 3_000_000] {
        for fields in ["connection: close\r\n", "connection: close\r\nx: y\r\n"] {
            open.push(ask(n, fields, ""));
            open.push(ask(n, fields, "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        }
    }
    std::thread::sleep(Duration::from_millis(2_500)); // longer than a closing connection lingers
    for (mut socket, n) in open {
        let _ = socket.set_read_timeout(Some(Duration::from_secs(10)));
        let mut out = Vec::new();
        socket.read_to_end(&mut out).expect("FIN, not RST");
        let body = out.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(out.len() - body, n);
    }
    wait_for(&server.into_running(), "connections_open", 0);
}

/// What the kernel holds for a closed connection is no connection of ours any more.
#[test]
fn a_deaf_client_is_given_up_after_its_connection_too() {
    let limits = Limits { write_stall_ms_max: 300, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0").unpinned(1).limits(limits);
    let server = TestServer::start_with(server, app);
    let mut socket = TcpStream::connect(server.addr()).expect("a connection");
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(16 * 1024);
    let request = b"GET /bytes/1000000 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    socket.write_all(request).expect("a request");
    wait_for(&server.into_running(), "connections_open", 0);
    std::thread::sleep(Duration::from_secs(3)); // the kernel's own bound: 2.3 s
    let _ = socket.set_read_timeout(Some(Duration::from_secs(10)));
    let ended = socket.read_to_end(&mut Vec::new());
    assert!(ended.is_err(), "the rest was kept for it: {ended:?}");
}

#[test]
fn a_second_instance_is_refused() {
    let server = TestServer::start(1, app);
    let second = Server::bind(server.addr().to_string()).unpinned(1).start(app);
    let error = second.expect_err("the port is taken");
    assert!(error.message().contains("is in use"), "{error}");
}

#[test]
fn a_drain_answers_what_it_has_received() {
    let slow = async |_: Shard| {
        Ok(App::new(()).get("/slow", async |cx| {
            cx.sleep(Duration::from_millis(200)).await;
            cx.text("slow")
        }))
    };
    let server = TestServer::start(2, slow);
    let addr = server.addr();
    let running = server.into_running();
    let mut idle = TcpStream::connect(addr).expect("a connection");
    let mut busy: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut socket = TcpStream::connect(addr).expect("a connection");
            socket.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").expect("a request");
            socket
        })
        .collect();
    wait_for(&running, "requests_active", 8);
    running.stop();
    for socket in &mut busy {
        let mut out = String::new();
        socket.read_to_string(&mut out).expect("an answer, then FIN");
        assert!(out.starts_with("HTTP/1.1 200 OK\r\n") && out.ends_with("slow"), "{out}");
        assert!(out.contains("connection: close\r\n"), "{out}");
    }
    let mut out = Vec::new();
    idle.read_to_end(&mut out).expect("FIN for the idle one");
    assert!(out.is_empty());
    running.join().expect("a clean end");
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}

/// A stream waits for what it has sent, a large body for its head: neither for the next tick.
#[test]
fn a_writer_goes_on_as_soon_as_its_bytes_are_sent() {
    let server = TestServer::start(1, app);
    let start = std::time::Instant::now();
    for path in ["/big", "/bytes/3000000"] {
        let mut socket = TcpStream::connect(server.addr()).expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("a request");
        let mut left = if path == "/big" { 100_000_000 } else { 3_000_000 };
        let mut bytes = vec![0; 1 << 20];
        while left > 0 {
            let count = socket.read(&mut bytes).expect("bytes");
            assert!(count > 0, "cut short");
            left -= count.min(left);
        }
    }
    // By ticks of 5 ms for 64 KiB it takes 7.6 s.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
