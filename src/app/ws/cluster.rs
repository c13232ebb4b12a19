//! Rooms of many nodes: what one publishes reaches the others through a broker.
//!
//! One shard leads there. It hears of every publication of its node anyway, so the way out costs no
//! message more; what comes in goes to the shards as what is published here does.
//!
//! All nodes share one channel. A subscription a room would spare a node what nobody of its own
//! listens to, but there is a moment after each join in which messages are lost and nobody knows;
//! on one channel each node's messages have numbers without gaps, and what is lost is counted.

mod broker;
mod envelope;
mod inbound;
mod link;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;
mod senders;

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::publish::{self, Publication};
use super::rooms::Rooms;
use crate::error::{Error, Result};
use crate::limits::ROOM_NAME_BYTES_MAX;
use crate::limits::cluster::{
    BATCH_BYTES, BATCH_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, WAITING_BYTES_MAX, WAITING_MAX,
};
use crate::shard::{Local, Shard};
use broker::Broker;
use senders::{Heard, Senders};

/// With other nodes.
impl Shard {
    /// What is published here also reaches the rooms of all other nodes that have joined the same
    /// cluster at the same broker: a Redis from 6.0 on, or what speaks its protocol (feature
    /// `redis`, `redis://HOST:PORT`), or a NATS server (feature `nats`, `nats://HOST:PORT`). `name`
    /// keeps clusters at one broker apart. Say it where the application is built, on every shard;
    /// shard 0 then has the node's two connections.
    ///
    /// Members here go first and never wait for the broker. It may be away when the server starts,
    /// or at any time: that is logged, seen in [`cluster_stats`](Shard::cluster_stats), and mended
    /// by itself. Meanwhile 8,192 publications or 16 MiB wait for it, the oldest go for the newest.
    ///
    /// It is at most once: while a node's subscription is down it misses what the others publish.
    /// Each node's messages keep their order, none comes twice, and the gaps are counted. Presence,
    /// [`send_to`](Shard::send_to) and [`replay`](Shard::replay) are those of the node. Who may
    /// write to the broker may publish to every room.
    ///
    /// In a [`TestClient`](crate::testing::TestClient) it checks its arguments and connects with
    /// nothing.
    ///
    /// # Errors
    /// When the name is not one to 64 letters, digits, `-` or `_`; when the URL is none of a
    /// broker; when a cluster has been joined already. Not when the broker is away.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     # #[cfg(feature = "redis")]
    ///     shard.join_cluster("chat", "redis://127.0.0.1:6379")?;
    ///     Ok(App::new(()).get("/news", async |cx| cx.sse("news").await).post("/news", async |cx| {
    ///         cx.publish("news", cx.body_json::<String>().await?); // heard on every node
    ///         cx.empty()
    ///     }))
    /// }
    /// # TestClient::run(app, async |client| {
    /// #     client.post("/news").json(&"hi").await.expect(204);
    /// #     assert!(client.shard().join_cluster("no spaces", "redis://127.0.0.1").is_err());
    /// # });
    /// ```
    pub fn join_cluster(&self, name: &str, url: &str) -> Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
            let max = NAME_BYTES_MAX;
            let why = format!("cluster {name:?}: a name is 1 to {max} letters, digits, - or _");
            return Err(Error::new(500, why));
        }
        let broker = Broker::new(name, url)?;
        if self.0.id != 0 || tokio::runtime::Handle::try_current().is_err() {
            return Ok(());
        }
        let cluster = Rc::new(Cluster::new(Numbers::of(&self.0)));
        if Rooms::of(&self.0).cluster.set(cluster.clone()).is_err() {
            let why = format!("cluster {name:?}: this server has joined one already");
            return Err(Error::new(500, why));
        }
        // Not one of the tasks that `Limits::tasks_max` bounds.
        self.0.tasks.spawn(Box::pin(link::keep(cluster, self.clone(), broker)));
        Ok(())
    }

    /// What the node has sent to its cluster and heard from it; the same on every shard. All is 0
    /// where none was joined.
    ///
    /// ```
    /// use soloist::prelude::*;
    /// # use soloist::testing::TestClient;
    ///
    /// async fn health(cx: &Ctx<()>) -> Result<Reply> {
    ///     let cluster = cx.shard().cluster_stats();
    ///     cx.status(if cluster.connected { 200 } else { 503 }).json(&cluster)
    /// }
    /// # TestClient::run(async |_| Ok(App::new(()).get("/", health)), async |client| {
    /// #     client.get("/").await.expect(503);
    /// # });
    /// ```
    pub fn cluster_stats(&self) -> ClusterStats {
        Numbers::of(&self.0).now()
    }
}

/// Counters of a node in its cluster: see [`Shard::cluster_stats`].
///
/// ```
/// let stats = soloist::ClusterStats { lost: 3, ..Default::default() };
/// assert!(!stats.connected && stats.lost == 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStats {
    /// Whether both connections to the broker are there.
    pub connected: bool,
    /// Publications that the broker has taken.
    pub sent: u64,
    /// Publications of other nodes that were given to the rooms here.
    pub received: u64,
    /// The node's own that came back, and were dropped.
    pub echoes: u64,
    /// Publications of other nodes that never came: gaps in their numbers.
    pub lost: u64,
    /// Those that came a second time, and were dropped.
    pub duplicates: u64,
    /// The node's own that were not sent: thrown out of the full queue, or too large (1 MB).
    pub refused: u64,
    /// What came from the broker and is no publication, or one of an unknown version.
    pub malformed: u64,
    /// How often the connections were made anew.
    pub reconnects: u64,
    /// Publications that wait for the broker now.
    pub waiting: u64,
}

