//! Tests of the plots, with constructed series.

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns ten minutes at a constant rate, with a gap during an outage.
fn steady_series() -> PlotSeries {
    series("follow", |second| if (120..180).contains(&second) { (0, 0) } else { (10, 0) })
}

/// Returns a series with a burst at the start of each minute, and 429s for the rest of it.
fn bursty_series() -> PlotSeries {
    series("backoff", |second| if second % 60 < 12 { (50, 0) } else { (0, 50) })
}

fn series(name: &str, counts_at: impl Fn(u64) -> (u64, u64)) -> PlotSeries {
    let samples = (0..600).map(|second| {
        let (accepted, throttled) = counts_at(second);
        SimulationSample { start: seconds(second), accepted, throttled, failed: 0 }
    });
    PlotSeries {
        name: name.to_owned(),
        subtitle: "the subtitle".to_owned(),
        samples: samples.collect(),
        sample_interval: seconds(1),
        end: seconds(600),
    }
}

fn chart(series: Vec<PlotSeries>) -> Chart {
    Chart {
        title: "600 requests in each minute".to_owned(),
        series,
        quota: Some(Rate::per_second(10.0)),
        outages: vec![seconds(120)..seconds(180)],
    }
}

const PLAIN: TerminalOptions = TerminalOptions { columns: 80, colour_mode: ColourMode::Plain };

