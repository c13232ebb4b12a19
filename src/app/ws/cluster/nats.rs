//! A NATS server as broker: one connection publishes, one hears.
//!
//! It does not say that it has taken a message. So each connection hears a subject of its own: what
//! comes back there has passed behind all that was published before it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use async_nats::{Client, ConnectOptions, Event, Message, ServerAddr, Subscriber};
use futures_core::Stream;
use tokio::task::AbortHandle;

use super::broker::Outcome;
use super::inbound::Inbound;
use crate::limits::cluster::NATS_WAITING_MAX;

/// Where it is, and the subject of the cluster there.
pub(super) struct Broker {
    addr: ServerAddr,
    subject: String,
}

impl Broker {
    pub(super) fn new(cluster: &str, url: &str) -> Outcome<Broker> {
        let wrong = |_| "no URL of a NATS server, nats://HOST:PORT".to_owned();
        let addr: ServerAddr = url.parse().map_err(wrong)?;
        Ok(Broker { addr, subject: format!("soloist.rooms.{cluster}") })
    }

    pub(super) async fn connect(&self, inbound: Arc<Inbound>) -> Outcome<Connections> {
        let hears = Connection::new(&self.addr, inbound.clone()).await?;
        let mut heard = hears.client.subscribe(self.subject.clone()).await.map_err(text)?;
        let publishes = Connection::new(&self.addr, inbound.clone()).await?;
        let hearing = tokio::spawn(async move {
            while let Some(message) = next(&mut heard).await {
                inbound.push(message.payload.into());
            }
            inbound.close();
        });
        let hearing = Hearing(hearing.abort_handle());
        let mut connections =
            Connections { hears, publishes, subject: self.subject.clone(), _hearing: hearing };
        connections.ping().await?; // it has taken the subscription
        Ok(connections)
    }
}

/// Where it is: no more of the URL than that.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nats {}:{}", self.addr.host(), self.addr.port())
    }
}

pub(super) struct Connections {
    hears: Connection,
    publishes: Connection,
    subject: String,
    _hearing: Hearing,
}

impl Connections {
    pub(super) async fn publish(&mut self, batch: &[Vec<u8>]) -> Outcome<usize> {
        let bytes_max = self.publishes.client.server_info().max_payload;
        let fit = batch.iter().filter(|message| message.len() <= bytes_max);
        for message in fit.clone() {
            let (subject, message) = (self.subject.clone(), message.clone().into());
            self.publishes.client.publish(subject, message).await.map_err(text)?;
        }
        self.publishes.round_trip().await?;
        Ok(fit.count())
    }

    pub(super) async fn ping(&mut self) -> Outcome<()> {
        self.hears.round_trip().await?;
        self.publishes.round_trip().await
    }
}

struct Connection {
    client: Client,
    /// A subject that nobody else knows.
    own: String,
    back: Subscriber,
}

impl Connection {
    async fn new(addr: &ServerAddr, inbound: Arc<Inbound>) -> Outcome<Connection> {
        let options = ConnectOptions::new()
            .name("soloist")
            .subscription_capacity(NATS_WAITING_MAX)
            // Bounded by the caller, on the shard's clock; made anew by the caller, too.
            .request_timeout(None)
            .max_reconnects(1)
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    inbound.close();
                }
                async {}
            });
        let addr = addr.clone();
        // Apart: with a server that asks for TLS the client panics where nothing brings ciphers.
        let connecting = tokio::spawn(options.connect(addr)).await;
        let client = connecting.map_err(|_| NO_CIPHERS.to_owned())?.map_err(text)?;
        let own = client.new_inbox();
        let back = client.subscribe(own.clone()).await.map_err(text)?;
        Ok(Connection { client, own, back })
    }

    /// Returns when the server has taken all that was sent before.
    async fn round_trip(&mut self) -> Outcome<()> {
        self.client.publish(self.own.clone(), Vec::new().into()).await.map_err(text)?;
        self.client.flush().await.map_err(text)?;
        match next(&mut self.back).await {
            Some(_) => Ok(()),
            None => Err("the connection is closed".to_owned()),
        }
    }
}

const NO_CIPHERS: &str =
    "the client failed: a server that asks for TLS takes the feature `ring` of async-nats";

/// The task that hears; it ends with the connections.
struct Hearing(AbortHandle);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn next(subscriber: &mut Subscriber) -> Option<Message> {
    poll_fn(|cx| Pin::new(&mut *subscriber).poll_next(cx)).await
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
