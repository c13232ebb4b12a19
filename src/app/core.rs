//! One request and its answer, behind every `Ctx` of it: reused from request to request, and kept
//! by the shard while a connection idles.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use super::body::Reading;
use super::on_head::OnHead;
use super::reply::BodyFilter;
use super::router::Params;
use super::routes::Urls;
use super::upgrade::Upgrade;
use crate::base::arena::Arena;
use crate::base::wire::Wire;
use crate::error::Error;
#[cfg(feature = "files")]
use crate::files::body::FileBody;
use crate::http::date::{DATE_BYTES, DateCache};
use crate::http::head::Head;
use crate::http::net::Net;
use crate::limits::{ARENA_BYTES_FIRST, ARENA_BYTES_KEEP_MAX, BUFFER_BYTES_KEEP_MAX};
use crate::shard::Local;

/// Everything about one request. Never changes threads.
pub(crate) struct Core {
    pub(crate) local: Rc<Local>,
    pub(crate) whole: Rc<Whole>,
    pub(crate) arena: Arena,
    /// Bytes as they came; the head begins at `base`. Nobody changes it while a request runs, so
    /// what borrows from it stays valid.
    pub(crate) buf: Vec<u8>,
    pub(crate) base: usize,
    pub(crate) head: Head,
    pub(crate) params: Params,
    pub(crate) route: Option<Rc<RouteInfo>>,
    /// The value of Allow, for a 405 or the answer to OPTIONS.
    pub(crate) allow: Option<Box<str>>,
    pub(crate) wire: Option<Rc<Wire>>,
    pub(crate) received_ns: u64,
    pub(crate) reading: Reading,
    /// A body that did not come with its head.
    pub(crate) late_body: OnceCell<Vec<u8>>,
    /// A middleware's bound of the body, in place of those of [`Limits`](crate::limits::Limits);
    /// `u64::MAX` is none.
    pub(crate) body_bytes_max: Cell<u64>,

    pub(crate) status: Cell<u16>,
    /// The handler chose the status.
    pub(crate) stated: Cell<bool>,
    pub(crate) mime: Cell<&'static str>,
    /// Field lines of the answer, each with its CRLF.
    pub(crate) fields: Cell<Vec<u8>>,
    /// A bit for each name among `fields`, or once among them: see [`name_bit`].
    pub(crate) names: Cell<u64>,
    pub(crate) body: Cell<Vec<u8>>,
    /// A file in place of `body`.
    #[cfg(feature = "files")]
    pub(crate) file: Cell<Option<FileBody>>,
    /// Bytes that others share in place of `body`.
    #[cfg(feature = "cache")]
    pub(crate) shared_body: Cell<Option<Rc<Rc<[u8]>>>>,
    pub(crate) phase: Cell<Phase>,
    /// The connection ends with this answer.
    pub(crate) close: Cell<bool>,
    /// A field that must not be sent was set.
    pub(crate) bad_field: Cell<bool>,
    pub(crate) on_head: RefCell<Vec<OnHead>>,
    /// What stands between a streamed body and the wire.
    pub(crate) filter: Cell<Option<Box<dyn BodyFilter>>>,
    /// Bytes of a streamed body, before they are put in chunks.
    pub(crate) streamed_bytes: Cell<u64>,
    pub(crate) upgrade: Cell<Option<Box<Upgrade>>>,
    /// Made to measure for one long-lived answer: not kept for others.
    pub(crate) lean: bool,
    /// Nothing is left of an earlier request.
    pub(crate) clean: bool,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is decided.
    Open,
    /// Whole, waiting to be encoded.
    Answered,
    /// The head has left.
    Streaming,
    /// The head and the whole body have left.
    Finished,
}

/// What every request finds, whatever part of the application answers it.
#[derive(Default)]
pub(crate) struct Whole {
    /// The routes that have names.
    pub(crate) urls: Urls,
    /// Proxies that are believed.
    pub(crate) trusted: Vec<Net>,
    pub(crate) dates: DateCache,
}

/// What a route knows of itself.
pub(crate) struct RouteInfo {
    pub(crate) pattern: Box<str>,
    pub(crate) names: Box<[Box<str>]>,
    /// Bytes of arena that a long-lived answer of this route needs; 0 until there was one.
    pub(crate) long_arena_bytes: Cell<usize>,
    /// Its place in its router.
    pub(crate) id: u32,
}

impl Core {
    pub(crate) fn new(local: Rc<Local>, whole: Rc<Whole>) -> Core {
        Core::with_arena(local, whole, ARENA_BYTES_FIRST)
    }

