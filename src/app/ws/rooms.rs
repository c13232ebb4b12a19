//! Who is in which room of this shard, and who is to hear what is published.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::task::Waker;

use serde::{Serialize, Serializer};
use slab::Slab;

use super::link::Link;
use super::publish::Publication;
use crate::base::piece::Frame;
use crate::error::{Error, Result};
use crate::limits::{
    PRESENCE_NAMES_MAX, REPLAY_BYTES_MAX, ROOM_NAME_BYTES_MAX, ROOMS_OF_SOCKET_MAX,
    WS_OUTBOX_MESSAGES_MAX,
};
use crate::shard::{Local, Shard};
use crate::ws::deflate::WINDOW_BITS_MAX;

/// A socket of this server, wherever it is. As text it is `shard-slot-generation`.
///
/// ```
/// # use soloist::SocketId;
/// let id: SocketId = "1-42-7".parse().expect("an id");
/// assert_eq!(id.to_string(), "1-42-7"); // to be sent to a page, and to come back
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    pub(crate) shard: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Members and rooms of one shard.
#[derive(Default)]
pub(crate) struct Rooms {
    members: RefCell<Slab<Member>>,
    rooms: RefCell<HashMap<Rc<str>, Room>>,
    /// Exact names, or prefixes before a `*`, and how many messages of each such room are kept.
    replays: RefCell<Vec<(String, usize)>>,
    replay_bytes: Cell<usize>,
    /// Counts what is kept: the oldest of all rooms is forgotten first.
    kept: Cell<u64>,
    generation: Cell<u32>,
    /// Sockets of each client address, where that is bounded.
    clients: RefCell<HashMap<IpAddr, usize>>,
    /// Since when handshakes are counted, in ms, and how many there were.
    handshakes: Cell<(u64, usize)>,
    sockets: Cell<usize>,
    pub(crate) waiting: RefCell<Vec<VecDeque<crate::app::mailbox::Message>>>,
    /// The way to other nodes, on the shard that has it.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) cluster: std::cell::OnceCell<Rc<super::cluster::Cluster>>,
}

struct Member {
    generation: u32,
    sink: Sink,
    name: Option<Rc<str>>,
    /// Each with the member's place among the room's members.
    rooms: Vec<(Rc<str>, u32)>,
}

/// Where a member's messages go.
pub(crate) enum Sink {
    Socket(Rc<Link>),
    /// An event stream.
    Feed(Rc<Feed>),
}

/// What waits for an event stream.
#[derive(Default)]
pub(crate) struct Feed {
    pub(crate) queue: RefCell<VecDeque<Arc<Publication>>>,
    pub(crate) waker: Cell<Option<Waker>>,
    pub(crate) overflowed: Cell<bool>,
}

#[derive(Default)]
struct Room {
    /// Slots of members.
    members: Vec<u32>,
    /// The last messages with their numbers, oldest first, and how many are kept.
    last: VecDeque<(u64, Arc<Publication>)>,
    keep: usize,
}

impl Rooms {
    /// Those of this shard.
    pub(crate) fn of(local: &Rc<Local>) -> Rc<Rooms> {
        let shard = Shard(local.clone());
        shard.got().unwrap_or_else(|| shard.put(Rooms::default()))
    }

    /// Takes a handshake in, if there is room for one more socket.
    pub(crate) fn admit(&self, local: &Local, client: Option<IpAddr>) -> Result<()> {
        let limits = &local.limits;
        let busy = |what: &str| Err(Error::new(503, what.to_owned()).set("retry-after", "1"));
        if limits.handshakes_per_s_max > 0 {
            let (since_ms, count) = self.handshakes.get();
            let now_ms = local.clock.now_ms();
            let fresh = now_ms.saturating_sub(since_ms) >= 1_000;
            let (since_ms, count) = if fresh { (now_ms, 0) } else { (since_ms, count) };
            if count >= limits.handshakes_per_s_max {
                return busy("too many handshakes");
            }
            self.handshakes.set((since_ms, count + 1));
        }
        if self.sockets.get() >= limits.sockets_max {
            return busy("too many sockets");
        }
        if let (Some(client), 1..) = (client, limits.sockets_of_client_max) {
            let open = self.clients.borrow().get(&client).copied().unwrap_or(0);
            if open >= limits.sockets_of_client_max {
                return Err(Error::new(429, "too many sockets").set("retry-after", "1"));
            }
        }
        Ok(())
    }

