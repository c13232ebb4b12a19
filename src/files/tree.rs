//! A directory that is served from: names to open files, none of them outside of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::open::Open;
use crate::error::{Error, Result};
use crate::limits::{FILES_FRESH_MS, FILES_OPEN_MAX};
use crate::ring::file::{How, Op, open_known, opened};
use crate::shard::Local;

/// A directory and the files of it that are open.
///
/// The kernel keeps paths inside (openat2, RESOLVE_BENEATH): neither `..` nor a symlink leads out.
pub(crate) struct Tree {
    root: Rc<File>,
    how: How,
    coded: bool,
    entries: RefCell<HashMap<Box<str>, Entry>>,
}

/// What a path leads to.
pub(crate) enum Found {
    File(Rc<Open>),
    Directory(Rc<File>),
}

struct Entry {
    open: Rc<Open>,
    checked_ms: u64,
}

/// Codings of files compressed beforehand, the best first, with their endings.
const CODINGS: [(&str, &str); 3] = [("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz")];

impl Tree {
    /// A directory, and how what lies in it is opened. With `coded` it is looked for files
    /// compressed beforehand.
    pub(crate) fn new(dir: &Path, how: How, coded: bool) -> io::Result<Tree> {
        let root = File::open(dir)?;
        if !root.metadata()?.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        Ok(Tree { root: Rc::new(root), how, coded, entries: RefCell::default() })
    }

    /// The file that is known under a path, without asking anybody.
    #[inline]
    pub(crate) fn known(&self, local: &Local, path: &str) -> Option<Rc<Open>> {
        let entries = self.entries.borrow();
        let entry = entries.get(path)?;
        let fresh = local.clock.now_ms() < entry.checked_ms + FILES_FRESH_MS;
        fresh.then(|| entry.open.clone())
    }

    /// What a path leads to; none if it leads nowhere. An error has a status.
    pub(crate) async fn find(&self, local: &Local, path: &str) -> Result<Option<Found>> {
        if let Some(open) = self.known(local, path) {
            return Ok(Some(Found::File(open)));
        }
        let Some((file, facts)) = self.open(local, path).await? else {
            self.entries.borrow_mut().remove(path);
            return Ok(None);
        };
        if facts.is_dir() {
            return Ok(Some(Found::Directory(Rc::new(file))));
        }
        let old = self.entries.borrow().get(path).map(|it| it.open.clone());
        let mut coded = Vec::new();
        if self.coded {
            for (coding, ending) in CODINGS {
                let name = format!("{path}{ending}");
                if let Some((file, facts)) = self.open(local, &name).await?
                    && facts.is_file()
                {
                    let known = old.iter().flat_map(|it| &it.coded);
                    let known = known.map(|(_, open)| open).find(|open| open.is_same(&facts));
                    let open = match known {
                        Some(open) => open.clone(),
                        None => Rc::new(Open::new(file, &facts, path, coding)?),
                    };
                    coded.push((coding, open));
                }
            }
        }
        let same_coded = |old: &Open| {
            old.coded.len() == coded.len()
                && old.coded.iter().zip(&coded).all(|(a, b)| Rc::ptr_eq(&a.1, &b.1))
        };
        let open = match old {
            Some(old) if old.is_same(&facts) && same_coded(&old) => old,
            _ => {
                let mut open = Open::new(file, &facts, path, "")?;
                open.coded = coded;
                Rc::new(open)
            }
        };
        self.keep(path, open.clone(), local.clock.now_ms());
        Ok(Some(Found::File(open)))
    }

    fn keep(&self, path: &str, open: Rc<Open>, now_ms: u64) {
        let mut entries = self.entries.borrow_mut();
        if let Some(entry) = entries.get_mut(path) {
            *entry = Entry { open, checked_ms: now_ms };
            return;
        }
        if entries.len() >= FILES_OPEN_MAX {
            entries.retain(|_, it| it.checked_ms + FILES_FRESH_MS > now_ms);
        }
        if entries.len() >= FILES_OPEN_MAX {
            entries.clear();
        }
        entries.insert(path.into(), Entry { open, checked_ms: now_ms });
    }

    /// Opens a path: at once where the kernel knows the way, else on the ring. None if there is
    /// nothing that may be served.
    async fn open(&self, local: &Local, path: &str) -> Result<Option<(File, Metadata)>> {
        let path = if path.is_empty() { "." } else { path };
        let Ok(name) = CString::new(path) else { return Ok(None) };
        let opened = match open_known(&self.root, &name, &self.how) {
            Ok(file) => Ok(file),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                let (dir, how) = (Some(self.root.clone()), Box::new(self.how));
                let op = Op::Open { dir, path: name, how };
                let (result, _) = local.operations.start(op).await;
                result.map(opened).map_err(io::Error::from_raw_os_error)
            }
            Err(error) => Err(error),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) => return self.refused(path, error).map(|()| None),
        };
        let facts = file.metadata().map_err(|error| Error::new(500, "no file").because(error))?;
        // Devices, pipes and sockets have no end, and ask for more than to be read.
        let fit = facts.is_file() || facts.is_dir();
        Ok(fit.then_some((file, facts)))
    }

    /// What an error of opening means: that there is nothing, or that something is wrong.
    fn refused(&self, path: &str, error: io::Error) -> Result<()> {
        match error.raw_os_error() {
            Some(
                libc::ENOENT
                | libc::ENOTDIR
                | libc::ENAMETOOLONG
                | libc::ELOOP
                | libc::EXDEV
                | libc::ENXIO
                | libc::ENODEV
                | libc::EINVAL,
            ) => Ok(()),
            Some(libc::EACCES | libc::EPERM) => Err(Error::forbidden()),
            Some(libc::EMFILE | libc::ENFILE) => {
                self.entries.borrow_mut().clear(); // those that are kept for others
                tracing::error!("no descriptor for a file: {error}");
                Err(Error::new(503, "too many files are open").set("retry-after", "1"))
            }
            _ => {
                tracing::error!(path, "a file cannot be opened: {error}");
                Err(Error::new(500, "the file cannot be read").because(error))
            }
        }
    }
}

/// A path below a directory as a client may name it: no step up or on the spot, nothing hidden
/// unless `hidden` may be seen, no byte that a file system or a shell reads as something else.
pub(crate) fn is_safe(path: &str, hidden: bool) -> bool {
    let is_odd = |byte: u8| byte < 0x20 || byte == 0x7f || byte == b'\\';
    let fits = |part: &str| !matches!(part, "" | "." | "..") && (hidden || !part.starts_with('.'));
    !path.bytes().any(is_odd) && (path.is_empty() || path.split('/').all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_clients() {
        for (path, hidden, safe) in [
            ("", false, true),
            ("a", false, true),
            ("a/b.txt", false, true),
            ("a b/\u{e9}", false, true),
            ("a..b/c.", false, true),
            ("...", true, true),
            ("..", true, false),
            ("../a", true, false),
            ("a/../b", true, false),
            ("a/..", true, false),
            (".", true, false),
            ("a/./b", true, false),
            ("/a", true, false),
            ("a//b", true, false),
            ("a/", true, false),
            ("a\\..\\b", true, false),
            ("a\0b", true, false),
            ("a\nb", true, false),
            ("a\x7f", true, false),
            (".env", false, false),
            (".env", true, true),
            ("a/.git/config", false, false),
        ] {
            assert_eq!(is_safe(path, hidden), safe, "{path:?} {hidden}");
        }
    }
}
