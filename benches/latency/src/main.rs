//! `openloop`: one thread that asks at a fixed rate, whatever the server does, and measures every
//! answer from the moment its request was due. It also drives the closed loops, the connection
//! churn and the idle crowd of the peers bench.
//!
//! Run with: cargo run --release -p soloist-latency -- --addr 127.0.0.1:8080 --rate 20000

mod answer;
mod load;
mod options;
mod report;

use std::io::{Error, Result};
use std::num::NonZeroU64;

use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};

use crate::load::Load;
use crate::options::Options;

fn main() -> Result<()> {
    let options = Options::from_args(std::env::args().skip(1)).map_err(Error::other)?;
    if let Some(core) = options.core {
        let mut mask = CpuSet::new();
        mask.set(core);
        sched_setaffinity(None, &mask)?;
    }
    // The default slack of 50 us would be most of a latency here.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let report = Load::new(&options)?.run()?;
    println!("{}", if options.json { report.json() } else { report.text() });
    Ok(())
}
