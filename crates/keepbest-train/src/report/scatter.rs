//! Two values of every evaluation against each other, the Pareto front marked.

use std::fmt::Write as _;

use keepbest_core::History;

use super::KeptFront;
use super::curves::{HEIGHT, STAR, WIDTH};
use super::svg::{Axis, escape, grid, plot, shorten};

/// A square on its corner around nothing.
const DIAMOND: &str = "M0 -6L6 0 0 6 -6 0Z";

/// The first two values of a front, over each other; `None` when no evaluation has both.
pub(super) fn scatter(history: &History, front: &KeptFront, best: Option<u64>) -> Option<String> {
    let [first, second, more @ ..] = front.pareto.goals() else {
        return None;
    };
    let points: Vec<(f64, f64, u64)> = history
        .iter()
        .filter_map(|record| {
            let point = front.pareto.point(&record.metrics).ok()??;
            Some((point.values()[1], point.values()[0], record.step))
        })
        .collect();
    let axis = |value: fn(&(f64, f64, u64)) -> f64, from, to| {
        let values = || points.iter().map(value);
        let (low, high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        Some(Axis::round(low, high, from, to))
    };
    let x = axis(|point| point.0, 62.0, WIDTH - 24.0)?;
    let y = axis(|point| point.1, HEIGHT - 38.0, 46.0)?;

    let (across, up) = (second.monitor.to_string(), first.monitor.to_string());
    let title = match more.len() {
        0 => "Pareto front".to_owned(),
        more => format!("Pareto front, two of {} values", 2 + more),
    };
    let mut body = String::new();
    let _ = writeln!(
        body,
        "<text class=\"title\" x=\"6\" y=\"16\">{title}: {}</text>",
        escape(&shorten(&up, 36))
    );
    grid(&mut body, &x, &y);
    let _ = writeln!(
        body,
        "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - 14.0,
        HEIGHT - 8.0,
        escape(&shorten(&across, 40))
    );
    for (px, py, step) in &points {
        let _ = writeln!(
            body,
            "<circle class=\"dot\" data-step=\"{step}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>",
            x.at(*px),
            y.at(*py)
        );
    }
    // The best above all: it may be on the front, too.
    let marks = [
        ("own", DIAMOND, front.steps.clone()),
        ("best", STAR, Vec::from_iter(best)),
    ];
    for (class, shape, steps) in &marks {
        for (px, py, step) in points.iter().filter(|(.., step)| steps.contains(step)) {
            let _ = writeln!(
                body,
                "<path class=\"{class}\" data-step=\"{step}\" transform=\"translate({:.1} {:.1})\" d=\"{shape}\"/>",
                x.at(*px),
                y.at(*py)
            );
        }
    }
    let _ = writeln!(
        body,
        "<g transform=\"translate(62 34)\"><circle class=\"dot\" cx=\"4\" cy=\"-4\" r=\"2.5\"/>\
         <text class=\"faint\" x=\"14\">evaluation</text>\
         <path class=\"own\" transform=\"translate(98 -4)\" d=\"{DIAMOND}\"/><text class=\"faint\" x=\"110\">on the front</text>\
         <path class=\"best\" transform=\"translate(206 -4) scale(.8)\" d=\"{STAR}\"/><text class=\"faint\" x=\"218\">best</text></g>"
    );
    let label = format!("Pareto front: {up} over {across}");
    Some(plot(WIDTH, HEIGHT, &label, &body))
}
