//! A middleware that is no `async fn`.
use soloist::prelude::*;

fn log(cx: &Ctx<()>, _: Next<'_>) -> Result<Reply> {
    cx.text("hello")
}

fn main() {
    App::new(()).wrap(log);
}
