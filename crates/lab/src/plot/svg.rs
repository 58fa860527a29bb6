//! Plots as SVG: one self-contained file, readable on a white and on a black background.
//!
//! With the crate plotters, the same chart takes 363 lines instead of 377, three crates and 3 s of
//! build time more. It writes no classes, so that a black background would need a second file,
//! rounds to whole pixels, and the file is three times as large.

use std::ops::Range;
use std::time::Duration;

use cynosure_engine::format_count;

use super::element::{Anchor, escape_xml, path, rect, text, translucent_rect};
use super::scale::{RateAxis, count_ticks, time_ticks};
use super::{Bin, Chart, PlotSeries, index_f64, to_f64};

const WIDTH: f64 = 960.0;
/// Left and right margin of the title and the legend.
const MARGIN: f64 = 24.0;
/// Left and right edge of the plots. The labels are left of it.
const PLOT_X: Range<f64> = 76.0..936.0;
const PANEL_HEIGHT: f64 = 140.0;
/// Distance between the upper edges of two panels: title, plot, 429s and time axis.
const PANEL_PITCH: f64 = 226.0;
const PANELS_TOP: f64 = 108.0;
/// Baseline of the first line of the legend.
const LEGEND_BASELINE: f64 = 60.0;
/// Height of a line of the legend.
const LEGEND_PITCH: f64 = 20.0;
/// Unused part of the pitch of the last panel.
const BOTTOM_CUT: f64 = 34.0;
/// Estimated width of a letter of the legend, rather too wide, because the font is not known.
const LEGEND_LETTER_WIDTH: f64 = 6.9;
/// Smallest and largest font size of the title. A long title is smaller.
const TITLE_SIZE: Range<f64> = 10.0..17.0;
/// Width of a letter of the title, as a fraction of the font size.
const TITLE_LETTER_WIDTH: f64 = 0.6;
/// Upper and lower edge of the strip of 429s, below the plot.
const STRIP_Y: Range<f64> = 8.0..16.0;
/// Height of the mark above a clipped rate.
const CLIP_MARK_HEIGHT: f64 = 3.0;
const TICK_HEIGHT: f64 = 5.0;
/// Distance from the strip to the baseline of the time labels.
const TIME_LABEL_GAP: f64 = 16.0;
/// Number of bins of the time axis. Each is a step of the line.
const BINS: usize = 430;
const TIME_TICKS_MAX: usize = 8;

