//! The best model seen closely, on one split: what it confuses, how sure it is, where it is sure and wrong.

use std::fmt::Write as _;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use keepbest_core::{ClassificationReport, Metrics};
use keepbest_data::{DataError, Dataset as _, Image, Subset};
use keepbest_model::{Intervals, Measured, OutcomesError};

use super::svg::{Axis, escape, grid, plot, shorten};

/// The number of wrong answers shown.
const MISTAKES: usize = 24;
/// Classes up to which the whole matrix is drawn.
const WHOLE_UP_TO: usize = 24;

/// The results of a model on one split, as far as a report shows them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Closeup {
    /// The split's name.
    pub split: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Metrics by class, confusion, calibration.
    pub report: ClassificationReport,
    /// All metrics, named `split/accuracy` and so on.
    pub metrics: Metrics,
    /// Intervals of the metrics, where they were asked for.
    pub intervals: Option<Intervals>,
    /// The wrong answers it was surest of, surest first.
    pub mistakes: Vec<Mistake>,
}

/// A wrong answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Mistake {
    /// The file or data set that the image comes from.
    pub source: String,
    /// Its label.
    pub label: String,
    /// The class that the model took it for.
    pub predicted: String,
    /// The model's confidence, 0 to 1.
    pub probability: f64,
    /// The image, as PNG.
    pub png: Vec<u8>,
}

impl Closeup {
    /// A look at what was measured on `images`; the wrong answers are there if the outcomes were kept.
    ///
    /// # Errors
    /// [`DataError`] when an image cannot be read again.
    pub fn of(measured: &Measured, split: &str, images: &Subset) -> Result<Self, DataError> {
        let classes = images.classes().to_vec();
        let wrong = measured
            .outcomes
            .as_ref()
            .map(|outcomes| outcomes.most_wrong(MISTAKES))
            .unwrap_or_default();
        let mistakes = wrong.into_iter().map(|wrong| {
            Ok(Mistake {
                source: images.source(wrong.image),
                label: classes[wrong.label as usize].clone(),
                predicted: classes[wrong.predicted as usize].clone(),
                probability: wrong.probability,
                png: png(&images.image(wrong.image)?),
            })
        });
        Ok(Self {
            split: split.into(),
            mistakes: mistakes.collect::<Result<_, DataError>>()?,
            report: measured.report.clone(),
            metrics: measured.metrics(split),
            intervals: None,
            classes,
        })
    }

    /// With intervals of all metrics, if the outcomes were kept; that takes a moment.
    ///
    /// # Errors
    /// [`OutcomesError`] when there were no images.
    pub fn with_intervals(self, measured: &Measured) -> Result<Self, OutcomesError> {
        self.with_intervals_while(measured, &mut || true)
    }

