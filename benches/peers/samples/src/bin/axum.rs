//! The sample application on axum.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
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
    let listener = TcpListener::bind("127.0.0.1:8080").await.unwrap();
    axum::serve(listener, app()).with_graceful_shutdown(shutdown_signal()).await.unwrap();
}

fn app() -> Router {
    let state = Arc::new(AppState::default());
    let admin = Router::new().route("/served", get(served)).layer(from_fn(admins_only));
    Router::new()
        .route("/", get(|| async { "hello, world" }))
        .route("/todos/{id}", get(show))
        .route("/todos", post(create))
        .route("/ticks", get(ticks))
        .nest("/admin", admin)
        .layer(from_fn_with_state(state.clone(), count))
        .with_state(state)
}

async fn show(
    State(state): State<Arc<AppState>>,
    Path(id): Path<u64>,
) -> Result<Json<Todo>, StatusCode> {
    let todos = state.todos.lock().unwrap();
    let title = todos.get(&id).cloned().ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Todo { id, title }))
}

async fn create(
    State(state): State<Arc<AppState>>,
    Json(NewTodo { title }): Json<NewTodo>,
) -> Result<impl IntoResponse, (StatusCode, &'static str)> {
    if title.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "title: empty"));
    }
    let mut todos = state.todos.lock().unwrap();
    let id = todos.len() as u64 + 1;
    todos.insert(id, title.clone());
    let location = [(header::LOCATION, format!("/todos/{id}"))];
    Ok((StatusCode::CREATED, location, Json(Todo { id, title })))
}

async fn served(State(state): State<Arc<AppState>>) -> String {
    state.served.load(Ordering::Relaxed).to_string()
}

async fn ticks(
    State(state): State<Arc<AppState>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ids = tokio_stream::iter(1u64..).throttle(Duration::from_secs(1));
    Sse::new(ids.map(move |id| {
        let served = state.served.load(Ordering::Relaxed);
        Ok(Event::default().id(id.to_string()).data(served.to_string()))
    }))
}

async fn count(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    state.served.fetch_add(1, Ordering::Relaxed);
    next.run(request).await
}

async fn admins_only(request: Request, next: Next) -> Result<Response, StatusCode> {
    match request.headers().get(header::AUTHORIZATION) {
        Some(value) if value == "Bearer root" => Ok(next.run(request).await),
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}

async fn shutdown_signal() {
    let mut interrupt = signal(SignalKind::interrupt()).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    fn get(path: &str) -> Request {
        Request::get(path).body(Body::empty()).unwrap()
    }

    fn post(body: &'static str) -> Request {
        let request = Request::post("/todos").header(header::CONTENT_TYPE, "application/json");
        request.body(Body::from(body)).unwrap()
    }

    async fn expect(app: &Router, request: Request, status: u16, body: &str) -> Response<()> {
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        let (parts, rest) = response.into_parts();
        assert_eq!(rest.collect().await.unwrap().to_bytes(), body);
        Response::from_parts(parts, ())
    }

    #[tokio::test]
    async fn todos() {
        let app = app();
        let todo = r#"{"id":1,"title":"tune"}"#;
        expect(&app, get("/"), 200, "hello, world").await;
        expect(&app, get("/nowhere"), 404, "").await;
        let not_a_number = "Invalid URL: Cannot parse `x` to a `u64`";
        expect(&app, get("/todos/x"), 400, not_a_number).await;
        expect(&app, get("/todos/1"), 404, "").await;
        expect(&app, post(r#"{"title":""}"#), 400, "title: empty").await;
        let made = expect(&app, post(r#"{"title":"tune"}"#), 201, todo).await;
        assert_eq!(made.headers()[header::LOCATION], "/todos/1");
        expect(&app, get("/todos/1"), 200, todo).await;
        expect(&app, get("/admin/served"), 401, "").await;
        let mut admin = get("/admin/served");
        admin.headers_mut().insert(header::AUTHORIZATION, "Bearer root".parse().unwrap());
        expect(&app, admin, 200, "9").await;
        let ticks = app.oneshot(get("/ticks")).await.unwrap();
        let first = ticks.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "id: 1\ndata: 10\n\n");
    }
}
