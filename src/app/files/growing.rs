//! A body's way to the end of an upload that is resumed.

use std::fs::File;

use super::upload::append;
use crate::app::ctx::Ctx;
use crate::error::Result;
use crate::files::append::Appender;
use crate::shard::Shard;

/// An upload that grows. Dropped half-way it writes down what has arrived, in a task of its own.
pub(super) struct Growing {
    shard: Shard,
    /// None once it has ended.
    open: Option<(Appender, File)>,
    start: u64,
}

impl Growing {
    pub(super) fn new<S>(cx: &Ctx<S>, file: File, lock: File, at: u64) -> Growing {
        let out = Appender::new(&cx.core.local, file, at);
        Growing { shard: cx.shard(), open: Some((out, lock)), start: at }
    }

    /// Takes a body of at most `left` bytes. One that breaks off is kept; one that is too long is
    /// refused whole, however it was cut.
    pub(super) async fn fill<S>(&mut self, cx: &Ctx<S>, left: u64) -> Result<()> {
        cx.core.check_length(left)?;
        let Some((out, _)) = &mut self.open else { return Ok(()) };
        let read = copy(cx, out, left).await;
        match read {
            Err(error) if error.status() == 413 => {
                out.cut(self.start).await?;
                Err(error)
            }
            other => out.flush().await.and(other),
        }
    }

    /// Bytes that are there, and the lock.
    pub(super) fn end(mut self) -> (u64, File) {
        let (out, lock) = self.open.take().expect("it is open until here");
        (out.len(), lock)
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if let Some((mut out, lock)) = self.open.take()
            && !out.is_flushed()
        {
            self.shard.spawn(async move {
                let _ = out.flush().await; // who asks again sees how far it came
                drop(lock);
            });
        }
    }
}

async fn copy<S>(cx: &Ctx<S>, out: &mut Appender, mut left: u64) -> Result<()> {
    // A middleware's bound counts, the server's does not.
    let bytes_max = cx.core.body_limit(u64::MAX);
    while let Some(piece) = cx.core.read_chunk(bytes_max).await? {
        let len = piece.len() as u64;
        if len > left {
            return Err(cx.core.too_large());
        }
        left -= len;
        append(out, piece).await?;
    }
    Ok(())
}

/// For an upload that lacks nothing.
pub(super) async fn read_nothing<S>(cx: &Ctx<S>) -> Result<()> {
    cx.core.check_length(0)?;
    match cx.core.read_chunk(u64::MAX).await? {
        Some(_) => Err(cx.core.too_large()),
        None => Ok(()),
    }
}