impl Serialize for ClusterStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ClusterStats", 10)?;
        fields.serialize_field("connected", &self.connected)?;
        fields.serialize_field("sent", &self.sent)?;
        fields.serialize_field("received", &self.received)?;
        fields.serialize_field("echoes", &self.echoes)?;
        fields.serialize_field("lost", &self.lost)?;
        fields.serialize_field("duplicates", &self.duplicates)?;
        fields.serialize_field("refused", &self.refused)?;
        fields.serialize_field("malformed", &self.malformed)?;
        fields.serialize_field("reconnects", &self.reconnects)?;
        fields.serialize_field("waiting", &self.waiting)?;
        fields.end()
    }
}

/// The same while they are counted: by one shard, read by all.
#[derive(Default)]
struct Numbers {
    connected: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    echoes: AtomicU64,
    lost: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    reconnects: AtomicU64,
    waiting: AtomicU64,
}

impl Numbers {
    /// Those of the server.
    fn of(local: &Local) -> Arc<Numbers> {
        let mut commons = local.commons.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = commons.entry(("cluster", TypeId::of::<Numbers>()));
        let numbers = entry.or_insert_with(|| Arc::new(Numbers::default())).clone();
        numbers.downcast().expect("the type is part of the key")
    }

    fn now(&self) -> ClusterStats {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        ClusterStats {
            connected: self.connected.load(Ordering::Relaxed),
            sent: get(&self.sent),
            received: get(&self.received),
            echoes: get(&self.echoes),
            lost: get(&self.lost),
            duplicates: get(&self.duplicates),
            refused: get(&self.refused),
            malformed: get(&self.malformed),
            reconnects: get(&self.reconnects),
            waiting: get(&self.waiting),
        }
    }
}

fn add(number: &AtomicU64, count: u64) {
    let sum = number.load(Ordering::Relaxed).saturating_add(count); // one shard writes
    number.store(sum, Ordering::Relaxed);
}

/// A node of a cluster, on the shard that leads to the others.
pub(crate) struct Cluster {
    /// Drawn at the start: what bears it is our own.
    node: u128,
    numbers: Arc<Numbers>,
    queue: RefCell<Queue>,
    /// Of the task that sends.
    waker: Cell<Option<Waker>>,
    senders: RefCell<Senders>,
}

/// What waits for the broker, each with its number.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Arc<Publication>)>,
    bytes: usize,
    last: u64,
}

impl Cluster {
    fn new(numbers: Arc<Numbers>) -> Cluster {
        let random = RandomState::new(); // its keys are the system's randomness
        let node = u128::from(random.hash_one(0)) << 64 | u128::from(random.hash_one(1));
        Cluster {
            node,
            numbers,
            queue: RefCell::default(),
            waker: Cell::default(),
            senders: RefCell::default(),
        }
    }

    /// Puts a publication behind those that wait for the broker.
    pub(crate) fn announce(&self, publication: &Arc<Publication>) {
        let mut queue = self.queue.borrow_mut();
        // One that is refused has a number too: the others see that it is missing.
        queue.last += 1;
        let number = queue.last;
        if publication.payload().len() > PAYLOAD_BYTES_MAX
            || publication.room.len() > ROOM_NAME_BYTES_MAX
        {
            add(&self.numbers.refused, 1);
            return;
        }
        queue.bytes += publication.bytes();
        queue.waiting.push_back((number, publication.clone()));
        while queue.waiting.len() > WAITING_MAX || queue.bytes > WAITING_BYTES_MAX {
            queue.pop();
            add(&self.numbers.refused, 1);
        }
        self.numbers.waiting.store(queue.waiting.len() as u64, Ordering::Relaxed);
        drop(queue);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits for publications, and moves some of them into the batch, as they are sent.
    async fn next(&self, batch: &mut Vec<Vec<u8>>) {
        poll_fn(|cx| {
            let mut queue = self.queue.borrow_mut();
            let mut bytes = 0;
            while batch.len() < BATCH_MAX
                && bytes < BATCH_BYTES
                && let Some((number, publication)) = queue.pop()
            {
                let sealed = envelope::seal(self.node, number, &publication);
                bytes += sealed.len();
                batch.push(sealed);
            }
            self.numbers.waiting.store(queue.waiting.len() as u64, Ordering::Relaxed);
            if batch.is_empty() {
                self.waker.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Takes in what has come from the broker, whatever it is.
    fn hear(&self, local: &Rc<Local>, bytes: &[u8]) {
        let numbers = &*self.numbers;
        let Some(envelope) = envelope::open(bytes) else { return add(&numbers.malformed, 1) };
        if envelope.node == self.node {
            return add(&numbers.echoes, 1);
        }
        match self.senders.borrow_mut().hear(envelope.node, envelope.number) {
            Heard::Again => return add(&numbers.duplicates, 1),
            Heard::Behind { lost } => add(&numbers.lost, lost),
        }
        add(&numbers.received, 1);
        let publication = Publication::foreign(
            local,
            envelope.room,
            envelope.kind,
            envelope.key,
            envelope.id,
            envelope.payload,
        );
        publish::spread(local, &publication, None);
    }
}

impl Queue {
    fn pop(&mut self) -> Option<(u64, Arc<Publication>)> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.1.bytes();
        Some(first)
    }
}
