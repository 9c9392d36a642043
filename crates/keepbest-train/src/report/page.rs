//! The page around the plots.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keepbest_core::format_value;
use keepbest_core::statistics::Interval;

use super::summary::{count, summary};
use super::svg::{STYLE, escape, escape_lines, shorten};
use super::{Closeup, Report};

pub(super) const PAGE_STYLE: &str = "\
*{box-sizing:border-box}body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--ground);color:var(--ink);\
font:16px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\
h1{font-size:1.6rem;margin:.2em 0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:2em 0 .6em;border-bottom:1px solid var(--rule)}\
h3{font-size:1rem;margin:1.4em 0 .4em}p{max-width:46rem}\
.faint,figcaption{color:var(--faint);font-size:.875rem}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}\
svg.plot{display:block;width:100%;height:auto;max-width:36rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}\
th,td{padding:.25rem .7rem .25rem 0;text-align:left;vertical-align:top}thead th{border-bottom:1px solid var(--rule)}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.best td{font-weight:600;color:var(--best)}\
.between{display:inline-block;white-space:nowrap;color:var(--faint);font-size:.8em}\
.facts td{overflow-wrap:anywhere}.facts th{font-weight:400;color:var(--faint);white-space:nowrap}\
.mistakes{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:1rem;padding:0;margin:0}\
.mistakes figure{margin:0}.mistakes img{width:5.5rem;height:5.5rem;object-fit:contain;image-rendering:pixelated;\
background:#000;border:1px solid var(--rule)}.mistakes b{color:var(--ink);font-weight:600}\
pre{overflow-x:auto;font-size:.8rem;padding:.8rem;border:1px solid var(--rule)}summary{cursor:pointer}\
@media print{body{max-width:none;font-size:11pt;padding:0}.plots{grid-template-columns:1fr 1fr}svg.plot,figure,tr,table{break-inside:avoid}\
h2,h3{break-after:avoid}pre{white-space:pre-wrap}}";

/// The metrics of the table, with what to call them; all others are in the model file and in `evaluate`.
const SHOWN: [(&str, &str); 8] = [
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("f1_macro", "F1, mean over classes"),
    ("loss", "loss, as trained"),
    ("log_loss", "log loss"),
    ("roc_auc_ovr", "ROC AUC, one against the rest"),
    ("matthews", "Matthews correlation"),
    ("ece", "calibration error"),
];

/// The heading over what was measured of the best.
pub(super) const MEASURED: &str = "<h2>The best, measured</h2>\n";

pub(super) fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = escape(&report.name);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<meta name=\"generator\" content=\"keepbest\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}: keepbest</title>\n<style>{STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n"
    );
    for words in summary(report) {
        let _ = writeln!(out, "<p>{}</p>", escape(&words));
    }
    let curves = report.curves();
    if !curves.is_empty() {
        let _ = writeln!(out, "<h2>The run</h2>\n<div class=\"plots\">");
        for (name, plot) in curves {
            let _ = writeln!(
                out,
                "<figure style=\"margin:0\" id=\"{name}\">{plot}</figure>"
            );
        }
        out.push_str("</div>\n");
        out.push_str(
            "<p class=\"faint\">Training values are means over the epoch, of images that augmentation changed; they are not \
             measured on the finished epoch's weights, as those of val are.</p>\n",
        );
    }
    if !report.closeups.is_empty() {
        out.push_str(MEASURED);
        metrics(&mut out, &report.closeups);
    }
    for closeup in &report.closeups {
        section(&mut out, closeup);
    }
    throughput(&mut out, report);
    provenance(&mut out, report);
    history(&mut out, report);
    out.push_str("</body>\n</html>\n");
    out
}

