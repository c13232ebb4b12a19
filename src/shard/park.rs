//! Handing the thread to glommio, and getting it back.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer as GlommioTimer;

use crate::limits::TICK_MS;

/// How a driver hands its thread to glommio: it reads an eventfd on glommio's ring.
///
/// glommio parks even with runnable tasks in rare cases, the driver among them when its completion
/// has been taken already. So it never has the thread without a timer to come.
pub(super) struct Park {
    file: Rc<BufferedFile>,
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Park {
    pub(super) fn new() -> io::Result<Park> {
        let eventfd = crate::ring::eventfd(true)?;
        Ok(Park { file: Rc::new(buffered(eventfd)), read: None })
    }

    pub(super) fn eventfd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Lets glommio run its timers, its completions and its tasks once.
    pub(super) async fn turn_glommio(&mut self) {
        crate::ring::signal(self.eventfd());
        // Without the timer a shard slept for good, once, until a signal came.
        self.wait(Duration::from_millis(TICK_MS)).await;
    }

    /// Until the eventfd is written, at most `longest`.
    pub(super) async fn wait(&mut self, longest: Duration) {
        let mut timer = GlommioTimer::new(longest);
        let read = self.reading();
        let woken = poll_fn(|cx| {
            if read.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut timer).poll(cx).map(|_| false)
        })
        .await;
        if woken {
            self.read = None;
        }
    }

    fn reading(&mut self) -> &mut Pin<Box<dyn Future<Output = ()>>> {
        let file = &self.file;
        self.read.get_or_insert_with(|| {
            let file = file.clone();
            Box::pin(async move {
                let _ = file.read_at(0, 8).await;
            })
        })
    }
}

fn buffered(eventfd: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is owned and given away here; the file closes it.
    unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) }
}
