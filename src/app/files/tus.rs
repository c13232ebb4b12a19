//! Resumable uploads: the server's side of tus 1.0.0.

use std::cell::Cell;
use std::fs::File;
use std::future::Future;
use std::panic::Location;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

use super::growing::{Growing, read_nothing};
use crate::app::builder::App;
use crate::app::ctx::Ctx;
use crate::app::handler::Endpoint;
use crate::app::reply::Reply;
use crate::app::routes::{Entry, check_prefix};
use crate::base::arena::Placed;
use crate::error::{Error, Result};
use crate::files::append::failed;
use crate::files::uploads::{self, Held, Info, Lost};
use crate::http::base64;
use crate::http::head::Body;
use crate::limits::{
    TUS_BYTES_MAX, TUS_EXPIRES_S, TUS_EXPIRES_S_MAX, TUS_METADATA_MAX, TUS_SWEEP_MS,
};

/// A directory for uploads that go on where they were broken off, by [tus 1.0.0]: for
/// [`App::tus`]. Its extensions are creation, creation-with-upload, expiration and termination.
///
/// Each upload is a file `<id>` with a file `<id>.info` beside it. All shards, and all processes,
/// may serve the same directory.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// use soloist::{Tus, TusUpload};
///
/// async fn received(cx: &Ctx<()>, upload: TusUpload) -> Result<()> {
///     let to = "target/received-by-a-doc-test"; // never a name of the client's as it came
///     cx.shard().blocking(move || std::fs::rename(upload.path, to)).await??;
///     Ok(())
/// }
/// # std::fs::create_dir_all("target/tus-of-a-doc-test").expect("a directory");
/// let uploads = Tus::new("target/tus-of-a-doc-test").bytes_max(1_000_000).on_done(received);
/// let app = App::new(()).tus("/uploads", uploads);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # let call = client.post("/uploads").header("tus-resumable", "1.0.0");
/// # let made = call.header("upload-length", "5").await.expect(201);
/// # let place = made.header("location").expect("its place");
/// # let call = client.call("PATCH", place).header("tus-resumable", "1.0.0");
/// # let call = call.header("upload-offset", "0");
/// # let call = call.header("content-type", "application/offset+octet-stream");
/// # call.body("hello").await.expect(204).has("upload-offset", "5");
/// # assert_eq!(std::fs::read("target/received-by-a-doc-test").expect("it"), b"hello");
/// # });
/// # std::fs::remove_file("target/received-by-a-doc-test").expect("it");
/// # std::fs::remove_dir_all("target/tus-of-a-doc-test").expect("it");
/// ```
///
/// [tus 1.0.0]: https://tus.io/protocols/resumable-upload
pub struct Tus<S> {
    dir: PathBuf,
    bytes_max: u64,
    expires_s: u64,
    on_done: Option<Box<dyn OnDone<S>>>,
}

/// An upload whose last byte is in: for [`Tus::on_done`].
///
/// ```
/// use soloist::TusUpload;
///
/// /// The name that the client gives the file, if it has one.
/// fn file_name(upload: &TusUpload) -> Option<&str> {
///     let mut named = upload.metadata.iter().filter(|(key, _)| key == "filename");
///     named.next().map(|(_, name)| name.as_str())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TusUpload {
    /// 32 hexadecimal digits, a secret of its client's.
    pub id: String,
    /// Where its bytes are. It may be moved from there, or stay.
    pub path: PathBuf,
    /// How many they are.
    pub length: u64,
    /// What the client says of it, such as `filename` and `filetype`, in its order. Not to be
    /// trusted.
    pub metadata: Vec<(String, String)>,
}

