//! Redis: one connection a shard, on which all calls follow each other without waiting, and on
//! which the server tells what has changed (client-side caching, RESP3).
//!
//! Changes are told by prefix (BCAST), not by the keys that this connection has read. What is near
//! was not always read here: it was stored by us, or loaded while the server was away, and neither
//! would be told of. And the server keeps no table of who has read what.
//!
//! NOLOOP: what this connection changes it is not told. Each shard has its own, so every other one
//! of the process is told.

use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, RedisWrite, ToRedisArgs, Value,
};
use tokio::sync::mpsc;

use super::ears::{Ears, Heard, Hearing};
use super::error::RemoteError;
use super::link::{Dial, Handle, Life, Link, needs_tokio};
use super::options::RemoteOptions;
use super::stats::RemoteStats;
use super::stored::{Remote, RemoteFuture, STAMP, full_key, unstamp};
use crate::error::{Error, Result};
use crate::limits::{
    REDIS_KEY_BYTES_MAX, REDIS_VALUE_BYTES_MAX, REMOTE_CALLS_MAX, REMOTE_HEARD_MAX,
    REMOTE_KEYS_MAX, REMOTE_PING_MS,
};
use crate::shard::Shard;

/// A Redis server, as one shard sees it: version 6 or later, or what speaks like it.
///
/// It connects when it is first asked, and again by itself whenever it must: an application starts,
/// and goes on, without its Redis. Clones share one connection; take one handle a shard.
///
/// A connection that falls silent is noticed within 3 s: so long may a change go unheard before
/// [`hears`](Remote::hears) says so.
///
/// ```no_run
/// use std::time::Duration;
/// use soloist::{Redis, Remote, prelude::*};
///
/// async fn app(shard: Shard) -> Result<App<Redis>> {
///     let redis = Redis::connect(&shard, "redis://:secret@10.0.0.7:6379/0")?;
///     Ok(App::new(redis).get("/:name", async |cx| {
///         let key: &str = cx.param("name")?;
///         let value = cx.state().get(key.as_bytes()).await?; // 503 if Redis is away
///         cx.state().set(key.as_bytes(), b"seen", Some(Duration::from_secs(60))).await?;
///         cx.bytes("text/plain", value.ok_or_else(Error::not_found)?)
///     }))
/// }
/// ```
#[derive(Clone)]
pub struct Redis(Rc<Handle<RedisDial>>);

