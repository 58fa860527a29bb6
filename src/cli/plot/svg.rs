//! Plots as SVG: one file that needs no other, readable on white and on black.

use std::ops::Range;
use std::time::Duration;

use super::element::{Anchor, escape_xml, path, rect, text, translucent_rect};
use super::scale::{RateAxis, count_ticks, time_ticks};
use super::{Bin, Chart, PlotSeries, index_f64, to_f64};
use crate::human::format_count;

const WIDTH: f64 = 960.0;
/// Left and right of what is said above the panels.
const MARGIN: f64 = 24.0;
/// The plots' left and right edge; labels stand left of them.
const PLOT: Range<f64> = 76.0..936.0;
const PANEL_HEIGHT: f64 = 140.0;
/// From the upper edge of a panel to that of the next: its title, the plot, the 429s, the time axis.
const PANEL_PITCH: f64 = 226.0;
const TOP: f64 = 108.0;
/// The first line of the legend, and the height of each.
const LEGEND: f64 = 60.0;
const LEGEND_PITCH: f64 = 20.0;
/// What the last panel does not need of its pitch.
const BOTTOM_CUT: f64 = 34.0;
/// The width of a letter of the legend, with some to spare: what draws it knows its fonts, we do not.
const LETTER: f64 = 6.9;
/// The size of the title, and of one that would not fit; and the width of its letters, as a share of it.
const TITLE: Range<f64> = 10.0..17.0;
const TITLE_LETTER: f64 = 0.6;
/// The strip of 429s below each plot.
const STRIP: Range<f64> = 8.0..16.0;
/// The lid on what is cut.
const CUT_HEIGHT: f64 = 3.0;
const TICK_HEIGHT: f64 = 5.0;
/// From the strip to the base line of the times.
const TIME_LABEL_GAP: f64 = 16.0;
/// Parts of the time axis, each a step of the line.
const BINS: usize = 430;
const TIME_TICKS_MAX: usize = 8;

/// Colours for white and, where the reader wants it, for black; the colour-blind tell them apart, too
/// (after Okabe and Ito). No variables: not every viewer knows them.
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

/// Draws every run in a panel of its own, and what was done by when in a last one.
#[must_use]
pub(in crate::cli) fn render_svg(chart: &Chart) -> String {
    let (bins, width) = chart.bins(BINS);
    let rates = bins.iter().flatten().map(|bin| bin.accepted / width);
    let axis = RateAxis::for_chart(chart, rates.fold(0.0, f64::max));
    let mut drawing = Drawing { chart, axis, width, top: TOP };
    let (legend, lines) = drawing.legend();
    drawing.top += LEGEND_PITCH * index_f64(lines.saturating_sub(1));
    let mut body = legend;
    for (number, (run, bins)) in chart.series.iter().zip(&bins).enumerate() {
        body.push_str(&drawing.rate_panel(number, run, bins));
    }
    body.push_str(&drawing.done_panel(&bins));
    let height = drawing.top + PANEL_PITCH * index_f64(chart.series.len() + 1) - BOTTOM_CUT;
    let title = escape_xml(&chart.title);
    let letters = index_f64(chart.title.chars().count().max(1));
    let size = ((WIDTH - 2.0 * MARGIN) / (letters * TITLE_LETTER)).clamp(TITLE.start, TITLE.end);
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
    /// Seconds in a bin.
    width: f64,
    /// The upper edge of the first panel.
    top: f64,
}

