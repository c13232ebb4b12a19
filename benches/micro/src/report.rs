//! What a run found, as a table or as JSON.

use crate::figure::Figure;
use crate::works::mesh::{EVENTFD, INVALIDATION, MESH};

pub struct Report {
    pub figures: Vec<Figure>,
}

/// What the ways between shards may cost over bare eventfds.
const OVER_EVENTFD_US_MAX: f64 = 15.0;

impl Report {
    pub fn text(&self) -> String {
        if self.figures.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "| {:<14} | {:>10} | {:>10} | {:>10} | {:>13} |\n\
             | {:-<14} | {:->9}: | {:->9}: | {:->9}: | {:->12}: |\n",
            "work", "ns, median", "ns, min", "ns, p99", "a second", "", "", "", "", ""
        );
        for figure in &self.figures {
            let Figure { name, median_ns, min_ns, p99_ns } = figure;
            let p99 = p99_ns.map_or("-".into(), |ns| format!("{ns:.1}"));
            let per_second = figure.per_second();
            text += &format!(
                "| {name:<14} | {median_ns:>10.1} | {min_ns:>10.1} | {p99:>10} | {per_second:>13.0} |\n",
            );
        }
        for (name, [median_us, p99_us]) in self.over_eventfd_us() {
            let reached = if median_us <= OVER_EVENTFD_US_MAX { "yes" } else { "NO" };
            text += &format!(
                "\n{name} over {EVENTFD}: {median_us:+.2} us at the median, {p99_us:+.2} us at p99; \
                 the bar is at most {OVER_EVENTFD_US_MAX} us at the median: {reached}\n"
            );
        }
        text
    }

    pub fn json(&self) -> String {
        let figures: Vec<String> = self.figures.iter().map(object).collect();
        let over: String = self
            .over_eventfd_us()
            .map(|(name, [median_us, p99_us])| {
                let us = format!("{{\"median_us\":{median_us:.3},\"p99_us\":{p99_us:.3}}}");
                format!(",\"{name}_over_eventfd\":{us}")
            })
            .collect();
        format!("{{\"figures\":[{}]{over}}}\n", figures.join(","))
    }

    /// At the median and at p99.
    fn over_eventfd_us(&self) -> impl Iterator<Item = (&'static str, [f64; 2])> {
        let named = |name| self.figures.iter().find(|figure| figure.name == name);
        [MESH, INVALIDATION].into_iter().filter_map(move |name| {
            let (way, bare) = (named(name)?, named(EVENTFD)?);
            let median_us = (way.median_ns - bare.median_ns) / 1e3;
            Some((name, [median_us, (way.p99_ns? - bare.p99_ns?) / 1e3]))
        })
    }
}

fn object(figure: &Figure) -> String {
    let p99 = figure.p99_ns.map_or(String::new(), |ns| format!(",\"p99_ns\":{ns:.2}"));
    format!(
        "{{\"name\":\"{}\",\"median_ns\":{:.2},\"min_ns\":{:.2}{p99},\"per_second\":{:.0}}}",
        figure.name,
        figure.median_ns,
        figure.min_ns,
        figure.per_second(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Round;

    #[test]
    fn a_figure_in_both_forms() {
        let report = Report { figures: vec![Figure::of_batches("a", vec![2.0, 4.0, 8.0])] };
        let json = "{\"figures\":[{\"name\":\"a\",\"median_ns\":4.00,\"min_ns\":2.00,\
                    \"per_second\":250000000}]}\n";
        assert_eq!(report.json(), json);
        assert_eq!(report.text().lines().count(), 3);
        assert_eq!(Report { figures: Vec::new() }.text(), "");
    }

    #[test]
    fn the_bar_of_the_mesh() {
        let report = |mesh_ns, bare_ns| {
            let figure = |name, ns| Figure::of_rounds(name, &[Round::of(vec![ns])]);
            Report { figures: vec![figure(MESH, mesh_ns), figure(EVENTFD, bare_ns)] }
        };
        let over: Vec<_> = report(17_500, 3_000).over_eventfd_us().collect();
        assert_eq!(over, [(MESH, [14.5, 14.5])]);
        assert!(report(18_000, 3_000).text().ends_with("median: yes\n"));
        assert!(report(18_001, 3_000).text().ends_with("median: NO\n"));
    }
}
