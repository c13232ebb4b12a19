//! Ours.

use serde::Serialize;
use soloist::prelude::*;
use soloist_peers::{Echo, HELLO, Options, User};

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
        .post("/echo", async |cx| json(cx, &cx.body_json::<Echo>().await?.next())))
}

fn json(cx: &Ctx<()>, value: &impl Serialize) -> Result<Reply> {
    cx.json(value)
}
