//! Ours: files below a directory.

use soloist::prelude::*;
use soloist_peers::Options;

fn main() -> Result<()> {
    let root = std::env::var("FILES_ROOT").unwrap_or_else(|_| ".".to_owned());
    let options = Options::from_args();
    let limits = Limits {
        idle_ms_max: soloist_peers::IDLE.as_millis() as u64,
        stream_bytes_max: u64::MAX,
        ..Limits::default()
    };
    let mut server = Server::bind(options.addr.to_string()).shards(options.workers).limits(limits);
    if let Some(name) = options.congestion {
        server = server.congestion(name);
    }
    server.run(async move |_: Shard| Ok(App::new(()).files("/", root)))
}
