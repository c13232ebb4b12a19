//! A warm request takes nothing from the heap: counted in memory, with every layer of the path, and
//! over a socket, with all that the shard's thread does beside it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use soloist::middleware::*;
use soloist::prelude::*;
use soloist::testing::TestClient;

struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, with a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

async fn app(_: Shard) -> Result<App<Cell<u64>>> {
    Ok(App::new(Cell::new(0))
        .wrap(count)
        .get("/", async |cx| cx.text("hello, world"))
        .get("/taken", async |cx| {
            let shard = cx.shard();
            cx.json(&(TAKEN.get(), shard.stats().get("parks"), shard.now_ms()))
        })
        .get("/users/:id", user)
        .post("/users", create)
        .get("/visit", async |cx| {
            let theme = cx.cookie("theme").unwrap_or("none");
            let language = cx.language(&["en", "de"]).unwrap_or("en");
            cx.set_cookie(("theme", theme)).set_cookie(("language", language));
            cx.text(cx.accepts(&["text/html", "text/plain"]).unwrap_or("nothing"))
        })
        .get("/search", async |cx| cx.json(&cx.query_as::<Search>()?))
        .post("/search", async |cx| cx.json(&cx.form::<Search>().await?)))
}

async fn count(cx: &Ctx<Cell<u64>>, next: Next<'_>) -> Result<Reply> {
    cx.state().set(cx.state().get() + 1);
    next.run().await
}

#[derive(Serialize)]
struct User<'a> {
    id: u64,
    name: &'a str,
}

#[derive(Deserialize, Serialize)]
struct Search<'a> {
    q: &'a str,
    page: Option<u32>,
}

async fn user(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
    let id: u64 = cx.param("id")?;
    cx.json(&User { id, name: cx.format(format_args!("user {id}")) })
}

async fn create(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
    #[derive(Deserialize)]
    struct New<'a> {
        name: &'a str,
        n: u64,
    }
    let new: New = cx.body_json().await?;
    cx.json(&User { id: new.n + 1, name: new.name })
}

const REQUESTS: [(&str, &[u8]); 6] = [
    ("hello", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("param and JSON", b"GET /users/42 HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n"),
    (
        "JSON body",
        b"POST /users HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n{\"name\":\"ann\",\"n\":7}",
    ),
    (
        "cookies and negotiation",
        b"GET /visit HTTP/1.1\r\nhost: a\r\ncookie: a=b; theme=dark%20blue\r\n\
          accept: text/*;q=0.5, */*;q=0.1\r\naccept-language: fr, de-AT;q=0.5\r\n\r\n",
    ),
    ("query", b"GET /search?q=a+b%26c&page=7&x=1&y=2 HTTP/1.1\r\nhost: a\r\n\r\n"),
    (
        "form",
        b"POST /search HTTP/1.1\r\nhost: a\r\n\
          content-type: application/x-www-form-urlencoded\r\n\
          content-length: 16\r\n\r\nq=a+b%26c&page=7",
    ),
];

#[test]
fn warm_requests_take_nothing_from_the_heap() {
    TestClient::run(app, async |client| {
        for (name, request) in REQUESTS {
            let text = takes_nothing(client, request);
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{name}");
        }
    });
}

/// Takes every event and keeps none: how many there were.
#[derive(Clone, Default)]
struct Null(Arc<AtomicU64>);

impl tracing::Subscriber for Null {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Ignored;
        impl tracing::field::Visit for Ignored {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn fmt::Debug) {
                struct Nowhere;
                impl fmt::Write for Nowhere {
                    fn write_str(&mut self, _: &str) -> fmt::Result {
                        Ok(())
                    }
                }
                let _ = fmt::Write::write_fmt(&mut Nowhere, format_args!("{value:?}"));
            }
        }
        event.record(&mut Ignored);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn warm_middleware_takes_nothing_from_the_heap() {
    let requests: [&[u8]; 3] = [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\norigin: https://a.example\r\nx-request-id: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nif-none-match: \"x\"\r\n\
          authorization: Basic YW5uOmI=\r\n\r\n",
    ];
    let standard = async |format| {
        Ok(App::new(())
            .wrap(request_id(Incoming::Trust))
            .wrap(access_log(format))
            .wrap(secure_headers())
            .wrap(cors(Cors::new().origins(&["https://a.example"]))?)
            .wrap(timeout(Duration::from_secs(1)))
            .get("/", async |cx| cx.text("hello, world")))
    };
    for format in [LogFormat::Fields, LogFormat::Combined, LogFormat::Json] {
        let events = Null::default();
        tracing::subscriber::with_default(events.clone(), || {
            TestClient::run(
                async |_| standard(format).await,
                async |client| {
                    requests
                        .iter()
                        .for_each(|request| takes_nothing_and_has_an_id(client, request));
                },
            );
        });
        assert_eq!(events.0.load(Ordering::Relaxed), 3 * 1_050);
        let all = async |_: Shard| {
            let app = standard(format).await?.wrap(limit_concurrency(9));
            let app = app.wrap(limit_rate(1_000_000, u32::MAX)).wrap(body_limit(9));
            let no_one = async |_: &Ctx<()>, name: &str, _: &str| Ok(name == "ann");
            Ok(app.wrap(basic_auth("a", no_one)).wrap(etag(Strength::Weak)))
        };
        TestClient::run(all, async |client| takes_nothing_and_has_an_id(client, requests[2]));
    }
}

/// A thousand of that request on a warm connection; the last answer.
fn takes_nothing(client: &TestClient, request: &[u8]) -> String {
    let keep_alive = client.open();
    let mut out = Vec::with_capacity(64 * 1024);
    for _ in 0..50 {
        keep_alive.exchange(request, &mut out);
    }
    let before = TAKEN.get();
    for _ in 0..1_000 {
        out.clear();
        keep_alive.exchange(request, &mut out);
    }
    let taken = TAKEN.get() - before;
    assert_eq!(taken, 0, "allocations in 1,000 of {}", String::from_utf8_lossy(request));
    String::from_utf8_lossy(&out).into_owned()
}

/// The same behind middleware that names every request.
fn takes_nothing_and_has_an_id(client: &TestClient, request: &[u8]) {
    let text = takes_nothing(client, request);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("x-request-id: "), "{text}");
}

