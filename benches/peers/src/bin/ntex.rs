//! ntex on its own runtime (neon) over io_uring.

use ntex::http::HttpServiceConfig;
use ntex::time::Seconds;
use ntex::web::types::{Json, Path};
use ntex::web::{self, App, HttpServer};
use soloist_peers::{BACKLOG, Echo, HELLO, IDLE, Options, User};

#[ntex::main]
async fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    let http = HttpServiceConfig::new().set_keepalive(Seconds(IDLE.as_secs() as u16));
    HttpServer::new(async || App::new().service((hello, user, echo)))
        .config(ntex::SharedCfg::new("peers").add(http))
        .workers(options.workers)
        .backlog(BACKLOG)
        .listen(options.listener()?)?
        .run()
        .await
}

#[web::get("/")]
async fn hello() -> &'static str {
    HELLO
}

#[web::get("/users/{id}")]
async fn user(id: Path<u64>) -> Json<User> {
    Json(User::new(*id))
}

#[web::post("/echo")]
async fn echo(echo: Json<Echo>) -> Json<Echo> {
    Json(echo.into_inner().next())
}
