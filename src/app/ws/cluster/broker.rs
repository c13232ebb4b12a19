//! The brokers there are, told apart by their URLs.

use std::fmt;
use std::sync::Arc;

use super::inbound::Inbound;
#[cfg(feature = "nats")]
use super::nats;
#[cfg(feature = "redis")]
use super::redis;
use crate::error::{Error, Result};

pub(super) enum Broker {
    #[cfg(feature = "redis")]
    Redis(redis::Broker),
    #[cfg(feature = "nats")]
    Nats(nats::Broker),
}

/// One that publishes and one that hears.
pub(super) enum Connections {
    #[cfg(feature = "redis")]
    Redis(redis::Connections),
    #[cfg(feature = "nats")]
    Nats(Box<nats::Connections>),
}

/// What a connection says when it fails, for the log.
pub(super) type Outcome<T> = std::result::Result<T, String>;

impl Broker {
    /// An error is one of the URL: nothing is connected with yet.
    pub(super) fn new(cluster: &str, url: &str) -> Result<Broker> {
        // Without the URL, which may hold a password.
        let wrong = |why: String| Error::new(500, format!("cluster {cluster:?}: {why}"));
        match url.split_once("://").map(|it| it.0) {
            #[cfg(feature = "redis")]
            Some(
                "redis" | "rediss" | "redis+unix" | "unix" | "valkey" | "valkeys" | "valkey+unix",
            ) => redis::Broker::new(cluster, url).map(Broker::Redis).map_err(wrong),
            #[cfg(feature = "nats")]
            Some("nats" | "tls") => {
                nats::Broker::new(cluster, url).map(Broker::Nats).map_err(wrong)
            }
            _ => Err(wrong(
                "no URL of a broker: redis://HOST:PORT (feature `redis`) or nats://HOST:PORT \
                 (feature `nats`)"
                    .to_owned(),
            )),
        }
    }

    pub(super) async fn connect(&self, inbound: Arc<Inbound>) -> Outcome<Connections> {
        match self {
            #[cfg(feature = "redis")]
            Broker::Redis(broker) => broker.connect(inbound).await.map(Connections::Redis),
            #[cfg(feature = "nats")]
            Broker::Nats(broker) => {
                broker.connect(inbound).await.map(|it| Connections::Nats(Box::new(it)))
            }
        }
    }
}

/// Where it is: no more of the URL than that.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "redis")]
            Broker::Redis(broker) => broker.fmt(f),
            #[cfg(feature = "nats")]
            Broker::Nats(broker) => broker.fmt(f),
        }
    }
}

impl Connections {
    /// Returns when the broker has taken them, in this order: how many, for it may find some too
    /// large.
    pub(super) async fn publish(&mut self, batch: &[Vec<u8>]) -> Outcome<usize> {
        match self {
            #[cfg(feature = "redis")]
            Connections::Redis(connections) => connections.publish(batch).await,
            #[cfg(feature = "nats")]
            Connections::Nats(connections) => connections.publish(batch).await,
        }
    }

    /// Both connections have an answer.
    pub(super) async fn ping(&mut self) -> Outcome<()> {
        match self {
            #[cfg(feature = "redis")]
            Connections::Redis(connections) => connections.ping().await,
            #[cfg(feature = "nats")]
            Connections::Nats(connections) => connections.ping().await,
        }
    }
}
