//! Stub.
use std::time::Duration;
/// Stub.
#[derive(Clone, Copy, Debug)]
pub struct Sizing {
    /// a
    pub open_max: usize,
    /// b
    pub idle_max: usize,
    /// c
    pub idle_min: usize,
    /// d
    pub lifetime: Duration,
}
