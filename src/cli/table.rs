//! Rows of text in columns.

use crate::cli::output::{Line, Output};
use serde::Serialize;

const GAP: &str = "  ";

/// Before the heading of a column of numbers, which stand at its right edge.
const RIGHT: char = '>';

/// A table that is built row by row and printed once all widths are known.
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows; `>N` is the heading `N` of a column of numbers.
    pub fn new(columns: &[&'static str]) -> Table {
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

    /// Headings and aligned rows.
    pub fn lines(&self) -> Vec<Line> {
        let headings = self.columns.iter().map(|column| name_of(column).to_owned());
        let headings: Vec<String> = headings.collect();
        let widths = self.widths();
        let heading = Line::heading(self.align(&headings, &widths));
        let rows = self.rows.iter();
        let rows = rows.map(|row| Line::from(self.align(row, &widths)));
        std::iter::once(heading).chain(rows).collect()
    }

    /// Prints headings and aligned rows.
    pub fn print(&self, out: &mut Output) -> anyhow::Result<()> {
        out.print(&self.lines())
    }

    /// Rows of tab-separated cells, for `cut`, `awk` and `xargs`.
    pub fn tabbed(&self) -> impl Iterator<Item = Line> {
        self.rows.iter().map(|row| Line::from(row.join("\t")))
    }

    /// Prints aligned rows with headings to a terminal; to anything else, rows of tab-separated
    /// cells without headings.
    pub fn print_or_pipe(&self, out: &mut Output) -> anyhow::Result<()> {
        if out.is_terminal() {
            return self.print(out);
        }
        self.tabbed().try_for_each(|line| out.line(&line.text))
    }

    fn widths(&self) -> Vec<usize> {
        let width_of = |(at, column): (usize, &&str)| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.max().unwrap_or(0).max(name_of(column).len())
        };
        self.columns.iter().enumerate().map(width_of).collect()
    }

    fn align(&self, cells: &[String], widths: &[usize]) -> String {
        let cell_of = |((cell, &width), column): ((&String, &usize), &&str)| {
            if column.starts_with(RIGHT) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        };
        let cells = cells.iter().zip(widths).zip(&self.columns).map(cell_of);
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    }
}

fn name_of(column: &str) -> &str {
    column.trim_start_matches(RIGHT)
}

/// Prints a JSON array of the items, or a row for each.
pub fn print_list<T: Serialize>(
    items: &[T],
    json: bool,
    columns: &[&'static str],
    cells: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    let mut out = Output::new();
    if json {
        out.json(&items)?;
        return out.flush();
    }
    let mut table = Table::new(columns);
    items.iter().for_each(|item| table.row(cells(item)));
    table.print_or_pipe(&mut out)?;
    out.flush()
}

/// A cell of what may not be known: then a dash.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new(&["TOPIC", ">N"]);
        table.row(vec!["a\nb".into(), "1".into()]);
        table.row(vec!["straße-1".into(), "10".into()]);
        let widths = table.widths();
        assert_eq!(widths, [8, 2]);
        assert_eq!(table.align(&table.rows[0], &widths), "a b        1");
        assert_eq!(table.align(&table.rows[1], &widths), "straße-1  10");
        let narrow = Table::new(&["A", "B"]);
        assert_eq!(narrow.align(&["x".into(), String::new()], &[5, 3]), "x");
    }
}
