//! Answers that are kept for who asks next (RFC 9111, RFC 5861, RFC 9211).

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::time::Duration;

use super::collapse::{End, Lead};
use super::etag::hash_body;
use super::responses::{CachedResponses, Found, Missing, Responses};
use super::stored::{Asked, Head, Stored, is_keepable, judge};
use crate::app::core::{Core, Phase};
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::app::reply::{BodyFilter, Reply, run_on_head_after};
use crate::error::{Error, Result};
use crate::http::head::{Body, Method};
use crate::limits::{
    RESPONSE_BODY_BYTES_MAX, RESPONSE_WAIT_MS_MAX, RESPONSE_WAITS_MAX, RESPONSES_BYTES_MAX,
};
use crate::shard::time::timeout;

/// How answers are kept: for [`cache_responses`].
///
/// ```
/// use std::time::Duration;
/// use soloist::middleware::{CacheResponses, cache_responses};
/// use soloist::prelude::*;
///
/// let pages = CacheResponses::new("pages").bytes_max(256 << 20).ttl(Duration::from_secs(5));
/// let app = App::new(()).wrap(cache_responses(pages)).get("/", async |cx| cx.text("hello"));
/// ```
#[derive(Clone, Debug)]
pub struct CacheResponses {
    name: &'static str,
    bytes_max: u64,
    body_bytes_max: usize,
    ttl: Option<Duration>,
    obeys_clients: bool,
    tells: bool,
}

impl CacheResponses {
    /// 32 MiB of answers on each shard, with bodies of up to 1 MiB, that say themselves how long
    /// they may be kept. By the name they are purged: [`Shard::cached_responses`]; what has the
    /// same name is one cache, as large as was said first.
    ///
    /// [`Shard::cached_responses`]: crate::Shard::cached_responses
    ///
    /// ```
    /// let pages = soloist::middleware::CacheResponses::new("pages");
    /// ```
    pub fn new(name: &'static str) -> CacheResponses {
        CacheResponses {
            name,
            bytes_max: RESPONSES_BYTES_MAX,
            body_bytes_max: RESPONSE_BODY_BYTES_MAX,
            ttl: None,
            obeys_clients: false,
            tells: false,
        }
    }

    /// Bytes of all answers on each shard, heads and keys too.
    ///
    /// ```
    /// let pages = soloist::middleware::CacheResponses::new("pages").bytes_max(256 << 20);
    /// ```
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// The largest body that is kept.
    ///
    /// ```
    /// let pages = soloist::middleware::CacheResponses::new("pages").body_bytes_max(64 * 1024);
    /// ```
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// How long a 200 is kept that does not say it itself, by `max-age`, `s-maxage` or `Expires`.
    /// Such an answer is neither made from nor given to requests with a `Cookie` or an
    /// `Authorization`: it may be about who sent them.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::time::Duration;
    /// # use soloist::middleware::{CacheResponses, cache_responses};
    /// let pages = CacheResponses::new("pages").ttl(Duration::from_secs(5));
    /// # let app = App::new(()).wrap(cache_responses(pages)).get("/", async |cx| cx.text("a"));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.expect(200);
    /// # client.get("/").await.expect(200).has("age", "0");
    /// # assert_eq!(client.get("/").header("cookie", "a=b").await.header("age"), None);
    /// # });
    /// ```
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl = Some(time);
        self
    }

    /// Lets clients ask for a new answer, by `no-cache` or `max-age` in their `Cache-Control`.
    /// Unless this is said they cannot: each of them could make the cache useless.
    ///
    /// ```
    /// let pages = soloist::middleware::CacheResponses::new("pages").obey_clients();
    /// ```
    pub fn obey_clients(mut self) -> Self {
        self.obeys_clients = true;
        self
    }

    /// Says in every answer what the cache did, as `Cache-Status` (RFC 9211).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::middleware::{CacheResponses, cache_responses};
    /// # async fn app(_: Shard) -> Result<App<()>> {
    /// let app = App::new(()).wrap(cache_responses(CacheResponses::new("pages").cache_status()));
    /// # Ok(app.get("/", async |cx| cx.set_header("cache-control", "max-age=60").text("hello")))
    /// # }
    /// # TestClient::run(app, async |client| {
    /// client.get("/").await.has("cache-status", "\"pages\"; fwd=uri-miss; stored");
    /// client.get("/").await.has("cache-status", "\"pages\"; hit; ttl=60");
    /// # });
    /// ```
    pub fn cache_status(mut self) -> Self {
        self.tells = true;
        self
    }
}

