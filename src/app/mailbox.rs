//! All that crosses between shards, and from the server to a shard: one closed list.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

#[cfg(feature = "ws")]
use super::ws::{
    publish::{self, Publication},
    rooms::{Rooms, SocketId},
};
use crate::base::counters::{Count, Stats};
use crate::limits::{MESH_ANSWER_MS_MAX, POSTED_MAX};
use crate::shard::Local;
use crate::shard::inbox::Inbox;
use crate::shard::mesh::Mesh;
use crate::shard::time::timeout;

/// A message for a shard.
pub(crate) enum Message {
    /// Answer with the counters.
    Stats(Sender<Stats>),
    /// Answer at once: how long is the way?
    Ping(Sender<()>),
    /// Do work that another shard's code asks for.
    Run(Run),
    /// Give it to everyone in its room.
    #[cfg(feature = "ws")]
    Publish(Arc<Publication>),
    /// Give it to one socket.
    #[cfg(feature = "ws")]
    Direct(SocketId, Arc<Publication>),
}

/// Work on its way to a shard, which makes a task of it.
pub(crate) type Run = Box<dyn FnOnce(&Rc<Local>) + Send>;

/// What the server says to a shard from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Serve,
    Drain,
    End,
}

/// Where the orders of one shard lie, and messages from threads that are no shards.
pub(crate) struct Post {
    order: Mutex<Order>,
    /// None once the shard has ended: nobody would take them.
    messages: Mutex<Option<VecDeque<Message>>>,
    failure: Mutex<Option<String>>,
    listeners: Mutex<Vec<TcpListener>>,
    inbox: &'static Inbox,
}

impl Post {
    pub(crate) fn new(inbox: &'static Inbox) -> Post {
        Post {
            order: Mutex::new(Order::Serve),
            messages: Mutex::new(Some(VecDeque::new())),
            failure: Mutex::default(),
            listeners: Mutex::default(),
            inbox,
        }
    }

    /// Raises the order; it never goes back.
    pub(crate) fn order(&self, order: Order) {
        let mut current = lock(&self.order);
        *current = (*current).max(order);
        drop(current);
        self.inbox.notify();
    }

    pub(crate) fn current(&self) -> Order {
        *lock(&self.order)
    }

    /// Leaves a message; false if too many wait already, or the shard has ended.
    pub(crate) fn leave(&self, message: Message) -> bool {
        let mut messages = lock(&self.messages);
        match &mut *messages {
            Some(waiting) if waiting.len() < POSTED_MAX => waiting.push_back(message),
            _ => return false,
        }
        drop(messages);
        self.inbox.notify();
        true
    }

    /// Every shard is built: it may serve.
    pub(crate) fn hand_over(&self, listeners: Vec<TcpListener>) {
        lock(&self.listeners).extend(listeners);
        self.inbox.notify();
    }

    pub(crate) fn take_listeners(&self) -> Vec<TcpListener> {
        std::mem::take(&mut lock(&self.listeners))
    }

