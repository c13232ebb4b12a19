//! Compressed answers and request bodies: what is chosen, what comes out, what is refused.
#![cfg(feature = "compress")]

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use soloist::Limits;
use soloist::middleware::*;
use soloist::prelude::*;
use soloist::testing::{Answer, TestClient};

const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

/// Text that shrinks, but not to nothing.
fn text(bytes: usize) -> String {
    let mut text = String::new();
    for n in 0_u64.. {
        if text.len() >= bytes {
            break;
        }
        text += &format!("line {n} of {:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
    }
    text.truncate(bytes);
    text
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .wrap(compress())
        .wrap(etag(Strength::Strong))
        .get("/text/:bytes", async |cx| cx.text(text(cx.param("bytes")?)))
        .get("/as/*mime", async |cx| {
            cx.set_header("content-type", cx.param::<&str>("mime")?).text(text(5_000))
        })
        .get("/with/:name/*value", async |cx| {
            let (name, value): (&str, &str) = (cx.param("name")?, cx.param("value")?);
            cx.set_header(name, value).text(text(5_000))
        })
        .get("/status/:status", async |cx| cx.status(cx.param("status")?).text(text(5_000)))
        .get("/random", async |cx| {
            let mut seed = 1_u64;
            let bytes = (0..5_000).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            });
            cx.bytes("application/x-thing", bytes.collect::<Vec<u8>>())
        })
        .get("/events", async |cx| {
            cx.set_header("etag", "\"s\"");
            let mut out = cx.stream("text/event-stream").await?;
            for n in 0..3 {
                out.write(format!("data: {n}\n\n")).await?;
                cx.sleep(Duration::from_secs(1)).await;
            }
            out.finish().await
        })
        .get("/large", async |cx| {
            let mut out = cx.stream("text/plain").await?;
            out.write(text(300_000)).await?;
            out.finish().await
        }))
}

fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "br" => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_end(&mut out),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        _ => panic!("{coding}"),
    }
    .unwrap_or_else(|error| panic!("{coding}: {error}"));
    out
}

fn encoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "br" => brotli::CompressorWriter::new(&mut out, 4_096, 5, 22).write_all(bytes),
        "zstd" => zstd::stream::copy_encode(bytes, &mut out, 3),
        "gzip" => {
            flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast()).write_all(bytes)
        }
        "deflate" => {
            flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::fast()).write_all(bytes)
        }
        _ => panic!("{coding}"),
    }
    .unwrap_or_else(|error| panic!("{coding}: {error}"));
    out
}

async fn ask(client: &TestClient, path: &str, accept: &str) -> Answer {
    client.get(path).header("accept-encoding", accept).await
}

#[test]
fn codings_are_chosen() {
    TestClient::run(app, async |client| {
        for (path, accept, want) in [
            ("/text/5000", "gzip, deflate, br, zstd", "br"),
            ("/text/5000", "gzip, zstd", "zstd"),
            ("/text/5000", "gzip", "gzip"),
            ("/text/5000", "gzip;q=1, br;q=0.5", "gzip"),
            ("/text/5000", "br;q=0, *", "zstd"),
            ("/text/5000", "identity, gzip;q=0.5", ""),
            ("/text/5000", "deflate, compress", ""),
            ("/text/5000", "", ""),
            ("/text/5000", "gzip;q=nonsense", ""),
            ("/text/1024", "gzip", "gzip"),
            ("/text/1023", "gzip", ""),
            ("/text/0", "gzip", ""),
            ("/as/application/json", "gzip", "gzip"),
            ("/as/image/png", "gzip", ""),
            ("/as/image/svg+xml", "gzip", "gzip"),
            ("/random", "gzip", ""),
            ("/with/content-encoding/br", "gzip", "br"),
            ("/with/cache-control/public, no-transform", "gzip", ""),
            ("/with/cache-control/public", "gzip", "gzip"),
            ("/with/content-range/bytes 0-1", "gzip", ""),
            ("/status/404", "gzip", "gzip"),
            ("/status/206", "gzip", ""),
            ("/status/204", "gzip", ""),
        ] {
            let path = path.replace(' ', "%20");
            let answer = ask(client, &path, accept).await;
            let what = format!("{path} {accept}");
            assert_eq!(answer.header("content-encoding").unwrap_or(""), want, "{what}");
            let can = path.starts_with("/text/5") || path == "/random" || !want.is_empty();
            let vary = can && !path.contains("content-encoding");
            assert_eq!(answer.header("vary"), vary.then_some("Accept-Encoding"), "{what}");
        }
        let bare = client.get("/text/5000").await.expect(200);
        assert_eq!(bare.header("content-encoding"), None);
        assert_eq!(bare.header("vary"), Some("Accept-Encoding"));
    });
}

