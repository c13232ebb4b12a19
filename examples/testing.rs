//! How an application is tested: without a socket, with time that jumps, with clients that
//! misbehave, and on real shards.
//!
//! Run with: `cargo test --example testing`; the application itself: `cargo run --example testing`
//! Try: `curl http://127.0.0.1:8080/slow/3`

use std::time::Duration;

use soloist::prelude::*;

#[path = "common/args.rs"]
mod args;

fn main() -> Result<()> {
    args::server()?.run(app)
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .get("/slow/:secs", slow)
        .post("/length", async |cx| cx.json(&cx.body().await?.len()))
        .get("/ticks", ticks)
        .get("/neighbour", neighbour))
}

async fn slow(cx: &Ctx<()>) -> Result<Reply> {
    let secs: u64 = cx.param("secs")?;
    match cx.timeout(Duration::from_secs(5), cx.sleep(Duration::from_secs(secs))).await {
        Ok(()) => cx.text("done"),
        Err(_) => Err(Error::new(504, "five seconds are enough")),
    }
}

async fn ticks(cx: &Ctx<()>) -> Result<Reply> {
    let mut minutes = cx.shard().interval(Duration::from_secs(60));
    let mut events = cx.events().await?;
    while let Some(()) = events.wait(minutes.tick()).await {
        events.send(Event::data("tick")).await?;
    }
    events.finish().await
}

/// Asks the next shard for its id.
async fn neighbour(cx: &Ctx<()>) -> Result<Reply> {
    let shard = cx.shard();
    let next = (shard.id() + 1) % shard.count();
    let id = shard.on_within(Duration::from_millis(50), next, async |it| Ok(it.id())).await?;
    cx.json(&id)
}

#[cfg(test)]
mod tests {
    use soloist::testing::{TestClient, TestServer};

    use super::*;

    /// Hours of the shard's time take microseconds of the test's.
    #[test]
    fn time_jumps() {
        TestClient::run(app, async |client| {
            client.get("/slow/3").await.expect(200).text("done");
            client.get("/slow/3600").await.expect(504).text("five seconds are enough");
            let mut events = client.get("/ticks").events().await;
            for _ in 0..60 {
                assert_eq!(events.next().await.expect("an event").data, "tick");
            }
        });
    }

    #[test]
    fn clients_misbehave() {
        TestClient::run(app, async |client| {
            client.post("/length").body("0123456789").pieces(1).await.expect(200).text("10");
            // Half a body, then a reset.
            let open = client.open();
            open.send(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234");
            open.reset();
            assert!(open.is_closed());
            // Half a head, then silence: 408.
            let out = client.raw_until_closed(b"GET /slow/1 HT").await;
            assert!(out.starts_with(b"HTTP/1.1 408 "));
        });
    }

    #[test]
    fn shards_are_held_up() {
        let server = TestServer::start(2, app);
        server.get("/neighbour").expect(200);
        let held = [server.hold(0), server.hold(1)];
        drop(held); // until here nobody was answered
        server.get("/neighbour").expect(200);
    }
}
