//! A handler of requests where a socket is opened.
use soloist::prelude::*;

async fn room(cx: &Ctx<()>) -> Result<Reply> {
    cx.text("hello")
}

fn main() {
    App::new(()).ws("/room", room);
}
