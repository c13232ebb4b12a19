//! Forms with files, read part by part as they arrive: multipart/form-data (RFC 7578).

use std::ops::Range;

use super::body::{Chunk, Unread};
use super::core::Core;
use super::ctx::Ctx;
use super::source::Source;
use crate::base::counters::Count;
use crate::error::{Error, Result};
use crate::http::form::shown;
use crate::http::head::Refusal;
use crate::http::multipart::{self, FORM_DATA, Multipart, MultipartLimits, Step};
use crate::limits::{PART_BYTES_MAX, PART_HEAD_BYTES_MAX, PART_NAME_BYTES_MAX, PARTS_MAX};

/// Forms with files.
impl<S> Ctx<S> {
    /// The body as a form of parts, each read as it arrives (RFC 7578): nothing is kept but one
    /// buffer, however large the files are. 415 unless the content type is `multipart/form-data`,
    /// 400 if its boundary is missing, or not the 1 to 70 characters of RFC 2046 section 5.1.1.
    ///
    /// In all at most [`stream_bytes_max`](crate::Limits::stream_bytes_max) bytes, or what
    /// [`body_limit`](crate::middleware::body_limit) says, and 1,000 parts (else 413). It reads
    /// what [`next_chunk`](Ctx::next_chunk) reads: what was read of the body before is missed.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn upload(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (mut title, mut bytes) = (String::new(), 0);
    ///     let mut form = cx.multipart()?;
    ///     while let Some(mut part) = form.next().await? {
    ///         match part.name() {
    ///             "title" => title = part.text().await?, // 1 MiB at most, unless you say otherwise
    ///             "photo" => {
    ///                 while let Some(chunk) = part.next_chunk().await? {
    ///                     bytes += chunk.len(); // write it to a file
    ///                 }
    ///             }
    ///             _ => {} // skipped
    ///         }
    ///     }
    ///     cx.text(format!("{title}: {bytes} bytes"))
    /// }
    /// # let app = App::new(()).post("/", upload);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let body = "--x\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\nSea\r\n\
    ///     --x\r\ncontent-disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\n\
    ///     content-type: image/png\r\n\r\n\x7fPNG\r\n--x--\r\n";
    /// let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// call.body(body).await.expect(200).text("Sea: 4 bytes");
    /// client.post("/").body("title=Sea").await.expect(415).has("accept", "multipart/form-data");
    /// # });
    /// ```
    ///
    /// # Errors
    /// 400 and 415 as above.
    pub fn multipart(&self) -> Result<Form<'_>> {
        let is_type = |field: &(&str, &str)| field.0.eq_ignore_ascii_case("content-type");
        let mut types = self.headers().filter(is_type);
        let content_type = types.next().map_or("", |field| field.1);
        if types.next().is_some() {
            return Err(Error::bad_request("content-type: given more than once"));
        }
        let boundary =
            multipart::boundary(content_type).map_err(|refusal| match refusal.status {
                415 => refused(refusal).set("accept", FORM_DATA),
                _ => refused(refusal),
            })?;
        Ok(Form { core: &self.core, inner: Inner::new(boundary) })
    }
}

/// A form of parts that is being read: see [`Ctx::multipart`].
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn names(cx: &Ctx<()>) -> Result<Reply> {
///     let mut names = Vec::new();
///     let mut form = cx.multipart()?;
///     while let Some(part) = form.next().await? {
///         names.push(part.name().to_owned()); // the data of each is skipped
///     }
///     cx.json(&names)
/// }
/// # let app = App::new(()).post("/", names);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// let body = "--x\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n\
///     --x\r\ncontent-disposition: form-data; name=b\r\n\r\n2\r\n--x--\r\n";
/// let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
/// call.body(body).await.text(r#"["a","b"]"#);
/// # });
/// ```
pub struct Form<'a> {
    core: &'a Core,
    inner: Inner,
}

/// What a form and its part share. No lifetime is in it, so that a part has one only.
struct Inner {
    decoder: Multipart,
    unread: Unread,
    /// What the decoder held back and nobody has taken yet.
    held: Range<usize>,
    in_part: bool,
    /// Bytes of the part that were handed out.
    taken: u64,
}

