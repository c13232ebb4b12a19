//! Point selects by ours: tasks of one shard that ask a database, by its pool or (`--way lane`) by
//! the lane beside it.

use soloist::prelude::*;
use soloist::sqlx::{self, Postgres};
use soloist::{Db, DbOptions, PgLane};
use soloist_peers::db::{Asker, Options};
use soloist_peers::worlds::WORLD;

fn main() -> Result<()> {
    // One worker runs on the core that the bench has pinned the process to.
    Server::bind("127.0.0.1:0").shards(1).run(app)
}

async fn app(shard: Shard) -> Result<App<()>> {
    let options = Options::from_args();
    let is_lane = options.way == "lane";
    // The lane has a connection of its own.
    let open_max = options.connections + usize::from(is_lane);
    let db: Db<Postgres> = shard.db(DbOptions::new(&options.url).open_max(open_max)).await?;
    let lane = if is_lane { Some(db.lane().await?) } else { None };
    let run = options.run();
    for _ in 0..options.tasks {
        let asker = Asker::new(&run);
        match &lane {
            Some(lane) => drop(shard.spawn(by_lane(asker, lane.clone()))),
            None => drop(shard.spawn(by_pool(asker, db.clone()))),
        }
    }
    Ok(App::new(()))
}

async fn by_pool(mut asker: Asker, db: Db<Postgres>) {
    while let Some(id) = asker.next_id() {
        asker.answered(sqlx::query_as(WORLD).bind(id).fetch_one(&db).await);
    }
}

async fn by_lane(mut asker: Asker, lane: PgLane) {
    while let Some(id) = asker.next_id() {
        asker.answered(lane.one(WORLD, &[&id], |row| Ok((row.get(0)?, row.get(1)?))).await);
    }
}
