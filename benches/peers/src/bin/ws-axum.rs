//! axum's WebSocket, as its chat example has it: a broadcast channel, and a task a socket that
//! forwards from it.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use soloist_peers::Options;
use soloist_peers::ws::ROOM_MESSAGES;
use tokio::sync::broadcast::{self, Sender, error::RecvError};

fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    options.tokio()?.block_on(async {
        let app = Router::new()
            .route("/echo", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
            .route("/room", get(room))
            .with_state(broadcast::channel(ROOM_MESSAGES).0);
        axum::serve(tokio::net::TcpListener::from_std(options.listener()?)?, app).await
    })
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            break;
        }
    }
}

async fn room(State(sender): State<Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| join(socket, sender))
}

async fn join(socket: WebSocket, sender: Sender<Utf8Bytes>) {
    let mut receiver = sender.subscribe();
    let (mut sink, mut stream) = socket.split();
    let forwarder = tokio::spawn(async move {
        loop {
            match receiver.recv().await {
                Ok(text) => {
                    if sink.send(Message::Text(text)).await.is_err() {
                        break;
                    }
                }
                Err(RecvError::Lagged(_)) => {} // slow: it misses what was overwritten
                Err(RecvError::Closed) => break,
            }
        }
    });
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Text(text) = message
            && text.starts_with('!')
        {
            let _ = sender.send(text);
        }
    }
    forwarder.abort();
}
