//! Plots out of block characters.

use super::scale::{RateAxis, time_ticks};
use super::{Bin, Chart, PlotSeries, floor_to_usize, index_f64};

/// The height of a panel, in lines.
const PANEL_ROWS: usize = 6;

/// The narrowest plot that still shows something, in columns.
const COLUMNS_MIN: usize = 40;

/// The widest that the eye follows along a line.
const COLUMNS_MAX: usize = 160;

/// The width of the labels beside a panel.
const LABEL_WIDTH: usize = 9;

/// The columns that a label of the time axis takes, with a gap.
const TICK_WIDTH: usize = 12;

/// Eighths of a cell, from none to all.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Between two signs of the legend.
const LEGEND_GAP: &str = "   ";

const OUTAGE_MARK: char = '░';
const CLIP_MARK: char = '▲';

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) enum ColourMode {
    Colour,
    Plain,
}

/// What the plot is drawn on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) struct TerminalOptions {
    pub columns: usize,
    pub colour_mode: ColourMode,
}

/// What a cell belongs to, which is its colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CellStyle {
    Blank,
    Series(usize),
    Throttled,
    Dim,
}

/// Draws every run in a panel of its own, and the legend below.
#[must_use]
pub(in crate::cli) fn render_terminal(chart: &Chart, look: TerminalOptions) -> String {
    let columns = look.columns.clamp(COLUMNS_MIN, COLUMNS_MAX) - LABEL_WIDTH;
    let (bins, width) = chart.bins(columns);
    let rates = bins.iter().flatten().map(|bin| bin.accepted / width);
    let axis = RateAxis::for_chart(chart, rates.fold(0.0, f64::max));
    let drawing = TerminalPlot { chart, axis, width, colour_mode: look.colour_mode };
    let mut text = String::new();
    for (number, (run, bins)) in chart.series.iter().zip(&bins).enumerate() {
        drawing.panel(&mut text, number, run, bins);
        text.push('\n');
    }
    text.push_str(&drawing.legend(&bins));
    text
}

struct TerminalPlot<'c> {
    chart: &'c Chart,
    axis: RateAxis,
    /// Seconds in a column.
    width: f64,
    colour_mode: ColourMode,
}

