//! The sample application on salvo.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use salvo::affix_state;
use salvo::http::header;
use salvo::prelude::*;
use salvo::server::ServerHandle;
use salvo::sse::{self, SseEvent};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::StreamExt;

#[derive(Default)]
struct AppState {
    todos: Mutex<BTreeMap<u64, String>>,
    served: AtomicU64,
}

#[derive(Serialize)]
struct Todo {
    id: u64,
    title: String,
}

#[derive(Deserialize)]
struct NewTodo {
    title: String,
}

#[tokio::main]
async fn main() {
    let acceptor = TcpListener::new("127.0.0.1:8080").bind().await;
    let server = Server::new(acceptor);
    tokio::spawn(shutdown_signal(server.handle()));
    server.serve(service()).await;
}

fn service() -> Service {
    let todos = Router::with_path("todos").post(create).push(Router::with_path("{id}").get(show));
    let admin = Router::with_path("admin").hoop(admins_only);
    let router = Router::new()
        .get(hello)
        .push(todos)
        .push(Router::with_path("ticks").get(ticks))
        .push(admin.push(Router::with_path("served").get(served)));
    Service::new(router).hoop(affix_state::inject(Arc::new(AppState::default()))).hoop(count)
}

#[handler]
async fn hello() -> &'static str {
    "hello, world"
}

#[handler]
async fn show(req: &mut Request, depot: &mut Depot) -> Result<Json<Todo>, StatusError> {
    let not_a_number = || StatusError::bad_request().brief("id: not a number");
    let id = req.param::<u64>("id").ok_or_else(not_a_number)?;
    let todos = depot.get_typed::<Arc<AppState>>().unwrap().todos.lock().unwrap();
    let title = todos.get(&id).cloned().ok_or_else(StatusError::not_found)?;
    Ok(Json(Todo { id, title }))
}

#[handler]
async fn create(
    req: &mut Request,
    depot: &mut Depot,
    res: &mut Response,
) -> Result<Json<Todo>, StatusError> {
    let parsed = req.parse_json::<NewTodo>().await;
    let NewTodo { title } = parsed.map_err(|error| StatusError::bad_request().cause(error))?;
    if title.is_empty() {
        return Err(StatusError::bad_request().brief("title: empty"));
    }
    let mut todos = depot.get_typed::<Arc<AppState>>().unwrap().todos.lock().unwrap();
    let id = todos.len() as u64 + 1;
    todos.insert(id, title.clone());
    res.status_code(StatusCode::CREATED);
    res.headers_mut().insert(header::LOCATION, format!("/todos/{id}").parse().unwrap());
    Ok(Json(Todo { id, title }))
}

#[handler]
async fn served(depot: &mut Depot) -> String {
    depot.get_typed::<Arc<AppState>>().unwrap().served.load(Ordering::Relaxed).to_string()
}

#[handler]
async fn ticks(depot: &mut Depot, res: &mut Response) {
    let state = depot.get_typed::<Arc<AppState>>().unwrap().clone();
    let ids = tokio_stream::iter(1u64..).throttle(Duration::from_secs(1));
    let events = ids.map(move |id| {
        let total = state.served.load(Ordering::Relaxed);
        Ok::<_, Infallible>(SseEvent::default().id(id.to_string()).text(total.to_string()))
    });
    sse::stream(res, events);
}

#[handler]
async fn count(depot: &mut Depot) {
    depot.get_typed::<Arc<AppState>>().unwrap().served.fetch_add(1, Ordering::Relaxed);
}

#[handler]
async fn admins_only(req: &mut Request) -> Result<(), StatusError> {
    match req.header::<&str>(header::AUTHORIZATION) {
        Some("Bearer root") => Ok(()),
        _ => Err(StatusError::unauthorized()),
    }
}

async fn shutdown_signal(handle: ServerHandle) {
    let mut interrupt = signal(SignalKind::interrupt()).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    handle.stop_graceful(None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use salvo::test::{RequestBuilder, ResponseExt, TestClient};

    fn get(path: &str) -> RequestBuilder {
        TestClient::get(format!("http://localhost{path}"))
    }

    fn post(body: &str) -> RequestBuilder {
        TestClient::post("http://localhost/todos").raw_json(body)
    }

    async fn expect(
        service: &Service,
        request: RequestBuilder,
        status: u16,
        body: &str,
    ) -> Response {
        let mut res = request.send(service).await;
        assert_eq!(res.status_code.unwrap(), status);
        assert!(res.take_string().await.unwrap().contains(body));
        res
    }

    #[tokio::test]
    async fn todos() {
        let service = service();
        let todo = r#"{"id":1,"title":"tune"}"#;
        expect(&service, get("/"), 200, "hello, world").await;
        expect(&service, get("/nowhere"), 404, "").await;
        expect(&service, get("/todos/x"), 400, "id: not a number").await;
        expect(&service, get("/todos/1"), 404, "").await;
        expect(&service, post(r#"{"title":""}"#), 400, "title: empty").await;
        let made = expect(&service, post(r#"{"title":"tune"}"#), 201, todo).await;
        assert_eq!(made.headers()[header::LOCATION], "/todos/1");
        expect(&service, get("/todos/1"), 200, todo).await;
        expect(&service, get("/admin/served"), 401, "").await;
        let admin = get("/admin/served").add_header(header::AUTHORIZATION, "Bearer root", true);
        expect(&service, admin, 200, "9").await;
        let mut stream = get("/ticks").send(&service).await.take_body();
        let first = stream.next().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "data: 10\nid: 1\n\n");
    }
}
