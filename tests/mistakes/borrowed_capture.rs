//! A closure that borrows what ends with its function.
use soloist::prelude::*;

async fn app(_: Shard) -> Result<App<()>> {
    let greeting = String::from("hello");
    Ok(App::new(()).get("/", async |cx| cx.text(&greeting)))
}

fn main() {
    let _ = Server::bind("127.0.0.1:0").run(app);
}
