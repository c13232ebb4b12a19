//! One message for many: here first, then one message to each other shard.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{cell::Cell, rc::Rc};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::message::Message;
use super::rooms::{Rooms, SocketId};
use crate::app::ctx::Ctx;
use crate::app::mailbox::{self, Message as Letter};
use crate::base::counters::Count;
use crate::error::Result;
use crate::limits::PUBLISH_WAITING_MAX;
use crate::shard::{Local, Shard};
use crate::ws::deflate::{Deflater, WINDOW_BITS_MAX};
use crate::ws::{Kind, frame};

/// A message on its way to a room: encoded once, compressed once for each window, shared by all
/// shards.
pub(crate) struct Publication {
    pub(crate) room: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) key: u64,
    /// The frame as it leaves.
    pub(crate) plain: Arc<[u8]>,
    payload_from: usize,
    squeezed: [OnceLock<Arc<[u8]>>; WINDOW_BITS_MAX as usize - 8],
    pub(crate) id: PublicationId,
    /// Another node has published it: it goes to the shards of this one, and no further.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) is_foreign: bool,
}

/// What clients that come back name it by: the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicationId {
    /// Drawn when the process began to publish: ids of another life, or of another node, are not
    /// mistaken for ours.
    pub(crate) epoch: u64,
    pub(crate) shard: u32,
    pub(crate) serial: u64,
}

impl PublicationId {
    /// One that was never given before.
    fn next(local: &Local) -> PublicationId {
        thread_local! {
            static SERIAL: Cell<u64> = const { Cell::new(0) };
        }
        static EPOCH: OnceLock<u64> = OnceLock::new();
        let serial = SERIAL.get() + 1;
        SERIAL.set(serial);
        // Its keys are the system's randomness.
        let epoch = *EPOCH.get_or_init(|| RandomState::new().hash_one(local.clock.unix_secs()));
        PublicationId { epoch, shard: local.id as u32, serial }
    }
}

impl Publication {
    fn new(local: &Local, room: &str, message: &Message) -> Arc<Publication> {
        let id = PublicationId::next(local);
        let (kind, key) = (message.kind, message.key);
        Arc::new(Publication::of(local, room, kind, key, id, message.bytes()))
    }

    /// One that another node has sent.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) fn foreign(
        local: &Local,
        room: &str,
        kind: Kind,
        key: u64,
        id: PublicationId,
        payload: &[u8],
    ) -> Arc<Publication> {
        let publication = Publication::of(local, room, kind, key, id, payload);
        Arc::new(Publication { is_foreign: true, ..publication })
    }

    fn of(
        local: &Local,
        room: &str,
        kind: Kind,
        key: u64,
        id: PublicationId,
        payload: &[u8],
    ) -> Publication {
        let mut plain = local.spares.take();
        frame::whole(&mut plain, kind.opcode(), false, payload);
        let publication = Publication {
            room: room.into(),
            kind,
            key,
            plain: plain.as_slice().into(),
            payload_from: plain.len() - payload.len(),
            squeezed: [const { OnceLock::new() }; WINDOW_BITS_MAX as usize - 8],
            id,
            #[cfg(any(feature = "nats", feature = "redis"))]
            is_foreign: false,
        };
        local.spares.give(plain);
        publication
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.plain[self.payload_from..]
    }

    /// Bytes that it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.plain.len() + self.room.len() + size_of::<Publication>()
    }

    /// Its name for clients that come back.
    pub(crate) fn id(&self) -> String {
        format!("{:x}-{:x}-{:x}", self.id.epoch, self.id.shard, self.id.serial)
    }

    /// The frame compressed with an empty window; none if it is not worth it. Whoever asks first
    /// compresses; all others have it for nothing.
    pub(crate) fn squeezed(
        &self,
        window_bits: u8,
        level: u32,
        bytes_min: usize,
    ) -> Option<&Arc<[u8]>> {
        if self.payload().len() < bytes_min {
            return None;
        }
        let cell = &self.squeezed[usize::from(window_bits) - 9];
        Some(cell.get_or_init(|| {
            let (mut squeezed, mut out) = (Vec::new(), Vec::new());
            Deflater::new(level, window_bits).add(self.payload(), true, &mut squeezed);
            frame::whole(&mut out, self.kind.opcode(), true, &squeezed);
            out.into()
        }))
    }
}

