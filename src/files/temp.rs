//! Files without a name until they are whole.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::append::{Appender, failed};
use crate::error::{Error, Result};
use crate::ring::file::{How, Op, link, opened};
use crate::shard::{Local, Shard};

/// A file that nobody else sees, written by the shard's ring, gone when it is dropped: by the end
/// of its request, by an error, or by a crash. [`persist`](TempFile::persist) gives it a name once
/// it is whole.
///
/// It has no name at all where the file system can do that (`O_TMPFILE`); elsewhere a hidden one,
/// locked while it is in use, which the next start takes away.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// async fn upload(cx: &Ctx<()>) -> Result<Reply> {
///     let mut file = cx.shard().temp_file("target").await?;
///     let bytes = file.take(cx).await?; // the body, however long: 512 KiB of memory
///     file.persist("target/upload-of-a-doc-test").await?;
///     cx.status(201).json(&bytes)
/// }
/// # let app = App::new(()).put("/", upload);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.put("/").body("hello").pieces(2).await.expect(201).text("5");
/// # assert_eq!(std::fs::read("target/upload-of-a-doc-test").expect("it"), b"hello");
/// # std::fs::remove_file("target/upload-of-a-doc-test").expect("it");
/// # });
/// ```
pub struct TempFile {
    local: Rc<Local>,
    pub(crate) out: Appender,
    /// Its name, where it must have one.
    named: Option<PathBuf>,
}

impl TempFile {
    pub(crate) async fn new(local: &Rc<Local>, dir: &Path) -> Result<TempFile> {
        sweep(local, dir).await;
        let path = CString::new(dir.as_os_str().as_bytes());
        let path = path.map_err(|_| Error::from("a directory's name has no NUL"))?;
        let op = Op::Open { dir: None, path, how: Box::new(How::unnamed()) };
        let (file, named) = match local.operations.start(op).await.0 {
            Ok(result) => (opened(result), None),
            // The file system, or the kernel, has no files without a name.
            Err(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT) => named(local, dir).await?,
            Err(error) => return Err(failed(&dir.display().to_string(), error)),
        };
        Ok(TempFile { local: local.clone(), out: Appender::new(local, file, 0), named })
    }

    /// Bytes written so far.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn example(shard: &Shard) -> Result<()> {
    /// let mut file = shard.temp_file("target").await?;
    /// file.write(b"hello").await?;
    /// assert_eq!((file.len(), file.is_empty()), (5, false));
    /// # Ok(())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     example(&client.shard()).await.expect("a file");
    /// # });
    /// ```
    pub fn len(&self) -> u64 {
        self.out.len()
    }

    /// Whether nothing is written yet.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn example(shard: &Shard) -> Result<()> {
    /// let file = shard.temp_file("target").await?;
    /// assert!(file.is_empty());
    /// # Ok(())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     example(&client.shard()).await.expect("a file");
    /// # });
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes. They go to the disk 256 KiB at a time, while the next ones are gathered.
    ///
    /// # Errors
    /// 507 when the disk is full, 500 when it fails: maybe of bytes that were written before.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn example(shard: &Shard) -> Result<()> {
    /// let mut file = shard.temp_file("target").await?;
    /// for line in 0..1_000 {
    ///     file.write(format!("{line}\n").as_bytes()).await?;
    /// }
    /// # assert_eq!(file.len(), 3_890);
    /// # Ok(())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     example(&client.shard()).await.expect("a file");
    /// # });
    /// ```
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write(bytes).await
    }

    /// Waits until everything is written, and the disk has it.
    ///
    /// # Errors
    /// As of [`write`](TempFile::write).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn example(shard: &Shard) -> Result<()> {
    /// let mut file = shard.temp_file("target").await?;
    /// file.write(b"an order").await?;
    /// file.sync().await?; // now a power cut takes nothing
    /// file.persist("target/sync-of-a-doc-test").await?;
    /// # std::fs::remove_file("target/sync-of-a-doc-test")?;
    /// # Ok(())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     example(&client.shard()).await.expect("a file");
    /// # });
    /// ```
    pub async fn sync(&mut self) -> Result<()> {
        self.out.sync().await
    }

    /// Gives it a name once all of it is written, in place of what had that name: whoever opens the
    /// name finds the old file or the whole new one. It must lie on the same file system.
    ///
    /// # Errors
    /// As of [`write`](TempFile::write), and 500 if the name cannot be given. It is gone then.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn example(shard: &Shard) -> Result<()> {
    /// let mut file = shard.temp_file("target").await?;
    /// file.write(b"version 2").await?;
    /// file.persist("target/persist-of-temp-doc-test").await?; // at once, or not at all
    /// # std::fs::remove_file("target/persist-of-temp-doc-test")?;
    /// # Ok(())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     example(&client.shard()).await.expect("a file");
    /// # });
    /// ```
    pub async fn persist(self, path: impl Into<PathBuf>) -> Result<()> {
        self.name(path.into(), true).await
    }

    /// The same, but 409 if there is something of that name.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn example(shard: &Shard) -> Result<()> {
    /// let file = shard.temp_file("target").await?;
    /// let taken = file.persist_new("src/lib.rs").await.expect_err("it is there");
    /// assert_eq!(taken.status(), 409);
    /// # Ok(())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     example(&client.shard()).await.expect("a file");
    /// # });
    /// ```
    pub async fn persist_new(self, path: impl Into<PathBuf>) -> Result<()> {
        self.name(path.into(), false).await
    }

    async fn name(mut self, path: PathBuf, replace: bool) -> Result<()> {
        self.out.flush().await?;
        let (file, named) = (self.out.file().try_clone()?, self.named.clone());
        let what = path.display().to_string();
        let give = move || match (named, replace) {
            (Some(named), true) => fs::rename(named, path),
            (Some(named), false) => fs::hard_link(named, path),
            (None, false) => link(&file, &path),
            (None, true) => {
                let interim = interim(path.parent().unwrap_or(Path::new("")));
                link(&file, &interim)?;
                // Nobody sweeps it away: the file is locked.
                fs::rename(&interim, path).inspect_err(|_| drop(fs::remove_file(&interim)))
            }
        };
        match Shard(self.local.clone()).blocking(give).await? {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::new(409, "there is a file of that name"))
            }
            Err(error) => Err(failed(&what, error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(named) = self.named.take() {
            // After a rename it is another's or nobody's, and this finds nothing.
            let _ = fs::remove_file(named);
        }
    }
}

