//! A small service, whole: state, JSON both ways, middleware, a part for admins, and its test.
//!
//! Run with: `cargo run --release --example todo`
//! Try: `curl -i http://127.0.0.1:8080/todos -d '{"title":"tune"}'`,
//! `curl http://127.0.0.1:8080/todos/1`,
//! `curl -H 'authorization: Bearer root' http://127.0.0.1:8080/admin/served`

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use soloist::prelude::*;

#[path = "common/args.rs"]
mod args;

#[derive(Clone, Serialize, Deserialize, Debug, PartialEq)]
struct Todo {
    id: i64,
    title: String,
}

/// What one core owns. It never changes threads: no Arc, no Mutex, no Send.
#[derive(Default)]
struct Todos {
    rows: RefCell<BTreeMap<i64, Todo>>,
    served: Cell<u64>,
}
type Cx = Ctx<Todos>;

fn main() -> Result<()> {
    args::server()?.run(app) // `app` runs once on every core, so each has todos of its own
}

async fn app(shard: Shard) -> Result<App<Todos>> {
    let greeting = format!("hello from shard {}", shard.id());
    Ok(App::new(Todos::default())
        .wrap(count)
        .get("/", async move |cx| cx.text(&greeting))
        .get("/todos/:id", show)
        .name("todo")
        .post("/todos", create)
        .nest("/admin", |app| app.wrap(admins_only).get("/served", served)))
}

async fn show(cx: &Cx) -> Result<Reply> {
    let id: i64 = cx.param("id")?; // not a number: 400
    let rows = cx.state().rows.borrow();
    cx.json(rows.get(&id).ok_or_else(Error::not_found)?)
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
    let mut rows = cx.state().rows.borrow_mut();
    let id = rows.len() as i64 + 1;
    let todo = rows.entry(id).or_insert(Todo { id, title: new.title.to_owned() });
    cx.status(201).set_header("location", cx.url("todo", &[("id", &id)])?).json(todo)
}

async fn served(cx: &Cx) -> Result<Reply> {
    cx.text(cx.state().served.get().to_string())
}

async fn count(cx: &Cx, next: Next<'_>) -> Result<Reply> {
    cx.state().served.set(cx.state().served.get() + 1);
    next.run().await
}

async fn admins_only(cx: &Cx, next: Next<'_>) -> Result<Reply> {
    match cx.header("authorization") {
        Some("Bearer root") => next.run().await,
        _ => Err(Error::unauthorized()),
    }
}

#[test]
fn todos() {
    use soloist::testing::TestClient;

    TestClient::run(app, async |client| {
        client.get("/").await.expect(200).text("hello from shard 0");
        client.get("/todos/x").await.expect(400).text("id: not a number");
        client.get("/todos/1").await.expect(404);
        client.post("/todos").body(r#"{"title":""}"#).await.expect(400).text("title: empty");
        let made = client.post("/todos").body(r#"{"title":"tune"}"#).await;
        made.expect(201).has("location", "/todos/1");
        let todo: Todo = client.get("/todos/1").await.expect(200).json();
        assert_eq!(todo, Todo { id: 1, title: "tune".into() });
        client.get("/admin/served").await.expect(401);
        let served = client.get("/admin/served").header("authorization", "Bearer root").await;
        served.expect(200).text("8");
    });
}