impl Form<'_> {
    /// The next part; none at the end of the body, which is then read. What is unread of the part
    /// before is skipped.
    ///
    /// Dropped half-way, it goes on where it stopped when it is called again.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn first(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut form = cx.multipart()?;
    ///     let mut part = form.next().await?.ok_or_else(|| Error::bad_request("an empty form"))?;
    ///     cx.text(part.text().await?)
    /// }
    /// # let app = App::new(()).post("/", first);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let post = || client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// let body = "--x\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n";
    /// post().body(body).await.text("1");
    /// post().body("--x--\r\n").await.expect(400).text("an empty form");
    /// # });
    /// ```
    ///
    /// # Errors
    /// 400 if the form is malformed, or ends before its last boundary; 413 if the head of a part is
    /// over 8 KiB, its name over 1 KiB, or there are more than 1,000 parts; 415 for a part with a
    /// content-transfer-encoding other than 7bit, 8bit and binary, which RFC 7578 section 4.7
    /// deprecates; those of [`Ctx::next_chunk`].
    pub async fn next(&mut self) -> Result<Option<FormPart<'_>>> {
        loop {
            match self.inner.step(self.core).await? {
                Some(Step::Part { taken }) => {
                    self.inner.unread.skip(taken);
                    (self.inner.in_part, self.inner.taken) = (true, 0);
                    let Form { core, inner } = self;
                    return Ok(Some(FormPart { core, inner, bytes_max: None }));
                }
                Some(step) => self.inner.pass(step),
                None => return Ok(None),
            }
        }
    }
}

impl Drop for Form<'_> {
    fn drop(&mut self) {
        self.inner.unread.give(&self.core.local.spares);
    }
}

/// One part of a form: a field, or a file. See [`Form::next`].
///
/// It is a [`Source`]: what reads lines or records of a body reads a part too.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn avatar(cx: &Ctx<()>) -> Result<Reply> {
///     let mut form = cx.multipart()?;
///     while let Some(mut part) = form.next().await? {
///         if let ("avatar", Some("image/png")) = (part.name(), part.content_type()) {
///             let png = part.limit(64 * 1024).bytes().await?; // more: 413
///             return cx.text(format!("{} bytes", png.len()));
///         }
///     }
///     Err(Error::bad_request("avatar: missing"))
/// }
/// # let app = App::new(()).post("/", avatar);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// let post = || client.post("/").header("content-type", "multipart/form-data; boundary=x");
/// let head = "--x\r\ncontent-disposition: form-data; name=avatar; filename=a.png\r\n\
///     content-type: image/png\r\n\r\n";
/// post().body(format!("{head}PNG\r\n--x--\r\n")).await.text("3 bytes");
/// let large = "x".repeat(64 * 1024 + 1);
/// let answer = post().body(format!("{head}{large}\r\n--x--\r\n")).await.expect(413);
/// answer.text("avatar: more than 65536 bytes");
/// # });
/// ```
pub struct FormPart<'f> {
    core: &'f Core,
    inner: &'f mut Inner,
    /// None is no bound for what comes in chunks.
    bytes_max: Option<u64>,
}

impl<'f> FormPart<'f> {
    /// The name of the field, decoded; several parts may have one name. At most 1 KiB.
    ///
    /// Of percent-escapes `%22`, `%0D` and `%0A` are decoded, which browsers send for `"`, CR and LF
    /// (HTML, section 4.10.21.8).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut form = cx.multipart()?;
    /// while let Some(mut part) = form.next().await? {
    ///     match part.name() {
    ///         "title" => return cx.text(part.text().await?),
    ///         name => println!("{name} is skipped"),
    ///     }
    /// }
    /// # cx.empty()
    /// # }
    /// ```
    pub fn name(&self) -> &str {
        &self.inner.decoder.head().name
    }

    /// The name of the file on the client, without any path in front of it; none for a field that
    /// is no file. It is empty where no file was chosen, and for a name that is `.` or `..`.
    ///
    /// The client chose it: it may be a name that you have already, or one that means something to
    /// your system. `filename*` says nothing here (RFC 7578 section 4.2).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn file(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut form = cx.multipart()?;
    ///     let part = form.next().await?.ok_or_else(|| Error::bad_request("an empty form"))?;
    ///     cx.text(part.file_name().unwrap_or("a field").to_owned())
    /// }
    /// # let app = App::new(()).post("/", file);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let post = async |disposition: &str| {
    /// #     let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// #     let head = format!("--x\r\ncontent-disposition: form-data; name=a{disposition}");
    /// #     call.body(format!("{head}\r\n\r\n\r\n--x--\r\n")).await
    /// # };
    /// post("; filename=\"../../etc/passwd\"").await.text("passwd");
    /// post("; filename=\"C:\\me\\a.txt\"").await.text("a.txt");
    /// post("; filename=\"\"").await.text(""); // no file was chosen
    /// post("").await.text("a field");
    /// # });
    /// ```
    pub fn file_name(&self) -> Option<&str> {
        let name = self.inner.decoder.head().file_name.as_deref()?;
        match name.rsplit(['/', '\\']).next() {
            None | Some("." | "..") => Some(""),
            bare => bare,
        }
    }

