//! A crate made for tokio in a handler: reqwest fetches a page, on the shard itself.
//!
//! Run with: `cargo run --release --example tokio-crates --features tokio`
//! Try: `curl http://127.0.0.1:8080/size`, which has the server ask itself for `/page`

use std::time::Duration;

use soloist::prelude::*;

#[path = "common/args.rs"]
mod args;

fn main() -> Result<()> {
    args::server()?.run(app)
}

/// One client a shard: its connections are the shard's own.
async fn app(_: Shard) -> Result<App<reqwest::Client>> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    Ok(App::new(client).get("/page", async |cx| cx.html("<p>hello")).get("/size", size))
}

async fn size(cx: &Ctx<reqwest::Client>) -> Result<Reply> {
    let url = format!("http://{}/page", cx.host());
    let answer = cx.state().get(url).send().await?;
    let page = answer.error_for_status()?.bytes().await?;
    tokio::time::sleep(Duration::from_millis(1)).await; // tokio's own timers and sockets work too
    cx.text(format!("{} bytes\n", page.len()))
}
