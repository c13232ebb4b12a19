//! A closure whose block is async, and not itself.
use soloist::prelude::*;

fn main() {
    App::new(()).get("/", |cx: &Ctx<()>| async move { cx.text("hello") });
}
