//! Tables that line up, whatever is in them.

use unicode_width::UnicodeWidthStr;

/// The gap between two columns.
const COLUMN_GAP: &str = "  ";

/// Lines up rows under a head; the last column is never padded.
#[must_use]
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|c| c.width()).max())
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

/// The same, without one of the columns.
#[must_use]
pub(super) fn table_without_column(
    hidden: Option<usize>,
    head: &[&str],
    rows: &[Vec<String>],
) -> String {
    let is_shown = |column: &usize| Some(*column) != hidden;
    let shown = (0..head.len()).filter(is_shown);
    let head: Vec<&str> = shown.clone().filter_map(|column| head.get(column).copied()).collect();
    let cells = |row: &Vec<String>| shown.clone().filter_map(|at| row.get(at).cloned()).collect();
    table(&head, &rows.iter().map(cells).collect::<Vec<_>>())
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
