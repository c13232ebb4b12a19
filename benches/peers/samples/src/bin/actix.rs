//! The sample application on actix-web.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{ErrorBadRequest, ErrorNotFound, ErrorUnauthorized};
use actix_web::http::header;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, Json, Path, PathConfig, ServiceConfig};
use actix_web::{App, Error, HttpResponse, HttpServer, Responder, get, post};
use actix_web_lab::sse;
use serde::{Deserialize, Serialize};
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

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let state = Data::new(AppState::default());
    HttpServer::new(move || {
        App::new().app_data(state.clone()).wrap(from_fn(count)).configure(routes)
    })
    .bind("127.0.0.1:8080")?
    .run()
    .await
}

fn routes(config: &mut ServiceConfig) {
    config
        .app_data(PathConfig::default().error_handler(|error, _| ErrorBadRequest(error)))
        .service(hello)
        .service(show)
        .service(create)
        .service(ticks)
        .service(web::scope("/admin").wrap(from_fn(admins_only)).service(served));
}

#[get("/")]
async fn hello() -> impl Responder {
    "hello, world"
}

#[get("/todos/{id}")]
async fn show(state: Data<AppState>, id: Path<u64>) -> Result<Json<Todo>, Error> {
    let id = id.into_inner();
    let todos = state.todos.lock().unwrap();
    let title = todos.get(&id).cloned().ok_or_else(|| ErrorNotFound("not found"))?;
    Ok(Json(Todo { id, title }))
}

#[post("/todos")]
async fn create(state: Data<AppState>, new: Json<NewTodo>) -> Result<HttpResponse, Error> {
    let NewTodo { title } = new.into_inner();
    if title.is_empty() {
        return Err(ErrorBadRequest("title: empty"));
    }
    let mut todos = state.todos.lock().unwrap();
    let id = todos.len() as u64 + 1;
    todos.insert(id, title.clone());
    let location = (header::LOCATION, format!("/todos/{id}"));
    Ok(HttpResponse::Created().insert_header(location).json(Todo { id, title }))
}

#[get("/served")]
async fn served(state: Data<AppState>) -> impl Responder {
    state.served.load(Ordering::Relaxed).to_string()
}

#[get("/ticks")]
async fn ticks(state: Data<AppState>) -> impl Responder {
    let ids = tokio_stream::iter(1u64..).throttle(Duration::from_secs(1));
    sse::Sse::from_infallible_stream(ids.map(move |id| {
        let total = state.served.load(Ordering::Relaxed);
        sse::Event::Data(sse::Data::new(total.to_string()).id(id.to_string()))
    }))
}

async fn count(
    state: Data<AppState>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    state.served.fetch_add(1, Ordering::Relaxed);
    next.call(request).await
}

async fn admins_only(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match request.headers().get(header::AUTHORIZATION) {
        Some(value) if value == "Bearer root" => next.call(request).await,
        _ => Err(ErrorUnauthorized("unauthorized")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;

    use actix_web::body::MessageBody;
    use actix_web::test::{self, TestRequest, call_and_read_body, call_service};

    #[actix_web::test]
    async fn todos() {
        let state = Data::new(AppState::default());
        let app = App::new().app_data(state).wrap(from_fn(count)).configure(routes);
        let app = test::init_service(app).await;
        let get = |path| TestRequest::get().uri(path).to_request();
        let post = |title| {
            let request = TestRequest::post().uri("/todos");
            request.set_json(serde_json::json!({ "title": title })).to_request()
        };
        let todo = r#"{"id":1,"title":"tune"}"#;

        assert_eq!(call_and_read_body(&app, get("/")).await, "hello, world");
        assert_eq!(call_service(&app, get("/nowhere")).await.status(), 404);
        let refused = call_service(&app, get("/todos/x")).await;
        assert_eq!(refused.status(), 400);
        assert_eq!(
            test::read_body(refused).await,
            "Path deserialize error: can not parse \"x\" to a u64"
        );
        assert_eq!(call_service(&app, get("/todos/1")).await.status(), 404);
        let refused = call_service(&app, post("")).await;
        assert_eq!(refused.status(), 400);
        assert_eq!(test::read_body(refused).await, "title: empty");
        let made = call_service(&app, post("tune")).await;
        assert_eq!(made.status(), 201);
        assert_eq!(made.headers().get(header::LOCATION).unwrap(), "/todos/1");
        assert_eq!(test::read_body(made).await, todo);
        assert_eq!(call_and_read_body(&app, get("/todos/1")).await, todo);
        let refused = test::try_call_service(&app, get("/admin/served")).await.unwrap_err();
        assert_eq!(refused.error_response().status(), 401);
        let admin = TestRequest::get().uri("/admin/served");
        let admin = admin.insert_header((header::AUTHORIZATION, "Bearer root")).to_request();
        assert_eq!(call_and_read_body(&app, admin).await, "9");
        let mut stream = pin!(call_service(&app, get("/ticks")).await.into_body());
        let first = poll_fn(|cx| stream.as_mut().poll_next(cx)).await.unwrap().unwrap();
        assert_eq!(first, "id: 1\ndata: 10\n\n");
    }
}
