//! actix-web, as its documentation has it.

use actix_web::{App, HttpServer, get, post, web};
use soloist_peers::{BACKLOG, Echo, HELLO, IDLE, Options, User};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    HttpServer::new(|| App::new().service(hello).service(user).service(echo))
        .workers(options.workers)
        .backlog(BACKLOG as u32)
        .keep_alive(IDLE)
        .listen(options.listener()?)?
        .run()
        .await
}

#[get("/")]
async fn hello() -> &'static str {
    HELLO
}

#[get("/users/{id}")]
async fn user(id: web::Path<u64>) -> web::Json<User> {
    web::Json(User::new(*id))
}

#[post("/echo")]
async fn echo(echo: web::Json<Echo>) -> web::Json<Echo> {
    web::Json(echo.into_inner().next())
}
