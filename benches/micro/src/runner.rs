//! Runs an operation many times, by the clock or by a count.

use std::time::{Duration, Instant};

use crate::figure::Figure;

pub struct Runner {
    only: String,
    requests: Option<u64>,
    figures: Vec<Figure>,
}

const WARM: u64 = 1_000;
const BATCH_TIME_MIN: Duration = Duration::from_millis(2);
const BATCHES: usize = 250;

impl Runner {
    pub fn new(only: String, requests: Option<u64>) -> Runner {
        Runner { only, requests, figures: Vec::new() }
    }

    pub fn wants(&self, name: &str) -> bool {
        name.starts_with(&self.only)
    }

    pub fn is_timed(&self) -> bool {
        self.requests.is_none()
    }

    /// Adds what a work has timed by itself.
    pub fn push(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Runs `operation` if it is asked for.
    pub fn run(&mut self, name: &'static str, mut operation: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        repeat(WARM, &mut operation);
        if let Some(requests) = self.requests {
            repeat(requests, &mut operation);
            return;
        }
        let mut count = 1;
        while repeat(count, &mut operation) < BATCH_TIME_MIN {
            count *= 2;
        }
        let batch = |_| repeat(count, &mut operation).as_nanos() as f64 / count as f64;
        self.figures.push(Figure::of_batches(name, (0..BATCHES).map(batch).collect()));
    }

    pub fn into_figures(self) -> Vec<Figure> {
        self.figures
    }
}

fn repeat(count: u64, operation: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        operation();
    }
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_kept_and_times_nothing() {
        let mut runner = Runner::new("a".into(), Some(7));
        let mut ran = 0;
        runner.run("ab", || ran += 1);
        runner.run("b", || ran += 100_000);
        assert_eq!(ran, WARM + 7);
        assert_eq!(runner.into_figures(), []);
    }
}
