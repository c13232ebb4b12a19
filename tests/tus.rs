//! Resumable uploads by tus 1.0.0: what each verb answers and refuses; connections that break at
//! every byte, and what their clients find when they come back; two at once; expiry.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::{Answer, Call, TestClient, TestServer};
use soloist::{Tus, TusUpload};

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("soloist-tus-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a directory");
        Dir(dir)
    }

    fn names(&self) -> Vec<String> {
        let all = fs::read_dir(&self.0).expect("the directory");
        let mut all: Vec<_> =
            all.map(|it| it.expect("one").file_name().into_string().expect("ASCII")).collect();
        all.sort();
        all
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const STREAM: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// What `on_done` was given.
type Seen = Rc<RefCell<Vec<TusUpload>>>;

/// At `/up`, for at most 3,000,000 bytes. An upload whose metadata has a `no` is refused at its
/// end the first time, one with a `move` is moved to the name that it states.
fn app(dir: &Dir, seen: Seen) -> App<Seen> {
    async fn done(cx: &Ctx<Seen>, upload: TusUpload) -> Result<()> {
        let mut seen = cx.state().borrow_mut();
        let again = seen.iter().any(|it| it.id == upload.id);
        seen.push(upload.clone());
        for (key, value) in &upload.metadata {
            match &**key {
                "no" if !again => return Err(Error::new(422, "not this one")),
                "move" => fs::rename(&upload.path, upload.path.with_file_name(value))?,
                _ => {}
            }
        }
        Ok(())
    }
    App::new(seen).tus("/up", Tus::new(&dir.0).bytes_max(3_000_000).on_done(done))
}

fn run(test: impl AsyncFn(&TestClient, &Dir, &Seen)) {
    let (dir, seen) = (Dir::new(), Seen::default());
    let app = app(&dir, seen.clone());
    TestClient::run(async move |_| Ok(app), async |client| test(client, &dir, &seen).await);
}

fn call<'a>(client: &'a TestClient, method: &str, path: &str, fields: &[(&str, &str)]) -> Call<'a> {
    let call = client.call(method, path).header(TUS.0, TUS.1);
    fields.iter().fold(call, |call, (name, value)| call.header(name, value))
}

/// Creates an upload; its path.
async fn create(client: &TestClient, length: usize, metadata: &str) -> String {
    let length = length.to_string();
    let fields = [("upload-length", &*length), ("upload-metadata", metadata)];
    let fields = if metadata.is_empty() { &fields[..1] } else { &fields };
    let made = call(client, "POST", "/up", fields).await.expect(201).has(TUS.0, TUS.1);
    made.header("location").expect("its place").to_owned()
}

fn patch<'a>(client: &'a TestClient, path: &str, offset: usize, body: &[u8]) -> Call<'a> {
    call(client, "PATCH", path, &[STREAM, ("upload-offset", &offset.to_string())]).body(body)
}

async fn offset(client: &TestClient, path: &str) -> usize {
    let head = call(client, "HEAD", path, &[]).await.expect(200);
    let head = head.has("cache-control", "no-store").has(TUS.0, TUS.1);
    head.header("upload-offset").and_then(|it| it.parse().ok()).expect("an offset")
}

fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Method, path, fields, body; status, how the answer begins.
type Refused<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);

