//! What a request has found out, for the rest of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::core::Core;
use super::ctx::Ctx;
use crate::error::Result;

impl<S> Ctx<S> {
    /// A cache that lives as long as the request: what several helpers of one handler ask for is
    /// looked up once. It takes no memory until it is used.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::Cell;
    /// # async fn query(cx: &Ctx<Cell<u32>>, id: u64) -> Result<String> {
    /// #     cx.state().set(cx.state().get() + 1);
    /// #     Ok(format!("user {id}"))
    /// # }
    /// async fn user(cx: &Ctx<Cell<u32>>, id: u64) -> Result<String> {
    ///     cx.cache().get_or(("user", id), async || query(cx, id).await).await
    /// }
    /// async fn greeting(cx: &Ctx<Cell<u32>>) -> Result<String> {
    ///     Ok(format!("Hello, {}.", user(cx, 7).await?))
    /// }
    /// async fn may_write(cx: &Ctx<Cell<u32>>) -> Result<bool> {
    ///     Ok(user(cx, 7).await? == "user 7")
    /// }
    /// async fn page(cx: &Ctx<Cell<u32>>) -> Result<Reply> {
    ///     let (greeting, may_write) = (greeting(cx).await?, may_write(cx).await?);
    ///     let title = user(cx, 7).await?;
    ///     cx.text(format!("{title}: {greeting} {may_write}")) // three asked, one query ran
    /// }
    /// # let app = App::new(Cell::new(0)).get("/", page)
    /// #     .get("/queries", async |cx| cx.json(cx.state()));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("user 7: Hello, user 7. true");
    /// # client.get("/queries").await.text("1");
    /// # });
    /// ```
    pub fn cache(&self) -> RequestCache<'_> {
        RequestCache(&self.core)
    }
}

/// What is remembered until the request ends: see [`Ctx::cache`].
///
/// Keys of one type with values of one type are one table. So let a key say what it is of:
/// `("user", 7)`, or a type of its own.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// let app = App::new(()).get("/", async |cx| {
///     cx.cache().insert(("team", 7), "blue");
///     cx.cache().insert(("user", 7), "ann");
///     let users = [7, 8].map(|id| cx.cache().get::<_, &str>(&("user", id)));
///     cx.json(&users)
/// });
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.get("/").await.text(r#"["ann",null]"#);
/// # });
/// ```
#[derive(Clone, Copy)]
pub struct RequestCache<'a>(&'a Core);

impl RequestCache<'_> {
    /// The value of a key; if it is not there, what `load` gives, which is kept. Where parts of a
    /// handler that run side by side ask for one key, one load runs and the others wait for it.
    /// `load` must not ask for its own key: it would wait for itself.
    ///
    /// # Errors
    /// That of `load`, which is not kept: the next one to ask loads again.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # async fn query(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// async fn user(cx: &Ctx<()>, id: u64) -> Result<String> {
    ///     cx.cache().get_or(("user", id), async || query(id).await).await
    /// }
    /// # let app = App::new(()).get("/", async |cx| cx.text(user(cx, 7).await?));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("user 7");
    /// # });
    /// ```
    pub async fn get_or<K, V>(&self, key: K, load: impl AsyncFnOnce() -> Result<V>) -> Result<V>
    where
        K: Hash + Eq + 'static,
        V: Clone + 'static,
    {
        let slot = self.table::<K, V>().0.borrow_mut().entry(key).or_default().clone();
        if let Some(value) = poll_fn(|cx| slot.poll(cx.waker())).await {
            return Ok(value);
        }
        let loading = Loading(&slot);
        let value = load().await?;
        loading.end(State::Known(value.clone()));
        Ok(value)
    }

    /// The value of a key, if it is there.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).get("/", async |cx| {
    ///     cx.cache().insert("answer", 42_u32);
    ///     cx.json(&cx.cache().get::<_, u32>(&"answer"))
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/").await.text("42");
    /// # });
    /// ```
    pub fn get<K, V>(&self, key: &K) -> Option<V>
    where
        K: Hash + Eq + 'static,
        V: Clone + 'static,
    {
        let table = self.0.arena.got::<Table<K, V>>()?.0.borrow();
        match &*table.get(key)?.0.borrow() {
            State::Known(value) => Some(value.clone()),
            State::Empty | State::Loading(_) => None,
        }
    }

    /// Keeps a value, in place of an older one; what a load of its key that is under way finds does
    /// not take its place.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// async fn rename(cx: &Ctx<()>) -> Result<Reply> {
    ///     let name: String = cx.body_json().await?;
    ///     // to the database, and:
    ///     cx.cache().insert(("user", 7), name); // who asks later in this request has the new one
    ///     cx.empty()
    /// }
    /// # let app = App::new(()).put("/", rename);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.put("/").json(&"ann").await.expect(204);
    /// # });
    /// ```
    pub fn insert<K, V>(&self, key: K, value: V)
    where
        K: Hash + Eq + 'static,
        V: 'static,
    {
        let slot = Rc::new(Slot(RefCell::new(State::Known(value))));
        self.table::<K, V>().0.borrow_mut().insert(key, slot);
    }

    fn table<K: 'static, V: 'static>(&self) -> &Table<K, V> {
        let known = self.0.arena.got::<Table<K, V>>();
        known.unwrap_or_else(|| self.0.arena.put(Table::<K, V>(RefCell::default())))
    }
}

/// The values of one type of keys and values; lies in the arena.
struct Table<K, V>(RefCell<HashMap<K, Rc<Slot<V>>>>);

struct Slot<V>(RefCell<State<V>>);

enum State<V> {
    Empty,
    /// One loads, these wait.
    Loading(Vec<Waker>),
    Known(V),
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Slot(RefCell::new(State::Empty))
    }
}

impl<V: Clone> Slot<V> {
    /// The value once it is there; none if the caller is to load it.
    fn poll(&self, waker: &Waker) -> Poll<Option<V>> {
        let mut state = self.0.borrow_mut();
        match &mut *state {
            State::Known(value) => return Poll::Ready(Some(value.clone())),
            State::Loading(waiting) => {
                // Parts of one handler often share a waker.
                if !waiting.iter().any(|it| it.will_wake(waker)) {
                    waiting.push(waker.clone());
                }
                return Poll::Pending;
            }
            State::Empty => {}
        }
        *state = State::Loading(Vec::new());
        Poll::Ready(None)
    }
}

/// While one loads. Dropped without an end, the next one loads.
struct Loading<'a, V>(&'a Slot<V>);

impl<V> Loading<'_, V> {
    fn end(&self, state: State<V>) {
        let before = self.0.0.replace(state);
        if let State::Loading(waiting) = before {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl<V> Drop for Loading<'_, V> {
    fn drop(&mut self) {
        if matches!(*self.0.0.borrow(), State::Loading(_)) {
            self.end(State::Empty);
        }
    }
}