/// Keeps answers of GET and gives them to who asks next, GET or HEAD, without running what is
/// further in: a shared cache as of RFC 9111, one on each shard. The key is host, path and query.
///
/// - Kept: 200, 203, 204, 301, 302, 307, 308, 404 and 410 that say for how long, by `s-maxage`,
///   `max-age` or `Expires`; a 200 that says nothing, if there is a [`ttl`](CacheResponses::ttl).
/// - Not kept: what has `Set-Cookie`, `no-store`, `private`, `no-cache` or `Vary: *`; an error that
///   a handler returns; files; larger bodies; a stream that does not say for how long.
/// - `Vary`: one answer for each combination, at most 8 a key. Of `Accept-Encoding` the codings
///   are compared, not the text.
/// - `Authorization`: such requests make and get only answers that say `public`, `s-maxage` or
///   `must-revalidate`, and wait for nobody.
/// - Conditions: a 200 without an `ETag` gets a strong one; `If-None-Match` and
///   `If-Modified-Since` are answered with 304.
/// - Many at once: one handler runs for what is not there; the others wait, up to 10 s. Where its
///   answer is for one client only, all run at once, and nobody waits for the next 10 s.
/// - `stale-while-revalidate`: the first who asks makes the new answer, with its own request; the
///   others get the old one meanwhile.
/// - `stale-if-error`: the old answer in place of a 5xx.
/// - `Cache-Control` of clients: what is asked for with `no-store` is not kept; `only-if-cached`
///   gets 504 for what is not there; [the rest](CacheResponses::obey_clients) is not listened to.
/// - `Range`: a kept answer is given whole, as RFC 9110 section 14.2 allows.
/// - POST, PUT and their kin: a success forgets the answers of the same key on every shard.
///
/// What a handler reads and the key does not have belongs in `Vary`, or strangers get each other's
/// answers. Put it outside of `compress`, whose work is kept too; an `etag` within it is not
/// needed, and would give clients that have the page a 304 which cannot be kept. Middleware further
/// in does not see what is answered from the cache: logins stay outside.
///
/// ```
/// use soloist::middleware::{CacheResponses, cache_responses};
/// use soloist::prelude::*;
/// # use soloist::testing::TestClient;
/// # use std::cell::Cell;
///
/// async fn list(cx: &Ctx<Cell<u32>>) -> Result<Reply> {
///     cx.state().set(cx.state().get() + 1); // costly
///     cx.set_header("cache-control", "public, max-age=60").json(&cx.state().get())
/// }
/// let app = App::new(Cell::new(0))
///     .wrap(cache_responses(CacheResponses::new("pages")))
///     .get("/list", list);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.get("/list").await.text("1");
/// client.advance(std::time::Duration::from_secs(7)).await;
/// client.get("/list").await.text("1").has("age", "7");
/// # });
/// ```
pub fn cache_responses<S: 'static>(settings: CacheResponses) -> impl Middleware<S> {
    around(settings, |cx: &Ctx<S>| Some(Cow::Borrowed(key_of(&cx.core))))
}

/// [`cache_responses`] with keys that a closure makes: to leave out what answers do not depend on,
/// or to add what they do, such as the tenant. `None` goes past the cache.
///
/// ```
/// use soloist::middleware::{CacheResponses, cache_responses_by};
/// use soloist::prelude::*;
///
/// // Marketing puts what it likes into the query: it makes no difference here.
/// let pages = cache_responses_by(CacheResponses::new("pages"), |cx: &Ctx<()>| {
///     cx.path().starts_with("/articles/").then(|| cx.path().to_owned())
/// });
/// let app = App::new(()).wrap(pages);
/// ```
pub fn cache_responses_by<S: 'static>(
    settings: CacheResponses,
    key: impl Fn(&Ctx<S>) -> Option<String> + 'static,
) -> impl Middleware<S> {
    around(settings, move |cx: &Ctx<S>| key(cx).map(Cow::Owned))
}

