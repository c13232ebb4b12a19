//! A path that is kept longer than its request.
use std::cell::Cell;

use soloist::prelude::*;

struct State {
    last: Cell<&'static str>,
}

async fn show(cx: &Ctx<State>) -> Result<Reply> {
    cx.state().last.set(cx.path());
    cx.text("hello")
}

fn main() {
    App::new(State { last: Cell::new("") }).get("/", show);
}
