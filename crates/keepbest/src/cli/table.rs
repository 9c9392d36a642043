//! Columns of text.

use keepbest_core::text::visible;

/// A table; the first row is its head. Its cells are as they are shown, so that their widths are.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these heads; one that begins with `>` is set to the right with its column.
    pub(super) fn new<const N: usize>(heads: [&str; N]) -> Self {
        let right = heads.iter().map(|head| head.starts_with('>')).collect();
        let head = heads
            .iter()
            .map(|head| visible(head.trim_start_matches('>')).into())
            .collect();
        Self {
            rows: vec![head],
            right,
        }
    }

    /// A table with heads that are known at run time only, from column `right_from` on set to the right.
    pub(super) fn of(heads: Vec<String>, right_from: usize) -> Self {
        let right = (0..heads.len())
            .map(|column| column >= right_from)
            .collect();
        let mut table = Self {
            rows: Vec::new(),
            right,
        };
        table.cells(heads);
        table
    }

    /// One more row, of as many cells as there are heads.
    pub(super) fn cells(&mut self, cells: Vec<String>) {
        let shown = cells.iter().map(|cell| visible(cell).into());
        self.rows.push(shown.collect());
    }

    /// One more row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.cells(cells.into());
    }

    /// The lines, those that are longer than `width` broken at blanks of their last cell.
    pub(super) fn lines_within(&self, width: usize) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let Some(last) = columns.checked_sub(1) else {
            return Vec::new();
        };
        let before: usize = (0..last).map(|column| self.width(column) + 2).sum();
        let mut table = Self {
            rows: Vec::new(),
            right: self.right.clone(),
        };
        for row in &self.rows {
            let mut row = row.clone();
            let words = if row.len() == columns {
                row.pop().unwrap_or_default()
            } else {
                String::new()
            };
            let mut part = String::new();
            for word in words.split(' ') {
                if !part.is_empty()
                    && before + part.chars().count() + 1 + word.chars().count() > width
                {
                    row.resize(last, String::new());
                    row.push(std::mem::take(&mut part));
                    table.rows.push(std::mem::take(&mut row));
                }
                if !part.is_empty() {
                    part.push(' ');
                }
                part.push_str(word);
            }
            row.resize(last, String::new());
            row.push(part);
            table.rows.push(row);
        }
        table.lines()
    }

    fn width(&self, column: usize) -> usize {
        self.rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    }

    /// The lines, without blanks at their ends.
    pub(super) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let mut lines = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                // Filled up by hand: the width of a format is an error beyond 65,535.
                let blanks = " ".repeat(widths[column] - cell.chars().count());
                if self.right.get(column) == Some(&true) {
                    line.push_str(&blanks);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&blanks);
                }
            }
            lines.push(line.trim_end().into());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_any_width() {
        let mut table = Table::new(["name", ">size", "more"]);
        let long = "x".repeat(70_000);
        table.row([long.clone(), long.clone(), "a".into()]);
        table.row(["b".into(), "2".into(), "c".into()]);
        let lines = table.lines();
        assert_eq!(lines[1], format!("{long}  {long}  a"));
        assert_eq!(lines[2].len(), 140_005);
        assert_eq!(table.lines_within(80).len(), 3);
    }

    #[test]
    fn columns_align() {
        let mut table = Table::new(["name", ">size"]);
        table.row(["a".into(), "1".into()]);
        table.row(["long one".into(), "12345".into()]);
        assert_eq!(
            table.lines(),
            ["name       size", "a             1", "long one  12345"]
        );
    }

    #[test]
    fn what_is_not_seen_is_written_out_and_has_its_width() {
        let mut table = Table::of(vec!["class".into(), "\u{9b}".into()], 1);
        table.row(["\u{1b}[31mred".into(), "1".into()]);
        assert_eq!(
            table.lines(),
            ["class          \\u009b", "\\u001b[31mred       1"]
        );
    }
}
