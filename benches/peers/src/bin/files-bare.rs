//! The floor of files: an edge-triggered epoll loop, a fixed head and sendfile. It serves `/4k`,
//! `/64k`, `/1m` and `/1g` of `--root`, opened at start, and reads no more of a request than its
//! first line: no conditions, no ranges, no `connection: close`.

use std::fs::File;
use std::io::{Error, Result};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use slab::Slab;
use soloist_peers::Options;
use soloist_peers::bare::HEAD_BYTES_MAX;

const NAMES: [&str; 4] = ["4k", "64k", "1m", "1g"];
const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 1024;

/// What is sent for one path.
struct Answer {
    path: String,
    head: Vec<u8>,
    /// None: the head is all.
    file: Option<File>,
    bytes: u64,
}

/// An answer under way.
struct Sending {
    answer: Rc<Answer>,
    head_sent: usize,
    body_sent: u64,
}

struct Connection {
    socket: OwnedFd,
    /// What came and is not answered yet.
    input: Vec<u8>,
    sending: Option<Sending>,
    /// All that had come was read; an edge tells of more.
    drained: bool,
}

fn main() -> Result<()> {
    let options = Options::from_args();
    let root = options.root.clone();
    options.on_each_worker(move |listener| serve(listener, &root))
}

fn serve(listener: TcpListener, root: &Path) -> Result<()> {
    let answers = Answers::open(root)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections = Slab::<Connection>::new();
    let mut events = Vec::<Event>::with_capacity(EVENTS_MAX);
    let mut scratch = vec![0; HEAD_BYTES_MAX];
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                accept_all(&epoll, &listener, &mut connections)?;
                continue;
            }
            let connection = &mut connections[data as usize];
            // An end is read as one, so it counts as something that came.
            connection.drained &= event.flags.difference(EventFlags::OUT).is_empty();
            if !connection.advance(&answers, &mut scratch) {
                connections.remove(data as usize);
            }
        }
    }
}

fn accept_all(
    epoll: &OwnedFd,
    listener: &TcpListener,
    connections: &mut Slab<Connection>,
) -> Result<()> {
    while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        let place = connections.vacant_entry();
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(place.key() as u64), interest)?;
        place.insert(Connection { socket, input: Vec::new(), sending: None, drained: false });
    }
    Ok(())
}

impl Connection {
    /// Goes on until the socket neither takes nor gives more. False: it is over.
    fn advance(&mut self, answers: &Answers, scratch: &mut [u8]) -> bool {
        loop {
            if let Some(sending) = &mut self.sending {
                match sending.advance(&self.socket) {
                    Ok(()) => self.sending = None,
                    Err(Errno::AGAIN) => return true,
                    Err(_) => return false,
                }
            }
            if let Some((taken, answer)) = answers.find(&self.input) {
                self.input.drain(..taken);
                self.sending = Some(Sending::new(answer));
                continue;
            }
            if self.drained {
                return true;
            }
            let n = match recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((0, _)) => return false,
                Ok((n, _)) => n,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            self.drained = n < scratch.len(); // a short read empties the socket
            if self.input.len() + n > HEAD_BYTES_MAX {
                return false;
            }
            self.input.extend_from_slice(&scratch[..n]);
        }
    }
}

impl Sending {
    fn new(answer: Rc<Answer>) -> Sending {
        Sending { answer, head_sent: 0, body_sent: 0 }
    }

    /// Ok: all of it is sent.
    fn advance(&mut self, socket: &OwnedFd) -> std::result::Result<(), Errno> {
        let Answer { head, file, bytes, .. } = &*self.answer;
        let more = if file.is_some() { SendFlags::MORE } else { SendFlags::empty() };
        while self.head_sent < head.len() {
            self.head_sent += send(socket, &head[self.head_sent..], SendFlags::NOSIGNAL | more)?;
        }
        let Some(file) = file else { return Ok(()) };
        while self.body_sent < *bytes {
            let left = (bytes - self.body_sent) as usize;
            if sendfile(socket, file, Some(&mut self.body_sent), left)? == 0 {
                return Err(Errno::IO); // the file has become shorter
            }
        }
        Ok(())
    }
}

struct Answers {
    files: Vec<Rc<Answer>>,
    unknown: Rc<Answer>,
}

impl Answers {
    fn open(root: &Path) -> Result<Answers> {
        let files = NAMES.iter().map(|name| Answer::open(root, name)).collect::<Result<_>>()?;
        let head = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
        let unknown = Rc::new(Answer { path: String::new(), head, file: None, bytes: 0 });
        Ok(Answers { files, unknown })
    }

    /// The length of the first whole request of `input` and what it is answered; none: it goes on.
    fn find(&self, input: &[u8]) -> Option<(usize, Rc<Answer>)> {
        let end = input.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
        let line = input.split(|it| *it == b'\r').next().unwrap_or_default();
        let mut words = line.split(|it| *it == b' ');
        let (method, path) = (words.next(), words.next());
        let file = match (method, path) {
            (Some(b"GET"), Some(path)) => self.files.iter().find(|it| it.path.as_bytes() == path),
            _ => None,
        };
        Some((end, file.unwrap_or(&self.unknown).clone()))
    }
}

impl Answer {
    fn open(root: &Path, name: &str) -> Result<Rc<Answer>> {
        let path = root.join(name);
        let told = |e: Error| Error::new(e.kind(), format!("{}: {e}", path.display()));
        let file = File::open(&path).map_err(told)?;
        let bytes = file.metadata().map_err(told)?.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\
             content-length: {bytes}\r\n\r\n"
        );
        let head = head.into_bytes();
        Ok(Rc::new(Answer { path: format!("/{name}"), head, file: Some(file), bytes }))
    }
}
