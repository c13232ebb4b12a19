//! An application as one shard serves it: built, its types forgotten, shared by its connections.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use super::core::{Core, Phase, Whole};
use super::ctx::Ctx;
use super::handler::Endpoint;
use super::next::run_chain;
use super::reply::Reply;
use super::router::Found;
use super::routes::{Chain, Slashes, Table};
use crate::base::arena::Placed;
use crate::base::counters::Count;
use crate::error::{Error, Result};
use crate::http::head::{HeadLimits, Refusal};
use crate::limits::SPARES_MAX;
use crate::shard::Local;

/// What one shard needs to serve one application.
pub(crate) struct Site {
    pub(crate) local: Rc<Local>,
    pub(crate) serve: Box<dyn Serve>,
    pub(crate) head_limits: HeadLimits,
    whole: Rc<Whole>,
    cores: RefCell<Vec<Rc<Core>>>,
}

/// An application whose state type is forgotten.
pub(crate) trait Serve {
    /// Finds out what is to answer.
    fn route(&self, core: &mut Core) -> Target;
    /// Answers it; errors are answered too.
    fn start<'a>(&'a self, core: &'a Rc<Core>, target: Target) -> Placed<'a, ()>;
    /// What every request finds.
    fn whole(&self) -> Rc<Whole>;
    /// All routes, a line each.
    fn routes(&self) -> String;
    /// What runs when every connection has ended, last added first.
    fn take_on_stop(&self) -> Vec<OnStop>;
}

pub(crate) type OnStop = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

/// A route by its table and its place there, or what stands in for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Route {
        table: u32,
        id: u32,
    },
    /// Only the path with its last slash, or without it, has a route.
    Slash,
    Miss,
}

/// One application of one shard.
pub(crate) struct Shared<S> {
    pub(crate) state: Rc<S>,
    pub(crate) layers: Chain<S>,
    /// Those of single hosts first, that of all hosts last.
    pub(crate) tables: Vec<Table<S>>,
    pub(crate) whole: Rc<Whole>,
    pub(crate) slashes: Slashes,
    pub(crate) fallback: Box<dyn Endpoint<S>>,
    pub(crate) on_error: Option<OnError<S>>,
    pub(crate) log_error: Option<LogError<S>>,
    pub(crate) on_stop: RefCell<Vec<OnStop>>,
}

pub(crate) type OnError<S> = Box<dyn Fn(&Ctx<S>, &Error) -> Result<Reply>>;
pub(crate) type LogError<S> = Box<dyn Fn(&Ctx<S>, &Error)>;

impl Site {
    pub(crate) fn new(local: Rc<Local>, serve: Box<dyn Serve>) -> Site {
        let head_limits = HeadLimits {
            target_bytes_max: local.limits.target_bytes_max,
            head_bytes_max: local.limits.head_bytes_max,
            fields_max: local.limits.fields_max,
        };
        let (cores, whole) = (RefCell::default(), serve.whole());
        Site { local, serve, head_limits, whole, cores }
    }

    /// A core for a request that has arrived.
    #[inline]
    pub(crate) fn take_core(&self) -> Rc<Core> {
        let kept = self.cores.borrow_mut().pop();
        kept.unwrap_or_else(|| self.fresh_core())
    }

    #[cold]
    pub(crate) fn fresh_core(&self) -> Rc<Core> {
        Rc::new(Core::new(self.local.clone(), self.whole.clone()))
    }

    /// Keeps a core, unless something the handler forgot still holds it.
    #[inline]
    pub(crate) fn give_core(&self, mut core: Rc<Core>) {
        let mut cores = self.cores.borrow_mut();
        if cores.len() < SPARES_MAX && Rc::get_mut(&mut core).is_some() {
            cores.push(core);
        }
    }

