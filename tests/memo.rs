//! What a request remembers: one load a key, side by side too, and nothing for the next request.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::TestClient;

const SECOND: Duration = Duration::from_secs(1);

/// Both, side by side.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|cx| {
        if of_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            of_a = Some(value);
        }
        if of_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            of_b = Some(value);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Loads that take a second, counted.
async fn user(cx: &Ctx<Cell<u32>>, id: u64) -> Result<u32> {
    let load = async || {
        cx.state().set(cx.state().get() + 1);
        let loads = cx.state().get();
        cx.sleep(SECOND).await; // virtual time
        if id == 0 { Err(Error::not_found()) } else { Ok(loads) }
    };
    cx.cache().get_or(("user", id), load).await
}

fn answers(path: &str, handler: impl soloist::Handler<Cell<u32>>, want: &[&str]) {
    let app = App::new(Cell::new(0)).get(path, handler);
    TestClient::run(
        async move |_| Ok(app),
        async |client| {
            for text in want {
                client.get(path).await.expect(200).text(text);
            }
        },
    );
}

#[test]
fn one_load_a_key_and_request() {
    // The second request finds nothing of the first one.
    let twice = async |cx: &Ctx<Cell<u32>>| {
        let (a, b) = (user(cx, 7).await?, user(cx, 7).await?);
        cx.json(&[a, b, user(cx, 8).await?])
    };
    answers("/", twice, &["[1,1,2]", "[3,3,4]"]);
    let side_by_side = async |cx: &Ctx<Cell<u32>>| {
        let (a, b) = both(user(cx, 7), user(cx, 7)).await;
        cx.json(&[a?, b?])
    };
    answers("/", side_by_side, &["[1,1]", "[2,2]"]);
}

#[test]
fn errors_and_loads_that_were_dropped_are_not_kept() {
    let errors = async |cx: &Ctx<Cell<u32>>| {
        let (a, b) = both(user(cx, 0), user(cx, 0)).await;
        let status = |it: Result<u32>| it.err().map_or(0, |error| u32::from(error.status()));
        cx.json(&[status(a), status(b), cx.state().get()])
    };
    answers("/", errors, &["[404,404,2]"]);
    let dropped = async |cx: &Ctx<Cell<u32>>| {
        let late = async { cx.timeout(SECOND / 2, user(cx, 7)).await.is_err() };
        let (late, value) = both(late, user(cx, 7)).await;
        cx.json(&(late, value?, cx.cache().get::<_, u32>(&("user", 7_u64))))
    };
    answers("/", dropped, &["[true,2,2]"]);
}

#[test]
fn types_are_tables_of_their_own() {
    let handler = async |cx: &Ctx<Cell<u32>>| {
        let cache = cx.cache();
        cache.insert(1_u8, "a");
        cache.insert(1_u8, 10_u32);
        cache.insert(1_u16, 20_u32);
        cache.insert(1_u16, 21_u32);
        let none: Option<u32> = cache.get(&2_u16);
        assert!(none.is_none() && cache.get::<_, u64>(&1_u16).is_none());
        let text: Option<&str> = cache.get(&1_u8);
        cx.json(&(text, cache.get::<_, u32>(&1_u8), cache.get::<_, u32>(&1_u16)))
    };
    answers("/", handler, &[r#"["a",10,21]"#]);
}

#[test]
fn what_is_inserted_stays_though_a_load_ends_later() {
    let handler = async |cx: &Ctx<Cell<u32>>| {
        let change = async {
            cx.sleep(SECOND / 2).await; // virtual time: amid the load
            cx.cache().insert(("user", 7_u64), 99_u32);
        };
        let (loaded, ()) = both(user(cx, 7), change).await;
        cx.json(&[loaded?, user(cx, 7).await?])
    };
    answers("/", handler, &["[1,99]"]);
}
