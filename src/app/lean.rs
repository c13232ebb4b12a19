//! Memory of long-lived answers: what a waiting client holds is made to measure.
//!
//! A handler's future cannot move once it runs, nor the bytes that it borrows. So a route is known
//! by its first event stream, and from then on its requests start in a core of the right size: the
//! exact bytes of the head, an arena for the future and no more. The roomy core serves others.

use std::mem;

use super::core::Core;

impl Core {
    /// The answer has begun and may take days: gives back what it needs no more, and remembers
    /// what the next one of its route will need.
    pub(super) fn settle_in(&self) {
        if let Some(route) = &self.route {
            let bytes = self.arena.bytes_used() + ARENA_BOOKS_BYTES;
            route.long_arena_bytes.set(bytes.max(route.long_arena_bytes.get()));
        }
        self.local.spares.give(self.body.take());
        self.with_fields(Vec::shrink_to_fit);
    }

    /// Moves a request whose handler has not started into a core of its size.
    pub(super) fn split_lean(&mut self) -> Core {
        let arena_bytes = self.route.as_ref().map_or(0, |it| it.long_arena_bytes.get());
        let mut lean = Core::with_arena(self.local.clone(), self.whole.clone(), arena_bytes);
        lean.lean = true;
        lean.buf = self.bytes().to_vec();
        lean.head = self.head.clone(); // its fields take no more than their number
        lean.params = self.params;
        lean.route = self.route.take();
        lean.wire = self.wire.take();
        lean.received_ns = self.received_ns;
        lean.clean = false;
        lean.reading = mem::take(&mut self.reading);
        lean.close.set(self.close.get());
        lean
    }

    /// Moves what a connection that leaves HTTP keeps of its request into a core of its size: the
    /// head, the parameters, and what middleware has put there.
    #[cfg(feature = "ws")]
    pub(super) fn split_upgraded(&mut self) -> Core {
        let mut lean = Core::with_arena(self.local.clone(), self.whole.clone(), 0);
        lean.lean = true;
        lean.buf = self.bytes()[..self.head.len].to_vec();
        lean.head = self.head.clone();
        lean.params = self.params;
        lean.route = self.route.take();
        lean.wire = self.wire.clone();
        lean.received_ns = self.received_ns;
        lean.clean = false;
        lean.arena.adopt(&mut self.arena);
        lean
    }
}

/// The arena counts its bookkeeping as part of its first chunk.
const ARENA_BOOKS_BYTES: usize = 64;
