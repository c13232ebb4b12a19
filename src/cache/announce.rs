//! What is no longer true, said to all shards.

use std::borrow::Cow;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::far::{FarWord, Truth};
use super::glob::{Glob, Shape, shape};
use super::hub::{Hub, Word};
use super::near::Cache;
use super::options::Ttl;
use super::stale::Version;
use super::store::Text;
use crate::base::told::Told;
use crate::error::{Error, Result};
use crate::limits::CALL_MS_MAX;
use crate::shard::Shard;

/// A word that was said: every read that begins from now on, on every shard, heeds it. Nothing is
/// left to do; who wants the memory back first, too, waits with
/// [`everywhere`](Announced::everywhere).
pub struct Announced {
    shard: Shard,
    hub: Arc<Hub>,
    version: Version,
    /// By the store of all nodes, if there is one.
    told: Option<Rc<Told<()>>>,
}

impl Announced {
    /// Waits until every shard has dropped what the word was about. It is an answer to "is it still
    /// in memory?": nobody reads it before that either. Of a cache [over](Cache::over) a store of
    /// all nodes it also waits until that has the word: from then on, other nodes hear it.
    ///
    /// # Errors
    /// 503 when a shard was too busy for 5 s to hear it, which it does before its next read; and
    /// when the store of all nodes does not have it 5 s later: it is told once it can be reached.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn forget(cx: &Ctx<()>) -> Result<Reply> {
    ///     let people = cx.shard().cache::<u64, String>("people");
    ///     people.remove(cx.param("id")?).everywhere().await?;
    ///     cx.text("nobody here remembers you")
    /// }
    /// # let app = App::new(()).get("/:id", forget);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/7").await.expect(200);
    /// # });
    /// ```
    pub async fn everywhere(self) -> Result<()> {
        let longest = Duration::from_millis(CALL_MS_MAX);
        let late = |why| move |_| Error::new(503, why);
        let heard = self.shard.timeout(longest, self.hub.heard_by_all(self.version)).await;
        heard
            .map_err(late("a shard is too busy to hear what was said: it does before it reads"))?;
        let Some(told) = self.told else { return Ok(()) };
        let waited = self.shard.timeout(longest, told.told()).await;
        waited.map_err(late("the store of all nodes does not answer: it is told once it does"))
    }
}

/// These say it to every shard of the server. A read that begins after one of them has returned, on
/// whatever shard, does not find the old value; a load of it that is under way answers those who
/// wait for it and is not stored. No word is lost: a shard too busy to hear 10,000 of them
/// forgets everything instead.
impl<K: Hash + Eq + 'static, V: 'static> Cache<K, V> {
    /// Takes an entry out, on all shards.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn to_database(id: u64, name: &str) -> Result<()> { Ok(()) }
    /// async fn rename(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (id, name) = (cx.param("id")?, cx.body_json::<String>().await?);
    ///     to_database(id, &name).await?; // first the truth, then what is remembered of it
    ///     cx.shard().cache::<u64, String>("names").remove(id);
    ///     cx.empty()
    /// }
    /// # let app = App::new(()).put("/:id", rename);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.shard().cache::<u64, String>("names").insert(7, "ann".to_owned());
    /// # client.put("/7").json(&"bob").await.expect(204);
    /// # assert!(client.shard().cache::<u64, String>("names").is_empty());
    /// # });
    /// ```
    pub fn remove(&self, key: K) -> Announced
    where
        K: Clone + Send,
    {
        let told = self.tell(FarWord::Key(&key));
        self.announce(told, || Word::Key(Box::new(key.clone())))
    }

    /// Stores a value here, beneath and [far](Cache::over), and takes the old one out on all other
    /// shards and nodes; waits for all of them, as [`everywhere`](Announced::everywhere) does.
    ///
    /// # Errors
    /// As of [`everywhere`](Announced::everywhere).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn to_database(id: u64, name: &str) -> Result<()> { Ok(()) }
    /// async fn rename(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (id, name) = (cx.param("id")?, cx.body_json::<String>().await?);
    ///     to_database(id, &name).await?;
    ///     cx.shard().cache::<u64, String>("names").write(id, name).await?;
    ///     cx.empty()
    /// }
    /// # let app = App::new(()).put("/:id", rename);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.put("/7").json(&"bob").await.expect(204);
    /// # let names = client.shard().cache::<u64, String>("names");
    /// # assert_eq!(names.get(&7), Some("bob".to_owned()));
    /// # });
    /// ```
    pub async fn write(&self, key: K, value: V) -> Result<()>
    where
        K: Clone + Send,
    {
        let ttl_ms = self.ttl_ms(Ttl::Default);
        let truth = Truth { key: &key, value: &value, ttl_ms };
        let told = self.far().map(|far| far.write(truth));
        let announced = self.announce(told, || Word::Key(Box::new(key.clone())));
        self.insert(key, value);
        announced.everywhere().await
    }

