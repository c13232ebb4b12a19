//! A socket that a handler takes away.
use soloist::prelude::*;

async fn room(_: &Ctx<()>, mut ws: Ws) -> Result<()> {
    ws.send("hello").await
}

fn main() {
    App::new(()).ws("/room", room);
}
