//! Caches of all shards at once.

use std::hash::Hash;

use crate::cache::near::Cache;
use crate::error::Result;

/// On every shard.
impl<K: Hash + Eq + 'static, V: 'static> Cache<K, V> {
    /// Takes an entry out on every shard, as [`remove`](Cache::remove) does, and waits for all of
    /// them: who asks after this has returned does not find the old value, and a load of it that
    /// was under way is not stored.
    ///
    /// # Errors
    /// When a shard does not answer, because its queue is full or it has ended: the entry may still
    /// be there. It is gone on all others then. See [`Shard::on_all`](crate::Shard::on_all).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn to_database(id: u64, name: &str) -> Result<()> { Ok(()) }
    /// async fn rename(cx: &Ctx<()>) -> Result<Reply> {
    ///     let (id, name) = (cx.param("id")?, cx.body_json::<String>().await?);
    ///     to_database(id, &name).await?; // first the truth, then what is remembered of it
    ///     cx.shard().cache::<u64, String>("names").remove_everywhere(id).await?;
    ///     cx.empty()
    /// }
    /// # let app = App::new(()).put("/:id", rename);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.shard().cache::<u64, String>("names").insert(7, "ann".to_owned());
    /// # client.put("/7").json(&"bob").await.expect(204);
    /// # assert!(client.shard().cache::<u64, String>("names").is_empty());
    /// # });
    /// ```
    pub async fn remove_everywhere(&self, key: K) -> Result<()>
    where
        K: Clone + Send,
    {
        self.remove(&key);
        let name = self.name();
        let gone = self.shard().on_all(async move |there| {
            if let Some(cache) = Cache::<K, V>::known(&there, name) {
                cache.remove(&key);
            }
            Ok(())
        });
        gone.await.map(|_| ())
    }

    /// Forgets everything on every shard, as [`clear`](Cache::clear) does, and waits for all of
    /// them.
    ///
    /// # Errors
    /// As of [`remove_everywhere`](Cache::remove_everywhere).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn forget(cx: &Ctx<()>) -> Result<Reply> {
    ///     cx.shard().cache::<u64, String>("names").clear_everywhere().await?;
    ///     cx.empty()
    /// }
    /// ```
    pub async fn clear_everywhere(&self) -> Result<()> {
        self.clear();
        let name = self.name();
        let gone = self.shard().on_all(async move |there| {
            if let Some(cache) = Cache::<K, V>::known(&there, name) {
                cache.clear();
            }
            Ok(())
        });
        gone.await.map(|_| ())
    }

    /// All that was stored with this tag is gone on every shard, as of
    /// [`invalidate_tag`](Cache::invalidate_tag), when this has returned.
    ///
    /// # Errors
    /// As of [`remove_everywhere`](Cache::remove_everywhere).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn close(cx: &Ctx<()>) -> Result<Reply> {
    ///     let tag = format!("user:{}", cx.param::<u64>("id")?);
    ///     cx.shard().cache::<String, String>("pages").invalidate_tag_everywhere(&tag).await?;
    ///     cx.empty()
    /// }
    /// ```
    pub async fn invalidate_tag_everywhere(&self, tag: &str) -> Result<()> {
        self.invalidate_tag(tag);
        let (name, tag) = (self.name(), tag.to_owned());
        let gone = self.shard().on_all(async move |there| {
            if let Some(cache) = Cache::<K, V>::known(&there, name) {
                cache.invalidate_tag(&tag);
            }
            Ok(())
        });
        gone.await.map(|_| ())
    }
}
