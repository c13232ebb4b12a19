//! An answer that is kept for others: what may be (RFC 9111 section 3), for how long, for whom, and
//! how it goes out again.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::etag::not_modified;
use crate::app::core::{Core, Phase, is_named, lines, name_bit};
use crate::http::accept;
use crate::http::cache_control::{DELTA_S_MAX, Directives, delta_s};
use crate::http::conditional::date;
use crate::http::tags::{Compare, has_tag};
use crate::limits::RESPONSE_VARY_MAX;

/// What of a request decides whether a kept answer is for it, and whether its own may be kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) authorized: bool,
    pub(super) has_cookie: bool,
    pub(super) said: Directives,
}

impl Asked {
    pub(super) fn of(core: &Core) -> Asked {
        let has = |name| core.request_fields(name).next().is_some();
        let said = core.request_fields("cache-control").map(str::as_bytes);
        Asked {
            authorized: has("authorization"),
            has_cookie: has("cookie"),
            said: Directives::read(said),
        }
    }
}

/// One answer of a key, for the requests that agree with it in the fields that its Vary names.
pub(super) struct Stored {
    vary: Box<[(Box<str>, Wish)]>,
    status: u16,
    mime: &'static str,
    /// Whole lines, and the bits of their names.
    fields: Box<[u8]>,
    names: u64,
    /// Empty where there is none: only a 200 is sure to have one.
    pub(super) tag: Box<str>,
    modified: Option<SystemTime>,
    pub(super) body: Rc<Rc<[u8]>>,
    /// The cache's tags, by which it is purged.
    pub(super) tags: Box<[Box<str>]>,
    life: Life,
    /// When it was new, which may be before it came here.
    born_ms: u64,
}

/// How long, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    fresh_ms: u64,
    /// Beyond that, while somebody makes a new one.
    stale_ms: u64,
    /// Beyond that, if no new one can be made.
    error_ms: u64,
    /// The answer itself said so: it is for those with cookies too.
    explicit: bool,
    /// For those with credentials too (RFC 9111 section 3.5).
    for_authorized: bool,
    age_ms: u64,
}

/// How old a kept answer is to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// It may be given while somebody makes a new one.
    Stale,
    /// It may be given if no new one can be made.
    Spare,
    Dead,
}

/// What a request says in a field that a Vary names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// Its lines as they came.
    Text(Option<Box<str>>),
    /// The codings it takes: clients write the same in many ways.
    Codings(u8),
}

const CODINGS: [&str; 4] = ["br", "zstd", "gzip", "deflate"];

impl Wish {
    fn of(core: &Core, name: &str, coding: Option<&str>) -> Wish {
        let known = coding.is_none_or(|it| CODINGS.iter().any(|one| one.eq_ignore_ascii_case(it)));
        match name == "accept-encoding" && known {
            true => Wish::Codings(codings(core)),
            false => Wish::Text(text_of(core, name)),
        }
    }

    fn is_of(&self, core: &Core, name: &str) -> bool {
        match self {
            Wish::Codings(bits) => *bits == codings(core),
            Wish::Text(text) => {
                let mut lines = core.request_fields(name);
                match (lines.next(), lines.next()) {
                    (first, None) => text.as_deref() == first.map(str::trim),
                    _ => *text == text_of(core, name),
                }
            }
        }
    }
}

fn codings(core: &Core) -> u8 {
    let fields = core.request_fields("accept-encoding");
    let takes = |name: &&str| accept::encoding(fields.clone(), &[*name]).is_some();
    CODINGS.iter().map(|name| u8::from(takes(name))).fold(0, |bits, bit| bits << 1 | bit)
}

fn text_of(core: &Core, name: &str) -> Option<Box<str>> {
    let lines: Vec<&str> = core.request_fields(name).map(str::trim).collect();
    (!lines.is_empty()).then(|| lines.join(", ").into())
}

/// The values of a field of the answer, line by line.
fn values<'a>(fields: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let named = lines(fields).filter(move |line| is_named(line, name));
    named.map(move |line| line[name.len() + 1..].trim_ascii())
}

