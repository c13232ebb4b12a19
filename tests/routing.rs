//! From a method, a host and a path to a handler: parts, hosts, names, last slashes, and mistakes.

use std::cell::Cell;

use soloist::Slashes;
use soloist::prelude::*;
use soloist::testing::TestClient;

/// Notes the way to the handler in a field.
fn mark<S: 'static>(name: &'static str) -> impl AsyncFn(&Ctx<S>, Next<'_>) -> Result<Reply> {
    async move |cx, next| {
        let reply = next.reply().await;
        cx.add_header("x-way", name);
        Ok(reply)
    }
}

async fn here<S>(cx: &Ctx<S>) -> Result<Reply> {
    cx.text(cx.route().unwrap_or("none"))
}

async fn app(_: Shard) -> Result<App<()>> {
    let shop = App::new(Cell::new(40u32))
        .wrap(mark("shop"))
        .get("/", here)
        .get("/item/:id", here)
        .name("item")
        .get("/count", async |cx| {
            cx.state().set(cx.state().get() + 1);
            cx.text(cx.state().get().to_string())
        })
        .get("/fail", async |_| Err(Error::new(409, "sold out")))
        .on_error(|cx, error| cx.text(format!("shop: {}", error.message())))
        .nest("/deep", |app| app.wrap(mark("deep")).get("/x", here));
    Ok(App::new(())
        .wrap(mark("app"))
        .get("/", here)
        .get("/both", here)
        .nest("/admin", |app| {
            app.wrap(mark("admin"))
                .get("/", here)
                .get("/users/:id", here)
                .name("admin-user")
                .fallback(async |cx| cx.status(404).text("no such admin page"))
                .group(|app| app.wrap(mark("root")).delete("/users/:id", here))
        })
        .mount("/shop", shop)
        .host("api.example.com", |app| app.wrap(mark("api")).get("/", here).get("/v1", here))
        .host("*.example.com", |app| app.get("/", async |cx| cx.text("below")))
        .get("/files/*path", here)
        .name("file")
        .get("/links", async |cx| {
            let user = cx.url("admin-user", &[("id", &"a b/c")])?;
            let item = cx.url("item", &[("id", &7)])?;
            let file = cx.url("file", &[("path", &"x/y z")])?;
            cx.text(format!("{user} {item} {file}"))
        })
        .get("/no-link", async |cx| cx.text(cx.url("nowhere", &[])?))
        .get("/half-link", async |cx| cx.text(cx.url("item", &[])?)))
}

#[test]
fn parts_hosts_and_misses() {
    // method, host, path: status, body, way (inmost first)
    let table = [
        ("GET", "a", "/", 200, "/", "app"),
        ("GET", "a", "/admin", 200, "/admin", "admin app"),
        ("GET", "a", "/admin/", 404, "no such admin page", "admin app"),
        ("GET", "a", "/admin/users/7", 200, "/admin/users/:id", "admin app"),
        ("DELETE", "a", "/admin/users/7", 200, "/admin/users/:id", "root admin app"),
        ("PUT", "a", "/admin/users/7", 405, "method not allowed", "admin app"),
        ("GET", "a", "/admin/none", 404, "no such admin page", "admin app"),
        ("GET", "a", "/administrator", 404, "not found", "app"),
        ("GET", "a", "/shop", 200, "/shop", "shop app"),
        ("GET", "a", "/shop/item/1", 200, "/shop/item/:id", "shop app"),
        ("GET", "a", "/shop/count", 200, "41", "shop app"),
        ("GET", "a", "/shop/fail", 409, "shop: sold out", "shop app"),
        ("GET", "a", "/shop/deep/x", 200, "/shop/deep/x", "deep shop app"),
        ("GET", "a", "/shop/deep/none", 404, "shop: not found", "deep shop app"),
        ("GET", "a", "/shop/none", 404, "shop: not found", "shop app"),
        ("PUT", "a", "/shop/count", 405, "shop: method not allowed", "shop app"),
        ("GET", "api.example.com", "/", 200, "/", "api app"),
        ("GET", "API.example.com:8080", "/v1", 200, "/v1", "api app"),
        ("GET", "api.example.com", "/both", 200, "/both", "app"),
        ("GET", "b.example.com", "/", 200, "below", "app"),
        ("GET", "example.com", "/v1", 404, "not found", "app"),
        ("POST", "api.example.com", "/v1", 405, "method not allowed", "app"),
        ("GET", "a", "/links", 200, "/admin/users/a%20b%2Fc /shop/item/7 /files/x/y%20z", "app"),
        ("GET", "a", "/no-link", 500, "internal error", "app"),
        ("GET", "a", "/half-link", 500, "internal error", "app"),
    ];
    TestClient::run(app, async |client| {
        for (method, host, path, status, body, way) in table {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let (out, _) = client.raw_open(request.as_bytes()).await;
            let text = String::from_utf8(out).expect("text");
            let what = format!("{method} {host} {path}\n{text}");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{what}");
            assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{what}");
            let marks: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix("x-way: ")).collect();
            assert_eq!(marks.join(" "), way, "{what}");
        }
    });
}

