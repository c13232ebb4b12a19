//! A cache over what all nodes keep: asked before a load, filled after it, told what is no longer
//! true.
//!
//! Every value is stored with stamps: what its key, its prefixes and its tags had when its load
//! began. A word gives them other stamps, and a value whose stamps are not those of now is none. So
//! a load that was slow cannot bring an old value back, and a word about a million entries is one
//! write.
//!
//! One stamp is the cache's own, made by whoever finds none: a store that was emptied has lost
//! words, and what was being loaded then is no value there.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::join::join;
use crate::base::told::Told;
use crate::cache::far::{Asked, Far, FarFuture, FarWord, Stamps, Truth};
use crate::cache::hub::Hub;
use crate::cache::near::Cache;
use crate::error::{Error, Result};
use crate::limits::{FAR_BATCH_MAX, FAR_DEPTH_MAX, FAR_KEY_STAMP_MS, FAR_RETRY_MS_MAX};
use crate::limits::{FAR_STAMP_MS, FAR_VALUE_MS_MAX, FAR_WORDS_MAX};
use crate::remote::ears::{Heard, Hearing};
use crate::remote::error::RemoteError;
use crate::remote::stored::Remote;
use crate::shard::Shard;

/// Over a store of all nodes.
impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Display + FromStr + 'static,
    V: Clone + Serialize + DeserializeOwned + 'static,
{
    /// The same cache, over a store that all nodes share, such as [`Redis`](crate::Redis): say it
    /// where the application is built. From then on [`get_or`](Cache::get_or) and its kin ask there
    /// before they load, and leave there what they have loaded, as JSON, for at most 7 days. What
    /// is said to be no longer true is said there too. A store that tells of changes makes all
    /// nodes hear it; with one that does not, such as [`Memcached`](crate::Memcached), another node
    /// gives out what is near until its time is over.
    ///
    /// Nothing waits for a store that is away: values are loaded, and words are kept until it is
    /// back, and it is not asked before it has them.
    ///
    /// Of two who [`write`](Cache::write) a key at once, or write and remove it, the one whose word
    /// arrives last wins: where that matters, `remove` after the commit and let it be loaded.
    ///
    /// Keys are written as text and read back from it. Patterns other than a prefix make
    /// everything stale there. Give the store room: one that throws out stamps for want of it may
    /// bring back what they were about.
    ///
    /// ```
    /// use std::time::Duration;
    /// use soloist::{CacheOptions, Redis, prelude::*};
    ///
    /// # async fn from_database(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let redis = Redis::connect(&shard, "redis://127.0.0.1:6379")?;
    ///     let options = CacheOptions::new().ttl(Duration::from_secs(300));
    ///     let users = shard.cache_with::<u64, String>("users", options).over(redis);
    ///     Ok(App::new(()).get("/users/:id", async move |cx| {
    ///         let id: u64 = cx.param("id")?;
    ///         cx.text(users.get_or(id, async || from_database(id).await).await?)
    ///     }))
    /// }
    /// # soloist::testing::TestClient::run(app, async |client| {
    /// #     client.get("/users/7").await.text("user 7"); // no such Redis: loaded
    /// # });
    /// ```
    pub fn over(self, remote: impl Remote) -> Cache<K, V> {
        self.put_far(|hub| Over::<K, V>::make(&self, hub.clone(), Rc::new(remote)));
        self
    }
}

