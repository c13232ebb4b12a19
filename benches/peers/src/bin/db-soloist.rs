//! One row of SQLite by ours, from its pool and from the lane beside it; many rows of PostgreSQL by
//! a connection of the pool. What else it does with PostgreSQL is `examples/techempower`.

use soloist::prelude::*;
use soloist::sqlx::{self, Postgres, Sqlite};
use soloist::{Db, DbConnection, DbOptions, SqliteLane, SqliteLaneRow};
use soloist_peers::Options;
use soloist_peers::worlds::{self, Many, UPDATE, WORLD, World};

fn main() -> Result<()> {
    let options = Options::from_args();
    let limits =
        Limits { idle_ms_max: soloist_peers::IDLE.as_millis() as u64, ..Limits::default() };
    let mut server = Server::bind(options.addr.to_string()).shards(options.workers).limits(limits);
    if let Some(name) = &options.congestion {
        server = server.congestion(name);
    }
    let is_file = options.url.starts_with("sqlite:");
    let wanted = DbOptions::new(options.url).open_max(options.connections as usize);
    if !is_file {
        return server.run(async move |shard: Shard| {
            let db: Db<Postgres> = shard.db(wanted).await?;
            Ok(App::new(db).get("/queries", many).get("/updates", update))
        });
    }
    server.run(async move |shard: Shard| {
        let db: Db<Sqlite> = shard.db(wanted).await?;
        let lane = db.lane()?;
        Ok(App::new(State { db, lane }).get("/db", row).get("/lane", row_by_lane))
    })
}

struct State {
    db: Db<Sqlite>,
    lane: SqliteLane,
}

async fn many(cx: &Ctx<Db<Postgres>>) -> Result<Reply> {
    let mut conn = cx.state().acquire().await?; // once, not for each
    cx.json(&worlds(&mut conn, cx.query_as::<Many>()?.count()).await?)
}

async fn update(cx: &Ctx<Db<Postgres>>) -> Result<Reply> {
    let mut conn = cx.state().acquire().await?;
    let mut worlds = worlds(&mut conn, cx.query_as::<Many>()?.count()).await?;
    let (ids, numbers) = worlds::change(&mut worlds);
    sqlx::query(UPDATE).bind(ids).bind(numbers).execute(&mut conn).await?;
    cx.json(&worlds)
}

async fn worlds(conn: &mut DbConnection<Postgres>, count: usize) -> Result<Vec<World>> {
    let mut worlds = Vec::with_capacity(count);
    for _ in 0..count {
        let query = sqlx::query_as(WORLD).bind(worlds::random());
        worlds.push(query.fetch_one(&mut *conn).await?);
    }
    Ok(worlds)
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
