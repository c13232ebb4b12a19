//! A handler that is no `async fn`.
use soloist::prelude::*;

fn show(cx: &Ctx<()>) -> Result<Reply> {
    cx.text("hello")
}

fn main() {
    App::new(()).get("/", show);
}
