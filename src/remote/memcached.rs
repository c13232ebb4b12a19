//! memcached: one connection a shard, on which all calls follow each other without waiting.

use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::ears::{Ears, Heard, Hearing};
use super::error::RemoteError;
use super::link::{Dial, Handle, Life, Link, either, needs_tokio};
use super::meta::{self, Answer, Key};
use super::options::RemoteOptions;
use super::pipe::Pipe;
use super::stats::RemoteStats;
use super::stored::{Remote, RemoteFuture, full_key, unstamp};
use crate::error::{Error, Result};
use crate::limits::{
    MEMCACHED_KEY_BYTES_MAX, MEMCACHED_VALUE_BYTES_MAX, REMOTE_KEYS_MAX, REMOTE_PING_MS,
};
use crate::shard::Shard;

/// A memcached, as one shard sees it: version 1.6 or later, for its meta commands.
///
/// It connects when it is first asked, and again by itself whenever it must. Clones share one
/// connection; take one handle a shard. Keys are at most 250 bytes with their prefix, 186 if they
/// are not text without spaces. Times to live are whole seconds, rounded up.
///
/// memcached tells nobody what has changed: what is near lives as long as its own time to live
/// says, so give it a short one.
///
/// ```no_run
/// use std::time::Duration;
/// use soloist::{Memcached, Remote, prelude::*};
///
/// async fn app(shard: Shard) -> Result<App<Memcached>> {
///     let memcached = Memcached::connect(&shard, "10.0.0.7:11211")?;
///     Ok(App::new(memcached).get("/:name", async |cx| {
///         let key: &str = cx.param("name")?;
///         let value = cx.state().get(key.as_bytes()).await?; // 503 if it is away
///         cx.state().set(key.as_bytes(), b"seen", Some(Duration::from_secs(60))).await?;
///         cx.bytes("text/plain", value.ok_or_else(Error::not_found)?)
///     }))
/// }
/// ```
#[derive(Clone)]
pub struct Memcached(Rc<Handle<MemcachedDial>>);

impl Memcached {
    /// A handle of a shard to the server at `host:port`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the address is none. Not when nobody is there.
    ///
    /// ```
    /// use soloist::{BreakerState, Memcached, Remote, prelude::*};
    /// # use soloist::testing::TestClient;
    /// # TestClient::run(async |_| Ok(App::new(())), async |client| {
    /// let memcached = Memcached::connect(&client.shard(), "127.0.0.1:1").expect("an address");
    /// for _ in 0..9 {
    ///     assert_eq!(memcached.get(b"ann").await.unwrap_err().status(), 503); // nobody is there
    /// }
    /// assert_eq!(memcached.stats().breaker, BreakerState::Open);
    /// # });
    /// ```
    pub fn connect(shard: &Shard, address: &str) -> Result<Memcached> {
        Memcached::connect_with(shard, address, RemoteOptions::new())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// When the address is none.
    ///
    /// ```
    /// use soloist::{Memcached, RemoteOptions, prelude::*};
    /// # use soloist::testing::TestClient;
    ///
    /// async fn app(shard: Shard) -> Result<App<Memcached>> {
    ///     let options = RemoteOptions::new().prefix("shop:");
    ///     Ok(App::new(Memcached::connect_with(&shard, "localhost:11211", options)?))
    /// }
    /// # TestClient::run(app, async |client| {
    /// assert!(Memcached::connect(&client.shard(), "localhost").is_err()); // no port
    /// # });
    /// ```
    pub fn connect_with(shard: &Shard, address: &str, options: RemoteOptions) -> Result<Memcached> {
        let bare = address.strip_prefix("memcached://").unwrap_or(address);
        let port = bare.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(Error::new(500, "memcached: the address is none: host:port"));
        }
        let dialer = MemcachedDial {
            shard: shard.clone(),
            address: bare.to_owned(),
            value_bytes_max: options.value_bytes_max.unwrap_or(MEMCACHED_VALUE_BYTES_MAX),
        };
        let link = Link::new(shard, dialer, options, Rc::new(Ears::default()));
        Ok(Memcached(Rc::new(Handle(Rc::new(link)))))
    }

    fn link(&self) -> &Rc<Link<MemcachedDial>> {
        &self.0.0
    }

    fn key(&self, key: &[u8]) -> Result<Key> {
        let bytes_max = MEMCACHED_KEY_BYTES_MAX;
        let key = full_key(&self.link().options.prefix, key, bytes_max);
        let key = key
            .and_then(|key| Key::new(key).map_err(|bytes| RemoteError::Key { bytes, bytes_max }));
        key.map_err(RemoteError::into_error)
    }

    fn keys(&self, keys: &[&[u8]]) -> Result<Vec<Key>> {
        keys.iter().map(|key| self.key(key)).collect()
    }

    /// Asks the same of all keys, some hundred at a time.
    async fn ask_all(
        &self,
        keys: &[Key],
        write: fn(&Key, &mut Vec<u8>),
    ) -> Result<Vec<Answer>, RemoteError> {
        let asked = self.link().call(async |pipe| {
            let mut answers = Vec::with_capacity(keys.len());
            for some in keys.chunks(REMOTE_KEYS_MAX) {
                let coming: Result<Vec<_>, _> =
                    some.iter().map(|key| pipe.put(|out| write(key, out))).collect();
                for answer in coming? {
                    answers.push(answer.await.map_err(|_| lost())?);
                }
            }
            Ok(answers)
        });
        asked.await
    }

