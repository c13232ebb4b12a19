//! `?` on an error type that is no error.
use soloist::prelude::*;

enum Mishap {
    Fire,
}

fn work() -> Result<(), Mishap> {
    Err(Mishap::Fire)
}

async fn show(cx: &Ctx<()>) -> Result<Reply> {
    work()?;
    cx.text("hello")
}

fn main() {
    App::new(()).get("/", show);
}
