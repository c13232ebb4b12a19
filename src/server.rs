//! The server: listeners, shards, their start and their end.

mod running;

use std::cell::OnceCell;
use std::fmt;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::app::builder::{self, App};
use crate::app::conn;
use crate::app::mailbox::{self, Message, Order, Post, Receiver, oneshot};
use crate::app::site::{OnStop, Site};
use crate::base::clock::Clock;
use crate::base::counters::Count;
use crate::base::wire::Wire;
use crate::error::{Error, Result};
use crate::http::head::Refusal;
use crate::limits::Limits;
use crate::ring::{probe, socket};
use crate::shard::affinity::original_mask;
use crate::shard::blocking::Blocking;
use crate::shard::driver::Driver;
use crate::shard::executor;
use crate::shard::guest::{Guest, State};
use crate::shard::inbox::Seat;
use crate::shard::mesh::{self, Ends, Mesh};
use crate::shard::placement::{self, Cores};
#[cfg(feature = "tokio")]
use crate::shard::pump::Pump;
use crate::shard::{Commons, Local, Place, Shard, waker};

pub use running::Running;

/// A server: where it listens, on which cores, within which bounds.
///
/// ```no_run
/// use soloist::prelude::*;
///
/// async fn app(shard: Shard) -> Result<App<()>> {
///     let greeting = format!("hello from shard {}", shard.id());
///     Ok(App::new(()).get("/", async move |cx| cx.text(&greeting)))
/// }
///
/// fn main() -> Result<()> {
///     Server::bind("127.0.0.1:8080").run(app) // once on every core; Ctrl-C drains and returns
/// }
/// ```
#[must_use = "a server does nothing until `run` or `start`"]
pub struct Server {
    addrs: Vec<String>,
    cores: Cores,
    limits: Limits,
    signals: bool,
    congestion: Option<String>,
    show_routes: bool,
}

impl Server {
    /// A server for `host:port`; port 0 takes a free one. One shard on each core that the process
    /// may use, unless [`shards`](Server::shards), [`cores`](Server::cores) or
    /// [`unpinned`](Server::unpinned) say otherwise. Nothing is opened before it starts.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// fn main() -> Result<()> {
    ///     let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    ///     Server::bind(addr).run(app) // an address that is in use: an error that says who has it
    /// }
    /// ```
    pub fn bind(addr: impl Into<String>) -> Server {
        Server {
            addrs: vec![addr.into()],
            cores: Cores::Auto,
            limits: Limits::default(),
            signals: true,
            congestion: None,
            show_routes: false,
        }
    }

    /// Listens at one more address.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let server = Server::bind("127.0.0.1:8080").and_bind("[::1]:8080");
    /// ```
    pub fn and_bind(mut self, addr: impl Into<String>) -> Server {
        self.addrs.push(addr.into());
        self
    }

    /// So many shards, each pinned to a core of its own. More than the cores that the process may
    /// use are an error when it starts.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// # fn main() -> Result<()> {
    /// Server::bind("127.0.0.1:8080").shards(1).run(app) // all state in one place
    /// # }
    /// ```
    pub fn shards(mut self, count: usize) -> Server {
        self.cores = Cores::Count(count);
        self
    }

    /// One shard on each of these cores.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// let server = Server::bind("127.0.0.1:8080").cores([2, 3]); // a shard on each
    /// ```
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Server {
        self.cores = Cores::List(cores.into_iter().collect());
        self
    }

    /// So many shards that the kernel may move about: for tests, and for shared machines.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// use soloist::testing::TestServer;
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     let count = shard.count();
    ///     Ok(App::new(()).get("/", async move |cx| cx.text(count.to_string())))
    /// }
    /// // Three shards, on however few cores.
    /// let server = TestServer::start_with(Server::bind("127.0.0.1:0").unpinned(3), app);
    /// server.get("/").expect(200).text("3");
    /// ```
    pub fn unpinned(mut self, count: usize) -> Server {
        self.cores = Cores::Unpinned(count);
        self
    }

