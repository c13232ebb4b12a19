//! The server at work, on a page: shards, counters, latencies.
//!
//! Run with: `cargo run --release --example tour`; with `--features ws,files,sqlite` visitors see
//! each other, files go up, the source can be looked at, and there is a guest book
//! Try: a browser on http://127.0.0.1:8080/, and beside it
//! `wrk -t1 -c64 -d20 http://127.0.0.1:8080/hello`

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
#[cfg(feature = "files")]
use soloist::Files;
use soloist::middleware::{Incoming, request_id, secure_headers};
use soloist::prelude::*;
#[cfg(feature = "sqlite")]
use soloist::{
    Db,
    sqlx::{self, Sqlite},
};

#[path = "../common/args.rs"]
mod args;

const PAGE: &str = include_str!("page.html");

fn main() -> Result<()> {
    args::server()?.run(app)
}

/// What a shard has of its own.
struct Tour {
    #[cfg(feature = "sqlite")]
    db: Db<Sqlite>,
}
type Cx = Ctx<Tour>;

#[cfg_attr(not(feature = "sqlite"), expect(unused_variables))]
async fn app(shard: Shard) -> Result<App<Tour>> {
    let tour = Tour {
        #[cfg(feature = "sqlite")]
        db: guest_book(&shard).await?,
    };
    let app = App::new(tour)
        .wrap(request_id(Incoming::Ignore))
        .wrap(secure_headers())
        .get("/", async |cx| cx.html(PAGE))
        .get("/hello", async |cx| cx.text("hello, world"))
        .get("/greet/:name", greet)
        .post("/echo", async |cx| cx.bytes("application/octet-stream", cx.body().await?))
        .get("/count/:to", count)
        .get("/nap/:ms", nap)
        .get("/stats", async |cx| cx.set_header("cache-control", "no-store").json(&view(cx).await))
        .get("/live", live);
    #[cfg(feature = "ws")]
    let app = app.ws("/company", company);
    #[cfg(feature = "files")]
    let app = app.put("/upload", upload).files_with(
        "/source",
        Files::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).listing(true),
    );
    #[cfg(feature = "sqlite")]
    let app = app.get("/guests", guests).post("/guests", sign);
    Ok(app)
}

/// In memory, for as long as the server runs: one for all shards.
#[cfg(feature = "sqlite")]
async fn guest_book(shard: &Shard) -> Result<Db<Sqlite>> {
    let db = shard.db("sqlite::memory:").await?;
    let table = sqlx::query("CREATE TABLE guests (name TEXT NOT NULL, shard INTEGER NOT NULL)");
    shard.once("guest book", async || Ok(table.execute(&db).await.map(drop)?)).await?;
    Ok(db)
}

#[cfg(feature = "sqlite")]
async fn guests(cx: &Cx) -> Result<Reply> {
    let query = sqlx::query_as("SELECT name, shard FROM guests ORDER BY rowid DESC LIMIT 8");
    let guests: Vec<(String, i64)> = query.fetch_all(&cx.state().db.named("guests")).await?;
    cx.json(&guests)
}

#[cfg(feature = "sqlite")]
async fn sign(cx: &Cx) -> Result<Reply> {
    let name: String = cx.body_json().await?;
    if name.trim().is_empty() || name.len() > 100 {
        return Err(Error::bad_request("a name of 1 to 100 bytes, please"));
    }
    let query = sqlx::query("INSERT INTO guests VALUES ($1, $2)").bind(name.trim().to_owned());
    let query = query.bind(cx.shard().id() as i64);
    query.execute(&cx.state().db.named("sign")).await?;
    cx.status(201).empty()
}

/// Bytes to a file that nobody sees and that is gone with the request.
#[cfg(feature = "files")]
async fn upload(cx: &Cx) -> Result<Reply> {
    let since_ms = cx.shard().now_ms();
    let mut file = cx.shard().temp_file(std::env::temp_dir()).await?;
    let bytes = file.take(cx).await?;
    let ms = cx.shard().now_ms() - since_ms;
    cx.json(&serde_json::json!({ "bytes": bytes, "ms": ms, "shard": cx.shard().id() }))
}

