//! What stands around handlers in most services: each is given to [`App::wrap`](crate::App::wrap).
//!
//! A middleware is built with its application, once on every shard, and what it keeps it keeps
//! there: counts, buckets and ids are a shard's own. The first one added is the outermost. This
//! order suits most services:
//!
//! ```
//! use std::time::Duration;
//! use soloist::middleware::*;
//! use soloist::prelude::*;
//!
//! async fn app(_: Shard) -> Result<App<()>> {
//!     let pages = Cors::new().origins(&["https://example.com"]);
//!     Ok(App::new(())
//!         .wrap(request_id(Incoming::Ignore)) // first: the log and the answer have the id
//!         .wrap(access_log(LogFormat::Fields)) // sees all that is answered further in
//!         .wrap(secure_headers()) // on refusals too
//!         .wrap(cors(pages)?) // before auth: a preflight carries no credentials
//!         .wrap(limit_rate(50, 100)) // cheap refusals first: a client that asks too much,
//!         .wrap(limit_concurrency(1_000)) // then a shard that has too much to do
//!         .wrap(timeout(Duration::from_secs(10))) // its time is spent on what follows
//!         .wrap(bearer_auth("api", async |_: &Ctx<()>, token: &str| {
//!             Ok(same_secret(token, "3c6e0b8a9c15224a"))
//!         }))
//!         .wrap(body_limit(64 * 1024)) // no body is read for who may not send one
//!         .wrap(etag(Strength::Strong)) // inside `compress`: the tag is of the plain body
//!         .get("/", async |cx| cx.text("hello, world")))
//! }
//! # use soloist::testing::TestClient;
//! # TestClient::run(app, async |client| {
//! #     let answer = client.get("/").header("authorization", "Bearer 3c6e0b8a9c15224a").await;
//! #     assert!(answer.expect(200).header("etag").is_some());
//! #     client.get("/").await.expect(401);
//! # });
//! ```
//!
//! With the feature `cache`, `cache_responses()` goes behind `bearer_auth`: what it answers itself
//! is not seen further in, so what decides who may read stays outside of it.
//! With the feature `compress`, `compress()` goes between `body_limit` and `etag`, and
//! `decompress()` behind `body_limit`, which bounds what comes out of it.

mod access_log;
mod basic_auth;
mod bearer_auth;
mod body_limit;
mod buckets;
#[cfg(feature = "cache")]
mod cache_responses;
#[cfg(feature = "compress")]
mod coding;
#[cfg(feature = "cache")]
mod collapse;
#[cfg(feature = "compress")]
mod compress;
mod cors;
#[cfg(feature = "compress")]
mod decoder;
#[cfg(feature = "compress")]
mod decompress;
mod etag;
mod limit_concurrency;
mod limit_rate;
mod request_id;
#[cfg(feature = "cache")]
mod responses;
mod secret;
mod secure_headers;
#[cfg(feature = "cache")]
mod stored;
mod timeout;

pub use access_log::{LogFormat, access_log};
pub use basic_auth::basic_auth;
pub use bearer_auth::bearer_auth;
pub use body_limit::body_limit;
#[cfg(feature = "cache")]
pub use cache_responses::{CacheResponses, cache_responses, cache_responses_by};
#[cfg(feature = "compress")]
pub use coding::Coding;
#[cfg(feature = "compress")]
pub use compress::{Compress, compress, compress_with};
pub use cors::{Cors, cors};
#[cfg(feature = "compress")]
pub use decompress::decompress;
pub use etag::{Strength, etag};
pub use limit_concurrency::limit_concurrency;
pub use limit_rate::{limit_rate, limit_rate_by};
pub use request_id::{Incoming, RequestId, request_id};
#[cfg(feature = "cache")]
pub use responses::CachedResponses;
pub use secret::same_secret;
pub use secure_headers::{Frames, SecureHeaders, secure_headers, secure_headers_with};
pub use timeout::timeout;
