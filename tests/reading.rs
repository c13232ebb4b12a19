//! What handlers read of a request: queries, forms, parameters, JSON, negotiation, cookies, and
//! what proxies say; with what hostile clients send for each.

#![allow(dead_code)] // fields that `Debug` alone reads

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use soloist::prelude::*;
use soloist::testing::TestClient;
use soloist::{FromCtx, Limits};

#[derive(Deserialize, Debug)]
struct Search<'a> {
    q: &'a str,
    age: Option<u8>,
    #[serde(default)]
    tag: Vec<&'a str>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
    Green,
}

#[derive(Deserialize, Debug)]
struct Id(u64);

#[derive(Deserialize, Debug, Default)]
#[serde(default, deny_unknown_fields)]
struct Kinds<'a> {
    u: Option<u64>,
    i: Option<i16>,
    f: Option<f32>,
    b: bool,
    c: Option<char>,
    s: Option<String>,
    #[serde(borrow)]
    t: Option<&'a str>,
    color: Option<Color>,
    id: Option<Id>,
    ids: Vec<Id>,
    pair: Option<(u8, u8)>,
    many: Option<Vec<Option<u8>>>,
    unit: (),
}

#[derive(Deserialize, Debug)]
struct Seat<'a> {
    room: &'a str,
    seat: u16,
}

#[derive(Deserialize, Debug)]
struct Nested {
    inner: BTreeMap<String, u8>,
}

#[derive(Deserialize, Debug)]
struct Order<'a> {
    #[serde(borrow)]
    lines: Vec<Line<'a>>,
}

#[derive(Deserialize, Debug)]
struct Line<'a> {
    name: &'a str,
    price: u32,
}

/// Who asks, for one type of state only.
#[derive(Debug)]
struct Agent<'a>(&'a str);

impl<'a> FromCtx<'a, &'static str> for Agent<'a> {
    async fn from_ctx(cx: &'a Ctx<&'static str>) -> Result<Self> {
        let agent = cx.header("user-agent").ok_or_else(|| Error::bad_request("no agent"))?;
        if agent == *cx.state() { Err(Error::forbidden()) } else { Ok(Agent(agent)) }
    }
}

type Cx = Ctx<&'static str>;

fn debug(cx: &Cx, value: impl Debug) -> Result<Reply> {
    cx.text(format!("{value:?}"))
}

async fn app(_: Shard) -> Result<App<&'static str>> {
    Ok(App::new("bad robot")
        .get("/search", async |cx| debug(cx, cx.query_as::<Search>()?))
        .get("/kinds", async |cx| debug(cx, cx.query_as::<Kinds>()?))
        .get("/map", async |cx| debug(cx, cx.query_as::<BTreeMap<&str, Vec<&str>>>()?))
        .get("/numbers", async |cx| debug(cx, cx.query_as::<BTreeMap<&str, u8>>()?))
        .get("/option", async |cx| debug(cx, cx.query_as::<Option<Search>>()?))
        .get("/shape/number", async |cx| debug(cx, cx.query_as::<u32>()?))
        .get("/shape/list", async |cx| debug(cx, cx.query_as::<Vec<u32>>()?))
        .get("/shape/enum", async |cx| debug(cx, cx.query_as::<Color>()?))
        .get("/shape/nested", async |cx| debug(cx, cx.query_as::<Nested>()?))
        .get("/rooms/:room/seats/:seat", async |cx| debug(cx, cx.params_as::<Seat>()?))
        .get("/rooms/:room", async |cx| debug(cx, cx.params_as::<Seat>()?))
        .post("/form", async |cx| debug(cx, cx.form::<Search>().await?))
        .post("/json", async |cx| debug(cx, cx.body_json::<Order>().await?))
        .get("/header", async |cx| debug(cx, cx.header_as::<u32>("x-n")?))
        .get("/take", async |cx| debug(cx, cx.take::<Agent>().await?)))
}

