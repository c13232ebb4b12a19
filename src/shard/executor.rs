//! One glommio executor per shard, on a thread of its own.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

/// Sockets live on the shard's own ring, so glommio needs little registered memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;
const RING_DEPTH: usize = 128;

/// A shard's running thread.
pub(crate) struct Executor(ExecutorJoinHandle<()>);

/// Why glommio could not start, or how it ended.
#[derive(Debug)]
pub(crate) struct ExecutorError(String);

impl fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "executor: {}", self.0)
    }
}

impl std::error::Error for ExecutorError {}

/// Starts an executor pinned to `core`, or to none, and runs `main` on it.
pub(crate) fn spawn<F: Future<Output = ()> + 'static>(
    id: usize,
    core: Option<usize>,
    main: impl FnOnce() -> F + Send + 'static,
) -> Result<Executor, ExecutorError> {
    let placement = core.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(&format!("soloist-{id}"))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spawn(move || async move {
            // The first park of an executor takes 30 to 60 ms: have it over before serving.
            glommio::timer::sleep(Duration::from_nanos(1)).await;
            main().await;
        })
        .map(Executor)
        .map_err(|error| ExecutorError(error.to_string()))
}

impl Executor {
    /// Waits until its `main` has returned.
    pub(crate) fn join(self) -> Result<(), ExecutorError> {
        self.0.join().map_err(|error| ExecutorError(error.to_string()))
    }
}