/// A hit of the response cache: no handler, and nothing from the heap.
#[cfg(feature = "cache")]
#[test]
fn kept_answers_take_nothing_from_the_heap() {
    let app = async |_| {
        let pages = CacheResponses::new("pages").cache_status();
        Ok(App::new(()).wrap(cache_responses(pages)).get("/page", async |cx| {
            let fields = [("vary", "accept-encoding, accept-language"), ("x-a", "1")];
            fields.iter().for_each(|(name, value)| _ = cx.set_header(name, value));
            cx.set_header("cache-control", "max-age=60").text("hello".repeat(1_000))
        }))
    };
    TestClient::run(app, async |client| {
        let request = b"GET /page?a=1 HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip, br\r\n\
            accept-language: de\r\ncookie: a=b\r\n\r\n";
        let text = takes_nothing(client, request);
        assert!(text.contains("\r\nage: 0\r\n") && text.contains("; hit; ttl="), "{text}");
    });
}

#[test]
fn warm_requests_over_a_socket_take_at_most_1_in_1_000_from_the_heap() {
    let server = Server::bind("127.0.0.1:0").unpinned(1).start(app).expect("a server");
    let mut keep_alive = TcpStream::connect(server.addrs()[0]).expect("a connection");
    keep_alive.set_nodelay(true).expect("no delay");
    let mut ask = |request: &[u8]| {
        keep_alive.write_all(request).expect("sent");
        answer(&mut keep_alive)
    };
    let taken = b"GET /taken HTTP/1.1\r\nhost: a\r\n\r\n";
    // glommio has its turn once a second, and takes more for the first one.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1_200) {
        ask(REQUESTS[0].1);
    }
    for (name, request) in REQUESTS {
        for _ in 0..200 {
            ask(request);
        }
        let counts = |text: &str| -> [u64; 3] { serde_json::from_str(text).expect("counts") };
        let before = counts(&ask(taken));
        for _ in 0..5_000 {
            ask(request);
        }
        let after = counts(&ask(taken));
        let [taken, parks, ms] = std::array::from_fn(|at| after[at] - before[at]);
        // Parking allocates, and a client that is slow for 5 ms lets the shard park.
        let apart = 20 * parks + 6 * (ms / 1_000 + 1);
        assert!(taken <= 5 + apart, "{name}: {taken} allocations, {parks} parks in {ms} ms");
    }
    drop(keep_alive);
    server.stop_now();
    server.join().expect("a clean end");
}

/// The body of one answer.
fn answer(connection: &mut TcpStream) -> String {
    let mut bytes = [0; 1024];
    let mut len = 0;
    loop {
        let more = connection.read(&mut bytes[len..]).expect("an answer");
        assert!(more > 0, "closed in the middle of an answer");
        len += more;
        let text = str::from_utf8(&bytes[..len]).expect("text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
            return body.to_owned();
        }
    }
}
