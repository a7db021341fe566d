//! Tables for people: aligned columns, numbers to the right.

use std::fmt::Write;

use crate::observe::redact::printable;

/// Longest cell, in bytes: a name is cut, not the table.
pub const MAX_CELL: usize = 80;

/// A table under construction.
pub struct Table {
    columns: Vec<Column>,
    /// `None`: a line across.
    rows: Vec<Option<Vec<String>>>,
}

struct Column {
    title: String,
    right: bool,
}

impl Table {
    /// A table without columns.
    pub fn new() -> Self {
        Table {
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a column of texts.
    pub fn text(mut self, title: impl Into<String>) -> Self {
        self.columns.push(Column {
            title: title.into(),
            right: false,
        });
        self
    }

    /// Adds a column of numbers.
    pub fn number(mut self, title: impl Into<String>) -> Self {
        self.columns.push(Column {
            title: title.into(),
            right: true,
        });
        self
    }

    /// Adds a row; control characters in it are escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.rows.push(Some(
            cells
                .into_iter()
                .map(|cell| printable(cell.as_ref(), MAX_CELL).into_owned())
                .collect(),
        ));
    }

    /// Adds a line across.
    pub fn rule(&mut self) {
        self.rows.push(None);
    }

    /// The text, with a line end after each row.
    pub fn render(&self) -> String {
        let width = |at: usize, column: &Column| {
            let cells = self.rows.iter().flatten().filter_map(|row| row.get(at));
            cells
                .chain([&column.title])
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| width(at, column))
            .collect();
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.clone()).collect();
        let across: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut out = String::new();
        for row in std::iter::once(Some(&titles)).chain(self.rows.iter().map(Option::as_ref)) {
            let cells = row.unwrap_or(&across);
            let mut line = String::new();
            for ((cell, width), column) in cells.iter().zip(&widths).zip(&self.columns) {
                let width = *width;
                // Writing to a String can't fail.
                let _ = match column.right {
                    true => write!(line, "{cell:>width$}  "),
                    false => write!(line, "{cell:<width$}  "),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// A number with commas: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let mut table = Table::new().text("MODEL").number("TOKENS");
        table.row(["a", &grouped(1_234_567)]);
        table.row(["longer\u{1b}name", "5"]);
        table.rule();
        table.row(["total", "9"]);
        let expected = "\
MODEL               TOKENS
a                1,234,567
longer\\u001bname          5
----------------  ---------
total                     9
";
        // The expected text is written with the width of the escaped name.
        let expected = expected.replace("MODEL               TOKENS", "MODEL                TOKENS");
        let expected = expected.replace("a                1,234,567", "a                 1,234,567");
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