impl<S> Ctx<S> {
    /// Gives the answer these tags, by which [`CachedResponses::purge_tag`] finds it. A purge that
    /// comes while the handler runs keeps the answer from being kept. Nothing happens without
    /// [`cache_responses`], or once a stream has begun.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use soloist::middleware::{CacheResponses, cache_responses};
    /// async fn team(cx: &Ctx<()>) -> Result<Reply> {
    ///     let id: u64 = cx.param("id")?;
    ///     cx.cache_tags(&[&format!("team:{id}"), "teams"]);
    ///     cx.set_header("cache-control", "max-age=600").text(format!("team {id}"))
    /// }
    /// # let app = App::new(()).wrap(cache_responses(CacheResponses::new("pages")))
    /// #     .get("/:id", team);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/7").await.expect(200);
    /// # client.get("/7").await.has("age", "0");
    /// client.shard().cached_responses("pages").purge_tag("teams").await.expect("purged");
    /// # assert_eq!(client.get("/7").await.header("age"), None);
    /// # });
    /// ```
    pub fn cache_tags(&self, tags: &[&str]) -> &Self {
        let known = self.got::<Tags>().unwrap_or_else(|| self.put(Tags::default()));
        known.0.borrow_mut().extend(tags.iter().map(|tag| Box::from(*tag)));
        self
    }
}

#[derive(Default)]
struct Tags(RefCell<Vec<Box<str>>>);

fn around<S: 'static>(
    settings: CacheResponses,
    key: impl for<'a> Fn(&'a Ctx<S>) -> Option<Cow<'a, str>> + 'static,
) -> impl Middleware<S> {
    let settings = Rc::new(settings);
    let responses: OnceCell<Rc<Responses>> = OnceCell::new();
    async move |cx: &Ctx<S>, next: Next<'_>| {
        let core = &*cx.core;
        let reads = match core.head.method {
            Method::Get | Method::Head => true,
            Method::Options | Method::Connect | Method::Trace => return next.run().await,
            _ => false,
        };
        let key = match key(cx) {
            Some(key) if !reads || (core.head.body == Body::None && !core.head.upgrade) => key,
            _ => return next.run().await,
        };
        let made = || Responses::made(&cx.shard(), settings.name, settings.bytes_max);
        let responses = responses.get_or_init(made);
        if reads {
            let all = Site { settings: &settings, responses };
            return all.answer(cx, next, &key).await;
        }
        let reply = next.run().await?;
        if matches!(core.status.get(), 200..400) {
            let all: CachedResponses = cx.shard().cached_responses(settings.name);
            if let Err(error) = all.purge(&key).await {
                tracing::warn!(
                    name = settings.name,
                    "a shard may keep what is out of date: {error}"
                );
            }
        }
        Ok(reply)
    }
}

/// Host, path and query.
fn key_of(core: &Core) -> &str {
    let bytes = core.bytes();
    let (host, path) = (core.head.host.text(bytes), core.head.path.text(bytes));
    let lower =
        host.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| host.to_ascii_lowercase());
    let host = lower.as_deref().unwrap_or(host);
    match core.head.query.text(bytes) {
        "" => core.arena.text(format_args!("{host}{path}")),
        query => core.arena.text(format_args!("{host}{path}?{query}")),
    }
}

struct Site<'a> {
    settings: &'a Rc<CacheResponses>,
    responses: &'a Rc<Responses>,
}

