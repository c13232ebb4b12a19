//! The oracles of the fuzz targets. A parser gets each input whole and in pieces, a naive second
//! parser gets it too, and all must say the same; the router is held against a list of all routes.
//! A panic is a finding.
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
mod naive_chunked;
mod naive_head;
mod naive_router;
mod reader;
#[path = "../../src/app/router.rs"]
#[allow(dead_code)]
mod router;

mod chunked_oracle;
mod head_oracle;
mod router_oracle;

pub use chunked_oracle::chunked;
pub use head_oracle::head;
pub use router_oracle::router;
