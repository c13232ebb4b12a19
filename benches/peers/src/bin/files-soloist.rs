//! Ours: files below a directory, and an upload beside them.

use soloist::prelude::*;
use soloist_peers::Options;

fn main() -> Result<()> {
    let options = Options::from_args();
    let limits = Limits {
        idle_ms_max: soloist_peers::IDLE.as_millis() as u64,
        stream_bytes_max: u64::MAX,
        ..Limits::default()
    };
    let root = options.root;
    let mut server = Server::bind(options.addr.to_string()).shards(options.workers).limits(limits);
    if let Some(name) = options.congestion {
        server = server.congestion(name);
    }
    server.run(async move |_: Shard| {
        let dir = root.clone();
        let upload = async move |cx: &Ctx<()>| {
            let mut file = cx.shard().temp_file(&dir).await?;
            let bytes = file.take(cx).await?;
            file.persist(dir.join("upload")).await?;
            cx.status(201).json(&bytes)
        };
        Ok(App::new(())
            .get("/hello", async |cx| cx.text("hello, world"))
            .files("/", root)
            .put("/upload", upload))
    })
}
