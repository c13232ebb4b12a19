//! A shard that does nothing, for tests.

use std::marker::PhantomData;
use std::sync::mpsc;

use super::TestServer;
use crate::app::mailbox::Run;

/// What holds a server's shards up.
impl TestServer {
    /// Holds a shard up, as a handler does that computes without an await, until what is returned
    /// is dropped. Connections that land there wait; the other shards' calls to it run into their
    /// time limit, and are refused with 503 once 1,024 are on their way.
    ///
    /// ```no_run
    /// # use soloist::prelude::*;
    /// # use soloist::testing::TestServer;
    /// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
    /// let server = TestServer::start(2, app);
    /// let held = server.hold(1);
    /// std::thread::scope(|scope| {
    ///     let asked = scope.spawn(|| server.get("/")); // waits, if it lands on the second shard
    ///     drop(held);
    ///     asked.join().expect("an answer").expect(200);
    /// });
    /// ```
    ///
    /// # Panics
    /// When there is no such shard, or it has ended.
    pub fn hold(&self, shard: usize) -> Held<'_> {
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let wait: Run = Box::new(move |_| {
            let _ = begin.send(());
            let _ = released.recv(); // fails when the other end is dropped
        });
        let running = self.running.as_ref().expect("a server that runs");
        assert!(running.run_on(shard, wait), "no shard {shard} runs");
        begun.recv().expect("a shard that runs");
        Held { _release: release, _server: PhantomData }
    }
}

/// A shard that does nothing until this is dropped: see [`TestServer::hold`]. It borrows the
/// server, which cannot end before it:
///
/// ```compile_fail,E0505
/// # use soloist::prelude::*;
/// # use soloist::testing::TestServer;
/// # let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
/// let server = TestServer::start(1, app);
/// let held = server.hold(0);
/// drop(server); // would wait for the shard
/// drop(held);
/// ```
#[must_use = "the shard goes on when this is dropped"]
pub struct Held<'a> {
    _release: mpsc::Sender<()>,
    /// A server cannot end while one of its shards is held.
    _server: PhantomData<&'a TestServer>,
}