#[test]
fn two_series_share_one_scale() {
    let chart = chart(vec![steady_series(), bursty_series()]);

    insta::assert_snapshot!(render_terminal(&chart, PLAIN), @r#"
        follow  the subtitle
           30/s ┤              ░░░░░░░
                │              ░░░░░░░
                │              ░░░░░░░
           10/s ┤▁▁▁▁▁▁▁▁▁▁▁▁▁▁░░░░░░░▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
                │██████████████░░░░░░░▃█████████████████████████████████████████████████
                │██████████████▃░░░░░░██████████████████████████████████████████████████
              0 └──────────────┬─────────────┬─────────────┬─────────────┬──────────────
                 0             2 min         4 min         6 min         8 min

        backoff  the subtitle
           30/s ┤▲      ▲▂     ▲▲░░░░░▲▲     █▲      ▲      ▲      ▲      ▲      ▲
                │█▂     ██     ██░░░░░██     ██     ██      █      █      █      █
                │██     ██     ██░░░░░██     ██     ██     ██      █      █      █▂
           10/s ┤██▁▁▁▁▁██▁▁▁▁▁██░░░░░██▁▁▁▁▁██▁▁▁▁▁██▁▁▁▁▁██▁▁▁▁▁██▁▁▁▁▁▁█▂▁▁▁▁▁██▁▁▁▁▁
                │██     ██     ██░░░░░██     ██     ██     ██     ██▂    ███     ██
                │██     ██     ██░░░░░██     ██     ██     ██▂    ███    ███    ███
              0 └──────────────┬─────────────┬─────────────┬─────────────┬──────────────
                 0             2 min         4 min         6 min         8 min
           429s   ▅█████▁▄█████▂▃█████▂▂█████▃▁█████▄▁█████▅ █████▆ ▇████▆ ▆████▇ ▅█████

                 ▁ the server's quota, 10/s   ░ outage
                 █ 429s, by their share of all responses
                 ▲ beyond the axis, up to 50/s
        "#);
}

#[test]
fn a_narrow_terminal_gets_a_narrow_plot() {
    let options = TerminalOptions { columns: 46, colour_mode: ColourMode::Plain };

    let plot = render_terminal(&chart(vec![bursty_series()]), options);

    assert!(plot.lines().filter(|line| line.contains('┤')).all(|line| line.chars().count() <= 46));
    insta::assert_snapshot!(plot, @r#"
        backoff  the subtitle
           30/s ┤▲      █░░░▲   ▃      ▲   ▲      ▲
                │█   ▃  █░░░█   █  █   █   █      █
                │█   █  █░░░█   █  █   █   █  █▃  █
           10/s ┤█▁▁██▁▁█░░░█▁▁▁█▁▁█▃▁▁█▁▁▁█▁▁██▁▁█▁▁▁
                │█  ██  █▃░░█  ██  ██  █   █  ██  █
                │█  ██  ██░░█  ██  ██  █  ██  ██  █▃
              0 └──────────────────┬──────────────────
                 0                 5 min
           429s  ▂██▆▄██▃▇██▂██▆▄██▄▆██▂██▇▃██▅▅██▂███

                 ▁ the server's quota, 10/s
                 ░ outage
                 █ 429s, by their share of all responses
                 ▲ beyond the axis, up to 37/s
        "#);
}

#[test]
fn colours_are_reset_and_only_used_when_enabled() {
    let chart = chart(vec![steady_series(), bursty_series()]);
    let coloured =
        render_terminal(&chart, TerminalOptions { colour_mode: ColourMode::Colour, ..PLAIN });

    assert!(!render_terminal(&chart, PLAIN).contains('\x1b'));
    assert!(coloured.contains("\x1b[36m") && coloured.contains("\x1b[33m"));
    for line in coloured.lines() {
        let opened = line.matches("\x1b[").count();
        assert_eq!(opened, 2 * line.matches("\x1b[0m").count(), "{line:?}");
    }
}

#[test]
fn an_empty_series_is_an_empty_plot() {
    let empty = PlotSeries { samples: Vec::new(), end: Duration::ZERO, ..steady_series() };
    let chart = Chart { quota: None, outages: Vec::new(), ..chart(vec![empty]) };

    assert!(render_svg(&chart).ends_with("</svg>\n"));
    insta::assert_snapshot!(render_terminal(&chart, PLAIN), @r#"
        follow  the subtitle
         60/min ┤
                │
                │
         30/min ┤
                │
                │
              0 └───────────────────────────────────────────────────────────────────────
                 0
        "#);
}

#[test]
fn the_svg_is_self_contained_and_escapes_text() {
    let mut chart = chart(vec![steady_series(), bursty_series()]);
    chart.title = "a <b> & \"c\"".to_owned();
    let svg = render_svg(&chart);

    assert!(svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let links: Vec<_> = svg.match_indices("http").collect();
    assert_eq!(links.len(), 1, "only the namespace, no external resource");
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    for text in ["follow", "backoff", "10 min", "quota, 10/s", "outage", "429s", "30/s"] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn a_long_title_is_smaller_rather_than_cut() {
    let mut chart = chart(vec![steady_series()]);
    let size = |chart: &Chart| {
        render_svg(chart).split_once("style=\"font-size: ").unwrap().1[..4].to_owned()
    };
    assert_eq!(size(&chart), "17.0");

    chart.title = "x".repeat(105);

    assert_eq!(size(&chart), "14.5");
}

mod proptests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_series()(
            counts in prop::collection::vec((0..1000_u64, 0..1000_u64), 0..200),
            step in 1..10_000_u32,
            cut in 0.0..=1.0_f64,
        ) -> PlotSeries {
            let step = seconds(1) * step;
            let sample = |(number, (accepted, throttled)): (u32, (u64, u64))| SimulationSample {
                start: step * number, accepted, throttled, failed: 0,
            };
            let samples: Vec<_> = (0..).zip(counts).map(sample).collect();
            // The last sample may be incomplete.
            let end = samples.last().map_or(Duration::ZERO, |last| last.start + step.mul_f64(cut));
            PlotSeries { name: "a".to_owned(), subtitle: String::new(), samples, sample_interval: step, end }
        }
    }

    proptest! {
        #[test]
        fn every_series_can_be_drawn(
            first in any_series(), second in any_series(), columns in 0..300_usize,
            quota in prop::option::of(1e-9..1e5_f64), outage in 0..100_000_u64,
        ) {
            let chart = Chart {
                title: String::new(),
                series: vec![first, second],
                quota: quota.map(Rate::per_second),
                outages: vec![seconds(outage)..seconds(outage + 1000)],
            };
            let plot = render_terminal(&chart, TerminalOptions { columns, colour_mode: ColourMode::Plain });
            let width = columns.clamp(40, 160);
            prop_assert!(plot.lines().take(8).all(|line| line.chars().count() <= width), "{plot}");
            let svg = render_svg(&chart);
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }

        #[test]
        fn bins_sum_to_the_samples(series in any_series(), count in 1..500_usize) {
            let counts = series.samples.iter().map(|sample| sample.accepted + sample.throttled);
            let total: u64 = counts.sum();
            let chart = chart(vec![series]);
            let (bins, _) = chart.bins(count);
            let sum: f64 = bins[0].iter().map(|bin| bin.accepted + bin.throttled).sum();
            prop_assert!((sum - to_f64(total)).abs() < 1e-6 * (1.0 + to_f64(total)), "{sum} of {total}");
        }
    }
}
