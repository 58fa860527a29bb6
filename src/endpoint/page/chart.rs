//! Line charts of time series, as SVG with a text alternative.

use std::time::Duration;

use cynosure_engine::time_series::TimeSeries;
use cynosure_engine::{Timestamp, format_bytes, format_duration};
use maud::{Markup, html};

/// Size of the chart in SVG units. The browser stretches it to the available space.
const WIDTH: f32 = 300.0;
const HEIGHT: f32 = 60.0;

/// Minimum number of steps drawn.
const STEPS_MIN: usize = 12;

/// Space above the highest value, for the width of the line.
const TOP_MARGIN: f32 = 3.0;

/// Quantity that a chart shows.
pub(super) struct ChartQuantity {
    name: &'static str,
    format: fn(f32) -> String,
}

pub(super) const ITEMS_PER_SECOND: ChartQuantity =
    ChartQuantity { name: "items per second", format: format_short };
pub(super) const REQUESTS_LEFT: ChartQuantity =
    ChartQuantity { name: "requests left", format: format_short };
pub(super) const ARCHIVE_SIZE: ChartQuantity =
    ChartQuantity { name: "archive size", format: format_size };

/// Small chart for a card, with its scale as text.
pub(super) fn sparkline(series: &TimeSeries, now: Timestamp, quantity: &ChartQuantity) -> Markup {
    let visible = VisibleSeries::from_series(series, now);
    let maximum = (quantity.format)(visible.scale_max);
    html! {
        div .sparkline {
            (chart_svg(&visible, quantity, "spark"))
            p .dim aria-hidden="true" { "last " (visible.time_span()) ", maximum " (maximum) }
        }
    }
}

/// Chart with a title, a scale and a time axis.
pub(super) fn line_chart(
    series: &TimeSeries,
    now: Timestamp,
    quantity: &ChartQuantity,
    title: &str,
) -> Markup {
    let visible = VisibleSeries::from_series(series, now);
    let maximum = (quantity.format)(visible.scale_max);
    html! {
        figure .chart {
            figcaption { (title) }
            div .plot {
                div .scale aria-hidden="true" { span { (maximum) } span { "0" } }
                (chart_svg(&visible, quantity, "line"))
                div .axis aria-hidden="true" { span { (visible.time_span()) " ago" } span { "now" } }
            }
        }
    }
}

/// Part of a series that is drawn: without the time before the first sample, but at least
/// [`STEPS_MIN`] steps.
struct VisibleSeries {
    values: Vec<Option<f32>>,
    step: Duration,
    scale_max: f32,
}

impl VisibleSeries {
    fn from_series(series: &TimeSeries, now: Timestamp) -> Self {
        let mut values = series.values_until(now);
        let leading_gaps = values.iter().take_while(|value| value.is_none()).count();
        values.drain(..leading_gaps.min(values.len().saturating_sub(STEPS_MIN)));
        Self { scale_max: scale_max(&values), values, step: series.step() }
    }

    fn time_span(&self) -> String {
        format_duration(
            self.step.saturating_mul(u32::try_from(self.values.len()).unwrap_or(u32::MAX)),
        )
    }
}

fn chart_svg(visible: &VisibleSeries, quantity: &ChartQuantity, class: &str) -> Markup {
    let Some(last) = visible.values.iter().rev().flatten().next() else {
        return html! { p .dim .no-data { "no data in the last " (visible.time_span()) } };
    };
    let description = format!(
        "{} over the last {}: highest {}, last {}",
        quantity.name,
        visible.time_span(),
        (quantity.format)(visible.scale_max),
        (quantity.format)(*last)
    );
    html! {
        svg class={ "drawing " (class) } viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(description)
            preserveAspectRatio="none" focusable="false" {
            title { (description) }
            @for segment in segments(&visible.values, visible.scale_max) {
                path .area d=(area_path(&segment)) {}
                path .stroke d=(line_path(&segment)) vector-effect="non-scaling-stroke" {}
            }
        }
    }
}

/// Splits the values at gaps into segments of points.
fn segments(values: &[Option<f32>], max: f32) -> Vec<Vec<(f32, f32)>> {
    let last = values.len().saturating_sub(1).max(1);
    let point = |index: usize, value: f32| (fraction(index, last) * WIDTH, y_position(value, max));
    let mut finished = Vec::new();
    let mut current = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match value {
            Some(value) => current.push(point(index, *value)),
            None if current.is_empty() => {}
            None => finished.push(std::mem::take(&mut current)),
        }
    }
    if !current.is_empty() {
        finished.push(current);
    }
    // A single point would be invisible, so it becomes a short line.
    for segment in &mut finished {
        if let [(x, y)] = segment[..] {
            *segment = vec![((x - 1.0).max(0.0), y), ((x + 1.0).min(WIDTH), y)];
        }
    }
    finished
}

