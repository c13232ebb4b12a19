//! Ours: files below a directory; uploads, forms and rows beside them.

use serde::Deserialize;
use soloist::prelude::*;
use soloist_peers::Options;

/// Each file of a form to a temporary one.
async fn form(cx: &Ctx<()>) -> Result<Reply> {
    let (mut form, mut sizes) = (cx.multipart()?, Vec::new());
    while let Some(part) = form.next().await? {
        let mut file = cx.shard().temp_file(std::env::temp_dir()).await?;
        sizes.push(file.take(part).await?);
    }
    cx.json(&sizes)
}

#[derive(Deserialize)]
struct Row {
    id: u64,
    name: String,
}

async fn json(cx: &Ctx<()>) -> Result<Reply> {
    let (mut rows, mut sum) = (cx.json_items::<Row>(), 0);
    while let Some(row) = rows.next().await? {
        sum += row.id + row.name.len() as u64;
    }
    cx.json(&sum)
}

async fn csv(cx: &Ctx<()>) -> Result<Reply> {
    let (mut rows, mut sum) = (cx.csv::<Row>(), 0);
    while let Some(row) = rows.next().await? {
        sum += row.id + row.name.len() as u64;
    }
    cx.json(&sum)
}

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
            .put("/upload", upload)
            .post("/form", form)
            .post("/json", json)
            .post("/csv", csv))
    })
}
