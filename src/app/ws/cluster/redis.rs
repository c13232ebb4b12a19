//! A Redis as broker: one connection publishes, one hears.

use std::fmt;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion};
use redis::{PushInfo, PushKind, RedisError, Value};

use super::broker::Outcome;
use super::inbound::Inbound;

/// Where it is, and the channel of the cluster there.
pub(super) struct Broker {
    client: Client,
    channel: String,
}

impl Broker {
    pub(super) fn new(cluster: &str, url: &str) -> Outcome<Broker> {
        let wrong = |error: RedisError| format!("no URL of a Redis, redis://HOST:PORT: {error}");
        let info = url.into_connection_info().map_err(wrong)?;
        // Its pushes come as they are read; the older protocol's client has a queue without bound.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings)).map_err(wrong)?;
        Ok(Broker { client, channel: format!("soloist:rooms:{cluster}") })
    }

    pub(super) async fn connect(&self, inbound: Arc<Inbound>) -> Outcome<Connections> {
        // Both are bounded by the caller, on the shard's clock.
        let plain =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let hears = plain.clone().set_push_sender(move |push| take_in(&inbound, push));
        let connect = |config| {
            let client = &self.client;
            async move { client.get_multiplexed_async_connection_with_config(&config).await }
        };
        let mut subscription = connect(hears).await.map_err(text)?;
        subscription.subscribe(&self.channel).await.map_err(text)?;
        let publishing = connect(plain).await.map_err(text)?;
        Ok(Connections { subscription, publishing, channel: self.channel.clone() })
    }
}

/// Where it is: no more of the URL than that.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis {}", self.client.get_connection_info().addr())
    }
}

pub(super) struct Connections {
    subscription: MultiplexedConnection,
    publishing: MultiplexedConnection,
    channel: String,
}

impl Connections {
    pub(super) async fn publish(&mut self, batch: &[Vec<u8>]) -> Outcome<usize> {
        let mut pipe = redis::pipe();
        for message in batch {
            pipe.cmd("PUBLISH").arg(&self.channel).arg(message.as_slice()).ignore();
        }
        pipe.query_async::<()>(&mut self.publishing).await.map_err(text)?;
        Ok(batch.len())
    }

    pub(super) async fn ping(&mut self) -> Outcome<()> {
        for connection in [&mut self.subscription, &mut self.publishing] {
            redis::cmd("PING").query_async::<()>(connection).await.map_err(text)?;
        }
        Ok(())
    }
}

fn take_in(inbound: &Inbound, mut push: PushInfo) -> Result<(), RedisError> {
    match (push.kind, push.data.pop()) {
        (PushKind::Message, Some(Value::BulkString(message))) => inbound.push(message),
        (PushKind::Disconnection, _) => inbound.close(),
        _ => {}
    }
    Ok(())
}

fn text(error: RedisError) -> String {
    error.to_string()
}