/// A cache's values in a store.
struct Over<K, V> {
    remote: Rc<dyn Remote>,
    shard: Shard,
    /// Before all keys of this cache.
    name: String,
    hub: Arc<Hub>,
    words: Rc<Words>,
    /// On the shard that listens for all.
    hearing: RefCell<Option<Hearing>>,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Over<K, V>
where
    K: Hash + Eq + Clone + Send + Display + FromStr + 'static,
    V: Clone + Serialize + DeserializeOwned + 'static,
{
    fn make(cache: &Cache<K, V>, hub: Arc<Hub>, remote: Rc<dyn Remote>) -> Rc<dyn Far<K, V>> {
        let (shard, name) = (cache.shard().clone(), format!("{}/", cache.name()));
        let words = Rc::new(Words {
            remote: remote.clone(),
            shard: shard.clone(),
            hub: hub.clone(),
            everything: format!("{name}p/").into_bytes(),
            waiting: RefCell::default(),
            runs: Cell::new(false),
        });
        if !remote.tells() {
            hub.far.heard.store(true, Ordering::SeqCst); // there is nothing to hear
        }
        let over =
            Over { remote, shard, name, hub, words, hearing: RefCell::default(), of: PhantomData };
        if over.remote.tells() && over.shard.id() == 0 {
            let (cache, name, hub) = (cache.weak(), over.name.clone(), over.hub.clone());
            let heard = over.remote.hear(Box::new(move |heard| {
                if let Some(cache) = cache.upgrade() {
                    hear(&cache, &name, &hub, heard);
                }
            }));
            over.hearing.replace(Some(heard));
        }
        Rc::new(over)
    }

    fn key(&self, kind: char, of: impl Display) -> Vec<u8> {
        format!("{}{kind}/{of}", self.name).into_bytes()
    }

    /// The keys of the stamps that a value depends on, the cache's own first.
    fn stamped(&self, text: &str, tags: &[&str]) -> Vec<Vec<u8>> {
        let mut keys = vec![self.key('g', ""), self.key('k', text), self.key('p', "")];
        let prefixes = text.match_indices(':').take(FAR_DEPTH_MAX);
        keys.extend(prefixes.map(|(at, _)| self.key('p', &text[..=at])));
        keys.extend(tags.iter().map(|tag| self.key('t', tag)));
        keys
    }

    async fn ask(&self, key: &K, tags: &[&str]) -> Result<Asked<V>> {
        let text = key.to_string();
        let stamped = self.stamped(&text, tags);
        let value_key = self.key('v', &text);
        let keys: Vec<&[u8]> =
            [&*value_key].into_iter().chain(stamped.iter().map(|it| &**it)).collect();
        let mut found = self.remote.get_many(&keys).await?.into_iter();
        let value = found.next().flatten();
        let mut stamps: Stamps = stamped.into_iter().zip(found).collect();
        let now_ms = self.shard.0.clock.unix_ms();
        let fresh = value.as_deref().and_then(|it| open(it, &stamps, now_ms));
        let read =
            fresh.and_then(|(expires, it)| Some((expires, serde_json::from_slice(it).ok()?)));
        if let Some((expires_unix_ms, value)) = read {
            return Ok(Asked::Found { value, expires_unix_ms, stamps });
        }
        begin(&*self.remote, &mut stamps).await?;
        Ok(Asked::Missing(stamps))
    }

    /// What is stored of a value, and for how long.
    fn packed(&self, value: &V, ttl_ms: Option<u64>, stamps: &Stamps) -> Option<(Vec<u8>, u64)> {
        let expires = ttl_ms.map(|it| self.shard.0.clock.unix_ms().saturating_add(it));
        let mut bytes = pack(expires, stamps);
        serde_json::to_writer(&mut bytes, value).ok()?;
        Some((bytes, ttl_ms.unwrap_or(u64::MAX).min(FAR_VALUE_MS_MAX)))
    }
}

impl<K, V> Far<K, V> for Over<K, V>
where
    K: Hash + Eq + Clone + Send + Display + FromStr + 'static,
    V: Clone + Serialize + DeserializeOwned + 'static,
{
    fn is_current(&self) -> bool {
        let far = &self.hub.far;
        far.words.load(Ordering::SeqCst) == 0 && far.heard.load(Ordering::SeqCst)
    }

    fn get<'a>(&'a self, key: &'a K, tags: &'a [&'a str]) -> FarFuture<'a, Result<Asked<V>>> {
        Box::pin(self.ask(key, tags))
    }

    fn put(&self, key: &K, value: &V, ttl_ms: Option<u64>, stamps: Stamps) {
        let Some((bytes, ttl_ms)) = self.packed(value, ttl_ms, &stamps) else { return };
        let (words, value_key) = (self.words.clone(), self.key('v', key));
        let doubt =
            Unsaid { stamp: self.key('k', key), remove: Some(value_key.clone()), ..self.unsaid() };
        // Too many tasks, or a store that does not answer: the next one who loads tries again.
        self.shard.spawn(async move {
            let within = Duration::from_millis(ttl_ms);
            let stored = words.remote.set(&value_key, &bytes, Some(within)).await;
            if stored.as_ref().is_err_and(was_not_sent) {
                return;
            }
            // A word that came before it has changed a stamp before: it is seen now. Later nobody
            // could tell, as stamps do not stay for ever.
            let sure = match stored.and(words.stamps(stamps.iter().map(|it| &*it.0)).await) {
                Ok(now) if now == stamps => true,
                Ok(_) => words.remote.remove(&[&value_key]).await.is_ok(),
                Err(_) => false,
            };
            if !sure {
                words.say(doubt);
            }
        });
    }

    fn tell(&self, word: FarWord<'_, K>) -> Rc<Told<()>> {
        let word = match word {
            FarWord::Key(key) => Unsaid {
                stamp: self.key('k', key),
                remove: Some(self.key('v', key)),
                ..self.unsaid()
            },
            FarWord::Tag(tag) => Unsaid { stamp: self.key('t', tag), ..self.unsaid() },
            FarWord::Prefix(prefix) => {
                let deep = prefix.match_indices(':').nth(FAR_DEPTH_MAX - 1);
                let prefix = deep.map_or(prefix, |(at, _)| &prefix[..=at]);
                Unsaid { stamp: self.key('p', prefix), ..self.unsaid() }
            }
        };
        self.words.say(word)
    }

    fn write(&self, truth: Truth<'_, K, V>) -> Rc<Told<()>> {
        let Truth { key, value, ttl_ms } = truth;
        let text = key.to_string();
        let (stamp, remove) = (self.key('k', &text), Some(self.key('v', &text)));
        let set = serde_json::to_vec(value).ok().map(|json| Set {
            stamped: self.stamped(&text, &[]),
            expires_unix_ms: ttl_ms.map(|it| self.shard.0.clock.unix_ms().saturating_add(it)),
            ttl_ms: ttl_ms.unwrap_or(u64::MAX).min(FAR_VALUE_MS_MAX),
            json,
        });
        let word = Unsaid { stamp, remove, set, ..self.unsaid() };
        self.words.say(word)
    }
}

impl<K, V> Over<K, V> {
    fn unsaid(&self) -> Unsaid {
        Unsaid::about(Vec::new())
    }
}

/// With the shard that listens, what it hears is over.
impl<K, V> Drop for Over<K, V> {
    fn drop(&mut self) {
        if self.hearing.get_mut().is_some() {
            self.hub.far.heard.store(false, Ordering::SeqCst);
        }
    }
}

/// A word of another node, for the shards of this one.
fn hear<K, V>(cache: &Cache<K, V>, name: &str, hub: &Hub, heard: &Heard)
where
    K: Hash + Eq + Clone + Send + Display + FromStr + 'static,
    V: Clone + 'static,
{
    let keys = match heard {
        Heard::Nothing => return hub.far.heard.store(false, Ordering::SeqCst),
        Heard::Everything => {
            cache.hear_everything();
            return hub.far.heard.store(true, Ordering::SeqCst);
        }
        Heard::Changed(keys) => keys,
    };
    for key in keys {
        let about = std::str::from_utf8(key).ok().and_then(|it| it.strip_prefix(name));
        match about.and_then(|it| it.split_once('/')) {
            Some(("k", key)) => match key.parse() {
                Ok(key) => cache.hear_key(key),
                Err(_) => cache.hear_everything(), // of a version with other keys
            },
            Some(("t", tag)) => cache.hear_tag(tag),
            Some(("p", "")) => cache.hear_everything(),
            Some(("p", prefix)) => cache.hear_prefix(prefix, |key| Cow::Owned(key.to_string())),
            // Values come and go with their stamps; other names are other caches'.
            _ => {}
        }
    }
}

/// Words on their way to the store: kept until it has them.
struct Words {
    remote: Rc<dyn Remote>,
    shard: Shard,
    hub: Arc<Hub>,
    /// The stamp of all keys.
    everything: Vec<u8>,
    waiting: RefCell<VecDeque<Unsaid>>,
    runs: Cell<bool>,
}

/// One of them.
struct Unsaid {
    /// What gets another stamp, and which.
    stamp: Vec<u8>,
    new: [u8; 8],
    /// The key of a value that is old.
    remove: Option<Vec<u8>>,
    /// What is stored in its place.
    set: Option<Set>,
    /// As many words as it stands for, and those that somebody waits for.
    count: usize,
    told: Vec<Rc<Told<()>>>,
}

impl Unsaid {
    fn about(stamp: Vec<u8>) -> Unsaid {
        let (new, told) = (new_stamp(), Vec::new());
        Unsaid { stamp, new, remove: None, set: None, count: 1, told }
    }
}

struct Set {
    /// The keys of its stamps.
    stamped: Vec<Vec<u8>>,
    expires_unix_ms: Option<u64>,
    ttl_ms: u64,
    json: Vec<u8>,
}

impl Words {
    /// Of too many words, one that is about everything is left.
    fn say(self: &Rc<Self>, mut word: Unsaid) -> Rc<Told<()>> {
        let told = Rc::<Told<()>>::default();
        word.told.push(told.clone());
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= FAR_WORDS_MAX {
            let mut all = Unsaid { count: 0, ..Unsaid::about(self.everything.clone()) };
            for word in waiting.drain(..).chain([word]) {
                all.count += word.count;
                all.told.extend(word.told.into_iter().filter(|it| Rc::strong_count(it) > 1));
            }
            waiting.push_back(all);
        } else {
            waiting.push_back(word);
        }
        drop(waiting);
        self.hub.far.words.fetch_add(1, Ordering::SeqCst);
        if !self.runs.replace(true) {
            let words = self.clone();
            self.shard.spawn_own(async move { words.run().await });
        }
        told
    }

    /// Tells one after the other, many at a time, until none is left.
    async fn run(&self) {
        let mut pause_ms = 0;
        loop {
            let batch: Vec<Unsaid> = {
                let mut waiting = self.waiting.borrow_mut();
                let count = waiting.len().min(FAR_BATCH_MAX);
                waiting.drain(..count).collect()
            };
            if batch.is_empty() {
                return self.runs.set(false);
            }
            let ends = join(batch.iter().map(|it| self.tell(it)).collect()).await;
            let mut failed = Vec::new();
            for (word, end) in batch.into_iter().zip(ends) {
                match end {
                    // Nothing can be there of a key that it does not take.
                    Err(error) if !is_too_long(&error) => failed.push(word),
                    _ => {
                        self.hub.far.words.fetch_sub(word.count, Ordering::SeqCst);
                        word.told.iter().for_each(|it| it.tell(()));
                    }
                }
            }
            if failed.is_empty() {
                pause_ms = 0;
                continue;
            }
            self.put_back(failed);
            pause_ms = (2 * pause_ms).clamp(10, FAR_RETRY_MS_MAX);
            self.shard.sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// What is told late is no longer sure to be true: the old is taken out, not replaced.
    fn put_back(&self, failed: Vec<Unsaid>) {
        let mut waiting = self.waiting.borrow_mut();
        failed.into_iter().rev().for_each(|it| waiting.push_front(it));
        waiting.iter_mut().for_each(|it| it.set = None);
    }

    async fn tell(&self, word: &Unsaid) -> Result<()> {
        // Of a key, for as long as a load of before it may take; of what is about many, for longer
        // than any of them lives.
        let ms = if word.remove.is_some() { FAR_KEY_STAMP_MS } else { FAR_STAMP_MS };
        // First: words of meanwhile are about the new value too.
        let mut stamps = match &word.set {
            Some(set) => self.stamps(set.stamped.iter().map(|it| &**it)).await?,
            None => Stamps::new(),
        };
        self.remote.set(&word.stamp, &word.new, Some(Duration::from_millis(ms))).await?;
        let Some(key) = &word.remove else { return Ok(()) };
        let Some(set) = &word.set else { return self.remote.remove(&[key]).await };
        begin(&*self.remote, &mut stamps).await?;
        // Of two who write, the later word wins.
        let own = stamps.iter_mut().filter(|it| it.0 == word.stamp);
        own.for_each(|it| it.1 = Some(word.new.to_vec()));
        let mut bytes = pack(set.expires_unix_ms, &stamps);
        bytes.extend(&set.json);
        let stored = self.remote.set(key, &bytes, Some(Duration::from_millis(set.ttl_ms))).await;
        // What is too large stays away; its stamp has made the old one stale.
        if stored.is_err() { self.remote.remove(&[key]).await } else { Ok(()) }
    }

    /// What these keys have now.
    async fn stamps(&self, keys: impl Iterator<Item = &[u8]>) -> Result<Stamps> {
        let keys: Vec<&[u8]> = keys.collect();
        let found = self.remote.get_many(&keys).await?;
        Ok(keys.into_iter().map(<[u8]>::to_vec).zip(found).collect())
    }
}

/// Makes the first of these stamps, if it is not there.
async fn begin(remote: &dyn Remote, stamps: &mut Stamps) -> Result<()> {
    if let Some((key, stamp @ None)) = stamps.first_mut() {
        let new = new_stamp();
        remote.set(key, &new, None).await?;
        *stamp = Some(new.to_vec());
    }
    Ok(())
}

fn is_too_long(error: &Error) -> bool {
    matches!(error.get(), Some(RemoteError::Key { .. }))
}

/// Whether the store cannot have what was to be stored.
fn was_not_sent(error: &Error) -> bool {
    use RemoteError::{Busy, Key, Refused, TooLarge};
    matches!(error.get(), Some(Refused { .. } | Busy | TooLarge { .. } | Key { .. }))
}

/// One that nothing has had.
fn new_stamp() -> [u8; 8] {
    thread_local! {
        static RANDOM: (RandomState, Cell<u64>) = (RandomState::new(), Cell::new(0));
    }
    RANDOM.with(|(state, count)| {
        count.set(count.get() + 1);
        state.hash_one(count.get()).to_le_bytes()
    })
}

/// The end of a value's life and its stamps: before the value itself.
fn pack(expires_unix_ms: Option<u64>, stamps: &Stamps) -> Vec<u8> {
    let mut bytes = expires_unix_ms.unwrap_or(u64::MAX).to_le_bytes().to_vec();
    bytes.extend((stamps.len() as u16).to_le_bytes());
    for (key, stamp) in stamps {
        for part in [key.as_slice(), stamp.as_deref().unwrap_or_default()] {
            bytes.extend((part.len() as u16).to_le_bytes());
            bytes.extend(part);
        }
    }
    bytes
}

/// The end of a life, and the value, if it is alive and each of its stamps is that of now.
fn open<'a>(bytes: &'a [u8], now: &Stamps, now_ms: u64) -> Option<(Option<u64>, &'a [u8])> {
    let (expires, mut rest) = bytes.split_first_chunk::<8>()?;
    let expires = u64::from_le_bytes(*expires);
    now.first()?.1.as_ref()?;
    let mut part = |count: usize| {
        let (part, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(part)
    };
    let number = |part: &[u8]| Some(usize::from(u16::from_le_bytes(part.try_into().ok()?)));
    for _ in 0..number(part(2)?)? {
        let count = number(part(2)?)?;
        let key = part(count)?;
        let count = number(part(2)?)?;
        let stamp = part(count)?;
        // One that was not asked for is of another word about tags.
        let (_, current) = now.iter().find(|it| it.0 == key)?;
        if current.as_deref().unwrap_or_default() != stamp {
            return None;
        }
    }
    (expires > now_ms).then_some(((expires != u64::MAX).then_some(expires), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_while_its_stamps_are_those_of_now() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        let row = |key: &str, stamp| (key.as_bytes().to_vec(), stamp);
        let then = vec![row("a", some("12345678")), row("b", None)];
        let mut bytes = pack(Some(100), &then);
        bytes.extend(b"7");
        assert_eq!(open(&bytes, &then, 99), Some((Some(100), &b"7"[..])));
        assert_eq!(open(&bytes, &then, 100), None, "its time is over");
        for now in [
            vec![row("a", some("12345679")), row("b", None)],
            vec![row("a", None), row("b", None)],
            vec![row("a", some("12345678")), row("b", some("x"))],
            vec![row("a", some("12345678"))],
        ] {
            assert_eq!(open(&bytes, &now, 99), None, "{now:?}");
        }
        for cut in 0..bytes.len() - 1 {
            assert_eq!(open(&bytes[..cut], &then, 99), None, "cut at {cut}");
        }
        let for_ever = pack(None, &Vec::new());
        assert_eq!(open(&for_ever, &then, u64::MAX - 1), Some((None, &b""[..])));
        assert_ne!(new_stamp(), new_stamp());
    }
}
