//! Caches of all shards at once.

use std::hash::Hash;

use crate::cache::near::Cache;
use crate::cache::stats::CacheStats;
use crate::error::Result;

/// On every shard.
impl<K: Hash + Eq + 'static, V: 'static> Cache<K, V> {
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
