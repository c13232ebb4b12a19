//! The node's connections to its broker: made, used, and made anew, for as long as the shard runs.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::broker::{Broker, Connections, Outcome};
use super::inbound::Inbound;
use super::{Cluster, add};
use crate::limits::cluster::{
    ANSWER_MS_MAX, CONNECT_MS_MAX, HEARD_MAX, PAUSE_MS_MAX, PAUSE_MS_MIN, PING_MS,
};
use crate::shard::Shard;

/// It has no end.
pub(super) async fn keep(cluster: Rc<Cluster>, shard: Shard, broker: Broker) {
    let (numbers, random) = (&cluster.numbers, RandomState::new());
    // What was sent without an answer goes out again: who has heard it drops it.
    let mut batch = Vec::new();
    let (mut was_up, mut attempts) = (false, 0);
    loop {
        let inbound = Arc::new(Inbound::default());
        let connecting = broker.connect(inbound.clone());
        let (mut is_news, start_ms) = (attempts == 0, shard.now_ms());
        let why = match within(&shard, CONNECT_MS_MAX, connecting).await {
            Ok(connections) => {
                add(&numbers.reconnects, u64::from(was_up));
                if attempts > 0 {
                    tracing::info!(broker = %broker, "the way to the cluster is there");
                }
                (was_up, is_news) = (true, true);
                numbers.connected.store(true, Ordering::Relaxed);
                let why = serve(&cluster, &shard, connections, &inbound, &mut batch).await;
                numbers.connected.store(false, Ordering::Relaxed);
                // One that breaks again and again is no better than none.
                if shard.now_ms() - start_ms > PAUSE_MS_MAX {
                    attempts = 0;
                }
                why
            }
            Err(why) => why,
        };
        let lost = "no way to the other nodes of the cluster, it is tried again and again";
        match is_news {
            true => tracing::warn!(broker = %broker, "{lost}: {why}"),
            false => tracing::debug!(broker = %broker, attempts, "{lost}: {why}"),
        }
        shard.sleep(Duration::from_millis(pause_ms(attempts, random.hash_one(attempts)))).await;
        attempts = attempts.saturating_add(1);
    }
}

/// Longer after each attempt, and not the same for all nodes: half of it is chance.
fn pause_ms(attempts: u32, random: u64) -> u64 {
    let longest = PAUSE_MS_MIN << attempts.min(16);
    let half = longest.min(PAUSE_MS_MAX) / 2;
    half + random % (half + 1)
}

/// Sends and hears until one of the two ends; why.
async fn serve(
    cluster: &Cluster,
    shard: &Shard,
    mut connections: Connections,
    inbound: &Inbound,
    batch: &mut Vec<Vec<u8>>,
) -> String {
    let why = {
        let mut sending = pin!(send(cluster, shard, &mut connections, batch));
        let mut hearing = pin!(hear(cluster, shard, inbound));
        poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(Err(why)) => Poll::Ready(why),
            Poll::Ready(Ok(never)) => match never {},
            Poll::Pending => hearing.as_mut().poll(cx),
        })
        .await
    };
    drop(connections);
    inbound.close();
    hear(cluster, shard, inbound).await; // what has come before the end
    why
}

enum Never {}

async fn send(
    cluster: &Cluster,
    shard: &Shard,
    connections: &mut Connections,
    batch: &mut Vec<Vec<u8>>,
) -> Outcome<Never> {
    let mut ping_ms = shard.now_ms() + PING_MS;
    loop {
        let now_ms = shard.now_ms();
        if now_ms >= ping_ms {
            within(shard, ANSWER_MS_MAX, connections.ping()).await?;
            ping_ms = now_ms + PING_MS;
        }
        if batch.is_empty() {
            let pause = Duration::from_millis(ping_ms.saturating_sub(now_ms));
            let _ = shard.timeout(pause, cluster.next(batch)).await;
        }
        if !batch.is_empty() {
            let sent = within(shard, ANSWER_MS_MAX, connections.publish(batch)).await?;
            add(&cluster.numbers.sent, sent as u64);
            add(&cluster.numbers.refused, (batch.len() - sent) as u64);
            batch.clear();
        }
    }
}

async fn hear(cluster: &Cluster, shard: &Shard, inbound: &Inbound) -> String {
    loop {
        for _ in 0..HEARD_MAX {
            match inbound.next().await {
                Some(message) => cluster.hear(&shard.0, &message),
                None => return "the broker has closed the connection".to_owned(),
            }
        }
        let mut yielded = false; // others of the shard have their turn
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// On the shard's clock: tokio's may stand still while nothing else goes on.
async fn within<T>(shard: &Shard, ms: u64, future: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    match shard.timeout(Duration::from_millis(ms), future).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {ms} ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let cases = [
            (0, 0, 50),
            (0, 120, 68),
            (1, 0, 100),
            (1, 100, 200),
            (6, 0, 2_500),
            (u32::MAX, 0, 2_500),
            (u32::MAX, 2_500, 5_000),
        ];
        for (attempts, random, want_ms) in cases {
            assert_eq!(pause_ms(attempts, random), want_ms, "{attempts} {random}");
        }
    }
}
