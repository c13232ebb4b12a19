//! A warm request takes nothing from the heap: counted, in memory, with every layer of the path.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use serde::{Deserialize, Serialize};
use soloist::prelude::*;
use soloist::testing::TestClient;

struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, with a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

async fn app(_: Shard) -> Result<App<Cell<u64>>> {
    Ok(App::new(Cell::new(0))
        .wrap(count)
        .get("/", async |cx| cx.text("hello, world"))
        .get("/users/:id", user)
        .post("/users", create))
}

async fn count(cx: &Ctx<Cell<u64>>, next: Next<'_>) -> Result<Reply> {
    cx.state().set(cx.state().get() + 1);
    next.run().await
}

#[derive(Serialize)]
struct User<'a> {
    id: u64,
    name: &'a str,
}

async fn user(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
    let id: u64 = cx.param("id")?;
    cx.json(&User { id, name: cx.format(format_args!("user {id}")) })
}

async fn create(cx: &Ctx<Cell<u64>>) -> Result<Reply> {
    #[derive(Deserialize)]
    struct New<'a> {
        name: &'a str,
        n: u64,
    }
    let new: New = cx.body_json().await?;
    cx.json(&User { id: new.n + 1, name: new.name })
}

#[test]
fn warm_requests_take_nothing_from_the_heap() {
    let requests: [(&str, &[u8]); 3] = [
        ("hello", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("param and JSON", b"GET /users/42 HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n"),
        (
            "JSON body",
            b"POST /users HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n{\"name\":\"ann\",\"n\":7}",
        ),
    ];
    TestClient::run(app, async |client| {
        for (name, request) in requests {
            let keep_alive = client.open();
            let mut out = Vec::with_capacity(64 * 1024);
            for _ in 0..50 {
                keep_alive.exchange(request, &mut out);
            }
            let before = TAKEN.get();
            for _ in 0..1_000 {
                out.clear();
                keep_alive.exchange(request, &mut out);
            }
            let taken = TAKEN.get() - before;
            assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n"), "{name}");
            assert_eq!(taken, 0, "{name}: allocations in 1,000 requests");
        }
    });
}
