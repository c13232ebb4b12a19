//! A cache of one shard: no lock, no other thread, no copy but the one you ask for.

use std::any::{Any, TypeId};
use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::far::Far;
use super::flight::Flight;
use super::hub::Hub;
use super::options::{CacheOptions, Ttl};
use super::process::{Beneath, Held, Terms};
use super::stale::{Place, Version};
use super::stats::{CacheStats, Counting};
use super::store::{self, Gone, Life, Store};
use crate::limits::{CACHE_ENTRY_BYTES, CACHE_LIFE_MS_MAX, CACHE_SWEEP_MS};
use crate::shard::Shard;

/// Keys and values that a shard keeps for later: a handle, cheap to clone, that does not leave its
/// thread. See [`Shard::cache`].
///
/// Every shard has its own entries: what one has stored the others load for themselves. What is
/// thrown out is chosen by S3-FIFO, which a scan of many keys does not disturb.
///
/// Values and keys are dropped while nothing of the cache is in use: a `Drop` may ask it. `Clone`
/// of a value, `Hash` and `Eq` of a key must not: they panic then, as what is given to
/// [`with`](Cache::with) does. A panic of any of them costs the request that it came in.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # async fn from_database(id: u64) -> Result<String> { Ok(format!("user {id}")) }
/// async fn user(cx: &Ctx<()>) -> Result<Reply> {
///     let id: u64 = cx.param("id")?;
///     let users = cx.shard().cache::<u64, String>("users");
///     // One load, however many ask.
///     cx.text(users.get_or(id, async || from_database(id).await).await?)
/// }
/// # let app = App::new(()).get("/:id", user);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// # client.get("/7").await.text("user 7");
/// # client.get("/7").await.text("user 7");
/// # assert_eq!(client.shard().cache::<u64, String>("users").stats().loads, 1);
/// # });
/// ```
pub struct Cache<K, V>(pub(super) Rc<Inner<K, V>>);

pub(super) struct Inner<K, V> {
    pub(super) shard: Shard,
    pub(super) name: &'static str,
    pub(super) store: RefCell<Store<K, V>>,
    /// What is kept once for all shards, if that was asked for.
    pub(super) beneath: Option<Arc<dyn Beneath<K, V>>>,
    /// What is kept for all nodes, likewise.
    far: RefCell<Option<Rc<dyn Far<K, V>>>>,
    pub(super) flights: RefCell<HashMap<K, Rc<Flight<V>>>>,
    options: CacheOptions<K, V>,
    /// With the time in which it is given out while it is loaded anew.
    life: Life,
    stale_ms: u64,
    pub(super) counting: Counting,
    /// A task looks after what dies by itself.
    swept: Cell<bool>,
    /// What this cache of all shards tells each other.
    pub(super) hub: Arc<Hub>,
    /// All words up to this one were heard.
    pub(super) heard: Cell<Version>,
}

/// One that does not keep it.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) struct WeakCache<K, V>(Weak<Inner<K, V>>);

#[cfg(any(feature = "memcached", feature = "redis"))]
impl<K, V> WeakCache<K, V> {
    pub(crate) fn upgrade(&self) -> Option<Cache<K, V>> {
        self.0.upgrade().map(Cache)
    }
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Cache(self.0.clone())
    }
}

