//! fastwebsockets: hyper for the handshake, then the bare TCP stream, which is its fastest shape.

use std::convert::Infallible;

use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocket,
    WebSocketError,
};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use soloist_peers::Options;
use soloist_peers::ws::ROOM_MESSAGES;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Sender, error::RecvError};

fn main() -> std::io::Result<()> {
    let options = Options::from_args();
    options.tokio()?.block_on(async {
        let listener = TcpListener::from_std(options.listener()?)?;
        let sender = broadcast::channel(ROOM_MESSAGES).0;
        loop {
            let (stream, _) = listener.accept().await?;
            let sender = sender.clone();
            let service = service_fn(move |request| answer(request, sender.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    })
}

async fn answer(
    mut request: Request<Incoming>,
    sender: Sender<Bytes>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let to_room = request.uri().path() == "/room";
    let Ok((response, upgraded)) = upgrade(&mut request) else {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    tokio::spawn(async move {
        // How a socket ends is of no interest here.
        let _ = if to_room { room(upgraded, sender).await } else { echo(upgraded).await };
    });
    Ok(response)
}

/// The socket without hyper's wrapping, whose every call is a dynamic one.
async fn unwrap(upgraded: UpgradeFut) -> Result<WebSocket<TcpStream>, WebSocketError> {
    let wrapped = upgraded.await?.into_inner().into_inner();
    match wrapped.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) if parts.read_buf.is_empty() => {
            Ok(WebSocket::after_handshake(parts.io.into_inner(), Role::Server))
        }
        // None of the clients here sends before it has the answer.
        _ => Err(WebSocketError::UnexpectedEOF),
    }
}

async fn echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(unwrap(upgraded).await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn room(upgraded: UpgradeFut, sender: Sender<Bytes>) -> Result<(), WebSocketError> {
    let socket = unwrap(upgraded).await?;
    let mut receiver = sender.subscribe();
    let (read, mut write) = socket.split(TcpStream::into_split);
    let mut read = FragmentCollectorRead::new(read);
    let forwarder = tokio::spawn(async move {
        loop {
            match receiver.recv().await {
                Ok(text) => {
                    if write.write_frame(Frame::text(Payload::Borrowed(&text))).await.is_err() {
                        break;
                    }
                }
                Err(RecvError::Lagged(_)) => {} // slow: it misses what was overwritten
                Err(RecvError::Closed) => break,
            }
        }
    });
    let mut no_answer = |_| async { Ok::<_, WebSocketError>(()) };
    while let Ok(frame) = read.read_frame(&mut no_answer).await {
        match frame.opcode {
            OpCode::Close => break,
            OpCode::Text if frame.payload.starts_with(b"!") => {
                let _ = sender.send(Bytes::copy_from_slice(&frame.payload));
            }
            _ => {}
        }
    }
    forwarder.abort();
    Ok(())
}
