//! Aligned list of labels and values. A value may have several lines.

/// Number of spaces between the longest label and its value.
const COLUMN_GAP: usize = 2;

/// List of labels, each with the lines of its value.
#[derive(Debug, Default)]
pub(super) struct KeyValueTable(Vec<(&'static str, Vec<String>)>);

impl KeyValueTable {
    /// Adds one line.
    pub(super) fn add(&mut self, label: &'static str, line: impl Into<String>) {
        self.0.push((label, vec![line.into()]));
    }

    /// Adds several lines under one label. Adds nothing if there are no lines.
    pub(super) fn add_all(&mut self, label: &'static str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.0.push((label, lines));
        }
    }

    /// Returns the aligned text, with each label on the first line of its value.
    #[must_use]
    pub(super) fn render(&self) -> String {
        let width = self.0.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + COLUMN_GAP;
        let mut text = String::new();
        for (label, lines) in &self.0 {
            let labels = std::iter::once(*label).chain(std::iter::repeat(""));
            for (label, line) in labels.zip(lines) {
                text.push_str(format!("{label:width$}{line}").trim_end());
                text.push('\n');
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned_and_labels_printed_once() {
        let mut table = KeyValueTable::default();
        table.add("cause", "server");
        table.add_all("nothing", Vec::new());
        table.add_all("delay", vec!["one".to_owned(), "two".to_owned()]);

        assert_eq!(table.render(), "cause  server\ndelay  one\n       two");
    }
}
