//! Figures over time as lines: drawn here, told in words to those who cannot see them.

use std::time::Duration;

use maud::{Markup, html};

use crate::engine::Timestamp;
use crate::engine::time_series::TimeSeries;
use crate::human::format_duration;

/// The units of the drawing; it is stretched to the room there is.
const WIDTH: f32 = 300.0;
const HEIGHT: f32 = 60.0;

/// Steps that are drawn at least.
const STEPS_MIN: usize = 12;

/// Room above the highest value, for the thickness of the line.
const TOP_MARGIN: f32 = 3.0;

/// A line with its scale in words, for a card.
pub(super) fn sparkline(series: &TimeSeries, now: Timestamp, unit: &str) -> Markup {
    let known = VisibleSeries::from_series(series, now);
    html! {
        div .sparkling {
            (chart_svg(&known, unit, "spark"))
            p .dim aria-hidden="true" { "last " (known.time_span()) ", at most " (format_short(known.scale_max)) }
        }
    }
}

/// A line with its scale, for a section.
pub(super) fn line_chart(series: &TimeSeries, now: Timestamp, unit: &str, title: &str) -> Markup {
    let known = VisibleSeries::from_series(series, now);
    html! {
        figure .chart {
            figcaption { (title) }
            div .plot {
                div .scale aria-hidden="true" { span { (format_short(known.scale_max)) } span { "0" } }
                (chart_svg(&known, unit, "line"))
            }
            div .axis aria-hidden="true" { span { (known.time_span()) " ago" } span { "now" } }
        }
    }
}

/// What is drawn of a figure: not the time before it was first measured, yet never just a moment.
struct VisibleSeries {
    values: Vec<Option<f32>>,
    step: Duration,
    scale_max: f32,
}

impl VisibleSeries {
    fn from_series(series: &TimeSeries, now: Timestamp) -> Self {
        let mut values = series.samples_until(now);
        let unknown = values.iter().take_while(|value| value.is_none()).count();
        values.drain(..unknown.min(values.len().saturating_sub(STEPS_MIN)));
        Self { scale_max: scale_max(&values), values, step: series.step() }
    }

    fn time_span(&self) -> String {
        format_duration(
            self.step.saturating_mul(u32::try_from(self.values.len()).unwrap_or(u32::MAX)),
        )
    }
}

fn chart_svg(known: &VisibleSeries, unit: &str, class: &str) -> Markup {
    let Some(last) = known.values.iter().rev().flatten().next() else {
        return html! { p .dim .nothing { "nothing measured in the last " (known.time_span()) } };
    };
    let told = format!(
        "{unit} over the last {}: highest {}, last {}",
        known.time_span(),
        format_short(known.scale_max),
        format_short(*last)
    );
    html! {
        svg class={ "drawing " (class) } viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(told)
            preserveAspectRatio="none" focusable="false" {
            title { (told) }
            @for run in segments(&known.values, known.scale_max) {
                path .area d=(area_path(&run)) {}
                path .stroke d=(line_path(&run)) vector-effect="non-scaling-stroke" {}
            }
        }
    }
}

/// The points of each stretch without a gap.
fn segments(values: &[Option<f32>], top: f32) -> Vec<Vec<(f32, f32)>> {
    let last = values.len().saturating_sub(1).max(1);
    let place = |at: usize, value: f32| (fraction(at, last) * WIDTH, y_position(value, top));
    let mut runs = Vec::new();
    let mut run = Vec::new();
    for (at, value) in values.iter().enumerate() {
        match value {
            Some(value) => run.push(place(at, *value)),
            None if run.is_empty() => {}
            None => runs.push(std::mem::take(&mut run)),
        }
    }
    if !run.is_empty() {
        runs.push(run);
    }
    // One value alone would be a point, which nobody sees.
    for run in &mut runs {
        if let [(x, y)] = run[..] {
            *run = vec![((x - 1.0).max(0.0), y), ((x + 1.0).min(WIDTH), y)];
        }
    }
    runs
}

fn line_path(run: &[(f32, f32)]) -> String {
    let mut path = String::new();
    for (at, (x, y)) in run.iter().enumerate() {
        let command = if at == 0 { 'M' } else { 'L' };
        path.push_str(&format!("{command}{x:.1} {y:.1}"));
    }
    path
}

fn area_path(run: &[(f32, f32)]) -> String {
    let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else {
        return String::new();
    };
    format!("{}L{last:.1} {HEIGHT}L{first:.1} {HEIGHT}Z", line_path(run))
}

fn y_position(value: f32, top: f32) -> f32 {
    HEIGHT - (HEIGHT - TOP_MARGIN) * (value / top).clamp(0.0, 1.0)
}

#[expect(clippy::cast_precision_loss, reason = "places of a few hundred values in a drawing")]
fn fraction(at: usize, of: usize) -> f32 {
    at as f32 / of as f32
}

/// The highest value; never zero, so that it can be the top of a scale.
fn scale_max(values: &[Option<f32>]) -> f32 {
    let highest = values.iter().flatten().copied().fold(0.0, f32::max);
    if highest > 0.0 { highest } else { 1.0 }
}

/// Three digits, or a thousand at a time.
fn format_short(value: f32) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time_series::Aggregation;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn time_series(figures: &[f32]) -> TimeSeries {
        let mut series = TimeSeries::new(Duration::from_secs(10), 5);
        for (at, figure) in (0_i64..).zip(figures) {
            series.record(*figure, Aggregation::Mean, Timestamp(NOW.0 - 30_000 + at * 10_000));
        }
        series
    }

    #[test]
    fn a_chart_has_a_text_alternative() {
        let drawn =
            sparkline(&time_series(&[1.0, 2.0, 14.25]), NOW, "items per second").into_string();

        assert!(
            drawn.contains(
                "aria-label=\"items per second over the last 50 s: highest 14.2, last 14.2\""
            ),
            "{drawn}"
        );
        assert!(drawn.contains("M75.0"), "{drawn}");
    }

    #[test]
    fn leading_gaps_are_not_drawn() {
        let mut series = TimeSeries::new(Duration::from_secs(10), 180);
        series.record(1.0, Aggregation::Mean, NOW);
        assert_eq!(VisibleSeries::from_series(&series, NOW).values.len(), STEPS_MIN);
        for at in 0..30 {
            series.record(1.0, Aggregation::Mean, Timestamp(NOW.0 + at * 10_000));
        }
        let known = VisibleSeries::from_series(&series, Timestamp(NOW.0 + 290_000));
        assert_eq!((known.values.len(), known.time_span()), (30, "5 min".to_owned()));
    }

    #[test]
    fn gaps_split_the_line_and_an_empty_series_says_so() {
        assert_eq!(segments(&[Some(1.0), None, Some(1.0), Some(2.0)], 2.0).len(), 2);

        let drawn =
            sparkline(&TimeSeries::new(Duration::from_secs(10), 5), NOW, "items").into_string();
        assert!(drawn.contains("nothing measured in the last 50 s"), "{drawn}");
    }

    #[test]
    fn zero_values_lie_at_the_bottom() {
        assert!((y_position(0.0, scale_max(&[Some(0.0)])) - HEIGHT).abs() < f32::EPSILON);
        assert_eq!(
            [0.0, 0.5, 14.25, 250.4, 81_113.0].map(format_short),
            ["0", "0.50", "14.2", "250", "81k"]
        );
    }
}