/// Everyone who looks at the page, on whatever shard.
#[cfg(feature = "ws")]
async fn company(cx: &Cx, ws: &mut Ws) -> Result<()> {
    let shard = cx.shard();
    let tell = async || {
        let here = shard.presence("page").await?.count;
        shard.publish("page", format!(r#"{{"here":{here}}}"#));
        Result::Ok(())
    };
    ws.join("page")?;
    tell().await?;
    while ws.recv().await?.is_some() {
        cx.publish("page", format!(r#"{{"wave":{}}}"#, shard.id()));
    }
    ws.leave("page");
    tell().await
}

async fn greet(cx: &Cx) -> Result<Reply> {
    let name: &str = cx.param("name")?;
    cx.text(cx.format(format_args!("hello, {name}, from shard {}\n", cx.shard().id())))
}

/// A streamed answer.
async fn count(cx: &Cx) -> Result<Reply> {
    let to: u32 = cx.param("to")?;
    let mut out = cx.stream("text/plain").await?;
    for n in 1..=to.min(1_000) {
        out.write(format!("{n}\n")).await?;
        cx.sleep(Duration::from_millis(100)).await;
    }
    out.finish().await
}

async fn nap(cx: &Cx) -> Result<Reply> {
    let ms: u64 = cx.param("ms")?;
    cx.sleep(Duration::from_millis(ms.min(5_000))).await;
    cx.text("good morning\n")
}

/// What the page shows, once a second.
async fn live(cx: &Cx) -> Result<Reply> {
    let mut seconds = cx.shard().interval(Duration::from_secs(1));
    let mut events = cx.events().await?;
    events.send(Event::json(&view(cx).await)).await?;
    while let Some(()) = events.wait(seconds.tick()).await {
        events.send(Event::json(&view(cx).await)).await?;
    }
    events.finish().await
}

#[derive(Serialize)]
struct Row {
    shard: usize,
    requests: u64,
    connections: u64,
    bytes_out: u64,
    turns: u64,
    completions: u64,
    parks: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

#[derive(Serialize)]
struct View {
    answered_by: usize,
    core: Option<usize>,
    ping_us: Option<f64>,
    arena_bytes: usize,
    rows: Vec<Row>,
    counts: BTreeMap<&'static str, u64>,
    /// Connections to the database: those of the shard that answers, and of all.
    #[cfg(feature = "sqlite")]
    databases: [soloist::DbStats; 2],
}

async fn view(cx: &Cx) -> View {
    let each = cx.stats_each().await;
    let all = cx.stats_all().await;
    let us = |ns: u64| ns as f64 / 1_000.0;
    let row = |(shard, stats): (usize, &soloist::Stats)| Row {
        shard,
        requests: stats.get("requests"),
        connections: stats.get("connections_open"),
        bytes_out: stats.get("bytes_out"),
        turns: stats.get("ring_turns"),
        completions: stats.get("ring_completions"),
        parks: stats.get("parks"),
        p50_us: us(stats.latency_ns(0.5)),
        p99_us: us(stats.latency_ns(0.99)),
        p999_us: us(stats.latency_ns(0.999)),
    };
    let shard = cx.shard();
    let ping = cx.ping((shard.id() + 1) % shard.count()).await;
    View {
        answered_by: shard.id(),
        core: shard.core(),
        ping_us: ping.map(|it| it.as_nanos() as f64 / 1_000.0),
        arena_bytes: cx.arena_bytes(),
        rows: each.iter().enumerate().map(row).collect(),
        counts: all.counts().collect(),
        #[cfg(feature = "sqlite")]
        databases: [cx.state().db.stats(), cx.state().db.stats_everywhere()],
    }
}

#[test]
fn the_tour() {
    soloist::testing::TestClient::run(app, async |client| {
        let page = client.get("/").await.expect(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        client.get("/greet/you").await.expect(200).text("hello, you, from shard 0\n");
        client.get("/count/3").await.expect(200).text("1\n2\n3\n");
        client.get("/nap/x").await.expect(400).text("ms: not a number");
        client.post("/echo").body("abc").await.expect(200).text("abc");
        let stats: serde_json::Value = client.get("/stats").await.expect(200).json();
        assert_eq!(stats["counts"]["requests"], 6);
        #[cfg(feature = "files")]
        {
            client.get("/source/").await.expect(200).contains("lib.rs");
            client.get("/source/../Cargo.toml").await.expect(404);
            let told = client.put("/upload").body("a file").await.expect(200);
            assert_eq!(told.json::<serde_json::Value>()["bytes"], 6);
        }
        #[cfg(feature = "sqlite")]
        {
            client.post("/guests").body(r#""""#).await.expect(400);
            client.post("/guests").body(r#""ann""#).await.expect(201);
            client.get("/guests").await.expect(200).text(r#"[["ann",0]]"#);
        }
        let before: serde_json::Value = client.get("/stats").await.expect(200).json();
        let before = before["counts"]["requests"].as_u64().expect("a count");
        let mut live = client.get("/live").events().await;
        for _ in 0..3 {
            let told: serde_json::Value = live.next().await.expect("an event").json();
            assert_eq!(told["rows"][0]["requests"], before + 1);
        }
    });
}
