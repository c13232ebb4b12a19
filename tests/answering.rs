//! Kinds of answers, byte for byte: events, redirects, problems, downloads, trailers, early hints,
//! rows, large bodies; each also to HEAD, to HTTP/1.0, and with a status that has no body.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::testing::{TestClient, TestServer};
use soloist::{Problem, problem_json};

/// A reply that a handler kept for another request.
type Kept = RefCell<Option<Reply>>;
type Cx = Ctx<Kept>;

const LARGE_BYTES: usize = 300_000;

async fn app(_: Shard) -> Result<App<Kept>> {
    Ok(App::new(Kept::default())
        .get("/", async |cx| cx.text("hello"))
        .get("/clock", clock)
        .get("/open", async |cx| cx.text(cx.shard().stats().get("connections_open").to_string()))
        .get("/events", events)
        .get("/plain-loop", plain_loop)
        .get("/bad-event/:kind", bad_event)
        .get("/last-id", async |cx| cx.text(cx.last_event_id().unwrap_or("none")))
        .get("/quiet", quiet)
        .post("/redirect/:status", async |cx| {
            cx.redirect_with(cx.param("status")?, cx.query_param("to").unwrap_or("/"))
        })
        .get("/see-other", async |cx| cx.redirect("/caf\u{e9}?a=b c"))
        .get("/problem", async |cx| {
            let problem = Problem::new(403).kind("https://a.example/credit").title("No credit");
            cx.problem(problem.detail("It costs 50.").instance("/a/1").with("balance", 30))
        })
        .get("/blank-problem", async |cx| cx.problem(Problem::new(404)))
        .get("/bad-problem", async |cx| cx.problem(Problem::new(404).with("status", 1)))
        .get("/late-problem", async |_| {
            Err(Problem::new(409).detail("taken").with("by", "you").into())
        })
        .get("/error", async |_| Err(Error::new(503, "busy").set("retry-after", "1")))
        .get("/download", async |cx| cx.attachment("\u{fc}/1.csv").bytes("text/csv", "a\n"))
        .get("/download-stream", async |cx| {
            let mut out = cx.attachment("a.csv").stream("text/csv").await?;
            out.write("a\n").await?;
            out.finish().await
        })
        .get("/trailer", trailer)
        .get("/bad-trailer", bad_trailer)
        .get("/hints", hints)
        .get("/late-hints", late_hints)
        .get("/bad-hints/:which", bad_hints)
        .get("/rows/:count", rows)
        .get("/bad-row", bad_row)
        .get("/large", async |cx| cx.bytes_owned("text/plain", vec![b'x'; LARGE_BYTES]))
        .get("/owned", async |cx| cx.bytes_owned("text/plain", String::from("owned")))
        .get("/status/:status/:kind", with_status)
        .get("/keep", async |cx| {
            cx.state().replace(Some(cx.text("kept")?));
            Err(Error::new(418, "kept"))
        })
        .get("/foreign", async |cx| cx.state().take().ok_or_else(Error::not_found))
        .get("/swap", async |cx| {
            let kept = cx.state().replace(Some(cx.text("mine")?));
            kept.ok_or_else(Error::not_found)
        }))
}

/// Ends by itself after three events.
async fn events(cx: &Cx) -> Result<Reply> {
    let mut events = cx.events().await?;
    if cx.method() == "HEAD" {
        assert!(events.wait(std::future::pending::<()>()).await.is_none());
        return events.finish().await;
    }
    events.send(Event::data("one\ntwo\r\n").event("note").id("7")).await?;
    events.send(Event::json(&[1, 2]).retry(Duration::from_millis(1_500))).await?;
    events.send(Event::default().id("")).await?;
    events.finish().await
}

