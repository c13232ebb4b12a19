//! Static files: paths, preconditions, ranges, codings and listings, each row over sockets and in
//! memory; then the ways to the socket, and files that change on their way.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use soloist::prelude::*;
use soloist::testing::{Answer, TestClient, TestServer};
use soloist::{Files, FormOptions};

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("soloist-files-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Dir(dir)
    }

    /// Writes a file whose date is that of RFC 9110's examples.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("in the directory")).expect("a directory");
        fs::write(&path, bytes).expect("a file");
        let then = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let file = fs::File::options().write(true).open(&path).expect("the file");
        file.set_modified(then).expect("a date");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
/// Of `digits.txt`.
const TAG: &str = "\"2ebc98a1.0-a\"";

fn site() -> Dir {
    let dir = Dir::new();
    dir.write("digits.txt", "0123456789");
    dir.write("empty.css", "");
    dir.write("a b%.js", "js");
    dir.write("page/index.html", "<p>index");
    dir.write("app.js", "plain");
    dir.write("app.js.br", "brotli");
    dir.write("app.js.gz", "gz");
    dir.write("old.js", "plain");
    dir.write("old.js.zst", "zstd");
    dir.write("sub/<&>.txt", "x");
    dir.write("sub/deeper/file", "x");
    dir.write(".env", "secret");
    dir.write("sub/.git/config", "secret");
    dir.write("large", large());
    dir.write("404.html", "<p>nothing");
    symlink("digits.txt", dir.0.join("inside")).expect("a link");
    symlink("../../etc/passwd", dir.0.join("outside")).expect("a link");
    symlink("/etc/passwd", dir.0.join("absolute")).expect("a link");
    symlink("round", dir.0.join("round")).expect("a link");
    dir
}

/// More than is mapped, than a window, and no multiple of either.
fn large() -> Vec<u8> {
    (0..2_500_000u32).flat_map(|at| at.to_le_bytes()[..1].to_vec()).collect()
}

fn app(dir: &Path) -> App<()> {
    let dir = dir.to_owned();
    App::new(())
        .files("/", &dir)
        .files_with("/list", Files::new(&dir).listing(true).index("").cache_control("no-store"))
        .files_with("/bare", Files::new(&dir).symlinks(false).precompressed(false).hidden(true))
        .files_with(
            "/cached",
            Files::new(&dir).cache_control("max-age=60").cache_control_of(".html", "no-cache"),
        )
        .files_with("/lost", Files::new(&dir).not_found("404.html"))
        .files_with("/single", Files::new(&dir).single_page("page/index.html"))
}

/// Runs every row over sockets, then in memory. The fields of a row's request are lines.
fn both(dir: &Dir, rows: &[Row<'_>]) {
    let path = dir.0.clone();
    let server = TestServer::start(1, move |_| {
        let app = app(&path);
        async move { Ok(app) }
    });
    for row in rows {
        let fields: String = row.fields.iter().map(|line| format!("{line}\r\n")).collect();
        row.check(server.send(row.method, row.path, &fields, b""), "over a socket");
    }
    let path = dir.0.clone();
    TestClient::run(
        async move |_| Ok(app(&path)),
        async |client| {
            for row in rows {
                let mut call = client.call(row.method, row.path);
                for line in row.fields {
                    let (name, value) = line.split_once(": ").expect("name: value");
                    call = call.header(name, value);
                }
                row.check(call.await, "in memory");
            }
        },
    );
}

struct Row<'a> {
    method: &'a str,
    path: &'a str,
    fields: &'a [&'a str],
    status: u16,
    /// `name: value`, or `name` for a field that must not be there.
    want: &'a [&'a str],
    body: Option<&'a str>,
}

impl Row<'_> {
    fn check(&self, answer: Answer, how: &str) {
        let row = format!("{} {} {:?}, {how}", self.method, self.path, self.fields);
        assert_eq!(answer.status(), self.status, "{row}: {answer:?}");
        for want in self.want {
            match want.split_once(": ") {
                Some((name, value)) => {
                    assert_eq!(answer.header(name), Some(value), "{row}: {name}")
                }
                None => assert_eq!(answer.header(want), None, "{row}: {want}"),
            }
        }
        if let Some(body) = self.body {
            assert_eq!(String::from_utf8_lossy(answer.body()), body, "{row}");
        }
    }
}

