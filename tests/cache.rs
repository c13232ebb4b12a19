//! Caches of a shard: lives, budgets, and loads that many wait for, on a virtual clock.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::{TestClient, TestServer};
use soloist::{Cache, CacheOptions, Ttl};

fn run(test: impl AsyncFnOnce(&TestClient)) {
    TestClient::run(async |_| Ok(App::new(())), test);
}

const SECOND: Duration = Duration::from_secs(1);

/// Loads that take a second, counted.
#[derive(Clone, Default)]
struct Source(Rc<Cell<u32>>);

impl Source {
    async fn load(&self, shard: &Shard, value: u64) -> Result<u64> {
        self.0.set(self.0.get() + 1);
        shard.sleep(SECOND).await; // virtual time, as all here
        Ok(value)
    }
}

/// A value, or an error's status and message.
type Got = Result<u64, (u16, String)>;

/// Tasks that all want a key, and what they got, in order.
fn crowd(
    shard: &Shard,
    cache: &Cache<u64, u64>,
    count: usize,
    load: impl AsyncFn(usize) -> Result<u64> + Clone + 'static,
) -> Rc<Own<Vec<Got>>> {
    let got = Rc::new(Own::new(Vec::new()));
    for at in 0..count {
        let (cache, load, got) = (cache.clone(), load.clone(), got.clone());
        shard.spawn(async move {
            let value = cache.get_or(7, async || load(at).await).await;
            let value = value.map_err(|error| (error.status(), error.message().to_owned()));
            got.with(|got| got.push(value));
        });
    }
    got
}

#[test]
fn a_thousand_ask_and_one_loads() {
    run(async |client| {
        let (shard, source) = (client.shard(), Source::default());
        let cache = shard.cache::<u64, u64>("values");
        let (own, loads) = (shard.clone(), source.clone());
        let got = crowd(&shard, &cache, 1_000, async move |_| loads.load(&own, 49).await);
        client.advance(2 * SECOND).await;
        assert_eq!(got.with(|got| (got.len(), got.iter().all(|it| *it == Ok(49)))), (1_000, true));
        assert_eq!((source.0.get(), cache.get(&7)), (1, Some(49)));
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.waits, stats.misses, stats.hits), (1, 999, 1_000, 1));
    });
}

#[test]
fn a_load_that_fails_fails_all_who_wait_and_is_tried_again_afterwards() {
    run(async |client| {
        let (shard, own) = (client.shard(), client.shard());
        let cache = shard.cache::<u64, u64>("values");
        let got = crowd(&shard, &cache, 3, async move |_| {
            own.sleep(SECOND).await; // virtual time: so that the others come meanwhile
            Err(Error::new(502, "no answer").because("a secret"))
        });
        client.advance(2 * SECOND).await;
        let failed = Err((502, "no answer".to_owned()));
        assert_eq!(got.take(), [failed.clone(), failed.clone(), failed]);
        assert_eq!(cache.get_or(7, async || Ok(1)).await.expect("loaded"), 1);
        assert_eq!((cache.stats().loads, cache.stats().loads_failed), (2, 1));
    });
}

#[test]
fn a_load_that_is_dropped_or_panics_frees_who_waits() {
    run(async |client| {
        let (shard, own) = (client.shard(), client.shard());
        let cache = shard.cache::<u64, u64>("values");
        let got = crowd(&shard, &cache, 4, async move |at| {
            own.sleep(SECOND).await; // virtual time: so that the others come meanwhile
            match at {
                0 => panic!("the loader has a bug"),
                at => Ok(at as u64),
            }
        });
        client.advance(5 * SECOND).await;
        assert_eq!(got.take(), [Ok(1), Ok(1), Ok(1)], "the next one loads for all");
        cache.clear();
        let (own, source) = (client.shard(), Source::default());
        let leader = shard.spawn({
            let (cache, source, own) = (cache.clone(), source.clone(), own.clone());
            async move { _ = cache.get_or(7, async || source.load(&own, 1).await).await }
        });
        client.advance(SECOND / 10).await;
        let loads = source.clone();
        let got = crowd(&shard, &cache, 2, async move |_| loads.load(&own, 2).await);
        client.advance(SECOND / 10).await;
        leader.abort();
        client.advance(2 * SECOND).await;
        assert_eq!((got.take(), source.0.get()), (vec![Ok(2), Ok(2)], 2));
    });
}