impl Shard {
    /// The cache of that name and type on this shard, made when it is first asked for: 10,000
    /// entries that live until they are removed or thrown out.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let shard = client.shard();
    /// shard.cache::<u32, &str>("words").insert(1, "one");
    /// assert_eq!(shard.cache::<u32, &str>("words").get(&1), Some("one")); // the same one
    /// # });
    /// ```
    pub fn cache<K, V>(&self, name: &'static str) -> Cache<K, V>
    where
        K: Hash + Eq + 'static,
        V: 'static,
    {
        self.cache_with(name, CacheOptions::new())
    }

    /// The same, kept as `options` say if it is made now.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{CacheOptions, prelude::*};
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let options = CacheOptions::new().entries_max(1_000).ttl(Duration::from_secs(60));
    ///     let prices = shard.cache_with::<String, u64>("prices", options);
    ///     Ok(App::new(()).get("/:item", async move |cx| {
    ///         cx.json(&prices.get(cx.param::<&str>("item")?))
    ///     }))
    /// }
    /// # soloist::testing::TestClient::run(app, async |client| {
    /// # client.get("/pen").await.text("null");
    /// # });
    /// ```
    pub fn cache_with<K, V>(&self, name: &'static str, options: CacheOptions<K, V>) -> Cache<K, V>
    where
        K: Hash + Eq + 'static,
        V: 'static,
    {
        if let Some(known) = Cache::known(self, name) {
            return known;
        }
        let all = self.got::<Caches>().unwrap_or_else(|| self.put(Caches::default()));
        let key = (name, TypeId::of::<Cache<K, V>>());
        let hub = self.0.common(key, || Hub::new(self.count()));
        let cache = Cache(Rc::new(Inner::new(self.clone(), name, options, hub)));
        cache.listen();
        all.0.borrow_mut().insert(key, cache.0.clone());
        cache
    }
}

/// The caches of a shard, by name and type.
#[derive(Default)]
struct Caches(RefCell<HashMap<Name, Rc<dyn Any>>>);

type Name = (&'static str, TypeId);

impl<K: Hash + Eq + 'static, V: 'static> Cache<K, V> {
    /// A copy of the value of a key, if it is there: make large ones `Rc<T>`, or look at them
    /// [`with`](Cache::with) a closure.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<String, u32>("ports");
    /// cache.insert("http".to_owned(), 80);
    /// assert_eq!((cache.get("http"), cache.get("gopher")), (Some(80), None)); // no `String` to ask
    /// # });
    /// ```
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.with(key, V::clone)
    }

    /// Lends the value of a key to `look`, if it is there.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let pages = client.shard().cache::<&str, Vec<u8>>("pages");
    /// pages.insert("/", vec![0; 1 << 20]);
    /// assert_eq!(pages.with("/", |page| page.len()), Some(1 << 20)); // nothing is copied
    /// # });
    /// ```
    ///
    /// # Panics
    /// When `look` uses the same cache.
    pub fn with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hear();
        let found = self.0.store.borrow_mut().get(key, || self.now_ms()).map(|it| look(it));
        let hit = found.is_some();
        self.0.counting.asked(hit);
        if !hit {
            self.0.store.borrow_mut().forget_stale(key);
            self.let_go();
        }
        found
    }

    /// Changes the value of a key where it lies, if it is there: for counters. Its weight and its
    /// life stay as they are.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let visits = client.shard().cache::<&str, u64>("visits");
    /// visits.insert("ann", 1);
    /// visits.update("ann", |count| *count += 1);
    /// assert_eq!((visits.get("ann"), visits.update("bob", |_| ())), (Some(2), None));
    /// # });
    /// ```
    ///
    /// # Panics
    /// When `change` uses the same cache.
    pub fn update<Q, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hear();
        self.0.store.borrow_mut().get(key, || self.now_ms()).map(change)
    }

    /// Adds to the number of a key, or stores it if there is none; the sum. The entry's life stays
    /// as it is.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let visits = client.shard().cache::<&str, u64>("visits");
    /// assert_eq!([visits.increment("ann", 1), visits.increment("ann", 2)], [1, 3]);
    /// # });
    /// ```
    pub fn increment(&self, key: K, by: V) -> V
    where
        V: AddAssign + Copy,
    {
        let sum = self.update(&key, |it| {
            *it += by;
            *it
        });
        sum.unwrap_or_else(|| {
            self.insert(key, by);
            by
        })
    }

    /// Copies of the values of many keys, in their order.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let squares = client.shard().cache::<u64, u64>("squares");
    /// squares.insert_many([(2, 4), (3, 9)]);
    /// assert_eq!(squares.get_many(&[3, 5]), [Some(9), None]);
    /// # });
    /// ```
    pub fn get_many<Q>(&self, keys: &[Q]) -> Vec<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq,
        V: Clone,
    {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Whether a key is there; no use of it is counted.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let seen = client.shard().cache::<u64, ()>("seen");
    /// seen.insert(7, ());
    /// assert!(seen.contains(&7) && !seen.contains(&8));
    /// # });
    /// ```
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hear();
        self.0.store.borrow().peek(key, self.now_ms()).is_some()
    }

    /// Stores a value for as long as the cache says, in place of an older one.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<&str, u32>("versions");
    /// cache.insert("app", 1);
    /// cache.insert("app", 2);
    /// assert_eq!((cache.get("app"), cache.len()), (Some(2), 1));
    /// # });
    /// ```
    pub fn insert(&self, key: K, value: V) {
        self.insert_with(key, value, Ttl::Default);
    }

