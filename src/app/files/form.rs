//! Forms that are read whole: small parts in memory, the rest in temporary files.

use std::path::PathBuf;

use crate::app::ctx::Ctx;
use crate::app::multipart::FormPart;
use crate::error::Result;
use crate::files::temp::TempFile;
use crate::limits::{FORM_FILE_BYTES_MAX, FORM_MEMORY_BYTES_MAX, FORM_SPILL_BYTES_MIN};
use crate::shard::Shard;

/// How a form is read whole: for [`Ctx::form_files_with`].
///
/// ```
/// use soloist::FormOptions;
///
/// let photos = FormOptions::new().file_bytes_max(20 << 20).temp_dir("/var/tmp");
/// ```
#[derive(Clone, Debug)]
pub struct FormOptions {
    memory_bytes_max: u64,
    file_bytes_max: u64,
    temp_dir: PathBuf,
}

impl FormOptions {
    /// 32 MiB of memory for a request, files of any size that the body may have, temporary ones
    /// where the system has them.
    ///
    /// ```
    /// use soloist::FormOptions;
    ///
    /// let options = FormOptions::new(); // as `cx.form_files()` has them
    /// ```
    pub fn new() -> FormOptions {
        FormOptions {
            memory_bytes_max: FORM_MEMORY_BYTES_MAX,
            file_bytes_max: FORM_FILE_BYTES_MAX,
            temp_dir: std::env::temp_dir(),
        }
    }

    /// Bytes of all parts of a request that are kept in memory. A file that does not fit goes to a
    /// temporary file; a field that does not is refused with 413.
    ///
    /// ```
    /// use soloist::FormOptions;
    ///
    /// let frugal = FormOptions::new().memory_bytes_max(1 << 20);
    /// ```
    pub fn memory_bytes_max(mut self, bytes: u64) -> FormOptions {
        self.memory_bytes_max = bytes;
        self
    }

    /// Bytes of one file; more: 413.
    ///
    /// ```
    /// use soloist::FormOptions;
    ///
    /// let avatars = FormOptions::new().file_bytes_max(256 * 1024);
    /// ```
    pub fn file_bytes_max(mut self, bytes: u64) -> FormOptions {
        self.file_bytes_max = bytes;
        self
    }

    /// Where temporary files lie. On the file system of what they become,
    /// [`FormFile::persist`] costs no copy.
    ///
    /// ```
    /// use soloist::FormOptions;
    ///
    /// let uploads = FormOptions::new().temp_dir("/srv/uploads"); // where they will stay
    /// ```
    pub fn temp_dir(mut self, dir: impl Into<PathBuf>) -> FormOptions {
        self.temp_dir = dir.into();
        self
    }
}

impl Default for FormOptions {
    fn default() -> FormOptions {
        FormOptions::new()
    }
}

/// A form that was read whole: see [`Ctx::form_files`]. What it holds in files goes with it.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn read(cx: &Ctx<()>) -> Result<Reply> {
///     let form = cx.form_files().await?;
///     let title = form.text("title").unwrap_or("untitled");
///     cx.text(format!("{title}: {:?}", form.file("photo").map(|it| it.len())))
/// }
/// # let app = App::new(()).post("/", read);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
/// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
/// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
/// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
/// # call.body(body).await.text("Sea: Some(3)");
/// # });
/// ```
#[derive(Debug)]
pub struct FormFiles {
    fields: Vec<(String, String)>,
    files: Vec<FormFile>,
}

/// A file of a form, in memory or on disk.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn read(cx: &Ctx<()>) -> Result<Reply> {
///     let form = cx.form_files().await?;
///     let photo = form.file("photo").ok_or_else(|| Error::bad_request("photo: missing"))?;
///     cx.text(format!("{} ({:?})", photo.file_name(), photo.content_type()))
/// }
/// # let app = App::new(()).post("/", read);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
/// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
/// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
/// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
/// # call.body(body).await.text(r#"a.png (Some("image/png"))"#);
/// # });
/// ```
#[derive(Debug)]
pub struct FormFile {
    name: String,
    file_name: String,
    content_type: Option<String>,
    data: Data,
    shard: ShardOf,
    temp_dir: PathBuf,
}

#[derive(Debug)]
enum Data {
    Memory(Vec<u8>),
    Disk(Box<TempFile>),
}

