//! An echo server for WebSocket conformance suites and interoperability tests: every message comes
//! back as it was, up to 16 MiB, compressed for clients that can.
//!
//! Run with `cargo run --release --features ws --example ws-echo -- --port 9001`.
//! Try it from a browser's console: `ws = new WebSocket("ws://127.0.0.1:9001"); ws.onmessage =
//! (m) => console.log(m.data); ws.onopen = () => ws.send("hello")`.
//! `--takeover` keeps compression windows from message to message.

use soloist::prelude::*;
use soloist::{WsDeflate, WsOptions};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let port = arguments.iter().position(|it| it == "--port").and_then(|at| arguments.get(at + 1));
    let port = port.map_or("9001", String::as_str);
    let takeover = arguments.iter().any(|it| it == "--takeover");
    let deflate = if takeover { WsDeflate::Dedicated } else { WsDeflate::Shared };
    let options = WsOptions::new().any_origin().message_bytes_max(16 << 20).deflate(deflate);
    let app = async move |_| Ok(App::new(()).ws_with("/", options, echo));
    Server::bind(format!("127.0.0.1:{port}")).run(app)
}

async fn echo(_: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
