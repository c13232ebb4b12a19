//! Forms with files: RFC 7578 and RFC 2046 section 5.1 case by case, each sent whole, byte by byte,
//! in chunks and cut at every byte, with what hostile clients send.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use soloist::middleware::body_limit;
use soloist::prelude::*;
use soloist::testing::TestClient;
use soloist::{Form, FormPart, Limits, Source};

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .post("/", parts)
        .post("/names", names)
        .post("/first", first)
        .post("/half", half)
        .post("/text", text)
        .post("/bytes", bytes)
        .post("/limit", limit)
        .post("/dropped", dropped)
        .post("/again", again)
        .group(|app| app.wrap(body_limit(58)).post("/small", parts)))
}

fn head(part: &FormPart<'_>) -> String {
    let file = part.file_name().map_or(String::new(), |name| format!(" file {name:?}"));
    let kind = part.content_type().map_or(String::new(), |kind| format!(" {kind}"));
    format!("{:?}{file}{kind}", part.name())
}

/// What reads a body reads a part.
async fn gather(mut source: impl Source) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = source.next_piece().await? {
        assert!(!chunk.is_empty());
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A part a line.
async fn parts(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = String::new();
    let mut form = cx.multipart()?;
    while let Some(part) = form.next().await? {
        out += &head(&part);
        let bytes = gather(part).await?;
        out += &format!(" {:?}\n", String::from_utf8_lossy(&bytes));
    }
    assert!(form.next().await?.is_none(), "the end is final");
    cx.text(out)
}

async fn names(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = String::new();
    let mut form = cx.multipart()?;
    while let Some(part) = form.next().await? {
        out += &format!("{}\n", head(&part));
    }
    cx.text(out)
}

/// Leaves the rest of the body to the connection.
async fn first(cx: &Ctx<()>) -> Result<Reply> {
    let mut form = cx.multipart()?;
    match form.next().await? {
        Some(part) => cx.text(head(&part)),
        None => cx.text("none"),
    }
}

/// Reads some of each part: how much that is depends on what came.
async fn half(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = String::new();
    let mut form = cx.multipart()?;
    while let Some(mut part) = form.next().await? {
        out += &format!("{}\n", head(&part));
        drop(part.next_chunk().await?);
    }
    cx.text(out)
}

async fn text(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = Vec::new();
    let mut form = cx.multipart()?;
    while let Some(mut part) = form.next().await? {
        out.push(part.text().await?);
        assert_eq!(part.bytes().await?, b"", "it is read");
    }
    cx.text(out.join("|"))
}

async fn bytes(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = Vec::new();
    let mut form = cx.multipart()?;
    while let Some(mut part) = form.next().await? {
        out.push(part.bytes().await?.len());
    }
    cx.json(&out)
}

/// Eight bytes of each part, by chunks, and what is refused then.
async fn limit(cx: &Ctx<()>) -> Result<Reply> {
    let mut out = String::new();
    let mut form = cx.multipart()?;
    while let Some(mut part) = form.next().await? {
        part.limit(8);
        let mut bytes = Vec::new();
        loop {
            match part.next_chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break out += &format!("{:?}\n", String::from_utf8_lossy(&bytes)),
                Err(error) if error.status() == 413 => {
                    assert_eq!(part.bytes().await.map_err(|it| it.status()), Err(413));
                    let text = String::from_utf8_lossy(&bytes);
                    break out += &format!("{text:?}, then {}\n", error.message());
                }
                Err(error) => return Err(error),
            }
        }
    }
    cx.text(out)
}

/// Polls it once: what it gives if it is ready.
async fn once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Drops every read that has to wait, and reads anew.
async fn dropped(cx: &Ctx<()>) -> Result<Reply> {
    async fn name(form: &mut Form<'_>) -> Result<Option<String>> {
        Ok(form.next().await?.map(|part| part.name().to_owned()))
    }
    let mut out = String::new();
    let mut form = cx.multipart()?;
    let Some(mut part) = form.next().await? else { return cx.text("none") };
    loop {
        let mut chunk = once(part.next_chunk()).await;
        if chunk.is_none() {
            chunk = Some(part.next_chunk().await);
        }
        match chunk.transpose()?.flatten() {
            Some(chunk) => out += &String::from_utf8_lossy(&chunk),
            None => break,
        }
    }
    loop {
        let next = match once(name(&mut form)).await {
            Some(next) => next?,
            None => name(&mut form).await?,
        };
        match next {
            Some(name) => out += &format!(" {name}"),
            None => return cx.text(out),
        }
    }
}

