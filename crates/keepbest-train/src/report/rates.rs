//! The plot of a learning rate range test.

use std::fmt::Write as _;

use super::svg::{Axis, escape, grid, plot, standalone};
use crate::trainer::RangeTest;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;

impl RangeTest {
    /// The smoothed loss against the logarithm of the rate, with the suggestion marked, as an SVG file.
    #[must_use]
    pub fn svg(&self) -> String {
        let title = "Loss by learning rate";
        let mut body = format!(
            "<text class=\"title\" x=\"48\" y=\"18\">{}</text>\n",
            escape(title)
        );
        let places: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|point| (libm::log10(point.learning_rate), point.smoothed))
            .collect();
        if let (Some(first), Some(last)) = (places.first(), places.last()) {
            let low = places
                .iter()
                .map(|place| place.1)
                .fold(f64::INFINITY, f64::min);
            let high = places
                .iter()
                .map(|place| place.1)
                .fold(f64::NEG_INFINITY, f64::max);
            let x = Axis::whole(first.0, last.0, 48.0, WIDTH - 12.0);
            let y = Axis::round(low, high, HEIGHT - 50.0, 40.0);
            grid(&mut body, &x, &y);
            let path: Vec<String> = places
                .iter()
                .map(|(px, py)| format!("{:.1} {:.1}", x.at(*px), y.at(*py)))
                .collect();
            let _ = writeln!(body, "<path class=\"line val\" d=\"M{}\"/>", path.join("L"));
            if let Some(rate) = self.suggestion {
                let at = x.at(libm::log10(rate));
                let _ = writeln!(
                    body,
                    "<path class=\"stop\" d=\"M{at:.1} 40V{:.1}\"/>\
                     <text x=\"{at:.1}\" y=\"36\" text-anchor=\"middle\">{rate:.2e}</text>",
                    HEIGHT - 50.0
                );
            }
            let _ = writeln!(
                body,
                "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">power of ten of the learning rate</text>",
                WIDTH / 2.0,
                HEIGHT - 12.0
            );
        }
        standalone(&plot(WIDTH, HEIGHT, title, &body))
    }
}
