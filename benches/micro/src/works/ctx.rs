//! Whole warm requests in memory: the application of the peers bench, on one keep-alive connection.

use std::hint::black_box;

use serde::{Deserialize, Serialize};
use soloist::prelude::*;
use soloist::testing::TestClient;

use crate::runner::Runner;

const REQUESTS: [(&str, &str, &str); 3] = [
    ("ctx_hello", "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", "hello, world"),
    (
        "ctx_param_json",
        "GET /users/42 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
        "{\"id\":42,\"name\":\"user 42\",\"tags\":[\"a\",\"b\"]}",
    ),
    (
        "ctx_json_body",
        "POST /echo HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n\
         Content-Length: 20\r\n\r\n{\"name\":\"ann\",\"n\":1}",
        "{\"name\":\"ann\",\"n\":2}",
    ),
];

#[derive(Serialize)]
struct User<'a> {
    id: u64,
    name: &'a str,
    tags: [&'static str; 2],
}

#[derive(Deserialize, Serialize)]
struct Echo<'a> {
    name: &'a str,
    n: i64,
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .get("/", async |cx| cx.text("hello, world"))
        .get("/users/:id", user)
        .post("/echo", echo))
}

async fn user(cx: &Ctx<()>) -> Result<Reply> {
    let id: u64 = cx.param("id")?;
    cx.json(&User { id, name: cx.format(format_args!("user {id}")), tags: ["a", "b"] })
}

async fn echo(cx: &Ctx<()>) -> Result<Reply> {
    let Echo { name, n } = cx.body_json().await?;
    cx.json(&Echo { name, n: n.wrapping_add(1) })
}

pub fn run(runner: &mut Runner) {
    if !REQUESTS.iter().any(|(name, ..)| runner.wants(name)) {
        return;
    }
    TestClient::run(app, async |client| {
        for (name, request, body) in REQUESTS {
            let keep_alive = client.open();
            let mut out = Vec::with_capacity(64 * 1024);
            keep_alive.exchange(request.as_bytes(), &mut out);
            let answer = String::from_utf8_lossy(&out);
            let right = answer.starts_with("HTTP/1.1 200 OK\r\n")
                && answer.ends_with(&format!("\r\n\r\n{body}"));
            assert!(right, "{name}: {answer}");
            runner.run(name, || {
                out.clear();
                keep_alive.exchange(black_box(request.as_bytes()), &mut out);
            });
        }
    });
}
