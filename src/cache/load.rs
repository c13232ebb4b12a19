//! Loads of what is not there: one a key, however many ask.

use std::hash::Hash;
use std::rc::Rc;
use std::time::Instant;

use super::far::Asked;
use super::flight::{End, Flight};
use super::near::Cache;
#[cfg(doc)]
use super::options::CacheOptions;
use super::options::Ttl;
use super::process::Terms;
use crate::error::Result;
use crate::limits::CACHE_FAR_LOAD_MS_MAX;

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> Cache<K, V> {
    /// The value of a key; if it is not there, what `load` gives, which is stored. However many ask
    /// for a key at once, one load runs, and the others wait for it.
    ///
    /// What is not to be found can be cached too: let `V` be an `Option`. A load that was under way
    /// when its key was [removed](Cache::remove) answers those who waited, and is not stored.
    ///
    /// # Errors
    /// That of `load`; who waited gets the same, with its cause as text. If the load panics or is
    /// dropped, one of those who waited loads in its place.
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
            if let Some(value) = self.beneath(&key) {
                return Ok(value);
            }
            let Some(flight) = self.flight(&key) else { break };
            self.0.counting.count(|it| it.waits += 1);
            match flight.end.told().await {
                End::Loaded(value) => return Ok(value),
                End::Failed(error) => return Err(error.unpack("the load of another")),
                End::Abandoned => {}
            }
        }
        self.lead(key, tags).load(tags, false, load).await
    }

    /// The value of a key, and a load of it in the background once it is older than its time: for
    /// [`stale`](CacheOptions::stale) longer it is still given out meanwhile, and nobody waits. A
    /// load that fails leaves it there. What is loaded so has no tags.
    ///
    /// # Errors
    /// As of [`get_or`](Cache::get_or), where there is nothing to give out.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::{CacheOptions, prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let minute = Duration::from_secs(60);
    /// let options = CacheOptions::new().ttl(minute).stale(minute);
    /// let rates = client.shard().cache_with::<&str, u32>("rates", options);
    /// rates.insert("EUR", 108);
    /// client.advance(minute + minute / 2).await;
    /// let old = rates.get_or_refresh("EUR", async || Ok(109)).await.expect("there");
    /// client.advance(Duration::from_millis(1)).await; // the load runs beside
    /// assert_eq!((old, rates.get("EUR")), (108, Some(109)));
    /// # });
    /// ```
    pub async fn get_or_refresh(
        &self,
        key: K,
        load: impl AsyncFnOnce() -> Result<V> + 'static,
    ) -> Result<V> {
        let Some(value) = self.get(&key) else { return self.get_or(key, load).await };
        if self.is_old(&key) && self.flight(&key).is_none() {
            let lead = self.lead(key, &[]);
            // Refused, or dropped with the shard: the next one tries.
            self.0.shard.spawn(async move { _ = lead.load(&[], true, load).await });
        }
        Ok(value)
    }

    fn lead(&self, key: K, tags: &[&str]) -> Lead<K, V> {
        self.hear();
        // Before the load: a word that comes meanwhile is about what it gives.
        let terms = self.now(None, self.0.hub.places.of_tags(tags));
        let flight = Rc::new(Flight::new(terms));
        self.0.flights.borrow_mut().insert(key.clone(), flight.clone());
        Lead { cache: self.clone(), key, flight }
    }

    /// A load of this key that is under way, and began after the last word about it.
    fn flight(&self, key: &K) -> Option<Rc<Flight<V>>> {
        let flight = self.0.flights.borrow().get(key).cloned()?;
        let fresh =
            self.0.store.borrow().is_fresh(key, flight.terms.born, flight.terms.tags.as_deref());
        if !fresh {
            self.0.void(key);
        }
        fresh.then_some(flight)
    }
}

/// Whoever loads: dropped before the end, those who wait hear of it.
struct Lead<K: Hash + Eq + 'static, V: Clone + 'static> {
    cache: Cache<K, V>,
    key: K,
    flight: Rc<Flight<V>>,
}

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> Lead<K, V> {
    /// Asks what all nodes keep, then loads. One that `renews` wants none that is old.
    async fn load(
        self,
        tags: &[&str],
        renews: bool,
        load: impl AsyncFnOnce() -> Result<V>,
    ) -> Result<V> {
        let cache = &self.cache;
        let asked_ms = cache.now_ms();
        let far = cache.far().filter(|it| it.is_current());
        let mut missing = None;
        if let Some(far) = &far {
            match far.get(&self.key, tags).await {
                Ok(Asked::Found { stamps, expires_unix_ms, .. })
                    if renews && cache.is_past(expires_unix_ms) =>
                {
                    missing = Some(stamps);
                }
                Ok(Asked::Found { value, expires_unix_ms, .. }) => {
                    cache.0.counting.count(|it| it.hits_remote += 1);
                    self.land(&value, expires_unix_ms);
                    return Ok(value);
                }
                Ok(Asked::Missing(stamps)) => missing = Some(stamps),
                // It says so in its own log, and once is enough.
                Err(_) => cache.0.counting.count(|it| it.remote_errors += 1),
            }
        }
        cache.0.counting.count(|it| it.loads += 1);
        let began = Instant::now();
        let loaded = load().await;
        cache.0.counting.time(began.elapsed());
        match &loaded {
            Ok(value) => {
                let ttl_ms = cache.ttl_ms(Ttl::Default);
                let expires_unix_ms = cache.now(ttl_ms, None).expires_unix_ms;
                let true_still = self.land(value, expires_unix_ms);
                if let (Some(far), Some(stamps)) = (far, missing)
                    && true_still
                    && far.is_current()
                    && cache.now_ms().saturating_sub(asked_ms) < CACHE_FAR_LOAD_MS_MAX
                {
                    far.put(&self.key, value, ttl_ms, stamps);
                }
            }
            Err(error) => {
                cache.0.counting.count(|it| it.loads_failed += 1);
                self.flight.end.tell(End::failed(error));
            }
        }
        loaded
    }

    /// Gives a value to those who wait, and stores it if no word was about it meanwhile.
    fn land(&self, value: &V, expires_unix_ms: Option<u64>) -> bool {
        self.cache.hear();
        let true_still = !self.flight.void.get();
        if true_still {
            let terms = Terms { expires_unix_ms, ..self.flight.terms.clone() };
            self.cache.put(self.key.clone(), value.clone(), terms);
        }
        self.flight.end.tell(End::Loaded(value.clone()));
        true_still
    }
}

impl<K: Hash + Eq + 'static, V: Clone + 'static> Drop for Lead<K, V> {
    fn drop(&mut self) {
        self.flight.end.tell(End::Abandoned); // no word after the first one counts
        let flights = &self.cache.0.flights;
        let own = |it: &Rc<Flight<V>>| Rc::ptr_eq(it, &self.flight);
        if flights.borrow().get(&self.key).is_some_and(own) {
            let gone = flights.borrow_mut().remove_entry(&self.key);
            drop(gone);
        }
    }
}
