//! The sample application on ntex.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use ntex::http::header;
use ntex::time::{Millis, interval};
use ntex::util::Bytes;
use ntex::web::error::{ErrorBadRequest, ErrorNotFound};
use ntex::web::types::{Json, Path, State};
use ntex::web::{
    self, App, Error, HttpResponse, HttpServer, ServiceConfig, WebRequest, WebResponse,
};
use ntex::{Middleware, Service, ServiceCtx, SharedCfg};
use serde::{Deserialize, Serialize};

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

#[ntex::main]
async fn main() -> std::io::Result<()> {
    let state = Arc::new(AppState::default());
    HttpServer::new(async move || App::new().state(state.clone()).filter(count).configure(routes))
        .bind("127.0.0.1:8080")?
        .run()
        .await
}

fn routes(config: &mut ServiceConfig) {
    config
        .service((hello, show, create, ticks))
        .service(web::scope("/admin").middleware(AdminsOnly).service(served));
}

#[web::get("/")]
async fn hello() -> &'static str {
    "hello, world"
}

#[web::get("/todos/{id}")]
async fn show(state: State<Arc<AppState>>, id: Path<String>) -> Result<Json<Todo>, Error> {
    let id: u64 = id.parse().map_err(|_| ErrorBadRequest("id: not a number"))?;
    let todos = state.todos.lock().unwrap();
    let title = todos.get(&id).cloned().ok_or_else(|| ErrorNotFound("not found"))?;
    Ok(Json(Todo { id, title }))
}

#[web::post("/todos")]
async fn create(state: State<Arc<AppState>>, new: Json<NewTodo>) -> Result<HttpResponse, Error> {
    let NewTodo { title } = new.into_inner();
    if title.is_empty() {
        return Err(ErrorBadRequest("title: empty").into());
    }
    let mut todos = state.todos.lock().unwrap();
    let id = todos.len() as u64 + 1;
    todos.insert(id, title.clone());
    let location = format!("/todos/{id}");
    Ok(HttpResponse::Created().header(header::LOCATION, location).json(&Todo { id, title }))
}

#[web::get("/served")]
async fn served(state: State<Arc<AppState>>) -> String {
    state.served.load(Ordering::Relaxed).to_string()
}

#[web::get("/ticks")]
async fn ticks(state: State<Arc<AppState>>) -> HttpResponse {
    let ids = interval(Millis(1000)).enumerate();
    HttpResponse::Ok().content_type("text/event-stream").streaming(ids.map(move |(id, ())| {
        let total = state.served.load(Ordering::Relaxed);
        Ok::<_, Infallible>(Bytes::from(format!("id: {}\ndata: {total}\n\n", id + 1)))
    }))
}

async fn count(
    request: WebRequest<web::DefaultError>,
) -> Result<WebRequest<web::DefaultError>, Error> {
    let state = request.app_state::<Arc<AppState>>().unwrap();
    state.served.fetch_add(1, Ordering::Relaxed);
    Ok(request)
}

struct AdminsOnly;

impl<S> Middleware<S, SharedCfg> for AdminsOnly {
    type Service = AdminsOnlyService<S>;

    fn create(&self, service: S, _: SharedCfg) -> Self::Service {
        AdminsOnlyService { service }
    }
}

struct AdminsOnlyService<S> {
    service: S,
}

impl<S, E> Service<WebRequest<E>> for AdminsOnlyService<S>
where
    S: Service<WebRequest<E>, Response = WebResponse>,
{
    type Response = WebResponse;
    type Error = S::Error;

    ntex::forward_poll!(service);
    ntex::forward_ready!(service);
    ntex::forward_shutdown!(service);

    async fn call(
        &self,
        request: WebRequest<E>,
        ctx: ServiceCtx<'_, Self>,
    ) -> Result<Self::Response, Self::Error> {
        match request.headers().get(header::AUTHORIZATION) {
            Some(value) if value == "Bearer root" => ctx.call(&self.service, request).await,
            _ => Ok(request.into_response(HttpResponse::Unauthorized())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ntex::web::test::{self, TestRequest, call_service};

    #[ntex::test]
    async fn todos() {
        let state = Arc::new(AppState::default());
        let app = App::new().state(state).filter(count).configure(routes);
        let app = test::init_service(app).await;
        let get = |path| TestRequest::with_uri(path).to_request();
        let post = |title| {
            let request = TestRequest::post().uri("/todos");
            request.set_json(&serde_json::json!({ "title": title })).to_request()
        };
        let todo = r#"{"id":1,"title":"tune"}"#;

        assert_eq!(test::read_response(&app, get("/")).await, "hello, world");
        assert_eq!(call_service(&app, get("/nowhere")).await.status(), 404);
        let refused = call_service(&app, get("/todos/x")).await;
        assert_eq!(refused.status(), 400);
        assert_eq!(test::read_body(refused).await, "id: not a number");
        assert_eq!(call_service(&app, get("/todos/1")).await.status(), 404);
        let refused = call_service(&app, post("")).await;
        assert_eq!(refused.status(), 400);
        assert_eq!(test::read_body(refused).await, "title: empty");
        let made = call_service(&app, post("tune")).await;
        assert_eq!(made.status(), 201);
        assert_eq!(made.headers().get(header::LOCATION).unwrap(), "/todos/1");
        assert_eq!(test::read_body(made).await, todo);
        assert_eq!(test::read_response(&app, get("/todos/1")).await, todo);
        assert_eq!(call_service(&app, get("/admin/served")).await.status(), 401);
        let admin = TestRequest::with_uri("/admin/served");
        let admin = admin.header(header::AUTHORIZATION, "Bearer root").to_request();
        assert_eq!(test::read_response(&app, admin).await, "9");
        let mut stream = call_service(&app, get("/ticks")).await.take_body();
        assert_eq!(stream.next().await.unwrap().unwrap(), "id: 1\ndata: 10\n\n");
    }
}