fn line_path(segment: &[(f32, f32)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in segment.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        path.push_str(&format!("{command}{x:.1} {y:.1}"));
    }
    path
}

fn area_path(segment: &[(f32, f32)]) -> String {
    let (Some((first, _)), Some((last, _))) = (segment.first(), segment.last()) else {
        return String::new();
    };
    format!("{}L{last:.1} {HEIGHT}L{first:.1} {HEIGHT}Z", line_path(segment))
}

fn y_position(value: f32, max: f32) -> f32 {
    HEIGHT - (HEIGHT - TOP_MARGIN) * (value / max).clamp(0.0, 1.0)
}

#[expect(clippy::cast_precision_loss, reason = "positions of a few hundred values in a chart")]
fn fraction(index: usize, last: usize) -> f32 {
    index as f32 / last as f32
}

/// Returns the highest value, or 1 if that is 0, because it is a divisor.
fn scale_max(values: &[Option<f32>]) -> f32 {
    let highest = values.iter().flatten().copied().fold(0.0, f32::max);
    if highest > 0.0 { highest } else { 1.0 }
}

/// Formats a value with about three digits; from 10,000 in thousands.
fn format_short(value: f32) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Formats a number of bytes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "two digits are shown, and a cast of a float saturates"
)]
fn format_size(bytes: f32) -> String {
    format_bytes(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cynosure_engine::time_series::Aggregation;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn time_series(values: &[f32]) -> TimeSeries {
        let mut series = TimeSeries::new(Duration::from_secs(10), 5);
        for (index, value) in (0_i64..).zip(values) {
            series.record(*value, Aggregation::Mean, Timestamp(NOW.0 - 30_000 + index * 10_000));
        }
        series
    }

    #[test]
    fn a_chart_has_a_text_alternative() {
        let series = time_series(&[1.0, 2.0, 14.25]);
        let html = sparkline(&series, NOW, &ITEMS_PER_SECOND).into_string();

        assert!(
            html.contains(
                "aria-label=\"items per second over the last 50 s: highest 14.2, last 14.2\""
            ),
            "{html}"
        );
        assert!(html.contains("M75.0"), "{html}");
    }

    #[test]
    fn leading_gaps_are_not_drawn() {
        let mut series = TimeSeries::new(Duration::from_secs(10), 180);
        series.record(1.0, Aggregation::Mean, NOW);
        assert_eq!(VisibleSeries::from_series(&series, NOW).values.len(), STEPS_MIN);
        for index in 0..30 {
            series.record(1.0, Aggregation::Mean, Timestamp(NOW.0 + index * 10_000));
        }
        let visible = VisibleSeries::from_series(&series, Timestamp(NOW.0 + 290_000));
        assert_eq!((visible.values.len(), visible.time_span()), (30, "5 min".to_owned()));
    }

    #[test]
    fn gaps_split_the_line_and_an_empty_series_says_so() {
        assert_eq!(segments(&[Some(1.0), None, Some(1.0), Some(2.0)], 2.0).len(), 2);

        let empty = TimeSeries::new(Duration::from_secs(10), 5);
        let html = sparkline(&empty, NOW, &ITEMS_PER_SECOND).into_string();
        assert!(html.contains("no data in the last 50 s"), "{html}");
    }

    #[test]
    fn zero_values_lie_at_the_bottom() {
        assert!((y_position(0.0, scale_max(&[Some(0.0)])) - HEIGHT).abs() < f32::EPSILON);
        assert_eq!(
            [0.0, 0.5, 14.25, 250.4, 81_113.0].map(format_short),
            ["0", "0.50", "14.2", "250", "81k"]
        );
    }

    #[test]
    fn sizes_are_shown_in_the_units_of_bytes() {
        let html =
            line_chart(&time_series(&[1.5e6, 4.2e9]), NOW, &ARCHIVE_SIZE, "Size").into_string();

        assert!(html.contains("<span>4.2 GB</span><span>0</span>"), "{html}");
        assert!(
            html.contains("archive size over the last 50 s: highest 4.2 GB, last 4.2 GB"),
            "{html}"
        );
        assert_eq!([-1.0, f32::NAN].map(format_size), ["0 bytes", "0 bytes"]);
    }
}