    fn found(&self, answer: Answer) -> Result<Option<Vec<u8>>, RemoteError> {
        let value = match answer {
            Answer::Value(stored) => unstamp(stored),
            Answer::Error(text) => return Err(RemoteError::Answer(text.into())),
            Answer::Miss | Answer::Done => None,
        };
        self.link().counting.count(|it| match value {
            Some(_) => it.hits += 1,
            None => it.misses += 1,
        });
        Ok(value)
    }
}

impl Remote for Memcached {
    fn get<'a>(&'a self, key: &'a [u8]) -> RemoteFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let key = self.key(key)?;
            let asked =
                self.link().call(async |pipe| refused(pipe.ask(|out| meta::get(&key, out)).await?));
            let answer = asked.await.map_err(RemoteError::into_error)?;
            self.found(answer).map_err(RemoteError::into_error)
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let keys = self.keys(keys)?;
            let answers = self.ask_all(&keys, meta::get).await.map_err(RemoteError::into_error)?;
            let found: Result<_, _> = answers.into_iter().map(|it| self.found(it)).collect();
            found.map_err(RemoteError::into_error)
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: &'a [u8],
        ttl: Option<Duration>,
    ) -> RemoteFuture<'a, ()> {
        Box::pin(async move {
            let bytes_max = self.link().dialer.value_bytes_max;
            if value.len() > bytes_max {
                let error = RemoteError::TooLarge { bytes: value.len(), bytes_max };
                return Err(error.into_error());
            }
            let key = self.key(key)?;
            let unix_secs = self.link().shard.0.clock.unix_secs();
            let ttl = ttl.and_then(|ttl| meta::ttl_word(ttl.as_millis(), unix_secs));
            let asked = self.link().call(async |pipe| {
                refused(pipe.ask(|out| meta::set(&key, value, ttl, out)).await?)
            });
            asked.await.map(drop).map_err(RemoteError::into_error)
        })
    }

    fn remove<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, ()> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(());
            }
            let keys = self.keys(keys)?;
            let answers = self.ask_all(&keys, meta::delete).await;
            let answers = answers.map_err(RemoteError::into_error)?;
            let done: Result<Vec<_>, _> = answers.into_iter().map(refused).collect();
            done.map(drop).map_err(RemoteError::into_error)
        })
    }

    /// Nothing is ever told.
    fn hear(&self, told: Box<dyn Fn(&Heard)>) -> Hearing {
        self.link().ears.hear(told)
    }

    /// Never.
    fn hears(&self) -> bool {
        false
    }

    /// Never.
    fn tells(&self) -> bool {
        false
    }

    fn stats(&self) -> RemoteStats {
        self.link().stats()
    }
}

fn lost() -> RemoteError {
    RemoteError::lost("memcached: the connection was lost")
}

fn refused(answer: Answer) -> Result<Answer, RemoteError> {
    match answer {
        Answer::Error(text) => Err(RemoteError::Answer(text.into())),
        other => Ok(other),
    }
}

struct MemcachedDial {
    shard: Shard,
    address: String,
    value_bytes_max: usize,
}

impl Dial for MemcachedDial {
    type Conn = Pipe;
    const HEARS: bool = false;

    fn address(&self) -> &str {
        &self.address
    }

    async fn dial(&self) -> Result<(Pipe, Life), RemoteError> {
        needs_tokio()?;
        let address = &self.address;
        let failed = |why: &dyn std::fmt::Display| {
            RemoteError::lost(format!("memcached at {address}: {why}"))
        };
        let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        socket.set_nodelay(true).map_err(|error| failed(&error))?;
        let (pipe, turn) = Pipe::new(socket, self.value_bytes_max);
        let mut turn: Life = Box::pin(turn);
        match either(&mut turn, pipe.ask(meta::ping)).await {
            Err(Ok(Answer::Done)) => {}
            Err(Ok(_)) => return Err(failed(&"is it a memcached?")),
            Err(Err(why)) | Ok(why) => return Err(failed(&why)),
        }
        let pings = pings(self.shard.clone(), pipe.clone());
        let life = async move { either(turn, pings).await.unwrap_or_else(|why| why) };
        Ok((pipe, Box::pin(life)))
    }
}

/// Ends when the server is silent, though the connection stands.
async fn pings(shard: Shard, pipe: Pipe) -> RemoteError {
    let within = Duration::from_millis(REMOTE_PING_MS / 2);
    loop {
        shard.sleep(Duration::from_millis(REMOTE_PING_MS)).await;
        match shard.timeout(within, pipe.ask(meta::ping)).await {
            Ok(Ok(_) | Err(RemoteError::Busy)) => {}
            Ok(Err(why)) => return why,
            Err(_) => {
                return RemoteError::lost(format!("no answer to a ping within {within:?}"));
            }
        }
    }
}
