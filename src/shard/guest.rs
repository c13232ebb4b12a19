//! What a driver asks of the floor above: it knows no HTTP and no messages.

use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;

use crate::base::wire::Wire;

/// What the floor above gives the driver to do.
pub(crate) trait Guest {
    /// The task of a new connection; none while the application is not built.
    fn connect(&self, wire: Rc<Wire>) -> Option<Pin<Box<dyn Future<Output = ()>>>>;
    /// Mail has come: take it. True if there is more.
    fn mail(&self) -> bool;
    /// New listeners to accept from.
    fn listeners(&self) -> Vec<TcpListener>;
    /// The answer to a connection that is one too many.
    fn refusal(&self) -> Vec<u8>;
    /// What the shard is to do from now on.
    fn state(&self) -> State;
    /// Every connection has ended: what the application does last.
    fn last(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>>;
}

/// Where a shard stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Serve,
    Drain,
    /// The grace is over, or was not granted.
    End,
}
