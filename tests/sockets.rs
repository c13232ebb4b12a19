//! WebSockets and rooms, from the handshake to the drain: in memory, on a clock that stands still.

use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use patient::Patient;
use soloist::prelude::*;
use soloist::testing::{TestClient, TestServer};
use soloist::{Message, WhenFull, WsDeflate, WsOptions};

#[path = "client/patient.rs"]
mod patient;

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn echo(_: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

/// The head that answers a handshake with these fields changed or added; an empty value takes one
/// out.
fn ask(client: &TestClient, path: &str, changes: &[(&str, &str)]) -> String {
    let base = [
        ("host", "test"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut head = format!("GET {path} HTTP/1.1\r\n");
    let changed = |name: &str| changes.iter().find(|it| it.0 == name).map(|it| it.1);
    let kept = base.iter().map(|(name, value)| (*name, changed(name).unwrap_or(value)));
    let added = changes.iter().filter(|it| base.iter().all(|known| known.0 != it.0)).copied();
    for (name, value) in kept.chain(added).filter(|it| !it.1.is_empty()) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let open = client.open();
    open.send(head.as_bytes());
    let answer = String::from_utf8_lossy(&open.receive()).into_owned();
    open.reset();
    answer
}

async fn echoes(_: Shard) -> Result<App<()>> {
    let listed = WsOptions::new().origins(&["https://a.example"]).protocols(&["v2", "v1"]);
    Ok(App::new(())
        .ws("/", echo)
        .ws_with("/any", WsOptions::new().any_origin().deflate(WsDeflate::Shared), echo)
        .ws_with("/kept", WsOptions::new().deflate(WsDeflate::Dedicated), echo)
        .ws_with("/listed", listed, echo)
        .ws_with("/small", WsOptions::new().message_bytes_max(10), echo))
}

/// Each thing that is wrong with a handshake has an answer of its own.
#[test]
fn handshakes() {
    // (path, fields changed or added; an empty value takes one out) -> status, a field of it
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, Option<(&'a str, &'a str)>);
    let cases: &[Row<'_>] = &[
        ("/", &[], 101, Some(("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))),
        ("/", &[("upgrade", "")], 426, Some(("upgrade", "websocket"))),
        ("/", &[("upgrade", "h2c")], 426, Some(("sec-websocket-version", "13"))),
        ("/", &[("connection", "")], 400, None),
        ("/", &[("connection", "close")], 400, None),
        ("/", &[("sec-websocket-version", "")], 426, Some(("sec-websocket-version", "13"))),
        ("/", &[("sec-websocket-version", "8")], 426, Some(("sec-websocket-version", "13"))),
        ("/", &[("sec-websocket-key", "")], 400, None),
        ("/", &[("sec-websocket-key", "short")], 400, None),
        ("/", &[("content-length", "2")], 400, None),
        ("/", &[("origin", "http://test")], 101, None),
        ("/", &[("origin", "https://TEST:443")], 101, None),
        ("/", &[("origin", "http://evil.example")], 403, None),
        ("/", &[("origin", "null")], 403, None),
        ("/any", &[("origin", "http://evil.example")], 101, None),
        ("/listed", &[("origin", "https://a.example")], 101, None),
        ("/listed", &[("origin", "http://test")], 403, None),
        (
            "/listed",
            &[("sec-websocket-protocol", "v3, v1, v2")],
            101,
            Some(("sec-websocket-protocol", "v1")),
        ),
        ("/listed", &[("sec-websocket-protocol", "v3")], 101, None),
        (
            "/any",
            &[("sec-websocket-extensions", "permessage-deflate")],
            101,
            Some((
                "sec-websocket-extensions",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            )),
        ),
        (
            "/kept",
            &[("sec-websocket-extensions", "foo, permessage-deflate; client_max_window_bits")],
            101,
            Some(("sec-websocket-extensions", "permessage-deflate")),
        ),
        ("/none", &[], 404, None),
    ];
    TestClient::run(echoes, async |client| {
        for (path, changes, status, field) in cases {
            let answer = ask(client, path, changes);
            let first = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&first), "{path} {changes:?}: {answer}");
            if let Some((name, value)) = field {
                let line = format!("\r\n{name}: {value}\r\n");
                assert!(answer.contains(&line), "{path} {changes:?}: {line} in {answer}");
            }
            let unasked = changes.iter().all(|it| it.0 != "sec-websocket-extensions");
            assert!(!unasked || !answer.contains("sec-websocket-extensions"), "{answer}");
        }
        client.post("/").await.expect(405);
    });
}

/// What a client breaks has the close code that RFC 6455 names, and the slot is free again.
#[test]
fn violations() {
    let cases: &[(&str, &[u8], u16)] = &[
        ("/", &[0x81, 0x00], 1002),
        ("/", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("/", &[0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("/", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("/", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        ("/", &[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("/", &[0x88, 0x81, 0, 0, 0, 0, 0], 1002),
        ("/", &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xee], 1002),
        ("/", &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8], 1000),
        ("/", &[0x88, 0x80, 0, 0, 0, 0], 1005),
        ("/small", &[0x82, 0x8b, 0, 0, 0, 0], 1009),
    ];
    TestClient::run(echoes, async |client| {
        for (path, bytes, code) in cases {
            let mut ws = client.ws(path).await;
            ws.send_raw(bytes).await;
            assert_eq!(ws.closed().await, *code, "{bytes:?}");
        }
        assert_eq!(client.shard().stats().get("ws_open"), 0);
        let mut ws = client.ws("/").await;
        for text in ["", "a", &"b".repeat(70_000)] {
            ws.send(text).await;
            assert_eq!(ws.next().await, text);
        }
        ws.send_raw(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await;
        ws.send(vec![0; 200_000]).await;
        assert_eq!(ws.next_message().await.expect("the echo").bytes().len(), 200_000);
        ws.close(1000).await;
        assert_eq!(ws.closed().await, 1000);
    });
}

/// What ends a handler, and what the client hears.
#[test]
fn endings() {
    async fn end(cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
        match cx.param("how")? {
            "well" => return Ok(()),
            "badly" => return Err("no".into()),
            "rudely" => drop(Message::from("no json").read_json::<u32>()?),
            "panics" => panic!("on purpose"),
            "closes" => ws.close(4001, "enough"),
            "half" => {
                let mut out = ws.stream_text().await?;
                out.write("never ended").await?;
                return Ok(());
            }
            _ => {}
        }
        ws.join("room")?;
        while ws.recv().await?.is_some() {}
        Ok(())
    }
    let cases = [
        ("well", 1000),
        ("badly", 1011),
        ("rudely", 1008),
        ("panics", 1011),
        ("closes", 4001),
        ("half", 1006),
    ];
    TestClient::run(
        async |_| Ok(App::new(()).ws("/:how", end)),
        async |client| {
            for (how, code) in cases {
                let mut ws = client.ws(&format!("/{how}")).await;
                assert_eq!(ws.closed().await, code, "{how}");
                drop(ws);
                let stats = client.shard().stats();
                assert_eq!(stats.get("ws_open"), 0, "{how}");
            }
            let presence = client.shard().presence("room").await.expect("answered");
            assert_eq!(presence.count, 0, "the room forgets them");
            assert_eq!(client.shard().stats().get("panics"), 1);
            // A drain says goodbye, and waits for the client's.
            let mut ws = client.ws("/stays").await;
            client.stop().await;
            assert_eq!(ws.closed().await, 1001);
        },
    );
}

/// Pings, idle time and clients that are gone, by the wheel.
#[test]
fn signs_of_life() {
    let app = async |_| {
        let minute = Duration::from_secs(60);
        let idle = WsOptions::new().idle_max(minute);
        Ok(App::new(()).ws("/", echo).ws_with("/idle", idle, echo))
    };
    TestClient::run(app, async |client| {
        let mut here = client.ws("/").await;
        let open = client.open();
        open.send(HANDSHAKE);
        assert!(open.receive().starts_with(b"HTTP/1.1 101"));
        // One that only answers pings, within the same moment of the clock: it is there for hours.
        let mut silent = client.ws("/").await;
        for _ in 0..240 {
            client.advance(Duration::from_secs(31)).await;
            assert!(silent.so_far().await.is_empty() && here.so_far().await.is_empty());
        }
        assert_eq!(client.shard().stats().get("ws_open"), 2, "the deaf one is gone");
        silent.send("still here").await;
        assert_eq!(silent.next().await, "still here");
        drop(silent);
        let open = client.open();
        open.send(HANDSHAKE);
        assert!(open.receive().starts_with(b"HTTP/1.1 101"));
        let mut pings = 0;
        for _ in 0..5 {
            client.advance(Duration::from_secs(20)).await;
            assert!(here.so_far().await.is_empty()); // reading, it answers pings
            here.send("still here").await;
            assert_eq!(here.so_far().await, ["still here"]);
            pings += usize::from(open.receive() == [0x89, 0]);
        }
        assert_eq!(pings, 1);
        assert!(open.is_closed(), "a client that answers no ping is gone");
        assert_eq!(client.shard().stats().get("ws_gone"), 2);
        let mut idle = client.ws("/idle").await;
        assert_eq!(idle.closed().await, 1001);
    });
}

/// Rooms: who hears what.
#[test]
fn rooms() {
    async fn room(cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
        ws.set_name(cx.param("name")?);
        ws.join(cx.param("room")?)?;
        while let Some(message) = ws.recv().await? {
            let text = message.text().unwrap_or("");
            match text.split_once(' ') {
                Some(("join", room)) => ws.join(room)?,
                Some(("leave", room)) => ws.leave(room),
                Some(("others", text)) => ws.publish_others(cx.param("room")?, text),
                Some(("to", rest)) => {
                    let (id, text) = rest.split_once(' ').ok_or("no text")?;
                    cx.shard().send_to(id.parse()?, text);
                }
                _ if text == "id" => {
                    let id = ws.id().to_string();
                    ws.send(id).await?;
                }
                _ => cx.publish(cx.param("room")?, message),
            }
        }
        Ok(())
    }
    let app = async |shard: Shard| {
        shard.replay("kept/*", 2);
        Ok(App::new(())
            .ws("/:room/:name", room)
            .get("/sse/*room", async |cx| cx.sse(cx.param("room")?).await))
    };
    TestClient::run(app, async |client| {
        let mut ann = client.ws("/a/ann").await;
        let mut bob = client.ws("/a/bob").await;
        let mut eve = client.ws("/b/eve").await;
        ann.send("hello").await;
        assert_eq!(
            (ann.so_far().await, bob.so_far().await),
            (vec!["hello".into()], vec!["hello".into()])
        );
        assert!(eve.so_far().await.is_empty(), "another room");
        ann.send("others psst").await;
        assert_eq!((ann.so_far().await.len(), bob.so_far().await), (0, vec!["psst".to_owned()]));
        eve.send("join a").await;
        bob.send("leave a").await;
        ann.send("again").await;
        assert_eq!(eve.so_far().await, ["again"]);
        assert!(bob.so_far().await.is_empty());
        bob.send("id").await;
        let id = bob.next().await;
        ann.so_far().await;
        ann.send(format!("to {id} only you").as_str()).await;
        assert_eq!(bob.so_far().await, ["only you"]);
        assert!(ann.so_far().await.is_empty());
        let presence = client.shard().presence("a").await.expect("answered");
        let mut names: Vec<String> = presence.names.into_iter().map(|it| it.1).collect();
        names.sort();
        assert_eq!((presence.count, names), (2, vec!["ann".into(), "eve".into()]));
        drop((bob, eve));
        ann.send("to nobody-0-0 x").await; // no id: the handler fails
        assert_eq!(ann.closed().await, 1011);
        // What is kept, for sockets and for event streams.
        let shard = client.shard();
        for n in 1..=3 {
            shard.publish("kept/x", n.to_string());
        }
        let mut late = client.ws("/kept%2Fx/late").await;
        assert_eq!(late.so_far().await, ["2", "3"]);
        let mut events = client.get("/sse/kept/x").events().await;
        let two = events.next().await.expect("an event");
        assert_eq!((&*two.data, &*events.next().await.expect("an event").data), ("2", "3"));
        let again =
            client.get("/sse/kept/x").header("last-event-id", two.id.as_deref().expect("an id"));
        assert_eq!(again.events().await.next().await.expect("an event").data, "3");
    });
}

/// What is kept has a bound for a whole shard: beyond it the oldest of all rooms goes first.
#[test]
fn what_is_kept_is_bounded() {
    let app = async |shard: Shard| {
        shard.replay("*", 1_000);
        Ok(App::new(()).ws("/:room", async |cx, ws| {
            ws.join(cx.param("room")?)?;
            while ws.recv().await?.is_some() {}
            Ok(())
        }))
    };
    TestClient::run(app, async |client| {
        let shard = client.shard();
        let kept = async |room: &str| client.ws(room).await.so_far().await.len();
        shard.publish("old", "o");
        for _ in 0..1_000 {
            shard.publish("busy", "b".repeat(3_000));
        }
        assert_eq!((kept("/old").await, kept("/busy").await), (1, 256), "an outbox has 256");
        for n in 0..500 {
            shard.publish(&format!("room{n}"), "r".repeat(3_000));
        }
        assert_eq!((kept("/old").await, kept("/room0").await, kept("/room499").await), (0, 1, 1));
    });
}

/// A client that reads nothing: its outbox is bounded, and the others hear everything.
#[test]
fn back_pressure() {
    // (policy) -> what the deaf client finds at the end: (first, last, close)
    let cases = [
        (WhenFull::DropNewest, 0, 7, "ws_dropped_newest"),
        (WhenFull::DropOldest, 12, 19, "ws_dropped_oldest"),
        (WhenFull::Close(1013), 0, 0, "ws_closed_full"),
    ];
    for (policy, first, last, counter) in cases {
        let options = WsOptions::new().when_full(policy).outbox_max(8, 1 << 20);
        let app = async move |_| {
            Ok(App::new(()).ws_with("/", options.clone(), async |_, ws| {
                ws.join("all")?;
                while ws.recv().await?.is_some() {}
                Ok(())
            }))
        };
        TestClient::run(app, async |client| {
            let (mut deaf, mut fast) = (client.ws("/").await, client.ws("/").await);
            for n in 0..20 {
                client.shard().publish("all", n.to_string());
                assert_eq!(fast.so_far().await, [n.to_string()]);
            }
            let heard = deaf.so_far().await;
            assert!(client.shard().stats().get(counter) > 0, "{policy:?}");
            if let WhenFull::Close(code) = policy {
                assert!(heard.is_empty(), "it is too far behind to hear more");
                assert_eq!(deaf.closed().await, code);
            } else {
                let wanted: Vec<String> = (first..=last).map(|n: u32| n.to_string()).collect();
                assert_eq!(heard, wanted, "{policy:?}");
            }
        });
    }
}

/// Of values with a key the newest counts, and takes the place of the older one.
#[test]
fn newer_values_take_the_place_of_older_ones() {
    let app = async |_| {
        Ok(App::new(()).ws("/", async |_, ws| {
            ws.join("prices")?;
            while ws.recv().await?.is_some() {}
            Ok(())
        }))
    };
    TestClient::run(app, async |client| {
        let mut ws = client.ws("/").await;
        for n in 0..1_000 {
            client.shard().publish("prices", Message::from(format!("a {n}")).key("a"));
            client.shard().publish("prices", Message::from(format!("b {n}")).key("b"));
        }
        assert_eq!(ws.so_far().await, ["a 999", "b 999"]);
        assert_eq!(client.shard().stats().get("ws_replaced"), 2 * 999);
    });
}

/// Bounds of sockets: in all, of a client, and of handshakes a second.
#[test]
fn too_many() {
    let cases = [
        (Limits { sockets_max: 2, ..Limits::default() }, 503),
        (Limits { sockets_of_client_max: 2, ..Limits::default() }, 429),
        (Limits { handshakes_per_s_max: 2, ..Limits::default() }, 503),
    ];
    for (limits, status) in cases {
        TestClient::run_with(limits, echoes, async |client| {
            client.peer(([192, 0, 2, 1], 1));
            let (one, two) = (client.ws("/").await, client.ws("/").await);
            let refused = ask(client, "/", &[]);
            assert!(refused.starts_with(&format!("HTTP/1.1 {status} ")), "{refused}");
            assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
            drop((one, two));
            client.advance(Duration::from_secs(2)).await;
            let _fine = client.ws("/").await;
        });
    }
}

/// What middleware found out is there for the handler; a refusal of its is an ordinary answer.
#[test]
fn middleware_goes_before() {
    struct User(String);
    async fn sign_in(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
        let Some(user) = cx.header("x-user") else { return Err(Error::unauthorized()) };
        cx.put(User(user.to_owned()));
        cx.set_header("x-seen", "yes");
        next.run().await
    }
    let app = async |_| {
        Ok(App::new(()).wrap(sign_in).ws("/:room", async |cx, ws| {
            let user: &User = cx.got().ok_or("nobody")?;
            let text = format!("{} in {}", user.0, cx.param::<&str>("room")?);
            ws.send(text).await
        }))
    };
    TestClient::run(app, async |client| {
        let mut ws = client.get("/rust").header("x-user", "ann").ws().await;
        assert_eq!(ws.answer().header("x-seen"), Some("yes"));
        assert_eq!(ws.next().await, "ann in rust");
        client.get("/rust").await.expect(401);
    });
}

/// Messages in pieces, both ways; what others send waits until one has ended.
#[test]
fn streams() {
    async fn stream(_: &Ctx<()>, ws: &mut Ws) -> Result<()> {
        ws.join("all")?;
        let mut bytes = 0;
        while let Some(part) = ws.recv_part().await? {
            bytes += part.bytes().len();
            if !part.is_last() {
                continue;
            }
            let mut out = ws.stream_text().await?;
            for n in 0..3 {
                out.write(format!("{n} ")).await?;
            }
            let euro = "\u{20ac}".as_bytes();
            out.write(&euro[..1]).await?;
            out.write(&euro[1..]).await?;
            out.write(format!(" {bytes}")).await?;
            out.finish().await?;
        }
        Ok(())
    }
    let options = WsOptions::new().message_bytes_max(10);
    let app = async move |_| Ok(App::new(()).ws_with("/", options.clone(), stream));
    TestClient::run(app, async |client| {
        let mut ws = client.ws("/").await;
        ws.send(vec![0; 100_000]).await; // parts have no bound
        assert_eq!(ws.next().await, "0 1 2 \u{20ac} 100000");
    });
}

/// Shards of a real server: a publish on one is heard on all, in order, and presence counts all.
#[test]
fn across_shards() {
    async fn app(shard: Shard) -> Result<App<()>> {
        let id = shard.id();
        Ok(App::new(()).ws("/", async move |cx, ws| {
            ws.join("all")?;
            ws.send(format!("shard {id}")).await?;
            while let Some(message) = ws.recv().await? {
                match message.text() {
                    Some("count") => {
                        let count = cx.shard().presence("all").await?.count;
                        ws.send(count.to_string()).await?;
                    }
                    _ => cx.publish("all", message),
                }
            }
            Ok(())
        }))
    }
    let server = TestServer::start(2, app);
    let connect = || {
        let stream = TcpStream::connect(server.addr()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let url = format!("ws://{}/", server.addr());
        let (mut socket, _) = tungstenite::client(url, Patient(stream)).expect("a handshake");
        let shard = socket.read().expect("its shard").to_string();
        (socket, shard)
    };
    let mut sockets: Vec<_> = Vec::new();
    // The kernel chooses the shard of a connection: some of many are on each.
    while sockets.len() < 200 {
        sockets.push(connect());
        let on = |name: &str| sockets.iter().any(|it: &(_, String)| it.1 == name);
        if sockets.len() >= 8 && on("shard 0") && on("shard 1") {
            break;
        }
    }
    let count = sockets.len();
    sockets[0].0.send("count".into()).expect("sent");
    assert_eq!(sockets[0].0.read().expect("an answer").to_string(), count.to_string());
    for n in 0..3_000 {
        sockets[0].0.write(n.to_string().into()).expect("written");
        if n % 100 == 99 {
            sockets[0].0.flush().expect("sent");
            for (socket, shard) in &mut sockets {
                for wanted in n - 99..=n {
                    let heard = socket.read().expect("a message").to_string();
                    assert_eq!(heard, wanted.to_string(), "{shard}");
                }
            }
        }
    }
    server.into_running().stop();
    for (socket, _) in &mut sockets {
        let close = socket.read().expect("a goodbye");
        let tungstenite::Message::Close(Some(frame)) = close else { panic!("{close:?}") };
        assert_eq!(u16::from(frame.code), 1001);
        while socket.read().is_ok() {}
    }
}

/// A writer of a task beside the handler, and halves that are used at once.
#[test]
fn writers() {
    let kept: Rc<RefCell<Vec<soloist::WsWriter>>> = Rc::default();
    let state = kept.clone();
    let app = async move |_| {
        Ok(App::new(state.clone()).ws("/", async |cx, ws| {
            cx.state().borrow_mut().push(ws.writer());
            let (reader, writer) = ws.split();
            while let Some(message) = reader.recv().await? {
                writer.send(message).await?;
            }
            Ok(())
        }))
    };
    TestClient::run(app, async |client| {
        let mut ws = client.ws("/").await;
        let writer = kept.borrow()[0].clone();
        writer.send("from beside").await.expect("open");
        assert_eq!(ws.next().await, "from beside");
        writer.close(1008, "not here");
        assert_eq!(ws.closed().await, 1008);
        assert!(!writer.is_open() && writer.send("late").await.is_err());
    });
}

/// Windows that go on from message to message stay in step with the client's, whatever is
/// published, dropped or too large to be compressed at once meanwhile.
#[test]
fn windows_stay_in_step() {
    let options = WsOptions::new()
        .deflate(WsDeflate::Dedicated)
        .deflate_level(6, 1)
        .when_full(WhenFull::DropOldest)
        .outbox_max(4, 1 << 20);
    let app = async move |_| {
        Ok(App::new(()).ws_with("/", options.clone(), async |_, ws| {
            ws.join("all")?;
            let writer = ws.writer();
            while let Some(message) = ws.recv().await? {
                let text = message.text().unwrap_or("").to_owned();
                writer.send(text.repeat(3)).await?;
            }
            Ok(())
        }))
    };
    TestClient::run(app, async |client| {
        let open = client.open();
        let head = String::from_utf8_lossy(HANDSHAKE)
            .replace("\r\n\r\n", "\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n");
        open.send(head.as_bytes());
        assert!(open.receive().starts_with(b"HTTP/1.1 101"));
        let mut inflate = flate2::Decompress::new(false);
        let mut heard = 0;
        let large = "large ".repeat(20_000);
        for round in 0..60u32 {
            // Some rounds read nothing: then the oldest of what waits is dropped.
            for n in 0..round % 7 {
                match (round + n) % 3 {
                    0 => client.shard().publish("all", format!("published {round} {n} words")),
                    1 => open.send(&masked(&format!("asked {round} {n} words "))),
                    _ if n == 4 => client.shard().publish("all", large.as_str()),
                    _ => open.send(&masked(&format!("words asked {n} ").repeat(3_000))),
                }
            }
            if round % 10 == 9 {
                // Two alike, of which the first is dropped.
                open.send(&masked(&format!("asked {round} twice ")));
                open.send(&masked(&format!("asked {round} twice ")));
                (0..3).for_each(|n| client.shard().publish("all", format!("published {n}")));
            }
            let bytes = open.receive();
            for (first, payload) in frames(&bytes) {
                let mut text = Vec::with_capacity(400_000);
                if first & 0x40 != 0 {
                    for part in [payload, &[0, 0, 0xff, 0xff]] {
                        let sync = flate2::FlushDecompress::Sync;
                        inflate.decompress_vec(part, &mut text, sync).expect("in step");
                    }
                } else {
                    text.extend_from_slice(payload);
                }
                let text = String::from_utf8(text).expect("text");
                let known = ["published ", "asked ", "words asked", "large "];
                assert!(known.iter().any(|it| text.starts_with(it)), "{round}: {text:.40}");
                assert!(text.split_whitespace().all(|word| word.len() < 10), "{round}: {text:.90}");
                heard += 1;
            }
        }
        assert!(heard > 100, "{heard}");
        let stats = client.shard().stats();
        assert!(stats.get("ws_dropped_oldest") > 0, "some were dropped");
    });
}

/// A text frame of a client; its mask is zero.
fn masked(text: &str) -> Vec<u8> {
    let mut out = vec![0x81, 0xfe];
    out.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    if text.len() < 126 {
        out.splice(1..4, [0x80 | text.len() as u8]);
    }
    out.extend_from_slice(text.as_bytes());
    out
}

/// The first byte and the payload of each frame of a server.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("eight")) as usize, &rest[8..]),
            len => (usize::from(*len), rest),
        };
        all.push((*first, &rest[..len]));
        bytes = &rest[len..];
    }
    all
}