#[test]
fn what_is_removed_while_it_is_loaded_is_not_stored() {
    run(async |client| {
        let (shard, source) = (client.shard(), Source::default());
        let cache = shard.cache::<u64, u64>("values");
        for forget in
            [|it: &Cache<u64, u64>| _ = it.take(&7), |it: &Cache<u64, u64>| _ = it.clear()]
        {
            let (own, loads) = (shard.clone(), source.clone());
            let old = crowd(&shard, &cache, 2, async move |_| loads.load(&own, 1).await);
            client.advance(SECOND / 2).await;
            forget(&cache);
            // Who asks from here on does not get what was on its way before.
            let (own, loads) = (shard.clone(), source.clone());
            let new = crowd(&shard, &cache, 2, async move |_| loads.load(&own, 2).await);
            client.advance(SECOND * 3 / 4).await;
            assert_eq!((old.take(), cache.contains(&7)), (vec![Ok(1), Ok(1)], false));
            client.advance(SECOND).await;
            assert_eq!((new.take(), cache.get(&7)), (vec![Ok(2), Ok(2)], Some(2)));
            cache.clear();
        }
        assert_eq!(source.0.get(), 4);
    });
}

#[test]
fn entries_live_as_long_as_is_said() {
    run(async |client| {
        let options = CacheOptions::new().ttl(10 * SECOND).idle(4 * SECOND);
        let cache = client.shard().cache_with::<&str, u32>("lives", options);
        cache.insert("default", 1);
        cache.insert_with("short", 2, Ttl::After(SECOND));
        cache.insert_with("never", 3, Ttl::Never);
        let there = || ["default", "short", "never"].map(|key| cache.contains(key));
        assert_eq!(there(), [true; 3]);
        client.advance(SECOND).await;
        assert_eq!(there(), [true, false, true]);
        assert_eq!(
            (cache.ttl("default"), cache.ttl("never")),
            (Some(Some(9 * SECOND)), Some(None))
        );
        // Asked for, it lives on; until its time is over.
        for second in 2..10 {
            client.advance(SECOND).await;
            assert_eq!(cache.get("default").is_some(), second < 10, "{second}");
        }
        client.advance(SECOND).await;
        assert_eq!(there(), [false, false, false], "nobody asked for the one that lives for ever");
        client.advance(2 * SECOND).await;
        assert_eq!((cache.len(), cache.stats().expirations), (0, 3), "nothing dead stays");
        cache.insert("default", 4);
        client.advance(20 * SECOND).await;
        assert_eq!(cache.len(), 0, "looked after again");
    });
}

#[test]
fn a_cache_has_one_name_one_type_and_a_budget() {
    run(async |client| {
        let shard = client.shard();
        let weigh = |_: &u64, text: &String| text.len();
        let options = CacheOptions::new().bytes_max(100_000, weigh);
        let texts = shard.cache_with::<u64, String>("texts", options);
        shard.cache::<u64, u64>("texts").insert(1, 1); // another type: another cache
        for key in 0..1_000 {
            texts.insert(key, "x".repeat(936));
        }
        let stats = shard.cache::<u64, String>("texts").stats();
        assert_eq!((stats.entries, stats.weight, stats.evictions), (100, 100_000, 900));
        texts.insert(7, "x".repeat(200_000));
        assert!(!texts.contains(&7), "larger than all of it");
        let few = shard.cache_with::<u64, u64>("few", CacheOptions::new().entries_max(3));
        few.insert_many((0..10).map(|it| (it, it)));
        assert_eq!(few.len(), 3);
    });
}

