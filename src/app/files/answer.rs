//! One file as the answer: what the client has already, which bytes of it, in which coding.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::app::core::{Core, Phase, name_bit};
use crate::app::ctx::Ctx;
use crate::app::reply::Reply;
use crate::error::{Error, Result};
use crate::files::body::{FileBody, Parts, Several};
use crate::files::open::Open;
use crate::files::tree::{Found, Tree, is_safe};
use crate::http::accept;
use crate::http::conditional::{Conditions, Verdict, date, if_range};
use crate::http::head::Method;
use crate::http::range::{self, ContentRange, Ranges, Span};
use crate::ring::file::How;

/// Answering with files.
impl<S> Ctx<S> {
    /// A file as the answer: its type by its name, its length, `ETag` and `Last-Modified`; 304 for
    /// who has it, 206 for who wants a part of it, 412 where a precondition fails (RFC 9110
    /// sections 13 and 14). 404 if it is not there. Pages in memory leave without a copy, those on
    /// disk are read by the shard's ring.
    ///
    /// The path is the program's, relative to its working directory. One that a client has a hand
    /// in belongs into [`file_below`](Ctx::file_below).
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// async fn report(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.attachment("report.pdf").file("reports/2026.pdf").await
    /// }
    /// ```
    pub async fn file(&self, path: &str) -> Result<Reply> {
        let trees = Trees::of(self);
        let tree = trees.get(None)?;
        self.file_of(&tree, path).await
    }

    /// A file below a directory as the answer, as [`file`](Ctx::file) gives it. The path may be a
    /// client's: it never leads out of the directory, by whatever dots or symlinks, and hidden
    /// files (`.env`) are not there.
    ///
    /// # Errors
    /// 404 if there is no such file, 403 if it may not be read; 500 if there is no such directory.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// async fn download(cx: &Ctx<()>) -> Result<Reply> {
    ///     let name: &str = cx.param("name")?; // `../../etc/passwd` is just not found
    ///     cx.attachment(name).file_below("uploads", name).await
    /// }
    /// ```
    pub async fn file_below(&self, dir: &str, path: &str) -> Result<Reply> {
        if !is_safe(path, false) || path.is_empty() {
            return Err(Error::not_found());
        }
        let trees = Trees::of(self);
        let tree = trees.get(Some(dir))?;
        self.file_of(&tree, path).await
    }

    async fn file_of(&self, tree: &Tree, path: &str) -> Result<Reply> {
        match tree.find(&self.core.local, path).await? {
            Some(Found::File(open)) => self.answer_open(open),
            _ => Err(Error::not_found()),
        }
    }

    /// Answers with an open file.
    pub(super) fn answer_open(&self, open: Rc<Open>) -> Result<Reply> {
        self.check_open()?;
        let core = &*self.core;
        let asked = Asked::of(core);
        let (mime, open) = (open.mime, self.in_best_coding(open));
        core.mime.set(if core.has_field("content-type") { "" } else { mime });
        state_facts(core, &open);
        let own_tag = core.look_for("etag", |_| Some(())).and_then(|()| core.field_copy("etag"));
        let tag = own_tag.unwrap_or(&open.tag);
        // Pages of errors are answers of another kind.
        let whole = core.status.get() != 200;
        if asked.conditions && !whole {
            let dated = |name| core.only_request_field(name).and_then(date);
            let conditions = Conditions {
                if_match: core.request_fields("if-match"),
                if_none_match: core.request_fields("if-none-match"),
                if_modified_since: dated("if-modified-since"),
                if_unmodified_since: dated("if-unmodified-since"),
            };
            match conditions.judge(tag, open.modified) {
                Verdict::Go => {}
                Verdict::Failed => return Err(Error::new(412, "it is not as you say it is")),
                Verdict::NotModified => {
                    core.status.set(304);
                    core.mime.set("");
                    core.remove_field("content-type");
                    core.with_body(Vec::clear);
                    core.phase.set(Phase::Answered);
                    return Ok(Reply::new());
                }
            }
        }
        let ranges = match core.only_request_field("range").filter(|_| asked.range && !whole) {
            Some(field) if core.head.method == Method::Get && range_counts(core, &open, tag) => {
                range::parse(field, open.len)
            }
            _ => Ranges::Whole,
        };
        let body = match ranges {
            Ranges::Whole => FileBody::whole(open),
            Ranges::One(span) => {
                core.status.set(206);
                let value = self.format(format_args!("{}", ContentRange(Some(span), open.len)));
                self.set_header("content-range", value);
                FileBody { open, parts: Parts::One(span) }
            }
            Ranges::Several(spans) => {
                core.status.set(206);
                self.in_parts(open, &spans)
            }
            Ranges::Unsatisfiable => {
                let value = ContentRange(None, open.len).to_string();
                return Err(Error::new(416, "it has no such bytes").set("content-range", value));
            }
        };
        core.with_body(Vec::clear);
        core.file.set(Some(body));
        core.phase.set(Phase::Answered);
        Ok(Reply::new())
    }