    /// The same, for as long as is said.
    ///
    /// ```
    /// # use soloist::{Ttl, prelude::*, testing::TestClient};
    /// # use std::time::Duration;
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<&str, u32>("codes");
    /// cache.insert_with("ann", 1234, Ttl::After(Duration::from_secs(300)));
    /// assert_eq!(cache.ttl("ann"), Some(Some(Duration::from_secs(300))));
    /// # });
    /// ```
    pub fn insert_with(&self, key: K, value: V, ttl: Ttl) {
        self.hear();
        self.put(key, value, self.now(self.ttl_ms(ttl), None));
    }

    /// Stores a value that is gone once one of its tags is [invalidated](Cache::invalidate_tag).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let pages = client.shard().cache::<&str, &str>("pages");
    /// pages.insert_tagged("/teams/3", "<p>Ann, Bob", &["team:3", "user:ann", "user:bob"]);
    /// pages.insert_tagged("/users/ann", "<p>Ann", &["user:ann"]);
    /// pages.invalidate_tag("user:bob");
    /// assert_eq!((pages.get("/teams/3"), pages.get("/users/ann")), (None, Some("<p>Ann")));
    /// # });
    /// ```
    pub fn insert_tagged(&self, key: K, value: V, tags: &[&str]) {
        self.hear();
        let tags = self.0.hub.places.of_tags(tags);
        self.put(key, value, self.now(self.0.life.ttl_ms, tags));
    }

