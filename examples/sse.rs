//! A clock that ticks in every browser, and a counter that all of them share: server-sent events.
//!
//! Run with: `cargo run --release --example sse`
//! Try: two browsers on http://127.0.0.1:8080/, or `curl -N http://127.0.0.1:8080/clock`, and
//! `curl -X POST http://127.0.0.1:8080/count` beside it (with `--shards 1`: each shard counts)

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use soloist::prelude::*;

#[path = "common/args.rs"]
mod args;

const PAGE: &str = "<!doctype html><meta charset=utf-8><title>Events</title>
<h1 id=clock>...</h1><p>Counted: <b id=count>...</b> <button>Count</button>
<script>
const show = (path, id) =>
  new EventSource(path).addEventListener(id, e => document.getElementById(id).textContent = e.data)
show('/clock', 'clock')
show('/count', 'count')
document.querySelector('button').onclick = () => fetch('/count', { method: 'POST' })
</script>";

/// A number that many wait for.
#[derive(Default)]
struct Counter {
    now: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Counter {
    fn count(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.waiting.take().into_iter().for_each(Waker::wake);
        self.now.get()
    }

    /// Waits until it is another number than that.
    async fn other_than(&self, seen: Option<u64>) -> u64 {
        poll_fn(|cx| {
            if seen != Some(self.now.get()) {
                return Poll::Ready(self.now.get());
            }
            // One that waits already, and was woken for its keep-alive, need not do so twice.
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|it| it.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

fn main() -> Result<()> {
    args::server()?.run(app)
}

async fn app(_: Shard) -> Result<App<Counter>> {
    Ok(App::new(Counter::default())
        .get("/", async |cx| cx.html(PAGE))
        .get("/clock", clock)
        .get("/count", counts)
        .post("/count", async |cx| cx.text(cx.state().count().to_string())))
}

async fn clock(cx: &Ctx<Counter>) -> Result<Reply> {
    let mut seconds = cx.shard().interval(Duration::from_secs(1));
    let mut events = cx.events().await?;
    let mut up = 0;
    while let Some(()) = events.wait(seconds.tick()).await {
        up += 1;
        events.send(Event::data(&format!("up for {up} s")).event("clock")).await?;
    }
    events.finish().await
}

async fn counts(cx: &Ctx<Counter>) -> Result<Reply> {
    // A client that comes back says what it has seen: it is told news only.
    let mut seen = cx.last_event_id().and_then(|id| id.parse().ok());
    let mut events = cx.events().await?.keep_alive(Duration::from_secs(5));
    while let Some(now) = events.wait(cx.state().other_than(seen)).await {
        seen = Some(now);
        events.send(Event::json(&now).event("count").id(&now.to_string())).await?;
    }
    events.finish().await
}

#[test]
fn events() {
    soloist::testing::TestClient::run(app, async |client| {
        let mut counts = client.get("/count").events().await;
        for now in 0..2_u64 {
            let told = counts.next().await.expect("an event");
            assert_eq!((&*told.event, told.id.as_deref()), ("count", Some(&*now.to_string())));
            assert_eq!(told.json::<u64>(), now);
            client.post("/count").await.expect(200);
        }
        drop(counts);
        // One that comes back hears what it has not heard.
        let mut counts = client.get("/count").header("last-event-id", "1").events().await;
        assert_eq!(counts.next().await.map(|it| it.data), Some("2".to_owned()));
        let mut clock = client.get("/clock").events().await;
        client.stop().await;
        while clock.next().await.is_some() {}
    });
}