    /// As [`with_intervals`](Self::with_intervals); `go_on` is asked all the time.
    ///
    /// # Errors
    /// As [`with_intervals`](Self::with_intervals), and [`OutcomesError::Interrupted`] when it says no.
    pub fn with_intervals_while(
        mut self,
        measured: &Measured,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Self, OutcomesError> {
        let outcomes = measured.outcomes.as_ref();
        let resampled = outcomes.map(|outcomes| outcomes.resample_while(&self.split, go_on));
        self.intervals = resampled.transpose()?.map(|of| of.intervals());
        Ok(self)
    }

    /// The confusion matrix: counts, or the share of each label's images.
    pub(super) fn confusion(&self, rates: bool) -> Option<String> {
        let n = self.classes.len();
        if n > WHOLE_UP_TO {
            return None;
        }
        let left = 92.0;
        let top = 60.0;
        let cell = 368.0 / n as f64;
        let (width, height) = (left + 368.0 + 6.0, top + 368.0 + 30.0);
        let title = if rates {
            "Confusion: percent of each label"
        } else {
            "Confusion: images"
        };
        let mut body = format!("<text class=\"title\" x=\"6\" y=\"16\">{title}</text>\n");
        let _ = writeln!(
            body,
            "<text class=\"faint\" x=\"{left}\" y=\"36\">taken for</text>\
             <text class=\"faint\" x=\"6\" y=\"{:.1}\">label</text>",
            top - 4.0
        );
        let size = (cell * 0.38).clamp(6.0, 14.0);
        for (label, row) in self.report.confusion().rows().iter().enumerate() {
            let total: u64 = row.iter().sum();
            let y = top + label as f64 * cell;
            let _ = writeln!(
                body,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"{:.1}\">{}</text>\
                 <text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" style=\"font-size:{:.1}px\">{}</text>",
                left - 6.0,
                y + cell * 0.5 + 4.0,
                size.min(13.0),
                escape(&shorten(&self.classes[label], 13)),
                left + (label as f64 + 0.5) * cell,
                top - 6.0,
                size.min(11.0),
                escape(&shorten(&self.classes[label], 4)),
            );
            for (predicted, count) in row.iter().enumerate() {
                let rate = if total > 0 {
                    *count as f64 / total as f64
                } else {
                    0.0
                };
                let x = left + predicted as f64 * cell;
                let shown = if *count == 0 {
                    String::new()
                } else if rates {
                    format!("{:.0}", 100.0 * rate)
                } else {
                    count.to_string()
                };
                // A light cell with few images is still told from an empty one.
                let depth = if *count == 0 { 0.0 } else { 0.08 + 0.92 * rate };
                let _ = write!(
                    body,
                    "<rect class=\"cell\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell:.1}\" height=\"{cell:.1}\" fill-opacity=\"{depth:.2}\"/>\
                     <rect class=\"rule\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell:.1}\" height=\"{cell:.1}\"/>"
                );
                if !shown.is_empty() {
                    let over = if depth > 0.5 { " class=\"over\"" } else { "" };
                    let _ = write!(
                        body,
                        "<text{over} x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"{size:.1}\">{shown}</text>",
                        x + cell * 0.5,
                        y + cell * 0.5 + size * 0.36
                    );
                }
                body.push('\n');
            }
        }
        let _ = writeln!(
            body,
            "<text class=\"faint\" x=\"{left}\" y=\"{:.1}\">the stronger the colour, the larger the share of the label</text>",
            height - 10.0
        );
        Some(plot(width, height, title, &body))
    }

    /// The reliability diagram: the share of right answers by the model's confidence.
    pub(super) fn reliability(&self) -> String {
        let (width, height) = (460.0, 300.0);
        let x = Axis::round(0.0, 1.0, 48.0, width - 14.0);
        let y = Axis::round(0.0, 1.0, height - 74.0, 30.0);
        let bins = self.report.calibration();
        let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
        let mut body = String::from(
            "<text class=\"title\" x=\"6\" y=\"16\">Reliability: how often right, by how sure</text>\n",
        );
        grid(&mut body, &x, &y);
        for (i, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
            let from = x.at(i as f64 / bins.len() as f64) + 1.0;
            let wide = x.at((i + 1) as f64 / bins.len() as f64) - 1.0 - from;
            let right = bin.correct as f64 / bin.count as f64;
            let (at, sure) = (y.at(right), y.at(bin.confidence));
            let both = at.max(sure);
            let _ = writeln!(
                body,
                "<rect class=\"bar\" x=\"{from:.1}\" y=\"{both:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>\
                 <rect class=\"gap\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>\
                 <path class=\"level\" d=\"M{from:.1} {at:.1}h{wide:.1}\"/>",
                y.at(0.0) - both,
                at.min(sure),
                (at - sure).abs()
            );
            // How many images the bar stands on.
            let tall = 26.0 * bin.count as f64 / most as f64;
            let _ = writeln!(
                body,
                "<rect class=\"bar\" fill-opacity=\".5\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\"/>",
                height - 20.0 - tall
            );
        }
        let _ = writeln!(
            body,
            "<path class=\"stop\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>\
             <text class=\"faint\" x=\"48\" y=\"{:.1}\">line: how often right; orange: the gap to how sure; below: images</text>",
            x.at(0.0),
            y.at(0.0),
            x.at(1.0),
            y.at(1.0),
            height - 6.0
        );
        plot(width, height, "Reliability diagram", &body)
    }
}

fn png(image: &Image) -> Vec<u8> {
    let shape = image.shape();
    let colour = if shape.channels == 3 {
        ExtendedColorType::Rgb8
    } else {
        ExtendedColorType::L8
    };
    let mut bytes = Vec::new();
    let written = PngEncoder::new(&mut bytes).write_image(
        image.pixels(),
        shape.width as u32,
        shape.height as u32,
        colour,
    );
    // Of 1 or 3 channels and with as many pixels as it says, by its own type; an empty picture would only miss in the page.
    if written.is_err() {
        bytes.clear();
    }
    bytes
}
