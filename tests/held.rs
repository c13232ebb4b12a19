//! What a waiting client of an event stream holds in user space: counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::TestClient;

struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, with a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = HELD.try_with(|held| held.set(held.get() + layout.size() as i64));
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let _ = HELD.try_with(|held| held.set(held.get() - layout.size() as i64));
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a client may hold while it waits.
const BYTES_MAX: i64 = 3 * 1024;
const CLIENTS: i64 = 1_024;

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(())
        .wrap(async |_, next| next.run().await)
        .get("/large", async |cx| cx.bytes("text/plain", [b'x'; 60_000]))
        .get("/clock", clock))
}

async fn clock(cx: &Ctx<()>) -> Result<Reply> {
    let mut seconds = cx.shard().interval(Duration::from_secs(1));
    let mut events = cx.events().await?;
    let mut n = 0;
    while let Some(()) = events.wait(seconds.tick()).await {
        n += 1;
        events.send(Event::json(&n)).await?;
    }
    events.finish().await
}

#[test]
fn a_waiting_client_holds_3_kib_at_most() {
    // As a browser asks.
    let request = "GET /clock HTTP/1.1\r\nhost: example.com\r\naccept: text/event-stream\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
         accept-language: en-US,en;q=0.5\r\naccept-encoding: gzip, deflate, br, zstd\r\n\
         referer: https://example.com/\r\nconnection: keep-alive\r\npragma: no-cache\r\n\
         sec-fetch-dest: empty\r\nsec-fetch-mode: cors\r\nsec-fetch-site: same-origin\r\n\
         cache-control: no-cache\r\n\r\n";
    TestClient::run(app, async |client| {
        let mut out = Vec::with_capacity(64 * 1024);
        // The shard's spare buffers have been grown by large answers.
        for _ in 0..4 {
            client.get("/large").await.expect(200);
        }
        let first = client.open();
        first.exchange(request.as_bytes(), &mut out);
        let before = HELD.get();
        let mut open = Vec::with_capacity(CLIENTS as usize);
        for _ in 0..CLIENTS {
            out.clear();
            let one = client.open();
            one.exchange(request.as_bytes(), &mut out);
            open.push(one);
        }
        let waiting = (HELD.get() - before) / CLIENTS;
        for _ in 0..3 {
            client.advance(Duration::from_secs(1)).await;
            out.clear();
            open.iter().for_each(|it| it.exchange(b"", &mut out));
        }
        let told = (HELD.get() - before) / CLIENTS;
        println!("{waiting} bytes a waiting client, {told} after three events");
        assert!(waiting > 500, "{waiting} bytes: not counted");
        assert!(waiting <= BYTES_MAX && told <= BYTES_MAX, "{waiting}, {told} bytes a client");
    });
}
