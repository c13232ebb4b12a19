//! Caches over a store in memory, on a virtual clock: in which order words, stamps and values reach
//! it, and what becomes of them. Caches of one name and of two types are two nodes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use soloist::prelude::*;
use soloist::testing::TestClient;
use soloist::{
    Cache, CacheOptions, Heard, Hearing, Memcached, Remote, RemoteError, RemoteFuture, RemoteStats,
};

const SECOND: Duration = Duration::from_secs(1);
const KEY_BYTES_MAX: usize = 64;

/// A store, and what is wrong with it.
#[derive(Clone)]
struct Fake(Rc<Inner>);

type Value = (Vec<u8>, u64);
type Told = Rc<dyn Fn(&Heard)>;

struct Inner {
    shard: Shard,
    /// Each with the moment of its end.
    values: RefCell<HashMap<Vec<u8>, Value>>,
    tells: bool,
    told: RefCell<Vec<Told>>,
    refuses_writes: Cell<bool>,
    /// Values are stored, and nobody hears that they were.
    is_mute: Cell<bool>,
    writes: Cell<u64>,
    ears: Memcached,
}

impl Fake {
    fn new(shard: &Shard, tells: bool) -> Fake {
        Fake(Rc::new(Inner {
            shard: shard.clone(),
            values: RefCell::default(),
            tells,
            told: RefCell::default(),
            refuses_writes: Cell::new(false),
            is_mute: Cell::new(false),
            writes: Cell::new(0),
            ears: Memcached::connect(shard, "127.0.0.1:1").expect("an address"),
        }))
    }

    fn tell(&self, heard: &Heard) {
        self.0.told.borrow().iter().for_each(|told| told(heard));
    }

    fn write(&self, key: &[u8]) -> Result<()> {
        self.0.writes.set(self.0.writes.get() + 1);
        if key.len() > KEY_BYTES_MAX {
            let error = RemoteError::Key { bytes: key.len(), bytes_max: KEY_BYTES_MAX };
            return Err(Error::from(error));
        }
        match self.0.refuses_writes.get() {
            true => Err(Error::new(503, "away").because(RemoteError::TimedOut { ms: 1 })),
            false => Ok(()),
        }
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let values = self.0.values.borrow();
        let (value, until_ms) = values.get(key)?;
        (*until_ms > self.0.shard.now_ms()).then(|| value.clone())
    }
}

impl Remote for Fake {
    fn get<'a>(&'a self, key: &'a [u8]) -> RemoteFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move { Ok(self.value(key)) })
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            if let Some(key) = keys.iter().find(|it| it.len() > KEY_BYTES_MAX) {
                self.write(key)?;
            }
            Ok(keys.iter().map(|key| self.value(key)).collect())
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: &'a [u8],
        ttl: Option<Duration>,
    ) -> RemoteFuture<'a, ()> {
        Box::pin(async move {
            self.write(key)?;
            let ttl_ms = ttl.map_or(u64::MAX, |it| it.as_millis() as u64);
            let until_ms = self.0.shard.now_ms().saturating_add(ttl_ms);
            self.0.values.borrow_mut().insert(key.to_vec(), (value.to_vec(), until_ms));
            match self.0.is_mute.get() && key.starts_with(b"items/v/") {
                true => Err(Error::new(503, "late").because(RemoteError::TimedOut { ms: 1 })),
                false => Ok(()),
            }
        })
    }

    fn remove<'a>(&'a self, keys: &'a [&'a [u8]]) -> RemoteFuture<'a, ()> {
        Box::pin(async move {
            for key in keys {
                self.write(key)?;
                self.0.values.borrow_mut().remove(*key);
            }
            Ok(())
        })
    }

    fn hear(&self, told: Box<dyn Fn(&Heard)>) -> Hearing {
        self.0.told.borrow_mut().push(told.into());
        self.0.ears.hear(Box::new(|_| {})) // to be held
    }

    fn hears(&self) -> bool {
        self.0.tells
    }

    fn tells(&self) -> bool {
        self.0.tells
    }

    fn stats(&self) -> RemoteStats {
        self.0.ears.stats()
    }
}

type Key = String;

/// Two nodes over one store.
struct Nodes {
    store: Fake,
    one: Cache<Key, u64>,
    two: Cache<Key, i64>,
}

fn run(tells: bool, test: impl AsyncFnOnce(&TestClient, &Nodes)) {
    TestClient::run(
        async |_| Ok(App::new(())),
        async |client| {
            let (shard, store) = (client.shard(), Fake::new(&client.shard(), tells));
            let minute = 60 * SECOND;
            let options = CacheOptions::new().ttl(60 * minute).stale(60 * minute);
            let one = shard.cache_with("items", options).over(store.clone());
            let options = CacheOptions::new().ttl(60 * minute).stale(60 * minute);
            let two = shard.cache_with("items", options).over(store.clone());
            test(client, &Nodes { store, one, two }).await;
        },
    );
}

fn a() -> Key {
    "a".to_owned()
}

/// A load that begins now and gives `value` after `time`.
fn slow_load(client: &TestClient, cache: &Cache<Key, i64>, time: Duration, value: i64) {
    let (own, cache) = (client.shard(), cache.clone());
    client.shard().spawn(async move {
        let load = async || {
            own.sleep(time).await; // virtual time
            Ok(value)
        };
        assert_eq!(cache.get_or(a(), load).await.ok(), Some(value));
    });
}

async fn settle(client: &TestClient) {
    client.advance(Duration::from_millis(5)).await; // tasks beside have their turn
}

