//! A web framework for Linux in which every pinned core is a soloist: it runs its own executor,
//! with its own arenas, caches and sockets, and owns all it touches.
//!
//! ```no_run
//! use soloist::prelude::*;
//!
//! fn main() -> Result<()> {
//!     let app = async |_| Ok(App::new(()).get("/", async |cx| cx.text("hello")));
//!     Server::bind("127.0.0.1:8080").run(app)
//! }
//! ```
//!
//! - A handler is `async fn name(cx: &Ctx<S>) -> Result<Reply>`, or a closure that starts with
//!   `async |cx|`. It never needs `Send`, `Arc` or `Mutex`: it does not change threads.
//! - [`App`] holds routes, middleware and the state of one shard; [`Server`] runs it on every core.
//! - [`Limits`] are on by default: a slow or hostile client costs its own connection only.
//! - [`testing`] runs an application without a socket and with a virtual clock.
//!
//! # Dropped futures
//!
//! A handler's future is dropped when its client resets the connection, when its deadline passes,
//! or when the server's grace ends: at its next `.await`, never in between. What it has put into
//! the answer so far is discarded, or, once the head has left, the connection is cut.
//!
//! # Crates made for tokio
//!
//! With the feature `tokio`, off by default, every shard has a tokio runtime that it turns itself:
//! clients such as reqwest work in handlers, and so do `tokio::spawn`, sockets and timers (late by
//! at most 5 ms while there is traffic, by 20 ms else). `Handle::block_on` on a shard would wait
//! for itself, `spawn_local` has no place to go, and [`testing::TestClient`] has no runtime:
//! [`testing::TestServer`] has. See `examples/tokio-crates.rs`.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod app;
#[allow(unsafe_code)]
mod base;
#[cfg(feature = "cache")]
mod cache;
#[cfg(feature = "db")]
mod db;
mod error;
#[cfg(feature = "files")]
mod files;
mod http;
mod limits;
pub mod middleware;
pub mod prelude;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod remote;
#[allow(unsafe_code)]
mod ring;
mod server;
#[allow(unsafe_code)]
mod shard;
pub mod testing;
#[cfg(feature = "ws")]
mod ws;

pub use app::body::Chunk;
pub use app::builder::App;
pub use app::ctx::Ctx;
pub use app::events::{Event, Events};
#[cfg(feature = "files")]
pub use app::files::{
    form::{FormFile, FormFiles, FormOptions},
    options::Files,
    tus::{Tus, TusUpload},
};
pub use app::handler::{Handler, Middleware};
pub use app::loader::Loader;
pub use app::memo::RequestCache;
pub use app::multipart::{Form, FormPart};
pub use app::next::Next;
pub use app::on_head::ReplyHead;
pub use app::param::FromParam;
pub use app::problem::{Problem, problem_json};
pub use app::progress::{Progress, UploadProgress};
#[cfg(feature = "csv")]
pub use app::read::csv::Csv;
pub use app::read::{items::JsonItems, lines::Lines};
pub use app::reply::{BodyFilter, Reply, Stream};
pub use app::routes::Slashes;
pub use app::rows::Rows;
pub use app::source::Source;
pub use app::take::FromCtx;
pub use app::upgrade::Raw;
#[cfg(all(feature = "ws", any(feature = "nats", feature = "redis")))]
pub use app::ws::cluster::ClusterStats;
#[cfg(feature = "ws")]
pub use app::ws::{
    message::Message,
    options::{WhenFull, WsDeflate, WsOptions},
    publish::Presence,
    rooms::SocketId,
    route::WsHandler,
    socket::{Ws, WsReader, WsWriter},
    stream::{Part, WsStream},
};
pub use base::counters::Stats;
pub use base::own::Own;
#[cfg(feature = "cache")]
pub use cache::{
    announce::Announced,
    key::CacheKey,
    near::Cache,
    options::{CacheOptions, Ttl},
    stats::CacheStats,
};
pub use cookie;
#[cfg(any(feature = "postgres-lane", feature = "sqlite-lane"))]
pub use db::lane::LaneColumn;
#[cfg(feature = "postgres-lane")]
pub use db::lane::postgres::{PgLane, row::PgLaneRow};
#[cfg(feature = "sqlite-lane")]
pub use db::lane::sqlite::{
    SqliteLane,
    row::{FromSqlite, SqliteLaneRow},
};
#[cfg(feature = "postgres")]
pub use db::listen::DbListener;
#[cfg(feature = "db")]
pub use db::{
    adapt::DbChange,
    backend::Backend,
    batch::{in_list::PushIn, insert::DbInsert, repeat::DbBatch, row::DbRow},
    counting::DbClosed,
    fault::DbFault,
    handle::{Db, DbPool},
    health::DbAlert,
    live::DbConnection,
    options::DbOptions,
    sizing::{DbPlace, LoadShape, Sizing, Workload},
    stats::{DbNamed, DbServer, DbStats},
    transaction::DbTransaction,
};
pub use error::{Error, Result};
#[cfg(feature = "files")]
pub use files::temp::TempFile;
pub use limits::Limits;
#[cfg(feature = "memcached")]
pub use remote::memcached::Memcached;
#[cfg(feature = "redis")]
pub use remote::redis::Redis;
#[cfg(any(feature = "memcached", feature = "redis"))]
pub use remote::{
    breaker::BreakerState,
    ears::{Heard, Hearing},
    error::RemoteError,
    options::RemoteOptions,
    stats::RemoteStats,
    stored::{Remote, RemoteFuture},
};
#[cfg(feature = "sqlite-lane")]
pub use rusqlite;
pub use server::{Running, Server};
pub use shard::Shard;
pub use shard::background::Task;
pub use shard::cancel::Cancel;
pub use shard::stop::Stopping;
pub use shard::time::{Elapsed, Interval, Sleep};
#[cfg(feature = "db")]
pub use sqlx;
#[cfg(feature = "postgres-lane")]
pub use tokio_postgres;

/// The README's sample is compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are the snippets of the book.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../docs/src/first-service.md")]
    struct FirstService;
    #[doc = include_str!("../docs/src/pages.md")]
    struct Pages;
    #[cfg(feature = "ws")]
    #[doc = include_str!("../docs/src/sockets.md")]
    struct Sockets;
    #[cfg(feature = "cache")]
    #[doc = include_str!("../docs/src/caches.md")]
    struct Caches;
    #[cfg(feature = "db")]
    #[doc = include_str!("../docs/src/databases.md")]
    struct Databases;
    #[cfg(feature = "files")]
    #[doc = include_str!("../docs/src/files.md")]
    struct Files;
    #[doc = include_str!("../docs/src/shards.md")]
    struct Shards;
    #[doc = include_str!("../docs/src/middleware.md")]
    struct Middleware;
    #[doc = include_str!("../docs/src/errors.md")]
    struct Errors;
    #[doc = include_str!("../docs/src/testing.md")]
    struct Testing;
    #[doc = include_str!("../docs/src/from-axum.md")]
    struct FromAxum;
    #[doc = include_str!("../docs/src/from-actix.md")]
    struct FromActix;
}
