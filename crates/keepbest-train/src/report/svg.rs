//! Drawing: SVG by hand, sized to be read on a phone.

use std::fmt::Write as _;

use keepbest_core::text::{self, escape_xml, visible, visible_lines};

/// Colours and fonts of the plots, in the page and in SVG files of their own. The hues are Okabe and Ito's, which people of
/// every colour vision tell apart; lines differ in dash and marks in shape, too.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--ink:#1b1f24;--faint:#59636e;--rule:#d1d9e0;--val:#0072b2;--train:#c27500;\
--best:#b34a00;--on:#fff}\
@media(prefers-color-scheme:dark){:root{--ground:#12161b;--ink:#e6eaef;--faint:#9aa4af;--rule:#353d46;--val:#56b4e9;\
--train:#e69f00;--best:#ff9d5c;--on:#06121c}}\
@media print{:root{color-scheme:light;--ground:#fff;--ink:#000;--faint:#444;--rule:#bbb;--val:#0072b2;--train:#c27500;\
--best:#b34a00;--on:#fff}}\
svg.plot{background:var(--ground);font:13px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:var(--ink)}\
.plot .title{font-weight:600}.plot .faint{fill:var(--faint);font-size:12px}\
.plot .rule{stroke:var(--rule);fill:none}.plot .line{fill:none;stroke-width:2;stroke-linejoin:round}\
.plot .val{stroke:var(--val)}.plot .train{stroke:var(--train);stroke-dasharray:5 3}\
.plot .dot{fill:var(--val);stroke:none}.plot .dot.train{fill:var(--train)}\
.plot .best{fill:var(--best);stroke:var(--ground);stroke-width:1}\
.plot .own{fill:var(--ground);stroke:var(--best);stroke-width:1.5}.plot .last{fill:var(--ground);stroke:var(--ink);stroke-width:1.5}\
.plot .stop{stroke:var(--faint);stroke-dasharray:2 3}.plot .bar{fill:var(--val)}.plot .gap{fill:var(--best);fill-opacity:.45}.plot .level{stroke:var(--ink);stroke-width:2}\
.plot .run0{stroke:var(--val)}.plot .run1{stroke:#d55e00;stroke-dasharray:7 3}.plot .run2{stroke:#009e73;stroke-dasharray:2 3}\
.plot .run3{stroke:#cc79a7;stroke-dasharray:9 3 2 3}.plot .run4{stroke:#e69f00;stroke-dasharray:4 2}.plot .run5{stroke:var(--ink);stroke-dasharray:1 2}\
.plot .mark{fill:var(--ground);stroke-width:1.5;stroke-dasharray:none}\
.plot .over{fill:var(--on)}.plot .cell{fill:var(--val)}";

/// Text made safe for HTML and SVG, on one line; what is not seen, or XML does not allow, is written out.
pub(super) fn escape(text: &str) -> String {
    escape_xml(&visible(text))
}

/// The same with line breaks.
pub(super) fn escape_lines(text: &str) -> String {
    escape_xml(&visible_lines(text))
}

/// The text as it is shown, cut to `width` characters, the end marked.
pub(super) fn shorten(text: &str, width: usize) -> String {
    text::shorten(text, width, "\u{2026}")
}

/// An SVG element with `body` in it, `title` for those who cannot see it.
pub(super) fn plot(width: f64, height: f64, title: &str, body: &str) -> String {
    format!(
        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{}\">\n{body}</svg>\n",
        escape(title)
    )
}

/// A plot as a file of its own.
pub(super) fn standalone(plot: &str) -> String {
    plot.replacen('>', &format!("><style>{STYLE}</style>"), 1)
}

/// One axis: from data to a place on the plot.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    pub ticks: Vec<f64>,
}

impl Axis {
    /// An axis that shows `low` to `high`, widened to round numbers, between two places.
    pub(super) fn round(low: f64, high: f64, from: f64, to: f64) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            (low - 0.5, high + 0.5)
        };
        let step = round_step((high - low) / 5.0);
        let first = (low / step).floor();
        let last = (high / step).ceil();
        let ticks: Vec<f64> = (0..=(last - first) as u32)
            .map(|i| (first + f64::from(i)) * step)
            .collect();
        Self {
            low: first * step,
            high: last * step,
            from,
            to,
            ticks,
        }
    }

    /// An axis of epochs or the like: exactly `low` to `high`, ticks at round whole numbers.
    pub(super) fn whole(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let step = round_step((high - low) / 6.0).max(1.0);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        Self {
            low,
            high,
            from,
            to,
            ticks: (first..=last).map(|i| i as f64 * step).collect(),
        }
    }

    /// The place of a value, in pixels.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

/// The next of 1, 2, 5, 10, 20, ...
fn round_step(least: f64) -> f64 {
    let power = power_of_ten(libm::log10(least).floor() as i32);
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|times| times * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Ten to this power; up to 22 either way, the nearest number that there is.
fn power_of_ten(exponent: i32) -> f64 {
    let whole = (0..exponent.unsigned_abs()).fold(1.0, |power, _| power * 10.0);
    if exponent < 0 { 1.0 / whole } else { whole }
}

/// A number as an axis shows it.
pub(super) fn tick(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

/// Horizontal rules with their numbers, and numbers below.
pub(super) fn grid(body: &mut String, x: &Axis, y: &Axis) {
    let (left, right, bottom) = (x.from, x.to, y.from);
    for value in &y.ticks {
        let at = y.at(*value);
        let _ = writeln!(
            body,
            "<path class=\"rule\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>\
             <text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            tick(*value)
        );
    }
    for value in &x.ticks {
        let _ = writeln!(
            body,
            "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x.at(*value),
            bottom + 15.0,
            tick(*value)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_data() {
        let axis = Axis::round(0.613, 0.957, 0.0, 100.0);
        let shown: Vec<String> = axis.ticks.iter().map(|value| tick(*value)).collect();
        assert_eq!(shown, ["0.6", "0.7", "0.8", "0.9", "1"]);
        assert!(axis.at(0.613) >= 0.0 && axis.at(0.957) <= 100.0);
        let axis = Axis::whole(1.0, 24.0, 0.0, 100.0);
        assert_eq!(axis.ticks, [5.0, 10.0, 15.0, 20.0]);
        assert_eq!((axis.at(1.0), axis.at(24.0)), (0.0, 100.0));
        // One evaluation, or all the same, is a plot too.
        assert!(Axis::round(0.5, 0.5, 0.0, 100.0).at(0.5).is_finite());
        assert!(Axis::whole(1.0, 1.0, 0.0, 100.0).at(1.0).is_finite());
    }

    #[test]
    fn names_cannot_break_out() {
        assert_eq!(
            escape("<script>'\"&\u{1}"),
            "&lt;script&gt;&#39;&quot;&amp;\\u0001"
        );
        assert_eq!(escape("\u{202e}\u{9b}1m\n"), "\\u202e\\u009b1m\\n");
        assert_eq!(escape_lines("a\n\r"), "a\n\\r");
    }
}
