//! A small service, whole: a database with migrations, JSON both ways, middleware, a page, and its
//! test. It needs nothing installed; the same program runs on PostgreSQL by its URL.
//!
//! Run with: `cargo run --release --features sqlite --example todo`, or
//! `DATABASE_URL=postgres://me@localhost/todos cargo run --release --features postgres
//! --example todo`
//! Try: `curl -i http://127.0.0.1:8080/todos -d '{"title":"tune"}'`,
//! `curl http://127.0.0.1:8080/todos`, `curl http://127.0.0.1:8080/stats`, or a browser

use serde::{Deserialize, Serialize};
use soloist::prelude::*;
use soloist::sqlx::migrate::Migrator;
use soloist::sqlx::{self, Any};
use soloist::{Db, DbFault};

#[path = "../common/args.rs"]
mod args;

static SQLITE: Migrator = sqlx::migrate!("examples/todo/migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("examples/todo/migrations/postgres");

#[derive(Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
struct Todo {
    id: i64,
    title: String,
    state: String,
}
type Cx = Ctx<Db<Any>>;

fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://todos.db".to_owned());
    args::server()?.run(async move |shard| app(shard, &url).await) // on every core
}

async fn app(shard: Shard, url: &str) -> Result<App<Db<Any>>> {
    let db = shard.db::<Any>(url).await?; // connections of this core; one budget for all
    let migrations = if url.starts_with("sqlite:") { &SQLITE } else { &POSTGRES };
    shard.once("migrations", async || Ok(migrations.run(&db).await?)).await?;
    Ok(App::new(db)
        .get("/", async |cx| cx.html(include_str!("page.html")))
        .get("/todos", list)
        .post("/todos", create)
        .get("/todos/:id", show)
        .name("todo")
        .post("/todos/:id/done", done)
        .delete("/todos/:id", remove)
        .get("/stats", async |cx| cx.json(&cx.state().stats_everywhere())))
}

async fn list(cx: &Cx) -> Result<Reply> {
    let query = sqlx::query_as("SELECT id, title, state FROM todos ORDER BY id LIMIT 1000");
    let todos: Vec<Todo> = query.fetch_all(&cx.state().named("list")).await?;
    cx.json(&todos)
}

async fn show(cx: &Cx) -> Result<Reply> {
    let id: i64 = cx.param("id")?; // not a number: 400
    let query = sqlx::query_as("SELECT id, title, state FROM todos WHERE id = $1").bind(id);
    let todo: Option<Todo> = query.fetch_optional(&cx.state().named("show")).await?;
    cx.json(&todo.ok_or_else(Error::not_found)?)
}

async fn create(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    struct New<'a> {
        title: &'a str, // borrowed from the receive buffer
    }
    let new: New = cx.body_json().await?;
    if new.title.is_empty() {
        return Err(Error::bad_request("title: empty"));
    }
    let query = sqlx::query_as("INSERT INTO todos (title) VALUES ($1) RETURNING id, title, state");
    let made = query.bind(new.title).fetch_one(&cx.state().named("create")).await;
    let todo: Todo = made.map_err(|error| match DbFault::of(&error) {
        DbFault::Unique => Error::new(409, "title: there already").because(error),
        _ => error.into(), // 503 with Retry-After where the database is the cause
    })?;
    cx.status(201).set_header("location", cx.url("todo", &[("id", &todo.id)])?).json(&todo)
}

async fn done(cx: &Cx) -> Result<Reply> {
    let id: i64 = cx.param("id")?;
    let mut tx = cx.state().begin().await?; // rolled back, unless it is committed
    let query = sqlx::query_scalar("SELECT state FROM todos WHERE id = $1").bind(id);
    let was: Option<String> = query.fetch_optional(&mut *tx).await?;
    let now = if was.ok_or_else(Error::not_found)? == "open" { "done" } else { "open" };
    let query = sqlx::query("UPDATE todos SET state = $1 WHERE id = $2").bind(now).bind(id);
    query.execute(&mut *tx).await?;
    tx.commit().await?;
    cx.text(now)
}

async fn remove(cx: &Cx) -> Result<Reply> {
    let id: i64 = cx.param("id")?;
    let query = sqlx::query("DELETE FROM todos WHERE id = $1").bind(id);
    match query.execute(cx.state()).await?.rows_affected() {
        0 => Err(Error::not_found()),
        _ => cx.empty(),
    }
}

#[test]
fn todos() {
    use soloist::testing::TestClient;

    let app = async |shard| app(shard, "sqlite::memory:").await;
    TestClient::run(app, async |client| {
        client.get("/todos").await.expect(200).text("[]");
        client.get("/todos/x").await.expect(400).text("id: not a number");
        client.get("/todos/1").await.expect(404);
        client.post("/todos").body(r#"{"title":""}"#).await.expect(400).text("title: empty");
        let made = client.post("/todos").body(r#"{"title":"tune"}"#).await;
        made.expect(201).has("location", "/todos/1");
        client.post("/todos").body(r#"{"title":"tune"}"#).await.expect(409);
        let todo: Todo = client.get("/todos/1").await.expect(200).json();
        assert_eq!(todo, Todo { id: 1, title: "tune".into(), state: "open".into() });
        client.post("/todos/1/done").await.expect(200).text("done");
        client.post("/todos/2/done").await.expect(404);
        client.get("/todos").await.text(r#"[{"id":1,"title":"tune","state":"done"}]"#);
        client.delete("/todos/1").await.expect(204);
        client.delete("/todos/1").await.expect(404);
        client.get("/").await.expect(200).contains("<h1>Todos</h1>");
    });
}