/// Style sheet for a white background and, if the reader prefers it, a black one. Colour-blind
/// readers can distinguish the colours (after Okabe and Ito). It has no variables, because some
/// viewers do not support them.
const STYLE: &str = "
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif; fill: #1c2024; }
  .title { font-weight: 600; }
  .name { font-size: 14px; font-weight: 600; }
  .faint { fill: #687076; }
  .paper { fill: #ffffff; }
  .grid { stroke: #e6e8eb; }
  .axis { stroke: #8b9298; }
  .quota { stroke: #1c2024; stroke-width: 1.2; stroke-dasharray: 5 4; fill: none; }
  .out { fill: #e9ebed; }
  .refused { fill: #cc2936; }
  .run0 { fill: #0072b2; } .line0 { stroke: #0072b2; }
  .run1 { fill: #c2570c; } .line1 { stroke: #c2570c; }
  .area { fill-opacity: 0.22; }
  .line0, .line1 { fill: none; stroke-width: 1.2; stroke-linejoin: round; }
  .done { stroke-width: 1.8; } .done.line1 { stroke-width: 3.4; stroke-opacity: 0.7; }
  @media (prefers-color-scheme: dark) {
    text { fill: #eceef0; }
    .faint { fill: #9ba1a6; }
    .paper { fill: #111416; }
    .grid { stroke: #2b3034; }
    .quota { stroke: #eceef0; }
    .out { fill: #262b2f; }
    .refused { fill: #ff6b6b; }
    .run0 { fill: #56b4e9; } .line0 { stroke: #56b4e9; }
    .run1 { fill: #f0a048; } .line1 { stroke: #f0a048; }
  }
";

/// Draws each series in a separate panel, and the requests done over time in a last one.
#[must_use]
pub fn render_svg(chart: &Chart) -> String {
    let (bins, width) = chart.bins(BINS);
    let rates = bins.iter().flatten().map(|bin| bin.accepted / width);
    let axis = RateAxis::for_chart(chart, rates.fold(0.0, f64::max));
    let mut drawing = Drawing { chart, axis, width, top: PANELS_TOP };
    let (legend, lines) = drawing.legend();
    drawing.top += LEGEND_PITCH * index_f64(lines.saturating_sub(1));
    let mut body = legend;
    for (index, (series, bins)) in chart.series.iter().zip(&bins).enumerate() {
        body.push_str(&drawing.rate_panel(index, series, bins));
    }
    body.push_str(&drawing.done_panel(&bins));
    let height = drawing.top + PANEL_PITCH * index_f64(chart.series.len() + 1) - BOTTOM_CUT;
    let title = escape_xml(&chart.title);
    let char_count = index_f64(chart.title.chars().count().max(1));
    let size = ((WIDTH - 2.0 * MARGIN) / (char_count * TITLE_LETTER_WIDTH))
        .clamp(TITLE_SIZE.start, TITLE_SIZE.end);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" style=\"font-size: {size:.1}px\" x=\"{MARGIN}\" y=\"34\">{title}</text>\n{body}</svg>\n"
    )
}

struct Drawing<'c> {
    chart: &'c Chart,
    axis: RateAxis,
    /// Width of a bin in seconds.
    width: f64,
    /// Upper edge of the first panel.
    top: f64,
}

impl Drawing<'_> {
    fn rate_panel(&self, index: usize, series: &PlotSeries, bins: &[Bin]) -> String {
        let top = self.top + PANEL_PITCH * index_f64(index);
        let bottom = top + PANEL_HEIGHT;
        let class = format!("run{}", index.min(1));
        let mut panel = heading(top, &class, &series.name, &series.subtitle);
        panel.push_str(&self.outages(top));
        for fraction in [0.5, 1.0] {
            let label = self.axis.label(fraction);
            panel.push_str(&grid_line(bottom - fraction * PANEL_HEIGHT, &label));
        }
        panel.push_str(&grid_line(bottom, "0"));
        panel.push_str(&self.rate_line(index, series, bins, bottom));
        panel.push_str(&self.throttled_strip(bins, bottom));
        if let Some(quota) = self.chart.quota {
            let y = bottom - self.axis.fraction(quota.get()) * PANEL_HEIGHT;
            let line = format!("M{} {y:.1}H{}", PLOT_X.start, PLOT_X.end);
            panel.push_str(&path("quota", &line));
        }
        panel.push_str(&self.time_axis(bottom));
        panel
    }

    /// Draws the rate as steps above a tinted area. A clipped rate ends at the frame.
    fn rate_line(&self, index: usize, series: &PlotSeries, bins: &[Bin], bottom: f64) -> String {
        let colour = index.min(1);
        let end = series.end.as_secs_f64();
        let top = bottom - PANEL_HEIGHT;
        let (mut steps, mut clip_marks, mut last) = (String::new(), String::new(), String::new());
        let before_end = bins
            .iter()
            .enumerate()
            .take_while(|(bin_index, _)| index_f64(*bin_index) * self.width < end);
        for (bin_index, bin) in before_end {
            let rate = bin.accepted / self.width;
            let y = format!("{:.1}", bottom - self.axis.fraction(rate).min(1.0) * PANEL_HEIGHT);
            let from = self.x(index_f64(bin_index) * self.width);
            let to = self.x((index_f64(bin_index + 1) * self.width).min(end));
            // A step of unchanged height extends the previous one.
            if last != y {
                steps.push_str(&format!("H{from:.1}V{y}"));
            }
            if self.axis.is_clipped(rate) {
                let class = format!("run{colour}");
                clip_marks.push_str(&rect(&class, from..to, top - CLIP_MARK_HEIGHT..top));
            }
            last = y;
        }
        let steps = format!("M{} {bottom}{steps}H{:.1}V{bottom}", PLOT_X.start, self.x(end));
        path(&format!("run{colour} area"), &format!("{steps}Z"))
            + &path(&format!("line{colour}"), &steps)
            + &clip_marks
    }

    /// Draws a strip below the plot. Its red is stronger where more of the responses were 429s.
    fn throttled_strip(&self, bins: &[Bin], bottom: f64) -> String {
        if bins.iter().all(|bin| bin.throttled <= 0.0) {
            return String::new();
        }
        let strip = bottom + STRIP_Y.start..bottom + STRIP_Y.end;
        let mut elements = text("faint", Anchor::End, [PLOT_X.start - 8.0, strip.end], "429s");
        let mut from = 0;
        for chunk in
            bins.chunk_by(|one, other| throttled_opacity(*one) == throttled_opacity(*other))
        {
            let to = from + chunk.len();
            let x = self.x(index_f64(from) * self.width)..self.x(index_f64(to) * self.width);
            let opacity = throttled_opacity(chunk[0]);
            if opacity > 0.0 {
                elements.push_str(&translucent_rect("refused", x, strip.clone(), opacity));
            }
            from = to;
        }
        elements
    }

    /// Draws the requests done over time by each series, and those that the quota would allow.
    fn done_panel(&self, bins: &[Vec<Bin>]) -> String {
        let top = self.top + PANEL_PITCH * index_f64(self.chart.series.len());
        let bottom = top + PANEL_HEIGHT;
        let max =
            self.chart.series.iter().map(PlotSeries::total_accepted).max().unwrap_or(0).max(1);
        let y_of = |done: f64| bottom - done / to_f64(max) * PANEL_HEIGHT;
        let mut panel = heading(top, "", "Requests done", "");
        panel.push_str(&self.outages(top));
        for tick in count_ticks(max, 3) {
            panel.push_str(&grid_line(y_of(to_f64(tick)), &format_count(tick)));
        }
        panel.push_str(&self.allowed_line(max, bottom));
        for (index, (series, bins)) in self.chart.series.iter().zip(bins).enumerate().rev() {
            let mut line = format!("M{} {bottom}", PLOT_X.start);
            let mut done = 0.0;
            for (bin_index, bin) in bins.iter().enumerate() {
                let end = (index_f64(bin_index + 1) * self.width).min(series.end.as_secs_f64());
                done += bin.accepted;
                line.push_str(&format!("L{:.1} {:.1}", self.x(end), y_of(done)));
                if end >= series.end.as_secs_f64() {
                    break;
                }
            }
            panel.push_str(&path(&format!("done line{}", index.min(1)), &line));
        }
        panel.push_str(&self.time_axis(bottom));
        panel
    }

    /// Draws the requests that the quota would allow over time: none during an outage.
    fn allowed_line(&self, max: u64, bottom: f64) -> String {
        let Some(quota) = self.chart.quota else { return String::new() };
        let (mut line, mut at, mut done) = (format!("M{} {bottom}", PLOT_X.start), 0.0, 0.0);
        let outages = self.chart.outages.iter();
        let outages = outages.map(|outage| (outage.start.as_secs_f64(), outage.end.as_secs_f64()));
        let end = self.chart.duration().as_secs_f64();
        for (from, to) in outages.chain([(end, end)]) {
            let serving = (from.min(end) - at).clamp(0.0, (to_f64(max) - done) / quota.get());
            done += serving * quota.get();
            at += serving;
            let y = bottom - done / to_f64(max) * PANEL_HEIGHT;
            line.push_str(&format!("L{:.1} {y:.1}", self.x(at)));
            if done >= to_f64(max) || from >= end {
                break;
            }
            at = to.min(end);
            line.push_str(&format!("H{:.1}", self.x(at)));
        }
        path("quota", &line)
    }

    fn outages(&self, top: f64) -> String {
        let end = self.chart.duration();
        let visible = self.chart.outages.iter().filter(|outage| outage.start < end);
        let band = |outage: &Range<Duration>| {
            let to = outage.end.min(end).as_secs_f64();
            rect("out", self.x(outage.start.as_secs_f64())..self.x(to), top..top + PANEL_HEIGHT)
        };
        visible.map(band).collect()
    }

    fn time_axis(&self, bottom: f64) -> String {
        let mut axis = path("axis", &format!("M{} {bottom}H{}", PLOT_X.start, PLOT_X.end));
        for (at, label) in time_ticks(self.chart.duration(), TIME_TICKS_MAX) {
            let x = self.x(at.as_secs_f64());
            axis.push_str(&path("axis", &format!("M{x:.1} {bottom}V{}", bottom + TICK_HEIGHT)));
            let below = bottom + STRIP_Y.end + TIME_LABEL_GAP;
            axis.push_str(&text("faint", Anchor::Middle, [x, below], &label));
        }
        axis
    }

    /// Draws the legend below the title. Returns it with its number of lines.
    fn legend(&self) -> (String, usize) {
        let (mut legend, mut x, mut lines) = (String::new(), MARGIN, 1);
        for (symbol, meaning) in self.legend_entries() {
            let width = 24.0 + LEGEND_LETTER_WIDTH * index_f64(meaning.chars().count()) + 24.0;
            if x + width > WIDTH {
                (x, lines) = (MARGIN, lines + 1);
            }
            let y = LEGEND_BASELINE + LEGEND_PITCH * index_f64(lines - 1);
            let meaning = text("ink", Anchor::Start, [24.0, 0.0], &meaning);
            legend.push_str(&format!(
                "<g transform=\"translate({x:.0} {y})\">\n{symbol}{meaning}</g>\n"
            ));
            x += width;
        }
        (legend, lines)
    }

    /// Returns the symbols that the plot contains, drawn at the baseline, with their meanings.
    fn legend_entries(&self) -> Vec<(String, String)> {
        let symbol = |class: &str, y: Range<f64>| rect(class, 0.0..16.0, y);
        let series = self.chart.series.iter().enumerate();
        let series = series.map(|(index, series)| {
            (symbol(&format!("run{}", index.min(1)), -10.0..1.0), series.name.clone())
        });
        let mut entries: Vec<_> = series.collect();
        if let Some(quota) = self.chart.quota {
            entries.push((path("quota", "M0 -4h18"), format!("the server's quota, {quota}")));
        }
        if !self.chart.outages.is_empty() {
            entries.push((symbol("out", -10.0..1.0), "outage".to_owned()));
        }
        let mut samples = self.chart.series.iter().flat_map(|series| &series.samples);
        if samples.any(|sample| sample.throttled > 0) {
            let meaning = "429s, stronger for a larger share of all responses";
            entries.push((symbol("refused", -8.0..0.0), meaning.to_owned()));
        }
        if self.axis.peak > self.axis.max * (1.0 + 1e-9) {
            let meaning = format!("beyond the axis, up to {}", self.axis.peak_label());
            entries.push((symbol("faint", -6.0..-3.0), meaning));
        }
        entries
    }

    fn x(&self, seconds: f64) -> f64 {
        let fraction = (seconds / self.chart.duration().as_secs_f64()).clamp(0.0, 1.0);
        PLOT_X.start + fraction * (PLOT_X.end - PLOT_X.start)
    }
}

fn heading(top: f64, class: &str, name: &str, note: &str) -> String {
    format!(
        "<text x=\"{}\" y=\"{}\"><tspan class=\"name {class}\">{}</tspan> <tspan class=\"faint\" dx=\"8\">{}</tspan></text>\n",
        PLOT_X.start,
        top - 12.0,
        escape_xml(name),
        escape_xml(note)
    )
}

fn grid_line(y: f64, label: &str) -> String {
    path("grid", &format!("M{} {y:.1}H{}", PLOT_X.start, PLOT_X.end))
        + &text("faint", Anchor::End, [PLOT_X.start - 8.0, y + 4.0], label)
}

/// Returns the opacity for the share of 429s: in tenths, and at least 0.3 so that it is visible.
fn throttled_opacity(bin: Bin) -> f64 {
    let share = bin.throttled_share();
    if share > 0.0 { ((share * 10.0).ceil() / 10.0).max(0.3) } else { 0.0 }
}