impl Redis {
    /// A handle of a shard to the server at `redis://[user][:password@]host[:port][/database]`, or
    /// at `redis+unix:///path`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is none. Not when nobody is there.
    ///
    /// ```
    /// use soloist::{Redis, Remote, prelude::*};
    /// # use soloist::testing::TestClient;
    ///
    /// async fn app(shard: Shard) -> Result<App<Redis>> {
    ///     Ok(App::new(Redis::connect(&shard, "redis://127.0.0.1:1")?)
    ///         .get("/", async |cx| cx.json(&cx.state().get(b"ann").await.is_ok()))
    ///         .get("/stats", async |cx| cx.json(&cx.state().stats())))
    /// }
    /// TestClient::run(app, async |client| {
    ///     for _ in 0..9 {
    ///         client.get("/").await.expect(200).text("false"); // nobody is there, and it is known
    ///     }
    ///     let stats = client.get("/stats").await.expect(200);
    ///     assert!(stats.json::<serde_json::Value>()["breaker"] == "open");
    /// });
    /// ```
    pub fn connect(shard: &Shard, url: &str) -> Result<Redis> {
        Redis::connect_with(shard, url, RemoteOptions::new())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// When the URL is none.
    ///
    /// ```
    /// use soloist::{Redis, RemoteOptions, prelude::*};
    /// # use soloist::testing::TestClient;
    ///
    /// async fn app(shard: Shard) -> Result<App<Redis>> {
    ///     let options = RemoteOptions::new().prefix("shop:");
    ///     Ok(App::new(Redis::connect_with(&shard, "redis://127.0.0.1", options)?))
    /// }
    /// # TestClient::run(app, async |client| {
    /// assert!(Redis::connect(&client.shard(), "http://127.0.0.1").is_err());
    /// # });
    /// ```
    pub fn connect_with(shard: &Shard, url: &str, options: RemoteOptions) -> Result<Redis> {
        let ears = Rc::new(Ears::default());
        let dialer = RedisDial::new(shard, url, &options, &ears).map_err(|error| {
            Error::new(500, "redis: the URL is none: redis://host:port/database").because(error)
        })?;
        Ok(Redis(Rc::new(Handle(Rc::new(Link::new(shard, dialer, options, ears))))))
    }

    fn link(&self) -> &Rc<Link<RedisDial>> {
        &self.0.0
    }

    fn key(&self, key: &[u8]) -> Result<Vec<u8>> {
        full_key(&self.link().options.prefix, key, REDIS_KEY_BYTES_MAX)
            .map_err(RemoteError::into_error)
    }

    fn keys(&self, keys: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        keys.iter().map(|key| self.key(key)).collect()
    }

    /// Runs commands behind each other, their answers in a list.
    async fn pipe<T: redis::FromRedisValue>(&self, pipe: redis::Pipeline) -> Result<T> {
        let done =
            self.link().call(async |mut conn| pipe.query_async(&mut conn).await.map_err(in_call));
        done.await.map_err(RemoteError::into_error)
    }

    fn found(&self, stored: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let value = stored.and_then(unstamp);
        self.link().counting.count(|it| match value {
            Some(_) => it.hits += 1,
            None => it.misses += 1,
        });
        value
    }
}

impl Remote for Redis {
    fn get<'a>(&'a self, key: &'a [u8]) -> RemoteFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut get = redis::cmd("GET");
            get.arg(self.key(key)?);
            let done = self
                .link()
                .call(async |mut conn| get.query_async(&mut conn).await.map_err(in_call));
            Ok(self.found(done.await.map_err(RemoteError::into_error)?))
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut pipe = redis::pipe();
            for some in self.keys(keys)?.chunks(REMOTE_KEYS_MAX) {
                pipe.cmd("MGET").arg(some);
            }
            let stored: Vec<Vec<Option<Vec<u8>>>> = self.pipe(pipe).await?;
            let found: Vec<_> = stored.into_iter().flatten().map(|it| self.found(it)).collect();
            if found.len() != keys.len() {
                return Err(Error::from("redis: MGET has answered with another number of values"));
            }
            Ok(found)
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: &'a [u8],
        ttl: Option<Duration>,
    ) -> RemoteFuture<'a, ()> {
        Box::pin(async move {
            let bytes_max = self.link().options.value_bytes_max.unwrap_or(REDIS_VALUE_BYTES_MAX);
            if value.len() > bytes_max {
                let error = RemoteError::TooLarge { bytes: value.len(), bytes_max };
                return Err(error.into_error());
            }
            let mut set = redis::cmd("SET");
            set.arg(self.key(key)?).arg(Stamped(value));
            if let Some(ttl) = ttl {
                // Above it the server's own sum overflows.
                let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                set.arg("PX").arg(ms.clamp(1, TTL_MS_MAX));
            }
            let done = self
                .link()
                .call(async |mut conn| set.query_async(&mut conn).await.map_err(in_call));
            done.await.map_err(RemoteError::into_error)
        })
    }

    fn remove<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, ()> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(());
            }
            let mut pipe = redis::pipe();
            for some in self.keys(keys)?.chunks(REMOTE_KEYS_MAX) {
                pipe.cmd("UNLINK").arg(some);
            }
            self.pipe::<Vec<u64>>(pipe).await.map(drop)
        })
    }

    /// Makes the connection, if there is none yet.
    fn hear(&self, told: Box<dyn Fn(&Heard)>) -> Hearing {
        self.link().keep();
        self.link().ears.hear(told)
    }

    fn hears(&self) -> bool {
        self.link().is_up()
    }

    fn tells(&self) -> bool {
        true
    }

    fn stats(&self) -> RemoteStats {
        self.link().stats()
    }
}

/// A hundred years.
const TTL_MS_MAX: u64 = 100 * 365 * 86_400_000;

/// A value behind its format, without a copy before the command's own.
struct Stamped<'a>(&'a [u8]);

impl ToRedisArgs for Stamped<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut writer = out.writer_for_next_arg();
        // The command's buffer is memory: nothing can fail.
        let _ = writer.write_all(&STAMP).and_then(|()| writer.write_all(self.0));
    }
}

fn in_call(error: RedisError) -> RemoteError {
    let text = format!("redis: {error}");
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => {
            RemoteError::Answer(text.into())
        }
        _ => RemoteError::lost(text),
    }
}

struct RedisDial {
    shard: Shard,
    client: Client,
    address: String,
    prefix: String,
    ears: Rc<Ears>,
}

