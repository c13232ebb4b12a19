//! A handler that returns text and not a reply.
use soloist::prelude::*;

async fn show(_: &Ctx<()>) -> String {
    "hello".to_owned()
}

fn main() {
    App::new(()).get("/", show);
}
