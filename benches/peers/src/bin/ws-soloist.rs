//! Ours.

use soloist::prelude::*;
use soloist_peers::Options;

fn main() -> Result<()> {
    let options = Options::from_args();
    // One worker runs on the core that the bench has pinned the process to.
    let limits = Limits {
        sockets_max: 20_000,
        idle_ms_max: soloist_peers::IDLE.as_millis() as u64,
        ..Limits::default()
    };
    let mut server = Server::bind(options.addr.to_string()).shards(options.workers).limits(limits);
    if let Some(name) = options.congestion {
        server = server.congestion(name);
    }
    server.run(async |_: Shard| Ok(App::new(()).ws("/echo", echo).ws("/room", room)))
}

async fn echo(_cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

async fn room(cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    ws.join("room")?;
    while let Some(message) = ws.recv().await? {
        if message.text().is_some_and(|text| text.starts_with('!')) {
            cx.publish("room", message);
        }
    }
    Ok(())
}
