//! Work on another thread that is told when nobody wants its result any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Shard;
use crate::error::Result;

impl Shard {
    /// [`blocking`](Shard::blocking) for work that can end early: dropping the future, as a client
    /// that has gone or a deadline does, cancels what the work is given to look at.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn primes(cx: &Ctx<()>) -> Result<Reply> {
    ///     let shard = cx.shard();
    ///     let count = shard.blocking_with(|cancel| {
    ///         let mut count = 0;
    ///         for n in 2..100_000_u32 {
    ///             if cancel.is_cancelled() {
    ///                 break;
    ///             }
    ///             count += u32::from((2..n).all(|d| n % d != 0));
    ///         }
    ///         count
    ///     });
    ///     cx.text(count.await?.to_string())
    /// }
    /// ```
    pub async fn blocking_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(Cancel) -> T + Send + 'static,
    ) -> Result<T> {
        let cancel = Cancel::default();
        let _cancels = CancelsOnDrop(cancel.clone());
        self.blocking(move || work(cancel)).await
    }
}

/// Whether work is still wanted: see [`Shard::blocking_with`]. It may go to other threads, and its
/// clones tell the same.
///
/// ```
/// use soloist::Cancel;
///
/// fn line_of(word: &str, lines: &[&str], cancel: &Cancel) -> Option<usize> {
///     lines.iter().take_while(|_| !cancel.is_cancelled()).position(|line| line.contains(word))
/// }
/// // One of your own is never cancelled: good for a test.
/// assert_eq!(line_of("b", &["a", "abc"], &Cancel::default()), Some(1));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether nobody waits for the result any more. It never goes back. Looking costs one load:
    /// look every millisecond or so of work.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn sum(cx: &Ctx<()>) -> Result<Reply> {
    ///     let shard = cx.shard();
    ///     let sum = shard.blocking_with(|cancel| {
    ///         let slices = (0..1_000_u64).map(|at| (at * 1_000..(at + 1) * 1_000).sum::<u64>());
    ///         slices.take_while(|_| !cancel.is_cancelled()).sum::<u64>() // between slices
    ///     });
    ///     cx.text(sum.await?.to_string())
    /// }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", sum)), async |client| {
    /// #     client.get("/").await.expect(200).text("499999500000");
    /// # });
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct CancelsOnDrop(Cancel);

impl Drop for CancelsOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
