//! What one work costs.

/// Nanoseconds of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub median_ns: f64,
    pub min_ns: f64,
    /// Of single operations; none where only batches were timed.
    pub p99_ns: Option<f64>,
}

/// Many operations, each timed by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    median_ns: f64,
    min_ns: f64,
    p99_ns: f64,
}

impl Figure {
    /// Of batches, each the mean of its operations.
    pub fn of_batches(name: &'static str, batches_ns: Vec<f64>) -> Figure {
        let batches_ns = sorted(batches_ns);
        let (median_ns, min_ns) = (at(&batches_ns, 0.5), at(&batches_ns, 0.0));
        Figure { name, median_ns, min_ns, p99_ns: None }
    }

    /// Medians over the rounds, and the least of all.
    pub fn of_rounds(name: &'static str, rounds: &[Round]) -> Figure {
        let of = |figure: fn(&Round) -> f64| sorted(rounds.iter().map(figure).collect());
        Figure {
            name,
            median_ns: at(&of(|round| round.median_ns), 0.5),
            min_ns: at(&of(|round| round.min_ns), 0.0),
            p99_ns: Some(at(&of(|round| round.p99_ns), 0.5)),
        }
    }

    pub fn per_second(&self) -> f64 {
        1e9 / self.median_ns
    }
}

impl Round {
    pub fn of(operations_ns: Vec<u64>) -> Round {
        let all = sorted(operations_ns.into_iter().map(|ns| ns as f64).collect());
        Round { median_ns: at(&all, 0.5), min_ns: at(&all, 0.0), p99_ns: at(&all, 0.99) }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The quantile of sorted values that are not none.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let figure = Figure::of_batches("a", vec![30.0, 10.0, 20.0]);
        assert_eq!((figure.median_ns, figure.min_ns, figure.p99_ns), (20.0, 10.0, None));
        assert_eq!(figure.per_second(), 5e7);
        let rounds = [1, 100, 3].map(|more| Round::of((more..more + 101).rev().collect()));
        let figure = Figure::of_rounds("a", &rounds);
        assert_eq!((figure.median_ns, figure.min_ns, figure.p99_ns), (53.0, 1.0, Some(102.0)));
    }
}