#[test]
fn queries_and_parameters() {
    let kinds = |change: &[(&str, &str)]| {
        let mut fields: Vec<(&str, &str)> = vec![
            ("u", "None"),
            ("i", "None"),
            ("f", "None"),
            ("b", "false"),
            ("c", "None"),
            ("s", "None"),
            ("t", "None"),
            ("color", "None"),
            ("id", "None"),
            ("ids", "[]"),
            ("pair", "None"),
            ("many", "None"),
            ("unit", "()"),
        ];
        for (name, value) in change {
            fields.iter_mut().filter(|field| field.0 == *name).for_each(|field| field.1 = value);
        }
        let fields: Vec<String> = fields.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        format!("Kinds {{ {} }}", fields.join(", "))
    };
    let search =
        |q: &str, age: &str, tag: &str| format!("Search {{ q: {q:?}, age: {age}, tag: {tag} }}");
    let long = "x".repeat(3_000);
    let many = "a&".repeat(2_000);
    let rows: Vec<(String, u16, String)> = vec![
        ("/search?q=a".into(), 200, search("a", "None", "[]")),
        ("/search?age=7&q=a&tag=x&tag=y".into(), 200, search("a", "Some(7)", "[\"x\", \"y\"]")),
        (
            "/search?tag=x&q=a+b%26c&tag=%C3%A4".into(),
            200,
            search("a b&c", "None", "[\"x\", \"\u{e4}\"]"),
        ),
        ("/search?q=&age=".into(), 200, search("", "None", "[]")),
        ("/search?q".into(), 200, search("", "None", "[]")),
        ("/search?&&q=a=b&&".into(), 200, search("a=b", "None", "[]")),
        ("/search?q=a&other=1&other=2&=x".into(), 200, search("a", "None", "[]")),
        ("/search?%71=a".into(), 200, search("a", "None", "[]")),
        ("/search".into(), 400, "q: missing".into()),
        ("/search?".into(), 400, "q: missing".into()),
        ("/search?Q=a".into(), 400, "q: missing".into()),
        ("/search?q=a&age=x".into(), 400, "age: not a number".into()),
        ("/search?q=a&age=256".into(), 400, "age: too large a number".into()),
        ("/search?q=a&age=-1".into(), 400, "age: not a number".into()),
        ("/search?q=a&age=+7".into(), 400, "age: not a number".into()),
        ("/search?q=a&age=7&age=8".into(), 400, "age: given more than once".into()),
        ("/search?q=a&q=b".into(), 400, "q: given more than once".into()),
        ("/search?q=%".into(), 400, "q: bad percent-encoding".into()),
        ("/search?q=%ff".into(), 400, "q: bad percent-encoding".into()),
        ("/search?q=a&b%zz=1".into(), 400, "query: bad percent-encoding".into()),
        (format!("/search?{many}"), 400, "query: more than 1000 fields".into()),
        (format!("/search?q={long}"), 200, search(&long, "None", "[]")),
        ("/option".into(), 200, "None".into()),
        ("/option?q=1".into(), 200, format!("Some({})", search("1", "None", "[]"))),
        ("/kinds".into(), 200, kinds(&[])),
        (
            "/kinds?u=18446744073709551615&i=-3&f=1.5e3&b=on&c=%C3%A4&s=a%20b&t=c&color=green&id=9\
             &ids=1&ids=2&pair=3&pair=4&many=1&many=&unit="
                .into(),
            200,
            kinds(&[
                ("u", "Some(18446744073709551615)"),
                ("i", "Some(-3)"),
                ("f", "Some(1500.0)"),
                ("b", "true"),
                ("c", "Some('\u{e4}')"),
                ("s", "Some(\"a b\")"),
                ("t", "Some(\"c\")"),
                ("color", "Some(Green)"),
                ("id", "Some(Id(9))"),
                ("ids", "[Id(1), Id(2)]"),
                ("pair", "Some((3, 4))"),
                ("many", "Some([Some(1), None])"),
            ]),
        ),
        ("/kinds?u=&i=&f=&c=&s=&t=&color=&id=&pair=&many=".into(), 200, kinds(&[])),
        ("/kinds?b=false".into(), 200, kinds(&[])),
        ("/kinds?color=red".into(), 200, kinds(&[("color", "Some(Red)")])),
        ("/kinds?color=Red".into(), 400, "color: not one of red, green".into()),
        ("/kinds?b=".into(), 400, "b: not true or false".into()),
        ("/kinds?b=1".into(), 400, "b: not true or false".into()),
        ("/kinds?c=ab".into(), 400, "c: not a character".into()),
        ("/kinds?i=-32769".into(), 400, "i: too small a number".into()),
        ("/kinds?f=NaN".into(), 400, "f: not a number".into()),
        ("/kinds?f=inf".into(), 400, "f: not a number".into()),
        ("/kinds?f=1e99".into(), 400, "f: not a number".into()),
        ("/kinds?u=0x10".into(), 400, "u: not a number".into()),
        ("/kinds?ids=1&ids=x".into(), 400, "ids: not a number".into()),
        ("/kinds?pair=1".into(), 400, "pair: 1 values, not a tuple of size 2".into()),
        ("/kinds?pair=1&pair=2&pair=3".into(), 400, "pair: too many values".into()),
        ("/kinds?unit=x".into(), 400, "unit: not empty".into()),
        ("/kinds?x%0d%0ay=1".into(), 400, "x??y: not known here".into()),
        (format!("/kinds?{long}=1"), 400, format!("{}...: not known here", &long[..200])),
        ("/map?b=1&a=&b=2".into(), 200, "{\"a\": [\"\"], \"b\": [\"1\", \"2\"]}".into()),
        ("/map".into(), 200, "{}".into()),
        ("/numbers?a=1&b=2".into(), 200, "{\"a\": 1, \"b\": 2}".into()),
        ("/numbers?a=1&%3Cb%3E=x".into(), 400, "<b>: not a number".into()),
        ("/shape/number?a=1".into(), 500, "internal error".into()),
        ("/shape/list?a=1".into(), 500, "internal error".into()),
        ("/shape/enum?a=1".into(), 500, "internal error".into()),
        ("/shape/nested?inner=1".into(), 500, "internal error".into()),
        ("/rooms/a%20b/seats/7".into(), 200, "Seat { room: \"a b\", seat: 7 }".into()),
        ("/rooms/a+b/seats/7".into(), 200, "Seat { room: \"a+b\", seat: 7 }".into()),
        ("/rooms/a/seats/x".into(), 400, "seat: not a number".into()),
        ("/rooms/a/seats/65536".into(), 400, "seat: too large a number".into()),
        ("/rooms/%ff/seats/7".into(), 400, "room: bad percent-encoding".into()),
        ("/rooms/a".into(), 400, "seat: missing".into()),
    ];
    TestClient::run(app, async |client| {
        for (path, status, text) in rows {
            let answer = client.get(&path).await;
            let short = &path[..path.len().min(80)];
            assert_eq!(
                (answer.status(), str::from_utf8(answer.body())),
                (status, Ok(&*text)),
                "{short}"
            );
        }
    });
}

