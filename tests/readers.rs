//! Readers of lines, JSON values and records, over bodies that are cut anywhere.

use std::fmt::Write;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use soloist::prelude::*;
use soloist::testing::TestClient;

/// All that a reader gives, in order, as text: values, `!` and a mistake behind which it went on,
/// `!!` and one that came again.
async fn outcomes(
    cx: &Ctx<()>,
    mut next: impl AsyncFnMut() -> Result<Option<String>>,
) -> Result<Reply> {
    let impatient = cx.header("x-impatient").is_some();
    let mut next = async || {
        // Asks and goes away again, as one who waits for something else too.
        loop {
            if !impatient {
                return next().await;
            }
            let mut asked = pin!(next());
            match poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => {}
            }
            cx.sleep(Duration::from_millis(1)).await;
        }
    };
    let mut text = String::new();
    let mut last = next().await;
    loop {
        match last {
            Ok(None) => break,
            Ok(Some(value)) => {
                text += &value;
                last = next().await;
            }
            Err(error) => {
                last = next().await;
                let said = error.to_string();
                if matches!(&last, Err(again) if again.to_string() == said) {
                    write!(text, "!!{said}")?;
                    return cx.text(text);
                }
                write!(text, "!{said}")?;
            }
        }
        text += "|";
    }
    // The end is the end.
    assert!(matches!(next().await, Ok(None)));
    cx.text(text + "end")
}

async fn lines(cx: &Ctx<()>) -> Result<Reply> {
    let mut lines = cx.lines().line_bytes_max(4);
    outcomes(cx, async || Ok(lines.next().await?.map(|line| format!("{line:?}")))).await
}

async fn items<T>(cx: &Ctx<()>) -> Result<Reply>
where
    T: serde::de::DeserializeOwned + Serialize,
{
    let max = cx.query_param("max").and_then(|max| max.parse().ok());
    let mut items = cx.json_items::<T>();
    if let Some(max) = max {
        items = items.item_bytes_max(max);
    }
    outcomes(cx, async || match items.next().await? {
        Some(item) => Ok(Some(serde_json::to_string(&item)?)),
        None => Ok(None),
    })
    .await
}

#[derive(serde::Deserialize, Serialize)]
struct User {
    name: String,
    ages: Vec<u8>,
}

async fn app(_: Shard) -> Result<App<()>> {
    let app = App::new(())
        .post("/lines", lines)
        .post("/values", items::<Value>)
        .post("/users", items::<User>)
        .post("/strings", items::<String>);
    #[cfg(feature = "csv")]
    let app = records::routes(app);
    Ok(app)
}

/// One answer to a body, however it comes: whole, in pieces, in chunks, split at every position.
async fn ask(client: &TestClient, path: &str, body: &[u8]) -> String {
    let call = |body: &[u8]| client.post(path).body(body);
    let whole = String::from_utf8(call(body).await.expect(200).body().to_vec()).expect("text");
    let shown = &body[..body.len().min(60)];
    let shown = shown.escape_ascii();
    for piece_bytes in [1, 2, 3, 7, 4_096] {
        if body.len() / piece_bytes <= 300 {
            let answer = call(body).pieces(piece_bytes).await;
            assert_eq!(str::from_utf8(answer.body()), Ok(&*whole), "{piece_bytes}: {shown}");
            let answer = call(body).header("x-impatient", "1").pieces(piece_bytes).await;
            assert_eq!(str::from_utf8(answer.body()), Ok(&*whole), "{piece_bytes}: {shown}");
        }
    }
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    let splits = if length <= 300 { 1..length } else { length / 2..length / 2 + 1 };
    for at in splits {
        let first = [head.as_bytes(), &body[..at]].concat();
        let raw = client.raw(&[&first, &body[at..]]).await;
        assert!(raw.ends_with(format!("\r\n\r\n{whole}").as_bytes()), "{at}: {shown}");
    }
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for chunk_bytes in [1, 5, 1_000] {
        if length / chunk_bytes > 300 {
            continue;
        }
        let mut bytes = head.clone().into_bytes();
        for chunk in body.chunks(chunk_bytes) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        for cut in [bytes.len(), bytes.len() / 2, bytes.len() - 3] {
            let raw = client.raw(&[&bytes[..cut], &bytes[cut..]]).await;
            let same = raw.ends_with(format!("\r\n\r\n{whole}").as_bytes());
            assert!(same, "chunks of {chunk_bytes}: {shown}");
        }
    }
    whole
}

