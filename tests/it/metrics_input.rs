//! Metrics collected from the state folder of a worker that has exited.

use std::path::Path;

use cynosure::config::{EnvVars, load};
use cynosure::monitor::{HealthFiles, collect_metrics};
use cynosure::telemetry::to_prometheus;
use cynosure_engine::health::{HealthCheckReport, HostMetrics};
use cynosure_engine::{Status, Timestamp};

use crate::commands::test_home::TestHome;

/// 2100-01-01 00:00 UTC, later than any run.
const AFTER_RUN: Timestamp = Timestamp(4_102_444_800_000);

fn collect_after_run(home: &TestHome) -> cynosure::telemetry::MetricsSnapshot {
    let loaded = load(&home.path("config.toml"), &EnvVars::default()).unwrap();
    collect_metrics(&loaded.settings, &home.path("state"), AFTER_RUN)
}

#[test]
fn a_run_appears_in_the_metrics() {
    let home = TestHome::with_demo_server(30);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));

    let files = HealthFiles::new(&home.path("state"));
    let system = HostMetrics { cpu_ratio: None, memory_ratio: Some(0.5), disks: Vec::new() };
    files
        .publish(HealthCheckReport::new(Vec::new(), AFTER_RUN), Vec::new(), Some(system), AFTER_RUN)
        .unwrap();

    let input = collect_after_run(&home);

    let source = &input.sources[0];
    let state = source.state.as_ref().unwrap();
    assert_eq!((source.name.as_str(), source.kind.as_str()), ("demo", "jmap"));
    assert_eq!(
        (state.status, state.items.stored, state.is_running),
        (Status::Completed, 30, false)
    );
    assert!(input.breakers.iter().any(|breaker| breaker.statistics.calls > 30));
    let text = to_prometheus(&input);
    for line in [
        r#"cynosure_items_stored_total{source="demo"} 30"#,
        r#"cynosure_item_duration_seconds_count{source="demo"} 30"#,
        r#"cynosure_source_state{source="demo",state="completed"} 1"#,
        "cynosure_memory_usage_ratio 0.5",
        r#"cynosure_breaker_state{breaker="archive",state="closed"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

#[test]
fn unreadable_files_only_drop_their_own_metrics() {
    let home = TestHome::with_demo_server(3);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    for name in ["demo/execution_state.json", "breakers.json", "quota.json", "health.json"] {
        home.write(&format!("state/{name}"), "{\"schema\":");
    }

    let input = collect_after_run(&home);

    assert!(input.sources[0].state.is_none());
    assert_eq!(input.sources[0].metrics.as_ref().unwrap().items.stored, 3);
    assert!(input.breakers.is_empty() && input.rate_limits.is_empty() && input.report.is_none());
    fs_err::remove_dir_all(Path::new(&home.path("state"))).unwrap();
    assert!(to_prometheus(&collect_after_run(&home)).contains("state=\"unknown\"} 1"));
}

#[test]
fn a_removed_source_has_no_metrics() {
    let home = TestHome::with_demo_server(3);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    home.configure("[source.demo]", "[source.other]");

    let text = to_prometheus(&collect_after_run(&home));

    assert!(!text.contains("source=\"demo\""), "{text}");
}