/// An error is final.
async fn again(cx: &Ctx<()>) -> Result<Reply> {
    let mut form = cx.multipart()?;
    let first = loop {
        match form.next().await {
            Ok(Some(_)) => {}
            Ok(None) => return cx.text("no error"),
            Err(error) => break error,
        }
    };
    let second = form.next().await.map(|part| part.is_some()).map_err(|it| it.to_string());
    assert_eq!(second, Err(first.to_string()));
    Err(first)
}

const X: &str = "multipart/form-data; boundary=x";

/// Asks for `path` in every way: one answer.
async fn ask(client: &TestClient, path: &str, content_type: &str, body: &[u8], want: (u16, &str)) {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\n");
    let sized = format!("{head}content-length: {}\r\n\r\n", body.len());
    let check = async |segments: &[&[u8]], how: &str| {
        let answer = client.raw(segments).await;
        let answer = String::from_utf8_lossy(&answer);
        let (head, text) = answer.split_once("\r\n\r\n").expect("an answer");
        let shown = String::from_utf8_lossy(&body[..body.len().min(400)]);
        assert_eq!((&head[9..12], text), (&*want.0.to_string(), want.1), "{how}: {shown:?}");
    };
    check(&[&[sized.as_bytes(), body].concat()], "whole").await;
    let bytes: Vec<&[u8]> = body.chunks(1 + body.len() / 500).collect();
    check(&[&[sized.as_bytes()], &bytes[..]].concat(), "byte by byte").await;
    for cut in (0..=body.len()).step_by(1 + body.len() / 200) {
        let (one, two) = body.split_at(cut);
        check(&[&[sized.as_bytes(), one].concat(), two], "cut in two").await;
    }
    for size in [1, 7, usize::MAX] {
        let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        for chunk in body.chunks(size.min(body.len().max(1))) {
            chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            chunked.extend([chunk, b"\r\n"].concat());
        }
        chunked.extend(b"0\r\n\r\n");
        check(&[&chunked], "in chunks").await;
        let pieces: Vec<&[u8]> = chunked.chunks(1 + chunked.len() / 500).collect();
        check(&pieces, "in chunks, byte by byte").await;
    }
}

/// `@` is the head of a part with the name a, but for its empty line.
fn filled(body: &str) -> String {
    body.replace('@', "Content-Disposition: form-data; name=\"a\"\r\n")
}

