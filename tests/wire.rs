//! What goes over the wire, byte for byte: in memory and through real shards, with every way of
//! cutting the bytes into segments.

use std::sync::OnceLock;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::{TestClient, TestServer};

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .get("/", async |cx| cx.text("hello"))
        .post("/echo", async |cx| cx.bytes("application/octet-stream", cx.body().await?))
        .post("/count", count)
        .post("/ignore", async |cx| cx.text("ignored"))
        .post("/trailer", async |cx| {
            cx.body().await?;
            cx.text(cx.trailer("x-sum").unwrap_or("none"))
        })
        .get("/stream", stream)
        .get("/half", half)
        .get("/panic", async |_| panic!("on purpose"))
        .get("/slow", async |cx| {
            cx.sleep(Duration::from_millis(20)).await;
            cx.text("slow")
        })
        .get("/raw", raw_echo)
        .get("/inject", async |cx| cx.set_header("x", "a\r\nb: c").text("x"))
        .get("/empty", async |cx| cx.empty())
        .get("/files/*path", async |cx| cx.text(cx.param::<&str>("path")?)))
}

async fn count(cx: &Ctx<()>) -> Result<Reply> {
    let mut bytes = 0;
    while let Some(chunk) = cx.next_chunk().await? {
        bytes += chunk.len();
    }
    cx.text(bytes.to_string())
}

async fn stream(cx: &Ctx<()>) -> Result<Reply> {
    cx.on_head(|head| {
        head.set_header("x-late", "yes");
    });
    let mut out = cx.stream("text/plain").await?;
    out.write("one").await?;
    out.write("two").await?;
    out.finish().await
}

async fn half(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = cx.stream("text/plain").await?;
    out.write("half").await?;
    Err(Error::from("on purpose"))
}

async fn raw_echo(cx: &Ctx<()>) -> Result<Reply> {
    cx.upgrade("echo", async |mut raw| {
        let mut bytes = Vec::new();
        while raw.read(&mut bytes).await? > 0 {
            raw.write(&bytes).await?;
        }
        Ok(())
    })
}

/// Dates differ, so they are taken out.
fn undated(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect()
}

fn plain(body: &str) -> String {
    plain_with("200 OK", "", body)
}

fn plain_with(status: &str, fields: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         {fields}\r\n{body}",
        body.len()
    )
}

const H: &str = "host: a\r\n";
const CLOSE: &str = "connection: close\r\n";

/// Requests and the whole of what comes back until the server closes.
fn table() -> Vec<(String, String)> {
    let bytes = |body: &str, fields: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\
             {fields}\r\n{body}",
            body.len()
        )
    };
    vec![
        (format!("GET / HTTP/1.1\r\n{H}\r\n"), plain("hello")),
        (format!("\r\nGET / HTTP/1.1\r\n{H}\r\n"), plain("hello")),
        (format!("GET http://b/ HTTP/1.1\r\n{H}\r\n"), plain("hello")),
        ("GET / HTTP/1.0\r\n\r\n".into(), plain_with("200 OK", CLOSE, "hello")),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".into(),
            plain_with("200 OK", "connection: keep-alive\r\n", "hello"),
        ),
        (
            format!("GET / HTTP/1.1\r\n{H}connection: close\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n"),
            plain_with("200 OK", CLOSE, "hello"),
        ),
        (
            format!("HEAD / HTTP/1.1\r\n{H}\r\nGET /slow HTTP/1.1\r\n{H}\r\nGET / HTTP/1.1\r\n{H}\r\n"),
            plain("hello").strip_suffix("hello").map(String::from).unwrap_or_default()
                + &plain("slow")
                + &plain("hello"),
        ),
        (
            format!("OPTIONS / HTTP/1.1\r\n{H}\r\n"),
            "HTTP/1.1 204 No Content\r\nallow: GET, HEAD, OPTIONS\r\n\r\n".into(),
        ),
        (
            format!("OPTIONS * HTTP/1.1\r\n{H}\r\n"),
            "HTTP/1.1 204 No Content\r\n\r\n".into(),
        ),
        (
            format!("PUT / HTTP/1.1\r\n{H}\r\n"),
            plain_with(
                "405 Method Not Allowed",
                "allow: GET, HEAD, OPTIONS\r\n",
                "method not allowed",
            ),
        ),
        (format!("GET /nope HTTP/1.1\r\n{H}\r\n"), plain_with("404 Not Found", "", "not found")),
        (format!("GET /empty HTTP/1.1\r\n{H}\r\n"), "HTTP/1.1 204 No Content\r\n\r\n".into()),
        (format!("GET /files/a%20b/c HTTP/1.1\r\n{H}\r\n"), plain("a b/c")),
        (
            format!("POST /echo HTTP/1.1\r\n{H}content-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n{H}\r\n"),
            bytes("abc", "") + &plain("hello"),
        ),
        (
            format!(
                "POST /echo HTTP/1.1\r\n{H}transfer-encoding: chunked\r\n\r\n\
                 3;a=b\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n"
            ),
            bytes("abcde", "") + &plain("hello"),
        ),
        (
            format!(
                "POST /trailer HTTP/1.1\r\n{H}transfer-encoding: chunked\r\n\r\n\
                 1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n"
            ),
            plain("7"),
        ),
        (
            format!("POST /count HTTP/1.1\r\n{H}content-length: 5\r\n\r\n12345GET / HTTP/1.1\r\n{H}\r\n"),
            plain("5") + &plain("hello"),
        ),
        (
            format!("POST /ignore HTTP/1.1\r\n{H}content-length: 5\r\n\r\n12345GET / HTTP/1.1\r\n{H}\r\n"),
            plain("ignored") + &plain("hello"),
        ),
        (
            format!("POST /ignore HTTP/1.1\r\n{H}content-length: 99999\r\n\r\n12345"),
            plain_with("200 OK", CLOSE, "ignored"),
        ),
        (
            format!("POST /echo HTTP/1.1\r\n{H}content-length: 99999999\r\n\r\n"),
            plain_with("413 Content Too Large", CLOSE, "the body is too large"),
        ),
        (
            format!("POST /echo HTTP/1.1\r\n{H}content-length: 9\r\n\r\nabc"),
            plain_with("400 Bad Request", CLOSE, "the body ended early"),
        ),
        (
            format!("GET /stream HTTP/1.1\r\n{H}\r\nGET / HTTP/1.1\r\n{H}\r\n"),
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\
             x-late: yes\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
                .to_owned()
                + &plain("hello"),
        ),
        (
            "GET /stream HTTP/1.0\r\n\r\n".into(),
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\nx-late: yes\r\n\r\n\
             onetwo"
                .into(),
        ),
        (
            format!("GET /panic HTTP/1.1\r\n{H}\r\nGET / HTTP/1.1\r\n{H}\r\n"),
            plain_with("500 Internal Server Error", CLOSE, "internal error"),
        ),
        (
            format!("GET /inject HTTP/1.1\r\n{H}\r\n"),
            plain_with("500 Internal Server Error", "", "internal error"),
        ),
        (
            format!("GET /raw HTTP/1.1\r\n{H}connection: upgrade\r\nupgrade: echo\r\n\r\nany bytes\n"),
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n\
             any bytes\n"
                .into(),
        ),
        (
            format!("GET /raw HTTP/1.1\r\n{H}\r\n"),
            plain_with(
                "426 Upgrade Required",
                "connection: upgrade\r\nupgrade: echo\r\n",
                "upgrade required",
            ),
        ),
    ]
}

