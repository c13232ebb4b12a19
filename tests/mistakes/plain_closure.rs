//! A closure that does not start with `async`.
use soloist::prelude::*;

fn main() {
    App::new(()).get("/", |cx: &Ctx<()>| cx.text("hello"));
}
