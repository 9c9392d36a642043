//! The screen, drawn from what is known of the run. It fits into any size: what has no room is left out.

use keepbest_model::words::{thousands, value};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table};

use super::watch::{Points, Watch};
use crate::cli::words::shorten;

const TRAIN: Color = Color::Yellow;
const VAL: Color = Color::Cyan;
const BEST: Color = Color::Green;

/// What the keys do, in the last line.
pub(super) const KEYS: &str = "q: stop after this epoch   e: evaluate now   Ctrl-C: stop at once";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, watch: &Watch) {
    let [head, bar, curves, facts, lines, keys] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(7),
        Constraint::Length(facts_height(watch)),
        Constraint::Max(log_height(frame.area())),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    header(frame, head, watch);
    progress(frame, bar, watch);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(curves);
    loss(frame, left, watch);
    monitored(frame, right, watch);
    frame.render_widget(Paragraph::new(facts_lines(watch)), facts);
    below(frame, lines, watch);
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(format!(" {KEYS}")).style(style), keys);
}

fn facts_height(watch: &Watch) -> u16 {
    u16::try_from(facts_lines(watch).len()).unwrap_or(4)
}

/// A taller screen has more of the evaluations.
fn log_height(area: Rect) -> u16 {
    match area.height {
        0..24 => 2,
        24..36 => 4,
        height => height / 3,
    }
}

fn faint(text: &str) -> Span<'_> {
    Span::styled(text, Style::new().add_modifier(Modifier::DIM))
}

fn strong(text: &str) -> Span<'_> {
    Span::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn header(frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
    let lines = vec![
        Line::from(vec![
            strong(&watch.run),
            faint("  "),
            Span::raw(&watch.network),
        ]),
        Line::from(faint(&watch.data)),
        Line::from(vec![faint("best is "), Span::raw(&watch.objective)]),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn progress(frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
    let label = match watch.position() {
        position if position.is_empty() => watch.doing.clone(),
        position => format!("{position}: {}", watch.doing),
    };
    let gauge = Gauge::default()
        .ratio(watch.done())
        .gauge_style(Style::new().fg(Color::LightBlue))
        .label(shorten(&label, usize::from(area.width)));
    frame.render_widget(gauge, area);
}

fn loss(frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
    // The mean of the first steps after an evaluation jumps; the curve of the evaluations stays.
    let curves = [
        (
            Marker::Dot,
            GraphType::Scatter,
            faint_of(TRAIN),
            &watch.live_loss,
            "now",
        ),
        (
            Marker::Braille,
            GraphType::Line,
            Style::new().fg(TRAIN),
            &watch.train_loss,
            "train",
        ),
        (
            Marker::Braille,
            GraphType::Line,
            Style::new().fg(VAL),
            &watch.val_loss,
            "val",
        ),
    ];
    chart(frame, area, watch, "loss", &curves);
}

fn monitored(frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
    let star: Points = watch.best.into_iter().collect();
    let curves = [
        (
            Marker::Braille,
            GraphType::Line,
            Style::new().fg(VAL),
            &watch.monitored,
            "val",
        ),
        (
            Marker::Block,
            GraphType::Scatter,
            Style::new().fg(BEST),
            &star,
            "best",
        ),
    ];
    let title = shorten(&watch.monitor, usize::from(area.width.saturating_sub(4)));
    chart(frame, area, watch, &title, &curves);
}

fn faint_of(colour: Color) -> Style {
    Style::new().fg(colour).add_modifier(Modifier::DIM)
}

type Curve<'a> = (Marker, GraphType, Style, &'a Points, &'a str);

fn chart(frame: &mut Frame<'_>, area: Rect, watch: &Watch, title: &str, curves: &[Curve<'_>]) {
    let block = Block::bordered().title(title.to_owned());
    let there = || curves.iter().flat_map(|(.., points, _)| points.iter());
    let Some((low, high)) = range(there().map(|(_, y)| *y)) else {
        let text = Paragraph::new("nothing measured yet")
            .alignment(Alignment::Center)
            .block(block);
        frame.render_widget(text, area);
        return;
    };
    let end = there().map(|(x, _)| *x).fold(watch.epochs as f64, f64::max);
    let begin = there().map(|(x, _)| *x).fold(1.0, f64::min).max(0.0);
    let end = if end > begin { end } else { begin + 1.0 };
    let datasets = curves
        .iter()
        .filter(|(.., points, _)| !points.is_empty())
        .map(|(marker, kind, style, points, name)| {
            Dataset::default()
                .name(*name)
                .marker(*marker)
                .graph_type(*kind)
                .style(*style)
                .data(points)
        })
        .collect();
    let labels = |numbers: [f64; 3]| numbers.map(|number| Span::raw(value(number)));
    let epochs = [begin, end].map(|epoch| Span::raw(format!("{epoch:.0}")));
    let chart = Chart::new(datasets)
        .block(block)
        .x_axis(Axis::default().bounds([begin, end]).labels(epochs))
        .y_axis(Axis::default().bounds([low, high]).labels(labels([
            low,
            low + (high - low) / 2.0,
            high,
        ])))
        .hidden_legend_constraints((Constraint::Percentage(60), Constraint::Percentage(60)));
    frame.render_widget(chart, area);
}

/// From the least to the most, with a little room around.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    let room = match 0.05 * (high - low) {
        0.0 => 0.05 * high.abs().max(0.1),
        room => room,
    };
    Some((low - room, high + room))
}

