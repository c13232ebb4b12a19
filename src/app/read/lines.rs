//! Lines of text, one at a time.

use memchr::memchr;

use super::feed::Feed;
use crate::app::ctx::Ctx;
use crate::app::source::Source;
use crate::error::{Error, Result};
use crate::limits::LINE_BYTES_MAX;

/// Reading line by line.
impl<S> Ctx<S> {
    /// The lines of the body, one at a time, in the memory of one: see [`Lines`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn longest(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (mut lines, mut longest) = (cx.lines(), 0);
    ///     while let Some(line) = lines.next().await? {
    ///         longest = longest.max(line.len()); // it is a `&str`, lent
    ///     }
    ///     cx.json(&longest)
    /// }
    /// # let app = App::new(()).post("/", longest);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("one\r\nthree\nsix").await.text("5");
    /// # });
    /// ```
    pub fn lines(&self) -> Lines<&Ctx<S>> {
        Lines::of(self)
    }
}

/// Lines of text that comes piece by piece.
///
/// LF or CR LF ends a line and is no part of it; the last line may lack it. A CR elsewhere is text.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn levels(cx: &Ctx<()>) -> Result<Reply> {
///     let mut lines = cx.lines().line_bytes_max(1_000);
///     let (mut errors, mut others) = (0, 0);
///     while let Some(line) = lines.next().await? {
///         *if line.starts_with("ERROR ") { &mut errors } else { &mut others } += 1;
///     }
///     cx.json(&(errors, others))
/// }
/// # let app = App::new(()).post("/", levels);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// let log = "INFO up\nERROR disk 3\nERROR disk 4\n";
/// client.post("/").body(log).pieces(5).await.text("[2,1]"); // cut anywhere
/// client.post("/").body("x".repeat(1_001)).await.expect(413);
/// # });
/// ```
pub struct Lines<R> {
    feed: Feed<R>,
    /// Bytes of the line to come that hold no LF.
    searched: usize,
    /// Lines given out.
    count: u64,
    line_bytes_max: usize,
}

impl<R: Source> Lines<R> {
    /// The lines of any source: a body, or a part of a form.
    ///
    /// ```
    /// # use soloist::{Lines, prelude::*, testing::TestClient};
    /// # async fn first(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut lines = Lines::of(cx); // what `cx.lines()` does
    /// let first = lines.next().await?.unwrap_or("nothing");
    /// cx.text(first)
    /// # }
    /// # let app = App::new(()).post("/", first);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.post("/").body("a\nb").await.text("a");
    /// # client.post("/").await.text("nothing");
    /// # });
    /// ```
    pub fn of(source: R) -> Lines<R> {
        Lines { feed: Feed::new(source), searched: 0, count: 0, line_bytes_max: LINE_BYTES_MAX }
    }

    /// Bytes of one line without its end; more: 413. Default 64 KiB.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut lines = cx.lines().line_bytes_max(3);
    /// # while lines.next().await?.is_some() {}
    /// # cx.empty()
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body("abc\r\nabc\n").await.expect(204);
    /// let answer = client.post("/").body("abc\nabcd\n").await.expect(413);
    /// answer.text("line 2: longer than 3 bytes");
    /// # });
    /// ```
    pub fn line_bytes_max(mut self, bytes: usize) -> Lines<R> {
        self.line_bytes_max = bytes;
        self
    }

    /// The next line, none at the end. It is lent until the next call.
    ///
    /// # Errors
    /// 400 for a line that is not UTF-8: the next call gives the line behind it. 413 for one that
    /// is too long, and those of the source, such as [`Ctx::next_chunk`]'s: they come again.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut lines = cx.lines();
    /// let (mut good, mut bad) = (0, Vec::new());
    /// loop {
    ///     match lines.next().await {
    ///         Ok(Some(_)) => good += 1,
    ///         Ok(None) => break,
    ///         Err(error) if error.status() == 400 && bad.len() < 10 => {
    ///             bad.push(error.message().to_owned());
    ///         }
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// cx.json(&(good, bad))
    /// # }
    /// # let app = App::new(()).post("/", handler);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/").body(b"a\n\xff\nc").await.text(r#"[2,["line 2: not UTF-8"]]"#);
    /// # });
    /// ```
    pub async fn next(&mut self) -> Result<Option<&str>> {
        self.feed.check()?;
        let max = self.line_bytes_max;
        let number = self.count + 1;
        let (end, used) = loop {
            let rest = self.feed.rest();
            if let Some(at) = memchr(b'\n', &rest[self.searched..]) {
                let lf = self.searched + at;
                break (lf - usize::from(rest[..lf].ends_with(b"\r")), lf + 1);
            }
            self.searched = rest.len();
            // A CR at the end may belong to what ends the line.
            let (len, open) = (rest.len(), rest.len() - usize::from(rest.ends_with(b"\r")));
            if open > max {
                return Err(self.feed.fail(413, too_long(number, max)));
            }
            if !self.feed.more().await? {
                if len == 0 {
                    return Ok(None);
                }
                break (len, len);
            }
        };
        if end > max {
            return Err(self.feed.fail(413, too_long(number, max)));
        }
        self.searched = 0;
        self.count = number;
        match str::from_utf8(&self.feed.take(used)[..end]) {
            Ok(line) => Ok(Some(line)),
            Err(_) => Err(Error::bad_request(format!("line {number}: not UTF-8"))),
        }
    }
}

fn too_long(number: u64, bytes_max: usize) -> String {
    format!("line {number}: longer than {bytes_max} bytes")
}
