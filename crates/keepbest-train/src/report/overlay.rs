//! The curves of several runs over each other, and the page around them.

use std::fmt::Write as _;

use keepbest_core::History;

use super::curves::{HEIGHT, STAR, WIDTH, places};
use super::page::PAGE_STYLE;
use super::svg::{Axis, STYLE, escape, escape_lines, grid, plot, shorten};

/// Runs that are told apart by colour and dash; more share them.
const KINDS: usize = 6;

/// A run among others.
#[derive(Debug, Clone)]
pub struct Overlaid {
    /// Its name.
    pub name: String,
    /// Its evaluations.
    pub history: History,
    /// Step of its best.
    pub best: Option<u64>,
}

/// A metric of several runs over the epochs, their bests marked; `None` when none of them has it.
fn overlay(runs: &[Overlaid], metric: &str) -> Option<String> {
    let series: Vec<Vec<(f64, f64, u64)>> = runs
        .iter()
        .map(|run| {
            let records = run.history.records();
            let points = records.iter().zip(places(records));
            points
                .filter_map(|(record, x)| Some((x, record.metrics.get(metric)?, record.step)))
                .filter(|(_, y, _)| y.is_finite())
                .collect()
        })
        .collect();
    let all = || series.iter().flatten();
    let low = all().map(|(_, y, _)| *y).reduce(f64::min)?;
    let high = all().map(|(_, y, _)| *y).reduce(f64::max)?;
    let first = all().map(|(x, ..)| *x).fold(1.0, f64::min);
    let last = all().map(|(x, ..)| *x).fold(1.0, f64::max);
    let legend = 16.0 * runs.len() as f64;
    let top = 30.0 + legend;
    let height = HEIGHT + legend - 16.0;
    let x = Axis::whole(first, last, 48.0, WIDTH - 14.0);
    let y = Axis::round(low, high, height - 38.0, top);

    let mut body = String::new();
    let _ = writeln!(
        body,
        "<text class=\"title\" x=\"6\" y=\"16\">{}</text>",
        escape(&shorten(metric, 60))
    );
    grid(&mut body, &x, &y);
    let _ = writeln!(
        body,
        "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">epoch</text>",
        WIDTH - 14.0,
        height - 8.0
    );
    for (at, (run, points)) in runs.iter().zip(&series).enumerate() {
        let kind = at % KINDS;
        let path: Vec<String> = points
            .iter()
            .map(|(px, py, _)| format!("{:.1} {:.1}", x.at(*px), y.at(*py)))
            .collect();
        if !path.is_empty() {
            let _ = writeln!(
                body,
                "<path class=\"line run{kind}\" d=\"M{}\"/>",
                path.join("L")
            );
        }
        let best = points.iter().find(|(_, _, step)| Some(*step) == run.best);
        if let Some((px, py, step)) = best {
            let _ = writeln!(
                body,
                "<path class=\"mark run{kind}\" data-run=\"{}\" data-step=\"{step}\" data-value=\"{py}\" \
                 transform=\"translate({:.1} {:.1})\" d=\"{STAR}\"/>",
                escape(&run.name),
                x.at(*px),
                y.at(*py)
            );
        }
        let _ = writeln!(
            body,
            "<g transform=\"translate(48 {:.1})\"><path class=\"line run{kind}\" d=\"M0 -4H24\"/>\
             <text class=\"faint\" x=\"30\" y=\"0\">{}</text></g>",
            34.0 + 16.0 * at as f64,
            escape(&shorten(&run.name, 52))
        );
    }
    Some(plot(WIDTH, height, metric, &body))
}

/// A page with the metrics of several runs over each other, and `told` below them as it stands.
#[must_use]
pub fn overlay_page(runs: &[Overlaid], metrics: &[String], told: &str) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let title = escape(&names.join(", "));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<meta name=\"generator\" content=\"keepbest\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}: keepbest</title>\n<style>{STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p class=\"faint\">Stars mark the best of each run.</p>\n<div class=\"plots\">\n"
    );
    for metric in metrics {
        if let Some(plot) = overlay(runs, metric) {
            let _ = writeln!(out, "<figure style=\"margin:0\">{plot}</figure>");
        }
    }
    let _ = write!(
        out,
        "</div>\n<pre>{}</pre>\n</body>\n</html>\n",
        escape_lines(told)
    );
    out
}
