//! Building an application: routes, middleware, state.

use std::cell::RefCell;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;

use super::core::Whole;
use super::ctx::Ctx;
use super::handler::{Around, End, Endpoint, Handler, Middleware};
use super::mount::{Missed, Mounted};
use super::reply::Reply;
use super::routes::{
    Chain, Entry, HostName, Part, Scope, Slashes, Table, Urls, check_prefix, join,
};
use super::site::{LogError, Missing, OnError, OnStop, Serve, Shared};
use crate::error::{Error, Result};
use crate::http::date::DateCache;
use crate::http::net::Net;
use crate::shard::Shard;

/// Routes and what stands around them, with a state of type `S` that one shard owns.
///
/// Built once on every shard, so the state may hold `Rc`, `Cell` and `RefCell`. Static segments go
/// before `:param`, and that before `*rest`, whatever the order of the calls. Mistakes in routes
/// are collected and fail the start, with the lines that made them.
///
/// ```
/// use soloist::prelude::*;
///
/// async fn hello(cx: &Ctx<()>) -> Result<Reply> {
///     cx.text(format!("hello, {}", cx.param::<&str>("name")?))
/// }
/// let app = App::new(()).get("/", async |cx| cx.text("hello, world")).get("/:name", hello);
/// ```
pub struct App<S> {
    state: Rc<S>,
    layers: Chain<S>,
    routes: Part<S>,
    hosts: Vec<Part<S>>,
    fallback: Option<Box<dyn Endpoint<S>>>,
    slashes: Slashes,
    on_error: Option<OnError<S>>,
    log_error: Option<LogError<S>>,
    on_start: Vec<OnStart>,
    on_stop: Vec<OnStop>,
    mistakes: Vec<String>,
    /// Proxies that are believed.
    pub(super) trusted: Vec<Net>,
}