    /// The media type that the client says it is, as it was sent; browsers go by the file's name.
    /// None is text (RFC 7578 section 4.4).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut form = cx.multipart()?;
    /// while let Some(part) = form.next().await? {
    ///     println!("{}: {}", part.name(), part.content_type().unwrap_or("text/plain"));
    /// }
    /// # cx.empty()
    /// # }
    /// ```
    pub fn content_type(&self) -> Option<&str> {
        self.inner.decoder.head().content_type.as_deref()
    }

    /// Sets the bound of this part in bytes, for all that reads it: 413 beyond. Without it
    /// [`bytes`](FormPart::bytes) and [`text`](FormPart::text) take 1 MiB, and
    /// [`next_chunk`](FormPart::next_chunk) what the body may be. What is skipped has no bound.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn code(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut form = cx.multipart()?;
    ///     let mut part = form.next().await?.ok_or_else(|| Error::bad_request("an empty form"))?;
    ///     cx.text(part.limit(4).text().await?)
    /// }
    /// # let app = App::new(()).post("/", code);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let post = async |code: &str| {
    /// #     let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// #     let head = "--x\r\ncontent-disposition: form-data; name=code";
    /// #     call.body(format!("{head}\r\n\r\n{code}\r\n--x--\r\n")).await
    /// # };
    /// post("1234").await.text("1234");
    /// post("12345").await.expect(413).text("code: more than 4 bytes");
    /// # });
    /// ```
    pub fn limit(&mut self, bytes_max: u64) -> &mut Self {
        self.bytes_max = Some(bytes_max);
        self
    }

    /// The next bytes of the part, none at its end. Those of a large file are not copied anew: the
    /// chunk of the body that they are is handed on.
    ///
    /// Dropped half-way, it goes on where it stopped when it is called again.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn count(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut bytes = 0;
    ///     let mut form = cx.multipart()?;
    ///     while let Some(mut part) = form.next().await? {
    ///         while let Some(chunk) = part.next_chunk().await? {
    ///             bytes += chunk.len();
    ///         }
    ///     }
    ///     cx.json(&bytes)
    /// }
    /// # let app = App::new(()).post("/", count);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// let head = "--x\r\ncontent-disposition: form-data; name=a";
    /// call.body(format!("{head}\r\n\r\nabc\r\n--x--\r\n")).pieces(1).await.text("3");
    /// # });
    /// ```
    ///
    /// # Errors
    /// Those of [`Form::next`]; 413 beyond the bound of the part, if one is set.
    pub async fn next_chunk(&mut self) -> Result<Option<Chunk<'f>>> {
        self.next_within(self.bytes_max.unwrap_or(u64::MAX)).await
    }

    /// What is left of the part, at most 1 MiB, or what [`limit`](FormPart::limit) says; 413
    /// beyond. Dropped half-way, what it has gathered is gone.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let mut form = cx.multipart()?;
    /// while let Some(mut part) = form.next().await? {
    ///     let bytes: Vec<u8> = part.bytes().await?;
    ///     println!("{}: {} bytes", part.name(), bytes.len());
    /// }
    /// # cx.empty()
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Form::next`]; 413 beyond the bound.
    pub async fn bytes(&mut self) -> Result<Vec<u8>> {
        let bytes_max = self.bytes_max.unwrap_or(PART_BYTES_MAX);
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next_within(bytes_max).await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The same as text: 400 with the name of the part if it is not UTF-8, whatever charset its
    /// content type names.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn greet(cx: &Ctx<()>) -> Result<Reply> {
    ///     let mut form = cx.multipart()?;
    ///     let mut part = form.next().await?.ok_or_else(|| Error::bad_request("an empty form"))?;
    ///     cx.text(format!("hello, {}", part.text().await?))
    /// }
    /// # let app = App::new(()).post("/", greet);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let post = async |name: &[u8]| {
    /// #     let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// #     let head = &b"--x\r\ncontent-disposition: form-data; name=name\r\n\r\n"[..];
    /// #     call.body([head, name, b"\r\n--x--\r\n"].concat()).await
    /// # };
    /// post(b"ann").await.text("hello, ann");
    /// post(b"\xff").await.expect(400).text("name: not UTF-8");
    /// # });
    /// ```
    ///
    /// # Errors
    /// Those of [`bytes`](FormPart::bytes), and 400.
    pub async fn text(&mut self) -> Result<String> {
        let bytes = self.bytes().await?;
        let not_text = |_| Error::bad_request(format!("{}: not UTF-8", shown(self.name())));
        String::from_utf8(bytes).map_err(not_text)
    }

    /// All that is within the bound is handed out before more is refused, however it was cut.
    async fn next_within(&mut self, bytes_max: u64) -> Result<Option<Chunk<'f>>> {
        let (core, inner) = (self.core, &mut *self.inner);
        while inner.in_part {
            let Some(step) = inner.step(core).await? else { break };
            let (Step::Data { start, end } | Step::Held { start, end }) = step else {
                inner.pass(step);
                continue;
            };
            let left = bytes_max.saturating_sub(inner.taken);
            let count = left.min((end - start) as u64) as usize;
            if count == 0 {
                let name = shown(&inner.decoder.head().name);
                return Err(Error::new(413, format!("{name}: more than {bytes_max} bytes")));
            }
            inner.taken += count as u64;
            let spares = &core.local.spares;
            if let Step::Held { .. } = step {
                inner.held.start += count;
                let held = &inner.decoder.delimiter()[start..start + count];
                return Ok(Some(Chunk::copy(held, spares)));
            }
            inner.unread.skip(start);
            return Ok(Some(inner.unread.split(count, spares)));
        }
        Ok(None)
    }
}