impl Drawing<'_> {
    fn rate_panel(&self, number: usize, run: &PlotSeries, bins: &[Bin]) -> String {
        let top = self.top + PANEL_PITCH * index_f64(number);
        let bottom = top + PANEL_HEIGHT;
        let mut panel = heading(top, &format!("run{}", number.min(1)), &run.name, &run.subtitle);
        panel.push_str(&self.outages(top));
        for share in [0.5, 1.0] {
            panel.push_str(&grid_line(bottom - share * PANEL_HEIGHT, &self.axis.label(share)));
        }
        panel.push_str(&grid_line(bottom, "0"));
        panel.push_str(&self.rate_line(number, run, bins, bottom));
        panel.push_str(&self.refused_strip(bins, bottom));
        if let Some(quota) = self.chart.quota {
            let y = bottom - self.axis.fraction(quota.get()) * PANEL_HEIGHT;
            let line = format!("M{} {y:.1}H{}", PLOT.start, PLOT.end);
            panel.push_str(&path("quota", &line));
        }
        panel.push_str(&self.time_axis(bottom));
        panel
    }

    /// The rate as steps over a tinted area; what is cut ends at the frame.
    fn rate_line(&self, number: usize, run: &PlotSeries, bins: &[Bin], bottom: f64) -> String {
        let number = number.min(1);
        let end = run.end.as_secs_f64();
        let top = bottom - PANEL_HEIGHT;
        let (mut steps, mut cuts, mut last) = (String::new(), String::new(), String::new());
        let lived =
            bins.iter().enumerate().take_while(|(index, _)| index_f64(*index) * self.width < end);
        for (index, bin) in lived {
            let rate = bin.accepted / self.width;
            let y = format!("{:.1}", bottom - self.axis.fraction(rate).min(1.0) * PANEL_HEIGHT);
            let from = self.x(index_f64(index) * self.width);
            let to = self.x((index_f64(index + 1) * self.width).min(end));
            // A step that stays at its height is the last one made longer.
            if last != y {
                steps.push_str(&format!("H{from:.1}V{y}"));
            }
            if self.axis.is_clipped(rate) {
                cuts.push_str(&rect(&format!("run{number}"), from..to, top - CUT_HEIGHT..top));
            }
            last = y;
        }
        let steps = format!("M{} {bottom}{steps}H{:.1}V{bottom}", PLOT.start, self.x(end));
        path(&format!("run{number} area"), &format!("{steps}Z"))
            + &path(&format!("line{number}"), &steps)
            + &cuts
    }

    /// A strip below the plot, the redder the more of the answers were 429s.
    fn refused_strip(&self, bins: &[Bin], bottom: f64) -> String {
        if bins.iter().all(|bin| bin.throttled <= 0.0) {
            return String::new();
        }
        let strip = bottom + STRIP.start..bottom + STRIP.end;
        let mut drawn = text("faint", Anchor::End, [PLOT.start - 8.0, strip.end], "429s");
        let mut from = 0;
        for part in bins.chunk_by(|one, other| shade(*one) == shade(*other)) {
            let to = from + part.len();
            let x = self.x(index_f64(from) * self.width)..self.x(index_f64(to) * self.width);
            let shade = shade(part[0]);
            if shade > 0.0 {
                drawn.push_str(&translucent_rect("refused", x, strip.clone(), shade));
            }
            from = to;
        }
        drawn
    }

    /// What each run had done by when, and what the quota alone would have allowed.
    fn done_panel(&self, bins: &[Vec<Bin>]) -> String {
        let top = self.top + PANEL_PITCH * index_f64(self.chart.series.len());
        let bottom = top + PANEL_HEIGHT;
        let most =
            self.chart.series.iter().map(PlotSeries::total_accepted).max().unwrap_or(0).max(1);
        let height = |done: f64| bottom - done / to_f64(most) * PANEL_HEIGHT;
        let mut panel = heading(top, "", "Requests done", "");
        panel.push_str(&self.outages(top));
        for tick in count_ticks(most, 3) {
            let y = height(to_f64(tick));
            panel.push_str(&grid_line(y, &format_count(tick)));
        }
        panel.push_str(&self.granted(most, bottom));
        for (number, (run, bins)) in self.chart.series.iter().zip(bins).enumerate().rev() {
            let mut line = format!("M{} {bottom}", PLOT.start);
            let mut done = 0.0;
            for (index, bin) in bins.iter().enumerate() {
                let end = (index_f64(index + 1) * self.width).min(run.end.as_secs_f64());
                done += bin.accepted;
                line.push_str(&format!("L{:.1} {:.1}", self.x(end), height(done)));
                if end >= run.end.as_secs_f64() {
                    break;
                }
            }
            panel.push_str(&path(&format!("done line{}", number.min(1)), &line));
        }
        panel.push_str(&self.time_axis(bottom));
        panel
    }

    /// What the quota alone would allow by when: nothing in an outage.
    fn granted(&self, most: u64, bottom: f64) -> String {
        let Some(quota) = self.chart.quota else { return String::new() };
        let (mut line, mut at, mut done) = (format!("M{} {bottom}", PLOT.start), 0.0, 0.0);
        let outages =
            self.chart.outages.iter().map(|out| (out.start.as_secs_f64(), out.end.as_secs_f64()));
        let end = self.chart.duration().as_secs_f64();
        for (from, to) in outages.chain([(end, end)]) {
            let served = (from.min(end) - at).clamp(0.0, (to_f64(most) - done) / quota.get());
            done += served * quota.get();
            at += served;
            let height = bottom - done / to_f64(most) * PANEL_HEIGHT;
            line.push_str(&format!("L{:.1} {height:.1}", self.x(at)));
            if done >= to_f64(most) || from >= end {
                break;
            }
            at = to.min(end);
            line.push_str(&format!("H{:.1}", self.x(at)));
        }
        path("quota", &line)
    }

    fn outages(&self, top: f64) -> String {
        let end = self.chart.duration();
        let seen = self.chart.outages.iter().filter(|outage| outage.start < end);
        let band = |outage: &Range<Duration>| {
            let to = outage.end.min(end).as_secs_f64();
            rect("out", self.x(outage.start.as_secs_f64())..self.x(to), top..top + PANEL_HEIGHT)
        };
        seen.map(band).collect()
    }

    fn time_axis(&self, bottom: f64) -> String {
        let mut axis = path("axis", &format!("M{} {bottom}H{}", PLOT.start, PLOT.end));
        for (at, label) in time_ticks(self.chart.duration(), TIME_TICKS_MAX) {
            let x = self.x(at.as_secs_f64());
            axis.push_str(&path("axis", &format!("M{x:.1} {bottom}V{}", bottom + TICK_HEIGHT)));
            let below = bottom + STRIP.end + TIME_LABEL_GAP;
            axis.push_str(&text("faint", Anchor::Middle, [x, below], &label));
        }
        axis
    }

    /// What each colour and sign means, below the title; and on how many lines.
    fn legend(&self) -> (String, usize) {
        let (mut legend, mut x, mut lines) = (String::new(), MARGIN, 1);
        for (drawn, meaning) in self.signs() {
            let width = 24.0 + LETTER * index_f64(meaning.chars().count()) + 24.0;
            if x + width > WIDTH {
                (x, lines) = (MARGIN, lines + 1);
            }
            let y = LEGEND + LEGEND_PITCH * index_f64(lines - 1);
            let meaning = text("ink", Anchor::Start, [24.0, 0.0], &meaning);
            legend.push_str(&format!(
                "<g transform=\"translate({x:.0} {y})\">\n{drawn}{meaning}</g>\n"
            ));
            x += width;
        }
        (legend, lines)
    }

    /// The signs that are drawn, each on the base line of its meaning.
    fn signs(&self) -> Vec<(String, String)> {
        let sign = |class: &str, y: Range<f64>| rect(class, 0.0..16.0, y);
        let runs = self.chart.series.iter().enumerate();
        let runs = runs.map(|(number, run)| {
            (sign(&format!("run{}", number.min(1)), -10.0..1.0), run.name.clone())
        });
        let mut signs: Vec<_> = runs.collect();
        if let Some(quota) = self.chart.quota {
            signs.push((path("quota", "M0 -4h18"), format!("the server's quota, {quota}")));
        }
        if !self.chart.outages.is_empty() {
            signs.push((sign("out", -10.0..1.0), "outage".to_owned()));
        }
        let mut samples = self.chart.series.iter().flat_map(|run| &run.samples);
        if samples.any(|sample| sample.throttled > 0) {
            let meaning = "429s, the stronger the more of the answers";
            signs.push((sign("refused", -8.0..0.0), meaning.to_owned()));
        }
        if self.axis.peak > self.axis.max * (1.0 + 1e-9) {
            let meaning = format!("beyond the axis, up to {}", self.axis.peak_label());
            signs.push((sign("faint", -6.0..-3.0), meaning));
        }
        signs
    }

    fn x(&self, seconds: f64) -> f64 {
        let share = (seconds / self.chart.duration().as_secs_f64()).clamp(0.0, 1.0);
        PLOT.start + share * (PLOT.end - PLOT.start)
    }
}

fn heading(top: f64, class: &str, name: &str, note: &str) -> String {
    format!(
        "<text x=\"{}\" y=\"{}\"><tspan class=\"name {class}\">{}</tspan> <tspan class=\"faint\" dx=\"8\">{}</tspan></text>\n",
        PLOT.start,
        top - 12.0,
        escape_xml(name),
        escape_xml(note)
    )
}

fn grid_line(y: f64, label: &str) -> String {
    path("grid", &format!("M{} {y:.1}H{}", PLOT.start, PLOT.end))
        + &text("faint", Anchor::End, [PLOT.start - 8.0, y + 4.0], label)
}

/// The share of 429s in tenths, never too pale to be seen.
fn shade(bin: Bin) -> f64 {
    let share = bin.throttled_share();
    if share > 0.0 { ((share * 10.0).ceil() / 10.0).max(0.3) } else { 0.0 }
}
