//! A status without an answer.
use soloist::prelude::*;

async fn show(cx: &Ctx<()>) -> Result<Reply> {
    cx.status(204)
}

fn main() {
    App::new(()).get("/", show);
}