    pub(crate) fn take(&self) -> VecDeque<Message> {
        lock(&self.messages).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The shard has ended, well or not: those who wait for an answer hear of it.
    pub(crate) fn end(&self) {
        let left = lock(&self.messages).take();
        drop(left);
        self.take_listeners();
    }

    /// Why the shard ended before it was told to.
    pub(crate) fn fail(&self, why: String) {
        *lock(&self.failure) = Some(why);
    }

    pub(crate) fn take_failure(&self) -> Option<String> {
        lock(&self.failure).take()
    }
}

/// Acts on a message, on the shard that it came to.
pub(crate) fn deliver(local: &Rc<Local>, message: Message) {
    local.counters.add(Count::MeshReceived, 1);
    match message {
        Message::Stats(reply) => reply.send(local.counters.snapshot()),
        Message::Ping(reply) => reply.send(()),
        Message::Run(run) => run(local),
        #[cfg(feature = "ws")]
        Message::Publish(publication) => publish::arrive(local, &publication, None),
        #[cfg(feature = "ws")]
        Message::Direct(socket, publication) => Rooms::of(local).deliver_to(socket, &publication),
    }
}

thread_local! {
    /// The mesh of the shard that this thread is.
    static MESH: RefCell<Option<Rc<Mesh<Message>>>> = const { RefCell::new(None) };
}

/// Makes `mesh` that of this thread; none when the shard ends.
pub(crate) fn enter(mesh: Option<Rc<Mesh<Message>>>) {
    MESH.set(mesh);
}

/// Sends to another shard; false if its queue is full, which is counted.
pub(crate) fn send(local: &Local, to: usize, message: Message) -> bool {
    offer(local, to, message).is_ok()
}

/// The same, and the message comes back if it is not sent.
pub(crate) fn offer(local: &Local, to: usize, message: Message) -> Result<(), Message> {
    let sent = match MESH.with_borrow(Clone::clone) {
        Some(mesh) => mesh.send(to, message),
        None => Err(message),
    };
    local.counters.add(if sent.is_ok() { Count::MeshSent } else { Count::MeshFull }, 1);
    sent
}

/// Whether that other shard is over: nobody takes what is sent to it.
pub(crate) fn has_ended(shard: usize) -> bool {
    MESH.with_borrow(|mesh| mesh.as_ref().is_none_or(|mesh| mesh.has_ended(shard)))
}

/// The counters of every shard, this one's included, in the order of their ids. A shard whose
/// queue is full, that ends meanwhile, or that does not answer within a second, is left out.
pub(crate) async fn stats(local: &Rc<Local>) -> Vec<Stats> {
    let count = MESH.with_borrow(|mesh| mesh.as_ref().map_or(1, |mesh| mesh.count()));
    let mut waiting = Vec::new();
    for to in (0..count).filter(|to| *to != local.id) {
        let (sender, receiver) = oneshot();
        if send(local, to, Message::Stats(sender)) {
            waiting.push((to, receiver));
        }
    }
    let mut all = vec![(local.id, local.counters.snapshot())];
    for (to, receiver) in waiting {
        if let Some(stats) = answer(local, receiver).await {
            all.push((to, stats));
        }
    }
    all.sort_by_key(|(id, _)| *id);
    all.into_iter().map(|(_, stats)| stats).collect()
}

/// The way to another shard and back. False if it is not there, or its queue is full.
pub(crate) async fn ping(local: &Rc<Local>, to: usize) -> bool {
    let (sender, receiver) = oneshot();
    send(local, to, Message::Ping(sender)) && answer(local, receiver).await.is_some()
}

/// What another shard answers; none if it ends, or is stuck.
async fn answer<T>(local: &Rc<Local>, receiver: Receiver<T>) -> Option<T> {
    let longest = Duration::from_millis(MESH_ANSWER_MS_MAX);
    timeout(local.clone(), longest, receiver.receive()).await.ok().flatten()
}

/// A value on its way between threads.
pub(crate) fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let cell = Arc::new(Mutex::new(Parcel { value: None, closed: false, waker: None }));
    (Sender(cell.clone()), Receiver(cell))
}

pub(crate) struct Sender<T>(Arc<Mutex<Parcel<T>>>);
pub(crate) struct Receiver<T>(Arc<Mutex<Parcel<T>>>);

struct Parcel<T> {
    value: Option<T>,
    closed: bool,
    waker: Option<Waker>,
}

impl<T> Sender<T> {
    pub(crate) fn send(self, value: T) {
        lock(&self.0).value = Some(value);
    }

    /// Whether the receiver was dropped.
    pub(crate) fn is_forsaken(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut parcel = lock(&self.0);
        parcel.closed = true;
        let waker = parcel.waker.take();
        drop(parcel);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The value; none if the sender was dropped without one.
    pub(crate) async fn receive(self) -> Option<T> {
        poll_fn(|cx| {
            let mut parcel = lock(&self.0);
            if parcel.closed {
                return Poll::Ready(parcel.value.take());
            }
            parcel.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
