//! A handler that wants to own its context.
use soloist::prelude::*;

async fn show(cx: Ctx<()>) -> Result<Reply> {
    cx.text("hello")
}

fn main() {
    App::new(()).get("/", show);
}
