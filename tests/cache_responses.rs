//! Kept answers: what is kept and for whom, how long, variants, conditions, crowds and purges, on a
//! virtual clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use soloist::middleware::*;
use soloist::prelude::*;
use soloist::testing::{Answer, TestClient, TestServer};

const SECOND: Duration = Duration::from_secs(1);

/// What the handler does next.
#[derive(Clone, Default)]
struct Plan(Rc<Inner>);

#[derive(Default)]
struct Inner {
    fields: RefCell<Vec<(String, String)>>,
    status: Cell<u16>,
    runs: Cell<u32>,
    sleep: Cell<Duration>,
    tags: RefCell<Vec<String>>,
    stream: Cell<bool>,
    bytes: Cell<usize>,
    fails: Cell<bool>,
}

impl Plan {
    fn fields(&self, fields: &[(&str, &str)]) -> &Plan {
        let owned = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.0.fields.replace(owned.collect());
        self
    }

    fn runs(&self) -> u32 {
        self.0.runs.get()
    }

    fn tags(&self, tags: &[&str]) {
        self.0.tags.replace(tags.iter().map(|tag| (*tag).to_owned()).collect());
    }
}

/// Answers with the number of the run.
async fn handler(cx: &Ctx<Plan>) -> Result<Reply> {
    let plan = &*cx.state().0;
    plan.runs.set(plan.runs.get() + 1);
    let run = plan.runs.get();
    for tag in plan.tags.borrow().iter() {
        cx.cache_tags(&[tag]);
    }
    if plan.sleep.get() > Duration::ZERO {
        cx.sleep(plan.sleep.get()).await; // virtual time
    }
    if plan.fails.get() {
        return Err(Error::new(503, "down"));
    }
    for (name, value) in plan.fields.borrow().iter() {
        cx.add_header(name, value);
    }
    if plan.status.get() > 0 {
        cx.status(plan.status.get());
    }
    let text = format!("run {run}{}", "x".repeat(plan.bytes.get()));
    if plan.stream.get() {
        let mut out = cx.stream("text/plain").await?;
        for piece in text.as_bytes().chunks(3_000) {
            out.write(piece).await?;
        }
        return out.finish().await;
    }
    cx.text(text)
}

fn run(settings: CacheResponses, test: impl AsyncFnOnce(&TestClient, &Plan)) {
    let plan = Plan::default();
    let state = plan.clone();
    let app = async move |_| {
        Ok(App::new(state)
            .wrap(cache_responses(settings))
            .get("/*rest", handler)
            .post("/*rest", async |cx| cx.text("posted")))
    };
    TestClient::run(app, async |client| test(client, &plan).await);
}

fn pages() -> CacheResponses {
    CacheResponses::new("pages")
}

/// Asks with these fields, one `name: value` a line.
async fn ask(client: &TestClient, path: &str, fields: &str) -> Answer {
    let mut call = client.get(path);
    for line in fields.lines() {
        let (name, value) = line.split_once(": ").expect("a field");
        call = call.header(name, value);
    }
    call.await
}

fn is_hit(answer: &Answer) -> bool {
    answer.header("age").is_some()
}

