//! The oracles of the fuzz targets. A parser gets each input whole and in pieces, a naive second
//! parser gets it too, and all must say the same; the router is held against a list of all routes,
//! sockets against tungstenite and flate2. A panic is a finding.
//!
//! The sources under test are included, not linked: nothing of the crate has to be public, and no
//! ring is built for a parser.

#![forbid(unsafe_code)]

#[path = "../../src/http/chunked.rs"]
#[allow(dead_code)]
mod chunked;
#[path = "../../src/http/head.rs"]
#[allow(dead_code)]
mod head;
#[path = "../../src/http/multipart.rs"]
#[allow(dead_code)]
mod multipart;
mod naive_chunked;
mod naive_head;
mod naive_multipart;
mod naive_router;
mod reader;
#[path = "../../src/app/router.rs"]
#[allow(dead_code)]
mod router;
#[path = "../../src/ws/mod.rs"]
#[allow(dead_code)]
mod ws;

mod chunked_oracle;
mod head_oracle;
mod multipart_oracle;
mod pieces;
mod router_oracle;
mod ws_deflate_oracle;
mod ws_offers_oracle;
mod ws_oracle;
mod ws_recipe;

pub use chunked_oracle::chunked;
pub use head_oracle::head;
pub use multipart_oracle::multipart;
pub use router_oracle::router;
pub use ws_deflate_oracle::ws_deflate;
pub use ws_offers_oracle::ws_offers;
pub use ws_oracle::ws;
