//! An open file and what a shard knows of it.

use std::cell::Cell;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

use httpdate::HttpDate;

use crate::base::map::Map;
use crate::http::range::Span;
use crate::limits::{
    FILE_MAPPED_BYTES_MAX, FILE_PROBE_BYTES, FILE_PROBED_BYTES_MAX, FILE_RESIDENT_MS,
    FILE_SMALL_BYTES_MAX,
};
use crate::ring::file::is_resident;

/// A regular file, open to be read. What is stated of it is as of its opening.
pub(crate) struct Open {
    pub(crate) file: Rc<File>,
    pub(crate) len: u64,
    pub(crate) modified: SystemTime,
    pub(crate) tag: Box<str>,
    pub(crate) mime: &'static str,
    /// Field lines that go with every answer: its tag, its date, that it has ranges.
    pub(crate) fields: Box<[u8]>,
    /// All of it, if it is small.
    pub(crate) map: Option<Rc<Map>>,
    /// The same, compressed beforehand, the best first.
    pub(crate) coded: Vec<(&'static str, Rc<Open>)>,
    facts: Facts,
    /// When its pages were last found in memory, by the shard's clock.
    resident_ms: Cell<Option<u64>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Facts {
    fn of(facts: &Metadata) -> Facts {
        Facts {
            device: facts.dev(),
            inode: facts.ino(),
            len: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        }
    }
}

impl Open {
    /// What is known of a regular file; `name` tells its type, and `coding` how it is compressed.
    pub(crate) fn new(file: File, facts: &Metadata, name: &str, coding: &str) -> io::Result<Open> {
        let (len, modified) = (facts.len(), facts.modified()?);
        let facts = Facts::of(facts);
        let (secs, nanos) = facts.modified;
        let dash = if coding.is_empty() { "" } else { "-" };
        let tag = format!("\"{secs:x}.{nanos:x}-{len:x}{dash}{coding}\"");
        let date = HttpDate::from(modified);
        let fields = format!("etag: {tag}\r\nlast-modified: {date}\r\naccept-ranges: bytes\r\n");
        let map = match len {
            1..=FILE_MAPPED_BYTES_MAX => Map::new(&file, len as usize).ok().map(Rc::new),
            _ => None,
        };
        Ok(Open {
            file: Rc::new(file),
            len,
            modified,
            tag: tag.into(),
            mime: mime(name),
            fields: fields.into_bytes().into(),
            map,
            coded: Vec::new(),
            facts,
            resident_ms: Cell::new(None),
        })
    }

    /// Whether it is as it was when it was opened.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| self.is_same(&now))
    }

    /// Whether these facts are its own.
    pub(crate) fn is_same(&self, facts: &Metadata) -> bool {
        Facts::of(facts) == self.facts
    }

    /// Whether these bytes of it are in memory: else whoever moves them waits for the disk. A page
    /// in each stretch is looked for, of a small file in all of it, and then not for a while.
    pub(crate) fn is_resident(&self, span: Span, now_ms: u64) -> bool {
        let small = self.len <= FILE_PROBED_BYTES_MAX;
        let found_ms = self.resident_ms.get().filter(|_| small);
        if found_ms.is_some_and(|at_ms| now_ms < at_ms + FILE_RESIDENT_MS) {
            return true;
        }
        let span = if small { Span { from: 0, to: self.len } } else { span };
        let last = span.to - 1;
        let step = match () {
            () if self.len <= FILE_SMALL_BYTES_MAX => 4096,
            () if self.map.is_some() => FILE_PROBE_BYTES / 8,
            () => FILE_PROBE_BYTES,
        };
        let mut places = (span.from..span.to).step_by(step as usize).chain([last]);
        // Where the file system cannot tell, the mapping can.
        let mapped = || self.map.as_ref().is_some_and(|it| it.is_resident());
        let found = places.all(|at| is_resident(&self.file, at).unwrap_or_else(|_| mapped()));
        if small && found {
            self.resident_ms.set(Some(now_ms));
        }
        found
    }
}

/// The media type by a name's ending; text is UTF-8.
fn mime(name: &str) -> &'static str {
    let found = mime_guess::from_path(Path::new(name)).first_raw();
    match found.unwrap_or("application/octet-stream") {
        "text/html" => "text/html; charset=utf-8",
        "text/css" => "text/css; charset=utf-8",
        "text/plain" => "text/plain; charset=utf-8",
        "text/javascript" | "application/javascript" => "text/javascript; charset=utf-8",
        "text/markdown" => "text/markdown; charset=utf-8",
        "text/csv" => "text/csv; charset=utf-8",
        "text/xml" => "text/xml; charset=utf-8",
        other => other,
    }
}