/// Who is in a room, over all shards.
///
/// ```
/// # use soloist::prelude::*;
/// # async fn crowd(cx: &Ctx<()>) -> Result<Reply> {
/// let presence = cx.shard().presence("lobby").await?;
/// let names: Vec<&str> = presence.names.iter().map(|(_, name)| name.as_str()).collect();
/// println!("{} are here, among them {names:?}", presence.count);
/// cx.json(&presence) // `{"count":2,"names":[["0-1-1","ann"]]}`
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Sockets and event streams in the room.
    pub count: usize,
    /// Those that have [a name](crate::Ws::set_name), at most 1,000 of each shard.
    pub names: Vec<(SocketId, String)>,
}

/// `{"count":2,"names":[["0-1-1","ann"]]}`: a count of all, and those that have a name.
impl Serialize for Presence {
    fn serialize<T: Serializer>(&self, to: T) -> std::result::Result<T::Ok, T::Error> {
        let mut fields = to.serialize_struct("Presence", 2)?;
        fields.serialize_field("count", &self.count)?;
        fields.serialize_field("names", &self.names)?;
        fields.end()
    }
}

impl Shard {
    /// Sends a message to everyone in a room, on every shard: WebSockets, and event streams of
    /// [`Ctx::sse`]. Those of this shard have it in their outboxes when this returns; each other
    /// shard gets one message. Messages of one shard keep their order. In a cluster
    /// (`Shard::join_cluster`, feature `redis` or `nats`) it reaches the other nodes too.
    ///
    /// Nobody is waited for: who is behind is treated as the route's
    /// [`when_full`](crate::WsOptions::when_full) says. Where the queue to another shard is full,
    /// 4,096 messages wait for it; more are lost, which is counted as `publish_lost`.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use std::time::Duration;
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     if shard.id() == 0 {
    ///         let ticker = shard.clone();
    ///         shard.spawn(async move {
    ///             let mut seconds = ticker.interval(Duration::from_secs(1));
    ///             loop {
    ///                 seconds.tick().await;
    ///                 ticker.publish("time", ticker.now_ms().to_string());
    ///             }
    ///         });
    ///     }
    ///     Ok(App::new(()).get("/time", async |cx| cx.sse("time").await))
    /// }
    /// ```
    pub fn publish(&self, room: &str, message: impl Into<Message>) {
        publish(&self.0, room, &message.into(), None);
    }

    /// Sends a message to one socket, on whatever shard it is; one that is gone gets none.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # use soloist::SocketId;
    /// async fn nudge(cx: &Ctx<()>) -> Result<Reply> {
    ///     let to: SocketId = cx.parse("socket")?;
    ///     cx.shard().send_to(to, "are you there?");
    ///     cx.status(202).empty()
    /// }
    /// ```
    pub fn send_to(&self, socket: SocketId, message: impl Into<Message>) {
        let local = &self.0;
        let publication = Publication::new(local, "", &message.into());
        match socket.shard as usize {
            shard if shard == local.id => Rooms::of(local).deliver_to(socket, &publication),
            shard => post(local, shard, Letter::Direct(socket, publication)),
        }
    }

    /// Who is in a room, over all shards: each is asked.
    ///
    /// # Errors
    /// When a shard does not answer: see [`on_all`](Shard::on_all).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn crowd(cx: &Ctx<()>) -> Result<Reply> {
    ///     let presence = cx.shard().presence("lobby").await?;
    ///     cx.text(format!("{} are here", presence.count))
    /// }
    /// ```
    pub async fn presence(&self, room: &str) -> Result<Presence> {
        let room: Arc<str> = room.into();
        let each = self.on_all(async move |there: Shard| Ok(Rooms::of(&there.0).presence(&room)));
        let mut all = Presence::default();
        for (count, names) in each.await? {
            all.count += count;
            all.names.extend(names);
        }
        Ok(all)
    }

    /// Keeps the last `count` messages of a room for those who join it later: a name, or a prefix
    /// before a `*`. A shard keeps 4 MiB in all; beyond it rooms keep fewer. Say it where the
    /// application is built, so that every shard keeps them.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn app(shard: Shard) -> Result<App<()>> {
    ///     shard.replay("prices/*", 1); // whoever joins has the last price at once
    ///     Ok(App::new(()))
    /// }
    /// ```
    pub fn replay(&self, room: &str, count: usize) {
        Rooms::of(&self.0).keep(room, count);
    }
}

/// To others.
impl<S> Ctx<S> {
    /// Sends a message to everyone in a room, on every shard: see [`Shard::publish`].
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// async fn announce(cx: &Ctx<()>) -> Result<Reply> {
    ///     let text: String = cx.body_json().await?;
    ///     cx.publish("news", text);
    ///     cx.status(202).empty()
    /// }
    /// ```
    pub fn publish(&self, room: &str, message: impl Into<Message>) {
        publish(&self.core.local, room, &message.into(), None);
    }
}

pub(crate) fn publish(local: &Rc<Local>, room: &str, message: &Message, except: Option<SocketId>) {
    spread(local, &Publication::new(local, room, message), except);
}

/// Gives a publication to the members here, then to the other shards.
pub(crate) fn spread(local: &Rc<Local>, publication: &Arc<Publication>, except: Option<SocketId>) {
    arrive(local, publication, except);
    for shard in (0..local.count).filter(|it| *it != local.id) {
        post(local, shard, Letter::Publish(publication.clone()));
    }
}

/// It is here: for the members of its room, and for the other nodes where this shard leads there.
pub(crate) fn arrive(local: &Rc<Local>, publication: &Arc<Publication>, except: Option<SocketId>) {
    let rooms = Rooms::of(local);
    rooms.deliver(publication, except);
    #[cfg(any(feature = "nats", feature = "redis"))]
    if !publication.is_foreign
        && let Some(cluster) = rooms.cluster.get()
    {
        cluster.announce(publication);
    }
}

/// Sends a letter in its turn: behind those that wait for the same shard.
fn post(local: &Rc<Local>, shard: usize, letter: Letter) {
    if shard >= local.count {
        return;
    }
    let rooms = Rooms::of(local);
    let mut waiting = rooms.waiting.borrow_mut();
    waiting.resize_with(local.count, Default::default);
    if waiting[shard].len() >= PUBLISH_WAITING_MAX {
        local.counters.add(Count::PublishLost, 1);
        return;
    }
    let first = waiting[shard].is_empty();
    waiting[shard].push_back(letter);
    drop(waiting);
    if !flush(local, shard) && first {
        let here = Shard(local.clone());
        // Where no more tasks are taken the next publish flushes.
        drop(here.clone().spawn(async move {
            while !flush(&here.0, shard) {
                here.sleep(Duration::from_millis(1)).await;
            }
        }));
    }
}

/// Sends what waits; true once nothing does.
fn flush(local: &Rc<Local>, shard: usize) -> bool {
    let rooms = Rooms::of(local);
    let mut waiting = rooms.waiting.borrow_mut();
    while let Some(letter) = waiting[shard].pop_front() {
        if let Err(letter) = mailbox::offer(local, shard, letter) {
            if mailbox::has_ended(shard) {
                waiting[shard].clear();
                return true;
            }
            waiting[shard].push_front(letter);
            return false;
        }
    }
    true
}