#[test]
fn what_is_kept_and_for_whom() {
    let auth = "authorization: Basic YTpi";
    let cookie = "cookie: a=b";
    let expires = "expires: Thu, 01 Jan 2099 00:00:00 GMT";
    // (the first request's fields, status, the answer's fields, the second request's, a hit?)
    let cases: &[(&str, u16, &str, &str, bool)] = &[
        ("", 200, "", "", false),
        ("", 200, "cache-control: max-age=60", "", true),
        ("", 200, "cache-control: max-age=60", "x-other: 1", true),
        ("", 200, "Cache-Control: MAX-AGE=\"60\"", "", true),
        ("", 200, "cache-control: s-maxage=60, max-age=0", "", true),
        ("", 200, "cache-control: s-maxage=0, max-age=60", "", false),
        ("", 200, "cache-control: max-age=60, max-age=0", "", false),
        ("", 200, "cache-control: max-age=60\ncache-control: no-store", "", false),
        ("", 200, "cache-control: max-age=x", "", false),
        ("", 200, "cache-control: max-age=-1", "", false),
        ("", 200, "cache-control: max-age=99999999999999999999", "", true),
        ("", 200, "cache-control: private, max-age=60", "", false),
        ("", 200, "cache-control: private=\"x-a, x-b\", max-age=60", "", false),
        ("", 200, "cache-control: no-cache, max-age=60", "", false),
        ("", 200, "cache-control: public", "", false),
        ("", 200, expires, "", true),
        ("", 200, "expires: Thu, 01 Jan 1970 00:00:00 GMT", "", false),
        ("", 200, "expires: 0", "", false),
        ("", 200, "expires: soon", "", false),
        ("", 200, "cache-control: max-age=0\nexpires: Thu, 01 Jan 2099 00:00:00 GMT", "", false),
        ("", 200, "cache-control: max-age=60\nage: 59", "", true),
        ("", 200, "cache-control: max-age=60\nage: 60", "", false),
        ("", 200, "cache-control: max-age=60\nset-cookie: a=b", "", false),
        ("", 200, "cache-control: max-age=60\nvary: *", "", false),
        ("", 200, "cache-control: max-age=60\nvary: a, *", "", false),
        ("", 200, "cache-control: max-age=60\nvary: a,b,c,d,e,f,g,h,i", "", false),
        ("", 203, "cache-control: max-age=60", "", true),
        ("", 204, "cache-control: max-age=60", "", true),
        ("", 301, "cache-control: max-age=60\nlocation: /", "", true),
        ("", 404, "cache-control: max-age=60", "", true),
        ("", 410, "cache-control: max-age=60", "", true),
        ("", 206, "cache-control: max-age=60", "", false),
        ("", 400, "cache-control: max-age=60", "", false),
        ("", 500, "cache-control: max-age=60", "", false),
        // Credentials.
        (auth, 200, "cache-control: max-age=60", auth, false),
        (auth, 200, "cache-control: max-age=60", "", false),
        ("", 200, "cache-control: max-age=60", auth, false),
        ("", 200, "cache-control: public, max-age=60", auth, true),
        (auth, 200, "cache-control: public, max-age=60", "", true),
        (auth, 200, "cache-control: s-maxage=60", auth, true),
        (auth, 200, "cache-control: must-revalidate, max-age=60", auth, true),
        (cookie, 200, "cache-control: max-age=60", cookie, true),
        // What clients say.
        ("", 200, "cache-control: max-age=60", "cache-control: no-cache", true),
        ("", 200, "cache-control: max-age=60", "cache-control: max-age=0", true),
        ("", 200, "cache-control: max-age=60", "pragma: no-cache", true),
        ("cache-control: no-store", 200, "cache-control: max-age=60", "", false),
        ("", 200, "cache-control: max-age=60", "cache-control: no-store", true),
        ("", 200, "cache-control: max-age=60", "range: bytes=0-1", true),
    ];
    run(pages(), async |client, plan| {
        for (at, (first, status, fields, second, want)) in cases.iter().enumerate() {
            let list: Vec<_> = fields.lines().filter_map(|it| it.split_once(": ")).collect();
            plan.fields(&list).0.status.set(*status);
            let path = format!("/case/{at}");
            ask(client, &path, first).await.expect(*status);
            let runs = plan.runs();
            let answer = ask(client, &path, second).await.expect(*status);
            let case = format!("{first:?} {status} {fields:?} {second:?}");
            assert_eq!(plan.runs() == runs, *want, "{case}");
            assert!(!*want || is_hit(&answer), "{case}: its age is told");
        }
    });
}

#[test]
fn a_default_time_is_for_plain_requests() {
    let auth = "authorization: Basic YTpi";
    let cases: &[(&str, u16, &str, &str, bool)] = &[
        ("", 200, "", "", true),
        ("", 200, "cache-control: no-store", "", false),
        ("", 200, "cache-control: max-age=0", "", false),
        ("", 404, "", "", false),
        ("cookie: a=b", 200, "", "", false),
        ("", 200, "", "cookie: a=b", false),
        (auth, 200, "", "", false),
        ("", 200, "", auth, false),
        ("cookie: a=b", 200, "cache-control: public", "cookie: a=c", true),
    ];
    run(pages().ttl(10 * SECOND), async |client, plan| {
        for (at, (first, status, fields, second, want)) in cases.iter().enumerate() {
            let list: Vec<_> = fields.lines().filter_map(|it| it.split_once(": ")).collect();
            plan.fields(&list).0.status.set(*status);
            let path = format!("/case/{at}");
            ask(client, &path, first).await.expect(*status);
            let answer = ask(client, &path, second).await;
            assert_eq!(is_hit(&answer), *want, "{first:?} {status} {fields:?} {second:?}");
        }
        plan.fields(&[]).0.status.set(200);
        ask(client, "/old", "").await;
        client.advance(9 * SECOND).await;
        ask(client, "/old", "").await.has("age", "9");
        client.advance(SECOND).await;
        assert!(!is_hit(&ask(client, "/old", "").await));
    });
}