/// How long the answer that is about to leave may be kept; none if it may not.
pub(super) fn judge(core: &Core, asked: &Asked, default: Option<Duration>) -> Option<Life> {
    let status = core.status.get();
    if !is_keepable(status) || asked.said.no_store || core.bad_field.get() {
        return None;
    }
    let unix_s = core.local.clock.unix_secs();
    core.with_fields(|fields| {
        let has = |name| values(fields, name).next().is_some();
        let said = Directives::read(values(fields, "cache-control"));
        let anything = |it: &[u8]| it.split(|byte| *byte == b',').any(|it| it.trim_ascii() == b"*");
        if has("set-cookie")
            || said.no_store
            || said.private
            || said.no_cache
            || values(fields, "vary").any(anything)
        {
            return None;
        }
        let for_authorized = said.public || said.must_revalidate || said.s_maxage_s.is_some();
        let own_s = said.s_maxage_s.or(said.max_age_s).or_else(|| {
            let until = values(fields, "expires").next()?;
            let until = str::from_utf8(until).ok().and_then(date).unwrap_or(UNIX_EPOCH);
            let until_s = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            Some(until_s.saturating_sub(unix_s).min(DELTA_S_MAX))
        });
        let explicit = own_s.is_some();
        let personal = asked.authorized || (asked.has_cookie && !said.public);
        let default_s = default.filter(|_| status == 200 && !personal);
        let fresh_ms = match own_s {
            Some(seconds) => seconds * 1_000,
            None => default_s?.as_millis().min(u128::from(DELTA_S_MAX) * 1_000) as u64,
        };
        if asked.authorized && !for_authorized {
            return None;
        }
        let stale = |told: Option<u64>| match said.must_revalidate {
            true => 0,
            false => told.unwrap_or(0) * 1_000,
        };
        let age_ms = values(fields, "age").next().map_or(0, delta_s) * 1_000;
        let life = Life {
            fresh_ms,
            stale_ms: stale(said.stale_while_revalidate_s),
            error_ms: stale(said.stale_if_error_s),
            explicit: explicit || said.public,
            for_authorized,
            age_ms,
        };
        (life.until_ms() > age_ms).then_some(life)
    })
}

/// Whether an answer of that status can be kept, if it may.
pub(super) fn is_keepable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 301 | 302 | 307 | 308 | 404 | 410)
}

impl Life {
    fn until_ms(&self) -> u64 {
        self.fresh_ms + self.stale_ms.max(self.error_ms)
    }
}

/// The head of an answer that is to be kept.
pub(super) struct Head {
    vary: Box<[(Box<str>, Wish)]>,
    status: u16,
    mime: &'static str,
    fields: Box<[u8]>,
    names: u64,
    life: Life,
    born_ms: u64,
}

impl Head {
    /// As it stands, without the lines that were there before; none if it names too many fields.
    pub(super) fn of(core: &Core, life: Life, before: &[u8]) -> Option<Head> {
        let coding = core.field_copy("content-encoding");
        core.with_fields(|fields| {
            let mut vary: Vec<(Box<str>, Wish)> = Vec::new();
            // With the lines of outer middleware: what it set may decide what came here.
            for list in values(fields, "vary") {
                for name in list.split(|byte| *byte == b',') {
                    let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
                    if !name.is_empty() && !vary.iter().any(|(known, _)| **known == *name) {
                        let wish = Wish::of(core, &name, coding);
                        vary.push((name.into(), wish));
                    }
                }
            }
            if vary.len() > RESPONSE_VARY_MAX {
                return None;
            }
            let (mut own, mut names) = (Vec::with_capacity(fields.len()), 0);
            for line in lines(fields) {
                let end = memchr::memchr(b':', line).unwrap_or(0);
                let name = str::from_utf8(&line[..end]).unwrap_or_default();
                let hop = ["age", "connection", "keep-alive", "upgrade", "cache-status"];
                let is_hop = hop.iter().any(|it| it.eq_ignore_ascii_case(name));
                if !is_hop && !lines(before).any(|known| known == line) {
                    own.extend_from_slice(line);
                    names |= name_bit(name);
                }
            }
            let (status, mime) = (core.status.get(), core.mime.get());
            let born_ms = core.local.clock.now_ms();
            let (vary, fields) = (vary.into(), own.into());
            Some(Head { vary, status, mime, fields, names, life, born_ms })
        })
    }

    pub(super) fn with_body(self, body: Rc<[u8]>, hash: u64, tags: Box<[Box<str>]>) -> Stored {
        let Head { vary, status, mime, fields, names, life, born_ms } = self;
        let mut it = Stored {
            vary,
            status,
            mime,
            fields,
            names,
            tag: Box::default(),
            modified: None,
            body: Rc::new(body),
            tags,
            life,
            born_ms,
        };
        let own_tag = values(&it.fields, "etag").next();
        let tag = own_tag.map(|it| String::from_utf8_lossy(it).into_owned());
        let modified = values(&it.fields, "last-modified").next();
        it.modified = modified.and_then(|it| date(str::from_utf8(it).ok()?));
        it.tag = match tag {
            Some(tag) => tag.into(),
            None if it.status != 200 => Box::default(),
            None => {
                let tag = format!("\"{hash:016x}-{:x}\"", it.body.len());
                it.fields = [&it.fields, format!("etag: {tag}\r\n").as_bytes()].concat().into();
                it.names |= name_bit("etag");
                tag.into()
            }
        };
        it
    }
}

