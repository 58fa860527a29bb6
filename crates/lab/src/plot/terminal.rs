//! Plots of block characters for a terminal.

use super::scale::{RateAxis, time_ticks};
use super::{Bin, Chart, PlotSeries, floor_to_usize, index_f64};

/// Height of a panel, in lines.
const PANEL_ROWS: usize = 6;

/// Smallest width of a readable plot, in columns.
const COLUMNS_MIN: usize = 40;

/// Largest width of a readable plot, in columns.
const COLUMNS_MAX: usize = 160;

/// Width of the labels beside a panel.
const LABEL_WIDTH: usize = 9;

/// Columns of a label of the time axis, including a gap.
const TICK_WIDTH: usize = 12;

/// Characters that fill 0 to 8 eighths of a cell.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Gap between two entries of the legend.
const LEGEND_GAP: &str = "   ";

const OUTAGE_MARK: char = '░';
const CLIP_MARK: char = '▲';

/// Use of colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ColourMode {
    Colour,
    Plain,
}

/// Properties of the terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TerminalOptions {
    pub columns: usize,
    pub colour_mode: ColourMode,
}

/// Kind of content of a cell; determines its colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CellStyle {
    Blank,
    Series(usize),
    Throttled,
    Dim,
}

/// Draws each series in a separate panel, and the legend below.
#[must_use]
pub fn render_terminal(chart: &Chart, options: TerminalOptions) -> String {
    let columns = options.columns.clamp(COLUMNS_MIN, COLUMNS_MAX) - LABEL_WIDTH;
    let (bins, width) = chart.bins(columns);
    let rates = bins.iter().flatten().map(|bin| bin.accepted / width);
    let axis = RateAxis::for_chart(chart, rates.fold(0.0, f64::max));
    let plot = TerminalPlot { chart, axis, width, colour_mode: options.colour_mode };
    let mut text = String::new();
    for (index, (series, bins)) in chart.series.iter().zip(&bins).enumerate() {
        plot.push_panel(&mut text, index, series, bins);
        text.push('\n');
    }
    text.push_str(&plot.legend(&bins));
    text
}

struct TerminalPlot<'c> {
    chart: &'c Chart,
    axis: RateAxis,
    /// Width of a column in seconds.
    width: f64,
    colour_mode: ColourMode,
}

