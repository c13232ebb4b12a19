//! How a shard ends: the gate closes, what had come is served, the rest is cut off.

use std::os::fd::AsRawFd;

use super::driver::Driver;
use super::guest::{Guest, State};
use super::table::Listener;
use super::waker::TaskKey;
use crate::base::counters::Count;
use crate::ring::socket;

/// Begun: no new connections.
pub(super) struct Drain {
    last: Option<TaskKey>,
}

impl<G: Guest> Driver<G> {
    pub(super) fn follow_state(&mut self) {
        if self.guest.state() == State::Serve || self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain { last: None });
        self.close_gates(0);
        self.local.begin_drain();
    }

    /// No new connections from these listeners on. They may come later than the word to drain.
    pub(super) fn close_gates(&mut self, from: usize) {
        for (at, listener) in self.listeners.iter().enumerate().skip(from) {
            if let Some(socket) = &listener.socket {
                socket::close_gate(socket.as_raw_fd());
                if listener.armed {
                    self.ring.cancel_accept(Listener::token(at));
                }
            }
        }
        self.drain_listeners();
    }

    /// Takes what listeners still hold, then closes them: closing first would reset it.
    pub(super) fn drain_listeners(&mut self) {
        for at in 0..self.listeners.len() {
            if self.listeners[at].armed {
                continue;
            }
            let Some(socket) = self.listeners[at].socket.take() else { continue };
            while let Some(fd) = socket::accept_rest(socket.as_raw_fd()) {
                self.connect(fd);
            }
        }
    }

    pub(super) fn is_over(&mut self) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        if self.guest.state() == State::End {
            return true;
        }
        if self.conns.len() > self.own || self.listeners.iter().any(|it| it.socket.is_some()) {
            return false;
        }
        match drain.last {
            None => match self.guest.last() {
                None => true,
                Some(last) => {
                    drain.last = Some(self.local.tasks.spawn(last));
                    false
                }
            },
            Some(key) => !self.local.tasks.is_alive(key),
        }
    }

    /// Ends what the grace did not see end.
    pub(super) fn cut_off(&mut self) {
        let cut = (self.conns.len() - self.own) as u64;
        self.local.counters.add(Count::CutOff, cut);
        if cut > 0 {
            tracing::warn!(shard = self.local.id, connections = cut, "cut off by the grace time");
        }
        self.local.tasks.clear();
        let slots: Vec<_> = self.conns.iter().map(|(at, it)| (at as u32, it.is_own)).collect();
        slots.into_iter().for_each(|(slot, is_own)| match is_own {
            true => self.close(slot), // a server of ours need not think that something broke
            false => self.abort(slot),
        });
        // Bounded: shut sockets complete at once, and a ring that does not is dropped with care.
        for _ in 0..16 {
            if self.conns.is_empty() || self.ring.enter(false).is_err() {
                break;
            }
            self.complete();
        }
        let _ = self.ring.enter(false);
    }
}