#[test]
fn forms() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let many = "q=1&".repeat(999) + "q=1";
    let more = "q=1&".repeat(1_000) + "q=1";
    let big = format!("q={}", "x".repeat(100_000));
    let rows: &[(&str, &[u8], u16, &str)] = &[
        (FORM, b"q=a+b&age=7", 200, "Search { q: \"a b\", age: Some(7), tag: [] }"),
        (
            "Application/X-WWW-Form-Urlencoded ; charset=utf-8",
            b"q=",
            200,
            "Search { q: \"\", age: None, tag: [] }",
        ),
        (FORM, b"q=%F0%9F%8E%BB", 200, "Search { q: \"\u{1f3bb}\", age: None, tag: [] }"),
        (FORM, "q=caf\u{e9}".as_bytes(), 200, "Search { q: \"caf\u{e9}\", age: None, tag: [] }"),
        (FORM, b"", 400, "q: missing"),
        (FORM, b"q=a&age=old", 400, "age: not a number"),
        (FORM, b"q=\xff", 400, "form: not UTF-8"),
        (FORM, b"q=%C3", 400, "q: bad percent-encoding"),
        (FORM, b"q=a\0\r\n", 200, "Search { q: \"a\\0\\r\\n\", age: None, tag: [] }"),
        (FORM, many.as_bytes(), 400, "q: given more than once"),
        (FORM, more.as_bytes(), 400, "form: more than 1000 fields"),
        (FORM, big.as_bytes(), 413, "the body is too large"),
        ("application/json", b"q=a", 415, "content-type: not application/x-www-form-urlencoded"),
        ("", b"q=a", 415, "content-type: not application/x-www-form-urlencoded"),
        (
            "multipart/form-data; boundary=application/x-www-form-urlencoded",
            b"q=a",
            415,
            "content-type: not application/x-www-form-urlencoded",
        ),
    ];
    let limits = Limits { body_bytes_max: 50_000, ..Limits::default() };
    TestClient::run_with(limits, app, async |client| {
        for (mime, body, status, text) in rows {
            for piece_bytes in [usize::MAX, 7_000, 1] {
                if body.len() / piece_bytes > 20 {
                    continue;
                }
                let call = client.post("/form").header("content-type", mime).body(body);
                let call = if piece_bytes < usize::MAX { call.pieces(piece_bytes) } else { call };
                let answer = call.await.expect(*status).text(text);
                assert_eq!(answer.header("accept"), (*status == 415).then_some(FORM));
            }
        }
        client.post("/form").body("q=a").await.expect(415);
    });
}