    /// Other bounds than the default ones.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// use soloist::Limits;
    ///
    /// let limits = Limits { idle_ms_max: 10_000, ..Limits::default() };
    /// let server = Server::bind("127.0.0.1:8080").limits(limits);
    /// ```
    pub fn limits(mut self, limits: Limits) -> Server {
        self.limits = limits;
        self
    }

    /// Whether SIGINT and SIGTERM drain the server in [`run`](Server::run), and a second one ends
    /// it at once. On unless it is turned off; [`start`](Server::start) never listens to them.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// # fn main() -> Result<()> {
    /// // Ctrl-C kills it at once, answers under way or not: for a quick trial.
    /// Server::bind("127.0.0.1:8080").signals(false).run(app)
    /// # }
    /// ```
    pub fn signals(mut self, on: bool) -> Server {
        self.signals = on;
        self
    }

    /// TCP congestion control of accepted connections, such as `cubic`; the system's by default.
    /// One that the kernel does not have, or does not allow, is an error when it starts.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// // `sysctl net.ipv4.tcp_available_congestion_control` names those that there are.
    /// let server = Server::bind("0.0.0.0:8080").congestion("bbr"); // for long, lossy ways
    /// ```
    pub fn congestion(mut self, name: impl Into<String>) -> Server {
        self.congestion = Some(name.into());
        self
    }

    /// Prints every route at the start, on standard output, with the line that made it.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// # fn main() -> Result<()> {
    /// let server = Server::bind("127.0.0.1:8080");
    /// let server = if cfg!(debug_assertions) { server.show_routes() } else { server };
    /// server.run(app)
    /// # }
    /// ```
    pub fn show_routes(mut self) -> Server {
        self.show_routes = true;
        self
    }

    /// Serves until it is told to stop; returns when every shard has ended.
    ///
    /// `build` runs once on every shard. An error names what is missing and what mends it.
    ///
    /// ```no_run
    /// use soloist::prelude::*;
    ///
    /// fn main() -> Result<()> {
    ///     Server::bind("127.0.0.1:8080").run(async |shard: Shard| {
    ///         println!("shard {} of {}", shard.id(), shard.count());
    ///         Ok(App::new(()).get("/", async |cx| cx.text("hello")))
    ///     })?;
    ///     println!("all is answered"); // after Ctrl-C
    ///     Ok(())
    /// }
    /// ```
    pub fn run<S: 'static>(
        self,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>> + Clone + Send + 'static,
    ) -> Result<()> {
        let signals = self.signals;
        // Before any thread: a signal during the start is not lost.
        let watch = if signals { Some(Signals::new([SIGINT, SIGTERM])?) } else { None };
        let running = self.start(build)?;
        let watch = watch.map(|watch| watch_signals(watch, running.posts.clone()));
        let ended = running.join();
        if let Some(watch) = watch {
            watch.close();
        }
        ended
    }

    /// Serves on threads of its own, for embedding; returns once every shard accepts.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// let running = Server::bind("127.0.0.1:0").unpinned(1).start(app)?;
    /// println!("on {}", running.addrs()[0]);
    /// running.stop(); // drains
    /// running.join()?;
    /// # Ok::<(), soloist::Error>(())
    /// ```
    pub fn start<S: 'static>(
        self,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>> + Clone + Send + 'static,
    ) -> Result<Running> {
        self.limits.check().map_err(|why| Error::new(500, why))?;
        probe::probe_apart().map_err(start_error)?;
        probe::raise_nofile();
        let plan = placement::plan(&self.cores).map_err(start_error)?;
        for note in &plan.notes {
            tracing::warn!("{note}");
        }
        let mut addrs = Vec::new();
        for addr in &self.addrs {
            let failed = |error| start_error(format!("{addr}: {error}"));
            let addr = socket::resolve(addr).map_err(failed)?[0];
            socket::refuse_second(addr).map_err(|error| start_error(in_use(addr, &error)))?;
            addrs.push(addr);
        }

        let count = plan.shards.len();
        let blocking = Blocking::new(
            self.limits.blocking_threads_max,
            self.limits.blocking_jobs_max,
            original_mask()?,
        );
        let seats = (0..count).map(|_| Seat::take()).collect::<std::io::Result<Vec<_>>>()?;
        let numbers: Arc<[u16]> = seats.iter().map(Seat::number).collect();
        let posts: Vec<Arc<Post>> =
            seats.iter().map(|seat| Arc::new(Post::new(seat.inbox()))).collect();
        let (report, reports) = mpsc::sync_channel(count);
        let commons = Commons::default();
        let mut gates = Vec::new();
        let mut running = Running { addrs: Vec::new(), posts, executors: Vec::new() };
        let shards = seats.into_iter().zip(mesh::ends(count)).zip(&plan.shards).enumerate();
        for (id, ((seat, ends), core)) in shards {
            let place = Place { id, count, core: *core, seat: seat.number() };
            let (gate, built) = oneshot();
            gates.push(gate);
            let start = Start {
                place,
                seat,
                ends,
                seats: numbers.clone(),
                limits: self.limits,
                blocking: blocking.clone(),
                commons: commons.clone(),
                built,
                post: running.posts[id].clone(),
                report: Reporter { report: report.clone(), step: Some("built") },
                show_routes: self.show_routes,
            };
            let build = build.clone();
            let executor = executor::spawn(id, *core, move || start.main(build));
            match executor {
                Ok(executor) => running.executors.push(executor),
                Err(error) => return Err(running.give_up(start_error(error))),
            }
        }
        drop(report);
        if let Some(error) = failure(&reports, count) {
            return Err(running.give_up(error));
        }
        gates.into_iter().for_each(|gate| gate.send(()));
        if let Some(error) = failure(&reports, count) {
            return Err(running.give_up(error));
        }
        match running.listen(
            &addrs,
            count,
            self.congestion.as_deref(),
            self.limits.write_stall_ms_max,
        ) {
            Ok(()) => Ok(running),
            Err(error) => Err(running.give_up(error)),
        }
    }
}