#[test]
fn a_slow_load_of_another_node_does_not_come_back_when_the_word_is_forgotten() {
    for (load_s, flushed) in [(2, false), (130, false), (2, true)] {
        run(false, async |client, Nodes { store, one, two }| {
            one.get_or("warm".to_owned(), async || Ok(0)).await.expect("loaded");
            slow_load(client, two, load_s * SECOND, 1);
            client.advance(SECOND).await;
            one.remove(a()).everywhere().await.expect("told");
            if flushed {
                store.0.values.borrow_mut().clear();
            }
            client.advance(load_s * SECOND).await;
            let what = format!("{load_s} {flushed}");
            client.advance(130 * SECOND).await; // the word about the key is not kept so long
            assert_eq!(one.get_or(a(), async || Ok(2)).await.ok(), Some(2), "{what}");
        });
    }
}

#[test]
fn a_value_that_may_have_been_stored_is_taken_out() {
    run(false, async |client, Nodes { store, one, two }| {
        store.0.is_mute.set(true);
        slow_load(client, two, 2 * SECOND, 1);
        client.advance(SECOND).await;
        one.remove(a()).everywhere().await.expect("told");
        client.advance(2 * SECOND).await;
        client.advance(130 * SECOND).await; // the word about the key is not kept so long
        assert_eq!(one.get_or(a(), async || Ok(2)).await.ok(), Some(2));
    });
}

#[test]
fn a_value_that_is_written_late_is_not_stored() {
    run(false, async |client, Nodes { store, one, two }| {
        store.0.refuses_writes.set(true);
        let writer = one.clone();
        client.shard().spawn(async move { _ = writer.write(a(), 1).await });
        client.advance(2 * SECOND).await;
        two.remove(a()); // meanwhile it has become another one
        store.0.refuses_writes.set(false);
        client.advance(10 * SECOND).await;
        assert_eq!(two.get_or(a(), async || Ok(2)).await.ok(), Some(2));
        // One that was stored at once is there for the other.
        one.write(a(), 3).await.expect("told");
        two.take("a");
        assert_eq!(two.get_or(a(), async || Ok(4)).await.ok(), Some(3));
    });
}

#[test]
fn a_store_that_has_not_heard_a_word_is_not_asked() {
    run(false, async |client, Nodes { store, one, two }| {
        one.get_or(a(), async || Ok(1)).await.expect("loaded");
        settle(client).await;
        assert_eq!(two.get_or(a(), async || Ok(2)).await.ok(), Some(1), "it is there");
        store.0.refuses_writes.set(true);
        for count in [1, 25_000] {
            (0..count).for_each(|_| _ = one.remove(a())); // too many become one
            assert_eq!(one.get_or(a(), async || Ok(3)).await.ok(), Some(3), "{count}");
            client.advance(SECOND).await;
            assert_eq!(one.take("a"), Some(3));
        }
        store.0.refuses_writes.set(false);
        let before = store.0.writes.get();
        client.advance(5 * SECOND).await;
        assert!(store.0.writes.get() - before < 25_000, "collapsed");
        one.get_or(a(), async || Ok(4)).await.expect("loaded");
        settle(client).await;
        one.take("a");
        assert_eq!(one.get_or(a(), async || Ok(5)).await.ok(), Some(4), "it is asked again");
    });
}

#[test]
fn a_key_that_the_store_does_not_take_holds_up_nothing() {
    run(false, async |client, Nodes { one, two, .. }| {
        let long = "x".repeat(KEY_BYTES_MAX);
        (0..100).for_each(|_| _ = one.remove(long.clone()));
        one.invalidate_tag(&long).everywhere().await.expect("nothing to be told");
        one.remove(long.clone()).everywhere().await.expect("nothing to be told");
        assert_eq!(one.get_or(long, async || Ok(7)).await.ok(), Some(7));
        one.get_or(a(), async || Ok(1)).await.expect("loaded");
        settle(client).await;
        assert_eq!(two.get_or(a(), async || Ok(2)).await.ok(), Some(1), "it is asked");
    });
}

#[test]
fn what_is_old_is_not_renewed_by_what_is_as_old_there() {
    run(false, async |client, Nodes { one, .. }| {
        one.get_or(a(), async || Ok(1)).await.expect("loaded");
        client.advance(61 * 60 * SECOND).await;
        assert_eq!(one.get_or_refresh(a(), async || Ok(2)).await.ok(), Some(1));
        settle(client).await;
        assert_eq!(one.get("a"), Some(2));
        one.take("a");
        assert_eq!(one.get_or(a(), async || Ok(3)).await.ok(), Some(2), "there too");
    });
}

#[test]
fn a_store_that_tells_is_asked_while_it_is_heard() {
    run(true, async |client, Nodes { store, one, two }| {
        let changed = |key: &str| Heard::Changed(vec![format!("items/{key}").into_bytes()]);
        for (heard, asked) in [
            (None, false),
            (Some(Heard::Everything), true),
            (Some(changed("t/x")), true),
            (Some(Heard::Nothing), false),
            (Some(Heard::Everything), true),
        ] {
            if let Some(heard) = &heard {
                store.tell(heard);
            }
            one.remove(a());
            two.remove(a());
            settle(client).await;
            one.get_or(a(), async || Ok(1)).await.expect("loaded");
            settle(client).await;
            let got = two.get_or(a(), async || Ok(2)).await.ok();
            assert_eq!(got, Some(if asked { 1 } else { 2 }), "{heard:?}");
        }
        // What is named, near, is gone.
        for (about, gone) in [("k/a", true), ("k/b", false), ("p/", true), ("v/a", false)] {
            one.insert(a(), 1);
            store.tell(&changed(about));
            assert_eq!(one.contains("a"), !gone, "{about}");
        }
    });
}
