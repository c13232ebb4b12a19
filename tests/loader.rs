//! A request's loader: lookups side by side are one load, errors go to all who wait, and nobody
//! waits for one who is gone.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::TestClient;

const SECOND: Duration = Duration::from_secs(1);

/// The keys of each load, in order.
type Loads = RefCell<Vec<Vec<u32>>>;
type Cx = Ctx<Loads>;

/// A load of a second, of virtual time. Keys below 10 have no value, 13 fails.
async fn load(cx: &Cx, key: u32) -> Result<Option<String>> {
    let loader = cx.loader("names", async |keys: &[u32]| {
        cx.state().borrow_mut().push(keys.to_vec());
        cx.sleep(SECOND).await;
        if keys.contains(&13) {
            return Err(Error::new(418, "unlucky").set("retry-after", "9"));
        }
        let known = keys.iter().rev().filter(|key| **key >= 10);
        Ok(known.map(|key| (*key, format!("name {key}"))).collect::<Vec<_>>())
    });
    loader.load(key).await
}

fn name(key: u32) -> Option<String> {
    (key >= 10).then(|| format!("name {key}"))
}

/// Side by side, as parts of one task are.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut ends: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, end) in all.iter_mut().zip(&mut ends) {
            if end.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *end = Some(value);
            }
        }
        if ends.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ends.into_iter().flatten().collect()
}

/// Runs a handler twice, that the second request finds nothing of the first; and holds the loads of
/// each against `want`.
#[track_caller]
fn loads(handler: impl soloist::Handler<Loads>, want: &[&[u32]]) {
    let app = App::new(Loads::default()).get("/", handler).get("/loads", async |cx: &Cx| {
        let loads = cx.state().take();
        cx.json(&loads)
    });
    TestClient::run(
        async move |_| Ok(app),
        async |client| {
            for _ in 0..2 {
                client.get("/").await.expect(204);
                assert_eq!(client.get("/loads").await.json::<Vec<Vec<u32>>>(), want);
            }
        },
    );
}

async fn all(cx: &Cx, keys: impl IntoIterator<Item = u32>) -> Result<()> {
    let keys: Vec<u32> = keys.into_iter().collect();
    let found = join(keys.iter().map(|key| load(cx, *key)).collect()).await;
    for (key, found) in keys.into_iter().zip(found) {
        assert_eq!(found?, name(key));
    }
    Ok(())
}

#[test]
fn lookups_side_by_side_are_one_load() {
    let handler = async |cx: &Cx| {
        all(cx, [10, 11, 10, 9, 11]).await?;
        all(cx, [9, 10, 12, 11]).await?; // all but one are known
        all(cx, [9, 10, 11, 12]).await?;
        cx.empty()
    };
    loads(handler, &[&[10, 11, 9], &[12]]);
}

#[test]
fn who_asks_while_one_loads_is_in_the_next_load_unless_its_key_is_loaded() {
    let handler = async |cx: &Cx| {
        let late = |key| async move {
            cx.sleep(SECOND / 2).await; // virtual time: amid the first load
            load(cx, key).await
        };
        let (early, late) = (load(cx, 10), join(vec![late(10), late(11), late(12)]));
        let (mut early, mut late) = (pin!(early), pin!(late));
        let mut first = None;
        let rest = poll_fn(|cx| {
            if first.is_none()
                && let Poll::Ready(value) = early.as_mut().poll(cx)
            {
                first = Some(value);
            }
            late.as_mut().poll(cx)
        });
        let rest: Result<Vec<_>> = rest.await.into_iter().collect();
        assert_eq!(rest?, [name(10), name(11), name(12)]);
        assert_eq!(first.expect("it was first")?, name(10));
        cx.empty()
    };
    loads(handler, &[&[10], &[11, 12]]);
}

#[test]
fn an_error_goes_to_all_who_wait_and_is_not_kept() {
    let handler = async |cx: &Cx| {
        for end in join([10, 13, 11, 13].map(|key| load(cx, key)).into()).await {
            let error = end.expect_err("unlucky");
            assert_eq!((error.status(), error.message()), (418, "unlucky"));
        }
        all(cx, [10, 11]).await?;
        cx.empty()
    };
    loads(handler, &[&[10, 13, 11], &[10, 11]]);
}