    /// The whole answer to a request that is none.
    pub(crate) fn refusal(&self, refusal: &Refusal) -> Vec<u8> {
        let mut out = Vec::new();
        let date = self.whole.dates.at(self.local.clock.unix_secs());
        crate::http::encode::refusal(&mut out, refusal, &date);
        out
    }
}

impl<S: 'static> Serve for Shared<S> {
    #[inline]
    fn route(&self, core: &mut Core) -> Target {
        let bytes = &core.buf[core.base..];
        let method = core.head.method_name.of(bytes);
        let path = core.head.path.of(bytes);
        let params = &mut core.params;
        for (at, table) in self.tables.iter().enumerate() {
            // Most applications have one table: the host is not even looked at.
            if let Some(name) = &table.host
                && !name.matches(core.head.host.text(bytes))
            {
                continue;
            }
            match table.router.find(method, path, params) {
                Found::Route(route) => {
                    core.allow = None;
                    core.route = Some(route.value.info.clone());
                    return Target::Route { table: at as u32, id: route.value.info.id };
                }
                Found::WrongMethod(allow) | Found::Options(allow) => {
                    core.allow.get_or_insert(allow.into());
                }
                Found::None => {}
            }
        }
        self.route_other_slash(core)
    }

    #[inline]
    fn start<'a>(&'a self, core: &'a Rc<Core>, target: Target) -> Placed<'a, ()> {
        let (layers, end) = match target {
            Target::Route { table, id } => {
                let way = self.tables[table as usize].router.value(id);
                (&way.layers, &*way.end)
            }
            Target::Slash => (&self.layers, &OtherSlash as &dyn Endpoint<S>),
            Target::Miss => self.miss(core),
        };
        if layers.is_empty() {
            return end.enter(core, self);
        }
        core.arena.place(move || async move {
            let cx = Ctx { core: core.clone(), state: self.state.clone() };
            let result = run_chain(&cx, self, layers, end).await;
            let _ = self.settle(&cx, result);
        })
    }

    fn whole(&self) -> Rc<Whole> {
        self.whole.clone()
    }

    fn routes(&self) -> String {
        let mut out = String::new();
        self.tables.iter().for_each(|table| table.print(&mut out));
        out
    }

    fn take_on_stop(&self) -> Vec<OnStop> {
        self.on_stop.take()
    }
}

