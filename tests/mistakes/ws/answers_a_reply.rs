//! A socket's handler has no reply to give.
use soloist::prelude::*;

async fn room(cx: &Ctx<()>, ws: &mut Ws) -> Result<Reply> {
    ws.send("hello").await?;
    cx.text("bye")
}

fn main() {
    App::new(()).ws("/room", room);
}