/// A handle that says nothing of itself.
struct ShardOf(Shard);

impl std::fmt::Debug for ShardOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {}", self.0.id())
    }
}

/// Forms with files, whole.
impl<S> Ctx<S> {
    /// Reads a multipart form whole: fields as text, files in memory up to 32 MiB together, beyond
    /// that in temporary files, which are gone when the form is dropped, however the request ends.
    ///
    /// For files of which nothing should be kept, [`multipart`](Ctx::multipart) hands out the parts
    /// as they come.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn photo(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let title = form.text("title").unwrap_or("untitled").to_owned();
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo: missing"))?;
    ///     let bytes = photo.len();
    ///     photo.persist("target/photo-of-a-doc-test").await?;
    ///     cx.text(format!("{title}: {bytes} bytes"))
    /// }
    /// # let app = App::new(()).post("/", photo);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\nSea\r\n\
    /// #     --x\r\ncontent-disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\n\
    /// #     content-type: image/png\r\n\r\n\x7fPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.expect(200).text("Sea: 4 bytes");
    /// # std::fs::remove_file("target/photo-of-a-doc-test").expect("a file");
    /// # });
    /// ```
    ///
    /// # Errors
    /// Those of [`multipart`](Ctx::multipart); 413 for fields that do not fit into memory; 507 when
    /// the disk is full.
    pub async fn form_files(&self) -> Result<FormFiles> {
        self.form_files_with(&FormOptions::new()).await
    }

    /// The same, in the way that is said.
    ///
    /// # Errors
    /// As of [`form_files`](Ctx::form_files); 413 for a file that is too large.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let options = soloist::FormOptions::new().file_bytes_max(2); // a small one, to see it
    ///     let form = cx.form_files_with(&options).await?;
    ///     cx.json(&form.into_files().len())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("photo: more than 2 bytes");
    /// # });
    /// ```
    pub async fn form_files_with(&self, options: &FormOptions) -> Result<FormFiles> {
        let mut whole = FormFiles { fields: Vec::new(), files: Vec::new() };
        let mut left = options.memory_bytes_max;
        let mut form = self.multipart()?;
        while let Some(mut part) = form.next().await? {
            let name = part.name().to_owned();
            let Some(file_name) = part.file_name().map(str::to_owned) else {
                let text = part.limit(left).text().await?;
                left -= text.len() as u64;
                whole.fields.push((name, text));
                continue;
            };
            let content_type = part.content_type().map(str::to_owned);
            part.limit(options.file_bytes_max);
            let data = self.hold(part, left, &options.temp_dir).await?;
            if let Data::Memory(bytes) = &data {
                left -= bytes.len() as u64;
            }
            let (shard, temp_dir) = (ShardOf(self.shard()), options.temp_dir.clone());
            whole.files.push(FormFile { name, file_name, content_type, data, shard, temp_dir });
        }
        Ok(whole)
    }

    /// A part in memory, if it is small and fits; else on disk.
    async fn hold(&self, mut part: FormPart<'_>, left: u64, dir: &PathBuf) -> Result<Data> {
        let bytes_max = left.min(FORM_SPILL_BYTES_MIN.max(left / 4));
        let mut bytes = Vec::new();
        while let Some(chunk) = part.next_chunk().await? {
            if (bytes.len() + chunk.len()) as u64 <= bytes_max {
                bytes.extend_from_slice(&chunk);
                continue;
            }
            let mut file = self.shard().temp_file(dir).await?;
            file.write(&bytes).await?;
            file.write(&chunk).await?;
            drop((bytes, chunk));
            file.take(part).await?;
            return Ok(Data::Disk(Box::new(file)));
        }
        Ok(Data::Memory(bytes))
    }
}

impl FormFiles {
    /// The first field of that name that is no file.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let title = form.text("title").ok_or_else(|| Error::bad_request("title: missing"))?;
    ///     cx.text(title)
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("Sea");
    /// # });
    /// ```
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// Fields that are no files, in order, with their names.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     cx.json(&form.fields().collect::<Vec<_>>())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text(r#"[["title","Sea"]]"#);
    /// # });
    /// ```
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first file of that name.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     cx.json(&form.file("photo").is_some())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("true");
    /// # });
    /// ```
    pub fn file(&self, name: &str) -> Option<&FormFile> {
        self.files.iter().find(|it| it.name == name)
    }