#[test]
fn in_memory_whole_and_split_at_every_byte() {
    TestClient::run(app, async |client| {
        for (request, want) in table() {
            let bytes = request.as_bytes();
            assert_eq!(undated(&client.raw(&[bytes]).await), want, "{request}");
            for at in 1..bytes.len() {
                let out = client.raw(&[&bytes[..at], &bytes[at..]]).await;
                assert_eq!(undated(&out), want, "split at {at}: {request}");
            }
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(undated(&client.raw(&each).await), want, "byte by byte: {request}");
        }
    });
}

/// One server for all tests of this process: executors are not cheap to make.
fn server() -> &'static TestServer {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    SERVER.get_or_init(|| TestServer::start(2, app))
}

#[test]
fn through_real_shards() {
    for (request, want) in table() {
        assert_eq!(undated(&server().raw(request.as_bytes())), want, "{request}");
    }
}

#[test]
fn a_fallback_answers_what_no_route_does() {
    let build = async |_: Shard| {
        let app = App::new(()).get("/known", async |cx| cx.text("known"));
        Ok(app.fallback(async |cx| cx.status(418).text(cx.path())))
    };
    TestClient::run(build, async |client| {
        client.get("/").await.expect(418).text("/");
        client.get("/other").await.expect(418).text("/other");
        client.get("/known").await.expect(200);
        client.post("/known").await.expect(405);
        client.call("OPTIONS", "*").await.expect(204);
    });
}

#[test]
fn a_stream_that_fails_is_cut() {
    TestClient::run(app, async |client| {
        let request = format!("GET /half HTTP/1.1\r\n{H}\r\n");
        let out = undated(&client.raw(&[request.as_bytes()]).await);
        assert!(out.ends_with("4\r\nhalf\r\n"), "no last chunk: {out}");
    });
}

#[test]
fn expect_100_is_answered_when_the_body_is_read() {
    TestClient::run(app, async |client| {
        let head =
            format!("POST /count HTTP/1.1\r\n{H}expect: 100-continue\r\ncontent-length: 2\r\n\r\n");
        let out = client.raw(&[head.as_bytes(), b"ab"]).await;
        let want = String::from("HTTP/1.1 100 Continue\r\n\r\n") + &plain("2");
        assert_eq!(undated(&out), want);
        let head = format!(
            "POST /ignore HTTP/1.1\r\n{H}expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        );
        let (out, closed) = client.raw_open(head.as_bytes()).await;
        assert_eq!(undated(&out), plain_with("200 OK", CLOSE, "ignored"));
        assert!(closed, "nobody knows whether the body will come");
    });
}