impl<S: 'static> App<S> {
    /// An application with that state.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::RefCell;
    /// # use std::collections::BTreeSet;
    /// #[derive(Default)]
    /// struct State {
    ///     seen: RefCell<BTreeSet<String>>, // one shard's: no lock
    /// }
    /// let app = App::new(State::default()).get("/:name", async |cx| {
    ///     cx.json(&cx.state().seen.borrow_mut().insert(cx.param("name")?))
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/ann").await.text("true");
    /// client.get("/ann").await.text("false");
    /// # });
    /// ```
    pub fn new(state: S) -> App<S> {
        App::shared(Rc::new(state))
    }

    /// An application whose state something else on this shard holds too: a background task.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::Cell;
    /// # use std::rc::Rc;
    /// # use std::time::Duration;
    /// async fn app(shard: Shard) -> Result<App<Cell<u64>>> {
    ///     let state = Rc::new(Cell::new(0));
    ///     let (here, minutes) = (shard.clone(), state.clone());
    ///     shard.spawn(async move {
    ///         let mut tick = here.interval(Duration::from_secs(60));
    ///         while here.until_stop(tick.tick()).await.is_some() {
    ///             minutes.set(minutes.get() + 1);
    ///         }
    ///     });
    ///     Ok(App::shared(state).get("/uptime", async |cx| cx.json(cx.state())))
    /// }
    /// # TestClient::run(app, async |client| {
    /// # client.advance(Duration::from_secs(150)).await;
    /// # client.get("/uptime").await.text("2");
    /// # });
    /// ```
    pub fn shared(state: Rc<S>) -> App<S> {
        App {
            state,
            layers: Vec::new(),
            routes: Part::new(None),
            hosts: Vec::new(),
            fallback: None,
            slashes: Slashes::Strict,
            on_error: None,
            log_error: None,
            on_start: Vec::new(),
            on_stop: Vec::new(),
            mistakes: Vec::new(),
            trusted: Vec::new(),
        }
    }

    /// Answers GET, and HEAD unless that has a route of its own.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let app = App::new(()).get("/users/:id", async |cx| {
    ///     let id: u64 = cx.param("id")?;
    ///     cx.json(&id)
    /// });
    /// ```
    #[track_caller]
    pub fn get(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("GET", path, handler)
    }

    /// Answers POST.
    ///
    /// What may be done once only (RFC 9110 section 9.3.3).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// let app = App::new(()).post("/sums", async |cx| {
    ///     let numbers: Vec<i64> = cx.body_json().await?;
    ///     cx.status(201).json(&numbers.iter().sum::<i64>())
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.post("/sums").json(&[1, 2]).await.expect(201).text("3");
    /// client.get("/sums").await.expect(405).has("allow", "OPTIONS, POST");
    /// # });
    /// ```
    #[track_caller]
    pub fn post(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("POST", path, handler)
    }

    /// Answers PUT.
    ///
    /// Twice is as good as once (RFC 9110 section 9.3.4).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::RefCell;
    /// # use std::collections::BTreeMap;
    /// type Notes = RefCell<BTreeMap<u64, String>>;
    ///
    /// async fn store(cx: &Ctx<Notes>) -> Result<Reply> {
    ///     let text = str::from_utf8(cx.body().await?)?.to_owned();
    ///     let before = cx.state().borrow_mut().insert(cx.param("id")?, text);
    ///     cx.status(if before.is_none() { 201 } else { 204 }).empty()
    /// }
    /// let app = App::new(Notes::default()).put("/notes/:id", store);
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.put("/notes/7").body("tea").await.expect(201);
    /// client.put("/notes/7").body("milk").await.expect(204);
    /// # });
    /// ```
    #[track_caller]
    pub fn put(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("PUT", path, handler)
    }

    /// Answers PATCH.
    ///
    /// A change to what is there (RFC 5789).
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::Cell;
    /// let app = App::new(Cell::new(20)).patch("/volume", async |cx| {
    ///     let by: i32 = cx.body_json().await?;
    ///     cx.state().set((cx.state().get() + by).clamp(0, 100));
    ///     cx.json(cx.state())
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.call("PATCH", "/volume").json(&-5).await.text("15");
    /// # });
    /// ```
    #[track_caller]
    pub fn patch(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("PATCH", path, handler)
    }

    /// Answers DELETE.
    ///
    /// RFC 9110 section 9.3.5.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::RefCell;
    /// # use std::collections::BTreeSet;
    /// let notes = RefCell::new(BTreeSet::from([7]));
    /// let app = App::new(notes).delete("/notes/:id", async |cx| {
    ///     match cx.state().borrow_mut().remove(&cx.param::<u64>("id")?) {
    ///         true => cx.empty(), // 204
    ///         false => Err(Error::not_found()),
    ///     }
    /// });
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.delete("/notes/7").await.expect(204);
    /// client.delete("/notes/7").await.expect(404);
    /// # });
    /// ```
    #[track_caller]
    pub fn delete(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("DELETE", path, handler)
    }

    /// Answers any method. OPTIONS answers itself where it has no route.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let app = App::new(()).on("PURGE", "/cache/*path", async |cx| cx.empty());
    /// ```
    #[track_caller]
    pub fn on(mut self, method: &str, path: &str, handler: impl Handler<S>) -> App<S> {
        self.routes.entries.push(Entry {
            method: method.into(),
            pattern: path.into(),
            name: None,
            layers: Vec::new(),
            end: Box::new(End(handler)),
            at: Location::caller(),
        });
        self
    }

    #[cfg(any(feature = "files", feature = "ws"))]
    pub(super) fn push_route(&mut self, entry: Entry<S>) {
        self.routes.entries.push(entry);
    }

    /// Names the route that was added last: see [`Ctx::url`].
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let app = App::new(())
    ///     .get("/users/:id", async |cx| cx.text(cx.param::<&str>("id")?))
    ///     .name("user")
    ///     .get("/", async |cx| cx.redirect(cx.url("user", &[("id", &7)])?));
    /// ```
    #[track_caller]
    pub fn name(mut self, name: &str) -> App<S> {
        match self.routes.entries.last_mut() {
            Some(entry) => entry.name = Some(name.into()),
            None => self.mistake(&format!("name {name}"), "no route comes before it"),
        }
        self
    }

    /// Adds routes below a prefix, with the same state. Middleware of the part stands around its
    /// routes, and around what is missing below the prefix; a fallback of the part answers that.
    ///
    /// ```
    /// use soloist::prelude::*;
    ///
    /// fn admin(app: App<()>) -> App<()> {
    ///     app.wrap(admins_only).get("/", async |cx| cx.text("welcome"))
    /// }
    /// async fn admins_only(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     match cx.header("authorization") {
    ///         Some("Bearer root") => next.run().await,
    ///         _ => Err(Error::unauthorized()),
    ///     }
    /// }
    /// let app = App::new(()).nest("/admin", admin); // answers /admin
    /// ```
    #[track_caller]
    pub fn nest(mut self, prefix: &str, part: impl FnOnce(App<S>) -> App<S>) -> App<S> {
        let part = part(App::shared(self.state.clone()));
        match check_prefix(prefix) {
            Ok(()) => self.adopt(prefix, part),
            Err(why) => self.mistake(&format!("nest {prefix:?}"), why),
        }
        self
    }

    /// Adds routes with the same state and the same prefix, and middleware around them alone.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// use soloist::middleware::body_limit;
    ///
    /// let app = App::new(())
    ///     .get("/", async |cx| cx.text("hello"))
    ///     .group(|app| app.wrap(body_limit(1_000)).post("/notes", async |cx| cx.empty()));
    /// ```
    #[track_caller]
    pub fn group(mut self, part: impl FnOnce(App<S>) -> App<S>) -> App<S> {
        let part = part(App::shared(self.state.clone()));
        if part.fallback.is_some() {
            self.mistake("group", "it has no paths of its own to miss: set the fallback outside");
        }
        self.adopt("", part);
        self
    }

    /// Adds routes for one host, or with `*.example.com` for all hosts below one: they go before
    /// those for every host. Names have no case; the port does not count.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let app = App::new(())
    ///     .host("api.example.com", |app| app.get("/", async |cx| cx.json(&1)))
    ///     .get("/", async |cx| cx.html("<p>every other host"));
    /// ```
    #[track_caller]
    pub fn host(mut self, name: &str, part: impl FnOnce(App<S>) -> App<S>) -> App<S> {
        let part = part(App::shared(self.state.clone()));
        let Some(host) = HostName::parse(name) else {
            self.mistake(&format!("host {name:?}"), "not a host name, nor one behind `*.`");
            return self;
        };
        if !part.hosts.is_empty() {
            self.mistake(&format!("host {name}"), "a host within a host");
        }
        if part.fallback.is_some() {
            self.mistake(&format!("host {name}"), "set the fallback on the whole application");
        }
        let outer = std::mem::replace(&mut self.routes, Part::new(Some(host)));
        self.adopt("", part);
        self.hosts.push(std::mem::replace(&mut self.routes, outer));
        self
    }

    /// Adds an application with a state of its own below a prefix. Its errors have the look of its
    /// own [`on_error`](App::on_error), if it has one; its [`on_stop`](App::on_stop) runs too.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use soloist::prelude::*;
    ///
    /// let counter = App::new(Cell::new(0u64)).post("/", async |cx| {
    ///     cx.state().set(cx.state().get() + 1);
    ///     cx.text(cx.state().get().to_string())
    /// });
    /// let app = App::new(()).mount("/hits", counter);
    /// ```
    #[track_caller]
    pub fn mount<T: 'static>(mut self, prefix: &str, part: App<T>) -> App<S> {
        if let Err(why) = check_prefix(prefix) {
            self.mistake(&format!("mount {prefix:?}"), why);
            return self;
        }
        let mut inner = App::shared(self.state.clone());
        inner.mistakes = part.mistakes;
        inner.on_stop = part.on_stop;
        inner.on_start = part.on_start;
        let shared = Rc::new(Shared {
            state: part.state,
            layers: Vec::new(),
            tables: Vec::new(),
            whole: Rc::default(),
            slashes: Slashes::Strict,
            fallback: Box::new(Missing),
            on_error: part.on_error,
            log_error: part.log_error,
            on_stop: RefCell::default(),
        });
        let outer = part.layers;
        let own = |layers: Chain<T>, end: Box<dyn Endpoint<T>>| {
            let layers = outer.iter().cloned().chain(layers).collect();
            Box::new(Mounted { shared: shared.clone(), layers, end }) as Box<dyn Endpoint<S>>
        };
        let change = |from: Part<T>| {
            let entry = |it: Entry<T>| Entry {
                method: it.method,
                pattern: it.pattern,
                name: it.name,
                layers: Vec::new(),
                end: own(it.layers, it.end),
                at: it.at,
            };
            let scope = |it: Scope<T>| Scope {
                prefix: it.prefix,
                layers: Vec::new(),
                fallback: Some(own(it.layers, Box::new(Missed(it.fallback)))),
                whole: true,
            };
            Part {
                host: from.host,
                entries: from.entries.into_iter().map(entry).collect(),
                scopes: from.scopes.into_iter().map(scope).collect(),
            }
        };
        let mut parts = std::iter::once(part.routes).chain(part.hosts).map(change);
        inner.routes = parts.next().expect("the first is there");
        inner.hosts = parts.collect();
        inner.routes.scopes.push(Scope {
            prefix: String::new(),
            layers: Vec::new(),
            fallback: Some(own(Vec::new(), Box::new(Missed(part.fallback)))),
            whole: true,
        });
        self.adopt(prefix, inner);
        self
    }

    /// What becomes of a path that has a route only with, or only without, its last slash.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// use soloist::Slashes;
    ///
    /// let app = App::new(()).slashes(Slashes::Redirect).get("/docs", async |cx| cx.text("docs"));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// client.get("/docs/?page=2").await.expect(308).has("location", "/docs?page=2");
    /// # });
    /// ```
    pub fn slashes(mut self, slashes: Slashes) -> App<S> {
        self.slashes = slashes;
        self
    }

    /// Puts a middleware around every route of this application, its 404s and 405s. The first one
    /// added is the outermost.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn no_store(cx: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    ///     cx.set_header("cache-control", "no-store");
    ///     next.run().await
    /// }
    /// let app = App::new(()).wrap(no_store).get("/", async |cx| cx.text("hello"));
    /// ```
    pub fn wrap(mut self, middleware: impl Middleware<S>) -> App<S> {
        self.layers.push(Rc::new(Around(middleware)));
        self
    }

    /// Answers what no route does, in place of 404.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let app = App::new(()).fallback(async |cx| {
    ///     cx.status(404).html("<p>There is nothing here.")
    /// });
    /// ```
    pub fn fallback(mut self, handler: impl Handler<S>) -> App<S> {
        self.fallback = Some(Box::new(End(handler)));
        self
    }

    /// How errors look. The status and the fields of the error are set already.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let app = App::new(()).on_error(|cx, error| {
    ///     cx.html(format!("<h1>{}</h1>", error.status())) // the status is set
    /// });
    /// ```
    pub fn on_error(mut self, f: impl Fn(&Ctx<S>, &Error) -> Result<Reply> + 'static) -> App<S> {
        self.on_error = Some(Box::new(f));
        self
    }

    /// How errors are logged: in place of one `tracing` event, an error from 500 up, else debug.
    ///
    /// ```
    /// # use soloist::{prelude::*, testing::TestClient};
    /// # use std::cell::Cell;
    /// let app = App::new(Cell::new(0))
    ///     .log_error(|cx, error| {
    ///         if error.status() >= 500 {
    ///             cx.state().set(cx.state().get() + 1); // for a health check
    ///             eprintln!("{} {}: {error}", cx.method(), cx.path()); // causes and all
    ///         }
    ///     })
    ///     .get("/broken", async |_| Err("the disk is full".into()))
    ///     .get("/failures", async |cx| cx.json(cx.state()));
    /// # TestClient::run(async move |_| Ok(app), async |client| {
    /// # client.get("/broken").await.expect(500).text("internal error");
    /// client.get("/failures").await.text("1");
    /// # });
    /// ```
    pub fn log_error(mut self, f: impl Fn(&Ctx<S>, &Error) + 'static) -> App<S> {
        self.log_error = Some(Box::new(f));
        self
    }

    /// Runs on every shard when all of them are built, before any accepts: the first one added
    /// goes first. An error fails the start. Here shards may ask each other
    /// ([`Shard::on_all`](crate::Shard::on_all)), and what they have built is there.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn app(shard: Shard) -> Result<App<Vec<u8>>> {
    ///     let app = App::new(vec![7]);
    ///     Ok(app.on_start(async move || {
    ///         let each = shard.on_all(async |there| Ok(there.got::<Vec<u8>>().is_some()));
    ///         match each.await?.iter().all(|is_there| *is_there) {
    ///             true => Ok(()),
    ///             false => Err("a shard has no state".into()),
    ///         }
    ///     }))
    /// }
    /// # soloist::testing::TestClient::run(app, async |_| {});
    /// ```
    pub fn on_start<F: Future<Output = Result<()>> + 'static>(
        mut self,
        f: impl FnOnce() -> F + 'static,
    ) -> App<S> {
        self.on_start.push(Box::new(|| Box::pin(f())));
        self
    }

    /// Runs on every shard once its connections have ended, within the grace; the last one added
    /// goes first.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let app = App::new(()).on_stop(async || println!("the last request is answered"));
    /// ```
    pub fn on_stop<F: Future<Output = ()> + 'static>(
        mut self,
        f: impl FnOnce() -> F + 'static,
    ) -> App<S> {
        self.on_stop.push(Box::new(|| Box::pin(f())));
        self
    }

    /// Puts the state on its shard, and gives what is to run before it accepts.
    pub(crate) fn settle_on(&mut self, shard: &Shard) -> Vec<OnStart> {
        shard.put_shared(self.state.clone());
        std::mem::take(&mut self.on_start)
    }

    /// Ready to serve, or every mistake that was made.
    pub(crate) fn build(mut self) -> Result<Box<dyn Serve>> {
        let mut urls = Urls::default();
        let parts = self.hosts.into_iter().chain([self.routes]);
        let tables: Vec<Table<S>> =
            parts.map(|part| part.build(&self.layers, &mut urls, &mut self.mistakes)).collect();
        if !self.mistakes.is_empty() {
            return Err(Error::new(500, format!("mistakes:\n  {}", self.mistakes.join("\n  "))));
        }
        Ok(Box::new(Shared {
            state: self.state,
            layers: self.layers,
            tables,
            whole: Rc::new(Whole { urls, trusted: self.trusted, dates: DateCache::default() }),
            slashes: self.slashes,
            fallback: self.fallback.unwrap_or_else(|| Box::new(Missing)),
            on_error: self.on_error,
            log_error: self.log_error,
            on_stop: RefCell::new(self.on_stop),
        }))
    }

    /// Takes over what a part has: its routes below the prefix, its middleware around them.
    #[track_caller]
    fn adopt(&mut self, prefix: &str, part: App<S>) {
        if part.on_error.is_some() || part.log_error.is_some() || part.slashes != Slashes::Strict {
            let why = "errors and slashes are a matter of the whole application: set them there, \
                       or mount the part";
            self.mistake(&format!("part {prefix:?}"), why);
        }
        if !part.trusted.is_empty() {
            let why = "proxies stand in front of the whole application: trust them there";
            self.mistake(&format!("part {prefix:?}"), why);
        }
        let layers = part.layers;
        let below = |from: Part<S>, into: &mut Part<S>, own: Option<Scope<S>>| {
            into.entries.extend(from.entries.into_iter().map(|mut entry| {
                entry.pattern = join(prefix, &entry.pattern);
                entry.layers.splice(0..0, layers.iter().cloned());
                entry
            }));
            into.scopes.extend(from.scopes.into_iter().chain(own).map(|mut scope| {
                scope.prefix = join(prefix, &scope.prefix);
                scope.layers.splice(0..0, layers.iter().cloned());
                scope
            }));
        };
        let (fallback, whole) = (part.fallback, false);
        let own = Scope { prefix: String::new(), layers: Vec::new(), fallback, whole };
        // A group has no paths of its own to miss; what is mounted has said how it misses.
        let told = prefix.is_empty() || from_root(&part.routes);
        let own = (!told).then_some(own);
        below(part.routes, &mut self.routes, own);
        for host in part.hosts {
            let mut into = Part::new(host.host.clone());
            below(host, &mut into, None);
            self.hosts.push(into);
        }
        self.mistakes.extend(part.mistakes);
        self.on_stop.extend(part.on_stop);
        self.on_start.extend(part.on_start);
    }

    #[track_caller]
    pub(super) fn mistake(&mut self, what: &str, why: &str) {
        let at = Location::caller();
        self.mistakes.push(format!("{what} ({}:{}): {why}", at.file(), at.line()));
    }
}

/// Whether a part has a scope of its own for everything in it.
fn from_root<S>(part: &Part<S>) -> bool {
    part.scopes.iter().any(|scope| scope.prefix.is_empty())
}

/// What runs when every shard is built.
pub(crate) type OnStart = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<()>>>>>;

/// Runs them one after the other, until one fails.
pub(crate) async fn run_on_start(hooks: Vec<OnStart>) -> Result<()> {
    for hook in hooks {
        hook().await?;
    }
    Ok(())
}