#[test]
fn forms() {
    let rows: &[(&str, &str, &str)] = &[
        // RFC 7578 section 4.3: files of one field are parts of one name.
        (
            "multipart/form-data; boundary=AaB03x",
            "--AaB03x\r\ncontent-disposition: form-data; name=\"_charset_\"\r\n\r\nUTF-8\r\n\
             --AaB03x\r\ncontent-disposition: form-data; name=\"field1\"\r\n\r\nJoe\r\n\
             --AaB03x\r\ncontent-disposition: form-data; name=\"pics\"; filename=\"a.txt\"\r\n\
             Content-Type: text/plain\r\n\r\none\r\n\
             --AaB03x\r\ncontent-disposition: form-data; name=\"pics\"; filename=\"b.gif\"\r\n\
             Content-Type: image/gif\r\n\r\nGIF\r\n\
             --AaB03x--\r\n",
            "\"_charset_\" \"UTF-8\"\n\"field1\" \"Joe\"\n\
             \"pics\" file \"a.txt\" text/plain \"one\"\n\"pics\" file \"b.gif\" image/gif \"GIF\"\n",
        ),
        // A browser: no file was chosen, a quote and a line break in names, UTF-8 as it is.
        (
            "multipart/form-data; boundary=----WebKitFormBoundaryabc",
            "------WebKitFormBoundaryabc\r\n\
             Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n\r\n\
             ------WebKitFormBoundaryabc\r\n\
             Content-Disposition: form-data; name=\"a%22b%0D%0Ac\"; filename=\"%22\u{e9}%41.txt\"\r\n\
             Content-Type: text/plain\r\n\r\n\r\n\r\n------WebKitFormBoundaryab\r\n\
             ------WebKitFormBoundaryabc--\r\n",
            "\"f\" file \"\" application/octet-stream \"\"\n\
             \"a\\\"b\\r\\nc\" file \"\\\"\u{e9}%41.txt\" text/plain \
             \"\\r\\n\\r\\n------WebKitFormBoundaryab\"\n",
        ),
        // A browser's form without fields.
        ("multipart/form-data; boundary=----b", "------b--\r\n", ""),
        // RFC 2046 section 5.1.1: preamble, epilogue, padding, a quoted boundary, a part with a
        // line break at its end, one without data.
        (
            "multipart/form-data; charset=utf-8; boundary=\"simple boundary\"",
            "This is the preamble. --simple boundary\r\n--simple boundary \t\r\n@\r\n1\r\n\r\n\
             --simple boundary\r\n@\r\n--simple boundary-- \r\nThis is the epilogue.\r\n\
             --simple boundary\r\n",
            "\"a\" \"1\\r\\n\"\n\"a\" \"\"\n",
        ),
        // Part of a name that is a path, as old browsers sent it, and as attackers do.
        (
            X,
            "--x\r\nContent-Disposition: form-data; name=a; filename=\"C:\\me\\a.txt\"\r\n\r\n\r\n\
             --x\r\nContent-Disposition: form-data; name=a; filename=\"../../etc/passwd\"\r\n\r\n\r\n\
             --x\r\nContent-Disposition: form-data; name=a; filename=\"a/..\"\r\n\r\n\r\n\
             --x\r\nContent-Disposition: form-data; name=a; filename=\"a\\\\b/\"\r\n\r\n\r\n\
             --x\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''b\r\n\r\n\r\n--x--",
            "\"a\" file \"a.txt\" \"\"\n\"a\" file \"passwd\" \"\"\n\"a\" file \"\" \"\"\n\
             \"a\" file \"\" \"\"\n\"a\" \"\"\n",
        ),
        // curl quotes by backslash.
        (
            X,
            "--x\r\nContent-Disposition: form-data; name=\"a\\\"\\\\;b\"\r\n\r\n1\r\n--x--\r\n",
            "\"a\\\"\\\\;b\" \"1\"\n",
        ),
        // RFC 7578 section 4.8: other fields mean nothing.
        (
            X,
            "--x\r\nX-A: b\r\n@Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n--x--",
            "\"a\" \"1\"\n",
        ),
        // A multipart/mixed of the old days is data.
        (
            X,
            "--x\r\n@Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n1\r\n--y--\r\n--x--",
            "\"a\" multipart/mixed; boundary=y \"--y\\r\\n\\r\\n1\\r\\n--y--\"\n",
        ),
        (
            X,
            "--x\r\n@\r\n\r\n--\r\n--\n--x\r--x\0\r\n--x--",
            "\"a\" \"\\r\\n--\\r\\n--\\n--x\\r--x\\0\"\n",
        ),
    ];
    TestClient::run(app, async |client| {
        for (content_type, body, want) in rows {
            ask(client, "/", content_type, filled(body).as_bytes(), (200, want)).await;
        }
        let body = [filled("--x\r\n@\r\n").as_bytes(), b"\xff\xfe\r\n--x--"].concat();
        ask(client, "/", X, &body, (200, "\"a\" \"\u{fffd}\u{fffd}\"\n")).await;
    });
}