/// Every second the time in seconds, and goodbye.
async fn clock(cx: &Cx) -> Result<Reply> {
    let mut seconds = cx.shard().interval(Duration::from_secs(1));
    let mut events = cx.events().await?;
    let mut n = 0;
    events.send(Event::data("start")).await?;
    while let Some(()) = events.wait(seconds.tick()).await {
        n += 1;
        events.send(Event::json(&n)).await?;
    }
    events.send(Event::data("bye")).await?;
    events.finish().await
}

/// Never waits: its client alone can end it.
async fn plain_loop(cx: &Cx) -> Result<Reply> {
    let mut events = cx.events().await?;
    loop {
        events.send(Event::data("more")).await?;
    }
}

async fn bad_event(cx: &Cx) -> Result<Reply> {
    let mut events = cx.events().await?;
    let event = match cx.param("kind")? {
        "name" => Event::data("x").event("a\rb"),
        "id" => Event::data("x").id("a\nb"),
        "nul" => Event::data("x").id("a\0b"),
        _ => Event::json(&Unwritable),
    };
    assert_eq!(events.send(event).await.expect_err("refused").status(), 500);
    events.send(Event::data("fine")).await?;
    events.finish().await
}

struct Unwritable;

impl serde::Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("on purpose"))
    }
}

/// Says nothing for a long time.
async fn quiet(cx: &Cx) -> Result<Reply> {
    let mut events = cx.events().await?;
    if let Some(ms) = cx.query_param("keep-alive-ms") {
        events = events.keep_alive(Duration::from_millis(ms.parse()?));
    }
    let _ = events.wait(cx.sleep(Duration::from_secs(40))).await; // virtual time: comments are due
    events.send(Event::data("x")).await?;
    let _ = events.wait(cx.sleep(Duration::from_secs(10))).await; // virtual time: too short for one
    events.finish().await
}

async fn trailer(cx: &Cx) -> Result<Reply> {
    let mut out = cx.set_header("trailer", "x-sum").stream("text/plain").await?;
    out.write("abc").await?;
    out.trailer("x-sum", "7")?;
    out.trailer("x-more", "\u{e9}")?;
    out.finish().await
}

async fn bad_trailer(cx: &Cx) -> Result<Reply> {
    let mut out = cx.stream("text/plain").await?;
    for (name, value) in
        [("content-length", "3"), ("Set-Cookie", "a=b"), ("x", "a\r\nb: c"), ("", "")]
    {
        out.trailer(name, value).expect_err(name);
    }
    out.trailer("x", "y".repeat(9_000)).expect_err("too long");
    for _ in 0..32 {
        out.trailer("x", "")?;
    }
    out.trailer("x", "").expect_err("too many");
    out.finish().await
}

async fn hints(cx: &Cx) -> Result<Reply> {
    cx.early_hints(&[("link", "</a.css>; rel=preload; as=style"), ("x-a", "1")])?;
    cx.sleep(Duration::from_millis(1)).await; // so that it answers in another turn
    cx.early_hints(&[("link", "</b.js>; rel=preload; as=script")])?;
    cx.text("page")
}

async fn late_hints(cx: &Cx) -> Result<Reply> {
    let mut out = cx.stream("text/plain").await?;
    cx.early_hints(&[("link", "</a>")]).expect_err("the head has left");
    out.write("x").await?;
    out.finish().await
}

async fn bad_hints(cx: &Cx) -> Result<Reply> {
    let fields = match cx.param("which")? {
        "value" => [("x-a", "1"), ("link", "a\r\n\r\nHTTP/1.1 200 OK")],
        "name" => [("x-a", "1"), ("li nk", "a")],
        _ => [("x-a", "1"), ("Content-Length", "3")],
    };
    cx.early_hints(&fields)?;
    cx.text("never")
}

async fn rows(cx: &Cx) -> Result<Reply> {
    let mut rows = cx.json_rows().await?;
    for n in 0..cx.param::<u32>("count")? {
        rows.push(&n).await?;
    }
    rows.finish().await
}

