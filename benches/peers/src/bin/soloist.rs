//! Ours.

use std::time::Duration;

use serde::Serialize;
use soloist::prelude::*;
use soloist_peers::{Echo, GIB_WRITES, HELLO, Options, User, WRITE_BYTES};

fn main() -> Result<()> {
    let options = Options::from_args();
    // One worker runs on the core that the bench has pinned the process to.
    let limits =
        Limits { idle_ms_max: soloist_peers::IDLE.as_millis() as u64, ..Limits::default() };
    let mut server = Server::bind(options.addr.to_string()).shards(options.workers).limits(limits);
    if let Some(name) = options.congestion {
        server = server.congestion(name);
    }
    server.run(app)
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .get("/", async |cx| cx.text(HELLO))
        .get("/users/:id", async |cx| json(cx, &User::new(cx.param("id")?)))
        .post("/echo", async |cx| json(cx, &cx.body_json::<Echo>().await?.next()))
        .get("/ticks", ticks)
        .get("/gib", gib))
}

async fn ticks(cx: &Ctx<()>) -> Result<Reply> {
    let mut seconds = cx.shard().interval(Duration::from_secs(1));
    let mut events = cx.events().await?;
    let mut n = 0u64;
    while let Some(()) = events.wait(seconds.tick()).await {
        events.send(Event::json(&n).id(&n.to_string())).await?;
        n += 1;
    }
    events.finish().await
}

async fn gib(cx: &Ctx<()>) -> Result<Reply> {
    let buffer = vec![b'x'; WRITE_BYTES]; // as if it were read from somewhere
    let mut out = cx.stream("application/octet-stream").await?;
    for _ in 0..GIB_WRITES {
        out.write(&buffer).await?;
    }
    out.finish().await
}

fn json(cx: &Ctx<()>, value: &impl Serialize) -> Result<Reply> {
    cx.json(value)
}
