//! One row of SQLite by ours. What it does with PostgreSQL is `examples/techempower`.

use soloist::prelude::*;
use soloist::sqlx::{self, Sqlite};
use soloist::{Db, DbOptions};
use soloist_peers::Options;
use soloist_peers::worlds::{self, WORLD, World};

fn main() -> Result<()> {
    let options = Options::from_args();
    let limits =
        Limits { idle_ms_max: soloist_peers::IDLE.as_millis() as u64, ..Limits::default() };
    let mut server = Server::bind(options.addr.to_string()).shards(options.workers).limits(limits);
    if let Some(name) = &options.congestion {
        server = server.congestion(name);
    }
    server.run(async move |shard: Shard| {
        let wanted = DbOptions::new(options.url).open_max(options.connections as usize);
        let db: Db<Sqlite> = shard.db(wanted).await?;
        Ok(App::new(db).get("/db", row))
    })
}

async fn row(cx: &Ctx<Db<Sqlite>>) -> Result<Reply> {
    let query = sqlx::query_as(WORLD).bind(worlds::random());
    let world: World = query.fetch_one(cx.state()).await?;
    cx.json(&world)
}