#[track_caller]
fn all(rows: &[(&str, &[u8], &str)]) {
    TestClient::run(app, async |client| {
        for (path, body, want) in rows {
            let got = ask(client, path, body).await;
            assert_eq!(got, *want, "{path} {}", body[..body.len().min(60)].escape_ascii());
        }
    });
}

#[test]
fn lines_end_with_lf_or_crlf() {
    let long = [b"a\n", &b"x".repeat(100_000)[..]].concat();
    let (p, too_long) = ("/lines", "!!413 line 1: longer than 4 bytes");
    all(&[
        (p, b"", "end"),
        (p, b"a", "\"a\"|end"),
        (p, b"a\n", "\"a\"|end"),
        (p, b"\n", "\"\"|end"),
        (p, b"\r\n", "\"\"|end"),
        (p, b"\n\n\r\na\n", "\"\"|\"\"|\"\"|\"a\"|end"),
        (p, b"a\r\nb\nc", "\"a\"|\"b\"|\"c\"|end"),
        (p, b"a\rb\r\r\nc\r", "\"a\\rb\\r\"|\"c\\r\"|end"),
        (p, b"\xef\xbb\xbfa", "\"\\u{feff}a\"|end"),
        (p, b"abcd\nabcd\r\nabcd", "\"abcd\"|\"abcd\"|\"abcd\"|end"),
        (p, b"abcde", too_long),
        (p, b"abcde\nb\n", too_long),
        (p, b"abcde\r\n", too_long),
        (p, b"abcd\r", too_long),
        (p, b"abcd\r\r\n", too_long),
        (p, b"abcd\re\n", too_long),
        (p, b"a\nb\nabcd\xff\nc", "\"a\"|\"b\"|!!413 line 3: longer than 4 bytes"),
        (p, &long, "\"a\"|!!413 line 2: longer than 4 bytes"),
        (p, "\u{e9}\u{e9}\n\u{1f3bb}\n".as_bytes(), "\"\u{e9}\u{e9}\"|\"\u{1f3bb}\"|end"),
        (p, b"\xc3\n\xa9\nb", "!400 line 1: not UTF-8|!400 line 2: not UTF-8|\"b\"|end"),
        (p, b"b\n\xff", "\"b\"|!400 line 2: not UTF-8|end"),
        (p, b"\0\n", "\"\\0\"|end"),
    ]);
}