    /// A member, until the guard is dropped.
    pub(crate) fn enter(
        self: &Rc<Self>,
        local: &Rc<Local>,
        sink: Sink,
        client: Option<IpAddr>,
    ) -> Entered {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let is_socket = matches!(sink, Sink::Socket(_));
        let member = Member { generation, sink, name: None, rooms: Vec::new() };
        let slot = self.members.borrow_mut().insert(member) as u32;
        let id = SocketId { shard: local.id as u32, slot, generation };
        let client = client.filter(|_| is_socket && local.limits.sockets_of_client_max > 0);
        if is_socket {
            self.sockets.set(self.sockets.get() + 1);
        }
        if let Some(client) = client {
            *self.clients.borrow_mut().entry(client).or_default() += 1;
        }
        Entered { rooms: self.clone(), id, client, is_socket }
    }

    /// Lets a member hear what is published in a room, and first what is kept of it: all that came
    /// behind `last`, if that is among it.
    pub(crate) fn join(&self, id: SocketId, name: &str, last: Option<&str>) -> Result<()> {
        if name.len() > ROOM_NAME_BYTES_MAX {
            return Err(Error::bad_request("room: the name is too long"));
        }
        let mut members = self.members.borrow_mut();
        let Some(member) = of(&mut members, id) else { return Ok(()) };
        if member.rooms.iter().any(|(known, _)| **known == *name) {
            return Ok(());
        }
        if member.rooms.len() >= ROOMS_OF_SOCKET_MAX {
            return Err(Error::bad_request("room: in too many already"));
        }
        let mut rooms = self.rooms.borrow_mut();
        let known = rooms.get_key_value(name).map(|(known, _)| known.clone());
        let known = known.unwrap_or_else(|| name.into());
        let room = rooms.entry(known.clone()).or_insert_with(|| self.room(name));
        member.rooms.reserve_exact(1); // most are in one room, or in few
        member.rooms.push((known, room.members.len() as u32));
        room.members.push(id.slot);
        let seen = last.and_then(|last| room.last.iter().position(|it| it.1.id() == last));
        let missed = room.last.iter().skip(seen.map_or(0, |at| at + 1));
        // No more than the outbox takes: who comes late is not closed for being behind.
        let (messages_max, mut left_bytes) = member.sink.bounds();
        let newest = missed.rev().take(messages_max).take_while(|(_, it)| {
            let fits = it.plain.len() <= left_bytes;
            left_bytes = left_bytes.saturating_sub(it.plain.len());
            fits
        });
        let newest: Vec<_> = newest.collect();
        for (_, publication) in newest.into_iter().rev() {
            member.sink.offer(publication, &mut Frames::default());
        }
        Ok(())
    }

    pub(crate) fn leave(&self, id: SocketId, name: &str) {
        let mut members = self.members.borrow_mut();
        let Some(member) = of(&mut members, id) else { return };
        let Some(at) = member.rooms.iter().position(|(known, _)| **known == *name) else { return };
        let (name, place) = member.rooms.swap_remove(at);
        self.vacate(&mut members, &name, place);
    }

    pub(crate) fn set_name(&self, id: SocketId, name: &str) {
        if let Some(member) = of(&mut self.members.borrow_mut(), id) {
            member.name = Some(name.into());
        }
    }