impl<S: 'static> Shared<S> {
    /// No table has the path: has one the path with its last slash changed?
    #[cold]
    fn route_other_slash(&self, core: &mut Core) -> Target {
        if self.slashes == Slashes::Strict || core.allow.is_some() {
            return Target::Miss;
        }
        let bytes = &core.buf[core.base..];
        let method = core.head.method_name.text(bytes);
        let Some(path) = other_slash(core.head.path.text(bytes)) else { return Target::Miss };
        let host = core.head.host.text(bytes);
        for (at, table) in self.tables.iter().enumerate() {
            if table.host.as_ref().is_none_or(|name| name.matches(host))
                && let Found::Route(route) = table.router.find(method, &path, &mut core.params)
            {
                core.route = Some(route.value.info.clone());
                return match self.slashes {
                    Slashes::Redirect => Target::Slash,
                    _ => Target::Route { table: at as u32, id: route.value.info.id },
                };
            }
        }
        Target::Miss
    }

    /// What answers a path, or a method, that no route does: with the middleware of its prefix.
    #[cold]
    fn miss(&self, core: &Core) -> (&Chain<S>, &dyn Endpoint<S>) {
        let path = core.head.path.text(core.bytes());
        let host = core.head.host.text(core.bytes());
        let meant = |table: &&Table<S>| table.host.as_ref().is_none_or(|it| it.matches(host));
        let scope = self.tables.iter().filter(meant).find_map(|table| table.scope(path));
        let fallback = match scope.and_then(|scope| scope.fallback.as_deref()) {
            Some(own) if scope.is_some_and(|scope| scope.whole) => own,
            _ if core.allow.is_some() || is_asterisk(core) => &Missing,
            Some(own) => own,
            None => &*self.fallback,
        };
        (scope.map_or(&self.layers, |scope| &scope.layers), fallback)
    }

    /// Whether errors have a look of their own here.
    pub(crate) fn shapes_errors(&self) -> bool {
        self.on_error.is_some()
    }

    /// Turns what a handler returned into an answer.
    #[inline]
    pub(crate) fn settle(&self, cx: &Ctx<S>, result: Result<Reply>) -> Reply {
        let core = &*cx.core;
        let error = match result {
            Ok(reply) if core.phase.get() != Phase::Open && !core.bad_field.get() => return reply,
            Ok(_) if core.bad_field.get() => Error::from("a header field cannot be sent"),
            Ok(_) => Error::from("the reply is that of another request, or of none"),
            Err(error) => error,
        };
        self.answer_error(cx, &error)
    }

    #[cold]
    fn answer_error(&self, cx: &Ctx<S>, error: &Error) -> Reply {
        let core = &*cx.core;
        if error.status() >= 500 {
            core.local.counters.add(Count::Errors, 1);
        }
        match &self.log_error {
            Some(log) => log(cx, error),
            None if error.status() >= 500 => {
                tracing::error!(method = cx.method(), path = cx.path(), "{error}");
            }
            None => tracing::debug!(method = cx.method(), path = cx.path(), "{error}"),
        }
        if matches!(core.phase.get(), Phase::Streaming | Phase::Finished) {
            return Reply::new(); // the head has left: the connection is cut instead
        }
        core.unanswer();
        if let Some(on_error) = &self.on_error {
            core.status.set(error.status());
            for (name, value) in error.fields() {
                core.set_field(name, value, false);
            }
            match on_error(cx, error) {
                Ok(reply) if core.phase.get() != Phase::Open => return reply,
                Ok(_) => {}
                Err(second) => tracing::error!("on_error failed: {second}"),
            }
        }
        core.answer_error(error);
        Reply::new()
    }
}

// Two floors have the same bounds: a limit that passes the check is one that the parser keeps.
const _: () = assert!(crate::limits::HEAD_BYTES_CEILING == crate::http::head::HEAD_BYTES_LIMIT);
const _: () = assert!(crate::limits::FIELDS_CEILING == crate::http::head::FIELDS_LIMIT);

/// `OPTIONS *` is about the server as a whole (RFC 9110 section 9.3.7).
fn is_asterisk(core: &Core) -> bool {
    core.head.path.of(core.bytes()) == b"*"
}

/// 404, 405 with Allow, and OPTIONS where no route answers it.
pub(crate) struct Missing;

impl<S: 'static> Endpoint<S> for Missing {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(move || async move {
            match &cx.core.allow {
                Some(allow) if cx.method() == "OPTIONS" => cx.set_header("allow", allow).empty(),
                Some(allow) => {
                    Err(Error::new(405, "method not allowed").set("allow", allow.clone()))
                }
                None if cx.path() == "*" => cx.empty(), // OPTIONS * (RFC 9110 section 9.3.7)
                None => Err(Error::not_found()),
            }
        })
    }
}

/// 308 to the path that has a route.
struct OtherSlash;

impl<S: 'static> Endpoint<S> for OtherSlash {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(move || async move {
            let mut place = other_slash(cx.path()).unwrap_or_default();
            if cx.core.head.has_query {
                place.push('?');
                place.push_str(cx.query());
            }
            cx.status(308).set_header("location", place).text("")
        })
    }
}

/// The path with a last slash more, or less. None for one that would name another host.
fn other_slash(path: &str) -> Option<String> {
    let other = match path.strip_suffix('/') {
        Some("") => return None,
        Some(shorter) => shorter.to_owned(),
        None => format!("{path}/"),
    };
    (path.starts_with('/') && !path.starts_with("//")).then_some(other)
}
