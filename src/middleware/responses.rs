//! The answers that a shard keeps, and what is purged of them.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use super::collapse::Flights;
use super::stored::{Age, Asked, Stored};
use crate::app::core::Core;
use crate::cache::near::Cache;
use crate::cache::options::{CacheOptions, Ttl};
use crate::cache::stats::CacheStats;
use crate::error::Result;
use crate::limits::{RESPONSE_PASS_MS, RESPONSE_PURGES_MAX, RESPONSE_VARIANTS_MAX};
use crate::shard::Shard;

/// The kept answers of that name on every shard: to purge them, and to see what they are good for.
/// See [`Shard::cached_responses`].
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// use soloist::middleware::{CacheResponses, cache_responses};
///
/// async fn user(cx: &Ctx<()>) -> Result<Reply> {
///     let id: u64 = cx.param("id")?;
///     cx.cache_tags(&[&format!("user:{id}")]);
///     cx.set_header("cache-control", "public, max-age=60").text(format!("user {id}"))
/// }
/// async fn rename(cx: &Ctx<()>) -> Result<Reply> {
///     let tag = format!("user:{}", cx.param::<u64>("id")?);
///     // First the database, then what is remembered of it, on every shard.
///     cx.shard().cached_responses("pages").purge_tag(&tag).await?;
///     cx.empty()
/// }
/// # let app = App::new(()).wrap(cache_responses(CacheResponses::new("pages")))
/// #     .get("/users/:id", user).get("/people/:id", user).put("/users/:id", rename);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # for _ in 0..2 { client.get("/people/7").await.text("user 7"); }
/// # client.put("/users/7").await.expect(204);
/// # assert_eq!(client.get("/people/7").await.header("age"), None);
/// # let stats = client.shard().cached_responses("pages").stats();
/// # assert_eq!((stats.hits, stats.misses), (1, 2));
/// # });
/// ```
#[derive(Clone)]
pub struct CachedResponses {
    shard: Shard,
    name: &'static str,
}

impl Shard {
    /// The answers that [`cache_responses`](crate::middleware::cache_responses) keeps under that
    /// name: a handle for all shards.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let pages = client.shard().cached_responses("pages");
    /// pages.purge_all().await.expect("every shard has answered");
    /// # });
    /// ```
    pub fn cached_responses(&self, name: &'static str) -> CachedResponses {
        CachedResponses { shard: self.clone(), name }
    }
}

impl CachedResponses {
    /// Forgets every answer whose handler gave it this tag, on every shard: who asks after this
    /// has returned gets none of them, and what is being made with the tag is not kept.
    ///
    /// # Errors
    /// When a shard does not answer: see [`Shard::on_all`]. The others have forgotten them then.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let pages = client.shard().cached_responses("pages");
    /// pages.purge_tag("user:7").await.expect("every shard has answered");
    /// # });
    /// ```
    pub async fn purge_tag(&self, tag: &str) -> Result<()> {
        self.purge_everywhere(What::Tag(tag.to_owned())).await
    }

    /// Forgets the answers of one key, all variants of it: host, path and query as they were asked
    /// for, unless [`cache_responses_by`](crate::middleware::cache_responses_by) makes keys.
    ///
    /// # Errors
    /// As of [`purge_tag`](CachedResponses::purge_tag).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let pages = client.shard().cached_responses("pages");
    /// pages.purge("example.com/users?page=2").await.expect("every shard has answered");
    /// # });
    /// ```
    pub async fn purge(&self, key: &str) -> Result<()> {
        self.purge_everywhere(What::Key(key.to_owned())).await
    }

    /// Forgets all of them.
    ///
    /// # Errors
    /// As of [`purge_tag`](CachedResponses::purge_tag).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn deployed(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.shard().cached_responses("pages").purge_all().await?;
    ///     cx.empty()
    /// }
    /// ```
    pub async fn purge_all(&self) -> Result<()> {
        self.purge_everywhere(What::All).await
    }

