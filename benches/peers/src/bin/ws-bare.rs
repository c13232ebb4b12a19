//! A bare ring that only sends: one prepared frame to every socket of the room, one queue entry
//! each. It answers handshakes one by one and looks at the first socket alone; `/echo` is not here.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use io_uring::squeue::Flags;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::event::{PollFd, PollFlags, poll};
use soloist_peers::Options;
use soloist_peers::ws::{Frame, TEXT, accept, head, unmask};

const SQ_ENTRIES: u32 = 1024;

fn main() -> Result<()> {
    let options = Options::from_args();
    let listener = options.listener()?;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(16 * SQ_ENTRIES)
        .build(SQ_ENTRIES)?;
    let mut room: Vec<TcpStream> = Vec::new();
    let mut input = vec![0; 64 * 1024];
    loop {
        let mut fds = vec![PollFd::new(&listener, PollFlags::IN)];
        if let Some(first) = room.first() {
            fds.push(PollFd::from_borrowed_fd(first.as_fd(), PollFlags::IN));
        }
        poll(&mut fds, None)?;
        let speaks = fds.get(1).is_some_and(|it| !it.revents().is_empty());
        let asks = !fds[0].revents().is_empty();
        if asks && let Some(socket) = open(&listener, &mut input)? {
            room.push(socket);
        }
        if speaks {
            let len = room[0].read(&mut input)?;
            if len == 0 {
                return Ok(());
            }
            let frames = publications(&mut input[..len]);
            publish(&mut ring, &room, &frames)?;
        }
    }
}

/// A socket after its handshake; none if the client only looked.
fn open(listener: &TcpListener, input: &mut [u8]) -> Result<Option<TcpStream>> {
    let (mut socket, _) = listener.accept()?;
    socket.set_nonblocking(false)?;
    let len = socket.read(input)?;
    let text = String::from_utf8_lossy(&input[..len]).to_ascii_lowercase();
    let Some(at) = text.find("sec-websocket-key: ") else { return Ok(None) };
    let key = &input[at + 19..at + 19 + 24];
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        accept(key)
    );
    socket.write_all(answer.as_bytes())?;
    Ok(Some(socket))
}

/// The frames that go out for what has come in.
fn publications(mut input: &mut [u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(frame) = Frame::parse(input) {
        let payload = &mut input[frame.head_bytes..frame.bytes()];
        unmask(payload, frame.mask);
        let (bytes, len) = head(TEXT, payload.len());
        out.extend_from_slice(&bytes[..len]);
        out.extend_from_slice(payload);
        let whole = frame.bytes();
        input = &mut input[whole..];
    }
    out
}

fn publish(ring: &mut IoUring, room: &[TcpStream], frames: &[u8]) -> Result<()> {
    for socket in room {
        let send = opcode::Send::new(Fd(socket.as_raw_fd()), frames.as_ptr(), frames.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL)
            .build()
            .flags(Flags::SKIP_SUCCESS);
        // SAFETY: with MSG_DONTWAIT the bytes are read while the entry is submitted, which is
        // before `frames` is dropped.
        while unsafe { ring.submission().push(&send) }.is_err() {
            ring.submit()?;
        }
    }
    ring.submit()?;
    let failed = ring.completion().count();
    assert_eq!(failed, 0, "a send did not fit");
    Ok(())
}