async fn bad_row(cx: &Cx) -> Result<Reply> {
    let mut rows = cx.json_rows().await?;
    rows.push(&1).await?;
    rows.push(&Unwritable).await.expect_err("refused");
    rows.push(&2).await?;
    rows.finish().await
}

async fn with_status(cx: &Cx) -> Result<Reply> {
    cx.status(cx.param("status")?);
    match cx.param("kind")? {
        "owned" => cx.bytes_owned("text/plain", vec![b'x'; LARGE_BYTES]),
        "events" => {
            let mut events = cx.events().await?;
            events.send(Event::data("x")).await.expect_err("nobody listens");
            events.finish().await
        }
        "rows" => {
            let mut rows = cx.json_rows().await?;
            rows.push(&1).await?;
            rows.finish().await
        }
        _ => {
            let mut out = cx.stream("text/plain").await?;
            out.write("x").await?;
            out.trailer("x-sum", "7")?;
            out.finish().await
        }
    }
}

/// Dates differ, so they are taken out.
fn undated(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// A whole answer: status line, fields, body.
fn whole(status: &str, mime: &str, fields: &str, body: &str) -> String {
    let mime = if mime.is_empty() { String::new() } else { format!("content-type: {mime}\r\n") };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{mime}content-length: {length}\r\n{fields}\r\n{body}")
}

/// A chunked one, with what comes behind its last chunk's line.
fn chunked(mime: &str, fields: &str, chunks: &[&str], trailer: &str) -> String {
    let head = format!("content-type: {mime}\r\ntransfer-encoding: chunked\r\n{fields}\r\n");
    let chunks: String = chunks.iter().map(|it| format!("{:x}\r\n{it}\r\n", it.len())).collect();
    format!("HTTP/1.1 200 OK\r\n{head}{chunks}0\r\n{trailer}\r\n")
}

fn text(status: &str, fields: &str, body: &str) -> String {
    whole(status, TEXT, fields, body)
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROBLEM: &str = "application/problem+json";
const SSE: &str = "text/event-stream";
const SSE_FIELDS: &str = "cache-control: no-store\r\nx-accel-buffering: no\r\n";
const CLOSE: &str = "connection: close\r\n";

/// Method, path, and the whole of what comes back before the answer to a second request.
fn table() -> Vec<(&'static str, &'static str, String)> {
    let three = "event: note\nid: 7\ndata: one\ndata: two\ndata: \n\n";
    let see_other = "location: /caf%C3%A9?a=b%20c\r\n";
    let disposition = "content-disposition: attachment; filename=\"__1.csv\"; \
                       filename*=UTF-8''%C3%BC_1.csv\r\n";
    let ok_head = |mime: &str, fields: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {mime}\r\ntransfer-encoding: chunked\r\n{fields}\r\n"
        )
    };
    let failed = text("500 Internal Server Error", "", "internal error");
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload; as=style\r\nx-a: 1\r\n\r\n\
                HTTP/1.1 103 Early Hints\r\nlink: </b.js>; rel=preload; as=script\r\n\r\n";
    let bodiless = |status: &str, mime: &str, fields: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: {mime}\r\n{fields}\r\n")
    };
    let large = "x".repeat(LARGE_BYTES);
    vec![
        (
            "GET",
            "/events",
            chunked(SSE, SSE_FIELDS, &[three, "retry: 1500\ndata: [1,2]\n\n", "id: \n\n"], ""),
        ),
        ("HEAD", "/events", ok_head(SSE, SSE_FIELDS)),
        ("HEAD", "/clock", ok_head(SSE, SSE_FIELDS)),
        ("HEAD", "/plain-loop", ok_head(SSE, SSE_FIELDS)),
        ("GET", "/bad-event/name", chunked(SSE, SSE_FIELDS, &["data: fine\n\n"], "")),
        ("GET", "/bad-event/id", chunked(SSE, SSE_FIELDS, &["data: fine\n\n"], "")),
        ("GET", "/bad-event/nul", chunked(SSE, SSE_FIELDS, &["data: fine\n\n"], "")),
        ("GET", "/bad-event/json", chunked(SSE, SSE_FIELDS, &["data: fine\n\n"], "")),
        ("GET", "/see-other", whole("303 See Other", "", see_other, "")),
        ("HEAD", "/see-other", whole("303 See Other", "", see_other, "")),
        ("POST", "/redirect/301", whole("301 Moved Permanently", "", "location: /\r\n", "")),
        ("POST", "/redirect/302?to=b", whole("302 Found", "", "location: b\r\n", "")),
        ("POST", "/redirect/307", whole("307 Temporary Redirect", "", "location: /\r\n", "")),
        (
            "POST",
            "/redirect/308?to=https://a.example/",
            whole("308 Permanent Redirect", "", "location: https://a.example/\r\n", ""),
        ),
        ("POST", "/redirect/304", failed.clone()),
        ("POST", "/redirect/200", failed.clone()),
        ("POST", "/redirect/303?to=/%0d%0aset-cookie:a", failed.clone()),
        (
            "GET",
            "/problem",
            whole(
                "403 Forbidden",
                PROBLEM,
                "",
                "{\"title\":\"No credit\",\"status\":403,\"type\":\"https://a.example/credit\",\
                 \"detail\":\"It costs 50.\",\"instance\":\"/a/1\",\"balance\":30}",
            ),
        ),
        (
            "GET",
            "/blank-problem",
            whole("404 Not Found", PROBLEM, "", "{\"title\":\"Not Found\",\"status\":404}"),
        ),
        ("GET", "/bad-problem", failed.clone()),
        ("GET", "/late-problem", text("409 Conflict", "", "taken")),
        ("GET", "/download", whole("200 OK", "text/csv", disposition, "a\n")),
        (
            "GET",
            "/download-stream",
            chunked(
                "text/csv",
                "content-disposition: attachment; filename=\"a.csv\"\r\n",
                &["a\n"],
                "",
            ),
        ),
        (
            "GET",
            "/trailer",
            chunked("text/plain", "trailer: x-sum\r\n", &["abc"], "x-sum: 7\r\nx-more: \u{e9}\r\n"),
        ),
        ("HEAD", "/trailer", ok_head("text/plain", "trailer: x-sum\r\n")),
        ("GET", "/bad-trailer", chunked("text/plain", "", &[], &"x: \r\n".repeat(32))),
        ("GET", "/hints", hint.to_owned() + &text("200 OK", "", "page")),
        ("GET", "/late-hints", chunked("text/plain", "", &["x"], "")),
        ("GET", "/bad-hints/value", failed.clone()),
        ("GET", "/bad-hints/name", failed.clone()),
        ("GET", "/bad-hints/framing", failed.clone()),
        ("GET", "/rows/0", chunked("application/json", "", &["[]"], "")),
        ("GET", "/rows/3", chunked("application/json", "", &["[0,1,2]"], "")),
        ("HEAD", "/rows/99999", ok_head("application/json", "")),
        ("GET", "/bad-row", chunked("application/json", "", &["[1,2]"], "")),
        ("GET", "/large", whole("200 OK", "text/plain", "", &large)),
        ("HEAD", "/large", whole("200 OK", "text/plain", "", &large).replace(&large, "")),
        ("GET", "/owned", whole("200 OK", "text/plain", "", "owned")),
        ("GET", "/status/204/owned", bodiless("204 No Content", "text/plain", "")),
        ("GET", "/status/304/stream", bodiless("304 Not Modified", "text/plain", "")),
        ("GET", "/status/204/rows", bodiless("204 No Content", "application/json", "")),
        ("GET", "/status/204/events", bodiless("204 No Content", SSE, SSE_FIELDS)),
        ("GET", "/status/101/stream", failed.clone()),
        ("GET", "/status/600/events", failed.clone()),
        // A reply is no answer to another request; what was answered here counts.
        ("GET", "/foreign", text("404 Not Found", "", "not found")),
        ("GET", "/keep", text("418 ", "", "kept")),
        ("GET", "/foreign", failed),
        ("GET", "/swap", text("404 Not Found", "", "not found")),
        ("GET", "/swap", text("200 OK", "", "mine")),
    ]
}

