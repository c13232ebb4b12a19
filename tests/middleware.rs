//! Middleware that every service needs, each as a table of requests and what comes back.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use soloist::middleware::*;
use soloist::prelude::*;
use soloist::testing::{Answer, TestClient};
use soloist::{Limits, Middleware};
use tracing::field::{Field, Visit};
use tracing::span;

/// An application with every way to answer, behind what is tested.
fn behind(middleware: impl Middleware<()>) -> App<()> {
    App::new(())
        .wrap(middleware)
        .get("/", async |cx| cx.text("hello"))
        .post("/", async |cx| cx.text(cx.body().await?.len().to_string()))
        .post("/pieces", async |cx| {
            let mut bytes = 0;
            while let Some(piece) = cx.next_chunk().await? {
                bytes += piece.len();
            }
            cx.text(bytes.to_string())
        })
        .get("/error", async |_| Err(Error::new(418, "a teapot")))
        .get("/panic", async |_| panic!("on purpose"))
        .get("/slow", async |cx| {
            cx.sleep(Duration::from_secs(60)).await;
            cx.text("slow")
        })
        .get("/stream", async |cx| {
            let mut out = cx.stream("text/plain").await?;
            out.write("one ").await?;
            cx.sleep(Duration::from_secs(60)).await;
            out.write("two").await?;
            out.finish().await
        })
        .get("/half", async |cx| {
            let mut out = cx.stream("text/plain").await?;
            out.write("half").await?;
            Err(Error::from("on purpose"))
        })
        .get("/own", async |cx| {
            cx.set_header("x-frame-options", "SAMEORIGIN").set_header("vary", "Accept, origin");
            cx.set_header("etag", "\"mine\"").set_header("cache-control", "no-cache");
            cx.set_header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT").text("own")
        })
}

/// Method, path, fields; the status, and fields of the answer, where "" says that there is none.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a [(&'a str, &'a str)]);

async fn ask(client: &TestClient, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut call = client.call(method, path);
    for (name, value) in fields {
        call = call.header(name, value);
    }
    call.await
}