    /// The same, taken out of the form.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let photo = cx.form_files().await?.into_file("photo");
    ///     let photo = photo.ok_or_else(|| Error::bad_request("photo: missing"))?;
    ///     photo.persist("target/into-file-of-a-doc-test").await?;
    /// #   std::fs::remove_file("target/into-file-of-a-doc-test")?;
    ///     cx.text("stored")
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("stored");
    /// # });
    /// ```
    pub fn into_file(self, name: &str) -> Option<FormFile> {
        self.files.into_iter().find(|it| it.name == name)
    }

    /// All files, in order.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let files = cx.form_files().await?.into_files();
    ///     cx.json(&files.iter().map(|it| it.len()).sum::<u64>())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("3");
    /// # });
    /// ```
    pub fn into_files(self) -> Vec<FormFile> {
        self.files
    }
}

impl FormFile {
    /// The name of the field.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     cx.text(photo.name())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("photo");
    /// # });
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that the file has with the client: see
    /// [`FormPart::file_name`](crate::FormPart::file_name).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     cx.text(photo.file_name())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("a.png");
    /// # });
    /// ```
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The media type that the client says it is.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     cx.text(photo.content_type().unwrap_or("unknown"))
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("image/png");
    /// # });
    /// ```
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Its bytes in all.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     cx.json(&photo.len())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("3");
    /// # });
    /// ```
    pub fn len(&self) -> u64 {
        match &self.data {
            Data::Memory(bytes) => bytes.len() as u64,
            Data::Disk(file) => file.len(),
        }
    }

    /// Whether there are none.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     cx.json(&photo.is_empty()) // no file was chosen, or one without bytes
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("false");
    /// # });
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, if they are in memory.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     cx.json(&photo.bytes().is_some_and(|bytes| bytes.starts_with(b"PNG")))
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("true");
    /// # });
    /// ```
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Memory(bytes) => Some(bytes),
            Data::Disk(_) => None,
        }
    }

    /// Stores it under a path, whole or not at all, in place of what was there: as of
    /// [`TempFile::persist`].
    ///
    /// # Errors
    /// As of [`TempFile::persist`]: 507 when the disk is full, 500 if it lies on another file
    /// system than the [temporary files](FormOptions::temp_dir).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     photo.persist("target/persist-of-a-doc-test").await?;
    /// #   std::fs::remove_file("target/persist-of-a-doc-test")?;
    ///     cx.text("stored")
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("stored");
    /// # });
    /// ```
    pub async fn persist(self, path: impl Into<PathBuf>) -> Result<()> {
        let path = path.into();
        match self.data {
            Data::Disk(file) => file.persist(path).await,
            Data::Memory(bytes) => {
                // Beside its place: it is written once, wherever that is.
                let dir = path.parent().filter(|it| !it.as_os_str().is_empty());
                let dir = dir.unwrap_or(std::path::Path::new(".")).to_owned();
                let mut file = self.shard.0.temp_file(&dir).await?;
                file.write(&bytes).await?;
                file.persist(path).await
            }
        }
    }

    /// Its bytes as a temporary file.
    ///
    /// # Errors
    /// As of [`TempFile::write`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn read(cx: &Ctx<()>) -> Result<Reply> {
    ///     let form = cx.form_files().await?;
    ///     let photo = form.into_file("photo").ok_or_else(|| Error::bad_request("photo"))?;
    ///     let mut file = photo.into_temp().await?;
    ///     file.write(b" and more").await?;
    ///     cx.json(&file.len())
    /// }
    /// # let app = App::new(()).post("/", read);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # let body = "--x\r\ncontent-disposition: form-data; name=title\r\n\r\nSea\r\n--x\r\n\
    /// #     content-disposition: form-data; name=photo; filename=a.png\r\n\
    /// #     content-type: image/png\r\n\r\nPNG\r\n--x--\r\n";
    /// # let call = client.post("/").header("content-type", "multipart/form-data; boundary=x");
    /// # call.body(body).await.text("12");
    /// # });
    /// ```
    pub async fn into_temp(self) -> Result<TempFile> {
        match self.data {
            Data::Disk(file) => Ok(*file),
            Data::Memory(bytes) => {
                let mut file = self.shard.0.temp_file(&self.temp_dir).await?;
                file.write(&bytes).await?;
                Ok(file)
            }
        }
    }
}
