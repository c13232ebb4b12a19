//! What a run found, as text or as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::options::Mode;

pub struct Report {
    pub mode: Mode,
    pub connections: usize,
    /// From the first request due to the last answer.
    pub elapsed: Duration,
    /// Nanoseconds, of every request that was due, the unanswered ones with the time they waited.
    pub latency: Histogram<u64>,
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Whole answers with a 2xx.
    pub ok: u64,
    pub non_2xx: u64,
    /// Requests whose connection ended, or whose answer was no answer.
    pub broken: u64,
    /// Still without an answer when the grace time was over.
    pub unanswered: u64,
    pub connect_errors: u64,
    /// Connections the server closed while nothing was asked on them.
    pub closed_idle: u64,
    /// The most requests that were due at one time and had no free connection.
    pub queued_max: u64,
}

impl Counts {
    pub fn errors(&self) -> u64 {
        self.non_2xx + self.broken + self.unanswered + self.connect_errors
    }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Report {
    pub fn text(&self) -> String {
        let Counts { ok, non_2xx, broken, unanswered, connect_errors, closed_idle, queued_max } =
            self.counts;
        let mut text = format!(
            "{} loop, {} connections: {ok} answers in {:.3} s, {:.1} a second\n",
            self.mode.name(),
            self.connections,
            self.elapsed.as_secs_f64(),
            self.rate(),
        );
        for (name, us) in self.latencies_us() {
            text += &format!("{name:>6} {us:>11.1} us\n");
        }
        text += &format!(
            "errors {}: non-2xx {non_2xx}, broken {broken}, unanswered {unanswered}, \
             connect {connect_errors}; closed while idle {closed_idle}, queued at most {queued_max}",
            self.counts.errors(),
        );
        text
    }

    pub fn json(&self) -> String {
        let Counts { ok, non_2xx, broken, unanswered, connect_errors, closed_idle, queued_max } =
            self.counts;
        let mut text = format!(
            "{{\"mode\":\"{}\",\"connections\":{},\"seconds\":{:.6},\"rate\":{:.2}",
            self.mode.name(),
            self.connections,
            self.elapsed.as_secs_f64(),
            self.rate(),
        );
        for (name, us) in self.latencies_us() {
            text += &format!(",\"{}_us\":{us:.3}", name.replace('.', ""));
        }
        text += &format!(
            ",\"ok\":{ok},\"errors\":{},\"non_2xx\":{non_2xx},\"broken\":{broken},\
             \"unanswered\":{unanswered},\"connect_errors\":{connect_errors},\
             \"closed_idle\":{closed_idle},\"queued_max\":{queued_max}}}",
            self.counts.errors(),
        );
        text
    }

    fn rate(&self) -> f64 {
        self.counts.ok as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn latencies_us(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantiles =
            QUANTILES.iter().map(move |&(name, q)| (name, us(self.latency.value_at_quantile(q))));
        quantiles.chain([("max", us(self.latency.max()))])
    }
}
