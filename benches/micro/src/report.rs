//! What a run found, as a table or as JSON.

use crate::figure::Figure;

pub struct Report {
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn text(&self) -> String {
        if self.figures.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "| {:<14} | {:>10} | {:>10} | {:>13} |\n| {:-<14} | {:->9}: | {:->9}: | {:->12}: |\n",
            "work", "ns, median", "ns, min", "a second", "", "", "", ""
        );
        for figure in &self.figures {
            text += &format!(
                "| {:<14} | {:>10.1} | {:>10.1} | {:>13.0} |\n",
                figure.name,
                figure.median_ns,
                figure.min_ns,
                figure.per_second(),
            );
        }
        text
    }

    pub fn json(&self) -> String {
        let figures: Vec<String> = self.figures.iter().map(object).collect();
        format!("{{\"figures\":[{}]}}\n", figures.join(","))
    }
}

fn object(figure: &Figure) -> String {
    format!(
        "{{\"name\":\"{}\",\"median_ns\":{:.2},\"min_ns\":{:.2},\"per_second\":{:.0}}}",
        figure.name,
        figure.median_ns,
        figure.min_ns,
        figure.per_second(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_in_both_forms() {
        let report = Report { figures: vec![Figure::of_batches("a", vec![2.0, 4.0, 8.0])] };
        let json = "{\"figures\":[{\"name\":\"a\",\"median_ns\":4.00,\"min_ns\":2.00,\
                    \"per_second\":250000000}]}\n";
        assert_eq!(report.json(), json);
        assert_eq!(report.text().lines().count(), 3);
        assert_eq!(Report { figures: Vec::new() }.text(), "");
    }
}