#[test]
fn last_slashes() {
    let build = |slashes: Slashes| {
        async move |_: Shard| {
            Ok(App::new(())
                .slashes(slashes)
                .get("/a", here)
                .get("/dir/", here)
                .post("/a", here)
                .get("/n/:id", async |cx| cx.text(cx.param::<&str>("id")?)))
        }
    };
    // path: strict, redirect, ignore
    let table = [
        ("/a", "200 /a", "200 /a", "200 /a"),
        ("/a/", "404", "308 /a", "200 /a"),
        ("/a/?q=1", "404", "308 /a?q=1", "200 /a"),
        ("/dir", "404", "308 /dir/", "200 /dir/"),
        ("/n/7/", "404", "308 /n/7", "200 7"),
        ("/none/", "404", "404", "404"),
        ("//a", "404", "404", "404"),
        ("//a/", "404", "404", "404"),
    ];
    for (at, slashes) in [Slashes::Strict, Slashes::Redirect, Slashes::Ignore].iter().enumerate() {
        TestClient::run(build(*slashes), async |client| {
            for (path, strict, redirect, ignore) in table {
                let answer = client.get(path).await;
                let status = answer.status();
                let got = match status {
                    200 => format!("200 {}", String::from_utf8_lossy(answer.body())),
                    308 => format!("308 {}", answer.header("location").unwrap_or("nowhere")),
                    status => status.to_string(),
                };
                assert_eq!(got, [strict, redirect, ignore][at], "{path} {slashes:?}");
            }
        });
    }
}

#[test]
fn mistakes_are_collected_and_name_their_lines() {
    let build = async |_: Shard| {
        Ok(App::new(())
            .name("nothing")
            .nest("admin", |app| app)
            .nest("/x/", |app| app.get("/never", here))
            .mount("/y/*z", App::new(1u8))
            .host("a b", |app| app)
            .group(|app| app.fallback(here))
            .nest("/e", |app| app.on_error(|cx, _| cx.empty()))
            .get("/one", here)
            .name("same")
            .get("/two", here)
            .name("same")
            .nest("/p", |app| app.get("/:id", here))
            .get("/p/:other", here))
    };
    let error = Server::bind("127.0.0.1:0").unpinned(1).start(build).expect_err("mistakes");
    let text = error.message();
    for what in [
        "name nothing (",
        "nest \"admin\" (",
        "nest \"/x/\" (",
        "mount \"/y/*z\" (",
        "host \"a b\" (",
        "group (",
        "part \"/e\" (",
        "two routes are named same: /one and /two",
        "GET /p/:other (",
        "conflicts with GET /p/:id (",
    ] {
        assert!(text.contains(what), "{what}\n{text}");
    }
    assert!(text.matches("tests/routing.rs:").count() >= 9, "{text}");
}