impl RedisDial {
    fn new(
        shard: &Shard,
        url: &str,
        options: &RemoteOptions,
        ears: &Rc<Ears>,
    ) -> Result<RedisDial, RedisError> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = info.tcp_settings().clone().set_nodelay(true); // calls follow unanswered ones
        let client = Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp))?;
        Ok(RedisDial {
            shard: shard.clone(),
            address: client.get_connection_info().addr().to_string(),
            client,
            prefix: options.prefix.clone(),
            ears: ears.clone(),
        })
    }

    fn lost(&self, error: RedisError) -> RemoteError {
        let advice = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
                ": check user and password in its URL"
            }
            (ErrorKind::Parse, _) => ": is it a Redis?",
            (ErrorKind::RESP3NotSupported, _) => ": it takes Redis 6 or later",
            _ => "",
        };
        RemoteError::lost(format!("redis at {}: {error}{advice}", self.address))
    }
}

impl Dial for RedisDial {
    type Conn = MultiplexedConnection;
    const HEARS: bool = true;

    fn address(&self) -> &str {
        &self.address
    }

    async fn dial(&self) -> Result<(MultiplexedConnection, Life), RemoteError> {
        needs_tokio()?;
        let (sender, pushed) = mpsc::channel(REMOTE_HEARD_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let misses = missed.clone();
        let push = move |info: PushInfo| {
            if sender.try_send(info).is_err() {
                misses.store(true, Ordering::Release);
            }
            Ok::<(), ()>(())
        };
        // Time limits are the link's.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(REMOTE_CALLS_MAX)
            .set_push_sender(push);
        let dialed = self.client.get_multiplexed_async_connection_with_config(&config).await;
        drop(config); // it holds a sender: `pushed` is to end with the connection
        let mut conn = dialed.map_err(|error| self.lost(error))?;
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&self.prefix);
        tracking.arg("NOLOOP");
        tracking.query_async::<()>(&mut conn).await.map_err(|error| self.lost(error))?;
        let ears = Listening {
            shard: self.shard.clone(),
            conn: conn.clone(),
            prefix: self.prefix.clone(),
            ears: self.ears.clone(),
            pushed,
            missed,
        };
        Ok((conn, Box::pin(ears.run())))
    }
}

/// What the server tells by itself, while the connection lives.
struct Listening {
    shard: Shard,
    conn: MultiplexedConnection,
    prefix: String,
    ears: Rc<Ears>,
    /// As many as are not yet told; ends with the connection.
    pushed: mpsc::Receiver<PushInfo>,
    /// There were more than it holds.
    missed: Arc<AtomicBool>,
}

impl Listening {
    async fn run(mut self) -> RemoteError {
        let every = Duration::from_millis(REMOTE_PING_MS);
        loop {
            match self.shard.timeout(every, self.pushed.recv()).await {
                Ok(Some(PushInfo { kind: PushKind::Disconnection, .. })) | Ok(None) => {
                    return RemoteError::lost("the connection was closed");
                }
                Ok(Some(info)) => self.tell(info),
                Err(_) => {
                    if let Err(why) = self.ping().await {
                        return why;
                    }
                }
            }
            if self.missed.swap(false, Ordering::AcqRel) {
                self.ears.tell(&Heard::Everything);
            }
        }
    }

    fn tell(&self, info: PushInfo) {
        if info.kind != PushKind::Invalidate {
            return;
        }
        match info.data.into_iter().next() {
            Some(Value::Array(keys)) => {
                let ours = keys.into_iter().filter_map(|key| match key {
                    Value::BulkString(key) => {
                        key.strip_prefix(self.prefix.as_bytes()).map(<[u8]>::to_vec)
                    }
                    _ => None,
                });
                self.ears.tell(&Heard::Changed(ours.collect()));
            }
            // FLUSHALL, and whatever else is no list of keys.
            _ => self.ears.tell(&Heard::Everything),
        }
    }

    /// A connection that is cut without a word says nothing of changes either.
    async fn ping(&mut self) -> Result<(), RemoteError> {
        let ping = redis::cmd("PING");
        let within = Duration::from_millis(REMOTE_PING_MS / 2);
        match self.shard.timeout(within, ping.query_async::<String>(&mut self.conn)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => match in_call(error) {
                RemoteError::Lost(why) => Err(RemoteError::Lost(why)),
                _ => Ok(()), // it speaks
            },
            Err(_) => Err(RemoteError::lost(format!("no answer to a ping within {within:?}"))),
        }
    }
}
