//! What a shard looks after once a tick: lingering and stalled connections, listeners that paused.

use std::mem;
use std::os::fd::AsRawFd;

use super::super::guest::Guest;
use super::super::table::{Conn, Listener, Phase};
use super::Driver;
use crate::base::counters::Count;

impl<G: Guest> Driver<G> {
    /// What is looked at once a tick, not once a turn.
    pub(super) fn housekeep(&mut self) {
        let now_ms = self.local.clock.now_ms();
        while let Some((token, until_ms)) = self.lingering.front().copied() {
            let conn = self.conns.get(token.slot as usize);
            match conn {
                Some(conn) if conn.generation == token.generation => {
                    if until_ms > now_ms {
                        break;
                    }
                    self.lingering.pop_front();
                    self.close(token.slot); // no RST: the kernel may still have bytes to send
                }
                _ => {
                    self.lingering.pop_front();
                }
            }
        }
        if now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = now_ms;
            self.sweep_stalled(now_ms);
        }
        self.arm_listeners();
        self.follow_state();
    }

    /// Ends connections whose peer does not read.
    fn sweep_stalled(&mut self, now_ms: u64) {
        let Some(before_ms) = now_ms.checked_sub(self.local.limits.write_stall_ms_max) else {
            return;
        };
        let mut tokens = mem::take(&mut self.scratch.tokens);
        self.ring.stalled(before_ms, &mut tokens);
        for token in tokens.drain(..) {
            self.local.counters.add(Count::Stalled, 1);
            match self.conns.get(token.slot as usize) {
                Some(Conn { phase: Phase::Closing, send: Some(send), .. }) => {
                    self.ring.cancel_send(*send);
                }
                _ => {
                    self.broken(token.slot);
                    self.abort(token.slot);
                }
            }
        }
        self.scratch.tokens = tokens;
    }

    pub(super) fn arm_listeners(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let now_ms = self.local.clock.now_ms();
        for (at, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(socket) = &listener.socket
                && !listener.armed
                && listener.resume_ms <= now_ms
            {
                listener.armed = true;
                self.ring.accept(socket.as_raw_fd(), Listener::token(at));
            }
        }
    }
}

/// How often stalled sends are looked for.
const SWEEP_MS: u64 = 1_000;
