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

impl Figure {
    /// Of batches, each the mean of its operations.
    pub fn of_batches(name: &'static str, mut batches_ns: Vec<f64>) -> Figure {
        batches_ns.sort_by(f64::total_cmp);
        let (median_ns, min_ns) = (at(&batches_ns, 0.5), at(&batches_ns, 0.0));
        Figure { name, median_ns, min_ns, p99_ns: None }
    }

    pub fn per_second(&self) -> f64 {
        1e9 / self.median_ns
    }
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
        assert_eq!((figure.median_ns, figure.min_ns), (20.0, 10.0));
        assert_eq!(figure.per_second(), 5e7);
    }
}
