//! What every remote store can do, and the bytes of a value there.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::ears::{Heard, Hearing};
use super::error::RemoteError;
use super::stats::RemoteStats;
use crate::error::Result;

/// What a [`Remote`] gives back to be awaited. It stays on its shard.
pub type RemoteFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// A store that all nodes of a service share, as one shard sees it: keys to bytes.
///
/// No call waits longer than its time limit, and a server that is dead costs nothing after a few
/// calls. Every error has status 503, or 500 for a key or a value that cannot be stored, and a
/// [`RemoteError`] as its cause.
///
/// ```
/// use soloist::{Redis, Remote, RemoteError, prelude::*};
/// # use soloist::testing::TestClient;
///
/// /// Nobody waits for a store that is away.
/// async fn kept(remote: &dyn Remote, key: &str) -> Option<Vec<u8>> {
///     remote.get(key.as_bytes()).await.unwrap_or_default()
/// }
/// # TestClient::run(async |_| Ok(App::new(())), async |client| {
/// let redis = Redis::connect(&client.shard(), "redis://127.0.0.1:1").expect("a URL");
/// assert_eq!(kept(&redis, "ann").await, None);
///
/// let error = redis.get(b"ann").await.unwrap_err();
/// assert!(matches!(error.get(), Some(RemoteError::Lost(_))), "{error}");
/// # });
/// ```
pub trait Remote: 'static {
    /// The value of a key. None if there is none, or one that this version cannot read.
    ///
    /// # Errors
    /// When the store is away, slow, or refuses the call.
    ///
    /// ```
    /// # use soloist::{Remote, prelude::*};
    /// async fn name(remote: &dyn Remote, id: u64) -> Result<Option<String>> {
    ///     let bytes = remote.get(format!("name:{id}").as_bytes()).await?;
    ///     Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    /// }
    /// ```
    fn get<'a>(&'a self, key: &'a [u8]) -> RemoteFuture<'a, Option<Vec<u8>>>;

    /// The values of many keys, in their order, in one round trip or few.
    ///
    /// # Errors
    /// As of [`get`](Remote::get).
    ///
    /// ```
    /// # use soloist::{Remote, prelude::*};
    /// async fn both(remote: &dyn Remote) -> Result<bool> {
    ///     let found = remote.get_many(&[b"ann", b"bob"]).await?;
    ///     Ok(found.iter().all(Option::is_some))
    /// }
    /// ```
    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, Vec<Option<Vec<u8>>>>;

    /// Stores a value, for ever or for so long. One that is too large is not sent, and the old
    /// value stays there: take it out with [`remove`](Remote::remove) if it is wrong now.
    ///
    /// # Errors
    /// As of [`get`](Remote::get); and when the value is too large. After a time limit the value
    /// may have been stored or not.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::{Remote, prelude::*};
    /// async fn seen(remote: &dyn Remote, name: &str) -> Result<()> {
    ///     remote.set(name.as_bytes(), b"here", Some(Duration::from_secs(60))).await
    /// }
    /// ```
    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: &'a [u8],
        ttl: Option<Duration>,
    ) -> RemoteFuture<'a, ()>;

    /// Takes keys out; those that are not there are no error.
    ///
    /// # Errors
    /// As of [`get`](Remote::get): then they may still be there.
    ///
    /// ```
    /// # use soloist::{Remote, prelude::*};
    /// async fn forget(remote: &dyn Remote) -> Result<()> {
    ///     remote.remove(&[b"ann", b"bob"]).await
    /// }
    /// ```
    fn remove<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, ()>;

    /// Calls `told` with what others change, until the [`Hearing`] drops. It runs on this shard and
    /// must not wait.
    ///
    /// The answer to a call and the word of a change may be taken up in either order: what a load
    /// brings of a key that was named while it was under way is old, and must not be kept.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::rc::Rc;
    /// use soloist::{Heard, Hearing, Remote, prelude::*};
    ///
    /// type Near = Rc<Own<HashMap<Vec<u8>, Vec<u8>>>>;
    ///
    /// fn follow(remote: &dyn Remote, near: Near) -> Hearing {
    ///     remote.hear(Box::new(move |heard| {
    ///         near.with(|near| match heard {
    ///             Heard::Changed(keys) => near.retain(|key, _| !keys.contains(key)),
    ///             Heard::Everything => near.clear(),
    ///             Heard::Nothing => {} // and it stops to fill it, until everything has changed
    ///         })
    ///     }))
    /// }
    /// ```
    fn hear(&self, told: Box<dyn Fn(&Heard)>) -> Hearing;

    /// Whether every change is heard at this moment. If not, what is near may be stale until
    /// [`Heard::Everything`] comes.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use soloist::Remote;
    /// /// How long a value may be kept near.
    /// fn near_ttl(remote: &dyn Remote) -> Duration {
    ///     Duration::from_secs(if remote.hears() { 600 } else { 5 })
    /// }
    /// ```
    fn hears(&self) -> bool;

    /// Whether it is a store that tells of changes at all.
    ///
    /// ```
    /// # use soloist::Remote;
    /// fn advice(remote: &dyn Remote) -> &'static str {
    ///     if remote.tells() { "nodes hear each other" } else { "keep the time to live short" }
    /// }
    /// ```
    fn tells(&self) -> bool;

    /// What it has done so far, on this shard.
    ///
    /// ```
    /// # use soloist::{Redis, prelude::*};
    /// use soloist::Remote;
    ///
    /// async fn stats(cx: &Ctx<Redis>) -> Result<Reply> {
    ///     cx.json(&cx.state().stats())
    /// }
    /// ```
    fn stats(&self) -> RemoteStats;
}

/// Before every value, so that later formats are told apart.
const FORMAT: u8 = 1;

/// The bytes before a value.
pub(super) const STAMP: [u8; 1] = [FORMAT];

/// The value in what a store has; none if it is of a format that is not known.
pub(super) fn unstamp(mut stored: Vec<u8>) -> Option<Vec<u8>> {
    if stored.first() != Some(&FORMAT) {
        return None;
    }
    stored.remove(0);
    Some(stored)
}

/// A key under its prefix.
pub(super) fn full_key(prefix: &str, key: &[u8], bytes_max: usize) -> Result<Vec<u8>, RemoteError> {
    let bytes = prefix.len() + key.len();
    if bytes > bytes_max || bytes == 0 {
        return Err(RemoteError::Key { bytes, bytes_max });
    }
    Ok([prefix.as_bytes(), key].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_other_formats_are_none() {
        let table: [(&[u8], Option<&[u8]>); 5] = [
            (b"\x01ann", Some(b"ann")),
            (b"\x01", Some(b"")),
            (b"\x02ann", None),
            (b"ann", None),
            (b"", None),
        ];
        for (stored, want) in table {
            assert_eq!(unstamp(stored.to_vec()).as_deref(), want, "{stored:?}");
        }
    }
}
