//! `micro`: the parts of a request one by one, in memory, timed in batches; and the way between
//! shards, timed ping by ping.
//!
//! Run with: cargo run --release -p soloist-micro
//!
//! What is not public in the crate is included from its sources, not linked.

#[path = "../../../src/base/arena.rs"]
#[allow(dead_code)]
mod arena;
#[path = "../../../src/http/head.rs"]
#[allow(dead_code)]
mod head;
#[path = "../../../src/app/router.rs"]
#[allow(dead_code)]
mod router;

mod figure;
mod options;
mod report;
mod runner;
mod works;

use std::process::ExitCode;

use crate::options::{Asked, Options, USAGE};
use crate::report::Report;
use crate::runner::Runner;

fn main() -> ExitCode {
    let options = match Options::from_args(std::env::args().skip(1)) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprint!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut runner = Runner::new(options.only, options.requests);
    works::run(&mut runner);
    let report = Report { figures: runner.into_figures() };
    if report.figures.is_empty() && options.requests.is_none() {
        eprintln!("no such work: micro --help names them");
        return ExitCode::from(2);
    }
    print!("{}", if options.json { report.json() } else { report.text() });
    ExitCode::SUCCESS
}
