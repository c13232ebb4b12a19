//! Tests of applications: [`TestClient`] without a socket and with a virtual clock, [`TestServer`]
//! with real shards.
//!
//! ```
//! use soloist::prelude::*;
//! use soloist::testing::TestClient;
//!
//! async fn app(_: Shard) -> Result<App<()>> {
//!     Ok(App::new(()).get("/square/:n", async |cx| {
//!         let n: i64 = cx.param("n")?;
//!         cx.text((n * n).to_string())
//!     }))
//! }
//! TestClient::run(app, async |client| {
//!     client.get("/square/12").await.expect(200).text("144");
//!     client.get("/square/x").await.expect(400).text("n: not a number");
//! });
//! ```

mod answer;
mod call;
mod client;
mod events;
mod held;
mod open;
mod rig;
mod server;
#[cfg(feature = "ws")]
mod socket;

pub use answer::Answer;
pub use call::Call;
pub use client::TestClient;
pub use events::{TestEvent, TestEvents};
pub use held::Held;
pub use open::Open;
pub use server::TestServer;
#[cfg(feature = "ws")]
pub use socket::TestSocket;
