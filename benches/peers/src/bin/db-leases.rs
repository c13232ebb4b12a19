//! Leases on the move: two shards, and all load on one of them, which changes. Prints how long it
//! takes until that one holds all but the other's minimum, how long until their connections are
//! open, and how many connections that takes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use soloist::prelude::*;
use soloist::sqlx::{self, Postgres};
use soloist::{Db, DbOptions};
use soloist_peers::db::Options;
use soloist_peers::worlds::{self, WORLD};

const SHARDS: usize = 2;
const MOVES: usize = 20;
/// For so long a shard has all the load.
const STAY: Duration = Duration::from_millis(1_000);
const LOOK: Duration = Duration::from_millis(1);

/// How often the load has moved: it is on the shard of that number, modulo their count.
static MOVED: AtomicUsize = AtomicUsize::new(0);

fn main() -> Result<()> {
    Server::bind("127.0.0.1:0").unpinned(SHARDS).run(app)
}

async fn app(shard: Shard) -> Result<App<()>> {
    let options = Options::from_args();
    let wanted = DbOptions::new(&options.url).open_max(options.connections);
    let db: Db<Postgres> = shard.db(wanted).await?;
    shard.spawn(direct(shard.clone(), db, options));
    Ok(App::new(()))
}

/// Starts this shard's load when it is its turn, and looks at what becomes of the leases.
async fn direct(shard: Shard, db: Db<Postgres>, options: Options) {
    let mut moves: Vec<serde_json::Value> = Vec::new();
    for turn in (0..=MOVES).filter(|it| it % SHARDS == shard.id()) {
        while MOVED.load(Ordering::Acquire) != turn {
            shard.sleep(LOOK).await;
        }
        let (start, opened) = (Instant::now(), db.stats_everywhere().opened);
        for _ in 0..options.tasks {
            shard.spawn(ask(db.clone(), turn));
        }
        let all = options.connections - (SHARDS - 1);
        let (mut held_ms, mut open_ms) = (None, None);
        while open_ms.is_none() && start.elapsed() < STAY {
            shard.sleep(LOOK).await;
            let (stats, ms) = (db.stats(), start.elapsed().as_secs_f64() * 1e3);
            held_ms = held_ms.or((stats.leases >= all).then_some(ms));
            open_ms = (stats.open >= all).then_some(ms);
        }
        let stay_ms = STAY.as_secs_f64() * 1e3;
        let (held_ms, open_ms) = (held_ms.unwrap_or(stay_ms), open_ms.unwrap_or(stay_ms));
        while start.elapsed() < STAY {
            shard.sleep(LOOK).await;
        }
        let connects = db.stats_everywhere().opened - opened;
        if turn > 0 {
            // The first one is the start.
            moves.push(serde_json::json!({
                "ms": held_ms, "open_ms": open_ms, "connects": connects,
            }));
        }
        MOVED.store(turn + 1, Ordering::Release);
    }
    println!("{}", serde_json::json!({ "shard": shard.id(), "moves": moves }));
    if MOVED.load(Ordering::Acquire) > MOVES {
        std::process::exit(0);
    }
}

async fn ask(db: Db<Postgres>, turn: usize) {
    while MOVED.load(Ordering::Acquire) == turn {
        let id = worlds::random();
        let row: Result<(i32, i32), _> = sqlx::query_as(WORLD).bind(id).fetch_one(&db).await;
        row.expect("a row");
    }
}
