//! A task that outlives the request it borrows from.
use soloist::prelude::*;

async fn show(cx: &Ctx<()>) -> Result<Reply> {
    cx.spawn(async { println!("{}", cx.path()) });
    cx.text("hello")
}

fn main() {
    App::new(()).get("/", show);
}