    /// What was stored with this tag is gone, and what of it is being loaded is not kept: at once,
    /// however many entries they are. Tags are told apart by 16 bits of their hashes: now and then
    /// an entry goes that has another one.
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
    pub fn invalidate_tag(&self, tag: &str) -> Announced {
        let place = self.0.hub.places.of_tag(tag);
        self.announce(self.tell(FarWord::Tag(tag)), || Word::Tag(place))
    }

    /// What has a key of this pattern is gone: `*` is any run of characters, `?` is one. A prefix
    /// that ends with a colon (`user:7:*`) costs what a tag does. Of other patterns the last 64 are
    /// kept and looked at when an entry older than they are is next asked for; each of more makes
    /// everything stale that is older than the oldest.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let parts = client.shard().cache::<String, u32>("parts");
    /// for key in ["user:7:name", "user:7:cart:2", "user:8:name"] {
    ///     parts.insert(key.to_owned(), 1);
    /// }
    /// parts.invalidate("user:7:*");
    /// assert!(!parts.contains("user:7:cart:2") && parts.contains("user:8:name"));
    /// parts.invalidate("*:name");
    /// assert!(!parts.contains("user:8:name"));
    /// # });
    /// ```
    pub fn invalidate(&self, pattern: &str) -> Announced
    where
        K: AsRef<str>,
    {
        let text = || Box::new((|key| Cow::Borrowed(key.as_ref())) as Text<K>);
        match shape(pattern) {
            Shape::Everything => self.clear(),
            Shape::Prefix(prefix) => {
                let place = self.0.hub.places.of_prefix(prefix);
                self.announce(self.tell(FarWord::Prefix(prefix)), || Word::Prefix(place, text()))
            }
            Shape::Glob => {
                let glob = Arc::new(Glob::new(pattern));
                self.announce(self.tell(FarWord::Prefix("")), || Word::Ban(glob.clone(), text()))
            }
        }
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
    pub fn clear(&self) -> Announced {
        self.announce(self.tell(FarWord::Prefix("")), || Word::Everything)
    }

    /// First of all: from here on nobody trusts what is far, until it was told.
    fn tell(&self, word: FarWord<'_, K>) -> Option<Rc<Told<()>>> {
        Some(self.far()?.tell(word))
    }

    fn announce(&self, told: Option<Rc<Told<()>>>, word: impl Fn() -> Word) -> Announced {
        let version = self.announce_near(word);
        Announced { shard: self.0.shard.clone(), hub: self.0.hub.clone(), version, told }
    }

    /// To the shards of this process alone.
    fn announce_near(&self, word: impl Fn() -> Word) -> Version {
        let version = self.0.hub.announce(self.0.shard.id(), word);
        self.0.counting.count(|it| it.invalidations += 1);
        self.hear(); // this shard's own word, behind those of others
        version
    }
}

/// What other nodes have said, for the shards of this one.
#[cfg(any(feature = "memcached", feature = "redis"))]
impl<K: Hash + Eq + 'static, V: 'static> Cache<K, V> {
    pub(crate) fn hear_key(&self, key: K)
    where
        K: Clone + Send,
    {
        self.announce_near(|| Word::Key(Box::new(key.clone())));
    }

    pub(crate) fn hear_tag(&self, tag: &str) {
        let place = self.0.hub.places.of_tag(tag);
        self.announce_near(|| Word::Tag(place));
    }

    pub(crate) fn hear_prefix(&self, prefix: &str, text: Text<K>) {
        let place = self.0.hub.places.of_prefix(prefix);
        self.announce_near(|| Word::Prefix(place, Box::new(text)));
    }

    pub(crate) fn hear_everything(&self) {
        self.announce_near(|| Word::Everything);
    }
}
