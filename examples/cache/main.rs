//! A shop whose items every core caches for itself: hit rates live, and a word that reaches all.
//!
//! Run with: `cargo run --release --features cache --example cache`
//! Try: a browser on http://127.0.0.1:8080/, `curl http://127.0.0.1:8080/items/12/1234` twice, and
//! `curl -X POST -d '"item:12:*"' http://127.0.0.1:8080/invalidate`

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde::Serialize;
use soloist::prelude::*;
use soloist::{Cache, CacheKey, CacheOptions, CacheStats};

#[path = "../common/args.rs"]
mod args;

const ITEMS: u64 = 10_000;
const SHELVES: u64 = 100;

fn main() -> Result<()> {
    args::server()?.run(app)
}

/// What one core has of the items, and how many visitors it plays.
struct Shop {
    items: Cache<CacheKey, String>,
    asks_per_ms: Cell<u32>,
}

async fn app(shard: Shard) -> Result<App<Shop>> {
    let options = CacheOptions::new().entries_max(2_000).ttl(Duration::from_secs(60));
    let items = shard.cache_with("items", options);
    shard.spawn(visitors(shard.clone()));
    Ok(App::new(Shop { items, asks_per_ms: Cell::new(5) })
        .get("/", async |cx| cx.html(include_str!("page.html")))
        .get("/items/:shelf/:item", item)
        .get("/live", live)
        .post("/invalidate", invalidate)
        .post("/visitors", many))
}

fn key(shelf: u64, item: u64) -> CacheKey {
    CacheKey::new("item").part(shelf).part(item)
}

/// A database that takes a few milliseconds.
async fn from_database(shard: &Shard, item: u64) -> Result<String> {
    shard.sleep(Duration::from_millis(2 + item % 7)).await;
    Ok(format!("item {item}: {}.99", item % 90 + 10))
}

async fn item(cx: &Ctx<Shop>) -> Result<Reply> {
    let (shelf, item) = (cx.param("shelf")?, cx.param("item")?);
    let (shard, items) = (cx.shard(), &cx.state().items);
    cx.text(items.get_or(key(shelf, item), async || from_database(&shard, item).await).await?)
}

/// What has changed is a line for whoever changes it, and gone for the next read on every core.
async fn invalidate(cx: &Ctx<Shop>) -> Result<Reply> {
    let pattern: &str = cx.body_json().await?;
    let start = Instant::now();
    cx.state().items.invalidate(pattern).everywhere().await?; // waits, to show how long it takes
    cx.json(&Said { pattern, heard_by_all_us: start.elapsed().as_micros() })
}

#[derive(Serialize)]
struct Said<'a> {
    pattern: &'a str,
    heard_by_all_us: u128,
}

#[derive(Serialize)]
struct Told {
    shard: usize,
    core: Option<usize>,
    stats: CacheStats,
}

/// The counters of all cores, four times a second.
async fn live(cx: &Ctx<Shop>) -> Result<Reply> {
    let shard = cx.shard();
    let mut often = shard.interval(Duration::from_millis(250));
    let mut events = cx.events().await?;
    while let Some(()) = events.wait(often.tick()).await {
        let all = shard.on_all(async |it| {
            let stats = it.cache::<CacheKey, String>("items").stats();
            Ok(Told { shard: it.id(), core: it.core(), stats })
        });
        events.send(Event::json(&all.await?)).await?;
    }
    events.finish().await
}

/// How many visitors each core plays.
async fn many(cx: &Ctx<Shop>) -> Result<Reply> {
    let asks = cx.body_json::<u32>().await?.min(100);
    let shard = cx.shard();
    let set = shard.on_all(async move |it| {
        it.got::<Shop>().ok_or("not built yet")?.asks_per_ms.set(asks);
        Ok(())
    });
    set.await?;
    cx.json(&asks)
}

/// Few items are asked for often, many seldom.
async fn visitors(shard: Shard) {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 + shard.id() as u64;
    let mut often = shard.interval(Duration::from_millis(1));
    loop {
        often.tick().await;
        let Some(shop) = shard.got::<Shop>() else { continue };
        for _ in 0..shop.asks_per_ms.get() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let even = (seed >> 11) as f64 / (1_u64 << 53) as f64;
            let item = (even.powi(8) * ITEMS as f64) as u64;
            let (key, items, own) = (key(item % SHELVES, item), shop.items.clone(), shard.clone());
            if items.contains(&key) {
                items.with(&key, |_| ()); // a hit
            } else {
                let ask = async move || from_database(&own, item).await;
                shard.spawn(async move { _ = items.get_or(key, ask).await });
            }
        }
    }
}

#[test]
fn shop() {
    soloist::testing::TestClient::run(app, async |client| {
        client.post("/visitors").json(&0).await.expect(200).text("0");
        client.get("/items/12/1234").await.expect(200).text("item 1234: 74.99");
        let items = client.shard().cache::<CacheKey, String>("items");
        assert!(items.contains(&key(12, 1234)));
        client.post("/invalidate").json(&"item:12:*").await.expect(200).contains("\"item:12:*\"");
        assert!(!items.contains(&key(12, 1234)));
        client.post("/visitors").json(&"many").await.expect(400);
        let mut events = client.get("/live").events().await;
        assert!(events.next().await.expect("an event").data.contains("\"hit_rate\""));
    });
}
