//! Listeners and the few socket calls that the ring has no better way for.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::limits::{BACKLOG_MAX, KERNEL_LATER_MS};

/// A listener that shares its port with those of the other shards. Accepted sockets inherit
/// NODELAY, the congestion control, and the time after which the kernel gives up on bytes that it
/// has taken and the peer does not: with no descriptor left, nobody else would.
pub(crate) fn listen(
    addr: SocketAddr,
    congestion: Option<&str>,
    stall_ms_max: u64,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    // Later than the driver, which counts what it ends.
    let stall_ms = stall_ms_max.saturating_add(KERNEL_LATER_MS).min(i32::MAX as u64);
    socket.set_tcp_user_timeout(Some(Duration::from_millis(stall_ms)))?;
    if let Some(name) = congestion {
        socket.set_tcp_congestion(name.as_bytes()).map_err(|error| {
            let hint = "`sysctl net.ipv4.tcp_available_congestion_control` names those there are";
            io::Error::new(error.kind(), format!("congestion control {name:?}: {error}; {hint}"))
        })?;
    }
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

/// Fails if someone listens on `addr` already: SO_REUSEPORT alone would share it in silence.
pub(crate) fn refuse_second(addr: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(addr))
}

/// Resolves `host:port`; blocks, so it is for start-up only.
pub(crate) fn resolve(addr: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

/// Where a connection of our own leads.
#[cfg(feature = "postgres-lane")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(std::path::PathBuf),
}