#[test]
fn bodies_come_back() {
    TestClient::run(app, async |client| {
        for coding in CODINGS {
            for bytes in [1_024, 16_384, 16_385, 1_000_000] {
                let answer = ask(client, &format!("/text/{bytes}"), coding).await.expect(200);
                assert_eq!(answer.header("content-encoding"), Some(coding));
                assert!(answer.body().len() < bytes * 2 / 3, "{coding} {bytes}");
                assert!(decoded(coding, answer.body()) == text(bytes).as_bytes());
                let head = client.call("HEAD", &format!("/text/{bytes}"));
                let head = head.header("accept-encoding", coding).await.expect(200);
                for name in ["content-length", "content-encoding", "etag", "vary"] {
                    assert_eq!(head.header(name), answer.header(name), "{name}");
                }
            }
            let answer = ask(client, "/large", coding).await.expect(200);
            assert!(decoded(coding, answer.body()) == text(300_000).as_bytes());
        }
    });
}

#[test]
fn tags_become_weak() {
    TestClient::run(app, async |client| {
        let plain = client.get("/text/5000").await.expect(200);
        let strong = plain.header("etag").expect("a tag").to_owned();
        let weak = format!("W/{strong}");
        assert!(strong.starts_with('"'));
        let answer = ask(client, "/text/5000", "br").await.expect(200);
        assert_eq!(answer.header("etag"), Some(&*weak));
        let again = client.get("/text/5000").header("if-none-match", &weak);
        let again = again.header("accept-encoding", "br").await.expect(304);
        assert_eq!(again.header("vary"), Some("Accept-Encoding"));
        assert_eq!(again.header("content-encoding"), None);
        let answer = ask(client, "/events", "br").await.expect(200);
        assert_eq!(answer.header("etag"), Some("W/\"s\""));
    });
}

#[test]
fn events_arrive_when_they_are_written() {
    TestClient::run(app, async |client| {
        for coding in CODINGS {
            let open = client.open();
            let request =
                format!("GET /events HTTP/1.0\r\nhost: a\r\naccept-encoding: {coding}\r\n\r\n");
            let mut out = Vec::new();
            open.exchange(request.as_bytes(), &mut out);
            let mut want = String::new();
            for n in 0..3 {
                want += &format!("data: {n}\n\n");
                let end = out.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
                let head = String::from_utf8_lossy(&out[..end]).into_owned();
                assert!(head.contains(&format!("content-encoding: {coding}\r\n")), "{head}");
                let mut got = vec![0; want.len()];
                let body = &out[end..];
                match coding {
                    "br" => brotli::Decompressor::new(body, 4_096).read_exact(&mut got),
                    "zstd" => {
                        zstd::stream::read::Decoder::new(body).expect("zstd").read_exact(&mut got)
                    }
                    _ => flate2::read::GzDecoder::new(body).read_exact(&mut got),
                }
                .unwrap_or_else(|error| panic!("{coding} {n}: {error}"));
                assert_eq!(String::from_utf8_lossy(&got), want);
                client.advance(Duration::from_millis(1_100)).await;
                open.exchange(b"", &mut out);
            }
        }
    });
}

#[test]
fn others_have_their_turn() {
    // A task that counts how often it is polled, and how often while one answer is compressed.
    let during = Rc::new(Cell::new(0));
    let seen = during.clone();
    let app = async move |shard: Shard| {
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        shard.spawn(poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            if counted.get() < 10_000 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        let around = async move |_: &Ctx<()>, next: Next<'_>| {
            let before = polls.get();
            let reply = next.run().await;
            during.set(polls.get() - before);
            reply
        };
        let body = text(1 << 20);
        Ok(App::new(()).wrap(around).wrap(compress()).get("/", async move |cx| cx.text(&body)))
    };
    TestClient::run(app, async |client| {
        ask(client, "/", "gzip").await.expect(200);
        assert!(seen.get() >= 63, "{} turns while 64 slices were compressed", seen.get());
    });
}