impl<S: 'static> Tus<S> {
    /// Uploads into a directory, which must be there: at most 1 GiB each, and gone if they are not
    /// whole after 24 hours.
    ///
    /// ```
    /// # use soloist::{Tus, prelude::*};
    /// let app = App::new(()).tus("/uploads", Tus::new("target"));
    /// ```
    pub fn new(dir: impl Into<PathBuf>) -> Tus<S> {
        let (bytes_max, expires_s) = (TUS_BYTES_MAX, TUS_EXPIRES_S);
        Tus { dir: dir.into(), bytes_max, expires_s, on_done: None }
    }

    /// Bytes of one upload; who wants more gets 413. One request may carry all of them:
    /// [`stream_bytes_max`](crate::Limits::stream_bytes_max) does not count here.
    ///
    /// ```
    /// # use soloist::{Tus, prelude::*};
    /// let films = Tus::<()>::new("films").bytes_max(20 << 30);
    /// ```
    pub fn bytes_max(mut self, bytes: u64) -> Tus<S> {
        self.bytes_max = bytes;
        self
    }

    /// How long after its creation an unfinished upload is kept, in whole seconds and at most a
    /// hundred years. Then it answers 410, and is removed when another one is created; each shard
    /// looks at most once a minute.
    ///
    /// ```
    /// # use soloist::{Tus, prelude::*};
    /// # use std::time::Duration;
    /// let films = Tus::<()>::new("films").expires_after(Duration::from_secs(7 * 24 * 3600));
    /// ```
    pub fn expires_after(mut self, time: Duration) -> Tus<S> {
        self.expires_s = time.as_secs().min(TUS_EXPIRES_S_MAX);
        self
    }

    /// What is done with an upload once its last byte is in, before its client is told: nobody
    /// else can change the upload meanwhile. Once it has returned `Ok` it is not called again for
    /// this upload. After an error, which the client gets, and where it was dropped, because its
    /// client has gone, it is called again when the client asks again.
    ///
    /// A closure that asks for its state says its type: `async |cx: &Ctx<State>, upload| ...`.
    ///
    /// ```
    /// # use soloist::{Tus, prelude::*};
    /// let films = Tus::<()>::new("films").on_done(async |_, upload| {
    ///     println!("{} bytes at {}", upload.length, upload.path.display());
    ///     Ok(())
    /// });
    /// ```
    pub fn on_done(
        mut self,
        done: impl AsyncFn(&Ctx<S>, TusUpload) -> Result<()> + 'static,
    ) -> Tus<S> {
        self.on_done = Some(Box::new(done));
        self
    }
}

/// What is done with a whole upload; its type is forgotten.
trait OnDone<S> {
    fn call<'a>(&'a self, cx: &'a Ctx<S>, upload: TusUpload) -> Done<'a>;
}

type Done<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

impl<S: 'static, F: AsyncFn(&Ctx<S>, TusUpload) -> Result<()> + 'static> OnDone<S> for F {
    fn call<'a>(&'a self, cx: &'a Ctx<S>, upload: TusUpload) -> Done<'a> {
        Box::pin(self(cx, upload))
    }
}

impl<S: 'static> App<S> {
    /// Takes uploads that go on where they were broken off, from the clients of
    /// [tus 1.0.0](https://tus.io): an upload is created by a POST to the prefix, and grows by
    /// PATCHes to `prefix/<id>`.
    ///
    /// What has arrived is kept when a connection breaks. Two that change an upload at once do
    /// not: the second gets 423. Who knows an id may go on with its upload, and remove it: where
    /// that is not enough, middleware asks who it is. Pages of other origins need
    /// [`cors`](crate::middleware::cors) around it.
    ///
    /// A directory that is not there when the application is built is an error of
    /// [`Server::run`](crate::Server::run). See [`Tus`] for an example.
    #[track_caller]
    pub fn tus(mut self, prefix: &str, options: Tus<S>) -> App<S> {
        let prefix = prefix.trim_end_matches('/');
        let what = format!("tus {prefix:?}");
        if !prefix.is_empty()
            && let Err(why) = check_prefix(prefix)
        {
            self.mistake(&what, why);
            return self;
        }
        if !options.dir.is_dir() {
            self.mistake(&what, &format!("{}: no directory", options.dir.display()));
            return self;
        }
        let all = Rc::new(Uploads { options, swept_ms: Cell::new(None) });
        let root = if prefix.is_empty() { "/" } else { prefix };
        for verb in [Verb::Tell, Verb::Create] {
            self = self.tus_route(root.to_owned(), verb, &all);
        }
        for verb in [Verb::Tell, Verb::Head, Verb::Patch, Verb::Delete] {
            self = self.tus_route(format!("{prefix}/:upload"), verb, &all);
        }
        self
    }

    #[track_caller]
    fn tus_route(mut self, pattern: String, verb: Verb, all: &Rc<Uploads<S>>) -> App<S> {
        let method = match verb {
            Verb::Tell => "OPTIONS",
            Verb::Create => "POST",
            Verb::Head => "HEAD",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        };
        self.push_route(Entry {
            method: method.into(),
            pattern,
            name: None,
            layers: Vec::new(),
            end: Box::new(Served { verb, all: all.clone() }),
            at: Location::caller(),
        });
        self
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Tell,
    Create,
    Head,
    Patch,
    Delete,
}

struct Served<S> {
    verb: Verb,
    all: Rc<Uploads<S>>,
}

