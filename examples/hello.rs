//! The smallest server.
//!
//! Run with: `cargo run --release --example hello`
//! Try: `curl -i http://127.0.0.1:8080/`, `curl http://127.0.0.1:8080/greet/you`

use soloist::prelude::*;

#[path = "common/args.rs"]
mod args;

fn main() -> Result<()> {
    args::server()?.run(app)
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(()).get("/", async |cx| cx.text("hello, world")).get("/greet/:name", greet))
}

async fn greet(cx: &Ctx<()>) -> Result<Reply> {
    let name: &str = cx.param("name")?;
    cx.text(cx.format(format_args!("hello, {name}")))
}