/// Waits for each shard's word on one step of the start; what went wrong, if something did.
fn failure(reports: &mpsc::Receiver<Report>, count: usize) -> Option<Error> {
    let all: Vec<Report> = reports.iter().take(count).collect();
    let failed = all.into_iter().find_map(|report| report.error);
    failed.map(|why| Error::new(500, why))
}

/// What a shard's thread is given.
struct Start {
    place: Place,
    seat: Seat,
    ends: Ends<Message>,
    seats: Arc<[u16]>,
    limits: Limits,
    blocking: Blocking,
    commons: Commons,
    /// Comes when every shard is built.
    built: Receiver<()>,
    post: Arc<Post>,
    report: Reporter,
    show_routes: bool,
}

/// How one step of the start went on one shard.
struct Report {
    error: Option<String>,
}

/// Owes the server a word on the step that is under way: dropped by a panic, it says so.
struct Reporter {
    report: SyncSender<Report>,
    step: Option<&'static str>,
}

impl Reporter {
    fn done(&mut self, error: Option<String>) {
        self.step = None;
        let _ = self.report.send(Report { error });
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(step) = self.step {
            self.done(Some(format!("a shard panicked while it was {step}")));
        }
    }
}

impl Start {
    #[cfg_attr(not(feature = "tokio"), expect(unused_mut))]
    async fn main<S: 'static>(
        mut self,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>> + 'static,
    ) {
        let _ended = Ended(self.post.clone());
        let inbox = self.seat.inbox();
        inbox.clear();
        let mut local = Local::new(self.place, self.limits, Clock::new(), self.blocking);
        local.commons = self.commons;
        let local = Rc::new(local);
        let _here = waker::enter(local.tasks.clone());
        let mesh = Rc::new(Mesh::new(self.ends, &self.seats));
        mailbox::enter(Some(mesh.clone()));
        let site = Rc::new(OnceCell::new());
        #[cfg(feature = "tokio")]
        let pump = match original_mask().and_then(|mask| Pump::new(&mask)) {
            Ok(pump) => Rc::new(pump),
            Err(error) => return self.report.done(Some(format!("tokio: {error}"))),
        };
        #[cfg(feature = "tokio")]
        let _entered = pump.enter();
        #[cfg(feature = "tokio")]
        local.tasks.spawn(Box::pin(pump.clone().run(local.clone())));
        let show = self.show_routes && self.place.id == 0;
        let building =
            build_site(local.clone(), site.clone(), build, self.report, self.built, show);
        local.tasks.spawn(Box::pin(building));
        let host = Host { local: local.clone(), site, post: self.post.clone(), mesh };
        let ended = match Driver::new(host, local.clone(), inbox) {
            Ok(driver) => driver.run().await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::error!(shard = self.place.id, "the ring failed: {error}");
            self.post.fail(format!("shard {}: the ring failed: {error}", self.place.id));
        }
        local.tasks.clear();
        local.forget_kept();
        mailbox::enter(None);
    }
}

