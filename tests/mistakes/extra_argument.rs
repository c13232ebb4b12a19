//! A handler with an argument too many.
use soloist::prelude::*;

async fn show(cx: &Ctx<()>, _id: u32) -> Result<Reply> {
    cx.text("hello")
}

fn main() {
    App::new(()).get("/", show);
}