/// A value by the shard that loads it, and a request for each thing that can be done with it.
async fn shards(shard: Shard) -> Result<App<()>> {
    let cache = shard.cache_with::<u64, usize>("owners", CacheOptions::new().entries_max(9));
    let (remove, clear) = (cache.clone(), cache);
    Ok(App::new(())
        .get("/fill", async |cx| {
            let shard = cx.shard();
            let all = shard.on_all(async |it| {
                let cache = it.cache::<u64, usize>("owners");
                let id = it.id();
                (cache.insert(8, id), cache.get_or(7, async || Ok(id)).await).1
            });
            cx.json(&all.await?)
        })
        .get("/remove", async move |cx| cx.json(&remove.remove(7).everywhere().await?))
        .get("/clear", async move |cx| cx.json(&clear.clear().everywhere().await?))
        .get("/held", async |cx| {
            let shard = cx.shard();
            let all = shard.on_all(async |it| Ok(it.cache::<u64, usize>("owners").len()));
            cx.json(&all.await?)
        }))
}

#[test]
fn what_is_removed_everywhere_is_gone_on_every_shard_when_that_returns() {
    let server = TestServer::start(3, shards);
    for (path, want) in [
        ("/fill", "[0,1,2]"), // each its own
        ("/held", "[2,2,2]"),
        ("/remove", "null"),
        ("/held", "[1,1,1]"),
        ("/fill", "[0,1,2]"),
        ("/clear", "null"),
        ("/held", "[0,0,0]"),
    ] {
        server.get(path).expect(200).text(want);
    }
}

/// What is true, and what every reader is owed: the last value whose word has been said.
#[derive(Default)]
struct Truth {
    values: [AtomicU64; KEYS],
    owed: [AtomicU64; KEYS],
}

const KEYS: usize = 12;

/// Random writers and readers on all shards at once, for a time: no read that began after a word
/// was said finds what was before it. Loads read the truth, and take their time afterwards.
#[test]
fn no_read_is_older_than_the_last_word_before_it() {
    async fn churn(
        shard: Shard,
        truth: Arc<Truth>,
        mut seed: u64,
        options: Options,
    ) -> Result<u64> {
        let cache = shard.cache_with::<String, u64>("truth", options());
        let mut reads = 0;
        for _ in 0..3_000 {
            let at = random(&mut seed) as usize % KEYS;
            let key = format!("group:{}:{at}", at % 3);
            let tag = format!("tag {}", at % 4);
            if !random(&mut seed).is_multiple_of(8) {
                let owed = truth.owed[at].load(SeqCst);
                let (source, own, pause) = (truth.clone(), shard.clone(), random(&mut seed) % 4);
                let load = async move |shard: Shard| {
                    let value = source.values[at].load(SeqCst);
                    if pause == 0 {
                        shard.sleep(Duration::from_micros(300)).await; // words come meanwhile
                    }
                    Ok(value)
                };
                let value = match random(&mut seed) % 4 {
                    0 => cache.get(&key),
                    3 => Some(cache.get_or_once(key, async move |it, _| load(it).await).await?),
                    1 => Some(cache.get_or_tagged(key, &[&tag], async || load(own).await).await?),
                    _ => Some(cache.get_or_refresh(key, async move || load(own).await).await?),
                };
                reads += 1;
                if value.is_some_and(|it| it < owed) {
                    return Err(Error::new(500, format!("{value:?} after {owed}")));
                }
            } else {
                let group: Vec<usize> = (0..KEYS).filter(|it| it % 3 == at % 3).collect();
                let about = match random(&mut seed) % 16 {
                    0..8 => vec![at],
                    8..15 => group,
                    _ => (0..KEYS).collect(),
                };
                let values: Vec<u64> =
                    about.iter().map(|it| truth.values[*it].fetch_add(1, SeqCst) + 1).collect();
                match (about.len(), random(&mut seed) % 2) {
                    (1, 0) => cache.remove(key),
                    (1, _) => cache.invalidate(&key),
                    (KEYS, _) => cache.clear(),
                    (_, 0) => cache.invalidate(&format!("group:{}:*", at % 3)),
                    _ => cache.invalidate(&format!("*:{}:*", at % 3)),
                };
                for (at, value) in about.into_iter().zip(values) {
                    truth.owed[at].fetch_max(value, SeqCst);
                }
            }
            if random(&mut seed).is_multiple_of(16) {
                give_way().await; // others of the shard have a turn
            }
        }
        Ok(reads)
    }
    type Options = fn() -> CacheOptions<String, u64>;
    let plain: Options = || CacheOptions::new().entries_max(8);
    let shared: Options = || CacheOptions::new().entries_max(4).shared(64);
    for (shards, options) in [(2, plain), (4, plain), (2, shared), (4, shared)] {
        let truth = Arc::<Truth>::default();
        let app = async move |_| {
            Ok(App::new(()).get("/", async move |cx: &Ctx<()>| {
                let (shard, truth) = (cx.shard(), truth.clone());
                let all = shard.on_all(async move |it| {
                    let (own, source) = (it.clone(), truth.clone());
                    let seed = 0x9e37_79b9 + it.id() as u64;
                    let beside = Rc::new(Cell::new(None));
                    let done = beside.clone();
                    let task = it.spawn(async move {
                        let churned = churn(own, source, seed + 1_000, options).await;
                        done.set(Some(churned));
                    });
                    let reads = churn(it, truth.clone(), seed, options).await?;
                    task.ended().await;
                    Ok(reads + beside.take().expect("it ended")?)
                });
                cx.json(&all.await?)
            }))
        };
        let server = TestServer::start(shards, app);
        let reads: Vec<u64> = server.get("/").expect(200).json();
        assert!(reads.iter().sum::<u64>() > 4_000 * shards as u64, "{reads:?}");
    }
}