#[test]
fn what_is_refused() {
    let long = "1".repeat(40);
    let rows: &[Refused] = &[
        // Not our version.
        ("POST", "/up", &["upload-length: 5"], "", 412, "tus-resumable: only 1.0.0 is spoken here"),
        ("HEAD", "ID", &["tus-resumable: 0.2.2"], "", 412, ""),
        ("PATCH", "ID", &["tus-resumable: 1.0.1"], "llo", 412, "tus-resumable: only 1.0.0"),
        ("DELETE", "ID", &["tus-resumable: 1"], "", 412, "tus-resumable: only 1.0.0"),
        ("HEAD", "ID", &["T", "T"], "", 400, ""),
        // Creation.
        ("POST", "/up", &["T"], "", 400, "upload-length: missing"),
        ("POST", "/up", &["T", "upload-length: "], "", 400, "upload-length: not a number of bytes"),
        ("POST", "/up", &["T", "upload-length: -1"], "", 400, "upload-length: not a number"),
        ("POST", "/up", &["T", "upload-length: +1"], "", 400, "upload-length: not a number"),
        ("POST", "/up", &["T", "upload-length: 0x5"], "", 400, "upload-length: not a number"),
        ("POST", "/up", &["T", "LONG"], "", 400, "upload-length: not a number of bytes"),
        (
            "POST",
            "/up",
            &["T", "upload-length: 3000001"],
            "",
            413,
            "upload-length: at most 3000000 bytes are taken",
        ),
        (
            "POST",
            "/up",
            &["T", "upload-length: 5", "upload-length: 5"],
            "",
            400,
            "upload-length: more than one",
        ),
        ("POST", "/up", &["T", "upload-defer-length: 1"], "", 400, "upload-defer-length: the len"),
        (
            "POST",
            "/up",
            &["T", "upload-length: 5", "upload-metadata: name %"],
            "",
            400,
            "upload-metadata: name: not base64",
        ),
        ("POST", "/up", &["T", "upload-length: 5"], "hello", 415, "content-type: must be"),
        ("POST", "/up", &["T", "S", "upload-length: 4"], "hello", 413, "the body is too large"),
        // Growing.
        ("PATCH", "ID", &["T", "upload-offset: 2"], "llo", 415, "content-type: must be"),
        (
            "PATCH",
            "ID",
            &["T", "content-type: text/plain", "upload-offset: 2"],
            "llo",
            415,
            "content-type: must be application/offset+octet-stream",
        ),
        ("PATCH", "ID", &["T", "S"], "llo", 400, "upload-offset: missing"),
        ("PATCH", "ID", &["T", "S", "upload-offset: two"], "llo", 400, "upload-offset: not a num"),
        ("PATCH", "ID", &["T", "S", "upload-offset: 0"], "llo", 409, "upload-offset: 2 bytes are"),
        ("PATCH", "ID", &["T", "S", "upload-offset: 3"], "lo", 409, "upload-offset: 2 bytes are"),
        ("PATCH", "ID", &["T", "S", "upload-offset: 2"], "llo!", 413, "the body is too large"),
        // What is not there, and what is no id.
        ("PATCH", "/up/NONE", &["T", "S", "upload-offset: 0"], "x", 404, "there is no such upload"),
        ("HEAD", "/up/NONE", &["T"], "", 404, ""),
        ("DELETE", "/up/NONE", &["T"], "", 404, "there is no such upload"),
        ("HEAD", "ID.info", &["T"], "", 404, ""),
        ("DELETE", "ID.info", &["T"], "", 404, "there is no such upload"),
        ("DELETE", "/up/%2e%2e", &["T"], "", 404, "there is no such upload"),
        ("DELETE", "/up/%ff", &["T"], "", 404, "there is no such upload"),
        ("DELETE", "/up/..%2fDIR%2fBARE", &["T"], "", 404, "there is no such upload"),
        ("GET", "ID", &["T"], "", 405, "method not allowed"),
        ("PUT", "/up", &["T"], "", 405, "method not allowed"),
    ];
    run(async |client, dir, seen| {
        let path = create(client, 5, "").await;
        patch(client, &path, 0, b"he").await.expect(204);
        let (bare, before) = (&path["/up/".len()..], dir.names());
        let folder = dir.0.file_name().and_then(|it| it.to_str()).expect("a name");
        for (method, target, fields, body, status, text) in rows {
            let target = target.replace("ID", &path).replace("NONE", &"0".repeat(32));
            let target = target.replace("BARE", bare).replace("DIR", folder);
            for piece in [usize::MAX, 1] {
                let mut call = client.call(method, &target).body(body);
                for line in *fields {
                    let (name, value) = match *line {
                        "T" => TUS,
                        "S" => STREAM,
                        "LONG" => ("upload-length", &*long),
                        line => line.split_once(": ").expect("name: value"),
                    };
                    call = call.header(name, value);
                }
                let answer = if piece == 1 { call.pieces(1).await } else { call.await };
                let said = str::from_utf8(answer.body()).expect("text");
                let row = format!("{method} {target} {fields:?}");
                assert_eq!(answer.status(), *status, "{row}: {said}");
                assert!(said.starts_with(text), "{row}: {said:?}");
                if *status != 405 {
                    assert_eq!(answer.header(TUS.0), Some(TUS.1), "{row}");
                }
                let version = answer.header("tus-version");
                assert_eq!(version.is_some(), *status == 412, "{row}");
            }
            assert_eq!(offset(client, &path).await, 2, "{method} {target}: nothing has changed");
        }
        assert_eq!(dir.names(), before, "nothing is made, nothing is lost");
        patch(client, &path, 2, b"llo").await.expect(204).has("upload-offset", "5");
        assert_eq!(fs::read(&seen.borrow()[0].path).expect("it"), b"hello");
    });
}

