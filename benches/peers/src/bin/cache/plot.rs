//! Hit ratios as a picture, in points below the best: a panel a trace, a line a cache.

use std::fmt::Write;

pub struct Panel {
    pub name: String,
    /// Percent, by size and cache.
    pub rows: [[f64; 4]; 3],
}

const COLORS: [&str; 4] = ["#3b6fe0", "#d1495b", "#2a9d4a", "#c58a1b"];
const SIZES: [&str; 3] = ["0.1 %", "1 %", "10 %"];
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 190.0;
/// Where a panel ends.
const BELOW_MAX: f64 = 5.0;

/// Three panels a row.
pub fn svg(names: &[&str; 4], panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(3) as f64;
    let (width, height) = (3.0 * WIDTH + 40.0, rows * HEIGHT + 60.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\">\n\
         <title>Hit ratio, points below the best, by size in % of the keys</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (at, (name, color)) in names.iter().zip(COLORS).enumerate() {
        let x = 50.0 + at as f64 * 130.0;
        writeln!(
            svg,
            "<path d=\"M{x} 18h22\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"22\">{name}</text>",
            x + 28.0
        )
        .expect("a string");
    }
    for (at, panel) in panels.iter().enumerate() {
        let (left, top) = (50.0 + (at % 3) as f64 * WIDTH, 60.0 + (at / 3) as f64 * HEIGHT);
        let (wide, high) = (WIDTH - 50.0, HEIGHT - 60.0);
        let y = |below: f64| top + below / BELOW_MAX * high;
        writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"600\">{}</text>",
            top - 8.0,
            panel.name
        )
        .expect("a string");
        for below in [0.0, 2.0, 4.0] {
            writeln!(
                svg,
                "<path d=\"M{left} {0}h{wide}\" stroke=\"#ccc\"/>\
                 <text x=\"{1}\" y=\"{2}\" text-anchor=\"end\" fill=\"#555\">{3}</text>",
                y(below),
                left - 4.0,
                y(below) + 4.0,
                -below
            )
            .expect("a string");
        }
        let x = |size: usize| left + 20.0 + size as f64 * (wide - 40.0) / 2.0;
        for (size, label) in SIZES.iter().enumerate() {
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{label}</text>",
                x(size),
                top + high + 15.0
            )
            .expect("a string");
        }
        // Ours last: on top.
        for cache in (0..4).rev() {
            let points: Vec<String> = panel
                .rows
                .iter()
                .enumerate()
                .map(|(size, row)| {
                    let best = row.iter().copied().fold(0.0, f64::max);
                    format!("{:.1},{:.1}", x(size), y(best - row[cache]))
                })
                .collect();
            let (color, points) = (COLORS[cache], points.join(" "));
            writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
            )
            .expect("a string");
        }
    }
    svg + "</svg>\n"
}
