//! Answers of any length: rows of JSON, a download with a sum behind it, early hints.
//!
//! Run with: `cargo run --release --example streaming`
//! Try: `curl 'http://127.0.0.1:8080/rows?count=1000000' | tail -c 50`,
//! `curl -iOJ http://127.0.0.1:8080/log`, `curl -i http://127.0.0.1:8080/`

use std::time::Duration;

use serde::Serialize;
use soloist::prelude::*;
use soloist::problem_json;

#[path = "common/args.rs"]
mod args;

fn main() -> Result<()> {
    args::server()?.run(app)
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .on_error(problem_json) // RFC 9457
        .get("/", page)
        .get("/home", async |cx| cx.redirect("/"))
        .get("/rows", rows)
        .get("/log", log))
}

/// The browser fetches the style sheet while the page is made.
async fn page(cx: &Ctx<()>) -> Result<Reply> {
    cx.early_hints(&[("link", "</style.css>; rel=preload; as=style")])?;
    cx.sleep(Duration::from_millis(100)).await; // the database
    cx.html("<link rel=stylesheet href=/style.css><a href=/rows?count=1000>rows</a>")
}

/// An array that never lies in memory whole.
async fn rows(cx: &Ctx<()>) -> Result<Reply> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: u64,
        name: &'a str,
    }
    let count = cx.query_param("count").unwrap_or("10").parse();
    let count: u64 = count.map_err(|_| Error::bad_request("count: not a number"))?;
    let mut rows = cx.json_rows().await?;
    for id in 0..count {
        rows.push(&Row { id, name: "row" }).await?;
    }
    rows.finish().await
}

/// A download; its sum is known only at its end.
async fn log(cx: &Ctx<()>) -> Result<Reply> {
    cx.attachment("the log.txt").set_header("trailer", "x-sum");
    let mut out = cx.stream("text/plain").await?;
    let mut sum: u64 = 0;
    for n in 0..1_000 {
        let line = format!("line {n}\n");
        sum += line.bytes().map(u64::from).sum::<u64>();
        out.write(line).await?;
    }
    out.trailer("x-sum", sum.to_string())?;
    out.finish().await
}

#[test]
fn streaming() {
    soloist::testing::TestClient::run(app, async |client| {
        client.get("/").await.expect(200);
        let to = client.get("/home").await.expect(303);
        assert_eq!(to.header("location"), Some("/"));
        let rows: Vec<serde_json::Value> = client.get("/rows?count=1000").await.expect(200).json();
        assert_eq!((rows.len(), &rows[999]["id"]), (1_000, &999.into()));
        let no = client.get("/rows?count=x").await.expect(400);
        assert_eq!(no.header("content-type"), Some("application/problem+json"));
        let log = client.get("/log").await.expect(200);
        let name = "attachment; filename=\"the log.txt\"";
        assert_eq!(log.header("content-disposition"), Some(name));
        let raw = client.raw(&[b"GET /log HTTP/1.1\r\nhost: a\r\n\r\n"]).await;
        assert!(String::from_utf8_lossy(&raw).contains("\r\n0\r\nx-sum: "));
    });
}