    /// Gives a message to every member of its room here, but for `except`.
    pub(crate) fn deliver(&self, publication: &Arc<Publication>, except: Option<SocketId>) {
        let mut rooms = self.rooms.borrow_mut();
        let name = &*publication.room;
        if !rooms.contains_key(name) {
            let fresh = self.room(name);
            if fresh.keep == 0 {
                return;
            }
            rooms.insert(name.into(), fresh);
        }
        let Some(room) = rooms.get_mut(name) else { return };
        let members = self.members.borrow();
        let mut frames = Frames::default();
        for slot in &room.members {
            let Some(member) = members.get(*slot as usize) else { continue };
            if except.is_some_and(|it| it.slot == *slot && it.generation == member.generation) {
                continue;
            }
            member.sink.offer(publication, &mut frames);
        }
        if room.keep > 0 {
            let number = self.kept.get();
            self.kept.set(number + 1);
            room.last.push_back((number, publication.clone()));
            self.replay_bytes.set(self.replay_bytes.get() + publication.bytes());
            while room.last.len() > room.keep {
                self.forget_oldest(room);
            }
            if self.replay_bytes.get() > REPLAY_BYTES_MAX {
                self.forget(&mut rooms);
            }
        }
    }

    fn forget_oldest(&self, room: &mut Room) {
        if let Some((_, old)) = room.last.pop_front() {
            self.replay_bytes.set(self.replay_bytes.get() - old.bytes());
        }
    }

    /// Forgets the oldest messages of all rooms, an eighth of the budget at once: the search is
    /// paid for by many publishes.
    #[cold]
    fn forget(&self, rooms: &mut HashMap<Rc<str>, Room>) {
        let mut numbers: Vec<(u64, usize)> = rooms
            .values()
            .flat_map(|room| room.last.iter().map(|(number, it)| (*number, it.bytes())))
            .collect();
        numbers.sort_unstable();
        let mut left_bytes = self.replay_bytes.get();
        let mut before = 0;
        for (number, bytes) in numbers {
            if left_bytes <= REPLAY_BYTES_MAX / 8 * 7 {
                break;
            }
            left_bytes -= bytes;
            before = number + 1;
        }
        rooms.retain(|_, room| {
            while room.last.front().is_some_and(|(number, _)| *number < before) {
                self.forget_oldest(room);
            }
            !room.members.is_empty() || !room.last.is_empty()
        });
    }

    /// Gives a message to one member.
    pub(crate) fn deliver_to(&self, id: SocketId, publication: &Arc<Publication>) {
        if let Some(member) = of(&mut self.members.borrow_mut(), id) {
            member.sink.offer(publication, &mut Frames::default());
        }
    }

    /// How many are in a room of this shard, and the first ones of those that have a name.
    pub(crate) fn presence(&self, name: &str) -> (usize, Vec<(SocketId, String)>) {
        let rooms = self.rooms.borrow();
        let Some(room) = rooms.get(name) else { return (0, Vec::new()) };
        let members = self.members.borrow();
        let named = room.members.iter().filter_map(|slot| {
            let member = members.get(*slot as usize)?;
            let name = member.name.as_deref()?.to_owned();
            let shard = match &member.sink {
                Sink::Socket(link) => link.local.id as u32,
                Sink::Feed(_) => return None,
            };
            Some((SocketId { shard, slot: *slot, generation: member.generation }, name))
        });
        (room.members.len(), named.take(PRESENCE_NAMES_MAX).collect())
    }

    /// Keeps the last messages of rooms with that name, or that prefix before a `*`.
    pub(crate) fn keep(&self, pattern: &str, count: usize) {
        self.replays.borrow_mut().push((pattern.to_owned(), count));
    }

    fn room(&self, name: &str) -> Room {
        let replays = self.replays.borrow();
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        let keep = replays.iter().find(|(pattern, _)| fits(pattern)).map_or(0, |it| it.1);
        Room { keep, ..Room::default() }
    }

