//! axum's upload, as its example has it: the body as a stream, piece by piece into tokio's file.

use std::io;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::put;
use futures_util::StreamExt;
use soloist_peers::Options;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    options.tokio()?.block_on(async {
        let app = Router::new()
            .route("/upload", put(upload))
            .layer(DefaultBodyLimit::disable())
            .with_state(options.root.clone());
        axum::serve(tokio::net::TcpListener::from_std(options.listener()?)?, app).await
    })
}

async fn upload(State(root): State<PathBuf>, body: Body) -> Result<String, (StatusCode, String)> {
    let bytes = store(root, body).await;
    bytes.map(|it| it.to_string()).map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

async fn store(root: PathBuf, body: Body) -> io::Result<usize> {
    let mut file = File::create(root.join("upload")).await?;
    let mut stream = body.into_data_stream();
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(io::Error::other)?;
        file.write_all(&chunk).await?;
        bytes += chunk.len();
    }
    file.flush().await?;
    Ok(bytes)
}