#[test]
fn refusals() {
    let not_multipart = "content-type: not multipart/form-data";
    let plain = "content-type: the boundary is not 1 to 70 plain characters";
    let unfinished = "form: the body ends before the last boundary";
    let line = "form: something else follows a boundary than a line break";
    let field = "form: a field of a part's head is malformed";
    let good = "--x--\r\n";
    let long_name = format!("--x\r\nContent-Disposition: form-data; name={}", "n".repeat(1_025));
    let long_head = format!("--x\r\n@x: {}", "y".repeat(8_192));
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    let rows: &[(&str, &str, u16, &str)] = &[
        ("", good, 415, not_multipart),
        ("application/x-www-form-urlencoded", good, 415, not_multipart),
        ("multipart/mixed; boundary=x", good, 415, not_multipart),
        ("multipart/form-data", good, 400, "content-type: no boundary"),
        ("multipart/form-data; boundary=\"\"", good, 400, plain),
        ("multipart/form-data; boundary=\"x \"", good, 400, plain),
        (&long, good, 400, plain),
        ("multipart/form-data; boundary=x y", good, 400, "content-type: a parameter is malformed"),
        (
            "multipart/form-data; boundary=x; boundary=y",
            good,
            400,
            "content-type: more than one boundary",
        ),
        (
            "multipart/form-data; boundary=x\r\ncontent-type: multipart/form-data; boundary=y",
            good,
            400,
            "content-type: given more than once",
        ),
        (X, "", 400, unfinished),
        (X, "a=b", 400, unfinished),
        (X, "--x\r\n@\r\n1", 400, unfinished),
        (X, "--x\r\n@\r\n1\r\n--x", 400, unfinished),
        (X, "--x\r\n@\r\n1\r\n--x\r\n", 400, unfinished),
        (X, "--x\n@\n1\n--x--\n", 400, line),
        (X, "--x\r\n@\r\n1\r\n--xy--\r\n", 400, line),
        (X, "--x\r\n@\r\n1\r\n--x--y", 400, line),
        (X, "--x\r\n\r\n1\r\n--x--", 400, "form: a part has no content-disposition of form-data"),
        (
            X,
            "--x\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--x--",
            400,
            "form: a part has no content-disposition of form-data",
        ),
        (
            X,
            "--x\r\nContent-Disposition: form-data; filename=a\r\n\r\n1\r\n--x--",
            400,
            "form: a part has no name",
        ),
        (
            X,
            "--x\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--x--",
            400,
            "form: the content-disposition of a part is malformed",
        ),
        (
            X,
            "--x\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n1\r\n--x--",
            400,
            "form: a part has two names, or two file names",
        ),
        (X, "--x\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n1\r\n--x--", 400, field),
        (X, "--x\r\n@@\r\n1", 400, "form: a field of a part's head is given more than once"),
        (
            X,
            "--x\r\n@Content-Transfer-Encoding: base64\r\n\r\nMQ==\r\n--x--",
            415,
            "form: a part has a content-transfer-encoding",
        ),
        (X, &long_name, 400, unfinished),
        (X, &(long_name.clone() + "\r\n"), 413, "form: the name of a part is too long"),
        (X, &long_head, 413, "form: the head of a part is too long"),
    ];
    TestClient::run(app, async |client| {
        for (content_type, body, status, want) in rows {
            let body = filled(body);
            for path in ["/", "/again"] {
                ask(client, path, content_type, body.as_bytes(), (*status, want)).await;
            }
        }
        let latin = b"--x\r\nContent-Disposition: form-data; name=\"\xe9\"\r\n\r\n1\r\n--x--";
        ask(client, "/", X, latin, (400, "form: the head of a part is not UTF-8")).await;
        client.post("/").await.expect(415).has("accept", "multipart/form-data");

        // The connection ends in a part.
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-type: {X}\r\n");
        let body = filled("content-length: 999\r\n\r\n--x\r\n@\r\n1");
        let answer = client.raw(&[format!("{head}{body}").as_bytes()]).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 ") && answer.ends_with(b"the body ended early"));
    });
}