    /// What they were good for on this shard: a hit is an answer without a handler, a load a
    /// handler that ran, a wait a request that waited for the answer to another one.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// assert_eq!(client.shard().cached_responses("pages").stats().hit_rate(), 0.0);
    /// # });
    /// ```
    pub fn stats(&self) -> CacheStats {
        let Some(it) = Responses::known(&self.shard, self.name) else { return Default::default() };
        let (own, mut all) = (it.counted.borrow(), it.cache.stats());
        (all.hits, all.misses, all.waits) = (own.hits, own.misses, own.waits);
        (all.loads, all.loads_failed) = (own.loads, own.loads_failed);
        all
    }

    async fn purge_everywhere(&self, what: What) -> Result<()> {
        let (name, about) = (self.name, what.clone());
        let own = Responses::known(&self.shard, name);
        // This one in any case. Where it has kept nothing yet, each says it for itself.
        let each_says = own.is_none();
        if let Some(it) = &own {
            it.note(&what);
        }
        let noted = self.shard.on_all(async move |there| {
            if let Some(it) = Responses::known(&there, name) {
                it.note(&about);
                if each_says {
                    it.forget(&about);
                }
            }
            Ok(())
        });
        let noted = noted.await.map(|_| ());
        // Then what was kept: on all shards, whatever has answered.
        if let Some(it) = Responses::known(&self.shard, name) {
            it.forget(&what);
        }
        noted
    }
}

/// What is purged.
#[derive(Clone, Debug, Hash)]
enum What {
    Tag(String),
    Key(String),
    All,
}

/// The answers of one name on one shard.
pub(super) struct Responses {
    cache: Cache<Rc<str>, Page>,
    pub(super) flights: Rc<Flights>,
    purges: RefCell<Purges>,
    counted: RefCell<CacheStats>,
}

/// The answers of one key.
#[derive(Clone, Default)]
struct Page {
    variants: Vec<Rc<Stored>>,
    /// Until then nobody waits for another one's answer: what came was not for others.
    pass_until_ms: u64,
}

/// What is there for a request.
pub(super) enum Found {
    Fresh(Rc<Stored>),
    /// It may be given while somebody makes a new one.
    Stale(Rc<Stored>),
    None(Missing),
}

/// Why nothing is there, and what could stand in.
#[derive(Default)]
pub(super) struct Missing {
    /// As of RFC 9211 section 2.2.
    pub(super) why: &'static str,
    /// Answers of this key are not for others.
    pub(super) pass: bool,
    /// If no new one can be made.
    pub(super) spare: Option<Rc<Stored>>,
}

