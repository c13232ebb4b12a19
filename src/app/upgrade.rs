//! The seam for connections that leave HTTP: 101, then bytes both ways.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;

use crate::base::wire::{Input, Wire};
use crate::error::{Error, Result};

pub(crate) type Run = Box<dyn FnOnce(Raw) -> Pin<Box<dyn Future<Output = Result<()>>>>>;

/// What follows a 101. It owns nothing of the request: the arena is free again.
pub(crate) struct Upgrade {
    pub(crate) protocol: &'static str,
    pub(crate) run: Run,
}

impl Upgrade {
    pub(crate) fn new<F: Future<Output = Result<()>> + 'static>(
        protocol: &'static str,
        run: impl FnOnce(Raw) -> F + 'static,
    ) -> Upgrade {
        Upgrade { protocol, run: Box::new(|raw| Box::pin(run(raw))) }
    }
}

/// An upgraded connection: its bytes, in order, with back-pressure both ways.
pub struct Raw(pub(crate) Rc<Wire>);

impl Raw {
    /// What has come since the last read, at least one byte; none after the peer's FIN. An error
    /// if the connection is broken. `into` is cleared first.
    pub async fn read(&mut self, into: &mut Vec<u8>) -> Result<usize> {
        into.clear();
        match poll_fn(|cx| self.0.poll_input(0, cx)).await {
            Input::Bytes => self.0.take_into(into),
            Input::Eof => {}
            Input::Dead => return Err(Error::from("the connection is broken")),
        }
        Ok(into.len())
    }

    /// Sends bytes, after waiting while more than 64 KiB are unsent.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        poll_fn(|cx| self.0.poll_writable(cx)).await;
        if self.0.is_dead() {
            return Err(Error::from("the connection is broken"));
        }
        self.0.write(|out| out.extend_from_slice(bytes.as_ref()));
        Ok(())
    }
}
