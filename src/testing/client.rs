//! A client in memory, and the application that it asks.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::rig::{Rig, collect, until_closed};
use super::{Call, Open};
use crate::app::builder::{self, App};
use crate::app::site::Site;
use crate::base::wire::{Close, Wire};
use crate::error::Result;
use crate::limits::Limits;
use crate::shard::{Shard, waker};

/// A client of an application that runs on this thread, in memory.
///
/// Requests go through the same parser and the same connection loop as on a socket, one keep-alive
/// connection for all. Time stands still while anything can run, and jumps to the next timer when
/// nothing can.
pub struct TestClient {
    pub(super) rig: Rig,
    /// Of the calls, once there was one.
    pub(super) wire: RefCell<Option<Rc<Wire>>>,
}

impl TestClient {
    /// Builds the application and runs `test` against it.
    ///
    /// # Panics
    /// When the application cannot be built, or the test waits for what can never come.
    pub fn run<S: 'static>(
        build: impl AsyncFnOnce(Shard) -> Result<App<S>>,
        test: impl AsyncFnOnce(&TestClient),
    ) {
        TestClient::run_with(Limits::default(), build, test);
    }

    /// The same, with other bounds.
    pub fn run_with<S: 'static>(
        limits: Limits,
        build: impl AsyncFnOnce(Shard) -> Result<App<S>>,
        test: impl AsyncFnOnce(&TestClient),
    ) {
        limits.check().expect("limits");
        let mut rig = Rig::new(limits);
        let local = rig.local.clone();
        let _here = waker::enter(local.tasks.clone());
        let shard = Shard(local.clone());
        let built = rig.block_on(async {
            let mut app = build(shard.clone()).await?;
            let hooks = app.settle_on(&shard);
            let serve = app.build()?;
            builder::run_on_start(hooks).await?;
            Ok::<_, crate::Error>(serve)
        });
        let serve = built.unwrap_or_else(|error| panic!("the app: {error}"));
        rig.site = Some(Rc::new(Site::new(local.clone(), serve)));
        let client = TestClient { rig, wire: RefCell::new(None) };
        client.rig.block_on(test(&client));
        local.tasks.clear();
        local.forget_kept();
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A POST.
    pub fn post(&self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }

    /// A PUT.
    pub fn put(&self, path: &str) -> Call<'_> {
        self.call("PUT", path)
    }

    /// A DELETE.
    pub fn delete(&self, path: &str) -> Call<'_> {
        self.call("DELETE", path)
    }

    /// A request of any method.
    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call::new(self, method, path)
    }

    /// Sends bytes on a connection of their own, a segment at a time, then FIN; all that came back
    /// until the server closed.
    pub async fn raw(&self, segments: &[&[u8]]) -> Vec<u8> {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        for segment in segments {
            wire.push(segment);
            self.rig.settle().await;
            collect(&wire, &mut out);
        }
        wire.push_eof();
        until_closed(&wire, &mut out).await;
        out
    }

    /// Sends bytes and waits, however long, until the server closes: all that came back.
    pub async fn raw_until_closed(&self, bytes: &[u8]) -> Vec<u8> {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        wire.push(bytes);
        until_closed(&wire, &mut out).await;
        out
    }

    /// Sends bytes and leaves the connection open: what comes back when nothing more can run,
    /// without time going on, and whether the server has closed.
    pub async fn raw_open(&self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let wire = self.rig.connect();
        let mut out = Vec::new();
        wire.push(bytes);
        self.rig.settle().await;
        collect(&wire, &mut out);
        (out, wire.closing() != Close::Open)
    }

    /// A connection to write to and read from byte by byte.
    pub fn open(&self) -> Open<'_> {
        Open::new(&self.rig)
    }

    /// Pretends that the connections which are made from now on come from that address; the next
    /// call makes one. Without it a connection in memory comes from nowhere.
    pub fn peer(&self, addr: impl Into<SocketAddr>) {
        self.rig.peer.set(Some(addr.into()));
        if let Some(wire) = self.wire.take() {
            wire.push_eof();
        }
    }

    /// Lets that much of the shard's time go by.
    pub async fn advance(&self, time: Duration) {
        Shard(self.rig.local.clone()).sleep(time).await;
    }

    /// Begins to stop, as SIGTERM does: [`Shard::stopping`] ends, answers close their connections,
    /// and, once nothing more can run without time going on, what was given to
    /// [`App::on_stop`](crate::App::on_stop) runs.
    pub async fn stop(&self) {
        self.rig.local.begin_drain();
        self.rig.settle().await;
        let mut hooks = self.rig.site.as_ref().map_or(Vec::new(), |it| it.serve.take_on_stop());
        while let Some(hook) = hooks.pop() {
            hook().await;
        }
    }

    /// The shard that the application runs on.
    pub fn shard(&self) -> Shard {
        Shard(self.rig.local.clone())
    }
}