impl Inner {
    fn new(boundary: &str) -> Inner {
        let limits = MultipartLimits {
            head_bytes_max: PART_HEAD_BYTES_MAX,
            name_bytes_max: PART_NAME_BYTES_MAX,
            parts_max: PARTS_MAX,
        };
        Inner {
            decoder: Multipart::new(boundary, limits),
            unread: Unread::default(),
            held: 0..0,
            in_part: false,
            taken: 0,
        }
    }

    /// What comes next, and is then to be taken; none at the end of the body. What is not taken
    /// comes again.
    async fn step(&mut self, core: &Core) -> Result<Option<Step>> {
        if let Range { start, end } = self.held
            && start < end
        {
            return Ok(Some(Step::Held { start, end }));
        }
        loop {
            if !self.unread.is_empty() {
                match self.decoder.decode(&self.unread) {
                    Ok(Step::More) => self.unread.give(&core.local.spares),
                    Ok(step) => {
                        if let Step::Held { start, end } = step {
                            self.held = start..end;
                        }
                        return Ok(Some(step));
                    }
                    Err(refusal) => return Err(counted(core, refusal)),
                }
            }
            let bytes_max = core.body_limit(core.local.limits.stream_bytes_max);
            match core.read_chunk(bytes_max).await? {
                Some(chunk) => self.unread = chunk.into_unread(),
                None => {
                    self.decoder.finish().map_err(|refusal| counted(core, refusal))?;
                    return Ok(None);
                }
            }
        }
    }

    /// Takes what nobody reads.
    fn pass(&mut self, step: Step) {
        match step {
            Step::More => {}
            Step::Part { taken } | Step::Data { end: taken, .. } => self.unread.skip(taken),
            Step::Held { .. } => self.held = 0..0,
            Step::PartEnd { taken } => {
                self.unread.skip(taken);
                self.in_part = false;
            }
        }
    }
}

impl Source for FormPart<'_> {
    async fn next_piece(&mut self) -> Result<Option<Chunk<'_>>> {
        self.next_chunk().await
    }
}

#[cold]
fn counted(core: &Core, refusal: Refusal) -> Error {
    core.local.counters.add(Count::RefusedBody, 1);
    refused(refusal)
}

#[cold]
fn refused(refusal: Refusal) -> Error {
    Error::new(refusal.status, refusal.reason)
}