    /// Stores many, as [`insert`](Cache::insert) does: to warm up where the application is built.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let squares = shard.cache::<u64, u64>("squares");
    ///     squares.insert_many((0..100).map(|it| (it, it * it)));
    ///     Ok(App::new(()).get("/:n", async move |cx| cx.json(&squares.get(&cx.param("n")?))))
    /// }
    /// # TestClient::run(app, async |client| { client.get("/9").await.text("81"); });
    /// ```
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }

    /// Takes an entry out on this shard alone, and keeps a load of it that is under way from being
    /// stored. What has become untrue is [removed](Cache::remove) instead, on all.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<&str, u32>("sessions");
    /// cache.insert("ann", 7);
    /// assert_eq!((cache.take("ann"), cache.take("ann")), (Some(7), None));
    /// # });
    /// ```
    pub fn take<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hear();
        drop(self.0.void(key));
        let taken = self.0.store.borrow_mut().remove(key, self.now_ms());
        self.let_go();
        taken.map(|(_, value)| value)
    }

    /// How long an entry has to live: `Some(None)` is for ever, none that it is not there. How long
    /// it may stay unasked for is not in it.
    ///
    /// ```
    /// # use soloist::{Ttl, prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<&str, u32>("ages");
    /// cache.insert("ann", 30);
    /// assert_eq!((cache.ttl("ann"), cache.ttl("bob")), (Some(None), None));
    /// # });
    /// ```
    pub fn ttl<Q>(&self, key: &Q) -> Option<Option<Duration>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hear();
        let left = self.0.store.borrow().ttl_ms(key, self.now_ms())?;
        Some(left.map(Duration::from_millis))
    }

    /// Lets an entry live so long from now on; false if it is not there.
    ///
    /// ```
    /// # use soloist::{Ttl, prelude::*, testing::TestClient};
    /// # use std::time::Duration;
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<&str, u32>("leases");
    /// cache.insert("ann", 7);
    /// assert!(cache.extend("ann", Ttl::After(Duration::from_secs(5))));
    /// client.advance(Duration::from_secs(6)).await;
    /// assert!(!cache.extend("ann", Ttl::Never)); // too late
    /// # });
    /// ```
    pub fn extend<Q>(&self, key: &Q, ttl: Ttl) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hear();
        let ttl_ms = self.ttl_ms(ttl);
        let there = self.0.store.borrow_mut().extend(key, ttl_ms, self.now_ms());
        self.look_after();
        there
    }

    /// Entries that it holds; those dead for less than a second are among them.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<u64, u64>("few");
    /// cache.insert_many([(1, 1), (2, 4)]);
    /// assert_eq!(cache.len(), 2);
    /// # });
    /// ```
    pub fn len(&self) -> usize {
        self.hear();
        self.0.store.borrow().len()
    }

    /// Whether it holds none.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// assert!(client.shard().cache::<u64, u64>("none").is_empty());
    /// # });
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it has done so far on this shard.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn rates(cx: &Ctx<()>) -> Result<Reply> {
    ///     let shard = cx.shard();
    ///     let rates = shard.on_all(async |shard| {
    ///         Ok(shard.cache::<u64, String>("users").stats().hit_rate())
    ///     });
    ///     cx.json(&rates.await?)
    /// }
    /// # let app = App::new(()).get("/", rates);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("[0.0]");
    /// # });
    /// ```
    pub fn stats(&self) -> CacheStats {
        self.hear();
        let store = self.0.store.borrow();
        let mut stats = self.0.counting.now();
        (stats.entries, stats.weight) = (store.len() as u64, store.weight());
        stats
    }

    /// The cache of that name, if there is one on the shard.
    pub(crate) fn known(shard: &Shard, name: &'static str) -> Option<Self> {
        let all = shard.got::<Caches>()?;
        let known = all.0.borrow().get(&(name, TypeId::of::<Self>())).cloned()?;
        known.downcast().ok().map(Cache)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.0.name
    }

    pub(crate) fn shard(&self) -> &Shard {
        &self.0.shard
    }

    pub(super) fn far(&self) -> Option<Rc<dyn Far<K, V>>> {
        self.0.far.borrow().clone()
    }

    #[cfg(any(feature = "memcached", feature = "redis"))]
    pub(crate) fn weak(&self) -> WeakCache<K, V> {
        WeakCache(Rc::downgrade(&self.0))
    }

    /// Puts a level under it, if it has none.
    #[cfg(any(feature = "memcached", feature = "redis"))]
    pub(crate) fn put_far(&self, make: impl FnOnce(&Arc<Hub>) -> Rc<dyn Far<K, V>>) {
        if self.far().is_none() {
            let far = make(&self.0.hub); // not borrowed: it may be told at once
            self.0.far.borrow_mut().get_or_insert(far);
        }
    }

    pub(crate) fn options(&self) -> CacheOptions<K, V> {
        self.0.options.clone()
    }

    /// The shard that a key belongs to: the same on all.
    pub(crate) fn owner_of(&self, key: &K) -> usize {
        (self.0.hub.places.of_key(key) % self.0.shard.count() as u64) as usize
    }

    /// Whether an entry is there beyond its time.
    pub(super) fn is_old(&self, key: &K) -> bool {
        let left = self.0.store.borrow().ttl_ms(key, self.now_ms());
        left.flatten().is_some_and(|left_ms| left_ms <= self.0.stale_ms)
    }

    /// Whether what ends then is beyond its time by now.
    pub(super) fn is_past(&self, expires_unix_ms: Option<u64>) -> bool {
        let until_ms = self.0.shard.0.clock.unix_ms().saturating_add(self.0.stale_ms);
        expires_unix_ms.is_some_and(|it| it <= until_ms)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.0.shard.now_ms()
    }

    pub(super) fn ttl_ms(&self, ttl: Ttl) -> Option<u64> {
        match ttl {
            Ttl::Default => self.0.life.ttl_ms,
            Ttl::Never => None,
            Ttl::After(time) => Some(ms(time) + self.0.stale_ms),
        }
    }

    fn note(&self, gone: Gone) {
        self.0.counting.count(|it| {
            it.evictions += gone.evicted;
            it.expirations += gone.expired;
        });
    }

    /// Terms of a value that is made now, of all words up to those that were heard.
    pub(super) fn now(&self, ttl_ms: Option<u64>, tags: Option<Box<[Place]>>) -> Terms {
        Terms {
            expires_unix_ms: ttl_ms.map(|it| self.0.shard.0.clock.unix_ms().saturating_add(it)),
            born: self.0.store.borrow().stale.newest(),
            heard: self.0.heard.get(),
            tags,
        }
    }

    /// Stores a value here, and beneath if no word has come since it was heard of.
    pub(super) fn put(&self, key: K, value: V, terms: Terms) {
        if let Some(beneath) = &self.0.beneath {
            beneath.put(&key, &value, &terms, &|| self.0.hub.version() == self.0.heard.get());
        }
        self.store(key, value, terms);
    }

    fn store(&self, key: K, value: V, terms: Terms) {
        let weight = match self.0.options.weigher {
            Some(weigh) => {
                let bytes = weigh(&key, &value).saturating_add(CACHE_ENTRY_BYTES);
                u32::try_from(bytes).unwrap_or(u32::MAX)
            }
            None => 1,
        };
        let unix_ms = self.0.shard.0.clock.unix_ms();
        let ttl_ms = terms.expires_unix_ms.map(|it| it.saturating_sub(unix_ms));
        let life = Life { ttl_ms, ..self.0.life };
        let mut store = self.0.store.borrow_mut();
        let terms = store::Terms { weight, life, born: terms.born, tags: terms.tags };
        let gone = store.insert(key, value, terms, self.now_ms());
        drop(store);
        self.note(gone);
        self.look_after();
        self.let_go();
    }

    /// Drops what has gone, while nothing is borrowed.
    #[inline]
    pub(super) fn let_go(&self) {
        loop {
            let gone = self.0.store.borrow_mut().gone();
            if gone.is_none() {
                return;
            }
        }
    }

    /// What is kept for all shards, alive and as no word is about; it is stored here too.
    pub(super) fn beneath(&self, key: &K) -> Option<V>
    where
        K: Clone,
        V: Clone,
    {
        let Held { value, mut terms } = self.0.beneath.as_ref()?.get(key)?;
        // It is newer than every word that was heard where it was loaded.
        terms.born = terms.born.max(terms.heard);
        let alive = terms.expires_unix_ms.is_none_or(|it| it > self.0.shard.0.clock.unix_ms());
        let store = self.0.store.borrow();
        let fresh = store.is_fresh(key, terms.born, terms.tags.as_deref());
        drop(store);
        if !alive || !fresh {
            return None;
        }
        self.0.counting.count(|it| it.hits_shared += 1);
        self.store(key.clone(), value.clone(), terms);
        Some(value)
    }

    /// Sees to it that what is dead does not stay, as long as anything can die.
    fn look_after(&self) {
        if self.0.swept.get() || !self.0.store.borrow().has_mortal() {
            return;
        }
        let (weak, shard) = (Rc::downgrade(&self.0), self.0.shard.clone());
        self.0.swept.set(true);
        self.0.shard.spawn_own(async move {
            loop {
                shard.sleep(Duration::from_millis(CACHE_SWEEP_MS)).await;
                let Some(cache) = Weak::upgrade(&weak).map(Cache) else { return };
                let gone = cache.0.store.borrow_mut().sweep(cache.now_ms());
                cache.note(gone);
                if catch_unwind(AssertUnwindSafe(|| cache.let_go())).is_err() {
                    tracing::error!(cache = cache.0.name, "the drop of a value has panicked");
                }
                if !cache.0.store.borrow().has_mortal() {
                    return cache.0.swept.set(false);
                }
            }
        });
    }
}