#[test]
fn settings_are_checked() {
    for (settings, want) in [
        (Compress::new().codings(&[]), "compress: codings: none"),
        (Compress::new().brotli_level(12), "compress: brotli_level: 0 to 11"),
        (Compress::new().zstd_level(0), "compress: zstd_level: 1 to 22"),
        (Compress::new().gzip_level(10), "compress: gzip_level: 0 to 9"),
    ] {
        let Err(error) = compress_with::<()>(settings) else { panic!("taken, but {want}") };
        assert!(error.message().starts_with(want), "{error}");
    }
}

async fn takes(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .wrap(body_limit(100_000))
        .wrap(decompress())
        .post("/", async |cx| {
            let first = cx.body().await?;
            assert_eq!(first, cx.body().await?);
            cx.bytes("text/plain", first)
        })
        .post("/pieces", async |cx| {
            let mut all = Vec::new();
            while let Some(piece) = cx.next_chunk().await? {
                all.extend_from_slice(&piece);
            }
            cx.bytes("text/plain", all)
        }))
}

#[test]
fn request_bodies_are_decoded() {
    TestClient::run(takes, async |client| {
        for coding in ["br", "zstd", "gzip", "deflate", "X-Gzip"] {
            let name = if coding == "X-Gzip" { "gzip" } else { coding };
            for (path, pieces) in [("/", usize::MAX), ("/", 100), ("/pieces", 100)] {
                for bytes in [0, 1, 16_384, 100_000] {
                    let (plain, coded) = (text(bytes), encoded(name, text(bytes).as_bytes()));
                    let call = client.post(path).header("content-encoding", coding);
                    let answer = call.body(coded).pieces(pieces).await.expect(200);
                    assert!(answer.body() == plain.as_bytes(), "{coding} {path} {bytes}");
                }
                let bomb = encoded(name, &vec![b'x'; 100_001]);
                let call = client.post(path).header("content-encoding", coding);
                call.body(bomb).pieces(pieces).await.expect(413);
            }
            let coded = encoded(name, text(300).as_bytes());
            let post = async |body: &[u8]| {
                client.post("/").header("content-encoding", coding).body(body).await
            };
            for len in 1..coded.len() {
                post(&coded[..len]).await.expect(400);
            }
            post(&[&coded[..], b"x"].concat()).await.expect(400);
            post(&[&coded[..], &coded[..]].concat()).await.expect(400);
            post(&text(300).into_bytes()).await.expect(400);
        }
        for (coding, status) in [
            ("identity", 200),
            ("", 200),
            ("compress", 415),
            ("gzip, br", 415),
            ("aws-chunked", 415),
        ] {
            let answer = client.post("/").header("content-encoding", coding).body("plain").await;
            assert_eq!(answer.status(), status, "{coding}");
            let names = (status == 415).then_some("gzip, br, zstd, deflate");
            assert_eq!(answer.header("accept-encoding"), names);
        }
        client.post("/").header("content-encoding", "gzip").await.expect(200).text("");
        client.post("/").body("plain").await.expect(200).text("plain");
        client.post("/pieces").body("plain").await.expect(200).text("plain");
    });
}

#[test]
fn windows_are_bounded() {
    let limits = Limits { body_bytes_max: 1 << 20, ..Limits::default() };
    TestClient::run_with(limits, takes, async |client| {
        // A zstd frame that asks for a window of 2^27 bytes, then one raw block of one byte.
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x09, 0x00, 0x00, b'a'];
        let fits = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0x09, 0x00, 0x00, b'a'];
        // Brotli with the extension for windows of 2^30 bytes.
        let params = |large_window| brotli::enc::BrotliEncoderParams {
            large_window,
            lgwin: if large_window { 30 } else { 24 },
            ..Default::default()
        };
        let brotli = [true, false].map(|large_window| {
            let mut out = Vec::new();
            let text = text(300);
            brotli::BrotliCompress(&mut text.as_bytes(), &mut out, &params(large_window))
                .expect("brotli");
            out
        });
        for (coding, body, status) in [
            ("zstd", &zstd[..], 400),
            ("zstd", &fits[..], 200),
            ("br", &brotli[0], 400),
            ("br", &brotli[1], 200),
        ] {
            let call = client.post("/").header("content-encoding", coding).body(body);
            call.await.expect(status);
        }
    });
}