#[test]
fn items_of_arrays_and_of_sequences() {
    let p = "/values";
    let deep = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
    // In an array of its own; serde reads 127 deep.
    let (fits, deepest) = (format!("[{}]", deep(127)), format!("{}|end", deep(127)));
    let (much, endless) = (format!("[{}]", deep(128)), "[".repeat(5_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(129), "}".repeat(129));
    all(&[
        (p, b"", "end"),
        (p, b" \t\r\n ", "end"),
        (p, b"[]", "end"),
        (p, b" [ ] \n", "end"),
        (p, b"[1]", "1|end"),
        (p, b"[1,2 , 3\n]", "1|2|3|end"),
        (p, b"[-1.5e+3,true,false,null]", "-1500.0|true|false|null|end"),
        (p, b"[[],{},\"\",[[]],{\"a\":{}}]", "[]|{}|\"\"|[[]]|{\"a\":{}}|end"),
        (p, br#"["]","\"]","\\","\\\"",{"}":"{"}]"#, r#""]"|"\"]"|"\\"|"\\\""|{"}":"{"}|end"#),
        (p, b"\xef\xbb\xbf[1]", "1|end"),
        (p, b"\xef\xbb\xbf", "end"),
        (p, b"\xef\xbb\xbf1\n2", "1|2|end"),
        (p, b"\xef\xbb", "!!400 item 1: the byte 0xef is no value"),
        (p, b"\xef\xbb\xbf\xef\xbb\xbf[]", "!!400 item 1: the byte 0xef is no value"),
        (p, b"[\xef\xbb\xbf1]", "!!400 item 1: the byte 0xef is no value"),
        (p, b"1", "1|end"),
        (p, b"1\n", "1|end"),
        (p, b"{\"a\":1}\n{\"a\":2}\r\n\n{\"a\":3}", "{\"a\":1}|{\"a\":2}|{\"a\":3}|end"),
        (p, b"{}{}\"a\"\"b\"1[2]true\"c\"null", "{}|{}|\"a\"|\"b\"|1|[2]|true|\"c\"|null|end"),
        (p, b"1 2\t3", "1|2|3|end"),
        (p, b"[1,]", "1|!!400 item 2: `]` is no value"),
        (p, b"[,1]", "!!400 item 1: `,` is no value"),
        (p, b"[1,,2]", "1|!!400 item 2: `,` is no value"),
        (p, b"[1 2]", "1|!!400 item 1: `2` behind it, and no comma"),
        (p, b"[1}", "1|!!400 item 1: `}` behind it, and no comma"),
        (p, b"[", "!!400 the array has no end"),
        (p, b"[1", "!!400 item 1: it has no end"),
        (p, b"[1 ", "1|!!400 the array has no end"),
        (p, b"[1,", "1|!!400 the array has no end"),
        (p, b"[\"a", "!!400 item 1: it has no end"),
        (p, b"[\"a\\\"", "!!400 item 1: it has no end"),
        (p, b"{\"a\":1} {", "{\"a\":1}|!!400 item 2: it has no end"),
        (p, b"[1] 2", "1|!!400 `2` behind the array"),
        (p, b"[1]]", "1|!!400 `]` behind the array"),
        (p, b"[1][2]", "1|!!400 `[` behind the array"),
        (p, b"[]\0", "!!400 the byte 0x00 behind the array"),
        (p, b"1,2", "1|!!400 item 2: `,` is no value"),
        (p, b"]", "!!400 item 1: `]` is no value"),
        (p, b"[nul]", "!!400 item 1: EOF while parsing a value at line 1 column 3"),
        (p, b"[01]", "!!400 item 1: invalid number at line 1 column 2"),
        (p, b"truefalse", "!!400 item 1: trailing characters at line 1 column 5"),
        (p, b"[{]}]", "!!400 item 1: key must be a string at line 1 column 2"),
        (
            p,
            b"[\"a\nb\"]",
            "!!400 item 1: control character (\\u0000-\\u001F) found while parsing \
            a string at line 2 column 0",
        ),
        (p, b"[\"\xff\"]", "!!400 item 1: invalid unicode code point at line 1 column 2"),
        (p, fits.as_bytes(), &deepest),
        (p, much.as_bytes(), "!!400 item 1: recursion limit exceeded at line 1 column 128"),
        (p, endless.as_bytes(), "!!400 item 1: nested deeper than 128"),
        (p, objects.as_bytes(), "!!400 item 1: nested deeper than 128"),
    ]);
}

#[test]
fn mistakes_in_items_say_where() {
    let p = "/users";
    let good = r#"{"name":"a","ages":[1]}"#;
    all(&[
        (p, format!("[{good},{good}]").as_bytes(), &format!("{good}|{good}|end")),
        (
            p,
            br#"[{"name":"a","ages":[1,300]},{"name":"b","ages":[]}]"#,
            "!400 item 1: ages[1]: invalid value: integer `300`, expected u8 at line 1 column \
             25|{\"name\":\"b\",\"ages\":[]}|end",
        ),
        (
            p,
            b"{\"name\":\"b\"}\n7\n",
            "!400 item 1: missing field `ages` at line 1 column 12|!400 item 2: invalid type: \
             integer `7`, expected struct User at line 1 column 1|end",
        ),
        // No JSON behind what does not suit: nothing goes on.
        (
            p,
            br#"[{"name":1,"ages":oops},{}]"#,
            "!!400 item 1: name: invalid type: integer `1`, expected a string at line 1 column 9",
        ),
    ]);
}

#[test]
fn items_have_a_bound() {
    let p = "/values?max=5";
    let long = format!("[\"{}\"]", "x".repeat(2_000_000));
    let fits = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    let fits_not = format!("\"{}\" ", "x".repeat(1024 * 1024 - 1));
    all(&[
        (p, b"[12345]", "12345|end"),
        (p, b"12345", "12345|end"),
        (p, b"[\"abc\",[1,2]]", "\"abc\"|[1,2]|end"),
        (p, b"[1,123456]", "1|!!413 item 2: longer than 5 bytes"),
        (p, b"123456", "!!413 item 1: longer than 5 bytes"),
        (p, b"[\"abcd\"]", "!!413 item 1: longer than 5 bytes"),
        (p, b"[[1,23]]", "!!413 item 1: longer than 5 bytes"),
        (p, b"[[1,2 ]]", "!!413 item 1: longer than 5 bytes"),
        (p, b"[      1      ,      2      ]", "1|2|end"),
        ("/strings", long.as_bytes(), "!!413 item 1: longer than 1048576 bytes"),
        ("/strings", fits.as_bytes(), &format!("{fits}|end")),
        ("/strings", fits_not.as_bytes(), "!!413 item 1: longer than 1048576 bytes"),
    ]);
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn space(&mut self, out: &mut Vec<u8>) {
        for _ in 0..self.below(5).saturating_sub(2) {
            out.push(self.pick(b" \n\r\t"));
        }
    }

    fn value(&mut self, depth: usize, out: &mut Vec<u8>) {
        const WORDS: [&str; 8] =
            ["0", "-7", "1.5e-9", "12345678901234567890", "true", "null", "false", "3"];
        const STRINGS: [&str; 8] = [
            "\"\"",
            "\"a\"",
            "\"\\\"\"",
            "\"\\\\\"",
            "\"[{,:\"",
            "\"]}\"",
            "\"\u{e9}\u{1f3bb}\"",
            "\"\\u00e9\\n\"",
        ];
        match self.below(if depth == 0 { 4 } else { 8 }) {
            0 | 1 => out.extend(self.pick(&WORDS).bytes()),
            2 | 3 => out.extend(self.pick(&STRINGS).bytes()),
            kind => {
                let object = kind < 6;
                out.push(if object { b'{' } else { b'[' });
                for n in 0..self.below(4) {
                    if n > 0 {
                        out.push(b',');
                    }
                    self.space(out);
                    if object {
                        out.extend(format!("\"{n}\\\"\"").bytes());
                        self.space(out);
                        out.push(b':');
                        self.space(out);
                    }
                    self.value(depth - 1, out);
                    self.space(out);
                }
                out.push(if object { b'}' } else { b']' });
            }
        }
    }

    fn body(&mut self) -> Vec<u8> {
        let (mut out, array) = (Vec::new(), self.below(2) == 0);
        self.space(&mut out);
        out.extend(array.then_some(b'['));
        for n in 0..self.below(6) {
            if n > 0 {
                out.push(if array { b',' } else { b'\n' });
            }
            self.space(&mut out);
            self.value(4, &mut out);
            self.space(&mut out);
        }
        out.extend(array.then_some(b']'));
        // Half of them are damaged.
        if !out.is_empty() && self.below(2) == 0 {
            for _ in 0..1 + self.below(2) {
                let (at, byte) = (self.below(out.len()), self.pick(b"\"\\[]{},: 1\n-te\xff\0"));
                match self.below(3) {
                    0 => out[at] = byte,
                    1 => out.insert(at, byte),
                    _ if out.len() > 1 => drop(out.remove(at)),
                    _ => {}
                }
            }
        }
        out
    }
}

/// What serde says of all of it at once: the items, none where it has no list of them, and whether
/// a mistake is behind them.
fn at_once(body: &[u8]) -> (Option<Vec<Value>>, bool) {
    let first = body.iter().find(|byte| !b" \n\r\t".contains(byte));
    if first == Some(&b'[') {
        let all = serde_json::from_slice::<Vec<Value>>(body).ok();
        let bad = all.is_none();
        return (all, bad);
    }
    let mut items = Vec::new();
    for item in serde_json::Deserializer::from_slice(body).into_iter() {
        match item {
            Ok(item) => items.push(item),
            Err(_) => return (Some(items), true),
        }
    }
    (Some(items), false)
}

#[test]
fn random_items_are_those_of_the_whole_text() {
    let mut random = Random(0x0501_0157);
    let (mut good, mut bad) = (0, 0);
    TestClient::run(app, async |client| {
        for n in 0..2_000 {
            let body = random.body();
            let (items, mistake) = at_once(&body);
            *if mistake { &mut bad } else { &mut good } += 1;
            let call = client.post("/values").body(&body).pieces(1 + random.below(9));
            let answer = call.await.expect(200);
            let got = str::from_utf8(answer.body()).expect("text");
            let shown = body.escape_ascii();
            assert_eq!(got.contains("!!400 "), mistake, "{n}: {shown}\n{got}");
            if let Some(items) = items {
                let mut want = String::new();
                items.iter().for_each(|item| want += &format!("{item}|"));
                let rest = got.strip_prefix(&*want);
                let rest = rest.unwrap_or_else(|| panic!("{n}: {shown}\n{got}\n{want}"));
                assert!(rest == "end" || rest.starts_with("!!"), "{n}: {shown}\n{got}");
            }
            if n % 50 == 0 {
                assert_eq!(ask(client, "/values", &body).await, got);
            }
        }
    });
    assert!(good > 500 && bad > 500, "{good} good, {bad} bad");
}

#[test]
fn a_body_that_ends_early_is_no_end() {
    TestClient::run(app, async |client| {
        for (path, body) in [("/lines", "a\n"), ("/values", "[1]"), ("/values", "1\n")] {
            let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n");
            let raw = client.raw(&[head.as_bytes(), body.as_bytes()]).await;
            let raw = String::from_utf8(raw).expect("text");
            assert!(raw.ends_with("!!400 the body ended early"), "{raw}");
        }
    });
}

/// What comes a byte at a time is looked at once. Again and again takes minutes here.
#[test]
fn long_ones_are_searched_once() {
    let app = async |_| {
        let max = usize::MAX;
        Ok(App::new(())
            .post("/line", async move |cx| {
                let mut lines = cx.lines().line_bytes_max(max);
                cx.json(&lines.next().await?.map(str::len))
            })
            .post("/item", async move |cx| {
                let mut items = cx.json_items::<Value>().item_bytes_max(max);
                cx.json(&items.next().await?.map(|item| item.to_string().len()))
            }))
    };
    let string = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let list = |bytes: usize| format!("{{\"a\":[{}1]}}", "1,".repeat(bytes / 2));
    let bytes = 1 << 20;
    let rows = [("/line", string(bytes)), ("/item", string(bytes)), ("/item", list(bytes))];
    TestClient::run(app, async |client| {
        for (path, body) in rows {
            let head = "host: a\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut raw = format!("POST {path} HTTP/1.1\r\n{head}");
            body.chars().for_each(|c| raw += &format!("1\r\n{c}\r\n"));
            raw += "0\r\n\r\n";
            let since = Instant::now();
            let answer = client.raw(&[raw.as_bytes()]).await;
            assert!(answer.ends_with(format!("\r\n\r\n{}", body.len()).as_bytes()));
            assert!(since.elapsed() < Duration::from_secs(20), "{path}: {:?}", since.elapsed());
        }
    });
}

#[cfg(feature = "csv")]
mod records {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Green,
    }

    #[derive(Deserialize, Serialize)]
    struct Item {
        name: String,
        count: Option<u8>,
        #[serde(default)]
        color: Option<Color>,
    }

    type Pair = (String, i8);
    type Map = BTreeMap<String, String>;

    /// What only the name of a field can be.
    #[derive(Deserialize)]
    #[serde(field_identifier, rename_all = "lowercase")]
    enum Name {
        A,
    }

    pub(super) fn routes(app: App<()>) -> App<()> {
        app.post("/csv/items", async |cx| read(cx, cx.csv::<Item>()).await)
            .post("/csv/map", async |cx| read(cx, cx.csv::<Map>()).await)
            .post("/csv/short", async |cx| read(cx, cx.csv::<Map>().record_bytes_max(6)).await)
            .post("/csv/lists", async |cx| read(cx, cx.csv::<Vec<String>>().headless()).await)
            .post("/csv/pairs", async |cx| {
                read(cx, cx.csv::<Pair>().headless().delimiter(b';')).await
            })
            .post("/csv/quote", async |cx| read(cx, cx.csv::<Map>().delimiter(b'"')).await)
            .post("/csv/name", async |cx| {
                let mut csv = cx.csv::<Name>().headless();
                cx.json(&csv.next().await?.is_some())
            })
    }

    async fn read<'a, T: Serialize + serde::de::DeserializeOwned>(
        cx: &'a Ctx<()>,
        mut csv: soloist::Csv<T, &'a Ctx<()>>,
    ) -> Result<Reply> {
        outcomes(cx, async || match csv.next().await? {
            Some(record) => Ok(Some(serde_json::to_string(&record)?)),
            None => Ok(None),
        })
        .await
    }

    #[test]
    fn records_by_name_and_by_order() {
        let (p, l) = ("/csv/map", "/csv/lists");
        let two = r#"{"a":"1","b":"2"}|{"a":"3","b":"4"}|end"#;
        all(&[
            (p, b"", "end"),
            (p, b"\n\r\n", "end"),
            (p, b"a,b", "end"),
            (p, b"a,b\n", "end"),
            (p, b"a,b\n1,2\n3,4\n", two),
            (p, b"a,b\r\n1,2\r\n3,4", two),
            (p, b"a,b\r1,2\r3,4\r", two),
            (p, b"b,a\n2,1\n\n\r\n4,3", two),
            (p, b"\xef\xbb\xbfa,b\n1,2\n3,4\n", two),
            (p, b"\xef\xbb\xbf\"a\",b\n1,\"2\"\n\"3\",4\n", two),
            (p, b"\xef\xbb\xbf\xef\xbb\xbfa\n1\n", "{\"\u{feff}a\":\"1\"}|end"),
            (p, b"\xef\xbb", "!!400 line 1: field 1: not UTF-8"),
            (l, b"\xef\xbb\xbf", "end"),
            (l, b"\"a\nb\",\"\"\"\"\r\n\"c,d\",\n", "[\"a\\nb\",\"\\\"\"]|[\"c,d\",\"\"]|end"),
            (l, b"\"\"\n", "[\"\"]|end"),
            (l, b"\"\"", "[\"\"]|end"),
            (l, b",\n,", "[\"\",\"\"]|[\"\",\"\"]|end"),
            (l, b" a , b ", "[\" a \",\" b \"]|end"),
            (l, b"5\" disk,a\"\"b\n", "[\"5\\\" disk\",\"a\\\"\\\"b\"]|end"),
            ("/csv/pairs", b"a,b;7\nc;-8", "[\"a,b\",7]|[\"c\",-8]|end"),
            (
                "/csv/items",
                b"color,name,extra,count\nred,a,x,7\n,b,,\n",
                "{\"name\":\"a\",\"count\":7,\"color\":\"red\"}|\
                 {\"name\":\"b\",\"count\":null,\"color\":null}|end",
            ),
        ]);
    }

    #[test]
    fn mistakes_say_line_and_field() {
        let (p, l) = ("/csv/items", "/csv/lists");
        let a = r#"{"name":"a","count":1,"color":null}"#;
        all(&[
            (
                p,
                b"name,count\na,1\n\nb,x\na,1",
                &format!("{a}|!400 line 4: count: not a number|{a}|end"),
            ),
            (
                p,
                b"name,count\r\na,256\r\na,1",
                &format!("!400 line 2: count: too large a number|{a}|end"),
            ),
            (
                p,
                b"name,count\r\r\"\n\r\n\",x\ra,x",
                "!400 line 3: count: not a number|!400 line 6: count: not a number|end",
            ),
            (
                p,
                b"name,color\na,blue",
                "!400 line 2: color: unknown variant `blue`, expected `red` or `green`|end",
            ),
            (p, b"count\n1", "!400 line 2: missing field `name`|end"),
            (
                p,
                b"name,count\na\na,1,2\na,1\n",
                &format!("!400 line 2: 1 fields, not 2|!400 line 3: 3 fields, not 2|{a}|end"),
            ),
            (p, b"name,count\n\xff,1\na,1\n", &format!("!400 line 2: name: not UTF-8|{a}|end")),
            (p, b"name,\xff\na,1\n", "!!400 line 1: field 2: not UTF-8"),
            (l, b"a\nb,c\nd", "[\"a\"]|!400 line 2: 2 fields, not 1|[\"d\"]|end"),
            (
                l,
                b"a,\xc3\n\xa9,b\n",
                "!400 line 1: field 2: not UTF-8|!400 line 2: field 1: not UTF-8|end",
            ),
            // Half a character a field is none, although the bytes together are one.
            (l, b"\xc3,\xa9\n", "!400 line 1: field 1: not UTF-8|end"),
            (l, b"a\n\"b", "[\"a\"]|!!400 line 2: a quote has no end"),
            (l, b"\"", "!!400 line 1: a quote has no end"),
            (l, b"a\n\"b\"\"", "[\"a\"]|!!400 line 2: a quote has no end"),
            (l, b"a\n\"b\nc\"d\n", "[\"a\"]|!!400 line 2: text behind a closing quote"),
            (l, b"a\n\"b\" ,c\n", "[\"a\"]|!!400 line 2: text behind a closing quote"),
            (
                "/csv/pairs",
                b"a;b\nc;1\nc;-129",
                "!400 line 1: field 2: not a number|[\"c\",1]|!400 line 3: field 2: too small a number|end",
            ),
            ("/csv/quote", b"a\n", "!!500 internal error: no delimiter: '\"'"),
        ]);
    }

    #[test]
    fn records_have_bounds() {
        let (p, l) = ("/csv/short", "/csv/lists");
        let wide = |fields: usize| ",".repeat(fields - 1);
        let lists = |fields: usize| format!("[{}]", vec!["\"\""; fields].join(","));
        let (fits, fits_not) = (wide(1_024), wide(1_025));
        let long = |bytes: usize| "x".repeat(bytes);
        let (long_fits, long_fits_not) = (long(65_536), long(65_537));
        let much = "!!413 line 1: a record of more than 65536 bytes";
        let many = "!!413 line 1: a record of more than 1024 fields";
        all(&[
            (p, b"a,b\n123,456\n", r#"{"a":"123","b":"456"}|end"#),
            (p, b"a,b\n\"1\"\"3\",\"456\"", r#"{"a":"1\"3","b":"456"}|end"#),
            (p, b"a,b\n123,4567\n", "!!413 line 2: a record of more than 6 bytes"),
            (p, b"a,b\n123,4567", "!!413 line 2: a record of more than 6 bytes"),
            (p, b"a,b\n\"123\",\"456\"\"\"\n", "!!413 line 2: a record of more than 6 bytes"),
            (p, b"1234567\n", "!!413 line 1: a record of more than 6 bytes"),
            (l, fits.as_bytes(), &format!("{}|end", lists(1_024))),
            (l, format!("{fits}\n{fits}\r\n").as_bytes(), &format!("{0}|{0}|end", lists(1_024))),
            (l, fits_not.as_bytes(), many),
            (l, format!("{fits_not}\n").as_bytes(), many),
            (l, wide(100_000).as_bytes(), many),
            (l, long_fits.as_bytes(), &format!("[\"{long_fits}\"]|end")),
            (l, format!("{long_fits}\n").as_bytes(), &format!("[\"{long_fits}\"]|end")),
            (l, long_fits_not.as_bytes(), much),
            (l, format!("{long_fits_not}\n").as_bytes(), much),
            (l, format!("\"{}", long(1_000_000)).as_bytes(), much),
        ]);
    }

    #[test]
    fn a_type_that_no_record_can_be_is_the_handlers_mistake() {
        TestClient::run(app, async |client| {
            client.post("/csv/name").body("a\n").await.expect(500).text("internal error");
        });
    }

    /// As the csv crate reads it whole, where quotes are in order.
    #[test]
    fn random_records_are_those_of_the_whole_text() {
        const FIELDS: [&str; 9] =
            ["", "a", "bc", "\"\"", "\"a,b\"", "\"c\"\"d\"", "\"e\r\nf\"", "\u{e9}", " "];
        let mut random = Random(0xc5_0f);
        TestClient::run(app, async |client| {
            for n in 0..500 {
                let (mut body, end) = (String::new(), random.pick(&["\n", "\r\n", "\r"]));
                let mut want = String::new();
                let width = 1 + random.below(4);
                for _ in 0..random.below(5) {
                    let row: Vec<&str> = (0..width).map(|_| random.pick(&FIELDS)).collect();
                    if row == [""] {
                        continue; // an empty line
                    }
                    body += &(row.join(",") + end);
                    let plain = |field: &&str| match field.strip_prefix('"') {
                        Some(it) => it[..it.len() - 1].replace("\"\"", "\""),
                        None => (*field).to_owned(),
                    };
                    let row: Vec<String> = row.iter().map(plain).collect();
                    want += &(serde_json::to_string(&row).expect("JSON") + "|");
                }
                if random.below(3) == 0 {
                    body.truncate(body.len().saturating_sub(end.len()));
                }
                want += "end";
                let call = client.post("/csv/lists").body(&body).pieces(1 + random.below(9));
                let answer = call.await.expect(200);
                assert_eq!(str::from_utf8(answer.body()), Ok(&*want), "{n}: {body:?}");
            }
        });
    }
}