    pub(super) fn with_arena(local: Rc<Local>, whole: Rc<Whole>, arena_bytes: usize) -> Core {
        Core {
            local,
            whole,
            arena: Arena::with_capacity(arena_bytes),
            buf: Vec::new(),
            base: 0,
            head: Head::default(),
            params: Params::default(),
            route: None,
            allow: None,
            wire: None,
            received_ns: 0,
            reading: Reading::default(),
            late_body: OnceCell::new(),
            body_bytes_max: Cell::new(u64::MAX),
            status: Cell::new(200),
            stated: Cell::new(false),
            mime: Cell::new(""),
            fields: Cell::default(),
            names: Cell::new(0),
            body: Cell::default(),
            #[cfg(feature = "files")]
            file: Cell::new(None),
            #[cfg(feature = "cache")]
            shared_body: Cell::new(None),
            phase: Cell::new(Phase::Open),
            close: Cell::new(false),
            bad_field: Cell::new(false),
            on_head: RefCell::default(),
            filter: Cell::new(None),
            streamed_bytes: Cell::new(0),
            upgrade: Cell::new(None),
            lean: false,
            clean: true,
        }
    }

    /// The bytes of the head and what follows it.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[self.base..]
    }

    /// The Date field's value as of this turn.
    #[inline]
    pub(crate) fn date(&self) -> [u8; DATE_BYTES] {
        self.whole.dates.at(self.local.clock.unix_secs())
    }

    /// Whether the request is all that was received.
    pub(crate) fn is_read_out(&self) -> bool {
        self.reading.is_ended()
            && self.bytes().len() == self.reading.at()
            && !self.reading.has_rest()
    }

    #[inline]
    pub(crate) fn wire(&self) -> &Wire {
        self.wire.as_deref().expect("a core in use has a wire")
    }

    #[inline]
    pub(crate) fn with_body<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change_in(&self.body, change)
    }

    #[inline]
    pub(crate) fn with_fields<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change_in(&self.fields, change)
    }

    /// Takes back what was answered so far: an error does not inherit the headers of the success
    /// that it prevented.
    pub(crate) fn unanswer(&self) {
        self.status.set(200);
        self.stated.set(false);
        self.mime.set("");
        self.with_fields(Vec::clear);
        self.names.set(0);
        self.drop_body();
        self.bad_field.set(false);
        if self.phase.get() == Phase::Answered {
            self.phase.set(Phase::Open);
        }
    }

    /// Takes back the body that was answered.
    pub(crate) fn drop_body(&self) {
        self.drop_substitute();
        self.with_body(Vec::clear);
    }

    pub(crate) fn has_file(&self) -> bool {
        #[cfg(feature = "files")]
        {
            let file = self.file.take();
            let any = file.is_some();
            self.file.set(file);
            any
        }
        #[cfg(not(feature = "files"))]
        false
    }

    /// Takes back what stands in place of `body`.
    #[inline]
    pub(crate) fn drop_substitute(&self) {
        #[cfg(feature = "files")]
        self.file.set(None);
        #[cfg(feature = "cache")]
        self.shared_body.set(None);
    }

    /// Answers with bytes that others share.
    #[cfg(feature = "cache")]
    pub(crate) fn share_body(&self, bytes: Rc<Rc<[u8]>>) {
        self.drop_body();
        self.shared_body.set(Some(bytes));
    }

    /// Copies shared bytes into `body`, for who wants to read or to change them there.
    #[inline]
    pub(crate) fn own_body(&self) {
        #[cfg(feature = "cache")]
        if let Some(shared) = self.shared_body.take() {
            self.with_body(|body| body.extend_from_slice(&shared));
        }
    }

    /// Whether something stands between a streamed body and the wire.
    pub(crate) fn is_filtered(&self) -> bool {
        let filter = self.filter.take();
        let is_filtered = filter.is_some();
        self.filter.set(filter);
        is_filtered
    }

    /// Bytes of a whole body in memory.
    pub(crate) fn body_bytes(&self) -> usize {
        #[cfg(feature = "cache")]
        if let Some(shared) = self.shared_body.take() {
            let bytes = shared.len();
            self.shared_body.set(Some(shared));
            return bytes;
        }
        self.with_body(|body| body.len())
    }

    /// A plain-text answer to an error.
    pub(crate) fn answer_error(&self, error: &Error) {
        self.unanswer();
        self.status.set(error.status());
        self.mime.set(TEXT);
        for (name, value) in error.fields() {
            self.set_field(name, value, false);
        }
        self.with_body(|body| body.extend_from_slice(error.message().as_bytes()));
        self.phase.set(Phase::Answered);
    }

    /// Writes a field of the answer; one that would break the framing marks the answer as bad.
    pub(crate) fn set_field(&self, name: &str, value: &str, add: bool) {
        let framing = ["content-length", "transfer-encoding", "date"];
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if !crate::http::encode::field_is_clean(name, value) || framing.into_iter().any(is) {
            tracing::error!(name, "a handler set a header field that cannot be sent");
            self.bad_field.set(true);
            return;
        }
        if is("connection") {
            self.close.set(self.close.get() || value.eq_ignore_ascii_case("close"));
            return;
        }
        if is("content-type") {
            self.mime.set("");
        }
        if is("upgrade") && !self.has_field(name) {
            // It is for the next hop alone, and says so (RFC 9110 section 7.8).
            self.with_fields(|fields| fields.extend_from_slice(b"connection: upgrade\r\n"));
        }
        let known = self.note(name_bit(name));
        self.with_fields(|fields| {
            if !add && known {
                remove_field(fields, name);
            }
            fields.reserve(name.len() + value.len() + 4);
            fields.extend_from_slice(name.as_bytes());
            fields.extend_from_slice(b": ");
            fields.extend_from_slice(value.as_bytes());
            fields.extend_from_slice(b"\r\n");
        });
    }

    /// The value of the first field of that name in the answer.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        if name.eq_ignore_ascii_case("content-type") && !self.mime.get().is_empty() {
            return Some(self.mime.get().to_owned());
        }
        self.look_for(name, |fields| {
            let line = lines(fields).find(|line| is_named(line, name))?;
            Some(String::from_utf8_lossy(line[name.len() + 1..].trim_ascii()).into_owned())
        })
    }

    /// Whether a field of that name is set.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.look_for(name, |fields| lines(fields).any(|line| is_named(line, name)))
    }

    /// Looks through the fields of the answer, if one of that name can be among them.
    pub(crate) fn look_for<T: Default>(&self, name: &str, look: impl FnOnce(&[u8]) -> T) -> T {
        if self.names.get() & name_bit(name) == 0 {
            return T::default();
        }
        self.with_fields(|fields| look(fields))
    }

    /// Says that fields with these bits are set now; whether one may have been before.
    #[inline]
    pub(crate) fn note(&self, bits: u64) -> bool {
        let known = self.names.get();
        self.names.set(known | bits);
        known & bits != 0
    }

    /// Ready for the next request of the connection; buffers and arena stay.
    #[inline]
    pub(crate) fn reset(&mut self) {
        if self.clean {
            return;
        }
        self.clean = true;
        self.local
            .counters
            .raise(crate::base::counters::Count::ArenaBytes, self.arena.bytes_held() as u64);
        self.arena.reset(ARENA_BYTES_KEEP_MAX);
        self.route = None;
        if self.allow.is_some() {
            self.allow = None;
        }
        self.reading.reset(&self.local.spares);
        if let Some(late) = self.late_body.take() {
            self.local.spares.give(late);
        }
        self.body_bytes_max.set(u64::MAX);
        self.streamed_bytes.set(0);
        self.status.set(200);
        self.stated.set(false);
        self.mime.set("");
        keep_small(self.fields.get_mut());
        self.names.set(0);
        keep_small(self.body.get_mut());
        self.drop_substitute();
        self.phase.set(Phase::Open);
        self.close.set(false);
        self.bad_field.set(false);
        self.on_head.get_mut().clear();
        *self.filter.get_mut() = None;
        self.upgrade.set(None);
    }
}