struct Uploads<S> {
    options: Tus<S>,
    /// When this shard last looked for what has expired.
    swept_ms: Cell<Option<u64>>,
}

impl<S: 'static> Endpoint<S> for Served<S> {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(move || async move {
            let told = self.all.serve(cx, self.verb).await;
            told.map_err(|error| match self.verb {
                Verb::Tell => error,
                Verb::Head => error.set(RESUMABLE, VERSION).set("cache-control", "no-store"),
                _ => error.set(RESUMABLE, VERSION),
            })
        })
    }
}

const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,expiration,termination";
const OFFSET_STREAM: &str = "application/offset+octet-stream";

const RESUMABLE: &str = "tus-resumable";
const LENGTH: &str = "upload-length";
const OFFSET: &str = "upload-offset";
const METADATA: &str = "upload-metadata";

impl<S: 'static> Uploads<S> {
    async fn serve(&self, cx: &Ctx<S>, verb: Verb) -> Result<Reply> {
        if verb == Verb::Tell {
            cx.set_header(RESUMABLE, VERSION).set_header("tus-version", VERSION);
            cx.set_header("tus-extension", EXTENSIONS);
            return cx.set_header("tus-max-size", self.options.bytes_max.to_string()).empty();
        }
        if one(cx, RESUMABLE)? != Some(VERSION) {
            let text = "tus-resumable: only 1.0.0 is spoken here";
            return Err(Error::new(412, text).set("tus-version", VERSION));
        }
        let reply = match verb {
            Verb::Create => self.create(cx).await?,
            Verb::Head => self.head(cx).await?,
            Verb::Patch => self.patch(cx).await?,
            _ => self.delete(cx).await?,
        };
        Ok(reply)
    }

    async fn create(&self, cx: &Ctx<S>) -> Result<Reply> {
        if one(cx, "upload-defer-length")?.is_some() {
            let text = "upload-defer-length: the length must be known from the beginning";
            return Err(Error::bad_request(text));
        }
        let length = number(cx, LENGTH)?;
        let bytes_max = self.options.bytes_max;
        if length > bytes_max {
            let text = format!("upload-length: at most {bytes_max} bytes are taken");
            return Err(Error::new(413, text).set("tus-max-size", bytes_max.to_string()));
        }
        let metadata = one(cx, METADATA)?.unwrap_or("").trim_ascii();
        parse_metadata(metadata).map_err(|why| Error::bad_request(format!("{METADATA}: {why}")))?;
        let has_body = !matches!(cx.core.head.body, Body::None | Body::Length(0));
        if has_body {
            check_type(cx)?;
            cx.core.check_length(length)?;
        }
        self.sweep(cx);
        let expires = cx.core.local.clock.unix_secs().saturating_add(self.options.expires_s);
        let info = Info { length, expires, done: false, metadata: metadata.to_owned() };
        let dir = self.options.dir.clone();
        let made = cx.shard().blocking(move || uploads::create(&dir, info)).await?;
        let (id, held) =
            made.map_err(|error| failed("an upload", error.raw_os_error().unwrap_or(libc::EIO)))?;
        let told = match self.grow(cx, &id, held, has_body).await {
            Ok(told) => told,
            Err(error) => {
                // Its client does not learn its name.
                let dir = self.options.dir.clone();
                cx.shard().blocking(move || uploads::remove(&dir, &id)).await??;
                return Err(error);
            }
        };
        told.tell(cx);
        let place = match cx.path().trim_matches('/') {
            "" => format!("/{id}"),
            prefix => format!("/{prefix}/{id}"),
        };
        cx.status(201).set_header("location", place).empty()
    }

    async fn head(&self, cx: &Ctx<S>) -> Result<Reply> {
        let id = id_of(cx)?;
        let (dir, text) = (self.options.dir.clone(), id.to_owned());
        let seen = cx.shard().blocking(move || uploads::peek(&dir, &text)).await?;
        let told = match seen.map_err(lost)? {
            Some((info, offset)) => Told::new(&info, offset, info.done),
            // Whole, but the application has not taken it: now it does.
            None => self.grow(cx, id, self.hold(cx, id).await?, false).await?,
        };
        self.check_expired(cx, told.expires)?;
        told.tell(cx);
        if !told.metadata.is_empty() {
            cx.set_header(METADATA, &told.metadata);
        }
        cx.set_header(LENGTH, told.length.to_string());
        cx.set_header("cache-control", "no-store").status(200).empty()
    }

    async fn patch(&self, cx: &Ctx<S>) -> Result<Reply> {
        check_type(cx)?;
        let offset = number(cx, OFFSET)?;
        let id = id_of(cx)?;
        let held = self.hold(cx, id).await?;
        if offset != held.offset {
            let text = format!("{OFFSET}: {} bytes are there", held.offset);
            return Err(Error::new(409, text).set(OFFSET, held.offset.to_string()));
        }
        let told = self.grow(cx, id, held, true).await?;
        told.tell(cx);
        cx.empty()
    }

    async fn delete(&self, cx: &Ctx<S>) -> Result<Reply> {
        let id = id_of(cx)?;
        let (dir, id) = (self.options.dir.clone(), id.to_owned());
        let shard = cx.shard();
        let removed = shard.blocking(move || {
            let held = uploads::hold(&dir, &id);
            // One whose bytes, or whose info, are gone is removed all the same.
            match held {
                Err(Lost::Busy) => Err(Lost::Busy),
                Err(Lost::Failed(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
                    Err(Lost::Failed(error))
                }
                Err(Lost::Missing) => Err(Lost::Missing),
                _held => uploads::remove(&dir, &id).map_err(Lost::from),
            }
        });
        removed.await?.map_err(lost)?;
        cx.set_header(RESUMABLE, VERSION).empty()
    }

    async fn hold(&self, cx: &Ctx<S>, id: &str) -> Result<Held> {
        let (dir, id) = (self.options.dir.clone(), id.to_owned());
        let held = cx.shard().blocking(move || uploads::hold(&dir, &id)).await?;
        let held = held.map_err(lost)?;
        self.check_expired(cx, (!held.info.done).then_some(held.info.expires))?;
        Ok(held)
    }

    fn check_expired(&self, cx: &Ctx<S>, expires: Option<u64>) -> Result<()> {
        match expires {
            Some(then) if then <= cx.core.local.clock.unix_secs() => {
                Err(Error::new(410, "this upload has expired"))
            }
            _ => Ok(()),
        }
    }

    /// Appends the body, if one is meant to be read, and ends the upload if it is whole then.
    async fn grow(&self, cx: &Ctx<S>, id: &str, held: Held, body: bool) -> Result<Told> {
        let Held { info, lock, file, offset } = held;
        let Some(file) = file.filter(|_| !info.done) else {
            if body {
                read_nothing(cx).await?;
            }
            return Ok(Told::new(&info, info.length, true));
        };
        let mut growing = Growing::new(cx, file, lock, offset);
        if body {
            growing.fill(cx, info.length.saturating_sub(offset)).await?;
        }
        let (offset, lock) = growing.end();
        let whole = offset >= info.length;
        if whole {
            self.finish(cx, id, &info, lock).await?;
        }
        Ok(Told::new(&info, offset, whole))
    }

    async fn finish(&self, cx: &Ctx<S>, id: &str, info: &Info, lock: File) -> Result<()> {
        if let Some(done) = &self.options.on_done {
            let upload = TusUpload {
                id: id.to_owned(),
                path: uploads::path_of(&self.options.dir, id),
                length: info.length,
                metadata: parse_metadata(&info.metadata).unwrap_or_default(),
            };
            done.call(cx, upload).await?;
        }
        // A task of its own: it ends even if the client has gone.
        let shard = cx.shard();
        let noted = cx.spawn(async move {
            let noted = shard.blocking(move || uploads::mark_done(&lock)).await;
            if let Err(error) = noted.and_then(|it| Ok(it?)) {
                tracing::error!("an upload is whole, which cannot be noted: {error}");
            }
        });
        noted.ended().await;
        Ok(())
    }

    /// Has what has expired removed, once a minute.
    fn sweep(&self, cx: &Ctx<S>) {
        let clock = &cx.core.local.clock;
        let (now_ms, now_s) = (clock.now_ms(), clock.unix_secs());
        if self.swept_ms.get().is_some_and(|then| now_ms < then + TUS_SWEEP_MS) {
            return;
        }
        self.swept_ms.set(Some(now_ms));
        let (shard, dir) = (cx.shard(), self.options.dir.clone());
        let age = Duration::from_secs(self.options.expires_s);
        cx.spawn(async move {
            let _ = shard.blocking(move || uploads::sweep(&dir, now_s, age)).await;
        });
    }
}

