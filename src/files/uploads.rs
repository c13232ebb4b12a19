//! Uploads that are resumed, as they lie in a directory: `<id>` has the bytes, `<id>.info` what is
//! known of them. Who changes an upload holds its `.info` locked. All of it blocks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::TUS_INFO_BYTES_MAX;

/// What is known of an upload from its beginning on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// Bytes of the whole.
    pub(crate) length: u64,
    /// When it is removed if it is not whole, in seconds since 1970.
    pub(crate) expires: u64,
    /// It is whole, and the application has taken it.
    pub(crate) done: bool,
    /// As the client has stated it.
    pub(crate) metadata: String,
}

/// An upload that nobody else changes meanwhile.
pub(crate) struct Held {
    pub(crate) info: Info,
    /// The `.info`, locked.
    pub(crate) lock: File,
    /// None once the application has moved it.
    pub(crate) file: Option<File>,
    /// Bytes that are there.
    pub(crate) offset: u64,
}

/// Why an upload cannot be held.
#[derive(Debug)]
pub(crate) enum Lost {
    Missing,
    /// Somebody else holds it.
    Busy,
    Failed(io::Error),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Lost {
        match error.kind() {
            ErrorKind::NotFound => Lost::Missing,
            _ => Lost::Failed(error),
        }
    }
}

/// Whether a text of a client's is an id, and nothing else that a path could be made of.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn path_of(dir: &Path, id: &str) -> PathBuf {
    dir.join(id)
}

/// Makes an upload without bytes; its id is a secret of 128 bits.
pub(crate) fn create(dir: &Path, info: Info) -> io::Result<(String, Held)> {
    let mut random = [0; ID_CHARS / 2];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let id: String = random.iter().map(|it| format!("{it:02x}")).collect();
    // The info appears whole and locked, and before the bytes: none are left without it.
    let fresh = dir.join(format!("{id}{FRESH}"));
    let made = make(dir, &id, &fresh, &info).inspect_err(|_| {
        for path in [fresh, info_path(dir, &id), path_of(dir, &id)] {
            let _ = fs::remove_file(path);
        }
    });
    let (lock, file) = made?;
    Ok((id, Held { info, lock, file: Some(file), offset: 0 }))
}

fn make(dir: &Path, id: &str, fresh: &Path, info: &Info) -> io::Result<(File, File)> {
    let mut new = OpenOptions::new();
    new.read(true).write(true).create_new(true).mode(0o600);
    let lock = new.open(fresh)?;
    lock.lock()?;
    lock.write_all_at(info.text().as_bytes(), 0)?;
    fs::rename(fresh, info_path(dir, id))?;
    Ok((lock, new.open(path_of(dir, id))?))
}

/// Opens an upload to change it.
pub(crate) fn hold(dir: &Path, id: &str) -> Result<Held, Lost> {
    let lock = File::options().read(true).write(true).open(info_path(dir, id))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Lost::Busy),
        Err(TryLockError::Error(error)) => return Err(Lost::Failed(error)),
    }
    if lock.metadata()?.nlink() == 0 {
        return Err(Lost::Missing); // removed between the two
    }
    let info = Info::read(&lock)?;
    if info.done {
        return Ok(Held { offset: info.length, info, lock, file: None });
    }
    let file = File::options().read(true).write(true).open(path_of(dir, id))?;
    let offset = file.metadata()?.len();
    Ok(Held { info, lock, file: Some(file), offset })
}

/// How far an upload is, without holding it. None if that takes a look at it held: it is whole, or
/// its bytes are gone, and the application may be about to take it.
pub(crate) fn peek(dir: &Path, id: &str) -> Result<Option<(Info, u64)>, Lost> {
    let info = Info::read(&File::open(info_path(dir, id))?)?;
    if info.done {
        let offset = info.length;
        return Ok(Some((info, offset)));
    }
    match fs::metadata(path_of(dir, id)) {
        Ok(facts) if facts.len() < info.length => Ok(Some((info, facts.len()))),
        _ => Ok(None),
    }
}

/// Notes in a held upload that the application has taken it.
pub(crate) fn mark_done(lock: &File) -> io::Result<()> {
    // As long as what it replaces: a crash leaves one or the other.
    lock.write_all_at(DONE[1].as_bytes(), 0)
}

/// Removes an upload, which the caller holds.
pub(crate) fn remove(dir: &Path, id: &str) -> io::Result<()> {
    let there = |error: &io::Error| error.kind() != ErrorKind::NotFound;
    // The bytes first: an info without them is found again.
    for path in [path_of(dir, id), info_path(dir, id)] {
        fs::remove_file(path).or_else(|error| if there(&error) { Err(error) } else { Ok(()) })?;
    }
    Ok(())
}