/// What `text` answers with.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

#[inline]
fn change_in<T>(cell: &Cell<Vec<u8>>, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut bytes = cell.take();
    let value = change(&mut bytes);
    cell.set(bytes);
    value
}

#[inline]
fn keep_small(bytes: &mut Vec<u8>) {
    if bytes.capacity() > BUFFER_BYTES_KEEP_MAX {
        *bytes = Vec::new();
    } else {
        bytes.clear();
    }
}

/// A bit of 64 for a field's name in any case: a name whose bit is not set is not there, and the
/// fields need not be read.
#[inline]
pub(crate) fn name_bit(name: &str) -> u64 {
    let folded = |byte: Option<&u8>| usize::from(byte.map_or(0, |it| it | 0x20));
    let (first, last) = (folded(name.as_bytes().first()), folded(name.as_bytes().last()));
    1 << ((name.len() * 5 + first * 3 + last) % 64)
}

/// Each line with its CRLF.
pub(crate) fn lines(fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', fields).map(move |end| {
        let line = &fields[start..=end];
        start = end + 1;
        line
    })
}

pub(crate) fn is_named(line: &[u8], name: &str) -> bool {
    line.len() > name.len()
        && line[name.len()] == b':'
        && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

pub(super) fn remove_field(fields: &mut Vec<u8>, name: &str) {
    let mut at = 0;
    while at < fields.len() {
        let len = memchr::memchr(b'\n', &fields[at..]).map_or(0, |end| end + 1);
        if len == 0 {
            return;
        }
        if is_named(&fields[at..at + len], name) {
            fields.drain(at..at + len);
        } else {
            at += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_bit_in_any_case() {
        for name in ["vary", "x-request-id", "ETag", "Content-Type", "a", "X_1", ""] {
            let bit = name_bit(name);
            assert_eq!(bit.count_ones(), 1, "{name}");
            assert_eq!(bit, name_bit(&name.to_ascii_uppercase()), "{name}");
            assert_eq!(bit, name_bit(&name.to_ascii_lowercase()), "{name}");
        }
    }
}
