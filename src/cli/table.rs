//! Rows of text in columns.

use crate::cli::output::Output;

const BOLD: anstyle::Style = anstyle::Style::new().bold();
const GAP: &str = "  ";

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table that is built row by row and printed once all widths are known.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: one cell per column. Control characters in a cell become spaces, so that a cell
    /// stays in its line.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "one cell per column");
        let clean = |cell: String| cell.replace(|c: char| c.is_control(), " ");
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// Prints headings and aligned rows.
    pub fn print(&self, out: &mut Output) -> anyhow::Result<()> {
        let headings = self
            .columns
            .iter()
            .map(|(name, _)| name.to_string())
            .collect::<Vec<_>>();
        let widths = self.widths();
        let heading = self.align(&headings, &widths);
        if out.is_styled() {
            out.line(&format!("{BOLD}{heading}{BOLD:#}"))?;
        } else {
            out.line(&heading)?;
        }
        self.rows
            .iter()
            .try_for_each(|row| out.line(&self.align(row, &widths)))
    }

    /// Prints aligned rows with headings to a terminal; to anything else, rows of tab-separated
    /// cells without headings, for `cut`, `awk` and `xargs`.
    pub fn print_or_pipe(&self, out: &mut Output) -> anyhow::Result<()> {
        if out.is_terminal() {
            return self.print(out);
        }
        self.rows
            .iter()
            .try_for_each(|row| out.line(&row.join("\t")))
    }

    fn widths(&self) -> Vec<usize> {
        let width_of = |(at, (name, _)): (usize, &(&str, Align))| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.max().unwrap_or(0).max(name.len())
        };
        self.columns.iter().enumerate().map(width_of).collect()
    }

    fn align(&self, cells: &[String], widths: &[usize]) -> String {
        let cell_of =
            |((cell, &width), (_, align)): ((&String, &usize), &(&str, Align))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            };
        let cells = cells.iter().zip(widths).zip(&self.columns).map(cell_of);
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new(&[("TOPIC", Align::Left), ("N", Align::Right)]);
        table.row(vec!["a\nb".into(), "1".into()]);
        table.row(vec!["straße-1".into(), "10".into()]);
        let widths = table.widths();
        assert_eq!(widths, [8, 2]);
        assert_eq!(table.align(&table.rows[0], &widths), "a b        1");
        assert_eq!(table.align(&table.rows[1], &widths), "straße-1  10");
        let narrow = Table::new(&[("A", Align::Left), ("B", Align::Left)]);
        assert_eq!(narrow.align(&["x".into(), String::new()], &[5, 3]), "x");
    }
}