    /// The form of the file that the client likes best: compressed beforehand, or as it is.
    fn in_best_coding(&self, open: Rc<Open>) -> Rc<Open> {
        if open.coded.is_empty() || self.core.has_field("content-encoding") {
            return open;
        }
        self.add_header("vary", "accept-encoding");
        let mut names = [""; 3];
        let count = open.coded.iter().zip(&mut names).map(|((name, _), to)| *to = name).count();
        let fields = self.core.request_fields("accept-encoding");
        let best = accept::encoding(fields, &names[..count]);
        let coded = open.coded.iter().find(|(name, _)| best == Some(*name));
        let Some((name, coded)) = coded else { return open };
        self.set_header("content-encoding", name);
        coded.clone()
    }

    /// Several ranges: each with its own head (RFC 9110 section 14.6).
    fn in_parts(&self, open: Rc<Open>, spans: &[Span]) -> FileBody {
        let core = &*self.core;
        let mime = self.reply_header("content-type").unwrap_or_default();
        // Nobody can choose it, so no file is made to hold it.
        let boundary = self.format(format_args!("{:016x}{:016x}", random(), random()));
        core.remove_field("content-type");
        core.mime.set("");
        let value = self.format(format_args!("multipart/byteranges; boundary={boundary}"));
        self.set_header("content-type", value);
        let part = |span: &Span| {
            let range = ContentRange(Some(*span), open.len);
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: {mime}\r\ncontent-range: {range}\r\n\r\n"
            );
            (head.into_bytes(), *span)
        };
        let parts = spans.iter().map(part).collect();
        let end = format!("\r\n--{boundary}--\r\n").into_bytes();
        FileBody { open, parts: Parts::Several(Box::new(Several { parts, end })) }
    }
}

/// Which of the fields that matter are there: one look at the names.
#[derive(Default)]
struct Asked {
    conditions: bool,
    range: bool,
}

impl Asked {
    #[inline]
    fn of(core: &Core) -> Asked {
        let (bytes, mut asked) = (core.bytes(), Asked::default());
        for field in core.head.fields.iter() {
            let name = field.name.of(bytes);
            match name.len() {
                5 => asked.range |= name.eq_ignore_ascii_case(b"range"),
                8 | 13 | 17 | 19 => asked.conditions |= name[..3].eq_ignore_ascii_case(b"if-"),
                _ => {}
            }
        }
        asked
    }
}

/// Whether If-Range, if there is one, lets the Range count.
fn range_counts(core: &Core, open: &Open, tag: &str) -> bool {
    let mut values = core.request_fields("if-range");
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => if_range(value, tag, open.modified),
        _ => false,
    }
}

/// Writes the fields that every answer with the file has; a handler's own stay.
#[inline]
fn state_facts(core: &Core, open: &Open) {
    const NAMES: [&str; 3] = ["etag", "last-modified", "accept-ranges"];
    let bits = NAMES.iter().fold(0, |bits, name| bits | name_bit(name));
    if core.names.get() & bits == 0 {
        core.note(bits);
        return core.with_fields(|fields| fields.extend_from_slice(&open.fields));
    }
    for line in str::from_utf8(&open.fields).unwrap_or_default().lines() {
        if let Some((name, value)) = line.split_once(": ")
            && !core.has_field(name)
        {
            core.set_field(name, value, false);
        }
    }
}

/// 64 bits that no client knows.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Directories that handlers name, by their names: opened once a shard.
#[derive(Default)]
struct Trees(RefCell<HashMap<Option<Box<str>>, Rc<Tree>>>);

impl Trees {
    fn of<S>(cx: &Ctx<S>) -> Rc<Trees> {
        let shard = cx.shard();
        shard.got::<Trees>().unwrap_or_else(|| shard.put(Trees::default()))
    }

    /// The directory of that name, which nothing leads out of; none is for the program's own paths,
    /// wherever they lead.
    fn get(&self, dir: Option<&str>) -> Result<Rc<Tree>> {
        let key = dir.map(Box::from);
        if let Some(tree) = self.0.borrow().get(&key) {
            return Ok(tree.clone());
        }
        let how = if dir.is_some() { How::read(true) } else { How::anywhere() };
        let path = dir.filter(|it| !it.is_empty()).unwrap_or(".");
        let tree = Tree::new(path.as_ref(), how, false);
        let tree = Rc::new(tree.map_err(|error| Error::from(format!("{path}: {error}")))?);
        self.0.borrow_mut().insert(key, tree.clone());
        Ok(tree)
    }
}