fn facts_lines(watch: &Watch) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for (name, told) in &watch.on_disk {
        let colour = Style::new().fg(BEST).add_modifier(Modifier::BOLD);
        lines.push(Line::from(vec![
            Span::styled(format!("{name}  "), colour),
            Span::raw(told),
            faint(", on disk and read back"),
        ]));
    }
    if lines.is_empty() {
        lines.push(Line::from(faint("no best yet")));
    }
    let mut takes = Vec::new();
    if let Some(progress) = &watch.progress {
        takes.push(format!("loss {}", value(progress.loss)));
        takes.push(format!("rate {}", value(progress.learning_rate)));
    }
    if let Some(rate) = watch.images_per_second() {
        takes.push(format!("{} images/s", thousands(rate as u64)));
    }
    takes.push(watch.resources.words());
    takes.retain(|words| !words.is_empty());
    lines.push(Line::from(takes.join(", ")));
    lines
}

/// The latest evaluations, and beside them, where there is room, what else was said.
fn below(frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
    let table = 66;
    let [left, right] = match area.width >= 2 * table {
        true => Layout::horizontal([Constraint::Length(table + 4), Constraint::Min(0)]).areas(area),
        // What was said last is not to be missed, a row of the table is.
        false => {
            let said = u16::from(!watch.lines.is_empty());
            Layout::vertical([Constraint::Min(0), Constraint::Length(said)]).areas(area)
        }
    };
    evaluations(frame, left, watch);
    let shown = usize::from(right.height);
    let lines = watch
        .lines
        .iter()
        .skip(watch.lines.len().saturating_sub(shown));
    let lines: Vec<Line<'_>> = lines.map(|line| Line::from(line.as_str())).collect();
    frame.render_widget(Paragraph::new(lines), right);
}

fn evaluations(frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
    let heads = [
        "epoch",
        "train/loss",
        "val/loss",
        "val/acc",
        "monitored",
        "images/s",
        "",
    ];
    let shown = usize::from(area.height.saturating_sub(1));
    let first = watch.rows.len().saturating_sub(shown);
    let rows = watch.rows[first..].iter().map(|cells| {
        let best = cells[6] == "best";
        let style = if best {
            Style::new().fg(BEST)
        } else {
            Style::new()
        };
        Row::new(cells.iter().map(String::as_str)).style(style)
    });
    let widths = [8, 10, 9, 8, 9, 9, 8].map(Constraint::Length);
    let head = Row::new(heads).style(Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Table::new(rows, widths).header(head), area);
}
