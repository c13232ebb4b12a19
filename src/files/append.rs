//! Bytes that are appended to an open file by the shard's ring.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::error::{Error, Result};
use crate::limits::{APPEND_OWNED_BYTES_MIN, STREAM_BYTES_MAX};
use crate::ring::file::Op;
use crate::shard::operations::Operation;
use crate::shard::{Local, Shard};

/// Writes behind what a file has: one buffer is on its way while the next one is filled. Writes
/// follow each other, so what the file has is always what was written up to some byte, without a
/// hole.
pub(crate) struct Appender {
    local: Rc<Local>,
    file: Rc<File>,
    /// What is not handed to the ring yet, and where it belongs.
    buffer: Vec<u8>,
    handed: u64,
    /// The write that is under way.
    writing: Option<Operation>,
    /// A write has failed: what came after it would lie behind a hole.
    broken: bool,
}

impl Appender {
    /// Writes to a file from `at` on.
    pub(crate) fn new(local: &Rc<Local>, file: File, at: u64) -> Appender {
        let (local, file) = (local.clone(), Rc::new(file));
        Appender { local, file, buffer: Vec::new(), handed: at, writing: None, broken: false }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes in the file once all of it is written.
    pub(crate) fn len(&self) -> u64 {
        self.handed + self.buffer.len() as u64
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.broken || (self.buffer.is_empty() && self.writing.is_none())
    }

    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.buffer.capacity() == 0 {
                self.buffer = self.local.spares.take_large();
            }
            let room = STREAM_BYTES_MAX - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == STREAM_BYTES_MAX {
                self.hand_over().await?;
            }
        }
        Ok(())
    }

    /// The same for a buffer of one's own, from byte `from` on: a large one is not copied.
    pub(crate) async fn write_owned(&mut self, bytes: Vec<u8>, from: usize) -> Result<()> {
        if bytes.len() - from < APPEND_OWNED_BYTES_MIN {
            self.write(&bytes[from..]).await?;
            self.local.spares.give(bytes);
            return Ok(());
        }
        if !self.buffer.is_empty() {
            self.hand_over().await?;
        }
        self.written().await?;
        let at = self.handed;
        self.handed += (bytes.len() - from) as u64;
        self.begin(Op::Write { file: self.file.clone(), buffer: bytes, from, at }).await;
        Ok(())
    }

    /// Waits until everything is written.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.hand_over().await?;
        }
        self.written().await
    }

    /// Waits until everything is written, and the disk has it.
    pub(crate) async fn sync(&mut self) -> Result<()> {
        self.flush().await?;
        let file = self.file.try_clone()?;
        let synced = Shard(self.local.clone()).blocking(move || file.sync_all()).await?;
        synced.map_err(|error| failed("the file", error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// Takes back what was written from `at` on.
    pub(crate) async fn cut(&mut self, at: u64) -> Result<()> {
        self.local.spares.give(std::mem::take(&mut self.buffer));
        self.written().await?;
        let file = self.file.try_clone()?;
        Shard(self.local.clone()).blocking(move || file.set_len(at)).await??;
        self.handed = at;
        Ok(())
    }

    /// Hands the buffer to the ring once the one before is written.
    async fn hand_over(&mut self) -> Result<()> {
        self.written().await?;
        let buffer = std::mem::take(&mut self.buffer);
        let at = self.handed;
        self.handed += buffer.len() as u64;
        let op = Op::Write { file: self.file.clone(), buffer, from: 0, at };
        self.begin(op).await;
        Ok(())
    }

    async fn begin(&mut self, op: Op) {
        let mut writing = self.local.operations.start(op);
        poll_fn(|cx| {
            let _ = Pin::new(&mut writing).poll(cx); // its first poll asks for it
            Poll::Ready(())
        })
        .await;
        self.writing = Some(writing);
    }

    /// Waits for the write that is under way.
    async fn written(&mut self) -> Result<()> {
        if self.broken {
            return Err(failed("a write before this one", libc::EIO));
        }
        while let Some(writing) = &mut self.writing {
            let (result, op) = Pin::new(writing).await;
            self.writing = None;
            let Op::Write { file, buffer, from, at } = op else { return Ok(()) };
            let count = match result {
                Ok(0) => Err(libc::EIO),
                Err(libc::EINTR | libc::EAGAIN) => Ok(0),
                other => other,
            };
            let count = count.map_err(|error| {
                self.broken = true;
                failed("the file", error)
            })?;
            if from + count == buffer.len() {
                self.local.spares.give(buffer);
                return Ok(());
            }
            self.begin(Op::Write { file, buffer, from: from + count, at: at + count as u64 }).await;
        }
        Ok(())
    }
}

/// What an error of writing means to the client.
pub(crate) fn failed(what: &str, error: i32) -> Error {
    let cause = io::Error::from_raw_os_error(error);
    match error {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => {
            Error::new(507, "there is no room for it").because(cause)
        }
        _ => Error::new(500, "it cannot be stored").because(format!("{what}: {cause}")),
    }
}