#[test]
fn what_each_verb_tells() {
    run(async |client, dir, seen| {
        for path in ["/up", "/up/anything"] {
            let told = client.call("OPTIONS", path).await.expect(204).has("tus-version", "1.0.0");
            told.has(TUS.0, TUS.1)
                .has("tus-extension", "creation,creation-with-upload,expiration,termination")
                .has("tus-max-size", "3000000");
        }
        let metadata = "filename d29ybGQ=, empty";
        let path = create(client, 5, metadata).await;
        let later = "Fri, 02 Jan 2026 00:00:00 GMT"; // a day after the clock's beginning
        let head = call(client, "HEAD", &path, &[]).await.expect(200);
        let head = head.has("upload-offset", "0").has("upload-length", "5");
        head.has("upload-metadata", metadata).has("upload-expires", later);
        let grown = patch(client, &path, 0, b"he").await.expect(204);
        grown.has("upload-offset", "2").has("upload-expires", later).has(TUS.0, TUS.1);
        patch(client, &path, 2, b"").await.expect(204).has("upload-offset", "2");
        assert!(seen.borrow().is_empty());
        let whole = patch(client, &path, 2, b"llo").await.expect(204).has("upload-offset", "5");
        assert_eq!(whole.header("upload-expires"), None, "it stays");
        let id = path.strip_prefix("/up/").expect("below the prefix").to_owned();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let want = TusUpload {
            path: dir.0.join(&id),
            id,
            length: 5,
            metadata: vec![pair("filename", "world"), pair("empty", "")],
        };
        assert_eq!(*seen.borrow(), [want]);
        // Asked again, it is not done again.
        assert_eq!(offset(client, &path).await, 5);
        patch(client, &path, 5, b"").await.expect(204).has("upload-offset", "5");
        patch(client, &path, 5, b"x").await.expect(413);
        assert_eq!(seen.borrow().len(), 1);
        call(client, "DELETE", &path, &[]).await.expect(204).has(TUS.0, TUS.1);
        call(client, "HEAD", &path, &[]).await.expect(404);
        assert_eq!(dir.names(), [""; 0]);
    });
}

#[test]
fn created_with_its_first_bytes() {
    run(async |client, dir, seen| {
        for (length, body, piece, told) in
            [("5", "he", 9, "2"), ("5", "hello", 2, "5"), ("0", "", 9, "0")]
        {
            let fields = [STREAM, ("upload-length", length)];
            let made = call(client, "POST", "/up", &fields).body(body).pieces(piece).await;
            let made = made.expect(201).has("upload-offset", told);
            let path = made.header("location").expect("its place");
            let id = path.strip_prefix("/up/").expect("below the prefix");
            assert_eq!(fs::read(dir.0.join(id)).expect("it"), body.as_bytes());
            assert_eq!(offset(client, path).await.to_string(), told);
        }
        assert_eq!(seen.borrow().len(), 2);
        // One whose client never learns its name does not stay.
        let before = dir.names();
        let fields = [STREAM, ("upload-length", "2"), ("upload-metadata", "no")];
        call(client, "POST", "/up", &fields).body("hi").await.expect(422).text("not this one");
        let head = "POST /up HTTP/1.1\r\nhost: a\r\ntus-resumable: 1.0.0\r\nupload-length: 2\r\n\
                    content-type: application/offset+octet-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n3\r\nhey\r\n0\r\n\r\n";
        let answer = client.raw(&[head.as_bytes()]).await;
        assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(dir.names(), before);
    });
}

