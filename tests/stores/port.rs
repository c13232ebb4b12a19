//! Ports for servers that tests start, end and start again.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the kernel gives to clients: one that tries to reach a dead server might be
/// given the server's port, and be connected to itself.
pub fn free() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 97 + COUNT.fetch_add(1, Ordering::Relaxed);
        let port = 15_000 + (number % 15_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
