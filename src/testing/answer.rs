//! An answer as a test reads it.

use serde::de::DeserializeOwned;

use crate::http::chunked::{ChunkLimits, Chunked, Step};

/// An answer, taken apart. What it insists on fails with the whole exchange in its words, at the
/// line of the test; and what holds gives the answer on, to be asked the next thing.
///
/// ```
/// # use soloist::prelude::*;
/// # use soloist::testing::{Answer, TestClient};
/// fn is_page(answer: Answer) -> Answer {
///     answer.expect(200).has("content-type", "text/html; charset=utf-8").contains("<h1>")
/// }
/// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.html("<h1>Tea</h1>")));
/// # TestClient::run(app, async |client| {
/// is_page(client.get("/").await).contains("Tea");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Answer {
    /// The head of the request, for those messages.
    asked: String,
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// Its status. Interim ones (100 to 199, other than 101) are passed over.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/days/:n", async |cx| {
    /// #     let n: u8 = cx.param("n")?;
    /// #     cx.json(&n)
    /// # }));
    /// # TestClient::run(app, async |client| {
    /// for day in ["31", "256", "-1", "x"] {
    ///     let status = client.get(&format!("/days/{day}")).await.status();
    ///     assert_eq!(status == 200, day.parse::<u8>().is_ok(), "{day}");
    /// }
    /// # });
    /// ```
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of the first header field of that name, in any case.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # async fn enter(cx: &Ctx<()>) -> Result<Reply> {
    /// #     match cx.cookie("seen") {
    /// #         Some(_) => cx.text("again"),
    /// #         None => cx.set_cookie(("seen", "1")).text("welcome"),
    /// #     }
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", enter)), async |client| {
    /// let answer = client.get("/").await.text("welcome");
    /// let field = answer.header("Set-Cookie").expect("a cookie");
    /// let cookie = field.split(';').next().unwrap_or_default();
    /// client.get("/").header("cookie", cookie).await.text("again");
    /// # });
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().find(same).map(|field| &*field.1)
    }

    /// Its body, out of its chunks where it came in chunks.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let logo = async |cx: &Ctx<()>| cx.bytes("image/png", b"\x89PNG");
    /// # let app = async |_| Ok(App::new(()).get("/logo", logo));
    /// # TestClient::run(app, async |client| {
    /// let logo = client.get("/logo").await.expect(200).has("content-type", "image/png");
    /// assert!(logo.body().starts_with(b"\x89PNG"));
    /// # });
    /// ```
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Insists on a status.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// # TestClient::run(app, async |client| {
    /// client.get("/").await.expect(200);
    /// client.get("/nowhere").await.expect(404).text("not found");
    /// # });
    /// ```
    ///
    /// # Panics
    /// When it is another; the message shows the head of the request, and the answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert!(self.status == status, "status {status} expected, but\n{}", self.exchange());
        self
    }

    /// Insists on a body, from its first byte to its last.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.json(&[1, 2])));
    /// # TestClient::run(app, async |client| {
    /// client.get("/").await.expect(200).text("[1,2]");
    /// # });
    /// ```
    ///
    /// # Panics
    /// When it is another; the message shows the exchange.
    #[track_caller]
    pub fn text(self, text: &str) -> Answer {
        assert!(self.body == text.as_bytes(), "body {text:?} expected, but\n{}", self.exchange());
        self
    }

    /// Insists on text somewhere in the body: of a page, say, whose frame is another test's.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let page = "<title>Shop</title><li>tea</li><li>cake</li>";
    /// # let app = async |_| Ok(App::new(()).get("/", async move |cx| cx.html(page)));
    /// # TestClient::run(app, async |client| {
    /// client.get("/").await.expect(200).contains("<li>tea</li>").contains("<li>cake</li>");
    /// # });
    /// ```
    ///
    /// # Panics
    /// When it is nowhere; the message shows the exchange.
    #[track_caller]
    pub fn contains(self, text: &str) -> Answer {
        let body = String::from_utf8_lossy(&self.body);
        assert!(body.contains(text), "{text:?} expected in the body, but\n{}", self.exchange());
        self
    }

    /// Insists on a header field and its whole value. Of several fields of that name, the first one
    /// counts.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let busy = async |_: &Ctx<()>| Err(Error::new(503, "not now").set("retry-after", "10"));
    /// # let app = async |_| Ok(App::new(()).get("/", busy));
    /// # TestClient::run(app, async |client| {
    /// client.get("/").await.expect(503).has("retry-after", "10").has("content-length", "7");
    /// # });
    /// ```
    ///
    /// # Panics
    /// When it is missing or has another value; the message shows the exchange.
    #[track_caller]
    pub fn has(self, name: &str, value: &str) -> Answer {
        let found = self.header(name);
        assert!(found == Some(value), "{name}: {value} expected, but\n{}", self.exchange());
        self
    }

    /// The answer as text without what changes from run to run (Date): for snapshots. Status, a
    /// field a line, an empty line, the body.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// # TestClient::run(app, async |client| {
    /// let seen = client.get("/").await.snapshot();
    /// let kept = "200\ncontent-type: text/plain; charset=utf-8\ncontent-length: 5\n\nhello";
    /// assert_eq!(seen, kept); // or keep it in a file beside the test
    /// # });
    /// ```
    pub fn snapshot(&self) -> String {
        let stays = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("date");
        let mut out = format!("{}\n", self.status);
        for (name, value) in self.fields.iter().filter(stays) {
            out += &format!("{name}: {value}\n");
        }
        out + "\n" + &String::from_utf8_lossy(&self.body)
    }

    pub(super) fn exchange(&self) -> String {
        format!("{}\n{self}", self.asked.trim_end())
    }

    /// The body, read as JSON.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    /// # let ages = async |cx: &Ctx<()>| cx.json(&[("ann", 41), ("bob", 7)]);
    /// # let app = async |_| Ok(App::new(()).get("/ages", ages));
    /// # TestClient::run(app, async |client| {
    /// let ages: Vec<(String, u8)> = client.get("/ages").await.expect(200).json();
    /// assert!(ages.iter().any(|(name, age)| name == "ann" && *age == 41));
    /// # });
    /// ```
    ///
    /// # Panics
    /// When it is none, or none of that type; the message says where, and shows the exchange.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in\n{}", self.exchange()),
        }
    }

    /// The same, with the head of the request that it answers.
    pub(super) fn asked_by(self, head: String) -> Answer {
        Answer { asked: head, ..self }
    }

    /// Reads the head of an answer from the start of `raw`, interim ones skipped: it and its end.
    pub(super) fn begin(raw: &[u8]) -> Option<(Answer, usize)> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(len) = head.parse(raw).ok()? else { return None };
        let status = head.code?;
        if (100..200).contains(&status) && status != 101 {
            return Answer::begin(&raw[len..]).map(|(it, end)| (it, end + len));
        }
        let field = |it: &httparse::Header<'_>| {
            (it.name.to_owned(), String::from_utf8_lossy(it.value).into_owned())
        };
        let fields = head.headers.iter().map(field).collect();
        Some((Answer { asked: String::new(), status, fields, body: Vec::new() }, len))
    }

    /// Reads one answer from the start of `raw`: it and its end.
    pub(super) fn read(raw: &[u8], method: &str, closed: bool) -> Option<(Answer, usize)> {
        let (mut answer, len) = Answer::begin(raw)?;
        let (status, rest) = (answer.status, &raw[len..]);
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some((answer, len));
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().ok()?;
            answer.body = rest.get(..length)?.to_vec();
            return Some((answer, len + length));
        }
        if answer.header("transfer-encoding").is_some() {
            let mut decoder = Chunked::new(chunk_limits());
            let mut at = 0;
            loop {
                match decoder.decode(&rest[at..]).ok()? {
                    Step::Data { start, end } => {
                        answer.body.extend_from_slice(&rest[at + start..at + end]);
                        at += end;
                    }
                    Step::End { taken } => return Some((answer, len + at + taken)),
                    Step::More { .. } => return None,
                }
            }
        }
        answer.body = rest.to_vec();
        closed.then_some((answer, raw.len()))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.fields {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}

pub(super) fn chunk_limits() -> ChunkLimits {
    ChunkLimits { line_bytes_max: 1024, trailer_bytes_max: 8192, trailers_max: 32 }
}
