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

/// Whether work is still wanted: see [`Shard::blocking_with`].
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Nobody waits for the result any more. It never goes back.
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