#[test]
fn clients_are_obeyed_where_that_is_said() {
    run(pages().obey_clients(), async |client, plan| {
        plan.fields(&[("cache-control", "max-age=60")]);
        ask(client, "/", "").await.text("run 1");
        client.advance(10 * SECOND).await;
        ask(client, "/", "cache-control: max-age=10").await.text("run 1");
        ask(client, "/", "cache-control: max-age=9").await.text("run 2");
        ask(client, "/", "").await.text("run 2").has("age", "0");
        ask(client, "/", "cache-control: no-cache").await.text("run 3");
        ask(client, "/", "").await.text("run 3");
        ask(client, "/", "cache-control: only-if-cached").await.expect(200).text("run 3");
        ask(client, "/x", "cache-control: only-if-cached").await.expect(504);
        assert_eq!(plan.runs(), 3);
    });
}

#[test]
fn head_and_age_and_keys() {
    run(pages(), async |client, plan| {
        plan.fields(&[("cache-control", "max-age=60"), ("age", "5"), ("x-a", "1"), ("x-a", "2")]);
        client.call("HEAD", "/a?b=1").await.expect(200);
        assert_eq!(plan.runs(), 1, "what a HEAD gets is not kept");
        client.get("/a?b=1").await.text("run 2").has("age", "5");
        client.advance(3 * SECOND).await;
        let answer = client.call("HEAD", "/a?b=1").await.expect(200).has("age", "8").text("");
        assert_eq!(answer.header("content-length"), Some("5"));
        let answer = client.get("/a?b=1").await.text("run 2").has("content-type", TEXT);
        let snapshot = answer.snapshot();
        assert_eq!(snapshot.matches("\nage: ").count(), 1, "{snapshot}");
        assert!(snapshot.contains("x-a: 1\nx-a: 2\n"), "{snapshot}");
        for other in ["/a", "/a?b=2", "/a?B=1", "/A?b=1", "/a/?b=1"] {
            client.get(other).await.has("age", "5");
        }
        let runs = plan.runs();
        client.get("http://TEST/a?b=1").await.has("age", "8");
        client.get("http://other/a?b=1").await.has("age", "5");
        assert_eq!(plan.runs(), runs + 1);
        // With a body it is another question.
        client.get("/a?b=1").body("q").await.text(&format!("run {}", runs + 2));
    });
}

const TEXT: &str = "text/plain; charset=utf-8";

#[test]
fn variants_by_vary() {
    // (Vary, two requests, the same answer?)
    let cases: &[(&str, &str, &str, bool)] = &[
        ("accept-language", "accept-language: de", "accept-language: de", true),
        ("accept-language", "accept-language: de", "accept-language: en", false),
        ("accept-language", "accept-language: de", "", false),
        ("accept-language", "", "", true),
        ("Accept-Language", "accept-language: de", "ACCEPT-LANGUAGE:  de", true),
        ("x-a, x-b", "x-a: 1\nx-b: 2", "x-b: 2\nx-a: 1", true),
        ("x-a, x-b", "x-a: 1\nx-b: 2", "x-a: 1", false),
        ("x-a", "x-a: 1, 2", "x-a: 1\nx-a: 2", true),
        ("x-a", "x-a: 1, 2", "x-a: 2\nx-a: 1", false),
        ("x-a", "x-a: ", "", false),
        ("accept-encoding", "accept-encoding: gzip, br", "accept-encoding: br,gzip;q=0.5", true),
        ("accept-encoding", "accept-encoding: gzip, br", "accept-encoding: gzip", false),
        ("accept-encoding", "accept-encoding: gzip", "accept-encoding: gzip;q=0", false),
        ("accept-encoding", "accept-encoding: gzip;q=0", "", true),
    ];
    run(pages(), async |client, plan| {
        for (at, (vary, first, second, want)) in cases.iter().enumerate() {
            plan.fields(&[("cache-control", "max-age=60"), ("vary", vary)]);
            let path = format!("/case/{at}");
            ask(client, &path, first).await.expect(200);
            let answer = ask(client, &path, second).await.expect(200);
            assert_eq!(is_hit(&answer), *want, "{vary}: {first:?} {second:?}");
            assert!(is_hit(&ask(client, &path, first).await), "{vary}: the first one stays");
        }
        // A coding that is not known is compared as it came.
        plan.fields(&[
            ("cache-control", "max-age=60"),
            ("vary", "accept-encoding"),
            ("content-encoding", "own"),
        ]);
        ask(client, "/own", "accept-encoding: own").await;
        assert!(!is_hit(&ask(client, "/own", "accept-encoding: x").await));
        // No client fills the cache with variants of one key.
        plan.fields(&[("cache-control", "max-age=60"), ("vary", "x-a")]);
        for n in 0..100 {
            ask(client, "/many", &format!("x-a: {n}")).await;
        }
        let mut hits = 0;
        for n in 0..100 {
            let asked = format!("x-a: {n}\ncache-control: only-if-cached");
            hits += u32::from(ask(client, "/many", &asked).await.status() == 200);
        }
        assert_eq!(hits, 8);
    });
}