impl Site<'_> {
    async fn answer<S: 'static>(&self, cx: &Ctx<S>, next: Next<'_>, key: &str) -> Result<Reply> {
        let (core, responses) = (&*cx.core, self.responses);
        let asked = Asked::of(core);
        let (mut waits, mut was_stored) = (0, false);
        let (missing, leads) = loop {
            let missing = match responses.look(core, key, &asked) {
                Found::Fresh(it) if waits > 0 || !self.is_refused(core, &asked, &it) => {
                    return Ok(self.hit(core, &it, waits > 0));
                }
                Found::Fresh(_) => Missing { why: "request", ..Missing::default() },
                Found::Stale(it) if responses.flights.of(key).is_some() => {
                    return Ok(self.hit(core, &it, false));
                }
                Found::Stale(it) => {
                    let spare = Some(it).filter(|it| it.is_spare(core.local.clock.now_ms()));
                    break (Missing { why: "stale", pass: false, spare }, true);
                }
                Found::None(missing) => missing,
            };
            if asked.said.only_if_cached {
                return Err(Error::new(504, "not in the cache"));
            }
            let is_own = asked.authorized || asked.said.no_store;
            if missing.pass || is_own || was_stored || waits >= RESPONSE_WAITS_MAX {
                break (missing, false);
            }
            if core.head.method == Method::Head {
                break (missing, false);
            }
            let Some(flight) = responses.flights.of(key) else { break (missing, true) };
            responses.count(|it| it.waits += 1);
            waits += 1;
            let longest = Duration::from_millis(RESPONSE_WAIT_MS_MAX);
            match timeout(core.local.clone(), longest, flight.ended()).await {
                Ok(End::Stored) => was_stored = true,
                Ok(End::Abandoned) => {}
                Ok(End::NotStored) | Err(_) => break (missing, false),
            }
        };
        responses.count(|it| (it.misses, it.loads) = (it.misses + 1, it.loads + 1));
        if core.head.method == Method::Head {
            let reply = next.run().await?;
            self.tell(core, format_args!("fwd={}", missing.why));
            return Ok(reply);
        }
        self.load(core, next, Rc::from(key), asked, missing, leads).await
    }

    /// Whether the client wants a newer one, and is listened to.
    fn is_refused(&self, core: &Core, asked: &Asked, it: &Stored) -> bool {
        let old = |max_s| it.age_s(core.local.clock.now_ms()) > max_s;
        self.settings.obeys_clients
            && (asked.said.no_cache || asked.said.max_age_s.is_some_and(old))
    }

    fn hit(&self, core: &Core, it: &Stored, collapsed: bool) -> Reply {
        self.responses.count(|stats| stats.hits += 1);
        let now_ms = core.local.clock.now_ms();
        it.serve(core, now_ms);
        match collapsed {
            true => self.tell(core, format_args!("fwd=uri-miss; collapsed")),
            false => self.tell(core, format_args!("hit; ttl={}", it.ttl_s(now_ms))),
        }
        Reply::new()
    }

    fn tell(&self, core: &Core, what: std::fmt::Arguments<'_>) {
        if self.settings.tells && matches!(core.phase.get(), Phase::Open | Phase::Answered) {
            let name = self.settings.name;
            core.set_field("cache-status", core.arena.text(format_args!("{name:?}; {what}")), true);
        }
    }

    /// Runs the handler, and keeps what it answers if that may be.
    async fn load(
        &self,
        core: &Core,
        next: Next<'_>,
        key: Rc<str>,
        asked: Asked,
        missing: Missing,
        leads: bool,
    ) -> Result<Reply> {
        let lead = leads.then(|| self.responses.flights.lead(key.clone()));
        let load = Rc::new(Load {
            settings: self.settings.clone(),
            responses: self.responses.clone(),
            key,
            asked,
            lead: Cell::new(lead),
            mark: self.responses.mark(),
            before: core.with_fields(|fields| fields.as_slice().into()),
            why: missing.why,
        });
        let on_head = load.clone();
        core.on_head.borrow_mut().push(crate::app::on_head::OnHead::Once(Box::new(move |head| {
            if head.is_streamed() {
                on_head.begin_stream(head.0);
            }
        })));
        let count = core.on_head.borrow().len();
        let result = next.run().await;
        let status = result.as_ref().map_or_else(Error::status, |_| core.status.get());
        let has_begun = matches!(core.phase.get(), Phase::Streaming | Phase::Finished);
        if status >= 500 || result.is_err() {
            self.responses.count(|it| it.loads_failed += 1);
        }
        if (status >= 500 || result.is_err()) && !has_begun {
            load.keep_nothing(core.local.clock.now_ms(), false);
            if let Some(spare) = missing.spare.filter(|_| status >= 500) {
                return Ok(self.spare(core, &spare, &load.before, status, result.err()));
            }
        }
        let reply = result?;
        if core.phase.get() == Phase::Answered {
            run_on_head_after(core, count);
            let stored = load.whole(core).await;
            let stored = if stored { "; stored" } else { "" };
            self.tell(core, format_args!("fwd={}{stored}", missing.why));
        }
        Ok(reply)
    }

    /// The old answer, in place of an error.
    fn spare(
        &self,
        core: &Core,
        it: &Stored,
        before: &[u8],
        status: u16,
        error: Option<Error>,
    ) -> Reply {
        if let Some(error) = error {
            tracing::error!(status, "an old answer goes out in place of an error: {error}");
        }
        core.unanswer();
        core.with_fields(|fields| fields.extend_from_slice(before));
        core.names.set(u64::MAX); // whatever they are: they are read
        let now_ms = core.local.clock.now_ms();
        it.serve(core, now_ms);
        self.tell(core, format_args!("hit; ttl={}; fwd-status={status}", it.ttl_s(now_ms)));
        Reply::new()
    }
}

/// An answer that is being made.
struct Load {
    settings: Rc<CacheResponses>,
    responses: Rc<Responses>,
    key: Rc<str>,
    asked: Asked,
    /// While others may wait for it.
    lead: Cell<Option<Lead>>,
    mark: u64,
    /// Field lines that outer middleware had set: not the answer's own.
    before: Box<[u8]>,
    why: &'static str,
}

