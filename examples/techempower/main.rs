//! TechEmpower's tests, whole: rows of PostgreSQL as JSON and as a page, one and many, read and
//! written. Many rows by their keys go by the lane. The tables are made if they are not there.
//!
//! Run with: `docker run -d -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust postgres`, or any other
//! PostgreSQL, and `DATABASE_URL=postgres://postgres@127.0.0.1/postgres cargo run --release
//! --features postgres-lane --example techempower`
//! Try: `curl http://127.0.0.1:8080/db`, `curl http://127.0.0.1:8080/queries?queries=20`,
//! `curl http://127.0.0.1:8080/updates?queries=20`, `/json`, `/plaintext`, `/fortunes` in a browser

use serde::Serialize;
use soloist::prelude::*;
use soloist::sqlx::{self, Postgres};
use soloist::{Db, DbOptions, PgLane, PgLaneRow};

#[path = "../common/args.rs"]
mod args;

/// A connection does one query at a time: a few a core keep the database busy. One is the lane's.
const CONNECTIONS_A_SHARD: usize = 8;
const WORLD: &str = "SELECT id, randomnumber FROM world WHERE id = $1";
const WORLDS: i32 = 10_000;
const QUERIES_MAX: usize = 500;
const TABLES: &str = include_str!("tables.sql");

#[derive(Serialize, sqlx::FromRow)]
struct World {
    id: i32,
    #[serde(rename = "randomNumber")]
    randomnumber: i32,
}

#[derive(sqlx::FromRow)]
struct Fortune {
    id: i32,
    message: String,
}

/// What a core has of its own.
struct Site {
    db: Db<Postgres>,
    lane: PgLane,
}
type Cx = Ctx<Site>;

fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1/postgres".to_owned());
    args::server()?.run(async move |shard| app(shard, &url).await) // on every core
}

async fn app(shard: Shard, url: &str) -> Result<App<Site>> {
    let options = DbOptions::new(url).open_max(CONNECTIONS_A_SHARD * shard.count());
    let db: Db<Postgres> = shard.db(options).await?;
    shard.once("tables", async || Ok(sqlx::raw_sql(TABLES).execute(&db).await.map(drop)?)).await?;
    let lane = db.lane().await?;
    Ok(App::new(Site { db, lane })
        .get("/plaintext", async |cx| cx.text("Hello, World!"))
        .get("/json", json)
        .get("/db", one)
        .get("/queries", many)
        .get("/updates", update)
        .get("/fortunes", fortunes))
}

async fn json(cx: &Cx) -> Result<Reply> {
    #[derive(Serialize)]
    struct Message {
        message: &'static str,
    }
    cx.json(&Message { message: "Hello, World!" })
}

async fn one(cx: &Cx) -> Result<Reply> {
    let world: World = sqlx::query_as(WORLD).bind(random()).fetch_one(&cx.state().db).await?;
    cx.json(&world)
}

async fn many(cx: &Cx) -> Result<Reply> {
    cx.json(&worlds(cx).await?)
}

async fn update(cx: &Cx) -> Result<Reply> {
    let mut worlds = worlds(cx).await?;
    worlds.sort_by_key(|it| it.id); // everybody locks rows in the same order
    worlds.iter_mut().for_each(|it| it.randomnumber = random());
    let ids: Vec<i32> = worlds.iter().map(|it| it.id).collect();
    let numbers: Vec<i32> = worlds.iter().map(|it| it.randomnumber).collect();
    let query = sqlx::query(
        "UPDATE world SET randomnumber = new.number \
         FROM (SELECT unnest($1::int[]) AS id, unnest($2::int[]) AS number) AS new \
         WHERE world.id = new.id",
    );
    query.bind(ids).bind(numbers).execute(&cx.state().db).await?;
    cx.json(&worlds)
}

async fn fortunes(cx: &Cx) -> Result<Reply> {
    let mut fortunes: Vec<Fortune> =
        sqlx::query_as("SELECT id, message FROM fortune").fetch_all(&cx.state().db).await?;
    let message = "Additional fortune added at request time.".to_owned();
    fortunes.push(Fortune { id: 0, message });
    fortunes.sort_by(|a, b| a.message.cmp(&b.message));
    cx.html(page(&fortunes))
}

/// As many rows as the request asks for, one query each, as the rules have it.
async fn worlds(cx: &Cx) -> Result<Vec<World>> {
    let asked = cx.query_param("queries").and_then(|it| it.parse().ok()).unwrap_or(1);
    let count = usize::clamp(asked, 1, QUERIES_MAX);
    let read = |row: &PgLaneRow| Ok(World { id: row.get(0)?, randomnumber: row.get(1)? });
    let mut worlds = Vec::with_capacity(count);
    for _ in 0..count {
        worlds.push(cx.state().lane.one(WORLD, &[&random()], read).await?);
    }
    Ok(worlds)
}

fn random() -> i32 {
    fastrand::i32(1..=WORLDS)
}

fn page(fortunes: &[Fortune]) -> String {
    let mut page = String::with_capacity(2048);
    page.push_str("<!DOCTYPE html><html><head><title>Fortunes</title></head><body><table>");
    page.push_str("<tr><th>id</th><th>message</th></tr>");
    for Fortune { id, message } in fortunes {
        page.push_str("<tr><td>");
        page.push_str(&id.to_string());
        page.push_str("</td><td>");
        escape(message, &mut page);
        page.push_str("</td></tr>");
    }
    page.push_str("</table></body></html>");
    page
}

fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
}

#[test]
fn what_is_of_others_is_escaped() {
    let fortune = |id, message: &'static str| Fortune { id, message: message.into() };
    let page =
        page(&[fortune(1, "<script>alert('1 & \"2\"')</script>"), fortune(2, "\u{30d9}\u{30f3}")]);
    let first = "<td>1</td><td>&lt;script&gt;alert(&#39;1 &amp; &quot;2&quot;&#39;)&lt;/script&gt;";
    assert!(page.contains(first), "{page}");
    assert!(page.contains("<td>2</td><td>\u{30d9}\u{30f3}</td>"), "{page}");
}
