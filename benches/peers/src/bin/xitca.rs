//! xitca-web on its default runtime.

use soloist_peers::{BACKLOG, Echo, HELLO, IDLE, Options, User};
use xitca_web::App;
use xitca_web::handler::handler_service;
use xitca_web::handler::json::Json;
use xitca_web::handler::params::Params;
use xitca_web::route::{get, post};

fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    App::new()
        .at("/", get(handler_service(async || HELLO)))
        .at("/users/{id}", get(handler_service(user)))
        .at("/echo", post(handler_service(echo)))
        .serve()
        .worker_threads(options.workers)
        .backlog(BACKLOG as u32)
        .keep_alive_timeout(IDLE)
        .listen(options.listener()?)?
        .run()
        .wait()
}

async fn user(Params(id): Params<u64>) -> Json<User> {
    Json(User::new(id))
}

async fn echo(Json(echo): Json<Echo>) -> Json<Echo> {
    Json(echo.next())
}