impl Load {
    /// Tells those who wait that each makes its own; from now on nobody waits, if it is the
    /// answer's own word.
    fn keep_nothing(&self, now_ms: u64, by_word: bool) {
        let Some(lead) = self.lead.take() else { return };
        if by_word && lead.is_awaited() {
            self.responses.pass(&self.key, now_ms);
        }
        lead.end(End::NotStored);
    }

    fn keep(&self, it: &Rc<Stored>, now_ms: u64) -> bool {
        let stored = self.responses.store(&self.key, it, self.mark, now_ms);
        if let Some(lead) = self.lead.take() {
            lead.end(if stored { End::Stored } else { End::Abandoned });
        }
        stored
    }

    /// A whole answer: whether it is kept.
    async fn whole(&self, core: &Core) -> bool {
        let fits = !core.has_file() && core.body_bytes() <= self.settings.body_bytes_max;
        let life = judge(core, &self.asked, self.settings.ttl).filter(|_| fits);
        let head = life.and_then(|life| Head::of(core, life, &self.before));
        let now_ms = core.local.clock.now_ms();
        let Some(head) = head else {
            self.keep_nothing(now_ms, is_keepable(core.status.get()));
            return false;
        };
        let has_tag = core.has_field("etag");
        let hash = if has_tag { 0 } else { hash_body(core).await.0 };
        core.own_body();
        let body = core.with_body(|body| Rc::from(body.as_slice()));
        let it = Rc::new(head.with_body(body, hash, tags_of(core)));
        if !has_tag && !it.tag.is_empty() {
            core.set_field("etag", &it.tag, false);
        }
        let stored = self.keep(&it, now_ms);
        it.meet_conditions(core);
        stored
    }

    /// A streamed answer, whose head is about to leave.
    fn begin_stream(self: &Rc<Load>, core: &Core) {
        let mime = core.field_copy("content-type").unwrap_or_default();
        let endless = mime.starts_with("text/event-stream");
        let life = judge(core, &self.asked, None).filter(|_| !endless);
        let head = life.and_then(|life| Head::of(core, life, &self.before));
        let site = Site { settings: &self.settings, responses: &self.responses };
        let Some(head) = head else {
            self.keep_nothing(core.local.clock.now_ms(), is_keepable(core.status.get()));
            return site.tell(core, format_args!("fwd={}", self.why));
        };
        site.tell(core, format_args!("fwd={}; stored", self.why));
        let inner = core.filter.take();
        let tee = Tee {
            load: self.clone(),
            inner,
            head: Some(head),
            tags: tags_of(core),
            body: Vec::new(),
            hasher: DefaultHasher::new(),
            shard: crate::shard::Shard(core.local.clone()),
        };
        core.filter.replace(Some(Box::new(tee)));
    }
}

fn tags_of(core: &Core) -> Box<[Box<str>]> {
    core.arena.got::<Tags>().map(|tags| tags.0.borrow().clone().into()).unwrap_or_default()
}

/// Passes a stream on, and gathers it.
struct Tee {
    load: Rc<Load>,
    /// What changes it before.
    inner: Option<Box<dyn BodyFilter>>,
    /// None once it is too large.
    head: Option<Head>,
    tags: Box<[Box<str>]>,
    body: Vec<u8>,
    hasher: DefaultHasher,
    shard: crate::shard::Shard,
}

impl Tee {
    fn gather(&mut self, bytes: &[u8]) {
        if self.head.is_none() {
            return;
        }
        if self.body.len() + bytes.len() > self.load.settings.body_bytes_max {
            (self.head, self.body) = (None, Vec::new());
            return self.load.keep_nothing(self.shard.now_ms(), true);
        }
        self.body.extend_from_slice(bytes);
        self.hasher.write(bytes);
    }
}

impl BodyFilter for Tee {
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        match &mut self.inner {
            Some(inner) => inner.write(bytes, out),
            None => out.extend_from_slice(bytes),
        }
        self.gather(&out[start..]);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        if let Some(inner) = &mut self.inner {
            inner.finish(out);
        }
        self.gather(&out[start..]);
        if let Some(head) = self.head.take() {
            let (body, tags) = (std::mem::take(&mut self.body), std::mem::take(&mut self.tags));
            let now_ms = self.shard.now_ms();
            let it = head.with_body(body.into(), self.hasher.finish(), tags);
            self.load.keep(&Rc::new(it), now_ms);
        }
    }
}
