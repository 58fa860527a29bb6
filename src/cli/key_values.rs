//! Facts that line up: a label, and what there is to say of it, perhaps on several lines.

/// The gap between the labels and what they label.
const COLUMN_GAP: usize = 2;

/// Labelled lines of a report.
#[derive(Debug, Default)]
pub(super) struct KeyValueTable(Vec<(&'static str, Vec<String>)>);

impl KeyValueTable {
    /// Adds one line.
    pub(super) fn add(&mut self, label: &'static str, line: impl Into<String>) {
        self.0.push((label, vec![line.into()]));
    }

    /// Adds several lines under one label; no lines, no label.
    pub(super) fn add_all(&mut self, label: &'static str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.0.push((label, lines));
        }
    }

    /// Lines everything up.
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
        let mut facts = KeyValueTable::default();
        facts.add("cause", "server");
        facts.add_all("nothing", Vec::new());
        facts.add_all("delay", vec!["one".to_owned(), "two".to_owned()]);

        assert_eq!(facts.render(), "cause  server\ndelay  one\n       two");
    }
}
