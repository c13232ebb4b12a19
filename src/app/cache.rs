//! Caches of all shards at once.

use std::hash::Hash;

use crate::cache::near::Cache;
use crate::cache::stats::CacheStats;
use crate::error::Result;
use crate::shard::Shard;

/// Of all shards.
impl<K: Hash + Eq + 'static, V: 'static> Cache<K, V> {
    /// As [`get_or`](Cache::get_or), with one load for all shards: the shard that a key belongs to
    /// loads it, the others ask that one. For loads that are dear; a hit costs the same.
    ///
    /// # Errors
    /// As of [`get_or`](Cache::get_or) and [`Shard::on`].
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn render(month: &str) -> Result<String> { Ok(format!("report of {month}")) }
    /// async fn report(cx: &Ctx<()>) -> Result<Reply> {
    ///     let month: String = cx.param("month")?;
    ///     let reports = cx.shard().cache::<String, String>("reports");
    ///     let load = async move |_: Shard, month: String| render(&month).await;
    ///     cx.text(reports.get_or_once(month, load).await?)
    /// }
    /// # let app = App::new(()).get("/:month", report);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/2026-11").await.text("report of 2026-11");
    /// # });
    /// ```
    pub async fn get_or_once(
        &self,
        key: K,
        load: impl AsyncFnOnce(Shard, K) -> Result<V> + Send + 'static,
    ) -> Result<V>
    where
        K: Clone + Send,
        V: Clone + Send,
    {
        let (shard, name) = (self.shard(), self.name());
        let owner = self.owner_of(&key);
        if owner == shard.id() {
            return self.get_or(key.clone(), async || load(shard.clone(), key).await).await;
        }
        let (options, asked) = (self.options(), key.clone());
        let ask = async move || {
            let loaded = shard.on(owner, async move |there| {
                let cache = there.cache_with(name, options);
                cache.get_or(asked.clone(), async || load(there, asked).await).await
            });
            loaded.await
        };
        self.get_or(key, ask).await
    }

    /// What all shards' caches of this name have done so far, together.
    ///
    /// # Errors
    /// As of [`Shard::on_all`](crate::Shard::on_all).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn rate(cx: &Ctx<()>) -> Result<Reply> {
    ///     let users = cx.shard().cache::<u64, String>("users");
    ///     cx.json(&users.stats_everywhere().await?.hit_rate())
    /// }
    /// # let app = App::new(()).get("/", rate);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("0.0");
    /// # });
    /// ```
    pub async fn stats_everywhere(&self) -> Result<CacheStats> {
        let name = self.name();
        let all = self.shard().on_all(async move |there| {
            Ok(Cache::<K, V>::known(&there, name).map(|it| it.stats()).unwrap_or_default())
        });
        let mut sum = CacheStats::default();
        all.await?.iter().for_each(|it| sum += it);
        Ok(sum)
    }
}