#[test]
fn conditions() {
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    run(pages(), async |client, plan| {
        plan.fields(&[("cache-control", "max-age=60"), ("last-modified", modified)]);
        let first = client.get("/a").await.expect(200);
        let tag = first.header("etag").expect("a tag of the cache").to_owned();
        assert!(tag.starts_with('"'));
        client.get("/a").await.expect(200).has("etag", &tag);
        let weak = format!("W/{tag}");
        let later = "Mon, 07 Nov 1994 08:49:37 GMT";
        for (fields, want) in [
            (format!("if-none-match: {tag}"), 304),
            (format!("if-none-match: {weak}"), 304),
            (format!("if-none-match: \"x\", {tag}"), 304),
            ("if-none-match: *".to_owned(), 304),
            ("if-none-match: \"x\"".to_owned(), 200),
            ("if-none-match: \"".to_owned(), 200),
            (format!("if-modified-since: {modified}"), 304),
            (format!("if-modified-since: {later}"), 304),
            ("if-modified-since: Sat, 05 Nov 1994 08:49:37 GMT".to_owned(), 200),
            ("if-modified-since: \u{7}".to_owned().replace('\u{7}', "x"), 200),
            (format!("if-none-match: \"x\"\nif-modified-since: {later}"), 200),
        ] {
            let answer = ask(client, "/a", &fields).await.expect(want);
            assert_eq!((answer.header("etag"), is_hit(&answer)), (Some(&*tag), true), "{fields}");
            assert_eq!(answer.body().is_empty(), want == 304, "{fields}");
            assert_eq!(answer.header("content-type").is_some(), want == 200, "{fields}");
        }
        // One that makes the answer is answered so too, and what is kept is whole.
        client.advance(60 * SECOND).await;
        plan.0.runs.set(0);
        ask(client, "/a", &format!("if-none-match: {tag}")).await.expect(304);
        client.get("/a").await.expect(200).text("run 1");
        // A tag of the handler's stays.
        plan.fields(&[("cache-control", "max-age=60"), ("etag", "W/\"own\"")]);
        client.get("/b").await.expect(200).has("etag", "W/\"own\"");
        ask(client, "/b", "if-none-match: \"own\"").await.expect(304).has("etag", "W/\"own\"");
        // There is no 304 in place of a 404.
        plan.fields(&[("cache-control", "max-age=60")]).0.status.set(404);
        client.get("/c").await.expect(404);
        ask(client, "/c", "if-none-match: *").await.expect(404).has("age", "0");
    });
}

