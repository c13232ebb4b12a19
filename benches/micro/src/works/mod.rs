//! All works, in the order of the table.

mod arena;
mod coding;
mod ctx;
pub mod mesh;
mod middleware;
mod parse;
mod router;

use crate::runner::Runner;

pub fn run(runner: &mut Runner) {
    parse::run(runner);
    router::run(runner);
    arena::run(runner);
    ctx::run(runner);
    middleware::run(runner);
    coding::run(runner);
    mesh::run(runner);
}