#[test]
fn one_who_is_gone_leaves_the_others_whole() {
    /// Who loads, and when its time is over.
    const CASES: [(usize, u32); 4] = [(0, 0), (0, 500), (1, 0), (1, 500)];
    for (gone, ms) in CASES {
        let handler = async move |cx: &Cx| {
            let part = async |at: usize| {
                let time = if at == gone { Duration::from_millis(ms.into()) } else { 9 * SECOND };
                cx.timeout(time, load(cx, 10 + at as u32)).await.ok()
            };
            let ends = join(vec![part(0), part(1), part(2)]).await;
            for (at, end) in ends.into_iter().enumerate() {
                match end {
                    None => assert_eq!(at, gone),
                    Some(found) => assert_eq!(found?, name(10 + at as u32)),
                }
            }
            // What was asked for is known, also by who is gone.
            all(cx, [10, 11, 12]).await?;
            cx.empty()
        };
        let keys: &[u32] = &[10, 11, 12];
        // Another begins anew where who loaded is gone amid the load.
        let both = [keys, keys];
        loads(handler, if (gone, ms) == (0, 500) { &both } else { &both[..1] });
    }
}

#[test]
fn nobody_is_left_to_load() {
    let handler = async |cx: &Cx| {
        for ms in [0, 500] {
            let part = |key| cx.timeout(Duration::from_millis(ms), load(cx, key));
            assert!(join(vec![part(10), part(11)]).await.iter().all(|it| it.is_err()));
        }
        all(cx, [11, 12]).await?; // as those have left it
        cx.empty()
    };
    loads(handler, &[&[10, 11], &[10, 11], &[12]]);
}

#[test]
fn many_keys_are_several_loads() {
    let handler = async |cx: &Cx| {
        all(cx, 20..2_520).await?;
        let lengths: Vec<usize> = cx.state().take().iter().map(Vec::len).collect();
        assert_eq!(lengths, [1_024, 1_024, 452]);
        cx.empty()
    };
    loads(handler, &[]);
}

#[test]
fn a_key_that_is_forgotten_is_loaded_again() {
    let handler = async |cx: &Cx| {
        let names = cx.loader("names", async |keys: &[u32]| {
            cx.state().borrow_mut().push(keys.to_vec());
            let loads = cx.state().borrow().len();
            cx.sleep(SECOND).await; // virtual time
            Ok(keys.iter().map(|key| (*key, format!("{key} of load {loads}"))).collect::<Vec<_>>())
        });
        let texts = |found: Vec<Option<String>>| found.into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(texts(names.load_all([10, 11]).await?), ["10 of load 1", "11 of load 1"]);
        names.forget(&10);
        names.forget(&99);
        assert_eq!(texts(names.load_all([10, 11]).await?), ["10 of load 2", "11 of load 1"]);
        // Amid the load: what it finds is old, and nobody gets it.
        names.forget(&10);
        let forget = async {
            cx.sleep(SECOND / 2).await; // virtual time
            names.forget(&10);
            names.load(10).await
        };
        let (mut load, mut forget) = (pin!(names.load(10)), pin!(forget));
        let (mut of_load, mut of_forget) = (None, None);
        poll_fn(|cx| {
            if of_load.is_none()
                && let Poll::Ready(value) = load.as_mut().poll(cx)
            {
                of_load = Some(value);
            }
            if of_forget.is_none()
                && let Poll::Ready(value) = forget.as_mut().poll(cx)
            {
                of_forget = Some(value);
            }
            if of_load.is_some() && of_forget.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        for end in [of_load, of_forget] {
            assert_eq!(end.expect("it ended")?.as_deref(), Some("10 of load 4"));
        }
        cx.empty()
    };
    loads(handler, &[&[10, 11], &[10], &[10], &[10]]);
}

#[test]
fn names_and_types_are_loaders_of_their_own() {
    let handler = async |cx: &Cx| {
        let users = cx.loader("users", async |ids: &[u32]| {
            Ok(ids.iter().map(|id| (*id, "user")).collect::<Vec<_>>())
        });
        let teams = cx.loader("teams", async |ids: &[u32]| {
            Ok(ids.iter().map(|id| (*id, "team")).collect::<Vec<_>>())
        });
        let ages = cx.loader("users", async |ids: &[u32]| {
            Ok(ids.iter().map(|id| (*id, 40_u8)).collect::<Vec<_>>())
        });
        let again = cx.loader("users", async |_: &[u32]| Ok([(0, "nobody")]));
        assert_eq!(users.load(7).await?, Some("user"));
        assert_eq!(teams.load(7).await?, Some("team"));
        assert_eq!(ages.load(7).await?, Some(40));
        assert_eq!(again.load(7).await?, Some("user"), "it was known by that name");
        assert_eq!(again.load(8).await?, None, "what was not asked for is not kept");
        assert_eq!(again.load(0).await?, Some("nobody"));
        assert_eq!(users.load_all([]).await?, []);
        cx.empty()
    };
    loads(handler, &[]);
}
