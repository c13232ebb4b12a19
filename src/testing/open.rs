//! A connection in bytes, for tests of clients that misbehave.

use std::rc::Rc;

use super::rig::{Rig, collect};
use crate::base::wire::{Close, Wire};

/// A connection of a [`TestClient`], in bytes.
pub struct Open<'a> {
    rig: &'a Rig,
    wire: Rc<Wire>,
}

impl<'a> Open<'a> {
    pub(super) fn new(rig: &'a Rig) -> Open<'a> {
        Open { rig, wire: rig.connect() }
    }

    /// Sends bytes, runs what can run, and appends what comes back.
    pub fn exchange(&self, bytes: &[u8], out: &mut Vec<u8>) {
        self.send(bytes);
        collect(&self.wire, out);
    }

    /// Sends bytes and runs what can run, but reads nothing: a deaf client. What the server may
    /// write then is bounded, and its handler waits.
    pub fn send(&self, bytes: &[u8]) {
        self.wire.push(bytes);
        while self.rig.pump() {}
    }

    /// Reads what has been written so far, and lets the handler go on: a slow client.
    pub fn receive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        collect(&self.wire, &mut out);
        while self.rig.pump() {}
        out
    }

    /// Sends FIN: nothing more will be asked.
    pub fn finish(&self) {
        self.wire.push_eof();
        while self.rig.pump() {}
    }

    /// Vanishes with a reset: a handler that runs is dropped at its next await.
    pub fn reset(&self) {
        self.wire.kill();
        while self.rig.pump() {}
    }

    /// Whether the server has closed the connection, or wants to.
    pub fn is_closed(&self) -> bool {
        self.wire.closing() != Close::Open
    }
}
