//! A request of a test, from its first word to its answer.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use serde::Serialize;

use super::rig::collect;
use super::{Answer, TestClient};
use crate::base::wire::Close;

/// A request that is being put together; await it for the answer.
#[must_use = "a call is made when it is awaited"]
pub struct Call<'a> {
    pub(super) client: &'a TestClient,
    method: String,
    path: String,
    fields: String,
    pub(super) body: Vec<u8>,
    piece_bytes: usize,
}

impl<'a> Call<'a> {
    pub(super) fn new(client: &'a TestClient, method: &str, path: &str) -> Call<'a> {
        Call {
            client,
            method: method.to_owned(),
            path: path.to_owned(),
            fields: String::new(),
            body: Vec::new(),
            piece_bytes: usize::MAX,
        }
    }

    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Call<'a> {
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Call<'a> {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Sets the body as JSON.
    pub fn json(self, value: &impl Serialize) -> Call<'a> {
        let body = serde_json::to_vec(value).expect("a value that serialises");
        self.header("content-type", "application/json").body(body)
    }

    pub(super) fn head(&self) -> String {
        let Call { method, path, fields, .. } = self;
        let length = match self.body.len() {
            0 => String::new(),
            len => format!("content-length: {len}\r\n"),
        };
        format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{fields}{length}\r\n")
    }

    /// Sends the body late, in pieces of so many bytes.
    pub fn pieces(mut self, bytes: usize) -> Call<'a> {
        self.piece_bytes = bytes.max(1);
        self
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let head = self.head();
            let Call { client, method, body, piece_bytes, .. } = self;
            let wire = {
                let mut kept = client.wire.borrow_mut();
                match &*kept {
                    Some(wire) if wire.closing() == Close::Open => wire.clone(),
                    _ => kept.insert(client.rig.connect()).clone(),
                }
            };
            if piece_bytes == usize::MAX {
                wire.push(&[head.as_bytes(), &body].concat());
            } else {
                wire.push(head.as_bytes());
                for piece in body.chunks(piece_bytes) {
                    client.rig.settle().await;
                    wire.push(piece);
                }
            }
            let mut raw = Vec::new();
            poll_fn(|_| {
                collect(&wire, &mut raw);
                let closed = wire.closing() != Close::Open;
                match Answer::read(&raw, &method, closed) {
                    Some((answer, _)) => Poll::Ready(answer.asked_by(head.clone())),
                    None if closed => {
                        panic!("no whole answer to\n{head}\nbut\n{}", String::from_utf8_lossy(&raw))
                    }
                    None => Poll::Pending,
                }
            })
            .await
        })
    }
}
