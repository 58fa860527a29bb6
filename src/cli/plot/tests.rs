//! Plots of made-up runs.

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ten minutes at an even pace, with a hole where the server is out.
fn even() -> Run {
    run("follow", |second| if (120..180).contains(&second) { (0, 0) } else { (10, 0) })
}

/// A part of each minute at full speed, the rest of it refused.
fn bursts() -> Run {
    run("backoff", |second| if second % 60 < 12 { (50, 0) } else { (0, 50) })
}

fn run(name: &str, in_second: impl Fn(u64) -> (u64, u64)) -> Run {
    let samples = (0..600).map(|second| {
        let (accepted, throttled) = in_second(second);
        SimulationSample { start: seconds(second), accepted, throttled, failed: 0 }
    });
    Run {
        name: name.to_owned(),
        note: "what came of it".to_owned(),
        samples: samples.collect(),
        step: seconds(1),
        end: seconds(600),
    }
}

fn chart(runs: Vec<Run>) -> Chart {
    Chart {
        title: "600 requests in each minute".to_owned(),
        runs,
        quota: Some(Rate::per_second(10.0)),
        outages: vec![seconds(120)..seconds(180)],
    }
}

const PLAIN: Look = Look { columns: 80, paint: Paint::Plain };

#[test]
fn two_runs_are_drawn_on_one_scale() {
    insta::assert_snapshot!(terminal(&chart(vec![even(), bursts()]), PLAIN), @r#"
        follow  what came of it
           30/s ┤              ░░░░░░░
                │              ░░░░░░░
                │              ░░░░░░░
           10/s ┤▁▁▁▁▁▁▁▁▁▁▁▁▁▁░░░░░░░▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
                │██████████████░░░░░░░▃█████████████████████████████████████████████████
                │██████████████▃░░░░░░██████████████████████████████████████████████████
              0 └──────────────┬─────────────┬─────────────┬─────────────┬──────────────
                 0             2 min         4 min         6 min         8 min

        backoff  what came of it
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
                 █ 429s, by their share of the answers
                 ▲ beyond the axis, up to 50/s
        "#);
}

#[test]
fn a_narrow_terminal_gets_a_narrow_plot() {
    let look = Look { columns: 46, paint: Paint::Plain };

    let plot = terminal(&chart(vec![bursts()]), look);

    assert!(plot.lines().filter(|line| line.contains('┤')).all(|line| line.chars().count() <= 46));
    insta::assert_snapshot!(plot, @r#"
        backoff  what came of it
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
                 █ 429s, by their share of the answers
                 ▲ beyond the axis, up to 37/s
        "#);
}

#[test]
fn colours_are_closed_again_and_only_there_when_wanted() {
    let chart = chart(vec![even(), bursts()]);
    let colours = terminal(&chart, Look { paint: Paint::Colours, ..PLAIN });

    assert!(!terminal(&chart, PLAIN).contains('\x1b'));
    assert!(colours.contains("\x1b[36m") && colours.contains("\x1b[33m"));
    for line in colours.lines() {
        let opened = line.matches("\x1b[").count();
        assert_eq!(opened, 2 * line.matches("\x1b[0m").count(), "{line:?}");
    }
}

#[test]
fn a_run_without_anything_is_an_empty_plot() {
    let nothing = Run { samples: Vec::new(), end: Duration::ZERO, ..even() };
    let chart = Chart { quota: None, outages: Vec::new(), ..chart(vec![nothing]) };

    assert!(svg(&chart).ends_with("</svg>\n"));
    insta::assert_snapshot!(terminal(&chart, PLAIN), @r#"
        follow  what came of it
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
fn the_svg_needs_no_other_file_and_quotes_what_it_is_told() {
    let mut chart = chart(vec![even(), bursts()]);
    chart.title = "a <b> & \"c\"".to_owned();
    let svg = svg(&chart);

    assert!(svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let links: Vec<_> = svg.match_indices("http").collect();
    assert_eq!(links.len(), 1, "the name space, and nothing to load");
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    for said in ["follow", "backoff", "10 min", "quota, 10/s", "outage", "429s", "30/s"] {
        assert!(svg.contains(said), "{said}");
    }
}

#[test]
fn a_long_title_is_smaller_rather_than_cut() {
    let mut chart = chart(vec![even()]);
    let size =
        |chart: &Chart| svg(chart).split_once("style=\"font-size: ").unwrap().1[..4].to_owned();
    assert_eq!(size(&chart), "17.0");

    chart.title = "x".repeat(105);

    assert_eq!(size(&chart), "14.5");
}

mod laws {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn run()(
            counts in prop::collection::vec((0..1000_u64, 0..1000_u64), 0..200),
            step in 1..10_000_u32,
            cut in 0.0..=1.0_f64,
        ) -> Run {
            let step = seconds(1) * step;
            let sample = |(number, (accepted, throttled)): (u32, (u64, u64))| SimulationSample {
                start: step * number, accepted, throttled, failed: 0,
            };
            let samples: Vec<_> = (0..).zip(counts).map(sample).collect();
            // The last one need not be a whole one.
            let end = samples.last().map_or(Duration::ZERO, |last| last.start + step.mul_f64(cut));
            Run { name: "a".to_owned(), note: String::new(), samples, step, end }
        }
    }

    proptest! {
        #[test]
        fn every_run_can_be_drawn(
            run in run(), other in run(), columns in 0..300_usize,
            quota in prop::option::of(1e-9..1e5_f64), out in 0..100_000_u64,
        ) {
            let chart = Chart {
                title: String::new(),
                runs: vec![run, other],
                quota: quota.map(Rate::per_second),
                outages: vec![seconds(out)..seconds(out + 1000)],
            };
            let plot = terminal(&chart, Look { columns, paint: Paint::Plain });
            let width = columns.clamp(40, 160);
            prop_assert!(plot.lines().take(8).all(|line| line.chars().count() <= width), "{plot}");
            let svg = svg(&chart);
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }

        #[test]
        fn bins_hold_all_that_happened(run in run(), count in 1..500_usize) {
            let all: u64 = run.samples.iter().map(|sample| sample.accepted + sample.throttled).sum();
            let chart = chart(vec![run]);
            let (bins, _) = chart.bins(count);
            let held: f64 = bins[0].iter().map(|bin| bin.accepted + bin.refused).sum();
            prop_assert!((held - number(all)).abs() < 1e-6 * (1.0 + number(all)), "{held} of {all}");
        }
    }
}