#[test]
fn answers_byte_for_byte() {
    TestClient::run(app, async |client| {
        for (method, path, want) in table() {
            // The second request shows that the connection goes on where it should.
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"
            );
            let want = want + &text("200 OK", "", "hello");
            let got = undated(&client.raw(&[request.as_bytes()]).await);
            assert!(got == want, "{method} {path}\n{:.2000}\nwanted\n{:.2000}", got, want);
        }
    });
}

#[test]
fn answers_over_sockets() {
    let server = TestServer::start(1, app);
    for (method, path, want) in table() {
        if ["/swap", "/keep", "/foreign"].contains(&path) {
            continue; // they depend on the order of the requests
        }
        for close in [CLOSE, ""] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{close}\r\n");
            let got = undated(&server.raw(request.as_bytes())).replace(CLOSE, "");
            assert!(got == want, "{method} {path}\n{:.2000}\nwanted\n{:.2000}", got, want);
        }
    }
}

#[test]
fn http_1_0_gets_no_chunks_no_trailers_no_hints() {
    let closed = |mime: &str, fields: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {mime}\r\n{CLOSE}{fields}\r\n{body}")
    };
    TestClient::run(app, async |client| {
        for (path, want) in [
            ("/rows/3", closed("application/json", "", "[0,1,2]")),
            ("/trailer", closed("text/plain", "trailer: x-sum\r\n", "abc")),
            ("/hints", text("200 OK", CLOSE, "page")),
            ("/bad-event/id", closed(SSE, SSE_FIELDS, "data: fine\n\n")),
        ] {
            let request = format!("GET {path} HTTP/1.0\r\n\r\n");
            assert_eq!(undated(&client.raw(&[request.as_bytes()]).await), want, "{path}");
        }
    });
}