#[test]
fn many_ask_and_one_handler_runs() {
    // (Cache-Control, how many run of 50)
    for (control, want) in [("max-age=60", 1), ("private", 50), ("no-store", 50), ("max-age=0", 50)]
    {
        run(pages(), async |client, plan| {
            plan.fields(&[("cache-control", control)]).0.sleep.set(SECOND);
            let crowd: Vec<_> = (0..50).map(|_| client.open()).collect();
            let asks = async |pause: Duration| {
                crowd.iter().for_each(|it| it.send(GET));
                client.advance(pause).await;
                let whole =
                    |it: &soloist::testing::Open<'_>| it.receive().starts_with(b"HTTP/1.1 200");
                crowd.iter().filter(|it| whole(it)).count()
            };
            // The first one's answer, then all others at once: not one by one.
            assert_eq!(asks(2 * SECOND + SECOND / 10).await, 50, "{control}");
            assert_eq!(plan.runs(), want, "{control}");
            let stats = client.shard().cached_responses("pages").stats();
            assert_eq!((stats.waits, stats.loads), (49, u64::from(want)), "{control}");
            // And now it is known that nobody need wait.
            assert_eq!(asks(SECOND + SECOND / 10).await, 50, "{control}");
            let stats = client.shard().cached_responses("pages").stats();
            assert_eq!(stats.waits, 49, "{control}");
        });
    }
}

const GET: &[u8] = b"GET /crowd HTTP/1.1\r\nhost: test\r\n\r\n";

#[test]
fn errors_are_not_made_one_by_one() {
    run(pages(), async |client, plan| {
        plan.0.fails.set(true);
        plan.0.sleep.set(SECOND);
        let crowd: Vec<_> = (0..20).map(|_| client.open()).collect();
        crowd.iter().for_each(|it| it.send(GET));
        client.advance(2 * SECOND + SECOND / 10).await;
        assert!(crowd.iter().all(|it| it.receive().starts_with(b"HTTP/1.1 503")));
        assert_eq!(plan.runs(), 20);
    });
}

