//! A builder that returns the application bare.
use soloist::prelude::*;

async fn app(_: Shard) -> App<()> {
    App::new(()).get("/", async |cx| cx.text("hello"))
}

fn main() {
    let _ = Server::bind("127.0.0.1:0").run(app);
}