/// The responses of a shard, by name.
#[derive(Default)]
struct Registry(RefCell<HashMap<&'static str, Rc<Responses>>>);

impl Responses {
    pub(super) fn known(shard: &Shard, name: &str) -> Option<Rc<Responses>> {
        shard.got::<Registry>()?.0.borrow().get(name).cloned()
    }

    pub(super) fn made(shard: &Shard, name: &'static str, bytes_max: u64) -> Rc<Responses> {
        if let Some(known) = Responses::known(shard, name) {
            return known;
        }
        let all = shard.got::<Registry>().unwrap_or_else(|| shard.put(Registry::default()));
        // What has tags lives as long as the cache says; its own word is in it.
        let options = CacheOptions::new().bytes_max(bytes_max, weigh).ttl(DAY);
        let it = Rc::new(Responses {
            cache: shard.cache_with(name, options),
            flights: Rc::default(),
            purges: RefCell::default(),
            counted: RefCell::default(),
        });
        all.0.borrow_mut().insert(name, it.clone());
        it
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut CacheStats)) {
        change(&mut self.counted.borrow_mut());
    }

    pub(super) fn look(&self, core: &Core, key: &str, asked: &Asked) -> Found {
        let now_ms = core.local.clock.now_ms();
        let missing = |why| Missing { why, ..Missing::default() };
        let found = self.cache.with(key, |page| {
            let pass = page.pass_until_ms > now_ms;
            let Some(it) = page.variants.iter().find(|it| it.suits(core)) else {
                let why = if page.variants.is_empty() { "uri-miss" } else { "vary-miss" };
                return Found::None(Missing { pass, ..missing(why) });
            };
            if !it.is_for(asked) {
                return Found::None(Missing { pass, ..missing("request") });
            }
            match it.age(now_ms) {
                Age::Fresh => Found::Fresh(it.clone()),
                Age::Stale => Found::Stale(it.clone()),
                Age::Spare => Found::None(Missing { why: "stale", pass, spare: Some(it.clone()) }),
                Age::Dead => Found::None(Missing { pass, ..missing("stale") }),
            }
        });
        found.unwrap_or_else(|| Found::None(missing("uri-miss")))
    }

    /// Where purges stand: what is made from here on is not kept if one of them meets it.
    pub(super) fn mark(&self) -> u64 {
        self.purges.borrow().count
    }

    /// Keeps an answer; false if it was purged since `mark`.
    pub(super) fn store(&self, key: &Rc<str>, it: &Rc<Stored>, mark: u64, now_ms: u64) -> bool {
        let meets = |what: What| self.purges.borrow().have_met(&what, mark);
        let purged = meets(What::All)
            || meets(What::Key(key.to_string()))
            || it.tags.iter().any(|tag| meets(What::Tag(tag.to_string())));
        if purged {
            return false;
        }
        let before = self.cache.update(&**key, |page| page.variants.clone());
        let mut variants = before.unwrap_or_default();
        variants.retain(|old| old.left_ms(now_ms) > 0 && !it.replaces(old));
        if variants.len() >= RESPONSE_VARIANTS_MAX {
            variants.remove(0); // the oldest
        }
        variants.push(it.clone());
        self.put(key, Page { variants, pass_until_ms: 0 }, now_ms);
        true
    }

    /// Notes that what a key gives is not for others.
    pub(super) fn pass(&self, key: &Rc<str>, now_ms: u64) {
        let before = self.cache.update(&**key, |page| page.variants.clone());
        let mut variants = before.unwrap_or_default();
        variants.retain(|old| old.left_ms(now_ms) > 0);
        self.put(key, Page { variants, pass_until_ms: now_ms + RESPONSE_PASS_MS }, now_ms);
    }

    fn put(&self, key: &Rc<str>, page: Page, now_ms: u64) {
        let variants = page.variants.clone();
        let tags: Vec<&str> = variants.iter().flat_map(|it| &it.tags).map(|it| &**it).collect();
        if !tags.is_empty() {
            return self.cache.insert_tagged(key.clone(), page, &tags);
        }
        let lives = page.variants.iter().map(|it| it.left_ms(now_ms));
        let left_ms = lives.chain([page.pass_until_ms.saturating_sub(now_ms)]).max().unwrap_or(0);
        let ttl = Ttl::After(Duration::from_millis(left_ms));
        self.cache.insert_with(key.clone(), page, ttl);
    }

    /// Says to all shards what is out of date. A key was taken out with its note.
    fn forget(&self, what: &What) {
        match what {
            What::Tag(tag) => _ = self.cache.invalidate_tag(tag),
            What::All => _ = self.cache.clear(),
            What::Key(_) => {}
        }
    }

    /// What is made from now on, and meets this, is not kept; nor is an answer of this key.
    fn note(&self, what: &What) {
        self.purges.borrow_mut().add(what);
        if let What::Key(key) = what {
            self.cache.take(&**key);
        }
    }
}

/// What was purged of late, so that an answer which was made meanwhile is not kept: its tags are
/// known only when it is there.
#[derive(Default)]
struct Purges {
    count: u64,
    latest: VecDeque<u64>,
}

impl Purges {
    fn add(&mut self, what: &What) {
        if self.latest.len() >= RESPONSE_PURGES_MAX {
            self.latest.pop_front();
        }
        self.count += 1;
        self.latest.push_back(hash(what));
    }

    /// Whether one was met since; it counts as met where too many have come to know.
    fn have_met(&self, what: &What, mark: u64) -> bool {
        let since = (self.count - mark) as usize;
        if since == 0 {
            return false;
        }
        let wanted = hash(what);
        since > self.latest.len() || self.latest.iter().rev().take(since).any(|it| *it == wanted)
    }
}

fn hash(what: &What) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn weigh(key: &Rc<str>, page: &Page) -> usize {
    key.len() + page.variants.iter().map(|it| it.bytes() + 8).sum::<usize>()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
