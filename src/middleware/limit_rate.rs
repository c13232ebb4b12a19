//! A bound on the requests of one client in a time.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::buckets::Buckets;
use crate::app::ctx::Ctx;
use crate::app::handler::Middleware;
use crate::app::next::Next;
use crate::error::{Error, Result};
use crate::limits::RATE_CLIENTS_MAX;

/// Lets every client address ask `per_second` times a second in the long run, and `burst` times at
/// once; more is 429 with `Retry-After`. Both are at least 1.
///
/// An IPv6 address counts as its /64, which is what one customer has. Each shard counts for
/// itself: a client with many connections meets the bound once on every shard. A shard remembers
/// 65,536 clients and forgets the one that asked the longest ago. Behind a proxy
/// that is not trusted ([`App::trust`](crate::App::trust)) all clients are one.
///
/// ```
/// use soloist::middleware::limit_rate;
/// use soloist::prelude::*;
///
/// let app = App::new(()).wrap(limit_rate(10, 50)).get("/", async |cx| cx.text("hello"));
/// ```
pub fn limit_rate<S: 'static>(per_second: u32, burst: u32) -> impl Middleware<S> {
    let table = RefCell::new(Buckets::new(per_second, burst, RATE_CLIENTS_MAX));
    async move |cx: &Ctx<S>, next: Next<'_>| {
        // In memory, or once the client is gone, there is no address: all of those are one.
        let key = cx.client().map_or(0, key_of);
        take(cx, &table, key)?;
        next.run().await
    }
}

/// The same for clients that a closure tells apart, by an API key, a user or a field that a proxy
/// sets; `None` is not bounded.
///
/// ```
/// use soloist::middleware::limit_rate_by;
/// use soloist::prelude::*;
///
/// let per_key = limit_rate_by(5, 5, |cx: &Ctx<()>| cx.header("x-api-key"));
/// let app = App::new(()).wrap(per_key).get("/", async |cx| cx.text("hello"));
/// ```
pub fn limit_rate_by<S: 'static>(
    per_second: u32,
    burst: u32,
    client: impl Fn(&Ctx<S>) -> Option<&str> + 'static,
) -> impl Middleware<S> {
    let table = RefCell::new(Buckets::new(per_second, burst, RATE_CLIENTS_MAX));
    // Two hashes with keys that no client knows stand for the text: nobody finds two texts with
    // the same 128 bits, and a long text takes no memory.
    let hashers = [RandomState::new(), RandomState::new()];
    async move |cx: &Ctx<S>, next: Next<'_>| {
        if let Some(text) = client(cx) {
            let [high, low] = hashers.each_ref().map(|it| u128::from(it.hash_one(text)));
            take(cx, &table, high << 64 | low)?;
        }
        next.run().await
    }
}

fn take<S>(cx: &Ctx<S>, table: &RefCell<Buckets>, key: u128) -> Result<()> {
    let now_ns = cx.core.local.clock.now_ns();
    table.borrow_mut().take(key, now_ns).map_err(|wait_ns| {
        let wait_secs = wait_ns.div_ceil(1_000_000_000).max(1);
        Error::new(429, "too many requests").set("retry-after", wait_secs.to_string())
    })
}

fn key_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_customer_are_one_client() {
        for (a, b, same) in [
            ("1.2.3.4", "1.2.3.4", true),
            ("1.2.3.4", "1.2.3.5", false),
            ("1.2.3.4", "::ffff:1.2.3.4", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let key = |text: &str| key_of(text.parse().expect("an address"));
            assert_eq!(key(a) == key(b), same, "{a} {b}");
        }
    }
}
