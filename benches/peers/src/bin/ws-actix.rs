//! actix-ws, with a broadcast channel and a task a socket that forwards from it.

use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, rt, web};
use actix_ws::{AggregatedMessage, handle};
use bytestring::ByteString;
use soloist_peers::ws::{MESSAGE_BYTES_MAX, ROOM_MESSAGES};
use soloist_peers::{BACKLOG, IDLE, Options};
use tokio::sync::broadcast::{self, Sender, error::RecvError};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    let sender: Sender<ByteString> = broadcast::channel(ROOM_MESSAGES).0;
    HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(sender.clone()))
            .route("/echo", web::get().to(echo))
            .route("/room", web::get().to(room))
    })
    .workers(options.workers)
    .backlog(BACKLOG as u32)
    .keep_alive(IDLE)
    .listen(options.listener()?)?
    .run()
    .await
}

async fn echo(request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Error> {
    let (response, mut session, stream) = handle(&request, body)?;
    let stream = stream.max_frame_size(MESSAGE_BYTES_MAX).aggregate_continuations();
    let mut stream = stream.max_continuation_size(MESSAGE_BYTES_MAX);
    rt::spawn(async move {
        while let Some(Ok(message)) = stream.recv().await {
            let sent = match message {
                AggregatedMessage::Text(text) => session.text(text).await,
                AggregatedMessage::Binary(bytes) => session.binary(bytes).await,
                AggregatedMessage::Ping(bytes) => session.pong(&bytes).await,
                AggregatedMessage::Pong(_) => Ok(()),
                AggregatedMessage::Close(_) => break,
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = session.close(None).await;
    });
    Ok(response)
}

async fn room(
    request: HttpRequest,
    body: web::Payload,
    sender: web::Data<Sender<ByteString>>,
) -> Result<HttpResponse, Error> {
    let (response, session, stream) = handle(&request, body)?;
    let mut stream = stream.aggregate_continuations();
    let mut receiver = sender.subscribe();
    let mut to = session.clone();
    let forwarder = rt::spawn(async move {
        loop {
            match receiver.recv().await {
                Ok(text) => {
                    if to.text(text).await.is_err() {
                        break;
                    }
                }
                Err(RecvError::Lagged(_)) => {} // slow: it misses what was overwritten
                Err(RecvError::Closed) => break,
            }
        }
    });
    rt::spawn(async move {
        while let Some(Ok(message)) = stream.recv().await {
            if let AggregatedMessage::Text(text) = message
                && text.starts_with('!')
            {
                let _ = sender.send(text);
            }
        }
        forwarder.abort();
        let _ = session.close(None).await;
    });
    Ok(response)
}
