//! A handler where a middleware is wanted.
use soloist::prelude::*;

async fn show(cx: &Ctx<()>) -> Result<Reply> {
    cx.text("hello")
}

fn main() {
    App::new(()).wrap(show);
}