/// Connects to a server, for a ring, within a time that looking up its name is not part of; blocks.
#[cfg(feature = "postgres-lane")]
pub(crate) fn connect(place: &Place, within: Duration, stall_ms_max: u64) -> io::Result<OwnedFd> {
    let (host, port) = match place {
        Place::Tcp { host, port } => (host, *port),
        Place::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_write_timeout(Some(within))?; // it bounds the connect too
            socket.connect(&SockAddr::unix(path)?)?;
            socket.set_write_timeout(None)?;
            return Ok(socket.into());
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in (host.as_str(), port).to_socket_addrs()? {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(Duration::from_millis(stall_ms_max)))?;
        match socket.connect_timeout(&SockAddr::from(addr), within) {
            Ok(()) => return Ok(socket.into()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// New handshakes find no room any more; those in the queue are kept.
pub(crate) fn close_gate(listener: RawFd) {
    // SAFETY: plain calls on a descriptor that the caller owns.
    unsafe {
        libc::listen(listener, 0);
        let flags = libc::fcntl(listener, libc::F_GETFL);
        libc::fcntl(listener, libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

/// The next connection of a listener's queue, once its gate is closed.
pub(crate) fn accept_rest(listener: RawFd) -> Option<RawFd> {
    loop {
        // SAFETY: no address is asked for, so no pointer is passed.
        let fd = unsafe {
            libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
        };
        if fd >= 0 {
            return Some(fd);
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR | libc::ECONNABORTED) => continue,
            _ => return None,
        }
    }
}

/// FIN: nothing more will be sent.
pub(crate) fn shut_write(socket: RawFd) {
    // SAFETY: a plain call on a descriptor that the caller owns.
    unsafe { libc::shutdown(socket, libc::SHUT_WR) };
}

/// Ends both directions; an armed receive completes.
pub(crate) fn shut_both(socket: RawFd) {
    // SAFETY: as above.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
}

/// Closing then sends RST, and drops what is unsent.
pub(crate) fn reset_on_close(socket: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a linger, and lives across the call.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            mem::size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}

/// Sends a few bytes at once or not at all.
pub(crate) fn send_now(socket: RawFd, bytes: &[u8]) {
    // SAFETY: the slice lives across the call.
    unsafe {
        libc::send(
            socket,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        );
    }
}

/// Takes and drops what has been received, up to 64 KiB: closing with unread bytes resets.
pub(crate) fn discard_received(socket: RawFd) {
    let mut bytes = [0u8; 4096];
    for _ in 0..16 {
        // SAFETY: the array lives across the call.
        let count = unsafe {
            libc::recv(socket, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT)
        };
        if count <= 0 {
            return;
        }
    }
}

/// The address of the other end.
pub(crate) fn peer(socket: RawFd) -> Option<SocketAddr> {
    // SAFETY: the caller owns the descriptor, which stays open while it is borrowed here.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(socket) };
    SockRef::from(&borrowed).peer_addr().ok()?.as_socket()
}

/// A descriptor held in reserve, to accept and refuse with when there are no others.
pub(crate) fn spare() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null")?.into())
}

/// Accepts one connection only to close it: out of descriptors, the client should know at once.
pub(crate) fn refuse_one(listener: &TcpListener, spare: &mut Option<OwnedFd>, answer: &[u8]) {
    drop(spare.take());
    let mut set = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, alive across the call; it does not wait.
    if unsafe { libc::poll(&raw mut set, 1, 0) } > 0
        && let Some(fd) = accept_rest(listener.as_raw_fd())
    {
        send_now(fd, answer);
        discard_received(fd);
        // SAFETY: just accepted, owned by nobody else.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    *spare = self::spare().ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// A call that takes longer blocks, and has failed.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[track_caller]
    fn comes_back(what: &str, call: impl FnOnce() + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            call();
            let _ = done.send(());
        });
        assert!(is_done.recv_timeout(PATIENCE).is_ok(), "{what}: it blocks, or panics");
    }

    /// A blocking socket, as accepted ones are, and its other end.
    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("a pair")
    }

    fn listener() -> TcpListener {
        listen("127.0.0.1:0".parse().expect("an address"), None, 1_000).expect("a listener")
    }

    #[test]
    fn what_bypasses_the_ring_never_blocks() {
        let (here, _there) = pair();
        comes_back("a send into a full buffer", move || {
            for _ in 0..1_000 {
                send_now(here.as_raw_fd(), &[b'x'; 4096]);
            }
        });
        let (here, _there) = pair();
        comes_back("a receive of nothing", move || discard_received(here.as_raw_fd()));
        let empty = listener();
        comes_back("an accept of nothing, to refuse", move || {
            refuse_one(&empty, &mut spare().ok(), b"no");
        });
        let closed = listener();
        comes_back("an accept of the rest", move || {
            close_gate(closed.as_raw_fd());
            assert_eq!(accept_rest(closed.as_raw_fd()), None);
        });
        let gone = listener();
        let _client = TcpStream::connect(gone.local_addr().expect("bound")).expect("a connection");
        comes_back("an accept of one, then of nothing", move || {
            close_gate(gone.as_raw_fd());
            let fd = accept_rest(gone.as_raw_fd()).expect("a connection");
            // SAFETY: just accepted, owned by nobody else.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            assert_eq!(accept_rest(gone.as_raw_fd()), None);
        });
    }

    #[test]
    fn a_congestion_control_that_is_not_there_is_named() {
        let addr = "127.0.0.1:0".parse().expect("an address");
        let text = listen(addr, Some("carrier-pigeon"), 1_000).expect_err("none").to_string();
        assert!(text.contains("carrier-pigeon") && text.contains("sysctl"), "{text}");
    }

    #[test]
    fn what_is_discarded_is_bounded() {
        let (here, mut there) = pair();
        there.write_all(&[b'x'; 100_000]).expect("room in the socket");
        there.shutdown(Shutdown::Write).expect("open");
        discard_received(here.as_raw_fd());
        let mut rest = Vec::new();
        (&here).read_to_end(&mut rest).expect("the rest");
        assert_eq!(rest.len(), 100_000 - 64 * 1024);
    }

    #[test]
    fn one_too_many_is_told_so_and_the_spare_is_back() {
        let listener = listener();
        let addr = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(addr).expect("a connection");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        client.write_all(b"hello").expect("room in the socket");
        comes_back("a refusal", move || {
            let mut spare = spare().ok();
            refuse_one(&listener, &mut spare, b"no");
            assert!(spare.is_some());
        });
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer, then FIN");
        assert_eq!(answer, "no");
    }
}
