//! A connection to memcached on which questions follow each other without waiting for answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::error::RemoteError;
use super::meta::{self, Answer};
use crate::limits::{MEMCACHED_UNANSWERED_MAX, MEMCACHED_UNSENT_BYTES_MAX};

/// What asks; clones share the connection.
#[derive(Clone)]
pub(super) struct Pipe(Rc<Shared>);

struct Shared {
    unsent: RefCell<Vec<u8>>,
    /// Who waits, in the order of their questions. Those who have left keep their place: their
    /// answers come all the same.
    waiting: RefCell<VecDeque<oneshot::Sender<Answer>>>,
    /// Of the turn.
    waker: Cell<Option<Waker>>,
    is_lost: Cell<bool>,
}

impl Pipe {
    /// What asks, and the future that turns the connection until it is lost.
    pub(super) fn new(
        socket: TcpStream,
        value_bytes_max: usize,
    ) -> (Pipe, impl Future<Output = RemoteError> + 'static) {
        let shared = Rc::new(Shared {
            unsent: RefCell::default(),
            waiting: RefCell::default(),
            waker: Cell::default(),
            is_lost: Cell::new(false),
        });
        let turn = Turn {
            socket,
            shared: shared.clone(),
            read: Vec::new(),
            sending: Vec::new(),
            sent: 0,
            value_bytes_max,
        };
        (Pipe(shared), turn.run())
    }

    /// Sends a question and waits for its answer.
    pub(super) async fn ask(
        &self,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer, RemoteError> {
        let answer = self.put(write)?;
        answer.await.map_err(|_| RemoteError::lost("memcached: the connection was lost"))
    }

    /// Sends a question; its answer comes by itself.
    pub(super) fn put(
        &self,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<oneshot::Receiver<Answer>, RemoteError> {
        let shared = &self.0;
        if shared.is_lost.get() {
            return Err(RemoteError::lost("memcached: the connection was lost"));
        }
        let (mut unsent, mut waiting) = (shared.unsent.borrow_mut(), shared.waiting.borrow_mut());
        if waiting.len() >= MEMCACHED_UNANSWERED_MAX || unsent.len() >= MEMCACHED_UNSENT_BYTES_MAX {
            return Err(RemoteError::Busy);
        }
        write(&mut unsent);
        let (sender, answer) = oneshot::channel();
        waiting.push_back(sender);
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
        Ok(answer)
    }
}

/// Sends what is asked and hands out what is answered.
struct Turn {
    socket: TcpStream,
    shared: Rc<Shared>,
    /// Answers that are not all there.
    read: Vec<u8>,
    sending: Vec<u8>,
    /// Of `sending`.
    sent: usize,
    value_bytes_max: usize,
}

/// What is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Reads and writes before the others on the shard have their turn.
const STEPS_MAX: usize = 32;
/// A buffer that is larger is given back when it is empty.
const KEEP_BYTES_MAX: usize = 256 * 1024;

impl Turn {
    async fn run(mut self) -> RemoteError {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RemoteError> {
        self.shared.waker.set(Some(cx.waker().clone()));
        let mut goes_on = false;
        for step in [Turn::poll_send, Turn::poll_read] {
            match step(self, cx) {
                Ok(more) => goes_on |= more,
                Err(why) => return Poll::Ready(RemoteError::lost(format!("memcached: {why}"))),
            }
        }
        if goes_on {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// True if there is more to do at once.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, String> {
        for _ in 0..STEPS_MAX {
            if self.sent == self.sending.len() {
                (self.sent, self.sending) = (0, empty(std::mem::take(&mut self.sending)));
                std::mem::swap(&mut self.sending, &mut self.shared.unsent.borrow_mut());
                if self.sending.is_empty() {
                    return Ok(false);
                }
            }
            match self.socket.try_write(&self.sending[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.ready(cx, TcpStream::poll_write_ready)?.is_pending() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(true)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, String> {
        for _ in 0..STEPS_MAX {
            let kept = self.read.len();
            self.read.resize(kept + READ_BYTES, 0);
            let read = self.socket.try_read(&mut self.read[kept..]);
            self.read.truncate(kept + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(_) => self.answer()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.ready(cx, TcpStream::poll_read_ready)?.is_pending() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(true)
    }

    fn ready(
        &self,
        cx: &mut Context<'_>,
        poll: fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Result<Poll<()>, String> {
        match poll(&self.socket, cx) {
            Poll::Ready(Err(error)) => Err(error.to_string()),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn answer(&mut self) -> Result<(), String> {
        let mut done = 0;
        while let Some((answer, bytes)) = meta::parse(&self.read[done..], self.value_bytes_max)? {
            done += bytes;
            let waits = self.shared.waiting.borrow_mut().pop_front();
            let waits = waits.ok_or_else(|| "an answer that nobody has asked for".to_owned())?;
            let _ = waits.send(answer); // who has left needs none
        }
        self.read.drain(..done);
        if self.read.is_empty() {
            self.read = empty(std::mem::take(&mut self.read));
        }
        Ok(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.is_lost.set(true);
        let waiting = self.shared.waiting.take();
        drop(waiting);
        self.shared.unsent.take();
    }
}

fn empty(mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEEP_BYTES_MAX {
        return Vec::new();
    }
    buffer.clear();
    buffer
}