impl TerminalPlot<'_> {
    fn panel(&self, text: &mut String, number: usize, run: &PlotSeries, bins: &[Bin]) {
        let name = self.paint(&[(CellStyle::Series(number), run.name.as_str())]);
        line(text, &format!("{name}  {}", run.subtitle));
        for row in (0..PANEL_ROWS).rev() {
            let label = self.label(row);
            let edge = if label.is_empty() { '│' } else { '┤' };
            let cells =
                bins.iter().enumerate().map(|(column, bin)| self.cell(number, row, column, *bin));
            line(text, &format!("{label:>7} {edge}{}", self.cells(cells)));
        }
        self.time_axis(text, bins.len());
        if bins.iter().any(|bin| bin.throttled > 0.0) {
            let cells = bins
                .iter()
                .map(|bin| (CellStyle::Throttled, block_for_share(bin.throttled_share())));
            line(text, &format!("{:>7}  {}", "429s", self.cells(cells)));
        }
    }

    /// What is written beside a row: the quota at its line, the top, and the middle where there is no quota.
    fn label(&self, row: usize) -> String {
        match self.chart.quota.zip(self.quota_line_cell()) {
            Some((quota, (quota_row, _))) if quota_row == row => {
                self.axis.label(self.axis.fraction(quota.get()))
            }
            None if (row + 1) * 2 == PANEL_ROWS => self.axis.label(0.5),
            Some(_) | None if row + 1 == PANEL_ROWS => self.axis.label(1.0),
            Some(_) | None => String::new(),
        }
    }

    /// One cell of a panel: the rate where it reaches, else the quota's line or an outage.
    fn cell(&self, number: usize, row: usize, column: usize, bin: Bin) -> (CellStyle, char) {
        let rate = bin.accepted / self.width;
        let height = self.axis.fraction(rate) * index_f64(PANEL_ROWS) - index_f64(row);
        if row + 1 == PANEL_ROWS && self.axis.is_clipped(rate) {
            return (CellStyle::Series(number), CLIP_MARK);
        }
        // What is there is seen, however little.
        if height > 0.0 && (height >= 1.0 / 16.0 || row == 0) {
            return (CellStyle::Series(number), block_for_share(height.min(1.0)));
        }
        if self.is_outage(column) {
            return (CellStyle::Dim, OUTAGE_MARK);
        }
        match self.quota_line_cell() {
            Some((quota_row, glyph)) if quota_row == row => (CellStyle::Dim, glyph),
            Some(_) | None => (CellStyle::Blank, ' '),
        }
    }

    /// The row of the quota's line, and the character that lies at its height there.
    fn quota_line_cell(&self) -> Option<(usize, char)> {
        let eighth = floor_to_usize(
            (self.axis.fraction(self.chart.quota?.get()) * index_f64(PANEL_ROWS) * 8.0).round(),
        );
        let glyph = match eighth % 8 {
            0..=2 => '▁',
            3..=5 => '╌',
            _ => '▔',
        };
        Some((eighth / 8, glyph))
    }

    /// Whether the middle of a column lies in an outage.
    fn is_outage(&self, column: usize) -> bool {
        let middle = (index_f64(column) + 0.5) * self.width;
        self.chart
            .outages
            .iter()
            .any(|outage| (outage.start.as_secs_f64()..outage.end.as_secs_f64()).contains(&middle))
    }

    fn time_axis(&self, text: &mut String, columns: usize) {
        let ticks = time_ticks(self.chart.duration(), columns / TICK_WIDTH);
        let mut rule: Vec<char> = vec!['─'; columns];
        let mut labels = String::new();
        for (at, label) in ticks {
            let column = floor_to_usize(at.as_secs_f64() / self.width);
            if column >= columns {
                continue;
            }
            if column > 0 {
                rule[column] = '┬';
            }
            // The label begins at its tick, the last one where there is still room.
            let gap = column.saturating_sub(labels.chars().count());
            if column + label.chars().count() <= columns {
                labels.extend(std::iter::repeat_n(' ', gap));
                labels.push_str(&label);
            }
        }
        line(text, &format!("{:>7} └{}", "0", rule.into_iter().collect::<String>()));
        line(text, &format!("{:>9}{labels}", ""));
    }

    /// Says what the signs mean that are drawn.
    fn legend(&self, bins: &[Vec<Bin>]) -> String {
        let mut signs = Vec::new();
        if let Some(quota) = self.chart.quota {
            signs.push((CellStyle::Dim, '▁', format!("the server's quota, {quota}")));
        }
        if !self.chart.outages.is_empty() {
            signs.push((CellStyle::Dim, OUTAGE_MARK, "outage".to_owned()));
        }
        if bins.iter().flatten().any(|bin| bin.throttled > 0.0) {
            signs.push((
                CellStyle::Throttled,
                '█',
                "429s, by their share of the answers".to_owned(),
            ));
        }
        let mut cut = bins.iter().flatten().map(|bin| bin.accepted / self.width);
        if cut.any(|rate| self.axis.is_clipped(rate)) {
            let peak = self.axis.peak_label();
            signs.push((CellStyle::Blank, CLIP_MARK, format!("beyond the axis, up to {peak}")));
        }
        self.wrap_legend(&signs, bins.first().map_or(0, Vec::len))
    }

    /// Sets signs and meanings side by side, as many as fit on a line.
    fn wrap_legend(&self, signs: &[(CellStyle, char, String)], columns: usize) -> String {
        let (mut text, mut used) = (String::new(), usize::MAX);
        for (ink, sign, meaning) in signs {
            let len = meaning.chars().count() + LEGEND_GAP.len() + 2;
            if used.saturating_add(len) > columns {
                text.push_str(if text.is_empty() { "" } else { "\n" });
                text.push_str(&" ".repeat(LABEL_WIDTH));
                used = 0;
            } else {
                text.push_str(LEGEND_GAP);
            }
            text.push_str(&self.paint(&[(*ink, &sign.to_string())]));
            text.push_str(&format!(" {meaning}"));
            used += len;
        }
        text
    }

    /// Joins cells, a run of one ink at a time.
    fn cells(&self, cells: impl Iterator<Item = (CellStyle, char)>) -> String {
        let mut parts: Vec<(CellStyle, String)> = Vec::new();
        for (ink, cell) in cells {
            match parts.last_mut() {
                Some((last, part)) if *last == ink || cell == ' ' => part.push(cell),
                _ => parts.push((ink, cell.to_string())),
            }
        }
        self.paint(&parts)
    }

    fn paint(&self, parts: &[(CellStyle, impl AsRef<str>)]) -> String {
        let painted = parts.iter().map(|(ink, part)| {
            let code = match (self.colour_mode, ink) {
                (ColourMode::Plain, _) | (ColourMode::Colour, CellStyle::Blank) => {
                    return part.as_ref().to_owned();
                }
                (ColourMode::Colour, CellStyle::Series(0)) => "36",
                (ColourMode::Colour, CellStyle::Series(_)) => "33",
                (ColourMode::Colour, CellStyle::Throttled) => "31",
                (ColourMode::Colour, CellStyle::Dim) => "2",
            };
            format!("\x1b[{code}m{}\x1b[0m", part.as_ref())
        });
        painted.collect()
    }
}

/// The block that fills this share of a cell; what is more than nothing is seen.
fn block_for_share(share: f64) -> char {
    let eighths = floor_to_usize((share * 8.0).round()).min(8);
    BLOCKS[if share > 0.0 { eighths.max(1) } else { 0 }]
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}