/// Removes what has expired by `now`, in seconds since 1970: uploads that are not whole, what is
/// noted of those that the application has moved away, and what a crash has left for `age`.
pub(crate) fn sweep(dir: &Path, now: u64, age: Duration) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let old = || {
            let facts = entry.metadata().and_then(|facts| facts.modified());
            facts.is_ok_and(|then| then.elapsed().is_ok_and(|it| it > age))
        };
        if let Some(id) = name.strip_suffix(INFO).filter(|id| is_id(id)) {
            let gone = match hold(dir, id) {
                Ok(Held { info, .. }) if info.done => {
                    info.expires <= now && !path_of(dir, id).exists()
                }
                Ok(Held { info, .. }) => info.expires <= now,
                Err(Lost::Busy) => false,
                Err(_) => old(),
            };
            if gone {
                let _ = remove(dir, id);
            }
        } else if name.strip_suffix(FRESH).is_some_and(is_id) && old() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

const ID_CHARS: usize = 32;
const INFO: &str = ".info";
/// Of an info that is not whole yet.
const FRESH: &str = ".new";
/// What an info begins with: not done, done.
const DONE: [&str; 2] = ["{\"done\":false,", "{\"done\":true ,"];

fn info_path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}{INFO}"))
}

impl Info {
    /// JSON whose first field is overwritten in place once.
    fn text(&self) -> String {
        let Info { length, expires, done, metadata } = self;
        let rest = json!({ "length": length, "expires": expires, "metadata": metadata });
        format!("{}{}\n", DONE[usize::from(*done)], &rest.to_string()[1..])
    }

    fn read(file: &File) -> io::Result<Info> {
        let mut text = String::new();
        file.take(TUS_INFO_BYTES_MAX).read_to_string(&mut text)?;
        Info::parse(&text).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "not an info"))
    }

    fn parse(text: &str) -> Option<Info> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(Info {
            length: value["length"].as_u64()?,
            expires: value["expires"].as_u64()?,
            done: value["done"].as_bool()?,
            metadata: value["metadata"].as_str()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(expires: u64) -> Info {
        Info { length: 5, expires, done: false, metadata: "filename d29ybGQ=,x".to_owned() }
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("soloist-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    #[test]
    fn only_ids_are_ids() {
        let id = "0123456789abcdef0123456789abcdef";
        assert!(is_id(id));
        let upper = id.to_uppercase();
        for other in ["", ".", "..", &id[1..], &upper, "../3456789abcdef0123456789abcdef"] {
            assert!(!is_id(other), "{other}");
        }
        assert!(!is_id(&format!("{id}0")) && !is_id(&format!("{}\0", &id[1..])));
    }

    #[test]
    fn one_holds_it_and_it_is_done_once() {
        let dir = dir("uploads");
        let (id, held) = create(&dir, info(9)).expect("an upload");
        assert!(matches!(hold(&dir, &id), Err(Lost::Busy)));
        assert_eq!(peek(&dir, &id).expect("it"), Some((info(9), 0)));
        drop(held);
        fs::write(path_of(&dir, &id), "hello").expect("its bytes");
        assert_eq!(peek(&dir, &id).expect("it"), None, "whole, and not done");
        let held = hold(&dir, &id).expect("it");
        assert_eq!((held.offset, &held.info), (5, &info(9)));
        mark_done(&held.lock).expect("noted");
        drop(held);
        let done = Info { done: true, ..info(9) };
        assert_eq!(hold(&dir, &id).expect("it").info, done);
        assert_eq!(peek(&dir, &id).expect("it"), Some((done, 5)));
        remove(&dir, &id).expect("removed");
        assert!(matches!(hold(&dir, &id), Err(Lost::Missing)));
        assert!(matches!(peek(&dir, &id), Err(Lost::Missing)));
        fs::remove_dir(&dir).expect("nothing is left");
    }

    #[test]
    fn what_is_swept() {
        let dir = dir("uploads-sweep");
        let day = Duration::from_secs(86_400);
        let (early, late, busy, whole, moved) = (10, 12, 10, 10, 10);
        let ids = [early, late, busy, whole, moved].map(|it| create(&dir, info(it)).expect("one"));
        for (at, (id, held)) in ids.iter().enumerate().skip(3) {
            mark_done(&held.lock).expect("noted");
            if at == 4 {
                fs::rename(path_of(&dir, id), dir.join("moved")).expect("moved");
            }
        }
        let mut names: Vec<String> = ids.iter().map(|(id, _)| id.clone()).collect();
        let kept = ids.into_iter().map(|(_, held)| held).nth(2); // the others go
        fs::write(dir.join("other.info"), "").expect("a file of another's");
        let broken = dir.join(format!("{}.info", "0".repeat(32)));
        fs::write(&broken, "{").expect("what a crash left");
        sweep(&dir, 11, day);
        let is_there = |id: &String| info_path(&dir, id).exists();
        assert_eq!(
            names.iter().map(is_there).collect::<Vec<_>>(),
            [false, true, true, true, false]
        );
        assert!(path_of(&dir, &names.remove(3)).exists() && broken.exists());
        assert!(dir.join("moved").exists() && dir.join("other.info").exists());
        drop(kept);
        sweep(&dir, 13, Duration::ZERO);
        assert!(!broken.exists() && !is_there(&names[1]) && !is_there(&names[2]));
        fs::remove_dir_all(&dir).expect("the directory");
    }
}