    /// Takes a member out of a room: the last one has its place.
    fn vacate(&self, members: &mut Slab<Member>, name: &Rc<str>, place: u32) {
        let mut rooms = self.rooms.borrow_mut();
        let Some(room) = rooms.get_mut(name) else { return };
        room.members.swap_remove(place as usize);
        if let Some(moved) = room.members.get(place as usize)
            && let Some(member) = members.get_mut(*moved as usize)
            && let Some(entry) = member.rooms.iter_mut().find(|(known, _)| known == name)
        {
            entry.1 = place;
        }
        if room.members.is_empty() && room.last.is_empty() {
            rooms.remove(name);
        }
    }
}

fn of(members: &mut Slab<Member>, id: SocketId) -> Option<&mut Member> {
    members.get_mut(id.slot as usize).filter(|it| it.generation == id.generation)
}

/// A member's place: left when it is dropped.
pub(crate) struct Entered {
    rooms: Rc<Rooms>,
    pub(crate) id: SocketId,
    client: Option<IpAddr>,
    is_socket: bool,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let rooms = &self.rooms;
        let mut members = rooms.members.borrow_mut();
        if of(&mut members, self.id).is_none() {
            return;
        }
        let mut member = members.remove(self.id.slot as usize);
        while let Some((name, place)) = member.rooms.pop() {
            rooms.vacate(&mut members, &name, place);
        }
        drop(members);
        if self.is_socket {
            rooms.sockets.set(rooms.sockets.get() - 1);
        }
        if let Some(client) = self.client {
            let mut clients = rooms.clients.borrow_mut();
            match clients.get_mut(&client) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(clients.remove(&client)),
            }
        }
    }
}

/// A publication in the forms that leave this shard: each made when the first one needs it, and
/// then shared by all.
#[derive(Default)]
struct Frames([Option<Rc<Frame>>; VARIANTS]);

/// Plain, then by window bits from 9 on.
const VARIANTS: usize = 2 + WINDOW_BITS_MAX as usize - 9;

impl Sink {
    /// Messages and bytes that may wait.
    fn bounds(&self) -> (usize, usize) {
        match self {
            Sink::Socket(link) => (link.options.outbox_messages_max, link.options.outbox_bytes_max),
            Sink::Feed(_) => (WS_OUTBOX_MESSAGES_MAX, usize::MAX),
        }
    }

    fn offer(&self, publication: &Arc<Publication>, frames: &mut Frames) {
        match self {
            Sink::Socket(link) => {
                let bits = link.deflate.map_or(0, |it| it.window_bits);
                let options = &link.options;
                let bytes = match bits {
                    0 => None,
                    bits => {
                        publication.squeezed(bits, options.deflate_level, options.deflate_bytes_min)
                    }
                };
                let (at, bytes) = match bytes {
                    Some(bytes) => (bits as usize - 8, bytes),
                    None => (0, &publication.plain),
                };
                let frame = frames.0[at].get_or_insert_with(|| {
                    Rc::new(Frame { bytes: bytes.clone(), key: publication.key })
                });
                link.offer(frame, at > 0);
            }
            Sink::Feed(feed) => feed.push(publication.clone()),
        }
    }
}

impl Feed {
    fn push(&self, publication: Arc<Publication>) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= WS_OUTBOX_MESSAGES_MAX {
            self.overflowed.set(true);
            queue.pop_front();
        }
        queue.push_back(publication);
        drop(queue);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.slot, self.generation)
    }
}

/// As text.
impl Serialize for SocketId {
    fn serialize<T: Serializer>(&self, to: T) -> std::result::Result<T::Ok, T::Error> {
        to.collect_str(self)
    }
}

impl FromStr for SocketId {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<SocketId, &'static str> {
        let mut parts = text.split('-').map(|part| part.parse().map_err(|_| "no socket id"));
        let mut next = || parts.next().unwrap_or(Err("no socket id"));
        let id = SocketId { shard: next()?, slot: next()?, generation: next()? };
        if next().is_ok() { Err("no socket id") } else { Ok(id) }
    }
}