fn metrics(out: &mut String, closeups: &[Closeup]) {
    out.push_str("<div class=\"wide\"><table><thead><tr><th>metric</th>");
    for closeup in closeups {
        let _ = write!(out, "<th class=\"n\">{}</th>", escape(&closeup.split));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (name, words) in SHOWN {
        let _ = write!(out, "<tr><td>{words}</td>");
        for closeup in closeups {
            let name = format!("{}/{name}", closeup.split);
            let value = closeup.metrics.get(&name);
            let shown = value.map(format_value).unwrap_or_default();
            let intervals = closeup.intervals.as_ref();
            let interval = intervals.and_then(|of| of.metrics.get(&name));
            let _ = write!(out, "<td class=\"n\">{shown}{}</td>", between(interval));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    if closeups.iter().any(|closeup| closeup.intervals.is_some()) {
        let how = "In brackets: 95 % intervals, Wilson's for shares of images, else by bootstrap of the images.";
        let _ = writeln!(out, "<p class=\"faint\">{how}</p>");
    }
}

/// An interval behind its value, fainter.
fn between(interval: Option<&Interval>) -> String {
    interval.map_or_else(String::new, |interval| {
        format!(
            " <span class=\"between\">[{}, {}]</span>",
            format_value(interval.low),
            format_value(interval.high)
        )
    })
}

fn section(out: &mut String, closeup: &Closeup) {
    let split = escape(&closeup.split);
    let images = count(closeup.report.count(), "image");
    let _ = writeln!(out, "<h2>On {split}: {images}</h2>\n<div class=\"plots\">");
    for (id, plot) in [
        ("confusion", closeup.confusion(false)),
        ("rates", closeup.confusion(true)),
        ("reliability", Some(closeup.reliability())),
    ] {
        if let Some(plot) = plot {
            let _ = writeln!(
                out,
                "<figure style=\"margin:0\" id=\"{id}-{split}\">{plot}</figure>"
            );
        }
    }
    out.push_str("</div>\n<div class=\"plots\">\n");
    confused(out, closeup);
    out.push_str(
        "<div><h3>By class</h3>\n<div class=\"wide\"><table><thead><tr><th>class</th><th class=\"n\">precision</th>\
         <th class=\"n\">recall</th><th class=\"n\">F1</th><th class=\"n\">images</th></tr></thead><tbody>\n",
    );
    let classes = closeup.classes.iter().zip(closeup.report.classes());
    for (at, (name, class)) in classes.enumerate() {
        let intervals = closeup.intervals.as_ref();
        let of_class = intervals.and_then(|of| of.classes.get(at));
        let _ = write!(out, "<tr><td>{}</td>", escape(name));
        for (value, interval) in [
            (class.precision, of_class.and_then(|of| of.precision)),
            (class.recall, of_class.and_then(|of| of.recall)),
            (class.f1, of_class.and_then(|of| of.f1)),
        ] {
            let between = between(interval.as_ref());
            let _ = write!(out, "<td class=\"n\">{value:.4}{between}</td>");
        }
        let _ = writeln!(out, "<td class=\"n\">{}</td></tr>", class.support);
    }
    out.push_str("</tbody></table></div></div>\n</div>\n");
    if closeup.mistakes.is_empty() {
        return;
    }
    out.push_str("<h3>Most confidently wrong</h3>\n<div class=\"mistakes\">\n");
    for mistake in &closeup.mistakes {
        let _ = writeln!(
            out,
            "<figure><img alt=\"{label}\" title=\"{source}\" src=\"data:image/png;base64,{png}\">\
             <figcaption><b>{label}</b><br>taken for {predicted}, {sure:.1}&nbsp;% sure</figcaption></figure>",
            label = escape(&mistake.label),
            source = escape(&mistake.source),
            png = BASE64.encode(&mistake.png),
            predicted = escape(&mistake.predicted),
            sure = 100.0 * mistake.probability
        );
    }
    out.push_str("</div>\n");
}

/// The pairs of classes that are confused most often; with many classes the only view of the matrix.
fn confused(out: &mut String, closeup: &Closeup) {
    let pairs = closeup.report.confusion().most_confused();
    if pairs.is_empty() {
        return;
    }
    let counts = closeup.report.confusion().label_counts();
    out.push_str(
        "<div><h3>Most often confused</h3>\n<div class=\"wide\"><table><thead><tr><th>label</th><th>taken for</th>\
         <th class=\"n\">images</th><th class=\"n\">of the label</th></tr></thead><tbody>\n",
    );
    for (label, predicted, images) in pairs.into_iter().take(6) {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{images}</td><td class=\"n\">{:.1}&nbsp;%</td></tr>",
            escape(&closeup.classes[label as usize]),
            escape(&closeup.classes[predicted as usize]),
            100.0 * images as f64 / counts[label as usize] as f64
        );
    }
    out.push_str("</tbody></table></div></div>\n");
}

fn throughput(out: &mut String, report: &Report) {
    let mut pace = report.pace.clone();
    if pace.is_empty() {
        return;
    }
    pace.sort_by(f64::total_cmp);
    let _ = writeln!(
        out,
        "<h2>Throughput</h2>\n<p>{:.0} training images a second (median of {}; {:.0} to {:.0}), evaluations and saving included. \
         The journal spans {}.</p>",
        pace[pace.len() / 2],
        count(pace.len() as u64, "stretch"),
        pace[0],
        pace[pace.len() - 1],
        duration(report.seconds)
    );
}

fn duration(seconds: f64) -> String {
    match seconds as u64 {
        0..60 => format!("{seconds:.1} s"),
        whole @ 60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

fn provenance(out: &mut String, report: &Report) {
    out.push_str("<h2>Where it comes from</h2>\n");
    if let Some(from) = &report.provenance {
        out.push_str("<table class=\"facts\"><tbody>\n");
        let mut fact = |name: &str, text: &str| {
            let _ = writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(text));
        };
        fact("network", &from.network);
        fact("data", &from.data.source);
        for (split, print) in &from.data.fingerprints {
            fact(
                split,
                &format!(
                    "{}, {} classes, BLAKE3 {}",
                    count(print.count, "image"),
                    print.classes,
                    print.blake3
                ),
            );
        }
        fact("recipe", &from.recipe);
        fact("seed", &from.seed.to_string());
        if let Some(parent) = &from.parent {
            fact(
                "starts from",
                &format!("{} ({})", parent.path.display(), parent.digest),
            );
        }
        fact("keepbest", &from.keepbest);
        if let Some(environment) = &from.environment {
            fact("command", &environment.command.join(" "));
            fact(
                "machine",
                &format!(
                    "{}, {} build, {} on {}",
                    environment.platform,
                    environment.build,
                    match &environment.software {
                        Some(_) => environment.engine(),
                        None => environment.isa.clone(),
                    },
                    count(environment.threads as u64, "thread")
                ),
            );
            if let Some(git) = &environment.git {
                let dirty = if git.dirty { ", with changes" } else { "" };
                fact("git", &format!("{}{dirty}", git.commit));
            }
        }
        out.push_str("</tbody></table>\n");
    }
    let _ = writeln!(
        out,
        "<details><summary>Every setting (run.toml)</summary>\n<pre>{}</pre></details>",
        escape_lines(&report.settings)
    );
}

fn history(out: &mut String, report: &Report) {
    const NAMES: [&str; 4] = ["train/loss", "train/accuracy", "val/loss", "val/accuracy"];
    if report.history.is_empty() {
        return;
    }
    out.push_str(
        "<details><summary>Every evaluation</summary>\n<div class=\"wide\"><table id=\"evaluations\"><thead><tr>\
         <th class=\"n\">epoch</th><th class=\"n\">step</th>",
    );
    for name in NAMES {
        let _ = write!(out, "<th class=\"n\">{name}</th>");
    }
    out.push_str("<th>verdict</th></tr></thead><tbody>\n");
    for record in &report.history {
        let class = if Some(record.step) == report.best {
            " class=\"best\""
        } else {
            ""
        };
        let _ = write!(
            out,
            "<tr{class}><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            record.epoch, record.step
        );
        for name in NAMES {
            let value = record.metrics.get(name).map(format_value);
            let _ = write!(out, "<td class=\"n\">{}</td>", value.unwrap_or_default());
        }
        let _ = writeln!(
            out,
            "<td>{}</td></tr>",
            escape(&shorten(record.verdict.reason(), 120))
        );
    }
    out.push_str("</tbody></table></div></details>\n");
}
