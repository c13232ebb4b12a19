//! A database server as the whole process sees it: how it is reached, the budget, and its slices.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;

use super::adapt::Adapt;
use super::backend::{Backend, ConnectWith, Rules};
use super::budget::Budget;
use super::health::Minute;
use super::options::DbOptions;
use super::slice::Slice;
use super::standings::Standings;
use super::watch::lock;

pub(super) struct Server<B: Backend> {
    pub(super) options: DbOptions,
    pub(super) shards: usize,
    pub(super) query_ms: u64,
    with: Mutex<ConnectWith<B>>,
    #[cfg(feature = "sqlite-lane")]
    url: Mutex<String>,
    /// Of `with`: connections of an older one are closed when they come back.
    generation: AtomicU64,
    pub(super) budget: Budget,
    /// What is prepared on a connection may be gone with the next query.
    pub(super) is_pooled: bool,
    /// Where one writes at a time.
    pub(super) turns: Option<Arc<Semaphore>>,
    pub(super) slices: Mutex<Vec<Weak<Slice<B>>>>,
    pub(super) rules: Mutex<Option<Rules>>,
    pub(super) adapt: Mutex<Adapt>,
    pub(super) minute: Mutex<Minute>,
    /// Among others, of which one is the primary.
    pub(super) is_one_of_many: bool,
    /// Its place among them, and what is known of all.
    pub(super) at: usize,
    pub(super) standings: Arc<Standings>,
    /// Statements that stop others, and whether a shard is running them.
    pub(super) stops: Mutex<Stops>,
}

#[derive(Default)]
pub(super) struct Stops {
    pub(super) waiting: Vec<Stopping>,
    pub(super) is_served: bool,
}

/// One that is to be run; who asked for it hears of its end.
pub(super) struct Stopping {
    pub(super) statement: String,
    pub(super) done: Arc<tokio::sync::Notify>,
}

impl<B: Backend> Server<B> {
    pub(super) fn new(
        url: &str,
        options: &DbOptions,
        shards: usize,
        (at, standings): (usize, &Arc<Standings>),
    ) -> Result<Server<B>, sqlx::Error> {
        let (mut options, with) = (options.clone(), B::connect_with(url, options)?);
        standings.place(at, without_secrets(url));
        if B::is_in_memory(url) {
            options.idle_min = options.idle_min.max(shards);
        }
        let first = if options.open_min > 0 { options.open_min } else { options.open_max };
        let first = first.clamp(shards.min(options.open_max), options.open_max);
        Ok(Server {
            shards,
            query_ms: options.query_max.as_millis().try_into().unwrap_or(u64::MAX),
            with: Mutex::new(with),
            #[cfg(feature = "sqlite-lane")]
            url: Mutex::new(url.to_owned()),
            generation: AtomicU64::new(0),
            budget: Budget::new(first, shards),
            is_pooled: B::is_pooled(url, &options),
            turns: B::has_one_writer(url).then(|| Arc::new(Semaphore::new(1))),
            slices: Mutex::default(),
            rules: Mutex::default(),
            adapt: Mutex::new(Adapt::new(first, options.open_min, options.open_max)),
            minute: Mutex::default(),
            is_one_of_many: !options.replicas.is_empty(),
            at,
            standings: standings.clone(),
            stops: Mutex::default(),
            options,
        })
    }

    pub(super) fn with(&self) -> (ConnectWith<B>, u64) {
        let with = lock(&self.with);
        (with.clone(), self.generation())
    }

    /// Its URL with what is secret, for the lane.
    #[cfg(feature = "sqlite-lane")]
    pub(super) fn url(&self) -> String {
        lock(&self.url).clone()
    }

    /// Its URL without what is secret, for messages.
    pub(super) fn address(&self) -> String {
        self.standings.address(self.at)
    }

    /// Another way to reach it, or other credentials: for connections made from now on.
    pub(super) fn set_url(&self, url: &str) -> Result<(), sqlx::Error> {
        let new = B::connect_with(url, &self.options)?;
        let mut with = lock(&self.with);
        *with = new;
        #[cfg(feature = "sqlite-lane")]
        url.clone_into(&mut lock(&self.url));
        self.generation.fetch_add(1, Ordering::Release);
        self.standings.place(self.at, without_secrets(url));
        drop(with);
        self.slices().iter().for_each(|it| it.bell.ring());
        Ok(())
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn slices(&self) -> Vec<Arc<Slice<B>>> {
        lock(&self.slices).iter().filter_map(Weak::upgrade).collect()
    }

    /// Why the server cannot give what the budget promises.
    pub(super) fn misfit(&self, rules: Rules) -> Option<String> {
        if self.options.is_behind_pooler {
            return None;
        }
        let open_max = self.options.open_max as u64;
        let allowed = rules.connections_max.saturating_sub(rules.reserved);
        let (beside, what) = match self.is_one_of_many {
            true => (2, "2 that cancel queries and look after it"),
            false => (1, "1 that cancels queries"),
        };
        (open_max + beside > allowed).then(|| {
            format!(
                "the budget is {open_max} connections (open_max) and {what}, but the server \
                 allows {} (max_connections), {} of them for administrators: set open_max to {} at \
                 most, or raise max_connections",
                rules.connections_max,
                rules.reserved,
                allowed.saturating_sub(beside),
            )
        })
    }

    /// Why there are too few for so many shards.
    pub(super) fn shortage(&self) -> Option<String> {
        let (open_max, shards) = (self.options.open_max, self.shards);
        (open_max < shards).then(|| {
            format!(
                "{shards} shards need a connection each, but there are {open_max} (open_max): set \
                 it to {shards} at least"
            )
        })
    }
}

/// A URL without its user, and without its parameters, which may be passwords too.
pub(super) fn without_secrets(url: &str) -> String {
    let (url, parameters) = url.split_once('?').unwrap_or((url, ""));
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match url.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://{place}"),
        None if parameters.contains('@') => format!("{scheme}://"), // a password with a `?`
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_secrets() {
        for (url, address) in [
            ("postgres://ann:secret@db.local:5432/shop", "postgres://db.local:5432/shop"),
            ("postgres://ann:s@cr@t@db.local/shop", "postgres://db.local/shop"),
            ("postgres://db.local/shop?user=ann&password=secret", "postgres://db.local/shop"),
            ("mysql:ann:secret@db.local/shop", "mysql://db.local/shop"),
            ("ann:secret@db.local", "ann://db.local"),
            ("secret@db.local", "://db.local"),
            ("postgres://ann:sec?ret@db.local/shop", "postgres://"),
            ("sqlite://todos.db?mode=ro", "sqlite://todos.db"),
            ("sqlite::memory:", "sqlite::memory:"),
        ] {
            assert_eq!(without_secrets(url), address);
        }
    }
}
