//! Files on the ring, and the few calls on them that never block.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::types::{Fd, OpenHow};
use io_uring::{opcode, squeue};

/// What the kernel is asked to do. It owns what the kernel reads from or writes to, until the
/// operation has ended.
pub(crate) enum Op {
    /// Fills a buffer, from its start, with bytes from `at` on.
    Read { file: Rc<File>, buffer: Vec<u8>, at: u64 },
    /// Writes a buffer's bytes, from `from` on, to `at`.
    Write { file: Rc<File>, buffer: Vec<u8>, from: usize, at: u64 },
    /// Opens a path below a directory, or below the working directory.
    Open { dir: Option<Rc<File>>, path: CString, how: Box<How> },
    /// Waits until a socket takes bytes.
    Writable { socket: RawFd },
}

/// How a path is opened (openat2(2)).
#[derive(Clone, Copy)]
pub(crate) struct How {
    flags: i32,
    mode: u32,
    resolve: u64,
    built: OpenHow,
}

impl How {
    /// To be read; a symlink may lead anywhere below the directory, or nowhere. Never blocks on a
    /// FIFO, and no terminal becomes ours.
    pub(crate) fn read(symlinks: bool) -> How {
        let links = if symlinks { 0 } else { libc::RESOLVE_NO_SYMLINKS };
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | links;
        How::new(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0, resolve)
    }

    /// To be read, wherever it lies.
    pub(crate) fn anywhere() -> How {
        How::new(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0, 0)
    }

    /// To be read and written; the path is that of the directory on whose file system it has no
    /// name. Once it has one, those may read it whom the process lets (umask).
    pub(crate) fn unnamed() -> How {
        How::new(libc::O_RDWR | libc::O_TMPFILE, 0o666, 0)
    }

    fn new(flags: i32, mode: u32, resolve: u64) -> How {
        let flags = flags | libc::O_CLOEXEC;
        let built = OpenHow::new().flags(flags as u64).mode(u64::from(mode)).resolve(resolve);
        How { flags, mode, resolve, built }
    }
}

impl Op {
    /// The entry that asks for it. It points into `self`.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        match self {
            Op::Read { file, buffer, at } => {
                let (pointer, len) = (buffer.as_mut_ptr(), buffer.len() as u32);
                opcode::Read::new(Fd(file.as_raw_fd()), pointer, len).offset(*at).build()
            }
            Op::Write { file, buffer, from, at } => {
                let rest = &buffer[(*from).min(buffer.len())..];
                let len = rest.len() as u32;
                opcode::Write::new(Fd(file.as_raw_fd()), rest.as_ptr(), len).offset(*at).build()
            }
            Op::Open { dir, path, how } => {
                let dir = dir.as_ref().map_or(libc::AT_FDCWD, |it| it.as_raw_fd());
                let how = &raw const how.built;
                opcode::OpenAt2::new(Fd(dir), path.as_ptr(), how).build()
            }
            Op::Writable { socket } => {
                opcode::PollAdd::new(Fd(*socket), libc::POLLOUT as u32).build()
            }
        }
    }

    /// The same without a ring, at once: for a shard in memory.
    pub(crate) fn perform(&mut self) -> Result<usize, i32> {
        let done = match self {
            Op::Read { file, buffer, at } => file.read_at(buffer, *at),
            Op::Write { file, buffer, from, at } => {
                file.write_at(&buffer[(*from).min(buffer.len())..], *at)
            }
            Op::Open { dir, path, how } => {
                let dir = dir.as_ref().map_or(libc::AT_FDCWD, |it| it.as_raw_fd());
                open(dir, path, how, 0).map(|file| file.into_raw_fd() as usize)
            }
            Op::Writable { .. } => Ok(0),
        };
        done.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// The file that an `Open` has led to.
pub(crate) fn opened(result: usize) -> File {
    // SAFETY: the kernel has just made it for us.
    unsafe { File::from_raw_fd(result as RawFd) }
}

/// Opens a path if the kernel knows the way by heart; EAGAIN if it would have to look.
pub(crate) fn open_known(dir: &File, path: &CStr, how: &How) -> io::Result<File> {
    open(dir.as_raw_fd(), path, how, libc::RESOLVE_CACHED)
}

fn open(dir: RawFd, path: &CStr, how: &How, more: u64) -> io::Result<File> {
    // SAFETY: an open_how of zeros is a valid one.
    let mut raw: libc::open_how = unsafe { mem::zeroed() };
    raw.flags = how.flags as u64;
    raw.mode = u64::from(how.mode);
    raw.resolve = how.resolve | more;
    let size = mem::size_of::<libc::open_how>();
    // SAFETY: the path ends with a NUL, and `raw` is of the stated size; both live across the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &raw const raw, size) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    Ok(unsafe { File::from_raw_fd(fd as RawFd) })
}

/// Gives an open file a name that nobody has yet.
pub(crate) fn link(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())?;
    let here = libc::AT_FDCWD;
    // SAFETY: both paths end with a NUL and live across the call.
    let done =
        unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves `count` bytes of a file into a socket without copying them to user space: how many went,
/// and why no more did. `Ok` is the end of the file, or of what was asked for; EAGAIN a socket that
/// is full. Pages that are not in memory are waited for: see [`is_resident`].
pub(crate) fn send_file(
    socket: RawFd,
    file: &File,
    from: u64,
    count: u64,
) -> (u64, io::Result<()>) {
    let (mut at, to) = (from as libc::off_t, (from + count) as libc::off_t);
    let mut end = Ok(());
    // SAFETY: plain calls on descriptors that the caller owns; `at` lives across them. Accepted
    // sockets block, as the ring needs it; nothing else looks at the flag meanwhile.
    unsafe {
        libc::fcntl(socket, libc::F_SETFL, libc::O_NONBLOCK);
        while at < to {
            match libc::sendfile(socket, file.as_raw_fd(), &raw mut at, (to - at) as usize) {
                0 => break,
                1.. => {}
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        end = Err(error);
                        break;
                    }
                }
            }
        }
        libc::fcntl(socket, libc::F_SETFL, 0);
    }
    (at as u64 - from, end)
}

