//! Point selects by sqlx on tokio: its stock pool, or (`--way alone`) a connection for each task.

use soloist_peers::db::{Asker, Options};
use soloist_peers::worlds::WORLD;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool};

fn main() -> Result<(), sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask())
}

async fn ask() -> Result<(), sqlx::Error> {
    let options = Options::from_args();
    let connections = options.connections as u32;
    let pool = PgPoolOptions::new().max_connections(connections).connect(&options.url).await?;
    let mut tasks = Vec::new();
    let mut conns = Vec::new();
    if options.way == "alone" {
        for _ in 0..options.tasks {
            conns.push(PgConnection::connect(&options.url).await?);
        }
    }
    let run = options.run();
    for _ in 0..options.tasks {
        let asker = Asker::new(&run);
        tasks.push(match conns.pop() {
            Some(conn) => tokio::spawn(by_itself(asker, conn)),
            None => tokio::spawn(by_pool(asker, pool.clone())),
        });
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    Ok(())
}

async fn by_pool(mut asker: Asker, pool: PgPool) {
    while let Some(id) = asker.next_id() {
        asker.answered(sqlx::query_as(WORLD).bind(id).fetch_one(&pool).await);
    }
}

async fn by_itself(mut asker: Asker, mut conn: PgConnection) {
    while let Some(id) = asker.next_id() {
        asker.answered(sqlx::query_as(WORLD).bind(id).fetch_one(&mut conn).await);
    }
}