impl<K: Hash + Eq, V> Inner<K, V> {
    /// A load that is under way is not stored, and who comes later does not wait for it. What it
    /// was known by is for the caller to drop.
    pub(super) fn void<Q>(&self, key: &Q) -> Option<(K, Rc<Flight<V>>)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let known = self.flights.borrow_mut().remove_entry(key);
        known.inspect(|(_, flight)| flight.void.set(true))
    }

    fn new(
        shard: Shard,
        name: &'static str,
        options: CacheOptions<K, V>,
        hub: Arc<Hub>,
    ) -> Inner<K, V> {
        let stale_ms = ms(options.stale);
        let ttl_ms = options.ttl.map(|it| ms(it) + stale_ms);
        let life = Life { ttl_ms, idle_ms: options.idle.map(ms) };
        let weight_max = options.bytes_max.unwrap_or(u64::MAX);
        let (places, heard) = (hub.places.clone(), hub.open(shard.id()));
        let mut store = Store::new(weight_max, options.entries_max, places, shard.now_ms());
        store.stale.all(heard); // of what is beneath, it knows none of the words before
        let beneath = options.beneath.map(|it| it(&shard, name, options.beneath_entries_max));
        Inner {
            shard,
            name,
            store: RefCell::new(store),
            beneath,
            far: RefCell::default(),
            flights: RefCell::default(),
            options,
            life,
            stale_ms,
            counting: Counting::default(),
            swept: Cell::new(false),
            hub,
            heard: Cell::new(heard),
        }
    }
}

/// No longer than a hundred years, so that sums of times do not overflow.
fn ms(time: Duration) -> u64 {
    time.as_millis().min(u128::from(CACHE_LIFE_MS_MAX)) as u64
}

impl<K, V> Drop for Inner<K, V> {
    fn drop(&mut self) {
        self.hub.close(self.shard.id());
    }
}
