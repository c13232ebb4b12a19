//! A cache of one shard: no lock, no other thread, no copy but the one you ask for.

use std::any::{Any, TypeId};
use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::flight::{End, Flight};
use super::options::{CacheOptions, Ttl};
use super::stats::{CacheStats, Counting};
use super::store::{Gone, Life, Store};
use super::tags::Mark;
use crate::error::{Error, Result};
use crate::limits::{CACHE_ENTRY_BYTES, CACHE_SWEEP_MS};
use crate::shard::Shard;

/// Keys and values that a shard keeps for later: a handle, cheap to clone, that does not leave its
/// thread. See [`Shard::cache`].
///
/// Every shard has its own entries: what one has stored the others load for themselves. What is
/// thrown out is chosen by S3-FIFO, which a scan of many keys does not disturb.
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
pub struct Cache<K, V>(Rc<Inner<K, V>>);

struct Inner<K, V> {
    shard: Shard,
    name: &'static str,
    store: RefCell<Store<K, V>>,
    flights: RefCell<HashMap<K, Rc<Flight<V>>>>,
    weigher: Option<fn(&K, &V) -> usize>,
    life: Life,
    counting: Counting,
    /// A task looks after what dies by itself.
    swept: Cell<bool>,
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
        let cache = Cache(Rc::new(Inner::new(self.clone(), name, options)));
        let key = (name, TypeId::of::<Cache<K, V>>());
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
        let found = self.0.store.borrow_mut().get(key, self.now_ms()).map(look);
        let hit = found.is_some();
        if !hit {
            self.0.store.borrow_mut().forget_stale(key);
        }
        self.0.counting.count(|it| match hit {
            true => it.hits += 1,
            false => it.misses += 1,
        });
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
    pub fn update<Q, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.store.borrow_mut().get_mut(key, self.now_ms()).map(change)
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
        self.store(key, value, ttl, None);
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
        let marks = self.0.store.borrow_mut().marks(tags);
        self.store(key, value, Ttl::Default, Some(marks));
    }

    /// All that was stored with this tag is gone, and what of it is being loaded is not kept: at
    /// once, however many entries they are. Tags are told apart by 16 bits of their hashes: now and
    /// then an entry goes that has another one.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let prices = client.shard().cache::<u64, u64>("prices");
    /// (0..1_000).for_each(|id| prices.insert_tagged(id, 17, &["list:2026"]));
    /// prices.invalidate_tag("list:2026");
    /// assert!((0..1_000).all(|id| prices.get(&id).is_none()));
    /// # });
    /// ```
    pub fn invalidate_tag(&self, tag: &str) {
        self.0.store.borrow_mut().invalidate(tag);
    }

    fn store(&self, key: K, value: V, ttl: Ttl, marks: Option<Box<[Mark]>>) {
        let weight = match self.0.weigher {
            Some(weigh) => (weigh(&key, &value) + CACHE_ENTRY_BYTES).min(u32::MAX as usize) as u32,
            None => 1,
        };
        let life = Life { ttl_ms: self.ttl_ms(ttl), ..self.0.life };
        let mut store = self.0.store.borrow_mut();
        let gone = store.insert(key, value, weight, life, marks, self.now_ms());
        drop(store);
        self.note(gone);
        self.look_after();
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

    /// Takes an entry out, and keeps a load of it that is under way from being stored.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<&str, u32>("sessions");
    /// cache.insert("ann", 7);
    /// assert_eq!((cache.remove("ann"), cache.remove("ann")), (Some(7), None));
    /// # });
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(flight) = self.0.flights.borrow_mut().remove(key) {
            flight.void.set(true);
        }
        self.0.store.borrow_mut().remove(key, self.now_ms())
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
        let ttl_ms = self.ttl_ms(ttl);
        let there = self.0.store.borrow_mut().extend(key, ttl_ms, self.now_ms());
        self.look_after();
        there
    }

    /// Forgets everything, and what is being loaded.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<u64, u64>("all");
    /// cache.insert(1, 1);
    /// cache.clear();
    /// assert!(cache.is_empty());
    /// # });
    /// ```
    pub fn clear(&self) {
        for (_, flight) in self.0.flights.borrow_mut().drain() {
            flight.void.set(true);
        }
        self.0.store.borrow_mut().clear();
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
        let store = self.0.store.borrow();
        let (entries, weight) = (store.len() as u64, store.weight());
        CacheStats { entries, weight, ..self.0.counting.now() }
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

    fn now_ms(&self) -> u64 {
        self.0.shard.now_ms()
    }

    fn ttl_ms(&self, ttl: Ttl) -> Option<u64> {
        match ttl {
            Ttl::Default => self.0.life.ttl_ms,
            Ttl::Never => None,
            Ttl::After(time) => Some(time.as_millis() as u64),
        }
    }

    fn note(&self, gone: Gone) {
        self.0.counting.count(|it| {
            it.evictions += gone.evicted;
            it.expirations += gone.expired;
        });
    }

    /// Sees to it that what is dead does not stay, as long as anything can die.
    fn look_after(&self) {
        if self.0.swept.get() || !self.0.store.borrow().has_mortal() {
            return;
        }
        let (weak, shard) = (Rc::downgrade(&self.0), self.0.shard.clone());
        let task = self.0.shard.spawn(async move {
            loop {
                shard.sleep(Duration::from_millis(CACHE_SWEEP_MS)).await;
                let Some(cache) = Weak::upgrade(&weak).map(Cache) else { return };
                let gone = cache.0.store.borrow_mut().sweep(cache.now_ms());
                cache.note(gone);
                if !cache.0.store.borrow().has_mortal() {
                    return cache.0.swept.set(false);
                }
            }
        });
        // With too many tasks there is none: the next insertion tries again.
        self.0.swept.set(!task.is_finished());
    }
}

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> Cache<K, V> {
    /// The value of a key; if it is not there, what `load` gives, which is stored. However many ask
    /// for a key at once, one load runs, and the others wait for it.
    ///
    /// What is not to be found can be cached too: let `V` be an `Option`. A load that was under way
    /// when its key was [removed](Cache::remove) answers those who waited, and is not stored.
    ///
    /// # Errors
    /// That of `load`; who waited gets its status and message. If the load panics or is dropped,
    /// one of those who waited loads in its place.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let cache = client.shard().cache::<u64, Option<String>>("names");
    /// let none = cache.get_or(7, async || Ok(None)).await.expect("no error");
    /// let still = cache.get_or(7, async || Err(Error::not_found())).await.expect("not loaded again");
    /// assert_eq!((none, still), (None, None));
    /// # });
    /// ```
    pub async fn get_or(&self, key: K, load: impl AsyncFnOnce() -> Result<V>) -> Result<V> {
        self.get_or_tagged(key, &[], load).await
    }

    /// The same with [tags](Cache::insert_tagged). One that is invalidated while the value is
    /// loaded keeps it from being stored.
    ///
    /// # Errors
    /// As of [`get_or`](Cache::get_or).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let pages = client.shard().cache::<u64, String>("pages");
    /// let load = async || Ok("<p>Ann".to_owned());
    /// pages.get_or_tagged(7, &["user:7"], load).await.expect("loaded");
    /// pages.invalidate_tag("user:7");
    /// assert!(!pages.contains(&7));
    /// # });
    /// ```
    pub async fn get_or_tagged(
        &self,
        key: K,
        tags: &[&str],
        load: impl AsyncFnOnce() -> Result<V>,
    ) -> Result<V> {
        loop {
            if let Some(value) = self.get(&key) {
                return Ok(value);
            }
            let known = self.0.flights.borrow().get(&key).cloned();
            let Some(flight) = known else { break };
            self.0.counting.count(|it| it.waits += 1);
            match flight.ended().await {
                End::Loaded(value) => return Ok(value),
                End::Failed(status, message) => return Err(Error::new(status, message)),
                End::Abandoned => {}
            }
        }
        let flight = Rc::new(Flight::new());
        self.0.flights.borrow_mut().insert(key.clone(), flight.clone());
        // As they stand before the load: a word that comes meanwhile counts.
        let marks = self.0.store.borrow_mut().marks(tags);
        let lead = Lead { cache: self, key, flight, marks };
        self.0.counting.count(|it| it.loads += 1);
        let loaded = load().await;
        lead.land(&loaded);
        loaded
    }
}

