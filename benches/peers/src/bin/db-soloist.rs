//! One row of SQLite by ours, from its pool and from the lane beside it. What it does with
//! PostgreSQL is `examples/techempower`.

use soloist::prelude::*;
use soloist::sqlx::{self, Sqlite};
use soloist::{Db, DbOptions, SqliteLane, SqliteLaneRow};
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
        let lane = db.lane()?;
        Ok(App::new(State { db, lane }).get("/db", row).get("/lane", row_by_lane))
    })
}

struct State {
    db: Db<Sqlite>,
    lane: SqliteLane,
}

async fn row(cx: &Ctx<State>) -> Result<Reply> {
    let query = sqlx::query_as(WORLD).bind(worlds::random());
    let world: World = query.fetch_one(&cx.state().db).await?;
    cx.json(&world)
}

async fn row_by_lane(cx: &Ctx<State>) -> Result<Reply> {
    let id = worlds::random();
    let lane = &cx.state().lane;
    let read = |row: &SqliteLaneRow<'_>| {
        Ok(World { id: row.get("id")?, randomnumber: row.get("randomnumber")? })
    };
    cx.json(&lane.one(WORLD, &[&id], read).await?)
}