#[test]
fn every_error_can_be_a_problem() {
    let build = async |shard: Shard| Ok(app(shard).await?.on_error(problem_json));
    TestClient::run(build, async |client| {
        for (path, status, want) in [
            ("/nope", 404, r#"{"title":"Not Found","status":404,"detail":"not found"}"#),
            (
                "/late-problem",
                409,
                r#"{"title":"Conflict","status":409,"detail":"taken","by":"you"}"#,
            ),
            ("/error", 503, r#"{"title":"Service Unavailable","status":503,"detail":"busy"}"#),
            (
                "/bad-problem",
                500,
                r#"{"title":"Internal Server Error","status":500,"detail":"internal error"}"#,
            ),
        ] {
            let answer = client.get(path).await.expect(status).text(want);
            assert_eq!(answer.header("content-type"), Some(PROBLEM), "{path}");
            let retry = (path == "/error").then_some("1");
            assert_eq!(answer.header("retry-after"), retry, "{path}");
        }
    });
}

#[test]
fn the_last_id_of_a_client_that_comes_back() {
    TestClient::run(app, async |client| {
        client.get("/last-id").await.expect(200).text("none");
        client.get("/last-id").header("last-event-id", "").await.expect(200).text("none");
        client.get("/last-id").header("Last-Event-ID", "7 a").await.expect(200).text("7 a");
    });
}

#[test]
fn rows_leave_in_pieces_and_whole() {
    TestClient::run(app, async |client| {
        let answer = client.get("/rows/50000").await.expect(200);
        let rows: Vec<u32> = answer.json();
        assert!(rows.iter().copied().eq(0..50_000));
        let raw = client.raw(&[b"GET /rows/50000 HTTP/1.1\r\nhost: a\r\n\r\n"]).await;
        assert!(undated(&raw).contains("\r\n\r\n400"), "pieces of 16 KiB");
    });
}

/// What a client has of `path` after each of these times, the head left out.
fn heard_at(path: &str, seconds: &[u64]) -> Vec<String> {
    let mut heard = Vec::new();
    TestClient::run(app, async |client| {
        let connection = client.open();
        let mut out = Vec::new();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        connection.exchange(request.as_bytes(), &mut out);
        let mut now = 0;
        for second in seconds {
            client.advance(Duration::from_secs(second - now)).await;
            now = *second;
            connection.exchange(b"", &mut out);
            let text = undated(&out);
            heard.push(text.split_once("\r\n\r\n").expect("a head").1.to_owned());
        }
    });
    heard
}

#[test]
fn a_quiet_stream_is_kept_alive() {
    let (comment, event) = ("3\r\n:\n\n\r\n", "9\r\ndata: x\n\n\r\n");
    let end = "0\r\n\r\n";
    for (path, seconds, want) in [
        (
            "/quiet",
            vec![14, 16, 31, 41, 55],
            vec![
                String::new(),
                comment.into(),
                comment.repeat(2),
                comment.repeat(2) + event,
                comment.repeat(2) + event + end,
            ],
        ),
        ("/quiet?keep-alive-ms=0", vec![39, 41], vec![String::new(), event.into()]),
        // A client that does not read is not sent more of them.
        (
            "/quiet?keep-alive-ms=7000",
            vec![22, 29, 41],
            vec![comment.into(), comment.repeat(2), comment.repeat(3) + event],
        ),
        // Events are signs of life too.
        (
            "/clock",
            vec![2],
            vec!["d\r\ndata: start\n\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n".into()],
        ),
    ] {
        assert_eq!(heard_at(path, &seconds), want, "{path}");
    }
}

#[test]
fn a_client_that_closes_its_side_ends_a_waiting_stream() {
    TestClient::run(app, async |client| {
        let out = undated(&client.raw(&[b"GET /clock HTTP/1.1\r\nhost: a\r\n\r\n"]).await);
        assert!(out.ends_with("data: start\n\n\r\nb\r\ndata: bye\n\n\r\n0\r\n\r\n"), "{out}");
        assert_eq!(client.shard().now_ms(), 0, "at once");
    });
}

/// A connection that has sent a request.
fn ask(server: &TestServer, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    write!(socket, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    socket
}

fn read_until(socket: &mut TcpStream, text: &str) {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(text.as_bytes()) {
        socket.read_exact(&mut byte).expect("more");
        seen.push(byte[0]);
    }
}

#[test]
fn a_stop_ends_event_streams() {
    let server = TestServer::start(1, app);
    let mut sockets = [ask(&server, "/clock"), ask(&server, "/quiet?keep-alive-ms=0")];
    read_until(&mut sockets[0], "data: start\n\n");
    read_until(&mut sockets[1], "\r\n\r\n");
    let start = Instant::now();
    let running = server.into_running();
    running.stop();
    for (socket, want) in
        sockets.iter_mut().zip(["data: bye\n\n\r\n0\r\n\r\n", "data: x\n\n\r\n0\r\n\r\n"])
    {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).expect("a clean end");
        assert!(String::from_utf8_lossy(&rest).ends_with(want), "{rest:?}");
    }
    running.join().expect("a clean end");
    assert!(start.elapsed() < Duration::from_secs(10), "within its time, not the grace's");
}

#[test]
fn a_client_that_vanishes_ends_its_handler() {
    let server = TestServer::start(1, app);
    for path in ["/clock", "/quiet", "/plain-loop"] {
        let mut socket = ask(&server, path);
        read_until(&mut socket, "\r\n\r\n");
        drop(socket);
    }
    // The one that asks is the only one that is left.
    let start = Instant::now();
    loop {
        let answer = server.raw(b"GET /open HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        if answer.ends_with(b"\r\n\r\n1") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{}", String::from_utf8_lossy(&answer));
    }
}
