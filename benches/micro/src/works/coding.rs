//! Compression of 100 KiB of JSON: the middleware beside the library alone.

use std::hint::black_box;
use std::io::Write;

use soloist::middleware::compress;
use soloist::prelude::*;
use soloist::testing::TestClient;

use crate::runner::Runner;

const BYTES: usize = 100 * 1024;

pub fn run(runner: &mut Runner) {
    let json = json();
    runner.run("alone_br", || drop(black_box(br(&json))));
    runner.run("alone_zstd", || drop(black_box(zst(&json))));
    runner.run("alone_gzip", || drop(black_box(gzip(&json))));
    let works = [
        ("compress_none", "identity"),
        ("compress_br", "br"),
        ("compress_zstd", "zstd"),
        ("compress_gzip", "gzip"),
    ];
    if !works.iter().any(|(name, _)| runner.wants(name)) {
        return;
    }
    TestClient::run(app, async |client| {
        for (name, coding) in works {
            let keep_alive = client.open();
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n");
            let mut out = Vec::with_capacity(BYTES);
            runner.run(name, || {
                out.clear();
                keep_alive.exchange(black_box(request.as_bytes()), &mut out);
            });
            let small = out.len() < BYTES / 2;
            assert!(!runner.wants(name) || small == (coding != "identity"), "{} bytes", out.len());
        }
    });
}

async fn app(_: Shard) -> Result<App<()>> {
    let json = json();
    Ok(App::new(()).wrap(compress()).get("/", async move |cx| cx.bytes("application/json", &json)))
}

/// The levels of the middleware.
fn br(bytes: &[u8]) -> Vec<u8> {
    let mut coder = brotli::CompressorWriter::new(Vec::new(), 16 * 1024, 4, 18);
    coder.write_all(bytes).expect("memory");
    coder.into_inner()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    coder.write_all(bytes).expect("memory");
    coder.finish().expect("memory")
}

/// Rows as a service lists them.
fn json() -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES + 256);
    let mut dice = 42_u64;
    while out.len() < BYTES {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (id, score) = (dice >> 44, (dice >> 33) % 10_000);
        let comma = if out.is_empty() { '[' } else { ',' };
        let line = write!(
            out,
            r#"{comma}{{"id":{id},"name":"user {id}","email":"user{id}@example.org","score":{score},"tags":["a","b"]}}"#
        );
        line.expect("memory");
    }
    out.push(b']');
    out
}
