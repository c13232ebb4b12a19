//! A socket's life: its handler, what the clock asks for meanwhile, and the end.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tungstenite::protocol::frame::coding::Control;

use super::link::Link;
use super::options::WsOptions;
use super::rooms::{Entered, Rooms, Sink};
use super::route::WsHandler;
use super::socket::Ws;
use crate::app::ctx::Ctx;
use crate::base::counters::Count;
use crate::base::wire::{Close, Wire};
use crate::error::Result;
use crate::limits::WS_CLOSE_MS_MAX;
use crate::shard::Local;
use crate::shard::time::Armed;
use crate::ws::handshake::Deflate;

/// A socket that is about to run.
pub(super) struct Socket<S, F> {
    pub(super) cx: Ctx<S>,
    pub(super) wire: Rc<Wire>,
    pub(super) options: Rc<WsOptions>,
    pub(super) agreed: Option<Deflate>,
    pub(super) protocol: Option<String>,
    pub(super) client: Option<IpAddr>,
    pub(super) handler: Rc<F>,
}

impl<S: 'static, F: WsHandler<S>> Socket<S, F> {
    /// Its whole life, from its opening to its end.
    pub(super) fn start(self) -> Pin<Box<dyn Future<Output = Result<()>>>> {
        let Socket { cx, wire, options, agreed, protocol, client, handler } = self;
        let local = &cx.core.local;
        let link = Rc::new(Link::new(local.clone(), wire, options, agreed));
        let entered = Rooms::of(local).enter(local, Sink::Socket(link.clone()), client);
        link.id.set(Some(entered.id));
        let (mut ws, open) = (Ws::new(link, protocol), Open::new(local, entered));
        // A block, not an async fn: that would hold its arguments twice.
        Box::pin(async move {
            let ended = {
                let link = ws.link().clone();
                let handler = pin!(handler(&cx, &mut ws));
                watch(&link, handler).await
            };
            drop(open); // nothing is published to it from here on
            if farewell(&cx, ws.link(), &ended) {
                hear_close(&cx.core.local, &mut ws).await;
            }
            Ok(())
        })
    }
}

/// Reads on until the client has closed too, or has had its time for it.
async fn hear_close(local: &Local, ws: &mut Ws) {
    let until_ms = local.clock.now_ms() + WS_CLOSE_MS_MAX;
    let alarm = Armed::new(local);
    let mut closed = pin!(ws.hear_close());
    poll_fn(|cx| match closed.as_mut().poll(cx) {
        Poll::Pending => alarm.poll(until_ms, cx),
        ready => ready,
    })
    .await;
}

/// Says goodbye. False if there is nobody to answer it.
fn farewell<S>(cx: &Ctx<S>, link: &Link, ended: &Ended) -> bool {
    let (code, reason) = match ended {
        Ended::Well => (1000, ""),
        Ended::Failed(error) if error.status() < 500 => (POLICY, error.message()),
        Ended::Failed(error) => {
            if link.is_open() {
                tracing::error!(path = cx.path(), "a socket's handler failed: {error}");
            }
            (1011, "internal error")
        }
        Ended::Panicked => {
            link.local.counters.add(Count::Panics, 1);
            tracing::error!(path = cx.path(), "a socket's handler panicked");
            (1011, "internal error")
        }
        Ended::Gone => {
            link.wire.close(Close::Abort);
            return false;
        }
    };
    if link.is_streaming() {
        link.wire.close(Close::Abort); // a message has no end
        return false;
    }
    link.send_close(code, reason);
    true
}

/// What the client said does not suit (RFC 6455 section 7.4.1).
const POLICY: u16 = 1008;

enum Ended {
    Well,
    Failed(crate::error::Error),
    Panicked,
    /// The client gives no sign of life.
    Gone,
}

/// Polls a handler, and does what is due: pings, the end of an idle socket, the drain's goodbye.
async fn watch<F: Future<Output = Result<()>>>(link: &Link, mut handler: Pin<&mut F>) -> Ended {
    let clock = Armed::new(&link.local);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Ready(Ok(()))) => return Poll::Ready(Ended::Well),
            Ok(Poll::Ready(Err(error))) => return Poll::Ready(Ended::Failed(error)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Ended::Panicked),
        }
        if link.local.draining_ms.get().is_some() {
            link.send_close(link.options.drain_code, "the server stops");
        }
        match is_gone(link, &clock, cx) {
            true => Poll::Ready(Ended::Gone),
            false => Poll::Pending,
        }
    })
    .await
}

/// Asks a silent client for a sign of life, and closes an idle one. True if it is gone.
fn is_gone(link: &Link, clock: &Armed<'_>, cx: &Context<'_>) -> bool {
    let options = &link.options;
    loop {
        let now_ms = link.local.clock.now_ms();
        if link.wire.unread() > 0 {
            link.hear(); // the handler is busy, the client is there
        }
        let since_ms = link.asked_ms.get().unwrap_or(link.heard_ms.get());
        let ping_ms = due_ms(since_ms, options.ping_ms);
        let idle_ms = match link.is_open() {
            true => due_ms(link.message_ms.get(), options.idle_ms_max),
            false => u64::MAX,
        };
        let next_ms = ping_ms.min(idle_ms);
        if next_ms == u64::MAX || clock.poll(next_ms, cx).is_pending() {
            return false;
        }
        if idle_ms <= now_ms {
            link.send_close(1001, "idle for too long");
        } else if link.asked_ms.get().is_some() {
            link.local.counters.add(Count::WsGone, 1);
            return true;
        } else {
            link.asked_ms.set(Some(now_ms));
            link.control(Control::Ping, b"");
        }
    }
}

/// So long after a moment; 0 is never.
fn due_ms(since_ms: u64, after_ms: u64) -> u64 {
    if after_ms == 0 { u64::MAX } else { since_ms.saturating_add(after_ms) }
}

/// A socket among those of its shard.
struct Open {
    local: Rc<Local>,
    _entered: Entered,
}

impl Open {
    fn new(local: &Rc<Local>, entered: Entered) -> Open {
        local.counters.add(Count::WsOpen, 1);
        Open { local: local.clone(), _entered: entered }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.local.counters.sub(Count::WsOpen);
    }
}