/// Sends bytes that more will follow; how many the socket took.
pub(crate) fn send_head(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;
    // SAFETY: the slice lives across the call.
    let sent = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Appends bytes of a file that are in memory; EAGAIN if they are not, EOPNOTSUPP where the file
/// system cannot tell.
pub(crate) fn read_resident(
    file: &File,
    buffer: &mut Vec<u8>,
    at: u64,
    len: usize,
) -> io::Result<usize> {
    buffer.reserve(len);
    let spare = buffer.spare_capacity_mut();
    let part = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: len };
    let read = read_now(file, &part, at)?;
    // SAFETY: the kernel has written so many bytes there, at most the `len` that were reserved.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

/// Whether the byte at `at` is in memory.
pub(crate) fn is_resident(file: &File, at: u64) -> io::Result<bool> {
    let mut byte = 0u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    match read_now(file, &part, at) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_now(file: &File, part: &libc::iovec, at: u64) -> io::Result<usize> {
    let (fd, at) = (file.as_raw_fd(), at as libc::off_t);
    // SAFETY: one part, whose memory its owner keeps across the call.
    let read = unsafe { libc::preadv2(fd, part, 1, at, libc::RWF_NOWAIT) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn file(bytes: &[u8]) -> File {
        let name = format!("soloist-ring-file-{}-{}", std::process::id(), bytes.len());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let file = File::open(&path).expect("the file");
        std::fs::remove_file(&path).expect("the file");
        file
    }

    #[test]
    fn a_full_socket_takes_no_more_of_a_file_and_does_not_block() {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let all = vec![b'x'; 4 << 20];
        let file = file(&all);
        let fd = here.as_raw_fd();
        let (at, end) = send_file(fd, &file, 0, all.len() as u64);
        assert!(at > 0 && at < all.len() as u64, "{at}");
        assert_eq!(end.expect_err("it is full").raw_os_error(), Some(libc::EAGAIN));
        let (more, end) = send_file(fd, &file, at, 1);
        assert_eq!((more, end.expect_err("still").raw_os_error()), (0, Some(libc::EAGAIN)));
        drop(here);
        let mut got = Vec::new();
        there.read_to_end(&mut got).expect("what was sent");
        assert_eq!(got.len() as u64, at);
        // What blocks again after all: a read of nothing yet.
        there.write_all(b"").expect("open");
    }

    #[test]
    fn what_is_resident_is_read_where_it_is() {
        let file = file(b"0123456789");
        let mut out = b"a".to_vec();
        match read_resident(&file, &mut out, 2, 3) {
            Ok(count) => assert_eq!((count, &out[..]), (3, &b"a234"[..])),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
        if let Ok(count) = read_resident(&file, &mut out, 9, 100) {
            assert_eq!((count, &out[..]), (1, &b"a2349"[..]));
        }
    }
}