/// Every line of every table is a request of its own.
fn holds<M: Middleware<()>>(middleware: impl Fn() -> Result<M>, cases: &[Case<'_>]) {
    let app = async |_: Shard| Ok(behind(middleware()?));
    TestClient::run(app, async |client| {
        for (method, path, fields, status, want) in cases {
            let answer = ask(client, method, path, fields).await;
            let what = format!("{method} {path} {fields:?}:\n{answer}");
            assert_eq!(answer.status(), *status, "{what}");
            for (name, value) in *want {
                assert_eq!(answer.header(name).unwrap_or(""), *value, "{name} of {what}");
            }
        }
    });
}

#[test]
fn request_ids() {
    let long = "a".repeat(65);
    let mine = [("x-request-id", "Mine-1_2.3")];
    let cases: [Case<'_>; 7] = [
        ("GET", "/", &mine, 200, &[mine[0]]),
        ("GET", "/", &[("x-request-id", &long[1..])], 200, &[("x-request-id", &long[1..])]),
        ("GET", "/error", &mine, 418, &[mine[0]]),
        ("GET", "/none", &mine, 404, &[mine[0]]),
        ("PUT", "/", &mine, 405, &[mine[0]]),
        ("GET", "/stream", &mine, 200, &[mine[0]]),
        ("GET", "/panic", &mine, 500, &[mine[0]]),
    ];
    holds(|| Ok(request_id(Incoming::Trust)), &cases);
    let app = async |_: Shard| Ok(behind(request_id(Incoming::Trust)));
    TestClient::run(app, async |client| {
        let bad: [&[(&str, &str)]; 5] = [
            &[],
            &[("x-request-id", &long)],
            &[("x-request-id", "a b")],
            &[("x-request-id", "")],
            &[mine[0], mine[0]],
        ];
        let mut seen = Vec::new();
        for fields in bad {
            let answer = ask(client, "GET", "/", fields).await;
            let id = answer.header("x-request-id").expect("an id").to_owned();
            let is_plain = |b: u8| b.is_ascii_hexdigit() || b == b'-';
            assert!(id.len() > 12 && id.len() < 40 && id.bytes().all(is_plain), "{id}");
            assert!(!seen.contains(&id), "{id} again");
            seen.push(id);
        }
    });
    let app = async |_: Shard| {
        Ok(App::new(())
            .wrap(request_id(Incoming::Ignore))
            .get("/", async |cx| cx.text(cx.got::<RequestId>().expect("an id").as_str())))
    };
    TestClient::run(app, async |client| {
        let answer = ask(client, "GET", "/", &mine).await;
        let id = answer.header("x-request-id").expect("an id").to_owned();
        assert_ne!(id, mine[0].1);
        answer.text(&id);
    });
}

#[test]
fn timeouts() {
    holds(
        || Ok(timeout(Duration::from_secs(1))),
        &[
            ("GET", "/", &[], 200, &[]),
            ("GET", "/slow", &[], 503, &[]),
            ("GET", "/stream", &[], 200, &[]),
            ("GET", "/error", &[], 418, &[]),
        ],
    );
    let app = async |_: Shard| Ok(behind(timeout(Duration::from_secs(1))));
    TestClient::run(app, async |client| {
        let start_ms = client.shard().now_ms();
        client.get("/slow").await.expect(503).text("took too long");
        let took_ms = client.shard().now_ms() - start_ms;
        assert!((1_000..1_010).contains(&took_ms), "{took_ms}");
        client.get("/stream").await.expect(200).text("one two");
        client.get("/").await.expect(200);
    });
}

#[test]
fn secure_fields() {
    let csp = "content-security-policy";
    holds(
        || Ok(secure_headers()),
        &[
            (
                "GET",
                "/",
                &[("x-forwarded-proto", "https")],
                200,
                &[
                    ("x-content-type-options", "nosniff"),
                    ("x-frame-options", "DENY"),
                    (csp, "frame-ancestors 'none'"),
                    ("referrer-policy", "strict-origin-when-cross-origin"),
                    ("strict-transport-security", ""),
                ],
            ),
            ("GET", "/error", &[], 418, &[("x-frame-options", "DENY")]),
            ("GET", "/stream", &[], 200, &[("x-frame-options", "DENY")]),
            (
                "GET",
                "/own",
                &[],
                200,
                &[("x-frame-options", "SAMEORIGIN"), ("x-content-type-options", "nosniff")],
            ),
        ],
    );
    let own = || {
        let headers = SecureHeaders::new().frames(Frames::SameOrigin).csp("default-src 'self';");
        secure_headers_with(headers.hsts(Duration::from_secs(60)).referrer_policy("no-referrer"))
    };
    let hsts = "strict-transport-security";
    holds(
        own,
        &[
            (
                "GET",
                "/",
                &[],
                200,
                &[
                    (csp, "default-src 'self'; frame-ancestors 'self'"),
                    ("referrer-policy", "no-referrer"),
                    (hsts, ""),
                ],
            ),
            ("GET", "/", &[("x-forwarded-proto", "https")], 200, &[(hsts, "max-age=60")]),
            ("GET", "/", &[("x-forwarded-proto", "http")], 200, &[(hsts, "")]),
        ],
    );
    let bad = secure_headers_with::<()>(SecureHeaders::new().csp("a\r\nb: c"));
    let Err(bad) = bad else { panic!("a line break was taken") };
    assert!(bad.message().starts_with("content-security-policy: "), "{bad}");
}

#[test]
fn cross_origins() {
    let listed = || {
        cors(
            Cors::new()
                .origins(&["https://a.example", "http://b.example:8080"])
                .methods(&["GET", "DELETE"])
                .headers(&["content-type"])
                .expose(&["x-total"])
                .credentials(true)
                .max_age(Duration::from_secs(600)),
        )
    };
    let (a, evil) = (("origin", "https://a.example"), ("origin", "https://evil.example"));
    let asks = ("access-control-request-method", "DELETE");
    let allow = "access-control-allow-origin";
    holds(
        listed,
        &[
            ("GET", "/", &[], 200, &[(allow, ""), ("vary", "Origin")]),
            (
                "GET",
                "/",
                &[a],
                200,
                &[
                    (allow, a.1),
                    ("vary", "Origin"),
                    ("access-control-allow-credentials", "true"),
                    ("access-control-expose-headers", "x-total"),
                ],
            ),
            ("GET", "/", &[evil], 200, &[(allow, ""), ("vary", "Origin")]),
            ("GET", "/", &[("origin", "null")], 200, &[(allow, "")]),
            ("GET", "/", &[("origin", "https://a.example.evil")], 200, &[(allow, "")]),
            ("GET", "/", &[a, a], 200, &[(allow, "")]),
            ("GET", "/error", &[a], 418, &[(allow, a.1)]),
            ("GET", "/stream", &[a], 200, &[(allow, a.1)]),
            ("GET", "/own", &[a], 200, &[(allow, a.1), ("vary", "Accept, origin")]),
            (
                "OPTIONS",
                "/",
                &[a, asks],
                204,
                &[
                    (allow, a.1),
                    ("access-control-allow-methods", "GET, DELETE"),
                    ("access-control-allow-headers", "content-type"),
                    ("access-control-max-age", "600"),
                    ("vary", "Origin"),
                ],
            ),
            ("OPTIONS", "/none", &[a, asks], 204, &[(allow, a.1)]),
            ("OPTIONS", "/", &[evil, asks], 403, &[(allow, ""), ("vary", "Origin")]),
            ("OPTIONS", "/", &[a], 204, &[("allow", "GET, HEAD, OPTIONS, POST"), (allow, a.1)]),
        ],
    );
    holds(
        || cors(Cors::new().origins(&["*"])),
        &[
            ("GET", "/", &[evil], 200, &[(allow, "*"), ("vary", "")]),
            ("OPTIONS", "/", &[evil, asks], 204, &[(allow, "*")]),
        ],
    );
    let open = Cors::new().origins(&["https://a.example"]);
    for (settings, want) in [
        (Cors::new(), "cors: no origins"),
        (Cors::new().origins(&["*"]).credentials(true), "cors: origins: \"*\" cannot stand beside"),
        (Cors::new().origins(&["*", "https://a.example"]), "cors: origins: \"*\" stands alone"),
        (Cors::new().origins(&["https://a.example/"]), "cors: origins: \"https://a.example/\" is"),
        (Cors::new().origins(&["a.example"]), "cors: origins: \"a.example\" is none"),
        (Cors::new().origins(&["null"]), "cors: origins: \"null\" is none"),
        (open.clone().headers(&["*"]).credentials(true), "cors: headers: \"*\" cannot"),
        (open.clone().methods(&["GET "]), "cors: methods: \"GET \" is no name"),
        (open.clone().headers(&["a\r\nb"]), "cors: headers: \"a\\r\\nb\" is no name"),
    ] {
        let Err(error) = cors::<()>(settings) else { panic!("taken, but {want}") };
        assert!(error.message().starts_with(want), "{error}");
    }
}

#[test]
fn body_limits() {
    let app = async |_: Shard| Ok(behind(body_limit(10)));
    TestClient::run(app, async |client| {
        for path in ["/", "/pieces"] {
            for (bytes, status) in [(0, 200), (10, 200), (11, 413)] {
                let answer = client.post(path).body(vec![b'x'; bytes]).await.expect(status);
                assert!(status != 200 || answer.body() == bytes.to_string().as_bytes());
            }
            let chunked = |body: &str| {
                format!(
                    "POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}"
                )
            };
            for (body, want) in [
                ("a\r\n0123456789\r\n0\r\n\r\n", "HTTP/1.1 200 "),
                ("b\r\n0123456789a\r\n0\r\n\r\n", "HTTP/1.1 413 "),
                ("6\r\n012345\r\n6\r\n6789ab\r\n", "HTTP/1.1 413 "),
            ] {
                let out = client.raw(&[chunked(body).as_bytes()]).await;
                assert!(out.starts_with(want.as_bytes()), "{}", String::from_utf8_lossy(&out));
            }
        }
        let waits =
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\nexpect: 100-continue\r\n\r\n";
        let (out, closed) = client.raw_open(waits.as_bytes()).await;
        assert!(out.starts_with(b"HTTP/1.1 413 ") && closed);
        client.get("/").await.expect(200);
    });
    // It may be larger than the server's bound.
    let limits = Limits { body_bytes_max: 4, stream_bytes_max: 4, ..Limits::default() };
    TestClient::run_with(
        limits,
        async |_| Ok(behind(body_limit(10))),
        async |client| {
            for path in ["/", "/pieces"] {
                client.post(path).body("0123456789").pieces(3).await.expect(200).text("10");
            }
        },
    );
    TestClient::run_with(
        limits,
        async |_| Ok(behind(timeout(Duration::MAX))),
        async |client| {
            client.post("/").body("0123456789").await.expect(413);
        },
    );
}

#[test]
fn authentication() {
    let basic = || {
        Ok(basic_auth("a \"b\"", async |_: &Ctx<()>, name: &str, password: &str| {
            Ok(name == "ann" && same_secret(password, "s:e"))
        }))
    };
    let challenge = ("www-authenticate", "Basic realm=\"a \\\"b\\\"\", charset=\"UTF-8\"");
    let auth = |value| [("authorization", value)];
    let good = auth("Basic YW5uOnM6ZQ=="); // ann:s:e
    holds(
        basic,
        &[
            ("GET", "/", &good, 200, &[("www-authenticate", "")]),
            ("GET", "/", &auth("bAsIc  YW5uOnM6ZQ=="), 200, &[]),
            ("GET", "/", &[], 401, &[challenge]),
            ("GET", "/", &[good[0], good[0]], 401, &[challenge]),
            ("GET", "/", &auth("Basic YW5uOnM6ZA=="), 401, &[challenge]), // ann:s:d
            ("GET", "/", &auth("Basic YW5u"), 401, &[challenge]),         // ann
            ("GET", "/", &auth("Basic YW5uOnM6ZQ"), 401, &[challenge]),
            ("GET", "/", &auth("Basic"), 401, &[challenge]),
            ("GET", "/", &auth("Basic /////w=="), 401, &[challenge]),
            ("GET", "/", &auth("Bearer YW5uOnM6ZQ=="), 401, &[challenge]),
            ("GET", "/none", &[], 401, &[challenge]),
        ],
    );
    let bearer = || {
        Ok(bearer_auth("api", async |cx: &Ctx<()>, token: &str| {
            cx.sleep(Duration::from_millis(10)).await;
            match token {
                "broken" => Err(Error::from("the table of tokens is gone")),
                _ => Ok(same_secret(token, "abc-._~+/12==")),
            }
        }))
    };
    let invalid = ("www-authenticate", "Bearer realm=\"api\", error=\"invalid_token\"");
    holds(
        bearer,
        &[
            ("GET", "/", &auth("Bearer abc-._~+/12=="), 200, &[]),
            ("GET", "/", &auth("bearer abc-._~+/12=="), 200, &[]),
            ("GET", "/", &[], 401, &[("www-authenticate", "Bearer realm=\"api\"")]),
            ("GET", "/", &auth("Bearer abd"), 401, &[invalid]),
            ("GET", "/", &auth("Bearer a b"), 401, &[invalid]),
            ("GET", "/", &auth("Bearer ="), 401, &[invalid]),
            ("GET", "/", &auth("Basic abc"), 401, &[("www-authenticate", "Bearer realm=\"api\"")]),
            ("GET", "/", &auth("Bearer broken"), 500, &[("www-authenticate", "")]),
        ],
    );
}

#[test]
fn loads_are_shed() {
    let app = async |_: Shard| Ok(behind(limit_concurrency(2)));
    TestClient::run(app, async |client| {
        for _ in 0..3 {
            let [one, two] = [client.open(), client.open()];
            let (mut out, slow) = (Vec::new(), b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
            one.exchange(slow, &mut out);
            client.get("/").await.expect(200);
            two.exchange(slow, &mut out);
            let refused = client.get("/").await.expect(503);
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert!(out.is_empty());
            client.advance(Duration::from_secs(61)).await;
            one.exchange(b"", &mut out);
            two.exchange(b"", &mut out);
            assert_eq!(out.windows(4).filter(|it| it == b"slow").count(), 2);
            client.get("/panic").await.expect(500);
            client.get("/").await.expect(200);
        }
    });
}

#[test]
fn rates_are_bounded() {
    let by_key = || Ok(limit_rate_by(1, 2, |cx: &Ctx<()>| cx.header("x-key")));
    let (a, b) = ([("x-key", "a")], [("x-key", "b")]);
    let again: [(&str, &str); 1] = [("retry-after", "1")];
    holds(
        by_key,
        &[
            ("GET", "/", &a, 200, &[]),
            ("GET", "/", &a, 200, &[]),
            ("GET", "/", &a, 429, &again),
            ("GET", "/", &b, 200, &[]),
            ("GET", "/slow", &b, 200, &[]),
            ("GET", "/", &a, 200, &[]),
            ("GET", "/", &a, 200, &[]),
            ("GET", "/", &a, 429, &again),
            ("GET", "/", &[], 200, &[]),
            ("GET", "/", &[], 200, &[]),
            ("GET", "/", &[], 200, &[]),
        ],
    );
    holds(|| Ok(limit_rate(1, 1)), &[("GET", "/", &[], 200, &[]), ("GET", "/", &[], 429, &again)]);
}

#[test]
fn clients_behind_a_trusted_proxy_have_rates_of_their_own() {
    let app = async |_: Shard| {
        let app = App::new(()).trust(&["10.0.0.1"]).wrap(limit_rate(1, 1));
        Ok(app.get("/", async |cx| cx.text("hello")))
    };
    TestClient::run(app, async |client| {
        client.peer(([10, 0, 0, 1], 4711));
        for (address, status) in [("192.0.2.7", 200), ("192.0.2.8", 200), ("192.0.2.7", 429)] {
            client.get("/").header("x-forwarded-for", address).await.expect(status);
        }
    });
}

#[test]
fn entity_tags() {
    let app = async |_: Shard| Ok(behind(etag(Strength::Strong)));
    TestClient::run(app, async |client| {
        let whole = client.get("/").await.expect(200).text("hello");
        let tag = whole.header("etag").expect("a tag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with("-5\""), "{tag}");
        let weak = format!("W/{tag}");
        for (method, path, list, status) in [
            ("GET", "/", &*tag, 304),
            ("GET", "/", &weak, 304),
            ("GET", "/", "\"x\", *", 200),
            ("GET", "/", "*", 304),
            ("HEAD", "/", &tag, 304),
            ("GET", "/", "\"x\"", 200),
            ("GET", "/own", "\"mine\"", 304),
            ("GET", "/own", &tag, 200),
            ("GET", "/error", "*", 418),
            ("GET", "/stream", "*", 200),
            ("POST", "/", "*", 200),
        ] {
            let answer = ask(client, method, path, &[("if-none-match", list)]).await;
            assert_eq!(answer.status(), status, "{method} {path} {list}\n{answer}");
            if status != 304 {
                continue;
            }
            for name in ["content-type", "content-length", "last-modified"] {
                assert_eq!(answer.header(name), None, "{answer}");
            }
            let want = if path == "/" { &*tag } else { "\"mine\"" };
            assert_eq!(answer.header("etag"), Some(want));
            assert_eq!(answer.header("cache-control"), (path == "/own").then_some("no-cache"));
        }
    });
    let app = async |_: Shard| {
        let large = "x".repeat(1 << 20);
        Ok(App::new(())
            .wrap(etag(Strength::Weak))
            .get("/", async move |cx| cx.text(&large))
            .get("/empty", async |cx| cx.empty()))
    };
    TestClient::run(app, async |client| {
        let answer = client.get("/").await.expect(200);
        assert!(answer.header("etag").is_some_and(|it| it.starts_with("W/\"")), "{answer}");
        assert_eq!(answer.body().len(), 1 << 20);
        assert_eq!(client.get("/empty").await.expect(204).header("etag"), None);
    });
}

/// Keeps what the access log says, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.target() == "soloist::access"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() != "us" {
                    self.0 += &format!("{field}={value:?} ");
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("lines").push(text.0.trim_end().to_owned());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn logged(format: LogFormat, limits: Limits, test: impl AsyncFnOnce(&TestClient)) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let app = async |_: Shard| Ok(behind(access_log(format)));
        TestClient::run_with(limits, app, test);
    });
    Rc::new(RefCell::new(lines.0.lock().expect("lines").clone())).take()
}

