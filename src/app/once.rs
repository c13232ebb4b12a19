//! What is made once for all shards of a server.

use std::any::TypeId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::{Sender, oneshot};
use crate::error::{Result, SentError};
use crate::shard::Shard;

impl Shard {
    /// A value that is made once for all shards of this server, and that each gets a clone of: a
    /// configuration, a table, the shared half of something with a lock.
    ///
    /// The first shard to ask makes it, the others wait. An error is handed to all who wait, and
    /// the next one to ask tries again. Values are told apart by `name` and type. `make` must not
    /// ask for the same one: it would wait for itself.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use soloist::prelude::*;
    ///
    /// async fn app(shard: Shard) -> Result<App<Arc<String>>> {
    ///     let hosts = shard.once("hosts", async || {
    ///         let text = shard.blocking(|| std::fs::read_to_string("/etc/hosts")).await??;
    ///         Ok(Arc::new(text))
    ///     });
    ///     Ok(App::new(hosts.await?).get("/", async |cx| cx.text(&**cx.state())))
    /// }
    /// ```
    pub async fn once<T: Clone + Send + 'static>(
        &self,
        name: &'static str,
        make: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<T> {
        let slot = self.slot::<T>(name);
        loop {
            let waiting = {
                let mut state = lock(&slot);
                match &mut *state {
                    State::Made(value) => return Ok(value.clone()),
                    State::Making(others) => {
                        let (sender, receiver) = oneshot();
                        others.retain(|other| !other.is_forsaken());
                        others.push(sender);
                        receiver
                    }
                    State::Empty => {
                        *state = State::Making(Vec::new());
                        break;
                    }
                }
            };
            match waiting.receive().await {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => return Err(error.unpack(name)),
                None => {} // whoever made it was dropped: it is another one's turn
            }
        }
        let mut making = Making(Some(&slot));
        let made = make().await;
        let kept = made.as_ref().ok().cloned();
        for other in making.end(kept) {
            other.send(match &made {
                Ok(value) => Ok(value.clone()),
                Err(error) => Err(SentError::pack(error)),
            });
        }
        made
    }

    fn slot<T: Send + 'static>(&self, name: &'static str) -> Arc<Slot<T>> {
        self.0.common((name, TypeId::of::<T>()), || Mutex::new(State::<T>::Empty))
    }
}

type Slot<T> = Mutex<State<T>>;

enum State<T> {
    Empty,
    /// One makes it, these wait.
    Making(Vec<Sender<Result<T, SentError>>>),
    Made(T),
}

/// While one makes it. Dropped without an end, it leaves the place empty.
struct Making<'a, T>(Option<&'a Slot<T>>);

impl<T> Making<'_, T> {
    /// Leaves the value there, if there is one, and gives those who wait.
    fn end(&mut self, made: Option<T>) -> Vec<Sender<Result<T, SentError>>> {
        let Some(slot) = self.0.take() else { return Vec::new() };
        let next = made.map_or(State::Empty, State::Made);
        match std::mem::replace(&mut *lock(slot), next) {
            State::Making(others) => others,
            State::Empty | State::Made(_) => Vec::new(),
        }
    }
}

impl<T> Drop for Making<'_, T> {
    fn drop(&mut self) {
        drop(self.end(None));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
