//! axum: a current-thread runtime for one worker, the usual multi-thread one for more.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use soloist_peers::{Echo, GIB_WRITES, HELLO, Options, User, WRITE_BYTES};

fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    options.tokio()?.block_on(async {
        let app = Router::new()
            .route("/", get(async || HELLO))
            .route("/users/{id}", get(async |Path(id): Path<u64>| Json(User::new(id))))
            .route("/echo", post(async |Json(echo): Json<Echo>| Json(echo.next())))
            .route("/ticks", get(ticks))
            .route("/gib", get(gib));
        axum::serve(tokio::net::TcpListener::from_std(options.listener()?)?, app).await
    })
}

async fn ticks() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let start = (tokio::time::interval(Duration::from_secs(1)), 0u64);
    Sse::new(stream::unfold(start, async |(mut interval, n)| {
        interval.tick().await;
        Some((Ok(Event::default().id(n.to_string()).data(n.to_string())), (interval, n + 1)))
    }))
}

async fn gib() -> Body {
    let buffer = vec![b'x'; WRITE_BYTES]; // as if it were read from somewhere
    Body::from_stream(stream::iter(
        (0..GIB_WRITES).map(move |_| Ok::<_, Infallible>(Bytes::copy_from_slice(&buffer))),
    ))
}