#[test]
fn one_load_for_all_shards_where_that_is_asked_for() {
    for shared in [0, 1_000] {
        let loads = Arc::new(AtomicU64::new(0));
        let counted = loads.clone();
        let app = async move |_| {
            Ok(App::new(()).get("/", async move |cx: &Ctx<()>| {
                let (shard, loads) = (cx.shard(), counted.clone());
                let all = shard.on_all(async move |it| {
                    let options = CacheOptions::new().entries_max(9);
                    let options = if shared > 0 { options.shared(shared) } else { options };
                    let cache = it.cache_with::<u64, u64>("once", options);
                    let got = Rc::new(Own::new(Vec::new()));
                    let tasks: Vec<_> = (0..300)
                        .map(|_| {
                            let (cache, loads, got) = (cache.clone(), loads.clone(), got.clone());
                            it.spawn(async move {
                                let load = async move |it: Shard, key| {
                                    loads.fetch_add(1, SeqCst);
                                    it.sleep(Duration::from_millis(20)).await; // the others come
                                    Ok(key * 7)
                                };
                                let value = cache.get_or_once(6, load).await;
                                got.with(|it| it.push(value.ok()));
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.ended().await;
                    }
                    assert_eq!(cache.get(&6), Some(42), "here too");
                    Ok(got.take().into_iter().filter(|it| *it == Some(42)).count())
                });
                cx.json(&all.await?)
            }))
        };
        let server = TestServer::start(3, app);
        server.get("/").expect(200).text("[300,300,300]");
        assert_eq!(loads.load(SeqCst), 1);
    }
}

#[test]
fn what_one_shard_has_loaded_the_others_find_beneath() {
    async fn app(shard: Shard) -> Result<App<()>> {
        let minute = 60 * SECOND;
        let options = CacheOptions::new().entries_max(1).shared(1_000).ttl(minute);
        let cache = shard.cache_with::<String, usize>("beneath", options);
        let forget = cache.clone();
        Ok(App::new(())
            .get("/load", async move |cx| {
                let (cache, mut got) = (cache.clone(), Vec::new());
                for key in ["a:1", "a:2", "b:1"] {
                    let id = cx.shard().id();
                    got.push(cache.get_or(key.to_owned(), async || Ok(id)).await?);
                }
                cx.json(&(cx.shard().id(), got, cache.stats().loads))
            })
            .get("/forget/*pattern", async move |cx| {
                forget.invalidate(cx.param("pattern")?);
                cx.empty()
            }))
    }
    let server = TestServer::start(2, app);
    type Row = (usize, Vec<usize>, u64);
    // The kernel chooses the shard of a connection: until both were asked.
    let both = || {
        let mut rows: [Option<Row>; 2] = [None, None];
        while rows.iter().any(Option::is_none) {
            let row: Row = server.get("/load").expect(200).json();
            let id = row.0;
            rows[id] = Some(row);
        }
        rows.map(|it| it.expect("both"))
    };
    let [zero, one] = both();
    assert_eq!((&zero.1, zero.2 + one.2), (&one.1, 3), "{zero:?} {one:?}");
    server.get("/forget/a:*").expect(204);
    let [zero, one] = both();
    assert_eq!((&zero.1, zero.2 + one.2), (&one.1, 5), "{zero:?} {one:?}");
    server.get("/forget/*").expect(204);
    let [zero, one] = both();
    assert_eq!((&zero.1, zero.2 + one.2), (&one.1, 8), "{zero:?} {one:?}");
}

async fn give_way() {
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn what_has_a_tag_goes_with_it_and_so_does_what_is_on_its_way() {
    run(async |client| {
        let (shard, source) = (client.shard(), Source::default());
        let cache = shard.cache::<u64, u64>("tagged");
        cache.insert_tagged(1, 1, &["a"]);
        cache.insert_tagged(2, 2, &["a", "b"]);
        cache.insert(3, 3);
        cache.invalidate_tag("b");
        let there = || [1, 2, 3].map(|key| cache.contains(&key));
        assert_eq!(there(), [true, false, true]);
        cache.insert(2, 4); // the new word has no tags
        cache.invalidate_tag("b");
        cache.invalidate_tag("a");
        assert_eq!((there(), cache.get(&2), cache.take(&1)), ([false, true, true], Some(4), None));
        for (tag, kept) in [("mine", false), ("another", true)] {
            let (own, loads, loaded) = (shard.clone(), source.clone(), cache.clone());
            shard.spawn(async move {
                let load = async || loads.load(&own, 9).await;
                assert_eq!(loaded.get_or_tagged(9, &["mine"], load).await.expect("loaded"), 9);
            });
            client.advance(SECOND / 2).await;
            cache.invalidate_tag(tag);
            client.advance(SECOND).await;
            assert_eq!(cache.contains(&9), kept, "{tag}");
        }
    });
}

thread_local! {
    static ASKED: Cell<Option<&'static str>> = const { Cell::new(None) };
    static DROPS: RefCell<Option<Cache<u64, Asks>>> = const { RefCell::new(None) };
}

/// A value whose end is of interest to its own cache.
struct Asks(&'static str);

impl Drop for Asks {
    fn drop(&mut self) {
        let cache = DROPS.with_borrow(Clone::clone);
        if let Some(cache) = cache {
            let (_, there) = (cache.with(&1, |_| ()), cache.contains(&2));
            cache.update(&3, |_| assert!(!there));
            ASKED.set(Some(self.0));
        }
    }
}

#[test]
fn a_drop_may_ask_the_same_cache() {
    run(async |client| {
        let shard = client.shard();
        let options = || CacheOptions::new().entries_max(2).ttl(SECOND);
        let cache = shard.cache_with::<u64, Asks>("drops", options());
        DROPS.set(Some(cache.clone()));
        for (what, end) in [
            ("replaced", (|it| it.insert(7, Asks("new"))) as fn(&Cache<u64, Asks>)),
            ("thrown out", |it| (8..12).for_each(|key| it.insert(key, Asks("more")))),
            ("removed", |it| _ = it.remove(7)),
            ("cleared", |it| _ = it.clear()),
            ("a tag", |it| (_ = it.invalidate_tag("t"), _ = it.with(&7, |_| ())).0),
            ("of age", |_| {}),
        ] {
            cache.insert_tagged(7, Asks(what), &["t"]);
            end(&cache);
            client.advance(3 * SECOND).await; // those that are left die
            assert!(ASKED.take().is_some() && cache.is_empty(), "{what}");
        }
        let heavy = CacheOptions::new().bytes_max(0, |_, _| usize::MAX);
        DROPS.set(Some(shard.cache_with::<u64, Asks>("heavy", heavy)));
        DROPS.with_borrow(Clone::clone).expect("set").insert(1, Asks("too heavy"));
        assert_eq!(ASKED.take(), Some("too heavy"));
        DROPS.set(None);
    });
}

type Agains = Cache<u64, Arc<Again>>;

thread_local!(static BENEATH: RefCell<Option<Agains>> = const { RefCell::new(None) });

/// A value that has another one take its place, once.
struct Again(bool);

impl Drop for Again {
    fn drop(&mut self) {
        let cache = BENEATH.with_borrow(Clone::clone);
        if let Some(cache) = cache.filter(|_| self.0) {
            cache.insert(1, Arc::new(Again(false)));
        }
    }
}

#[test]
fn a_drop_may_store_what_is_kept_for_all_shards() {
    run(async |client| {
        let shard = client.shard();
        let cache = shard.cache_with("again", CacheOptions::new().shared(64));
        BENEATH.set(Some(cache.clone()));
        cache.insert(1, Arc::new(Again(true)));
        cache.take(&1); // beneath is the last one
        cache.insert(1, Arc::new(Again(false)));
        cache.insert(1, Arc::new(Again(true)));
        cache.take(&1);
        cache.remove(1);
        assert!(cache.contains(&1), "stored by the drop");
        BENEATH.set(None);
    });
}

#[test]
fn times_and_sizes_beyond_all_measure() {
    run(async |client| {
        let (shard, most) = (client.shard(), Duration::MAX);
        let options = || CacheOptions::<u64, u64>::new();
        for (name, options, lives) in [
            ("ttl", options().ttl(most), true),
            ("idle", options().idle(most), true),
            ("ttl and stale", options().ttl(most).stale(most).idle(most), true),
            ("stale", options().ttl(SECOND).stale(most), true),
            ("none", options().ttl(Duration::ZERO), false),
            ("few", options().entries_max(0).shared(0), true),
            ("no room", options().bytes_max(0, |_, _| 0), false),
            ("heavy", options().bytes_max(u64::MAX, |_, _| usize::MAX), true),
        ] {
            let cache = shard.cache_with(name, options);
            cache.insert(1, 1);
            assert_eq!(cache.get(&1).is_some(), lives, "{name}");
            cache.insert_with(1, 2, Ttl::After(most));
            client.advance(3 * SECOND).await;
            assert_eq!(cache.get(&1), (name != "no room").then_some(2), "{name}");
            assert_eq!(cache.extend(&1, Ttl::After(most)), name != "no room", "{name}");
            assert!(cache.get_or(3, async || Ok(3)).await.is_ok_and(|it| it == 3), "{name}");
        }
        // What is given out for ever is loaded anew all the same.
        let cache = shard.cache::<u64, u64>("stale");
        cache.insert(1, 1);
        client.advance(2 * SECOND).await;
        assert_eq!(cache.get_or_refresh(1, async || Ok(2)).await.ok(), Some(1));
        client.advance(SECOND / 2).await;
        assert_eq!(cache.get(&1), Some(2));
    });
}

#[test]
fn who_waits_for_a_load_that_fails_has_its_fields_too() {
    async fn failing(cx: &Ctx<()>) -> Result<Reply> {
        let (shard, cache) = (cx.shard(), cx.shard().cache::<u64, u64>("busy"));
        let leader = cache.clone();
        cx.shard().spawn(async move {
            let load = async || {
                shard.sleep(SECOND).await; // virtual time: so that the other waits
                Err(Error::new(503, "later").set("retry-after", "7").because("a secret"))
            };
            _ = leader.get_or(1, load).await;
        });
        cx.shard().sleep(SECOND / 2).await; // virtual time
        let waited = cache.get_or(1, async || Ok(1)).await;
        cx.json(&waited.inspect_err(|error| assert!(error.to_string().contains("a secret")))?)
    }
    TestClient::run(
        async |_| Ok(App::new(()).get("/", failing)),
        async |client| {
            client.get("/").await.expect(503).has("retry-after", "7").text("later");
        },
    );
}

/// A key that cannot be hashed where that is said.
#[derive(Clone, PartialEq, Eq)]
struct Fragile(u64);

thread_local!(static BREAKS: Cell<bool> = const { Cell::new(false) });

impl Hash for Fragile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(self.0 != 1 || !BREAKS.get(), "on purpose");
        self.0.hash(state);
    }
}

/// Runs `first` on one shard, `then` on another while that waits, `last` on the first again.
fn in_turns(
    first: impl Fn(&Shard) + Send + Clone + 'static,
    then: impl Fn(&Shard) + Send + Clone + 'static,
    last: impl Fn(&Shard) -> bool + Send + Clone + 'static,
) {
    let server = TestServer::start(2, async move |_| {
        let (first, then, last) = (first.clone(), then.clone(), last.clone());
        Ok(App::new(()).get("/", async move |cx: &Ctx<()>| {
            let (shard, step) = (cx.shard(), Arc::new(AtomicU64::new(0)));
            let (first, last, turn, there) =
                (first.clone(), last.clone(), step.clone(), shard.clone());
            let good = Rc::new(Cell::new(false));
            let done = good.clone();
            let task = shard.spawn(async move {
                let work = async move |it: Shard| {
                    first(&it);
                    turn.store(1, SeqCst);
                    while turn.load(SeqCst) != 2 {
                        std::thread::yield_now(); // it hears nothing meanwhile
                    }
                    Ok(last(&it))
                };
                done.set(there.on(1 - there.id(), work).await.expect("it ran"));
            });
            while step.load(SeqCst) != 1 {
                shard.sleep(Duration::from_millis(1)).await; // the other shard has its turn
            }
            then(&shard);
            step.store(2, SeqCst);
            task.ended().await;
            cx.json(&good.get())
        }))
    });
    server.get("/").expect(200).text("true");
}

#[test]
fn a_key_that_panics_loses_no_word() {
    let cache = |shard: &Shard| shard.cache::<Fragile, u64>("fragile");
    in_turns(
        move |it| (1..5).for_each(|key| cache(it).insert(Fragile(key), key)),
        move |it| (1..3).for_each(|key| _ = cache(it).remove(Fragile(key))),
        move |it| {
            BREAKS.set(true);
            let there = [2, 3].map(|key| cache(it).get(&Fragile(key)));
            BREAKS.set(false);
            cache(it).insert(Fragile(5), 5);
            // The word that could not be read was about anything.
            let (one, five) = (cache(it).get(&Fragile(1)), cache(it).get(&Fragile(5)));
            there[0].is_none() && one.is_none() && five == Some(5)
        },
    );
}

#[test]
fn a_shard_that_comes_late_finds_nothing_old_beneath() {
    let cache = |shard: &Shard| {
        shard.cache_with::<u64, u64>("late", CacheOptions::new().shared(100).entries_max(100))
    };
    in_turns(
        |_| {},
        move |it| {
            cache(it).insert_tagged(1, 1, &["t"]);
            cache(it).invalidate_tag("t");
            cache(it).remove(9); // a word about an entry makes nothing else old
            cache(it).insert(2, 2);
        },
        move |it| {
            let cache = cache(it);
            for key in [1, 2] {
                let (loaded, got) = (cache.clone(), Rc::new(Cell::new(0)));
                let set = got.clone();
                let mut load = std::pin::pin!(async move {
                    set.set(
                        loaded.get_or_tagged(key, &["t"], async || Ok(10 + key)).await.unwrap_or(0),
                    );
                });
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(load.as_mut().poll(&mut cx).is_ready());
                assert_eq!(got.get(), if key == 1 { 11 } else { 2 });
            }
            true
        },
    );
}