#[test]
fn who_makes_the_answer_may_go_away() {
    run(pages(), async |client, plan| {
        plan.fields(&[("cache-control", "max-age=60")]).0.sleep.set(SECOND);
        let (first, second) = (client.open(), client.open());
        first.send(GET);
        client.advance(SECOND / 2).await;
        second.send(GET);
        client.advance(SECOND / 10).await;
        first.reset();
        client.advance(2 * SECOND).await;
        assert!(second.receive().ends_with(b"run 2"));
        client.get("/crowd").await.text("run 2");
        // One that is too slow is waited for no longer than 10 s.
        plan.0.sleep.set(100 * SECOND);
        let slow = client.open();
        slow.send(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
        client.advance(SECOND).await;
        plan.0.sleep.set(Duration::ZERO);
        let other = client.open();
        other.send(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
        client.advance(9 * SECOND).await;
        assert!(other.receive().is_empty());
        client.advance(2 * SECOND).await;
        assert!(other.receive().ends_with(b"run 4"));
    });
}

#[test]
fn stale_while_one_makes_the_new_one() {
    run(pages(), async |client, plan| {
        plan.fields(&[("cache-control", "max-age=10, stale-while-revalidate=20")]);
        client.get("/crowd").await.text("run 1");
        client.advance(11 * SECOND).await;
        plan.0.sleep.set(SECOND);
        let first = client.open();
        first.send(GET);
        client.advance(SECOND / 2).await;
        client.get("/crowd").await.text("run 1").has("age", "11"); // without waiting
        client.advance(SECOND).await;
        assert!(first.receive().ends_with(b"run 2"));
        client.get("/crowd").await.text("run 2");
        // Too old, it is not given.
        client.advance(31 * SECOND).await;
        client.get("/crowd").await.text("run 3");
    });
}

#[test]
fn stale_in_place_of_an_error() {
    for (control, fallen_back) in [
        ("max-age=10, stale-if-error=20", true),
        ("max-age=10, stale-if-error=20, must-revalidate", false),
        ("max-age=10", false),
    ] {
        for by_status in [false, true] {
            run(pages().cache_status(), async |client, plan| {
                plan.fields(&[("cache-control", control), ("x-a", "1")]);
                client.get("/a").await.text("run 1");
                client.advance(11 * SECOND).await;
                plan.0.fails.set(!by_status);
                plan.0.status.set(if by_status { 500 } else { 0 });
                let answer = client.get("/a").await;
                match fallen_back {
                    true => {
                        let answer = answer.expect(200).text("run 1").has("x-a", "1");
                        let answer = answer.has("age", "11");
                        assert_eq!(answer.snapshot().matches("x-a: ").count(), 1);
                    }
                    false => _ = answer.expect(if by_status { 500 } else { 503 }),
                }
                client.advance(20 * SECOND).await;
                client.get("/a").await.expect(if by_status { 500 } else { 503 });
            });
        }
    }
}

#[test]
fn streams_are_kept_up_to_a_bound() {
    run(pages().body_bytes_max(10_000).ttl(SECOND), async |client, plan| {
        plan.0.stream.set(true);
        let fields = [("cache-control", "max-age=60")];
        for (bytes, fields, want) in [
            (0, &fields[..], true),
            (9_995, &fields, true),
            (9_996, &fields, false),
            (0, &[], false),
        ] {
            plan.fields(fields).0.bytes.set(bytes);
            let path = format!("/{bytes}/{}", fields.len());
            let first = client.get(&path).await.expect(200);
            let second = client.get(&path).await.expect(200);
            assert_eq!(is_hit(&second), want, "{bytes} {fields:?}");
            assert_eq!(first.body().len(), 5 + bytes);
            assert_eq!(second.body().len(), 5 + bytes);
            if want {
                assert_eq!(first.body(), second.body());
                let tag = second.header("etag").expect("a tag").to_owned();
                ask(client, &path, &format!("if-none-match: {tag}")).await.expect(304);
            }
        }
        // Those who wait for one that turns out to be large run at once, not one by one.
        plan.fields(&fields).0.bytes.set(20_000);
        plan.0.sleep.set(SECOND);
        let runs = plan.runs();
        let crowd: Vec<_> = (0..20).map(|_| client.open()).collect();
        crowd.iter().for_each(|it| it.send(GET));
        client.advance(2 * SECOND + SECOND / 10).await;
        assert!(crowd.iter().all(|it| it.receive().ends_with(b"0\r\n\r\n")));
        assert_eq!(plan.runs(), runs + 20);
        // An event stream that says how long it lasts is none the less no page.
        plan.0.bytes.set(0);
        plan.0.sleep.set(Duration::ZERO);
        plan.fields(&[("cache-control", "max-age=60"), ("content-type", "text/event-stream")]);
        for _ in 0..2 {
            assert!(!is_hit(&client.get("/events").await));
        }
    });
}

#[cfg(feature = "compress")]
#[test]
fn compressed_answers_are_kept_as_they_leave() {
    let app = async |_| {
        Ok(App::new(())
            .wrap(cache_responses(pages()))
            .wrap(compress())
            .get("/whole", async |cx| {
                cx.set_header("cache-control", "max-age=60").text("hello ".repeat(1_000))
            })
            .get("/pieces", async |cx| {
                cx.set_header("cache-control", "max-age=60");
                let mut out = cx.stream("text/plain").await?;
                for _ in 0..1_000 {
                    out.write("hello ").await?;
                }
                out.finish().await
            }))
    };
    TestClient::run(app, async |client| {
        for path in ["/whole", "/pieces"] {
            for (accepted, coding) in [("gzip", Some("gzip")), ("br, gzip", Some("br")), ("", None)]
            {
                let [first, second] = [
                    client.get(path).header("accept-encoding", accepted).await.expect(200),
                    client.get(path).header("accept-encoding", accepted).await.expect(200),
                ];
                assert_eq!((is_hit(&first), is_hit(&second)), (false, true), "{path} {accepted}");
                assert_eq!(second.header("content-encoding"), coding, "{path}");
                assert_eq!(first.body(), second.body(), "{path} {accepted}");
                assert_eq!(second.body().len() == 6_000, coding.is_none(), "{path}");
            }
        }
    });
}

#[test]
fn large_bodies_are_shared_and_outer_middleware_sees_them() {
    let app = async |_| {
        Ok(App::new(())
            .group(|app| {
                app.wrap(async |cx: &Ctx<()>, next: Next<'_>| {
                    cx.set_header("x-outer", "1");
                    cx.set_header("vary", "x-b");
                    let reply = next.run().await?;
                    if let Some(mut body) = cx.reply_body() {
                        body.make_ascii_uppercase();
                        cx.replace_body(body);
                    }
                    Ok(reply)
                })
                .wrap(cache_responses(pages()))
                .get("/upper", async |cx| {
                    cx.add_header("vary", "x-a");
                    cx.set_header("cache-control", "max-age=9").text("a".repeat(200_000))
                })
            })
            .group(|app| {
                app.wrap(etag(Strength::Strong))
                    .wrap(cache_responses(CacheResponses::new("others")))
                    .get("/plain", async |cx| {
                        cx.set_header("cache-control", "max-age=9").text("b".repeat(200_000))
                    })
            }))
    };
    TestClient::run(app, async |client| {
        for hit in [false, true] {
            let answer = client.get("/upper").await.text(&"A".repeat(200_000));
            assert_eq!(is_hit(&answer), hit);
            let snapshot = answer.snapshot();
            for line in ["x-outer: 1\n", "vary: x-a\n", "vary: x-b\n", "cache-control: max-age=9\n"]
            {
                assert_eq!(snapshot.matches(line).count(), 1, "{line:?} {snapshot}");
            }
            let answer = client.get("/plain").await.text(&"b".repeat(200_000));
            assert_eq!((is_hit(&answer), answer.snapshot().matches("etag").count()), (hit, 1));
        }
        let twice = b"GET /plain HTTP/1.1\r\nhost: test\r\n\r\n".repeat(2);
        let bytes = client.raw(&[&twice]).await;
        assert_eq!(bytes.iter().filter(|byte| **byte == b'b').count() / 200_000, 2);
    });
}

#[test]
fn a_cookie_that_is_set_late_keeps_the_answer_from_being_kept() {
    let app = async |_| {
        Ok(App::new(()).wrap(cache_responses(pages())).get("/", async |cx| {
            cx.on_head(|head| _ = head.set_header("set-cookie", "a=b"));
            cx.set_header("cache-control", "max-age=9").text("yours")
        }))
    };
    TestClient::run(app, async |client| {
        for _ in 0..2 {
            let answer = client.get("/").await.has("set-cookie", "a=b");
            assert!(!is_hit(&answer));
        }
    });
}

#[test]
fn purges() {
    run(pages(), async |client, plan| {
        let pages = client.shard().cached_responses("pages");
        plan.fields(&[("cache-control", "max-age=60")]).tags(&["team:3", "user:7"]);
        client.get("/a").await.text("run 1");
        plan.tags(&["team:4"]);
        client.get("/b").await.text("run 2");
        pages.purge_tag("user:8").await.expect("purged");
        client.get("/a").await.text("run 1");
        pages.purge_tag("user:7").await.expect("purged");
        client.get("/a").await.text("run 3");
        client.get("/b").await.text("run 2");
        // One key, by its name, and by a change of what is there.
        pages.purge("test/b").await.expect("purged");
        client.get("/b").await.text("run 4");
        client.post("/b").await.expect(200);
        client.get("/b").await.text("run 5");
        client.get("/a").await.text("run 3");
        pages.purge_all().await.expect("purged");
        client.get("/a").await.text("run 6");
        client.get("/b").await.text("run 7");
        client.shard().cached_responses("unknown").purge_all().await.expect("nothing to do");
    });
}

#[test]
fn what_is_purged_while_it_is_made_is_not_kept() {
    type Purge = fn(&CachedResponses) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + '_>>;
    let cases: [(Purge, bool); 4] = [
        (|it| Box::pin(it.purge_tag("user:7")), true),
        (|it| Box::pin(it.purge_tag("user:8")), false),
        (|it| Box::pin(it.purge("test/crowd")), true),
        (|it| Box::pin(it.purge_all()), true),
    ];
    for (at, (purge, gone)) in cases.into_iter().enumerate() {
        run(pages(), async |client, plan| {
            plan.fields(&[("cache-control", "max-age=60")]).tags(&["user:7"]);
            plan.0.sleep.set(SECOND);
            client.get("/other").await.expect(200);
            let (first, second) = (client.open(), client.open());
            first.send(GET);
            client.advance(SECOND / 2).await;
            purge(&client.shard().cached_responses("pages")).await.expect("purged");
            second.send(GET); // after the purge: it does not get what began before
            client.advance(3 * SECOND).await;
            assert!(first.receive().ends_with(b"run 2"), "{at}");
            let want: &[u8] = if gone { b"run 3" } else { b"run 2" };
            assert!(second.receive().ends_with(want), "{at}");
        });
    }
}

#[test]
fn purges_reach_every_shard() {
    let app = async |_| {
        let runs = Rc::new(Cell::new(0));
        Ok(App::new(runs)
            .wrap(cache_responses(pages()))
            .get("/", async |cx| {
                cx.cache_tags(&["all"]);
                cx.state().set(cx.state().get() + 1);
                cx.set_header("cache-control", "max-age=60").json(&cx.state().get())
            })
            .post("/purge", async |cx| {
                cx.shard().cached_responses("pages").purge_tag("all").await?;
                cx.empty()
            }))
    };
    let server = TestServer::start(2, app);
    // So many that both have answered: a connection goes to either.
    for _ in 0..64 {
        server.get("/").expect(200).text("1");
    }
    server.send("POST", "/purge", "", b"").expect(204);
    for _ in 0..64 {
        server.get("/").expect(200).text("2");
    }
}

#[test]
fn hostile_fields_do_no_harm() {
    run(pages().cache_status(), async |client, plan| {
        plan.fields(&[("cache-control", "max-age=60"), ("vary", "accept-encoding, x-a")]);
        client.get("/").await.expect(200);
        let long = "x".repeat(6_000);
        for fields in [
            "cache-control: \"".to_owned(),
            format!("cache-control: {}", ",".repeat(5_000)),
            format!("cache-control: max-age={}", "9".repeat(5_000)),
            format!("accept-encoding: {}", "gzip;q=0.1,".repeat(400)),
            format!("x-a: {long}"),
            format!("if-none-match: {long}"),
            format!("if-none-match: {}", "W/\"".repeat(1_000)),
            format!("if-modified-since: {long}"),
            "range: bytes=0-,-1,5-2,x".to_owned(),
            "x-a: 1\nx-a: 2\nx-a: 3".to_owned(),
        ] {
            ask(client, "/", &fields).await.expect(200);
            ask(client, "/", &fields).await.expect(200);
        }
        for path in ["/%00", "/%2e%2e/", "/?&&=&", "/?%zz", &format!("/{}", "a".repeat(7_000))] {
            client.get(path).await.expect(200);
            assert!(is_hit(&client.get(path).await), "{path}");
        }
    });
}

#[test]
fn what_it_says_of_itself() {
    let closed = cache_responses_by(pages().cache_status(), |cx: &Ctx<Cell<u32>>| {
        (cx.path() != "/past").then(|| cx.path().to_owned())
    });
    let app = async move |_| {
        Ok(App::new(Cell::new(0)).wrap(closed).get("/*rest", async |cx| {
            cx.state().set(cx.state().get() + 1);
            cx.set_header("cache-control", "max-age=10").json(&cx.state().get())
        }))
    };
    TestClient::run(app, async |client| {
        client.get("/a?x=1").await.text("1").has("cache-status", "\"pages\"; fwd=uri-miss; stored");
        client.get("/a?x=2").await.text("1").has("cache-status", "\"pages\"; hit; ttl=10");
        client.advance(10 * SECOND).await;
        client.call("HEAD", "/b").await.has("cache-status", "\"pages\"; fwd=uri-miss");
        assert_eq!(client.get("/past").await.header("cache-status"), None);
        assert_eq!(client.get("/past").await.header("age"), None);
    });
}

#[test]
fn a_purge_is_also_said_where_nothing_was_kept_yet() {
    for what in ["tag", "all", "key"] {
        let app = async |_| {
            let page = async |cx: &Ctx<()>| {
                cx.cache_tags(&["t"]);
                cx.set_header("cache-control", "max-age=60").json(&cx.shard().id())
            };
            let pages = |key: &'static str| {
                cache_responses_by(CacheResponses::new("pages"), move |_| Some(key.to_owned()))
            };
            let inner = |it: App<()>| it.wrap(pages("page")).get("/page", page);
            Ok(App::new(()).group(inner).get("/purge/:what/:from", async |cx| {
                let (from, what): (usize, String) = (cx.param("from")?, cx.param("what")?);
                let purge = async move |there: Shard| {
                    let pages = there.cached_responses("pages");
                    match &*what {
                        "tag" => pages.purge_tag("t").await,
                        "all" => pages.purge_all().await,
                        _ => pages.purge("page").await,
                    }
                };
                cx.shard().on(from, purge).await?;
                cx.empty()
            }))
        };
        let server = TestServer::start(2, app);
        let keeper: usize = server.get("/page").expect(200).json();
        server.get(&format!("/purge/{what}/{}", 1 - keeper)).expect(204);
        // Until the same shard is asked: the other one has kept nothing.
        let again = (0..64).map(|_| server.get("/page").expect(200));
        let mut again = again.filter(|it| it.json::<usize>() == keeper);
        let again = again.next().expect("asked");
        assert_eq!(again.header("age"), None, "{what}");
    }
}