/// Tells those who wait for a shard that it has ended, however it did.
struct Ended(Arc<Post>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn build_site<S: 'static>(
    local: Rc<Local>,
    site: Rc<OnceCell<Rc<Site>>>,
    build: impl AsyncFnOnce(Shard) -> Result<App<S>>,
    mut report: Reporter,
    all_built: Receiver<()>,
    show_routes: bool,
) {
    let shard = Shard(local.clone());
    let built = build(shard.clone()).await.and_then(|mut app| {
        let hooks = app.settle_on(&shard);
        Ok((app.build()?, hooks))
    });
    let hooks = match built {
        Ok((serve, hooks)) => {
            if show_routes {
                print!("{}", serve.routes());
            }
            let _ = site.set(Rc::new(Site::new(local, serve)));
            report.done(None);
            hooks
        }
        Err(error) => {
            // An error is not Send: it leaves its shard as text.
            return report.done(Some(error.to_string()));
        }
    };
    if all_built.receive().await.is_some() {
        report.step = Some("started");
        let started = builder::run_on_start(hooks).await;
        report.done(started.err().map(|error| error.to_string()));
    }
}

/// One shard's application, as its driver sees it.
struct Host {
    local: Rc<Local>,
    site: Rc<OnceCell<Rc<Site>>>,
    post: Arc<Post>,
    mesh: Rc<Mesh<Message>>,
}

impl Guest for Host {
    fn connect(&self, wire: Rc<Wire>) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        Some(Box::pin(conn::serve(self.site.get()?.clone(), wire)))
    }

    fn mail(&self) -> bool {
        self.local.counters.raise(Count::MeshDepth, self.mesh.waiting() as u64);
        let more = self.mesh.drain(|_, message| mailbox::deliver(&self.local, message));
        for message in self.post.take() {
            mailbox::deliver(&self.local, message);
        }
        more
    }

    fn listeners(&self) -> Vec<TcpListener> {
        self.post.take_listeners()
    }

    fn refusal(&self) -> Vec<u8> {
        self.site.get().map(|site| site.refusal(&FULL)).unwrap_or_default()
    }

    fn state(&self) -> State {
        match self.post.current() {
            Order::Serve => State::Serve,
            Order::End => State::End,
            Order::Drain => {
                let grace_ms = self.local.limits.grace_ms_max;
                let over = self
                    .local
                    .draining_ms
                    .get()
                    .is_some_and(|since| self.local.clock.now_ms() >= since + grace_ms);
                if over { State::End } else { State::Drain }
            }
        }
    }

    fn last(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let mut hooks: Vec<OnStop> = self.site.get()?.serve.take_on_stop();
        if hooks.is_empty() {
            return None;
        }
        Some(Box::pin(async move {
            while let Some(hook) = hooks.pop() {
                hook().await;
            }
        }))
    }
}

fn watch_signals(mut signals: Signals, posts: Vec<Arc<Post>>) -> Handle {
    let handle = signals.handle();
    thread::spawn(move || {
        for (nth, _) in signals.forever().enumerate() {
            let order = if nth == 0 { Order::Drain } else { Order::End };
            posts.iter().for_each(|post| post.order(order));
        }
    });
    handle
}

fn start_error(why: impl fmt::Display) -> Error {
    Error::new(500, why.to_string())
}

fn in_use(addr: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "{addr} is in use: another server listens there (`ss -ltnp sport = :{}` names it)",
            addr.port()
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("{addr}: permission denied (ports below 1024 take CAP_NET_BIND_SERVICE)")
        }
        _ => format!("{addr}: {error}"),
    }
}

const FULL: Refusal = Refusal { status: 503, reason: "too many connections" };