#[test]
fn requests_are_logged() {
    let limits = Limits { request_ms_max: 1_000, ..Limits::default() };
    let lines = logged(LogFormat::Fields, limits, async |client| {
        client.get("/?a=b").await.expect(200);
        client.call("HEAD", "/").await.expect(200);
        client.get("/none").await.expect(404);
        client.get("/error").await.expect(418);
        client.get("/stream").await.expect(200);
        client.get("/panic").await.expect(500);
        client.get("/slow").await.expect(503);
        client.raw(&[b"GET /half HTTP/1.1\r\nhost: a\r\n\r\n"]).await;
    });
    let want = [
        "method=\"GET\" path=\"/\" status=200 bytes=5 route=\"/\" cut=false",
        "method=\"HEAD\" path=\"/\" status=200 bytes=0 route=\"/\" cut=false",
        "method=\"GET\" path=\"/none\" status=404 bytes=9 cut=false",
        "method=\"GET\" path=\"/error\" status=418 bytes=8 route=\"/error\" cut=false",
        "method=\"GET\" path=\"/stream\" status=200 bytes=7 route=\"/stream\" cut=false",
        "method=\"GET\" path=\"/panic\" status=500 bytes=0 route=\"/panic\" cut=false",
        "method=\"GET\" path=\"/slow\" status=503 bytes=0 route=\"/slow\" cut=false",
        "method=\"GET\" path=\"/half\" status=200 bytes=4 route=\"/half\" cut=true",
    ];
    assert_eq!(lines, want);

    let lines = logged(LogFormat::Combined, Limits::default(), async |client| {
        let call = client.get("/%22?q=%0A").header("user-agent", "a \"b\" \\ \u{e9}");
        call.await.expect(404);
        client.get("/").header("referer", "https://a.example/").await.expect(200);
    });
    let time = "[01/Jan/2026:00:00:00 +0000]";
    assert_eq!(
        lines,
        [
            format!(
                "message=- - - {time} \"GET /%22?q=%0A HTTP/1.1\" 404 9 \"-\" \
                 \"a \\x22b\\x22 \\x5C \\xC3\\xA9\""
            ),
            format!("message=- - - {time} \"GET / HTTP/1.1\" 200 5 \"https://a.example/\" \"-\""),
        ]
    );

    let lines = logged(LogFormat::Json, Limits::default(), async |client| {
        client.get("/error").await.expect(418);
        client.raw(&[b"G'\\ET /x\"y\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n"]).await;
        client.call("A'B", "/").await.expect(405);
    });
    for line in &lines {
        let json = line.strip_prefix("message=").expect("a message");
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert!(value["us"].is_u64() && value["status"].as_u64() >= Some(400), "{json}");
    }
    assert!(lines[0].contains("\"route\":\"/error\""), "{}", lines[0]);
}

