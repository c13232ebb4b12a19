//! Lookups of one request, gathered: what many ask for at once is loaded at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::mem;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::ctx::Ctx;
use super::join::join;
use crate::error::{Error, Result, SentError};
use crate::limits::LOADER_KEYS_MAX;
use crate::shard::tasks::yield_now;

impl<S> Ctx<S> {
    /// A loader for this request: what parts of it that run side by side ask for becomes one call
    /// of `load` with all of their keys, and is remembered until the request ends. `load` gives
    /// pairs of a key and its value, in any order; a key without a pair has no value.
    ///
    /// Loaders of one name, with keys and values of the same types, are one, wherever they are
    /// made: so make it in the function that looks up, and call that from everywhere.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # mod sample {
    /// use soloist::sqlx::{QueryBuilder, Sqlite};
    /// use soloist::{Db, PushIn, prelude::*};
    ///
    /// type Cx = Ctx<Db<Sqlite>>;
    ///
    /// async fn name(cx: &Cx, id: i64) -> Result<Option<String>> {
    ///     let names = cx.loader("names", async |ids: &[i64]| {
    ///         let mut query = QueryBuilder::new("SELECT id, name FROM users WHERE id ");
    ///         let names: Vec<(i64, String)> =
    ///             query.push_in(ids)?.build_query_as().fetch_all(cx.state()).await?;
    ///         Ok(names)
    ///     });
    ///     names.load(id).await
    /// }
    /// # }
    /// ```
    pub fn loader<K, V, R, F>(&self, name: &'static str, load: F) -> Loader<K, V, F>
    where
        K: Hash + Eq + Clone + 'static,
        V: Clone + 'static,
        R: IntoIterator<Item = (K, V)>,
        F: AsyncFn(&[K]) -> Result<R>,
    {
        let arena = &self.core.arena;
        let shelves = arena.got::<Shelves<K, V>>();
        let shelves = shelves.unwrap_or_else(|| arena.put(Shelves::<K, V>(RefCell::default())));
        let shelf = shelves.0.borrow_mut().entry(name).or_default().clone();
        Loader { name, shelf, load }
    }
}

/// Many lookups by one call: see [`Ctx::loader`].
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// let app = App::new(()).get("/", async |cx| {
///     let squares = cx.loader("squares", async |ns: &[u64]| {
///         Ok(ns.iter().map(|n| (*n, n * n)).collect::<Vec<_>>()) // by a query, say
///     });
///     cx.json(&squares.load_all([3, 4, 3]).await?)
/// });
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.get("/").await.text("[9,16,9]");
/// # });
/// ```
pub struct Loader<K, V, F> {
    name: &'static str,
    shelf: Rc<Shelf<K, V>>,
    load: F,
}

impl<K, V, R, F> Loader<K, V, F>
where
    K: Hash + Eq + Clone + 'static,
    V: Clone + 'static,
    R: IntoIterator<Item = (K, V)>,
    F: AsyncFn(&[K]) -> Result<R>,
{
    /// The value of a key, if it has one. The first to ask lets the others that are ready ask too,
    /// and loads for all of them, for 1,024 at most. The load must not ask for its own keys: it
    /// would wait for itself.
    ///
    /// # Errors
    /// That of the load, for all who wait for it. It is not kept: the next one to ask loads again.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn name(cx: &Ctx<()>, id: u64) -> Result<String> {
    ///     let names = cx.loader("names", async |ids: &[u64]| {
    ///         Ok(ids.iter().map(|id| (*id, format!("user {id}"))).collect::<Vec<_>>())
    ///     });
    ///     names.load(id).await?.ok_or_else(Error::not_found)
    /// }
    /// # let app = App::new(()).get("/", async |cx| cx.text(name(cx, 7).await?));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("user 7");
    /// # });
    /// ```
    pub async fn load(&self, key: K) -> Result<Option<V>> {
        loop {
            let mut lead = match self.shelf.ask(&key) {
                Asked::Known(value) => return Ok(value),
                Asked::First(batch) => Lead::new(&self.shelf, batch),
                Asked::Waits(batch) => match poll_fn(|cx| batch.poll(cx.waker())).await {
                    Turn::Lead => Lead::new(&self.shelf, batch),
                    Turn::Over(Ok(())) => continue,
                    Turn::Over(Err(error)) => return Err(error.unpack(self.name)),
                },
            };
            yield_now().await; // to those who ask too
            lead.close();
            match (self.load)(&lead.keys).await {
                Ok(found) => lead.end(found.into_iter().collect()),
                Err(error) => {
                    lead.fail(&error);
                    return Err(error);
                }
            }
        }
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// As of [`load`](Loader::load).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # let app = App::new(()).get("/", async |cx| {
    /// let names = cx.loader("names", async |ids: &[u64]| {
    ///     Ok(ids.iter().filter(|id| **id < 9).map(|id| (*id, "ann")).collect::<Vec<_>>())
    /// });
    /// let two = names.load_all([7, 9]).await?; // ["ann", null]
    /// # cx.json(&two)
    /// # });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text(r#"["ann",null]"#);
    /// # });
    /// ```
    pub async fn load_all(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<V>>> {
        let loads = keys.into_iter().map(|key| self.load(key)).collect();
        join(loads).await.into_iter().collect()
    }

    /// Forgets a key, because the request has changed what it is of: who asks later loads again.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # let app = App::new(()).get("/", async |cx| {
    /// # let names = cx.loader("names", async |ids: &[u64]| Ok(vec![(ids[0], "ann")]));
    /// // an UPDATE of user 7, and:
    /// names.forget(&7);
    /// # cx.json(&names.load(7).await?)
    /// # });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text(r#""ann""#);
    /// # });
    /// ```
    pub fn forget(&self, key: &K) {
        self.shelf.entries.borrow_mut().remove(key);
    }
}

/// The loaders of one type of keys and values, by name; lies in the arena.
struct Shelves<K, V>(RefCell<HashMap<&'static str, Rc<Shelf<K, V>>>>);

/// What one loader has found out, and is asked for.
struct Shelf<K, V> {
    entries: RefCell<HashMap<K, Entry<K, V>>>,
    /// Where the next keys go.
    gathering: RefCell<Option<Rc<Batch<K>>>>,
}

enum Entry<K, V> {
    Asked(Rc<Batch<K>>),
    Known(Option<V>),
}

enum Asked<K, V> {
    Known(Option<V>),
    /// Somebody loads it, or has been about to.
    Waits(Rc<Batch<K>>),
    /// The caller is to load it, and what comes to it.
    First(Rc<Batch<K>>),
}

/// Keys that are loaded together.
struct Batch<K> {
    keys: RefCell<Vec<K>>,
    state: RefCell<State>,
}

enum State {
    /// One loads, or is about to; these wait.
    Led(Vec<Waker>),
    /// Who led it was dropped.
    Left,
    Over(Result<(), SentError>),
}

/// What comes of waiting for a batch.
enum Turn {
    /// Who has led it is gone: the caller is to.
    Lead,
    Over(Result<(), SentError>),
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Shelf { entries: RefCell::default(), gathering: RefCell::default() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shelf<K, V> {
    fn ask(&self, key: &K) -> Asked<K, V> {
        let mut entries = self.entries.borrow_mut();
        match entries.get(key) {
            Some(Entry::Known(value)) => return Asked::Known(value.clone()),
            Some(Entry::Asked(batch)) => return Asked::Waits(batch.clone()),
            None => {}
        }
        let mut gathering = self.gathering.borrow_mut();
        let open = gathering.as_ref().filter(|it| it.keys.borrow().len() < LOADER_KEYS_MAX);
        let (batch, is_first) = match open {
            Some(batch) => (batch.clone(), false),
            None => (gathering.insert(Rc::default()).clone(), true),
        };
        batch.keys.borrow_mut().push(key.clone());
        entries.insert(key.clone(), Entry::Asked(batch.clone()));
        if is_first { Asked::First(batch) } else { Asked::Waits(batch) }
    }
}

impl<K> Default for Batch<K> {
    fn default() -> Self {
        Batch { keys: RefCell::default(), state: RefCell::new(State::Led(Vec::new())) }
    }
}

impl<K> Batch<K> {
    fn poll(&self, waker: &Waker) -> Poll<Turn> {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Over(end) => return Poll::Ready(Turn::Over(end.clone())),
            State::Led(waiting) => {
                // Parts of one handler often share a waker.
                if !waiting.iter().any(|it| it.will_wake(waker)) {
                    waiting.push(waker.clone());
                }
                return Poll::Pending;
            }
            State::Left => {}
        }
        *state = State::Led(Vec::new());
        Poll::Ready(Turn::Lead)
    }

    fn turn(&self, state: State) {
        if let State::Led(waiting) = self.state.replace(state) {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// While one loads. Dropped without an end, another of those who wait does.
struct Lead<'a, K: Hash + Eq, V> {
    shelf: &'a Shelf<K, V>,
    batch: Rc<Batch<K>>,
    keys: Vec<K>,
}

impl<'a, K: Hash + Eq, V> Lead<'a, K, V> {
    fn new(shelf: &'a Shelf<K, V>, batch: Rc<Batch<K>>) -> Self {
        Lead { shelf, batch, keys: Vec::new() }
    }

    /// No more keys come to it.
    fn close(&mut self) {
        let mut gathering = self.shelf.gathering.borrow_mut();
        if gathering.as_ref().is_some_and(|it| Rc::ptr_eq(it, &self.batch)) {
            *gathering = None;
        }
        self.keys = self.batch.keys.take();
    }

    fn end(mut self, mut found: HashMap<K, V>) {
        for key in mem::take(&mut self.keys) {
            if self.owns(&key) {
                let value = found.remove(&key);
                self.shelf.entries.borrow_mut().insert(key, Entry::Known(value));
            }
        }
        self.batch.turn(State::Over(Ok(())));
    }

    fn fail(mut self, error: &Error) {
        for key in mem::take(&mut self.keys) {
            if self.owns(&key) {
                self.shelf.entries.borrow_mut().remove(&key);
            }
        }
        self.batch.turn(State::Over(Err(SentError::pack(error))));
    }

    /// Whether the key is still this batch's: it may have been forgotten, and asked for anew.
    fn owns(&self, key: &K) -> bool {
        let entries = self.shelf.entries.borrow();
        matches!(entries.get(key), Some(Entry::Asked(batch)) if Rc::ptr_eq(batch, &self.batch))
    }
}

impl<K: Hash + Eq, V> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        if matches!(*self.batch.state.borrow(), State::Led(_)) {
            self.batch.keys.borrow_mut().append(&mut self.keys);
            self.batch.turn(State::Left);
        }
    }
}
