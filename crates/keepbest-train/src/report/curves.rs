//! The curve of a metric over the run, with the best, the last and the end marked.

use std::fmt::Write as _;

use keepbest_core::{EvaluationRecord, History};

use super::svg::{Axis, escape, grid, plot, shorten};

pub(super) const WIDTH: f64 = 460.0;
pub(super) const HEIGHT: f64 = 280.0;

/// A star around nothing, eight pixels to its points.
pub(super) const STAR: &str =
    "M0 -8L2.4 -2.6 8 -2.5 3.5 1.2 5 7 0 3.7 -5 7 -3.5 1.2 -8 -2.5 -2.4 -2.6Z";

/// A metric of the val split and its counterpart in training, over the epochs.
pub(super) struct Curve<'a> {
    pub history: &'a History,
    pub title: &'a str,
    /// The metric drawn as a whole line, or the monitored expression.
    pub main: &'a str,
    /// The place of the objective that monitors it, if one does.
    pub monitored: Option<usize>,
    /// The metric drawn dashed.
    pub beside: Option<&'a str>,
    /// Step of the best.
    pub best: Option<u64>,
    /// Step of the best by this metric, where one is kept.
    pub own_best: Option<u64>,
    /// The reason why training ended before its planned end.
    pub stopped: Option<&'a str>,
    /// The last epoch planned.
    pub planned: u64,
}

impl Curve<'_> {
    /// The plot; `None` when there is nothing to draw.
    pub(super) fn plot(&self) -> Option<String> {
        let records = self.history.records();
        let places = places(records);
        let series = |name: &str, monitored: Option<usize>| -> Vec<(f64, f64, u64)> {
            let value = |record: &EvaluationRecord| match monitored {
                Some(place) => record.judgement(place).map(|judgement| judgement.value),
                None => record.metrics.get(name),
            };
            let points = records.iter().zip(&places);
            points
                .filter_map(|(record, x)| Some((*x, value(record)?, record.step)))
                .filter(|(_, y, _)| y.is_finite())
                .collect()
        };
        let main = series(self.main, self.monitored);
        let beside = self.beside.map(|name| series(name, None));
        let all = || {
            let others = beside.iter().flatten();
            main.iter().chain(others).map(|(_, y, _)| *y)
        };
        let low = all().reduce(f64::min)?;
        let high = all().reduce(f64::max)?;
        let last = places.last().copied().unwrap_or(1.0);
        // A run that is going on, or was stopped, shows what is left of its plan.
        let end = last.max(self.planned as f64);
        let first = places.first().copied().unwrap_or(1.0).min(1.0);
        let x = Axis::whole(first, end, 48.0, WIDTH - 14.0);
        let y = Axis::round(low, high, HEIGHT - 38.0, 46.0);

        let mut body = String::new();
        let _ = writeln!(
            body,
            "<text class=\"title\" x=\"6\" y=\"16\">{}</text>",
            escape(&shorten(self.title, 60))
        );
        grid(&mut body, &x, &y);
        let _ = writeln!(
            body,
            "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">epoch</text>",
            WIDTH - 14.0,
            HEIGHT - 8.0
        );
        if self.stopped.is_some() {
            let _ = writeln!(
                body,
                "<path class=\"stop\" d=\"M{0:.1} {1:.1}V{2:.1}\"/>",
                x.at(last),
                46.0,
                HEIGHT - 38.0
            );
        }
        if let Some(points) = &beside {
            line(&mut body, "train", points, &x, &y);
        }
        line(&mut body, "val", &main, &x, &y);
        if let Some((px, py, _)) = main.last() {
            let _ = writeln!(
                body,
                "<circle class=\"last\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
                x.at(*px),
                y.at(*py)
            );
        }
        // Its own best below: where both are one, the star of best is seen.
        let own = main
            .iter()
            .find(|(_, _, step)| Some(*step) == self.own_best);
        let best = main.iter().find(|(_, _, step)| Some(*step) == self.best);
        for (class, marked) in [("own", own), ("best", best)] {
            if let Some((px, py, step)) = marked {
                let _ = writeln!(
                    body,
                    "<path class=\"{class}\" data-step=\"{step}\" data-value=\"{py}\" \
                     transform=\"translate({:.1} {:.1})\" d=\"{STAR}\"/>",
                    x.at(*px),
                    y.at(*py)
                );
            }
        }
        self.legend(&mut body, best.is_some(), own.is_some());
        Some(plot(WIDTH, HEIGHT, self.title, &body))
    }

    fn legend(&self, body: &mut String, has_best: bool, has_own: bool) {
        let mut at = 48.0;
        let mut entry = |sign: &str, name: &str, class: &str| {
            let name = shorten(name, 26);
            let _ = writeln!(
                body,
                "<g transform=\"translate({at:.1} 34)\">{sign}<text class=\"{class}\" x=\"22\" y=\"0\">{}</text></g>",
                escape(&name)
            );
            at += 32.0 + 6.6 * name.chars().count() as f64;
        };
        entry(
            "<path class=\"line val\" d=\"M0 -4H18\"/>",
            self.main,
            "faint",
        );
        if let Some(name) = self.beside {
            entry("<path class=\"line train\" d=\"M0 -4H18\"/>", name, "faint");
        }
        for (class, name, there) in [("best", "best", has_best), ("own", "its best", has_own)] {
            if there {
                let star = format!(
                    "<path class=\"{class}\" transform=\"translate(12 -4) scale(.8)\" d=\"{STAR}\"/>"
                );
                entry(&star, name, "faint");
            }
        }
        entry(
            "<circle class=\"last\" cx=\"12\" cy=\"-4\" r=\"3.5\"/>",
            "last",
            "faint",
        );
        if self.stopped.is_some() {
            entry("<path class=\"stop\" d=\"M12 -10V2\"/>", "stopped", "faint");
        }
    }
}

/// The place of each evaluation on the axis of epochs: several of one epoch share it out.
pub(super) fn places(records: &[EvaluationRecord]) -> Vec<f64> {
    let mut places = Vec::with_capacity(records.len());
    for group in records.chunk_by(|a, b| a.epoch == b.epoch) {
        let epoch = group[0].epoch as f64;
        let count = group.len() as f64;
        places.extend((1..=group.len()).map(|i| epoch - 1.0 + i as f64 / count));
    }
    places
}

fn line(body: &mut String, class: &str, points: &[(f64, f64, u64)], x: &Axis, y: &Axis) {
    let path: Vec<String> = points
        .iter()
        .map(|(px, py, _)| format!("{:.1} {:.1}", x.at(*px), y.at(*py)))
        .collect();
    let _ = writeln!(
        body,
        "<path class=\"line {class}\" d=\"M{}\"/>",
        path.join("L")
    );
    // Dots where they do not run into each other; alone a point has no line.
    if points.len() <= 40 {
        for (px, py, step) in points {
            let _ = writeln!(
                body,
                "<circle class=\"dot {class}\" data-step=\"{step}\" data-value=\"{py}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\"/>",
                x.at(*px),
                y.at(*py)
            );
        }
    }
}