impl std::fmt::Debug for TempFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TempFile").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Shard {
    /// A temporary file on the file system of that directory, which must be there.
    ///
    /// # Errors
    /// 507 when the disk is full, 500 when nothing can be written there.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn example(shard: &Shard) -> Result<()> {
    /// let mut file = shard.temp_file(std::env::temp_dir()).await?;
    /// file.write(b"scratch").await?;
    /// drop(file); // it leaves nothing
    /// # Ok(())
    /// # }
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// #     example(&client.shard()).await.expect("a file");
    /// # });
    /// ```
    pub async fn temp_file(&self, dir: impl AsRef<Path>) -> Result<TempFile> {
        TempFile::new(&self.0, dir.as_ref()).await
    }
}

/// What names of ours begin and end with.
const PREFIX: &str = ".soloist-";
const SUFFIX: &str = ".tmp";

/// A name that nobody has, for a short time.
fn interim(dir: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    dir.join(format!("{PREFIX}{process}-{number}{SUFFIX}"))
}

/// A file with a hidden name, locked.
async fn named(local: &Rc<Local>, dir: &Path) -> Result<(File, Option<PathBuf>)> {
    let path = interim(dir);
    let shard = Shard(local.clone());
    let made = shard.blocking(move || {
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.lock()?;
        Ok::<_, io::Error>((file, Some(path)))
    });
    let error = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    made.await?.map_err(|it| failed(&dir.display().to_string(), error(it)))
}

/// Takes away what an earlier process has left in a directory, once a process: files of ours that
/// nobody holds locked.
async fn sweep(local: &Rc<Local>, dir: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let fresh = SWEPT.lock().is_ok_and(|mut it| !it.contains(dir) && it.insert(dir.to_owned()));
    if fresh {
        let dir = dir.to_owned();
        let _ = Shard(local.clone()).blocking(move || sweep_now(&dir)).await;
    }
}

fn sweep_now(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|it| it.starts_with(PREFIX) && it.ends_with(SUFFIX));
        if ours && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_swept_away() {
        let dir = std::env::temp_dir().join(format!("soloist-sweep-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let (held, left) = (interim(&dir), interim(&dir));
        let file = File::create_new(&held).expect("a file");
        file.lock().expect("a lock");
        for path in [&left, &dir.join("a.tmp"), &dir.join(".soloist-x")] {
            fs::write(path, "").expect("a file");
        }
        sweep_now(&dir);
        let mut names: Vec<_> =
            fs::read_dir(&dir).expect("it").map(|it| it.expect("one").path()).collect();
        names.sort();
        let mut want = vec![held, dir.join("a.tmp"), dir.join(".soloist-x")];
        want.sort();
        assert_eq!(names, want);
        fs::remove_dir_all(&dir).expect("the directory");
    }
}