/// How far an upload is, for its client.
struct Told {
    offset: u64,
    length: u64,
    /// None once it is whole.
    expires: Option<u64>,
    metadata: String,
}

impl Told {
    fn new(info: &Info, offset: u64, whole: bool) -> Told {
        let expires = (!whole).then_some(info.expires);
        Told { offset, length: info.length, expires, metadata: info.metadata.clone() }
    }

    fn tell<S>(&self, cx: &Ctx<S>) {
        cx.set_header(RESUMABLE, VERSION).set_header(OFFSET, self.offset.to_string());
        if let Some(expires) = self.expires {
            let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(expires));
            cx.set_header("upload-expires", date.to_string());
        }
    }
}

fn lost(lost: Lost) -> Error {
    match lost {
        Lost::Missing => Error::new(404, "there is no such upload"),
        Lost::Busy => Error::new(423, "this upload is in use").set("retry-after", "1"),
        Lost::Failed(error) => Error::from(error),
    }
}

fn id_of<S>(cx: &Ctx<S>) -> Result<&str> {
    let id: Option<&str> = cx.param("upload").ok();
    id.filter(|id| uploads::is_id(id)).ok_or_else(|| lost(Lost::Missing))
}

/// The value of a field that comes once at most.
fn one<'a, S>(cx: &'a Ctx<S>, name: &str) -> Result<Option<&'a str>> {
    let mut all = cx.core.request_fields(name);
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        _ => Err(Error::bad_request(format!("{name}: more than one"))),
    }
}

