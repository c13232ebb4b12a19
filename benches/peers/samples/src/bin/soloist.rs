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
    Server::bind("127.0.0.1:8080").run(app)
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
    let id: u64 = cx.param("id")?;
    let shard = cx.shard();
    // A todo lives on the shard that made it: the remainder of its id.
    let title = shard.on(id as usize % shard.count(), async move |owner| {
        let state = owner.got::<State>().ok_or_else(Error::not_found)?;
        state.todos.borrow().get(&id).cloned().ok_or_else(Error::not_found)
    });
    cx.json(&Todo { id, title: &title.await? })
}

async fn create(cx: &Cx) -> Result<Reply> {
    let NewTodo { title } = cx.body_json().await?;
    if title.is_empty() {
        return Err(Error::bad_request("title: empty"));
    }
    let mut todos = cx.state().todos.borrow_mut();
    let shard = cx.shard();
    let id = ((todos.len() + 1) * shard.count() + shard.id()) as u64;
    cx.status(201).set_header("location", format!("/todos/{id}"));
    cx.json(&Todo { id, title: todos.entry(id).or_insert(title) })
}

async fn served(cx: &Cx) -> Result<Reply> {
    cx.text(total(cx).await?.to_string())
}

async fn total(cx: &Cx) -> Result<u64> {
    let count = async |it: Shard| Ok(it.got::<State>().map_or(0, |state| state.served.get()));
    Ok(cx.shard().on_all(count).await?.iter().sum())
}

async fn ticks(cx: &Cx) -> Result<Reply> {
    let mut seconds = cx.shard().interval(Duration::from_secs(1));
    let mut events = cx.events().await?;
    let mut id = 0;
    while let Some(()) = events.wait(seconds.tick()).await {
        id += 1;
        events.send(Event::json(&total(cx).await?).id(&id.to_string())).await?;
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
            let mut ticks = client.get("/ticks").events().await;
            let told = ticks.next().await.unwrap();
            assert_eq!((told.id.as_deref(), &*told.data), (Some("1"), "10"));
        });
    }
}
