//! New connections: those of clients, and those that the shard has made itself.

#[cfg(feature = "postgres-lane")]
use std::os::fd::IntoRawFd;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::super::guest::Guest;
#[cfg(feature = "postgres-lane")]
use super::super::outbound::Wanted;
use super::super::table::{Conn, Phase, Recv};
use super::super::tasks::Boxed;
use super::Driver;
use crate::base::counters::Count;
use crate::base::wire::Wire;
use crate::ring::{Token, socket};

impl<G: Guest> Driver<G> {
    pub(in crate::shard) fn connect(&mut self, fd: RawFd) {
        self.local.counters.add(Count::Accepted, 1);
        if self.conns.len() - self.own >= self.local.limits.connections_max {
            self.local.counters.add(Count::RefusedFull, 1);
            socket::send_now(fd, &self.guest.refusal());
            socket::discard_received(fd);
            self.ring.close(fd);
            return;
        }
        let wire = self.next_wire(fd);
        let Some(serving) = self.guest.connect(wire.clone()) else {
            self.ring.close(fd);
            return;
        };
        self.local.counters.add(Count::Open, 1);
        self.insert(fd, wire, serving, false);
    }

    /// Takes over the connections that the shard has made itself.
    #[cfg(feature = "postgres-lane")]
    pub(super) fn adopt(&mut self) {
        while let Some(Wanted { socket, serve }) = self.local.outbound.next_wanted() {
            let fd = socket.into_raw_fd();
            let wire = self.next_wire(fd);
            let serving = serve(wire.clone());
            self.own += 1;
            self.insert(fd, wire, serving, true);
        }
    }

    /// Of the connection that is inserted next.
    fn next_wire(&self, fd: RawFd) -> Rc<Wire> {
        let slot = self.conns.vacant_key() as u32;
        Rc::new(Wire::new(slot, fd, self.local.dirty.clone(), self.local.spares.clone()))
    }

    fn insert(&mut self, fd: RawFd, wire: Rc<Wire>, serving: Boxed, is_own: bool) {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let generation = self.generation;
        let slot = self.conns.insert(Conn {
            fd,
            generation,
            task: self.local.tasks.spawn(serving),
            wire,
            recv: Recv::Armed,
            bulk: false,
            send: None,
            phase: Phase::Open,
            is_own,
        });
        self.ring.receive(fd, Token { slot: slot as u32, generation });
    }
}
