//! Building an application: routes, middleware, state.

use std::cell::RefCell;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;

use super::core::RouteInfo;
use super::ctx::Ctx;
use super::handler::{Around, End, Endpoint, Handler, Layer, Middleware};
use super::reply::Reply;
use super::router::Router;
use super::site::{LogError, Missing, OnError, OnStop, Serve, Shared, Way};
use crate::error::{Error, Result};

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
    layers: Vec<Box<dyn Layer<S>>>,
    router: Router<Way<S>>,
    fallback: Box<dyn Endpoint<S>>,
    on_error: Option<OnError<S>>,
    log_error: Option<LogError<S>>,
    on_stop: Vec<OnStop>,
    mistakes: Vec<String>,
}

impl<S: 'static> App<S> {
    /// An application with that state.
    pub fn new(state: S) -> App<S> {
        App::shared(Rc::new(state))
    }

    /// An application whose state something else on this shard holds too: a background task.
    pub fn shared(state: Rc<S>) -> App<S> {
        App {
            state,
            layers: Vec::new(),
            router: Router::new(),
            fallback: Box::new(Missing),
            on_error: None,
            log_error: None,
            on_stop: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// Answers GET, and HEAD unless that has a route of its own.
    #[track_caller]
    pub fn get(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("GET", path, handler)
    }

    /// Answers POST.
    #[track_caller]
    pub fn post(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("POST", path, handler)
    }

    /// Answers PUT.
    #[track_caller]
    pub fn put(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("PUT", path, handler)
    }

    /// Answers PATCH.
    #[track_caller]
    pub fn patch(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("PATCH", path, handler)
    }

    /// Answers DELETE.
    #[track_caller]
    pub fn delete(self, path: &str, handler: impl Handler<S>) -> App<S> {
        self.on("DELETE", path, handler)
    }

    /// Answers any method. OPTIONS answers itself where it has no route.
    #[track_caller]
    pub fn on(mut self, method: &str, path: &str, handler: impl Handler<S>) -> App<S> {
        let end: Box<dyn Endpoint<S>> = Box::new(End(handler));
        let names = path.split('/').filter_map(|it| it.strip_prefix([':', '*'])).map(Box::from);
        let info = Rc::new(RouteInfo { pattern: path.into(), names: names.collect() });
        let id = self.router.len() as u32;
        let way = Way { id, info, end };
        if let Err(error) = self.router.insert(method, path, way, Location::caller()) {
            self.mistakes.push(error.to_string());
        }
        self
    }

    /// Puts a middleware around every route of this application, its 404s and 405s. The first one
    /// added is the outermost.
    pub fn wrap(mut self, middleware: impl Middleware<S>) -> App<S> {
        self.layers.push(Box::new(Around(middleware)));
        self
    }

    /// Answers what no route does, in place of 404.
    pub fn fallback(mut self, handler: impl Handler<S>) -> App<S> {
        self.fallback = Box::new(End(handler));
        self
    }

    /// How errors look. The status and the fields of the error are set already.
    pub fn on_error(mut self, f: impl Fn(&Ctx<S>, &Error) -> Result<Reply> + 'static) -> App<S> {
        self.on_error = Some(Box::new(f));
        self
    }

    /// How errors are logged: in place of one `tracing` event, an error from 500 up, else debug.
    pub fn log_error(mut self, f: impl Fn(&Ctx<S>, &Error) + 'static) -> App<S> {
        self.log_error = Some(Box::new(f));
        self
    }

    /// Runs on every shard once its connections have ended, within the grace; the last one added
    /// goes first.
    pub fn on_stop<F: Future<Output = ()> + 'static>(
        mut self,
        f: impl FnOnce() -> F + 'static,
    ) -> App<S> {
        self.on_stop.push(Box::new(|| Box::pin(f())));
        self
    }

    /// Ready to serve, or every mistake that was made.
    pub(crate) fn build(self) -> Result<Box<dyn Serve>> {
        if !self.mistakes.is_empty() {
            return Err(Error::new(500, format!("routes:\n  {}", self.mistakes.join("\n  "))));
        }
        Ok(Box::new(Shared {
            state: self.state,
            layers: self.layers,
            router: self.router,
            fallback: self.fallback,
            on_error: self.on_error,
            log_error: self.log_error,
            on_stop: RefCell::new(self.on_stop),
        }))
    }
}