#[test]
fn json_bodies_name_the_path_of_a_mistake() {
    let long = format!(r#"{{"lines":[{{"name":1,"price":"{}"}}]}}"#, "x".repeat(10_000));
    let deep = "[".repeat(10_000);
    let rows: &[(&str, u16, &str)] = &[
        (
            r#"{"lines":[{"name":"a","price":1}]}"#,
            200,
            "Order { lines: [Line { name: \"a\", price: 1 }] }",
        ),
        (
            r#"{"lines":[{"name":"a","price":-1}]}"#,
            400,
            "lines[0].price: invalid value: integer `-1`, expected u32 at line 1 column 32",
        ),
        (
            r#"{"lines":[{"name":"a","price":1},{"name":"b"}]}"#,
            400,
            "lines[1]: missing field `price` at line 1 column 45",
        ),
        (
            r#"{"lines":{}}"#,
            400,
            "lines: invalid type: map, expected a sequence at line 1 column 9",
        ),
        (r"{}", 400, "body: missing field `lines` at line 1 column 2"),
        (r"[", 400, "body: EOF while parsing a list at line 1 column 1"),
        ("", 400, "body: EOF while parsing a value at line 1 column 0"),
        (r#"{"lines":[]} x"#, 400, "body: trailing characters at line 1 column 14"),
        (
            &long,
            400,
            "lines[0].name: invalid type: integer `1`, expected a borrowed string at line 1 column 19",
        ),
    ];
    TestClient::run(app, async |client| {
        for (body, status, text) in rows {
            client.post("/json").body(body).await.expect(*status).text(text);
        }
        client.post("/json").body(&deep).await.expect(400);
        let price = format!(r#"{{"lines":[{{"name":"a","price":"{}"}}]}}"#, "x".repeat(10_000));
        let answer = client.post("/json").body(price).await.expect(400);
        assert!(answer.body().len() < 300, "what the client sent is not sent back whole");
    });
}

#[test]
fn headers_and_types_of_our_own() {
    let rows: &[(&str, &str, &str, u16, &str)] = &[
        ("/header", "x-n", "7", 200, "Some(7)"),
        ("/header", "X-N", " 7 ", 200, "Some(7)"),
        ("/header", "x-m", "7", 200, "None"),
        ("/header", "x-n", "", 400, "x-n: not valid"),
        ("/header", "x-n", "4294967296", 400, "x-n: not valid"),
        ("/take", "user-agent", "curl", 200, "Agent(\"curl\")"),
        ("/take", "user-agent", "bad robot", 403, "forbidden"),
        ("/take", "x", "y", 400, "no agent"),
    ];
    TestClient::run(app, async |client| {
        for (path, name, value, status, text) in rows {
            client.get(path).header(name, value).await.expect(*status).text(text);
        }
    });
}

async fn origin(cx: &Cx) -> Result<Reply> {
    let client = cx.client().map_or("-".to_owned(), |addr| addr.to_string());
    cx.text(format!("{client} {} {}", cx.scheme(), cx.authority()))
}

#[test]
fn proxies_are_believed_by_address() {
    let (ours, stranger, mapped) = ("10.9.9.9:1", "192.0.2.1:1", "[::ffff:10.9.9.9]:1");
    let ours_v6 = "[fd00::5]:1";
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let rows: &[Row<'_>] = &[
        (ours, &[], "10.9.9.9 http test"),
        (ours, &[("x-forwarded-for", "1.2.3.4")], "1.2.3.4 http test"),
        (mapped, &[("x-forwarded-for", "1.2.3.4")], "1.2.3.4 http test"),
        (ours_v6, &[("x-forwarded-for", "2001:db8::7")], "2001:db8::7 http test"),
        (stranger, &[("x-forwarded-for", "1.2.3.4")], "192.0.2.1 http test"),
        (stranger, &[("forwarded", "for=1.2.3.4;proto=https;host=evil")], "192.0.2.1 http test"),
        (
            stranger,
            &[("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")],
            "192.0.2.1 http test",
        ),
        (
            ours,
            &[
                ("x-forwarded-for", "6.6.6.6, 1.2.3.4"),
                ("X-Forwarded-For", "127.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "www.example.com:8443"),
            ],
            "1.2.3.4 https www.example.com:8443",
        ),
        (
            ours,
            &[("forwarded", "for=6.6.6.6, for=1.2.3.4;proto=https;host=www.example.com")],
            "1.2.3.4 https www.example.com",
        ),
        // What a proxy of the one kind passes on of the other is a stranger's.
        (
            ours,
            &[("forwarded", "for=6.6.6.6;proto=https;host=evil"), ("x-forwarded-for", "1.2.3.4")],
            "1.2.3.4 http test",
        ),
        (ours, &[("x-forwarded-for", "nonsense")], "10.9.9.9 http test"),
        (ours, &[("x-forwarded-host", "a/b"), ("x-forwarded-proto", "h")], "10.9.9.9 http test"),
    ];
    let build = async |_: Shard| {
        let app = App::new("").trust(&["10.0.0.0/8", "127.0.0.1"]).trust(&["fd00::/8"]);
        Ok(app.get("/", origin))
    };
    TestClient::run(build, async |client| {
        client.get("/").header("x-forwarded-for", "1.2.3.4").await.text("- http test");
        for (peer, fields, want) in rows {
            client.peer(peer.parse::<std::net::SocketAddr>().expect(peer));
            let call = fields.iter().fold(client.get("/"), |call, (n, v)| call.header(n, v));
            call.await.expect(200).text(want);
        }
        client.peer(([10, 0, 0, 1], 1));
        let long = "10.0.0.2,".repeat(1_500) + "nonsense";
        client.get("/").header("x-forwarded-for", &long).await.text("10.0.0.1 http test");
    });
    TestClient::run(
        async |_| Ok(App::new("").get("/", origin)),
        async |client| {
            client.peer(([10, 9, 9, 9], 1));
            let call = client.get("/").header("x-forwarded-for", "1.2.3.4");
            call.header("x-forwarded-proto", "https").await.text("10.9.9.9 http test");
        },
    );
}

#[test]
fn mistakes_in_trust_fail_the_start() {
    let build = async |_: Shard| Ok(App::new(()).trust(&["10.0.0.0/8", "10.0.0.0/99", "proxy"]));
    let failed = Server::bind("127.0.0.1:0").unpinned(1).start(build);
    let said = failed.expect_err("no start").to_string();
    for part in ["trust \"10.0.0.0/99\" (tests/reading.rs:", "): a prefix", "): not an address"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("/8"), "{said}");
    let build = async |_: Shard| Ok(App::new(()).nest("/a", |part| part.trust(&["10.0.0.0/8"])));
    let failed = Server::bind("127.0.0.1:0").unpinned(1).start(build);
    let said = failed.expect_err("no start").to_string();
    assert!(said.contains("part \"/a\" (tests/reading.rs:"), "{said}");
}

#[test]
fn the_whole_application_says_who_is_believed() {
    let stream = async |cx: &Cx| {
        let mut events = cx.events().await?;
        let client = cx.client().map_or("-".to_owned(), |addr| addr.to_string());
        events.send(Event::data(&client)).await?;
        events.finish().await
    };
    for (outer, inner, of_10, of_192) in [
        (&["10.0.0.0/8"][..], &["192.0.2.0/24"][..], "1.2.3.4", "192.0.2.1"),
        (&["10.0.0.0/8"], &[], "1.2.3.4", "192.0.2.1"),
        (&[], &["10.0.0.0/8"], "10.9.9.9", "192.0.2.1"),
    ] {
        let build = async |_: Shard| {
            let part = App::new("").trust(inner).get("/", origin).get("/events", stream);
            Ok(App::new(()).trust(outer).mount("/part", part))
        };
        TestClient::run(build, async |client| {
            for (peer, want) in [([10, 9, 9, 9], of_10), ([192, 0, 2, 1], of_192)] {
                client.peer((peer, 1));
                let call = client.get("/part").header("x-forwarded-for", "1.2.3.4");
                call.await.expect(200).text(&format!("{want} http test"));
                // Streams after the first one of their route have a core of their own.
                for _ in 0..3 {
                    let call = client.get("/part/events").header("x-forwarded-for", "1.2.3.4");
                    call.await.expect(200).text(&format!("data: {want}\n\n"));
                }
            }
        });
    }
}

fn set_cookies(cx: &Cx) -> Result<Reply> {
    use soloist::cookie::{Cookie, SameSite, time};
    let built = |name: &'static str, value: &'static str| Cookie::build((name, value));
    match cx.param("which")? {
        "plain" => cx.set_cookie(("a", "1")),
        "two" => cx.set_cookie(("a", "1")).set_cookie(("b", "2")),
        "escaped" => cx.set_cookie(("a", "x; y=\"\u{e9}\"\r\n%")),
        "open" => cx.set_cookie(built("a", "1").http_only(false).secure(false)),
        "full" => cx.set_cookie(
            built("a", "1")
                .path("/p")
                .domain("example.com")
                .same_site(SameSite::Strict)
                .secure(true)
                .max_age(time::Duration::minutes(2))
                .expires(time::OffsetDateTime::UNIX_EPOCH),
        ),
        "elsewhere" => cx.set_cookie(built("a", "1").same_site(SameSite::None)),
        "host" => cx.set_cookie(("__Host-a", "1")),
        "removed" => cx.remove_cookie("a"),
        "removed there" => cx.remove_cookie(built("a", "secret").path("/p")),
        "large" => cx.set_cookie(("a", "x".repeat(4_096))),
        "no name" => cx.set_cookie(("", "1")),
        "bad name" => cx.set_cookie(("a;b", "1")),
        "bad path" => cx.set_cookie(built("a", "1").path("/; Domain=evil")),
        "bad domain" => cx.set_cookie(built("a", "1").domain("a\r\nx: y")),
        _ => return cx.set_cookie(("a", "1")).text("x").and(Err(Error::not_found())),
    };
    cx.empty()
}

#[test]
fn cookies() {
    let build = async |_: Shard| {
        let app = App::new("").trust(&["10.0.0.0/8"]);
        let app = app.get("/set/:which", async |cx| set_cookies(cx));
        Ok(app.get("/:name", async |cx| debug(cx, cx.cookie(cx.param("name")?))))
    };
    let many = "x=1;".repeat(199);
    let (fits, over) = (format!("{many}a=1"), format!("{many}x=1;a=1"));
    let noise = ";=;\"=\"".repeat(2_000);
    let read: &[(&str, &[&str], &str)] = &[
        ("a", &[], "None"),
        ("a", &["a=1"], "Some(\"1\")"),
        ("a", &["b=1; a=2; a=3"], "Some(\"2\")"),
        ("a", &["b=1", "a=2"], "Some(\"2\")"),
        ("a", &["a="], "Some(\"\")"),
        ("a", &["A=1; aa=1; a"], "None"),
        ("a", &["a=\"b c\""], "Some(\"b c\")"),
        ("a", &["a=%C3%A9%20+"], "Some(\"\u{e9} +\")"),
        ("a", &["a=50%"], "Some(\"50%\")"),
        ("a", &["a=%ff"], "Some(\"%ff\")"),
        ("__Host-a", &["__%48ost-a=evil"], "None"),
        ("a", &[&fits], "Some(\"1\")"),
        ("a", &[&over], "None"),
        ("a", &[&noise], "None"),
    ];
    let set: &[(&str, &[&str])] = &[
        ("plain", &["a=1; HttpOnly; SameSite=Lax; Path=/"]),
        ("two", &["a=1; HttpOnly; SameSite=Lax; Path=/", "b=2; HttpOnly; SameSite=Lax; Path=/"]),
        ("escaped", &["a=x%3B%20y=%22%C3%A9%22%0D%0A%25; HttpOnly; SameSite=Lax; Path=/"]),
        ("open", &["a=1; SameSite=Lax; Path=/"]),
        (
            "full",
            &["a=1; HttpOnly; SameSite=Strict; Secure; Path=/p; Domain=example.com; Max-Age=120; \
               Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        ),
        ("elsewhere", &["a=1; HttpOnly; SameSite=None; Secure; Path=/"]),
        ("host", &["__Host-a=1; HttpOnly; SameSite=Lax; Secure; Path=/"]),
        (
            "removed",
            &["a=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0; \
               Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        ),
        (
            "removed%20there",
            &["a=; HttpOnly; SameSite=Lax; Path=/p; Max-Age=0; \
               Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        ),
    ];
    TestClient::run(build, async |client| {
        for (name, fields, want) in read {
            let path = format!("/{name}");
            let call = fields.iter().fold(client.get(&path), |call, it| call.header("cookie", it));
            call.await.expect(200).text(want);
        }
        for (which, want) in set {
            let request = format!("GET /set/{which} HTTP/1.1\r\nhost: a\r\n\r\n");
            let answer = client.raw(&[request.as_bytes()]).await;
            let answer = String::from_utf8(answer).expect("text");
            let sent: Vec<_> =
                answer.lines().filter_map(|it| it.strip_prefix("set-cookie: ")).collect();
            assert_eq!(sent, *want, "{which}: {answer}");
        }
        for which in ["large", "no%20name", "bad%20name", "bad%20path", "bad%20domain", "error"] {
            let answer = client.get(&format!("/set/{which}")).await;
            assert_eq!(answer.status(), if which == "error" { 404 } else { 500 }, "{which}");
            assert_eq!(answer.header("set-cookie"), None, "{which}");
        }
        client.peer(([10, 0, 0, 1], 1));
        for (which, is_secure) in [("plain", true), ("open", false)] {
            let call = client.get(&format!("/set/{which}")).header("x-forwarded-proto", "https");
            let answer = call.await.expect(204);
            let cookie = answer.header("set-cookie").expect("a cookie");
            assert_eq!(cookie.contains("; Secure"), is_secure, "{cookie}");
        }
    });
}

#[cfg(feature = "secure-cookies")]
#[test]
fn signed_and_private_cookies() {
    use soloist::cookie::Key;

    struct Keys {
        ours: Key,
        other: Key,
    }
    async fn read(cx: &Ctx<Keys>) -> Result<Reply> {
        let (key, name) = (&cx.state().ours, cx.param("name")?);
        let (signed, private) = (cx.signed_cookie(key, name), cx.private_cookie(key, name));
        cx.text(signed.or(private).unwrap_or("-"))
    }
    async fn set(cx: &Ctx<Keys>) -> Result<Reply> {
        let (name, value) =
            (cx.param::<&str>("name")?, cx.query_param("value").unwrap_or_default());
        let key =
            if cx.query_param("other").is_some() { &cx.state().other } else { &cx.state().ours };
        match cx.param("how")? {
            "signed" => cx.set_signed_cookie(key, (name, value)).empty(),
            _ => cx.set_private_cookie(key, (name, value)).empty(),
        }
    }
    let build = async |_: Shard| {
        let keys = Keys { ours: Key::derive_from(&[1; 32]), other: Key::derive_from(&[2; 32]) };
        Ok(App::new(keys).get("/:name", read).post("/:how/:name", set))
    };
    TestClient::run(build, async |client| {
        let sealed = async |path: &str| {
            let answer = client.post(path).await.expect(204);
            let field = answer.header("set-cookie").expect("a cookie").to_owned();
            assert!(field.ends_with("; HttpOnly; SameSite=Lax; Path=/"), "{field}");
            field.split_once(';').map(|(cookie, _)| cookie.to_owned()).expect("attributes")
        };
        let get = async |cookies: &str| {
            let answer = client.get("/user").header("cookie", cookies).await.expect(200);
            String::from_utf8(answer.body().to_vec()).expect("text")
        };
        for how in ["signed", "private"] {
            for (given, want) in [("ann", "ann"), ("", ""), ("%C3%A9;%25%0d=%22", "\u{e9};%\r=\"")]
            {
                let cookie = sealed(&format!("/{how}/user?value={given}")).await;
                assert_eq!(get(&cookie).await, want, "{how} {given}");
                assert_eq!(get(&format!("user=forged; {cookie}")).await, want, "ours is behind");
            }
            let ours = sealed(&format!("/{how}/user?value=ann")).await;
            assert_eq!(ours.contains("ann"), how == "signed", "{ours}");
            let theirs = sealed(&format!("/{how}/user?value=ann&other")).await;
            let other_name = sealed(&format!("/{how}/theme?value=ann")).await;
            let mut forged = vec![theirs, other_name.replacen("theme", "user", 1)];
            for at in "user=".len()..ours.len() {
                let mut bytes = ours.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                forged.push(String::from_utf8(bytes).expect("text"));
                forged.push(ours[..at].to_owned());
            }
            forged.extend(["user=", "user", "user=%", "user=%ff"].map(String::from));
            forged.push(format!("user={}", "\u{e9}".repeat(40)));
            forged.push(format!("user={}", "A".repeat(10_000)));
            forged.push(format!("user={}", "%41".repeat(44)));
            for cookie in forged {
                assert_eq!(get(&cookie).await, "-", "{how}: {cookie}");
            }
        }
    });
}