fn get<'a>(path: &'a str, status: u16, want: &'a [&'a str], body: &'a str) -> Row<'a> {
    Row { method: "GET", path, fields: &[], status, want, body: Some(body) }
}

#[test]
fn paths_lead_to_files_below_the_directory_and_nowhere_else() {
    let text = "content-type: text/plain; charset=utf-8";
    let none = "not found";
    both(
        &site(),
        &[
            get(
                "/digits.txt",
                200,
                &[text, "content-length: 10", "accept-ranges: bytes"],
                "0123456789",
            ),
            get(
                "/digits.txt",
                200,
                &["last-modified: Sun, 06 Nov 1994 08:49:37 GMT"],
                "0123456789",
            ),
            get(
                "/empty.css",
                200,
                &["content-type: text/css; charset=utf-8", "content-length: 0"],
                "",
            ),
            get("/a%20b%25.js", 200, &["content-type: text/javascript; charset=utf-8"], "js"),
            get("/sub/%3C%26%3E.txt", 200, &[text], "x"),
            get("/sub/deeper/file", 200, &["content-type: application/octet-stream"], "x"),
            get("/inside", 200, &[], "0123456789"),
            get("/page/", 200, &["content-type: text/html; charset=utf-8"], "<p>index"),
            get("/page", 308, &["location: /page/"], ""),
            get("/page?a=b", 308, &["location: /page/?a=b"], ""),
            get("/cached", 308, &["location: /cached/"], ""),
            get("/sub", 308, &["location: /sub/"], ""),
            get("/sub/", 404, &[], none),
            get("/", 404, &[], none),
            get("/nothing", 404, &[], none),
            get("/digits.txt/", 404, &[], none),
            get("/digits.txt/x", 404, &[], none),
            get("/outside", 404, &[], none),
            get("/absolute", 404, &[], none),
            get("/round", 404, &[], none),
            get("/bare/inside", 404, &[], none),
            get("/../digits.txt", 404, &[], none),
            get("/sub/../digits.txt", 404, &[], none),
            get("/%2e%2e/digits.txt", 404, &[], none),
            get("/sub%2f..%2fdigits.txt", 404, &[], none),
            get("/./digits.txt", 404, &[], none),
            get("//digits.txt", 404, &[], none),
            get("/sub//deeper/file", 404, &[], none),
            get("/sub%5cdeeper", 404, &[], none),
            get("/digits.txt%00", 404, &[], none),
            get("/digits.txt%0a", 404, &[], none),
            get("/%ff", 404, &[], none),
            get("/%zz", 404, &[], none),
            get("/.env", 404, &[], none),
            get("/sub/.git/config", 404, &[], none),
            get("/bare/.env", 200, &[], "secret"),
            get("/bare/..", 404, &[], none),
            get("/lost/nothing", 404, &["content-type: text/html; charset=utf-8"], "<p>nothing"),
            get("/lost/../x", 404, &[], "<p>nothing"),
            get("/lost/digits.txt", 200, &[], "0123456789"),
            get("/single/users/7", 200, &["content-type: text/html; charset=utf-8"], "<p>index"),
            get("/cached/digits.txt", 200, &["cache-control: max-age=60"], "0123456789"),
            get("/cached/page/", 200, &["cache-control: no-cache"], "<p>index"),
            get("/digits.txt", 200, &["cache-control"], "0123456789"),
            Row {
                method: "POST",
                path: "/digits.txt",
                fields: &[],
                status: 405,
                want: &["allow: GET, HEAD, OPTIONS"],
                body: None,
            },
            Row {
                method: "HEAD",
                path: "/digits.txt",
                fields: &[],
                status: 200,
                want: &["content-length: 10", "etag: \"2ebc98a1.0-a\""],
                body: Some(""),
            },
            Row {
                method: "HEAD",
                path: "/large",
                fields: &[],
                status: 200,
                want: &["content-length: 2500000"],
                body: Some(""),
            },
        ],
    );
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let row = |fields, status, body| Row {
        method: "GET",
        path: "/digits.txt",
        fields,
        status,
        want: if status == 412 {
            &[]
        } else {
            &["etag: \"2ebc98a1.0-a\"", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT"]
        },
        body: Some(body),
    };
    let (all, failed) = ("0123456789", "it is not as you say it is");
    let line = |name: &str, value: &str| format!("{name}: {value}");
    let none_match = line("if-none-match", TAG);
    let weak = line("if-none-match", &format!("W/{TAG}"));
    let listed = line("if-none-match", &format!("\"x\", {TAG}"));
    let matches = line("if-match", TAG);
    let weakly = line("if-match", &format!("W/{TAG}"));
    let (since, earlier) = (line("if-modified-since", DATE), line("if-modified-since", EARLIER));
    let (until, before) = (line("if-unmodified-since", DATE), line("if-unmodified-since", EARLIER));
    both(
        &site(),
        &[
            row(&[&none_match], 304, ""),
            row(&[&weak], 304, ""),
            row(&[&listed], 304, ""),
            row(&["if-none-match: *"], 304, ""),
            row(&["if-none-match: \"x\""], 200, all),
            row(&["if-none-match: \"x\"", &none_match], 304, ""),
            row(&[&since], 304, ""),
            row(&[&earlier], 200, all),
            row(&["if-modified-since: yesterday"], 200, all),
            row(&[&since, &since], 200, all), // who sends two means neither
            row(&["if-none-match: \"x\"", &since], 200, all),
            row(&[&matches], 200, all),
            row(&["if-match: *"], 200, all),
            row(&[&weakly], 412, failed),
            row(&["if-match: \"x\""], 412, failed),
            row(&[&until], 200, all),
            row(&[&before], 412, failed),
            row(&[&matches, &before], 200, all),
            row(&[&matches, &none_match], 304, ""),
            row(&["if-match: \"x\"", &none_match], 412, failed),
            row(&[&none_match, "range: bytes=0-1"], 304, ""),
            Row {
                method: "HEAD",
                path: "/digits.txt",
                fields: &[&none_match],
                status: 304,
                want: &["content-type", "content-length"],
                body: Some(""),
            },
        ],
    );
}

#[test]
fn parts_of_a_file() {
    let row = |fields, status, want, body| Row {
        method: "GET",
        path: "/digits.txt",
        fields,
        status,
        want,
        body: Some(body),
    };
    let all = "0123456789";
    let if_range = format!("if-range: {TAG}");
    let weak = format!("if-range: W/{TAG}");
    let (dated, older) = (format!("if-range: {DATE}"), format!("if-range: {EARLIER}"));
    let (two, refused): (&[&str], &[&str]) =
        (&["content-range: bytes 2-4/10"], &["content-range: bytes */10", "etag"]);
    let none: &[&str] = &["content-range"];
    both(
        &site(),
        &[
            row(&["range: bytes=2-4"], 206, two, "234"),
            row(
                &["range: bytes=0-0"],
                206,
                &["content-range: bytes 0-0/10", "content-length: 1"],
                "0",
            ),
            row(&["range: bytes=7-"], 206, &["content-range: bytes 7-9/10"], "789"),
            row(&["range: bytes=-3"], 206, &["content-range: bytes 7-9/10"], "789"),
            row(&["range: bytes=-99"], 206, &["content-range: bytes 0-9/10"], all),
            row(&["range: bytes=0-99"], 206, &["content-range: bytes 0-9/10"], all),
            row(&["range: bytes=10-"], 416, refused, "it has no such bytes"),
            row(&["range: bytes=-0"], 416, refused, "it has no such bytes"),
            row(&["range: bytes=4-2"], 200, none, all),
            row(&["range: lines=1-2"], 200, none, all),
            row(&["range: bytes=2-4", "range: bytes=2-4"], 200, none, all),
            row(&["range: bytes=0-2,1-4"], 206, &["content-range: bytes 0-4/10"], "01234"),
            row(&["range: bytes=0-4,5-9"], 200, none, all),
            row(&["range: bytes=2-4", &if_range], 206, two, "234"),
            row(&["range: bytes=2-4", &dated], 206, two, "234"),
            row(&["range: bytes=2-4", &weak], 200, none, all),
            row(&["range: bytes=2-4", &older], 200, none, all),
            row(&["range: bytes=2-4", "if-range: \"x\""], 200, none, all),
            row(&["range: bytes=99-", "if-range: \"x\""], 200, none, all),
            Row {
                method: "HEAD",
                path: "/digits.txt",
                fields: &["range: bytes=2-4"],
                status: 200,
                want: &["content-range", "content-length: 10"],
                body: Some(""),
            },
            Row {
                method: "GET",
                path: "/empty.css",
                fields: &["range: bytes=0-"],
                status: 416,
                want: &["content-range: bytes */0"],
                body: None,
            },
            Row {
                method: "GET",
                path: "/empty.css",
                fields: &["range: bytes=-1"],
                status: 200,
                want: &[],
                body: Some(""),
            },
            Row {
                method: "GET",
                path: "/lost/x",
                fields: &["range: bytes=0-1"],
                status: 404,
                want: &[],
                body: Some("<p>nothing"),
            },
        ],
    );
}

#[test]
fn several_parts_come_with_heads_of_their_own() {
    let dir = site();
    let path = dir.0.clone();
    TestClient::run(
        async move |_| Ok(app(&path)),
        async |client| {
            let large = large();
            for (asked, spans) in [
                ("bytes=0-1,500-501", vec![(0, 2), (500, 502)]),
                ("bytes=-2,0-1", vec![(2_499_998, 2_500_000), (0, 2)]),
                ("bytes=0-1199999,1300000-1300009", vec![(0, 1_200_000), (1_300_000, 1_300_010)]),
            ] {
                let answer = client.get("/large").header("range", asked).await.expect(206);
                let mime = answer.header("content-type").expect("a type");
                let boundary =
                    mime.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
                let mut want = Vec::new();
                for (from, to) in spans {
                    let head = format!(
                        "\r\n--{boundary}\r\ncontent-type: application/octet-stream\r\n\
                     content-range: bytes {from}-{}/2500000\r\n\r\n",
                        to - 1
                    );
                    want.extend_from_slice(head.as_bytes());
                    want.extend_from_slice(&large[from..to]);
                }
                want.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                assert!(answer.body() == want, "{asked}");
                assert_eq!(answer.header("content-length"), Some(&*want.len().to_string()));
            }
        },
    );
}

#[test]
fn forms_compressed_beforehand() {
    let row = |path, fields, want, body| Row {
        method: "GET",
        path,
        fields,
        status: 200,
        want,
        body: Some(body),
    };
    let js = "content-type: text/javascript; charset=utf-8";
    let (plain, vary): (&[&str], &str) =
        (&["content-encoding", "vary: accept-encoding"], "vary: accept-encoding");
    both(
        &site(),
        &[
            row("/app.js", &[], plain, "plain"),
            row(
                "/app.js",
                &["accept-encoding: gzip, br"],
                &["content-encoding: br", vary, js],
                "brotli",
            ),
            row("/app.js", &["accept-encoding: gzip"], &["content-encoding: gzip", vary, js], "gz"),
            row("/app.js", &["accept-encoding: gzip, br;q=0"], &["content-encoding: gzip"], "gz"),
            row("/app.js", &["accept-encoding: zstd"], plain, "plain"),
            row("/app.js", &["accept-encoding: identity, *;q=0"], plain, "plain"),
            row("/old.js", &["accept-encoding: br, zstd"], &["content-encoding: zstd"], "zstd"),
            row(
                "/digits.txt",
                &["accept-encoding: br"],
                &["content-encoding", "vary"],
                "0123456789",
            ),
            row("/bare/app.js", &["accept-encoding: br"], &["content-encoding", "vary"], "plain"),
            Row {
                method: "GET",
                path: "/app.js",
                fields: &["accept-encoding: br", "range: bytes=0-2"],
                status: 206,
                want: &["content-encoding: br", "content-range: bytes 0-2/6"],
                body: Some("bro"),
            },
            Row {
                method: "GET",
                path: "/app.js",
                fields: &["accept-encoding: br", "if-none-match: \"2ebc98a1.0-6-br\""],
                status: 304,
                want: &[vary],
                body: Some(""),
            },
            // Another form is another thing.
            Row {
                method: "GET",
                path: "/app.js",
                fields: &["if-none-match: \"2ebc98a1.0-6-br\""],
                status: 200,
                want: &[],
                body: Some("plain"),
            },
        ],
    );
}

#[test]
fn what_a_directory_has_is_shown_where_that_is_wanted() {
    let dir = site();
    let path = dir.0.clone();
    TestClient::run(
        async move |_| Ok(app(&path)),
        async |client| {
            let page = client.get("/list/").await.expect(200).has("cache-control", "no-cache");
            let html = String::from_utf8(page.body().to_vec()).expect("text");
            for shown in
                ["href=\"./digits.txt\"", "href=\"./a%20b%25.js\"", "href=\"./sub/\"", "2.4 MiB"]
            {
                assert!(html.contains(shown), "{shown} in {html}");
            }
            for hidden in [".env", "outside", "href=\"../\""] {
                assert!(!html.contains(hidden), "{hidden} in {html}");
            }
            let sub = client.get("/list/sub/").await.expect(200);
            let sub = sub.contains("&lt;&amp;&gt;.txt").contains("href=\"../\"");
            assert!(!String::from_utf8_lossy(sub.body()).contains(".git"));
            client.get("/list/digits.txt").await.expect(200);
        },
    );
}

#[test]
fn a_directory_that_is_not_there_fails_the_start() {
    for (dir, why) in [("/nowhere/at/all", "No such file"), ("Cargo.toml", "ot a directory")] {
        let app = App::new(()).files("/", dir);
        let error = Server::bind("127.0.0.1:0").shards(1).start(move |_| {
            let app = App::new(()).files("/", dir);
            async move { Ok(app) }
        });
        let text = error.expect_err("it cannot start").to_string();
        assert!(text.contains(why) && text.contains("tests/files.rs"), "{text}");
        drop(app);
    }
}

#[test]
fn handlers_answer_with_files() {
    let dir = site();
    let below = dir.0.to_str().expect("a path").to_owned();
    let app = async move |_| {
        let (own, shown) = (below.clone(), below.clone());
        Ok(App::new(())
            .get("/below/*name", async move |cx| cx.file_below(&own, cx.param("name")?).await)
            .get("/file", async move |cx| {
                cx.set_header("etag", "\"mine\"")
                    .attachment("d.txt")
                    .file(&format!("{shown}/digits.txt"))
                    .await
            })
            .get("/manifest", async |cx| cx.file("Cargo.toml").await)
            .get("/here/*name", async |cx| cx.file_below("", cx.param("name")?).await)
            .get("/instead", async |cx| {
                let _ = cx.file("Cargo.toml").await?;
                cx.text("text")
            }))
    };
    TestClient::run(app, async |client| {
        client.get("/below/digits.txt").await.expect(200).text("0123456789");
        for lost in
            ["/below/.env", "/below/../x", "/below/outside", "/below/", "/below/sub", "/below/no"]
        {
            client.get(lost).await.expect(404);
        }
        let file = client.get("/file").await.expect(200).has("etag", "\"mine\"").text("0123456789");
        assert_eq!(file.header("content-disposition"), Some("attachment; filename=\"d.txt\""));
        client.get("/file").header("if-none-match", "\"mine\"").await.expect(304);
        client.get("/manifest").await.expect(200).contains("[package]");
        // The working directory is no way out either, whoever has asked for what in it before.
        let link = format!("target/soloist-link-{}", std::process::id());
        symlink("/etc/hostname", &link).expect("a link");
        client.get(&format!("/here/{link}")).await.expect(404);
        client.get("/here/Cargo.toml").await.expect(200).contains("[package]");
        fs::remove_file(link).expect("the link");
        client.get("/instead").await.expect(200).text("text").has("content-length", "4");
    });
}

/// Reads an answer's head and so much of its body.
fn begin(stream: &mut TcpStream, count: usize) -> (String, Vec<u8>) {
    let mut raw = Vec::new();
    let mut bytes = [0; 16 * 1024];
    loop {
        let end = raw.windows(4).position(|it| it == b"\r\n\r\n");
        if let Some(end) = end
            && raw.len() >= end + 4 + count
        {
            let body = raw.split_off(end + 4);
            return (String::from_utf8(raw).expect("a head"), body);
        }
        let room = bytes.len().min(match end {
            Some(end) => end + 4 + count - raw.len(),
            None => 1, // what follows is another answer's
        });
        let got = match stream.read(&mut bytes[..room]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            got => got.expect("bytes"),
        };
        assert!(got > 0, "it ended early: {}", String::from_utf8_lossy(&raw));
        raw.extend_from_slice(&bytes[..got]);
    }
}

fn ask(server: &TestServer, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    stream
}

#[test]
fn a_large_file_is_whole_and_the_connection_goes_on() {
    let dir = site();
    let path = dir.0.clone();
    let server = TestServer::start(1, move |_| {
        let app = app(&path);
        async move { Ok(app) }
    });
    let large = large();
    let mut stream = ask(&server, "/large");
    for _ in 0..2 {
        let (_, body) = begin(&mut stream, large.len());
        assert!(body == large, "every byte in its place");
        write!(stream, "GET /large HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    }
    let (_, body) = begin(&mut stream, large.len());
    assert!(body == large);
    // Two at once, one behind the other.
    write!(
        stream,
        "GET /large HTTP/1.1\r\nhost: a\r\n\r\nGET /digits.txt HTTP/1.1\r\nhost: a\r\n\r\n"
    )
    .expect("sent");
    assert!(begin(&mut stream, large.len()).1 == large);
    assert_eq!(begin(&mut stream, 10).1, b"0123456789");
}

#[test]
fn a_file_that_changes_on_its_way_is_cut_off() {
    let dir = Dir::new();
    let bytes = 64 << 20; // more than sockets hold
    let path = dir.write("file", vec![b'x'; bytes]);
    let root = dir.0.clone();
    let server = TestServer::start(1, move |_| {
        let app = App::new(()).files("/", &root);
        async move { Ok(app) }
    });
    for change in ["cut", "grown"] {
        let mut stream = ask(&server, "/file");
        let (head, _) = begin(&mut stream, 100_000);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let file = fs::File::options().append(true).open(&path).expect("the file");
        match change {
            "cut" => file.set_len(1 << 20).expect("shorter"),
            _ => (&file).write_all(b"more").expect("longer"),
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest); // an end, or a reset
        assert!(rest.len() < bytes - 100_000, "{change}: {}", rest.len());
        let body = server.send("GET", "/file", "range: bytes=0-0\r\n", b"");
        assert_eq!(body.status(), 206, "the server goes on");
        dir.write("file", vec![b'x'; bytes]);
        // What is known of a file counts for a second.
        std::thread::sleep(Duration::from_millis(1_100));
    }
}

#[test]
fn a_changed_file_is_seen_after_a_second() {
    let dir = Dir::new();
    dir.write("a", "one");
    let path = dir.0.clone();
    TestClient::run(
        async move |_| Ok(App::new(()).files("/", path)),
        async |client| {
            client.get("/a").await.expect(200).text("one");
            dir.write("a", "second");
            client.advance(Duration::from_millis(1_001)).await;
            client.get("/a").await.expect(200).text("second").has("content-length", "6");
            fs::remove_file(dir.0.join("a")).expect("the file");
            client.advance(Duration::from_millis(1_001)).await;
            client.get("/a").await.expect(404);
        },
    );
}

#[test]
fn an_upload_has_its_name_only_when_it_is_whole() {
    let dir = Dir::new();
    let path = dir.0.clone();
    let app = async move |_| {
        Ok(App::new(()).put("/:name", async move |cx| {
            let mut file = cx.shard().temp_file(&path).await?;
            let bytes = file.take(cx).await?;
            match cx.query() {
                "new" => file.persist_new(path.join(cx.param::<&str>("name")?)).await?,
                "sync" => {
                    file.sync().await?;
                    file.persist(path.join(cx.param::<&str>("name")?)).await?;
                }
                "drop" => {}
                _ => file.persist(path.join(cx.param::<&str>("name")?)).await?,
            }
            cx.json(&bytes)
        }))
    };
    let names = || {
        let all = fs::read_dir(&dir.0).expect("the directory");
        let mut all: Vec<_> = all.map(|it| it.expect("one").file_name()).collect();
        all.sort();
        all
    };
    TestClient::run(app, async |client| {
        let large = large();
        client.put("/a").body(&large).pieces(40_000).await.expect(200).text("2500000");
        assert!(fs::read(dir.0.join("a")).expect("it") == large);
        client.put("/a?sync").body("short").await.expect(200).text("5");
        assert_eq!(fs::read(dir.0.join("a")).expect("it"), b"short");
        client.put("/a?new").body("x").await.expect(409);
        client.put("/b?new").body("x").await.expect(200);
        client.put("/c?drop").body("x").await.expect(200);
        client.put("/no%2fwhere").body("x").await.expect(500);
        // A body that ends early.
        let cut = b"PUT /d HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";
        let open = client.open();
        open.send(cut);
        open.finish();
        client.advance(Duration::from_secs(1)).await;
        assert_eq!(names(), ["a", "b"], "nothing half-written, nothing left");
    });
}

#[test]
fn a_form_is_held_in_memory_up_to_a_bound_and_on_disk_beyond() {
    let dir = Dir::new();
    let root = dir.0.clone();
    let app = async move |_| {
        Ok(App::new(()).post("/:name", async move |cx| {
            let options = FormOptions::new().memory_bytes_max(100_000).temp_dir(&root);
            let options = options.file_bytes_max(3_000_000);
            let form = cx.form_files_with(&options).await?;
            let mut shown: Vec<String> =
                form.fields().map(|(name, text)| format!("{name}={text}")).collect();
            let path = root.join(cx.param::<&str>("name")?);
            for file in form.into_files() {
                let place = if file.bytes().is_some() { "memory" } else { "disk" };
                let (name, own, len) = (file.name(), file.file_name(), file.len());
                shown.push(format!("{name}:{own}:{len}:{place}"));
                if cx.query() == "keep" {
                    file.persist(&path).await?;
                }
            }
            cx.text(shown.join(" "))
        }))
    };
    let part = |head: &str, bytes: &[u8]| {
        let head = format!("--x\r\ncontent-disposition: form-data; name={head}\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n"].concat()
    };
    let large = large();
    let mut hidden = large.clone();
    hidden.extend_from_slice(&large);
    TestClient::run(app, async |client| {
        let post = async |path: &str, parts: &[Vec<u8>]| {
            let call = client.post(path).header("content-type", "multipart/form-data; boundary=x");
            call.body([parts.concat(), b"--x--\r\n".to_vec()].concat()).pieces(50_000).await
        };
        let small = part("a; filename=small", b"bytes");
        let big = part("b; filename=big", &large);
        let too_big = part("b; filename=big", &hidden);
        let text = part("t", b"text");
        let long = part("t", &[b'x'; 100_001]);
        let names = |shown: &str| shown.to_owned();
        // (parts, path, status, text)
        for (parts, path, status, want) in [
            (vec![text.clone(), small.clone()], "/a", 200, names("t=text a:small:5:memory")),
            (vec![big.clone(), text.clone()], "/a", 200, names("t=text b:big:2500000:disk")),
            (vec![small.clone()], "/small?keep", 200, names("a:small:5:memory")),
            (vec![big.clone()], "/big?keep", 200, names("b:big:2500000:disk")),
            (vec![too_big], "/a", 413, names("b: more than 3000000 bytes")),
            (vec![long], "/a", 413, names("t: more than 100000 bytes")),
            (vec![big.clone(), b"--x\r\nbad\r\n".to_vec()], "/a", 400, String::new()),
            (vec![], "/a", 200, String::new()),
        ] {
            let answer = post(path, &parts).await.expect(status);
            if !want.is_empty() {
                answer.text(&want);
            }
        }
        assert_eq!(fs::read(dir.0.join("small")).expect("it"), b"bytes");
        assert!(fs::read(dir.0.join("big")).expect("it") == large);
        let left = fs::read_dir(&dir.0).expect("the directory").count();
        assert_eq!(left, 2, "nothing else is left");
    });
}

#[test]
fn a_large_upload_over_a_socket_is_whole_and_the_connection_goes_on() {
    let dir = Dir::new();
    let root = dir.0.clone();
    let server = TestServer::start(1, move |_| {
        let root = root.clone();
        async move {
            Ok(App::new(()).files("/", root.clone()).put("/slow", async move |cx| {
                let mut file = cx.shard().temp_file(&root).await?;
                while let Some(chunk) = cx.next_chunk().await? {
                    file.write(&chunk).await?;
                    // Slower than the client: what it sends piles up, and is received in bulk.
                    cx.sleep(Duration::from_millis(1)).await;
                }
                file.persist(root.join("up")).await?;
                cx.json(&cx.upload_progress().received)
            }))
        }
    });
    let large: Vec<u8> =
        (0..16u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut stream = TcpStream::connect(server.addr()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    for _ in 0..2 {
        write!(stream, "PUT /slow HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", large.len())
            .expect("sent");
        stream.write_all(&large).expect("sent");
        write!(stream, "GET /up HTTP/1.1\r\nhost: a\r\nrange: bytes=5-9\r\n\r\n").expect("sent");
        assert_eq!(begin(&mut stream, 8).1, large.len().to_string().as_bytes());
        assert_eq!(begin(&mut stream, 5).1, large[5..10]);
        assert!(fs::read(dir.0.join("up")).expect("the file") == large, "every byte in its place");
        // What is known of a file counts for a second.
        std::thread::sleep(Duration::from_millis(1_100));
    }
}