/// Whoever loads: dropped before the end, those who wait hear of it.
struct Lead<'a, K: Hash + Eq + 'static, V: Clone + 'static> {
    cache: &'a Cache<K, V>,
    key: K,
    flight: Rc<Flight<V>>,
    marks: Box<[Mark]>,
}

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> Lead<'_, K, V> {
    fn land(self, loaded: &Result<V>) {
        match loaded {
            Ok(value) => {
                if !self.flight.void.get() {
                    let (key, marks) = (self.key.clone(), Some(self.marks.clone()));
                    self.cache.store(key, value.clone(), Ttl::Default, marks);
                }
                self.flight.end(End::Loaded(value.clone()));
            }
            Err(error) => {
                self.cache.0.counting.count(|it| it.loads_failed += 1);
                self.flight.end(End::failed(error));
            }
        }
    }
}

impl<K: Hash + Eq + 'static, V: Clone + 'static> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.cache.0.flights.borrow_mut();
        if flights.get(&self.key).is_some_and(|it| Rc::ptr_eq(it, &self.flight)) {
            flights.remove(&self.key);
        }
        drop(flights);
        self.flight.end(End::Abandoned); // no word after the first one counts
    }
}

impl<K: Hash + Eq, V> Inner<K, V> {
    fn new(shard: Shard, name: &'static str, options: CacheOptions<K, V>) -> Inner<K, V> {
        let ms = |time: Duration| time.as_millis() as u64;
        let life = Life { ttl_ms: options.ttl.map(ms), idle_ms: options.idle.map(ms) };
        let weight_max = options.bytes_max.unwrap_or(u64::MAX);
        let store = Store::new(weight_max, options.entries_max, shard.now_ms());
        Inner {
            shard,
            name,
            store: RefCell::new(store),
            flights: RefCell::default(),
            weigher: options.weigher,
            life,
            counting: Counting::default(),
            swept: Cell::new(false),
        }
    }
}
