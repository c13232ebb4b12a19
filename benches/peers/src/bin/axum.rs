//! axum: a current-thread runtime for one worker, the usual multi-thread one for more.

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use soloist_peers::{Echo, HELLO, Options, User};
use tokio::runtime::Builder;

fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    let mut runtime = match options.workers {
        1 => Builder::new_current_thread(),
        workers => {
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(workers);
            runtime
        }
    };
    runtime.enable_all().build()?.block_on(async {
        let app = Router::new()
            .route("/", get(async || HELLO))
            .route("/users/{id}", get(async |Path(id): Path<u64>| Json(User::new(id))))
            .route("/echo", post(async |Json(echo): Json<Echo>| Json(echo.next())));
        axum::serve(tokio::net::TcpListener::from_std(options.listener()?)?, app).await
    })
}
