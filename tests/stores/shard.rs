//! Work that a test of a database does on real shards, and waiting for what others do.

#![allow(dead_code)] // each test uses some of it

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::testing::TestServer;
use soloist::{Backend, Db, DbFault, DbStats, sqlx};

/// Runs work on so many shards at once, each with its tokio, and waits until it has ended on all.
#[track_caller]
pub fn on_shards(count: usize, work: impl AsyncFnOnce(Shard) + Clone + Send + 'static) {
    /// Tells how it ended, after a panic too.
    struct End(mpsc::Sender<bool>);
    impl Drop for End {
        fn drop(&mut self) {
            let _ = self.0.send(!thread::panicking());
        }
    }
    let (sender, receiver) = mpsc::channel();
    let server = TestServer::start(count, async move |shard: Shard| {
        let (end, its) = (End(sender), shard.clone());
        shard.spawn(async move {
            let _end = end;
            work(its).await;
        });
        Ok(App::new(()))
    });
    let ended = (0..count).map(|_| receiver.recv_timeout(Duration::from_secs(120)));
    let ended: Vec<_> = ended.collect();
    drop(server);
    assert!(ended.iter().all(|it| *it == Ok(true)), "the work on a shard has failed: {ended:?}");
}

#[track_caller]
pub fn on_shard(work: impl AsyncFnOnce(Shard) + Clone + Send + 'static) {
    on_shards(1, work);
}

/// Waits until something is so, which a task of the shard, another shard or a server brings about.
pub async fn until(shard: &Shard, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        shard.sleep(Duration::from_millis(2)).await; // they have their say
    }
}

/// What a query met, and what its request would have been answered with.
pub fn fault(error: sqlx::Error) -> (DbFault, u16) {
    (DbFault::of(&error), Error::from(error).status())
}

/// The numbers once nobody holds a connection, and each lease is one that is open.
pub async fn at_rest<B: Backend>(shard: &Shard, db: &Db<B>) -> DbStats {
    until(shard, "all have come back", async || {
        let stats = db.stats_everywhere();
        stats.in_use + stats.connecting + stats.waiters == 0 && stats.leases == stats.open
    })
    .await;
    db.stats_everywhere()
}