#[test]
fn they_stand_around_each_other() {
    let seen = Lines::default();
    tracing::subscriber::with_default(seen.clone(), || {
        let app = async |_: Shard| {
            Ok(App::new(())
                .wrap(request_id(Incoming::Trust))
                .wrap(access_log(LogFormat::Fields))
                .wrap(secure_headers())
                .wrap(cors(Cors::new().origins(&["https://a.example"]))?)
                .wrap(timeout(Duration::from_secs(1)))
                .wrap(body_limit(4))
                .get("/", async |cx| cx.text("hello"))
                .post("/", async |cx| cx.text(cx.body().await?.len().to_string())))
        };
        TestClient::run(app, async |client| {
            let fields = [("x-request-id", "one"), ("origin", "https://a.example")];
            let answer = ask(client, "GET", "/", &fields).await.expect(200);
            let has = |answer: &Answer| {
                ["x-request-id", "x-frame-options", "access-control-allow-origin", "vary"]
                    .iter()
                    .all(|name| answer.header(name).is_some())
            };
            assert!(has(&answer), "{answer}");
            let refused = client.post("/").header(fields[0].0, fields[0].1);
            let answer = refused.header(fields[1].0, fields[1].1).body("12345").await.expect(413);
            assert!(has(&answer), "{answer}");
        });
    });
    let lines = seen.0.lock().expect("lines").clone();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.contains("request_id=\"one\"")), "{lines:?}");
    assert!(lines[1].contains("status=413"), "{lines:?}");
}