impl TerminalPlot<'_> {
    fn push_panel(&self, text: &mut String, index: usize, series: &PlotSeries, bins: &[Bin]) {
        let name = self.paint(&[(CellStyle::Series(index), series.name.as_str())]);
        push_line(text, &format!("{name}  {}", series.subtitle));
        for row in (0..PANEL_ROWS).rev() {
            let label = self.label(row);
            let edge = if label.is_empty() { '│' } else { '┤' };
            let cells =
                bins.iter().enumerate().map(|(column, bin)| self.cell(index, row, column, *bin));
            push_line(text, &format!("{label:>7} {edge}{}", self.join_cells(cells)));
        }
        self.push_time_axis(text, bins.len());
        if bins.iter().any(|bin| bin.throttled > 0.0) {
            let cells = bins
                .iter()
                .map(|bin| (CellStyle::Throttled, block_for_share(bin.throttled_share())));
            push_line(text, &format!("{:>7}  {}", "429s", self.join_cells(cells)));
        }
    }

    /// Returns the label of a row: the quota at its line, the top, and the middle without a quota.
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

    /// Returns a cell of a panel: the rate up to its height, else an outage or the quota line.
    fn cell(&self, index: usize, row: usize, column: usize, bin: Bin) -> (CellStyle, char) {
        let rate = bin.accepted / self.width;
        let height = self.axis.fraction(rate) * index_f64(PANEL_ROWS) - index_f64(row);
        if row + 1 == PANEL_ROWS && self.axis.is_clipped(rate) {
            return (CellStyle::Series(index), CLIP_MARK);
        }
        // A rate above zero is visible, however low.
        if height > 0.0 && (height >= 1.0 / 16.0 || row == 0) {
            return (CellStyle::Series(index), block_for_share(height.min(1.0)));
        }
        if self.is_outage(column) {
            return (CellStyle::Dim, OUTAGE_MARK);
        }
        match self.quota_line_cell() {
            Some((quota_row, glyph)) if quota_row == row => (CellStyle::Dim, glyph),
            Some(_) | None => (CellStyle::Blank, ' '),
        }
    }

    /// Returns the row of the quota line, and the character at its height in the row.
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

    /// True if the middle of a column is in an outage.
    fn is_outage(&self, column: usize) -> bool {
        let middle = (index_f64(column) + 0.5) * self.width;
        self.chart
            .outages
            .iter()
            .any(|outage| (outage.start.as_secs_f64()..outage.end.as_secs_f64()).contains(&middle))
    }

    fn push_time_axis(&self, text: &mut String, columns: usize) {
        let ticks = time_ticks(self.chart.duration(), columns / TICK_WIDTH);
        let mut axis: Vec<char> = vec!['─'; columns];
        let mut labels = String::new();
        for (at, label) in ticks {
            let column = floor_to_usize(at.as_secs_f64() / self.width);
            if column >= columns {
                continue;
            }
            if column > 0 {
                axis[column] = '┬';
            }
            // A label begins at its tick. A last one that does not fit is left out.
            let gap = column.saturating_sub(labels.chars().count());
            if column + label.chars().count() <= columns {
                labels.extend(std::iter::repeat_n(' ', gap));
                labels.push_str(&label);
            }
        }
        push_line(text, &format!("{:>7} └{}", "0", axis.into_iter().collect::<String>()));
        push_line(text, &format!("{:>9}{labels}", ""));
    }

    /// Returns the legend of the symbols that the plot contains.
    fn legend(&self, bins: &[Vec<Bin>]) -> String {
        let mut entries = Vec::new();
        if let Some(quota) = self.chart.quota {
            entries.push((CellStyle::Dim, '▁', format!("the server's quota, {quota}")));
        }
        if !self.chart.outages.is_empty() {
            entries.push((CellStyle::Dim, OUTAGE_MARK, "outage".to_owned()));
        }
        if bins.iter().flatten().any(|bin| bin.throttled > 0.0) {
            entries.push((
                CellStyle::Throttled,
                '█',
                "429s, by their share of all responses".to_owned(),
            ));
        }
        let mut rates = bins.iter().flatten().map(|bin| bin.accepted / self.width);
        if rates.any(|rate| self.axis.is_clipped(rate)) {
            let peak = self.axis.peak_label();
            entries.push((CellStyle::Blank, CLIP_MARK, format!("beyond the axis, up to {peak}")));
        }
        self.wrap_legend(&entries, bins.first().map_or(0, Vec::len))
    }

    /// Joins symbols and meanings, as many per line as fit.
    fn wrap_legend(&self, entries: &[(CellStyle, char, String)], columns: usize) -> String {
        let (mut text, mut used) = (String::new(), usize::MAX);
        for (style, symbol, meaning) in entries {
            let len = meaning.chars().count() + LEGEND_GAP.len() + 2;
            if used.saturating_add(len) > columns {
                text.push_str(if text.is_empty() { "" } else { "\n" });
                text.push_str(&" ".repeat(LABEL_WIDTH));
                used = 0;
            } else {
                text.push_str(LEGEND_GAP);
            }
            text.push_str(&self.paint(&[(*style, &symbol.to_string())]));
            text.push_str(&format!(" {meaning}"));
            used += len;
        }
        text
    }

    /// Joins cells, and colours consecutive cells of one style together.
    fn join_cells(&self, cells: impl Iterator<Item = (CellStyle, char)>) -> String {
        let mut parts: Vec<(CellStyle, String)> = Vec::new();
        for (style, cell) in cells {
            match parts.last_mut() {
                Some((last, part)) if *last == style || cell == ' ' => part.push(cell),
                _ => parts.push((style, cell.to_string())),
            }
        }
        self.paint(&parts)
    }

    fn paint(&self, parts: &[(CellStyle, impl AsRef<str>)]) -> String {
        let painted = parts.iter().map(|(style, part)| {
            let code = match (self.colour_mode, style) {
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

/// Returns the character that fills this share of a cell; any share above zero is visible.
fn block_for_share(share: f64) -> char {
    let eighths = floor_to_usize((share * 8.0).round()).min(8);
    BLOCKS[if share > 0.0 { eighths.max(1) } else { 0 }]
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}