/// The head of a PATCH from `offset` on.
fn head(path: &str, offset: usize, framing: &str) -> String {
    let tus = "tus-resumable: 1.0.0\r\ncontent-type: application/offset+octet-stream";
    format!(
        "PATCH {path} HTTP/1.1\r\nhost: a\r\n{tus}\r\nupload-offset: {offset}\r\n{framing}\r\n\r\n"
    )
}

#[test]
fn wherever_a_connection_breaks_what_has_arrived_is_there() {
    let body = b"hello world";
    run(async |client, dir, seen| {
        for how in ["an end", "a reset", "a stall"] {
            for cut in 0..=body.len() {
                let path = create(client, body.len(), "").await;
                let open = client.open();
                open.send(head(&path, 0, "content-length: 11").as_bytes());
                client.advance(Duration::from_millis(1)).await; // it is held
                let (first, second) = body[..cut].split_at(cut / 2);
                open.send(first);
                open.send(second);
                match how {
                    "an end" => open.finish(),
                    "a reset" => open.reset(),
                    _ => client.advance(Duration::from_secs(31)).await,
                }
                client.advance(Duration::from_millis(1)).await;
                let before = seen.borrow().len();
                assert_eq!(offset(client, &path).await, cut, "{how} at {cut}");
                patch(client, &path, cut, &body[cut..]).await.expect(204);
                let upload = seen.borrow().last().cloned().expect("done");
                assert!(path.ends_with(&upload.id), "{how} at {cut}");
                assert!(seen.borrow().len() - before <= 1, "{how} at {cut}: done once");
                assert_eq!(fs::read(&upload.path).expect("it"), body, "{how} at {cut}");
            }
        }
        assert_eq!(seen.borrow().len(), 3 * (body.len() + 1));
        assert_eq!(dir.names().len(), 2 * seen.borrow().len());
    });
}

#[test]
fn more_than_was_stated_is_refused_whole_however_it_is_cut() {
    run(async |client, _, seen| {
        let path = create(client, 5, "").await;
        patch(client, &path, 0, b"h").await.expect(204);
        let chunked = "2\r\nel\r\n4\r\nlo!!\r\n0\r\n\r\n";
        let raw = head(&path, 1, "transfer-encoding: chunked") + chunked;
        for cut in raw.len() - chunked.len()..raw.len() {
            let answer = client.raw(&[&raw.as_bytes()[..cut], &raw.as_bytes()[cut..]]).await;
            assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
            assert_eq!(offset(client, &path).await, 1, "cut at {cut}");
        }
        let just = "2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n";
        let raw = head(&path, 1, "transfer-encoding: chunked") + just;
        let pieces: Vec<&[u8]> = raw.as_bytes().chunks(1).collect();
        let answer = client.raw(&pieces).await;
        assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(fs::read(&seen.borrow()[0].path).expect("it"), b"hello");
    });
}

#[test]
fn two_do_not_change_one_upload() {
    run(async |client, _, seen| {
        let path = create(client, 5, "").await;
        let open = client.open();
        open.send((head(&path, 0, "content-length: 5") + "he").as_bytes());
        client.advance(Duration::from_millis(1)).await;
        patch(client, &path, 0, b"hello").await.expect(423).text("this upload is in use");
        call(client, "DELETE", &path, &[]).await.expect(423);
        assert_eq!(offset(client, &path).await, 0, "what is in the file");
        open.send(b"llo");
        client.advance(Duration::from_millis(1)).await;
        let answer = open.receive();
        assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer));
        patch(client, &path, 0, b"hello").await.expect(409);
        assert_eq!(fs::read(&seen.borrow()[0].path).expect("it"), b"hello");
    });
}