impl Stored {
    /// Whether it is what this request would get.
    pub(super) fn suits(&self, core: &Core) -> bool {
        self.vary.iter().all(|(name, wish)| wish.is_of(core, name))
    }

    /// Whether it takes the place of another one.
    pub(super) fn replaces(&self, other: &Stored) -> bool {
        self.vary == other.vary
    }

    /// Whether it may be given to this client at all.
    pub(super) fn is_for(&self, asked: &Asked) -> bool {
        let with_cookie = !asked.has_cookie || self.life.explicit;
        with_cookie && (!asked.authorized || self.life.for_authorized)
    }

    fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.born_ms) + self.life.age_ms
    }

    pub(super) fn age(&self, now_ms: u64) -> Age {
        let (age_ms, life) = (self.age_ms(now_ms), &self.life);
        match age_ms.saturating_sub(life.fresh_ms) {
            _ if age_ms < life.fresh_ms => Age::Fresh,
            over_ms if over_ms < life.stale_ms => Age::Stale,
            over_ms if over_ms < life.error_ms => Age::Spare,
            _ => Age::Dead,
        }
    }

    pub(super) fn age_s(&self, now_ms: u64) -> u64 {
        self.age_ms(now_ms) / 1_000
    }

    /// Seconds it is fresh; negative is for how long it has not been.
    pub(super) fn ttl_s(&self, now_ms: u64) -> i64 {
        (self.life.fresh_ms as i64 - self.age_ms(now_ms) as i64).div_euclid(1_000)
    }

    /// Whether it may be given where no new answer can be made.
    pub(super) fn is_spare(&self, now_ms: u64) -> bool {
        self.age_ms(now_ms) < self.life.fresh_ms + self.life.error_ms
    }

    /// From now until it is of no use.
    pub(super) fn left_ms(&self, now_ms: u64) -> u64 {
        self.life.until_ms().saturating_sub(self.age_ms(now_ms))
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let vary = |(name, wish): &(Box<str>, Wish)| match wish {
            Wish::Text(Some(text)) => name.len() + text.len() + 48,
            _ => name.len() + 48,
        };
        let tags = self.tags.iter().map(|tag| tag.len() + 16).sum::<usize>();
        let vary = self.vary.iter().map(vary).sum::<usize>();
        size_of::<Stored>() + self.fields.len() + self.tag.len() + self.body.len() + vary + tags
    }

    /// Makes it the answer.
    pub(super) fn serve(&self, core: &Core, now_ms: u64) {
        core.status.set(self.status);
        core.stated.set(true);
        if core.note(self.names) {
            self.remove_others(core);
        }
        core.with_fields(|fields| fields.extend_from_slice(&self.fields));
        if !core.has_field("content-type") {
            core.mime.set(self.mime);
        }
        let age = core.arena.text(format_args!("{}", self.age_s(now_ms)));
        core.set_clean_field("age", age.as_bytes());
        core.share_body(self.body.clone());
        core.phase.set(Phase::Answered);
        self.meet_conditions(core);
    }

    /// Lines of the same names that outer middleware has set: its Vary stands beside this one's.
    #[cold]
    fn remove_others(&self, core: &Core) {
        for line in lines(&self.fields) {
            let end = memchr::memchr(b':', line).unwrap_or(0);
            match str::from_utf8(&line[..end]) {
                Ok(name) if !name.eq_ignore_ascii_case("vary") => core.remove_field(name),
                _ => {}
            }
        }
    }

    /// 304 for a client that has it (RFC 9110 section 13.2.2).
    pub(super) fn meet_conditions(&self, core: &Core) {
        if self.status != 200 {
            return;
        }
        let mut tags = core.request_fields("if-none-match").peekable();
        let known = match tags.peek() {
            Some(_) => tags.any(|list| has_tag(list, &self.tag, Compare::Weak)),
            None => self.modified.is_some_and(|modified| {
                let since = core.only_request_field("if-modified-since").and_then(date);
                since.is_some_and(|since| modified <= since)
            }),
        };
        if known {
            not_modified(core);
        }
    }
}
