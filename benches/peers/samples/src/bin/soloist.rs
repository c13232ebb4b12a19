//! The sample application on soloist.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use soloist::prelude::*;

#[derive(Default)]
struct State {
    todos: RefCell<BTreeMap<u64, String>>,
    served: Cell<u64>,
}
type Cx = Ctx<State>;

#[derive(Serialize)]
struct Todo<'a> {
    id: u64,
    title: &'a str,
}

#[derive(Deserialize)]
struct NewTodo {
    title: String,
}

fn main() -> Result<()> {
    Server::bind("127.0.0.1:8080").shards(1).run(app) // one shard: it has all todos
}

async fn app(_: Shard) -> Result<App<State>> {
    Ok(App::new(State::default())
        .wrap(count)
        .get("/", async |cx| cx.text("hello, world"))
        .get("/todos/:id", show)
        .post("/todos", create)
        .get("/ticks", ticks)
        .nest("/admin", |app| app.wrap(admins_only).get("/served", served)))
}

async fn show(cx: &Cx) -> Result<Reply> {
    let id = cx.param("id")?;
    let todos = cx.state().todos.borrow();
    let title = todos.get(&id).ok_or_else(Error::not_found)?;
    cx.json(&Todo { id, title })
}

async fn create(cx: &Cx) -> Result<Reply> {
    let NewTodo { title } = cx.body_json().await?;
    if title.is_empty() {
        return Err(Error::bad_request("title: empty"));
    }
    let mut todos = cx.state().todos.borrow_mut();
    let id = todos.len() as u64 + 1;
    cx.status(201).set_header("location", format!("/todos/{id}"));
    cx.json(&Todo { id, title: todos.entry(id).or_insert(title) })
}

async fn served(cx: &Cx) -> Result<Reply> {
    cx.text(cx.state().served.get().to_string())
}

async fn ticks(cx: &Cx) -> Result<Reply> {
    let mut seconds = cx.shard().interval(Duration::from_secs(1));
    let mut events = cx.events().await?;
    let mut id = 0;
    while let Some(()) = events.wait(seconds.tick()).await {
        id += 1;
        events.send(Event::json(&cx.state().served.get()).id(&id.to_string())).await?;
    }
    events.finish().await
}

async fn count(cx: &Cx, next: Next<'_>) -> Result<Reply> {
    cx.state().served.update(|served| served + 1);
    next.run().await
}

async fn admins_only(cx: &Cx, next: Next<'_>) -> Result<Reply> {
    match cx.header("authorization") {
        Some("Bearer root") => next.run().await,
        _ => Err(Error::unauthorized()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use soloist::testing::TestClient;

    #[test]
    fn todos() {
        TestClient::run(app, async |client| {
            let todo = r#"{"id":1,"title":"tune"}"#;
            client.get("/").await.expect(200).text("hello, world");
            client.get("/nowhere").await.expect(404);
            client.get("/todos/x").await.expect(400).text("id: not a number");
            client.get("/todos/1").await.expect(404);
            client.post("/todos").body(r#"{"title":""}"#).await.expect(400).text("title: empty");
            let made = client.post("/todos").body(r#"{"title":"tune"}"#).await;
            assert_eq!(made.expect(201).text(todo).header("location"), Some("/todos/1"));
            client.get("/todos/1").await.expect(200).text(todo);
            client.get("/admin/served").await.expect(401);
            let admin = client.get("/admin/served").header("authorization", "Bearer root");
            admin.await.expect(200).text("9");
            let (ticks, mut out) = (client.open(), Vec::new());
            ticks.exchange(b"GET /ticks HTTP/1.1\r\nhost: test\r\n\r\n", &mut out);
            client.advance(Duration::from_secs(1)).await;
            ticks.exchange(b"", &mut out);
            assert!(String::from_utf8(out).unwrap().contains("id: 1\ndata: 10\n\n"));
        });
    }
}