#[test]
fn parts_that_nobody_reads() {
    let body = filled("--x\r\n@\r\n12345\r\n--\r\n--x\r\n@\r\n\r\n--x\r\n@\r\n67\r\n--x--\r\n");
    TestClient::run(app, async |client| {
        for (path, want) in [
            ("/names", "\"a\"\n\"a\"\n\"a\"\n"),
            ("/half", "\"a\"\n\"a\"\n\"a\"\n"),
            ("/first", "\"a\""),
            ("/text", "12345\r\n--||67"),
            ("/bytes", "[9,0,2]"),
            ("/dropped", "12345\r\n-- a a"),
            ("/limit", "\"12345\\r\\n-\", then a: more than 8 bytes\n\"\"\n\"67\"\n"),
        ] {
            ask(client, path, X, body.as_bytes(), (200, want)).await;
            // The connection goes on.
            for _ in 0..2 {
                let call = client.post(path).header("content-type", X).body(&body);
                call.pieces(9).await.expect(200).text(want);
            }
        }
        let broken = filled("--x\r\n@\r\n12\r\n--xy\r\n--x--");
        for path in ["/names", "/half", "/text", "/bytes", "/dropped", "/limit"] {
            let want = "form: something else follows a boundary than a line break";
            ask(client, path, X, broken.as_bytes(), (400, want)).await;
        }
    });
}

#[test]
fn bounds() {
    let form = |data: &[u8]| [filled("--x\r\n@\r\n").as_bytes(), data, b"\r\n--x--\r\n"].concat();
    let mebibyte = vec![b'y'; 1024 * 1024];
    let more = [&mebibyte[..], b"y"].concat();
    let part = filled("--x\r\n@\r\n\r\n");
    TestClient::run(app, async |client| {
        let post = |path: &str, body: &[u8]| {
            client.post(path).header("content-type", X).body(body).pieces(30_000)
        };
        for path in ["/bytes", "/text"] {
            post(path, &form(&mebibyte)).await.expect(200);
            post(path, &form(&more)).await.expect(413).text("a: more than 1048576 bytes");
        }
        post("/names", &form(&more)).await.expect(200).text("\"a\"\n");
        ask(client, "/text", X, &form(b"\xe9"), (400, "a: not UTF-8")).await;

        let thousand = part.repeat(1_000) + "--x--";
        post("/names", thousand.as_bytes()).await.expect(200).text(&"\"a\"\n".repeat(1_000));
        let many = part.repeat(1_001) + "--x--";
        post("/names", many.as_bytes()).await.expect(413).text("form: too many parts");

        // The bound of a body counts all of it.
        let fits = form(b"");
        assert_eq!(fits.len(), 58, "as much as the route takes");
        post("/small", &fits).await.expect(200);
        ask(client, "/small", X, &form(b"1"), (413, "the body is too large")).await;
    });
    let limits = Limits { body_bytes_max: 10, stream_bytes_max: 58, ..Limits::default() };
    TestClient::run_with(limits, app, async |client| {
        ask(client, "/bytes", X, &form(b""), (200, "[0]")).await;
        ask(client, "/bytes", X, &form(b"1"), (413, "the body is too large")).await;
        let epilogue = [&form(b"")[..], b"1"].concat();
        ask(client, "/bytes", X, &epilogue, (413, "the body is too large")).await;
    });
}

#[test]
fn large_files_come_back() {
    // Beginnings of the boundary lie across pieces of every size.
    let data = b"\r\n--boun\r\n--bound\r\r\n--boundar-0123456789".repeat(8_000);
    let head = "--boundary\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\n";
    let body = [head.as_bytes(), &data, b"\r\n--boundary--\r\n"].concat();
    let data = std::rc::Rc::new(data);
    let app = async move |_: Shard| {
        let check = async move |cx: &Ctx<()>| {
            let mut form = cx.multipart()?;
            let mut at = 0;
            while let Some(mut part) = form.next().await? {
                while let Some(chunk) = part.next_chunk().await? {
                    assert!(chunk[..] == data[at..at + chunk.len()], "at {at}");
                    at += chunk.len();
                }
            }
            cx.json(&(at == data.len()))
        };
        Ok(App::new(()).post("/", check))
    };
    TestClient::run(app, async |client| {
        for size in [997, 4_096, 32 * 1024, 100_001] {
            let call =
                client.post("/").header("content-type", "multipart/form-data; boundary=boundary");
            call.body(&body).pieces(size).await.expect(200).text("true");
        }
    });
}