fn number<S>(cx: &Ctx<S>, name: &str) -> Result<u64> {
    let text = one(cx, name)?;
    let text = text.ok_or_else(|| Error::bad_request(format!("{name}: missing")))?;
    let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let value = text.parse().ok().filter(|_| digits);
    value.ok_or_else(|| Error::bad_request(format!("{name}: not a number of bytes")))
}

fn check_type<S>(cx: &Ctx<S>) -> Result<()> {
    let mime = one(cx, "content-type")?.and_then(|it| it.split(';').next());
    if mime.is_some_and(|it| it.trim_ascii().eq_ignore_ascii_case(OFFSET_STREAM)) {
        return Ok(());
    }
    Err(Error::new(415, format!("content-type: must be {OFFSET_STREAM}")))
}

/// Pairs of a key and a value in base64, separated by a space; commas between them.
fn parse_metadata(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    if text.is_empty() {
        return Ok(all);
    }
    for pair in text.split(',') {
        let (key, value) = pair.trim_ascii().split_once(' ').unwrap_or((pair.trim_ascii(), ""));
        if key.is_empty() || !key.bytes().all(|it| it.is_ascii_graphic()) {
            return Err("a key is empty, or not ASCII".to_owned());
        }
        if all.len() == TUS_METADATA_MAX {
            return Err(format!("more than {TUS_METADATA_MAX} pairs"));
        }
        if all.iter().any(|(known, _)| known == key) {
            return Err(format!("{key}: given more than once"));
        }
        let mut bytes = Vec::new();
        let whole = base64::decode(value.trim_ascii(), &mut bytes);
        whole.ok_or_else(|| format!("{key}: not base64"))?;
        let value = String::from_utf8(bytes).map_err(|_| format!("{key}: not UTF-8"))?;
        all.push((key.to_owned(), value));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata() {
        let pairs = |all: &[(&str, &str)]| {
            Ok(all.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
        };
        let many = (0..=TUS_METADATA_MAX).map(|it| format!("k{it}")).collect::<Vec<_>>();
        let (most, more) = (many[1..].join(","), many.join(","));
        for (text, want) in [
            ("", pairs(&[])),
            ("filename d29ybGQ=", pairs(&[("filename", "world")])),
            ("a Zg==,b,c ,d Zm9v", pairs(&[("a", "f"), ("b", ""), ("c", ""), ("d", "foo")])),
            ("a Zg==, b", pairs(&[("a", "f"), ("b", "")])),
            ("a w6Q=", pairs(&[("a", "\u{e4}")])),
            ("a /w==", Err("a: not UTF-8")),
            ("a Zg", Err("a: not base64")),
            ("a Zg== Zg==", Err("a: not base64")),
            ("a Zg==,a", Err("a: given more than once")),
            ("a,", Err("a key is empty, or not ASCII")),
            (",", Err("a key is empty, or not ASCII")),
            ("\u{e4} Zg==", Err("a key is empty, or not ASCII")),
            (&more, Err("more than 100 pairs")),
        ] {
            assert_eq!(parse_metadata(text), want.map_err(str::to_owned), "{text:?}");
        }
        assert_eq!(parse_metadata(&most).map(|it| it.len()), Ok(TUS_METADATA_MAX));
    }
}
