//! A server that runs: what its owner can ask of it.

use std::fmt;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use super::start_error;
use crate::app::mailbox::{self, Message, Order, Post, Run};
use crate::error::{Error, Result};
use crate::ring::socket;
use crate::shard::executor::Executor;

/// A server that runs on threads of its own. Dropped, it drains and goes on its own way.
///
/// ```
/// use soloist::prelude::*;
/// use soloist::testing::TestServer;
///
/// let app = async |_: Shard| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
/// # let server = Server::bind("127.0.0.1:0").unpinned(1);
/// let running = server.start(app)?; // accepts already
/// let stats = running.stats();
/// assert_eq!(stats.len(), 1);
/// drop(running); // drains, and nobody waits for it
/// # Ok::<(), soloist::Error>(())
/// ```
pub struct Running {
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) posts: Vec<Arc<Post>>,
    pub(super) executors: Vec<Executor>,
}

impl Running {
    /// Where it listens, in the order in which it was bound, ports resolved.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// let server = Server::bind("127.0.0.1:0").and_bind("127.0.0.1:0").unpinned(1);
    /// let running = server.start(app)?;
    /// let ports: Vec<u16> = running.addrs().iter().map(|addr| addr.port()).collect();
    /// assert!(ports.len() == 2 && ports[0] != ports[1] && !ports.contains(&0));
    /// # running.stop_now();
    /// # running.join()?;
    /// # Ok::<(), soloist::Error>(())
    /// ```
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Begins to drain, and returns at once: no new connections; what is running ends, within
    /// [`grace_ms_max`](crate::Limits::grace_ms_max).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// # let running = Server::bind("127.0.0.1:0").unpinned(1).start(app)?;
    /// # let there_is_a_newer_version = true;
    /// if there_is_a_newer_version {
    ///     running.stop();
    /// }
    /// running.join()?; // once everybody has an answer
    /// # Ok::<(), soloist::Error>(())
    /// ```
    pub fn stop(&self) {
        self.posts.iter().for_each(|post| post.order(Order::Drain));
    }

    /// Ends at once; what is running is cut off. It may follow [`stop`](Running::stop), for who has
    /// no patience left.
    ///
    /// ```
    /// # use std::{thread, time::Duration};
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// # let running = Server::bind("127.0.0.1:0").unpinned(1).start(app)?;
    /// running.stop();
    /// thread::sleep(Duration::from_millis(50));
    /// running.stop_now(); // nothing if all has ended meanwhile
    /// running.join()?;
    /// # Ok::<(), soloist::Error>(())
    /// ```
    pub fn stop_now(&self) {
        self.posts.iter().for_each(|post| post.order(Order::End));
    }

    /// Counters of each shard, asked from outside; a shard that has ended is left out. It waits for
    /// their next turns: a shard's thread would wait for itself, and asks
    /// [`Ctx::stats_each`](crate::Ctx::stats_each).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # let app = async |_: Shard| Ok(App::new(()).get("/", async |cx| cx.empty()));
    /// # let server = TestServer::start(2, app);
    /// # server.get("/").expect(204);
    /// # let running = server.into_running();
    /// let requests: u64 = running.stats().iter().map(|shard| shard.get("requests")).sum();
    /// assert_eq!(requests, 1);
    /// # running.stop_now();
    /// # running.join()?;
    /// # Ok::<(), soloist::Error>(())
    /// ```
    pub fn stats(&self) -> Vec<crate::Stats> {
        let ask = |post: &Arc<Post>| {
            let (sender, receiver) = mailbox::oneshot();
            post.leave(Message::Stats(sender)).then_some(receiver)
        };
        let waiting: Vec<_> = self.posts.iter().filter_map(ask).collect();
        waiting.into_iter().filter_map(|it| block_on(it.receive())).collect()
    }

    /// Does work on a shard's thread, between its turns. False if there is no such shard, or it has
    /// ended.
    pub(crate) fn run_on(&self, shard: usize, run: Run) -> bool {
        self.posts.get(shard).is_some_and(|post| post.leave(Message::Run(run)))
    }

    /// Waits until every shard has ended. An error if one ended before it was told to; the others
    /// go on serving meanwhile.
    ///
    /// ```
    /// # use std::process::ExitCode;
    /// # use soloist::prelude::*;
    /// # async fn app(_: Shard) -> Result<App<()>> { Ok(App::new(())) }
    /// # fn main() -> ExitCode {
    /// # let running = Server::bind("127.0.0.1:0").unpinned(1).start(app).unwrap();
    /// # running.stop();
    /// match running.join() {
    ///     Ok(()) => ExitCode::SUCCESS,
    ///     Err(error) => {
    ///         eprintln!("{error}"); // such as "500 shard 1: the ring failed: .."
    ///         ExitCode::FAILURE
    ///     }
    /// }
    /// # }
    /// ```
    pub fn join(mut self) -> Result<()> {
        let mut failed = None;
        for executor in self.executors.drain(..) {
            if let Err(error) = executor.join() {
                failed = Some(start_error(error));
            }
        }
        let failed = failed
            .or_else(|| self.posts.iter().find_map(|post| post.take_failure()).map(start_error));
        failed.map_or(Ok(()), Err)
    }

    pub(super) fn listen(
        &mut self,
        addrs: &[SocketAddr],
        count: usize,
        congestion: Option<&str>,
        stall_ms_max: u64,
    ) -> Result<()> {
        let mut sets: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
        for addr in addrs {
            let mut addr = *addr;
            for set in &mut sets {
                let failed = |error| start_error(format!("{addr}: {error}"));
                let listener = socket::listen(addr, congestion, stall_ms_max).map_err(failed)?;
                addr = listener.local_addr()?; // port 0: the others share the first one's
                set.push(listener);
            }
            self.addrs.push(addr);
        }
        for (post, set) in self.posts.iter().zip(sets) {
            post.hand_over(set);
        }
        Ok(())
    }

    pub(super) fn give_up(mut self, error: Error) -> Error {
        self.stop_now();
        for executor in self.executors.drain(..) {
            let _ = executor.join();
        }
        error
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

/// Waits on this thread, which is no shard's.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => thread::park(),
        }
    }
}