#[test]
fn what_the_application_refuses_or_moves() {
    run(async |client, dir, seen| {
        let path = create(client, 2, "no").await;
        let refused = patch(client, &path, 0, b"hi").await.expect(422).has(TUS.0, TUS.1);
        refused.text("not this one");
        // It is whole: the application is asked again, and once it has said yes no more.
        for _ in 0..2 {
            assert_eq!(offset(client, &path).await, 2);
            assert_eq!(seen.borrow().len(), 2);
        }
        let path = create(client, 2, "move bW92ZWQ=").await; // "moved"
        patch(client, &path, 0, b"hi").await.expect(204);
        assert_eq!(fs::read(dir.0.join("moved")).expect("it"), b"hi");
        assert_eq!(offset(client, &path).await, 2);
        assert_eq!(seen.borrow().len(), 3);
        call(client, "DELETE", &path, &[]).await.expect(204);
        call(client, "HEAD", &path, &[]).await.expect(404);
        assert!(dir.0.join("moved").exists());
    });
}

#[test]
fn what_is_not_finished_expires() {
    run(async |client, dir, _| {
        let hour = Duration::from_secs(3_600);
        let (old, whole) = (create(client, 5, "").await, create(client, 2, "").await);
        patch(client, &old, 0, b"he").await.expect(204);
        patch(client, &whole, 0, b"hi").await.expect(204);
        client.advance(23 * hour).await;
        let young = create(client, 5, "").await;
        assert_eq!(offset(client, &old).await, 2);
        client.advance(hour).await;
        for method in ["HEAD", "PATCH"] {
            let fields = [STREAM, ("upload-offset", "2")];
            call(client, method, &old, &fields).await.expect(410).has(TUS.0, TUS.1);
        }
        create(client, 5, "").await; // now it is looked for what has expired
        client.advance(Duration::from_millis(1)).await;
        call(client, "HEAD", &old, &[]).await.expect(404);
        assert_eq!((offset(client, &young).await, offset(client, &whole).await), (0, 2));
        assert_eq!(dir.names().len(), 6, "three uploads");
    });
}

/// A request over a connection of its own, asked again as long as the upload is in use.
fn send(server: &TestServer, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
    let fields = format!("tus-resumable: 1.0.0\r\n{fields}");
    for _ in 0..200 {
        let answer = server.send(method, path, &fields, body);
        if answer.status() != 423 {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it stays in use");
}

#[test]
fn over_sockets_and_shards_a_broken_upload_goes_on() {
    let dir = Dir::new();
    let path = dir.0.clone();
    let server = TestServer::start(2, move |_| {
        let done = async |_: &Ctx<()>, upload: TusUpload| {
            let to = upload.path.with_file_name("whole");
            assert!(!to.exists(), "done once");
            fs::rename(upload.path, to)?;
            Ok(())
        };
        let app = App::new(()).tus("/", Tus::new(&path).on_done(done));
        async move { Ok(app) }
    });
    let all = bytes(2_000_000);
    let stream = "content-type: application/offset+octet-stream\r\n";
    let made = send(&server, "POST", "/", "upload-length: 2000000\r\n", b"").expect(201);
    let place = made.header("location").expect("its place").to_owned();
    let fields = format!("{stream}upload-offset: 0\r\n");
    send(&server, "PATCH", &place, &fields, &all[..700_000]).expect(204);
    // The second breaks off.
    let mut socket = TcpStream::connect(server.addr()).expect("a connection");
    let begin = head(&place, 700_000, "content-length: 1300000");
    socket.write_all(begin.as_bytes()).expect("sent");
    socket.write_all(&all[700_000..1_234_567]).expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    let answers = (0..4).map(|_| {
        let fields = format!("tus-resumable: 1.0.0\r\n{stream}upload-offset: 700000\r\n");
        server.send("PATCH", &place, &fields, b"x").status()
    });
    assert_eq!(answers.collect::<Vec<_>>(), [423; 4], "on whatever shard");
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a reset");
    drop(socket);
    send(&server, "PATCH", &place, &format!("{stream}upload-offset: 1\r\n"), b"").expect(409);
    let told = send(&server, "HEAD", &place, "", b"").expect(200);
    let at: usize = told.header("upload-offset").and_then(|it| it.parse().ok()).expect("offset");
    assert_eq!(at, 1_234_567, "all that had arrived");
    let fields = format!("{stream}upload-offset: {at}\r\n");
    send(&server, "PATCH", &place, &fields, &all[at..]).expect(204).has("upload-offset", "2000000");
    assert!(fs::read(dir.0.join("whole")).expect("it") == all, "every byte in its place");
}
