//! SQLite on a shard: queries, transactions and their ends, one writer at a time, named errors.

use std::time::Duration;

use soloist::prelude::*;
use soloist::sqlx::{self, Row, Sqlite};
use soloist::testing::{TestClient, TestServer};
use soloist::{Db, DbOptions};

/// A database of its own, in a folder that goes with it.
struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("soloist-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Place(path)
    }

    fn url(&self) -> String {
        format!("sqlite://{}/db.sqlite", self.0.display())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn table(db: &Db<Sqlite>) -> Result<()> {
    sqlx::query("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE)")
        .execute(db)
        .await?;
    Ok(())
}

#[test]
fn queries_work_without_any_server_and_on_a_virtual_clock() {
    let app = async |shard: Shard| {
        let db = shard.db::<Sqlite>("sqlite::memory:").await?;
        table(&db).await?;
        Ok(App::new(db)
            .post("/:n", async |cx| {
                let n: i64 = cx.param("n")?;
                sqlx::query("INSERT INTO t (n) VALUES ($1)").bind(n).execute(cx.state()).await?;
                cx.empty()
            })
            .get("/sum", async |cx| {
                let sum: i64 =
                    sqlx::query_scalar("SELECT sum(n) FROM t").fetch_one(cx.state()).await?;
                cx.json(&sum)
            })
            .get("/all", async |cx| {
                let rows = sqlx::query("SELECT n FROM t ORDER BY n").fetch_all(cx.state()).await?;
                let all: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                cx.json(&all)
            }))
    };
    TestClient::run(app, async |client| {
        for n in [3, 4, 5] {
            client.post(&format!("/{n}")).await.expect(204);
        }
        client.get("/sum").await.expect(200).text("12");
        client.get("/all").await.expect(200).text("[3,4,5]");
        client.post("/3").await.expect(500); // taken: for the handler to say what it means
    });
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let place = Place::new("transactions");
    let url = place.url();
    let app = async move |shard: Shard| {
        let db = shard.db::<Sqlite>(DbOptions::new(url).open_max(2)).await?;
        table(&db).await?;
        Ok(App::new(db)
            .get("/commit", async |cx| {
                let mut tx = cx.state().begin().await?;
                sqlx::query("INSERT INTO t (n) VALUES (1)").execute(&mut *tx).await?;
                {
                    let mut inner = tx.begin().await?;
                    sqlx::query("INSERT INTO t (n) VALUES (2)").execute(&mut *inner).await?;
                } // dropped: a savepoint alone
                tx.commit().await?;
                cx.empty()
            })
            .get("/drop", async |cx| {
                let mut tx = cx.state().begin().await?;
                sqlx::query("INSERT INTO t (n) VALUES (3)").execute(&mut *tx).await?;
                cx.empty()
            })
            .get("/error", async |cx| {
                let mut tx = cx.state().begin().await?;
                sqlx::query("INSERT INTO t (n) VALUES (4)").execute(&mut *tx).await?;
                Err(Error::new(418, "changed my mind"))
            })
            .get("/panic", async |cx| {
                let mut tx = cx.state().begin().await?;
                sqlx::query("INSERT INTO t (n) VALUES (5)").execute(&mut *tx).await?;
                panic!("on purpose")
            })
            .get("/slow", async |cx| {
                let mut tx = cx.state().begin().await?;
                sqlx::query("INSERT INTO t (n) VALUES (6)").execute(&mut *tx).await?;
                cx.timeout(Duration::from_millis(5), std::future::pending::<()>()).await?;
                cx.empty()
            })
            .get("/all", async |cx| {
                let all: Vec<i64> =
                    sqlx::query_scalar("SELECT n FROM t").fetch_all(cx.state()).await?;
                cx.json(&all)
            })
            .get("/stats", async |cx| cx.json(&cx.state().stats_everywhere())))
    };
    let server = TestServer::start(1, app);
    for (path, status) in
        [("/commit", 204), ("/drop", 204), ("/error", 418), ("/panic", 500), ("/slow", 503)]
    {
        for _ in 0..3 {
            if path != "/commit" {
                server.get(path).expect(status);
            }
        }
    }
    server.get("/commit").expect(204);
    server.get("/all").expect(200).text("[1]");
    println!("{}", String::from_utf8_lossy(server.get("/stats").expect(200).body()));
}
