//! Text tables with aligned columns, by the width of each cell on a terminal.

use unicode_width::UnicodeWidthStr;

/// Separator of two columns.
const COLUMN_GAP: &str = "  ";

/// Formats rows under a header. The last column is not padded.
#[must_use]
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.width()).max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for line in lines {
        let last = line.len().saturating_sub(1);
        for (column, cell) in line.iter().enumerate() {
            text.push_str(cell);
            if column < last {
                let pad = widths.get(column).map_or(0, |width| width.saturating_sub(cell.width()));
                text.push_str(&" ".repeat(pad));
                text.push_str(COLUMN_GAP);
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Formats a table without the column `hidden`, if there is one.
#[must_use]
pub(super) fn table_without_column(
    hidden: Option<usize>,
    header: &[&str],
    rows: &[Vec<String>],
) -> String {
    let is_shown = |column: &usize| Some(*column) != hidden;
    let shown = (0..header.len()).filter(is_shown);
    let header: Vec<&str> =
        shown.clone().filter_map(|column| header.get(column).copied()).collect();
    let cells =
        |row: &Vec<String>| shown.clone().filter_map(|column| row.get(column).cloned()).collect();
    table(&header, &rows.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["work", "1"], ["日本", "22"]].map(|row| row.map(str::to_owned).to_vec());

        assert_eq!(table(&["A", "B"], &rows), "A     B\nwork  1\n日本  22\n");
    }

    #[test]
    fn a_hidden_column_takes_no_room() {
        let rows = [["work", "1"].map(str::to_owned).to_vec()];

        assert_eq!(table_without_column(Some(0), &["A", "B"], &rows), "B\n1\n");
        assert_eq!(table_without_column(None, &["A", "B"], &rows), "A     B\nwork  1\n");
    }
}
