//! A handler of an application with another state.
use soloist::prelude::*;

async fn show(cx: &Ctx<u32>) -> Result<Reply> {
    cx.text("hello")
}

fn main() {
    App::new(()).get("/", show);
}
