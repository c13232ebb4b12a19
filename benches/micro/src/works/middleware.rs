//! What the middlewares of the crate cost: five that every service needs, around hello.

use std::hint::black_box;
use std::time::Duration;

use soloist::middleware::{
    Cors, Incoming, LogFormat, access_log, cors, request_id, secure_headers, timeout,
};
use soloist::prelude::*;
use soloist::testing::TestClient;

use crate::runner::Runner;

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nOrigin: https://app.example\r\n\r\n";

async fn bare(_: Shard) -> Result<App<()>> {
    Ok(App::new(()).get("/", async |cx| cx.text("hello, world")))
}

async fn five(shard: Shard) -> Result<App<()>> {
    let app = bare(shard).await?;
    Ok(app
        .wrap(request_id(Incoming::Ignore))
        .wrap(access_log(LogFormat::Fields))
        .wrap(timeout(Duration::from_secs(10)))
        .wrap(cors(Cors::new().origins(&["https://app.example"]))?)
        .wrap(secure_headers()))
}

/// First without a subscriber, then with one that formats every line for a sink.
pub fn run(runner: &mut Runner) {
    exchange(runner, "std5_none", false);
    exchange(runner, "std5_unheard", true);
    if runner.wants("std5_logged") {
        let lines = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(lines, || exchange(runner, "std5_logged", true));
    }
}

fn exchange(runner: &mut Runner, name: &'static str, wrapped: bool) {
    if !runner.wants(name) {
        return;
    }
    let mut measure = async |client: &TestClient| {
        let keep_alive = client.open();
        let mut out = Vec::with_capacity(64 * 1024);
        runner.run(name, || {
            out.clear();
            keep_alive.exchange(black_box(REQUEST), &mut out);
        });
        assert!(out.ends_with(b"\r\n\r\nhello, world"), "{}", String::from_utf8_lossy(&out));
        assert_eq!(wrapped, out.windows(14).any(|it| it == b"x-request-id: "));
    };
    match wrapped {
        true => TestClient::run(five, async |client| measure(client).await),
        false => TestClient::run(bare, async |client| measure(client).await),
    }
}
