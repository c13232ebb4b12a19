//! What a blocking client of a test connects with.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// A connection whose reads go on when something interrupts them: a process that is stopped and
/// continued, say. Sockets with a time limit are not restarted by the kernel (signal(7)).
pub struct Patient(pub TcpStream);

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
