//! Metrics of each source: its state, its session, and the counts of its worker.

use std::time::Duration;

use cynosure_engine::Status;
use cynosure_engine::metrics::{RequestOutcome, SourceMetrics};

use crate::telemetry::{
    MetricFamily, MetricKind, MetricValue, MetricsSnapshot, SourceSnapshot, SourceStateSnapshot,
};

/// State label of a source without a readable state file.
const UNKNOWN: &str = "unknown";

pub(super) fn families(input: &MetricsSnapshot) -> Vec<MetricFamily> {
    let mut families = Vec::from(states(&input.sources));
    families.extend(timestamps(&input.sources));
    families.extend(session(&input.sources));
    families.extend(items(&input.sources));
    families.extend(requests(&input.sources));
    families.extend(lifecycle(&input.sources));
    families.extend(proxies(&input.sources));
    families
}

fn states(sources: &[SourceSnapshot]) -> [MetricFamily; 3] {
    let mut info = MetricFamily::gauge(
        "cynosure_source_info",
        "Always 1; the labels are the provider and the kind of a source.",
    );
    let mut state = MetricFamily::gauge(
        "cynosure_source_state",
        "1 for the current state of a source, 0 for the other states.",
    );
    let mut running = MetricFamily::gauge(
        "cynosure_source_running",
        "1 if the worker process of a source is running, 0 otherwise.",
    );
    for source in sources {
        let name = source.name.as_str();
        let labels = [("source", name), ("provider", &source.provider), ("kind", &source.kind)];
        info.push(&labels, 1.0.into());
        let states = Status::ALL.into_iter().map(Status::name).chain([UNKNOWN]);
        let snapshot = source.state.as_ref();
        let current = snapshot.map_or(UNKNOWN, |snapshot| snapshot.status.name());
        state.push_state_set(&[("source", name)], "state", states, current);
        let is_running = snapshot.is_some_and(|snapshot| snapshot.is_running);
        running.push(&[("source", name)], is_running.into());
    }
    [info, state, running]
}

fn timestamps(sources: &[SourceSnapshot]) -> [MetricFamily; 4] {
    [
        state_gauge(
            sources,
            "cynosure_source_state_since_timestamp_seconds",
            "Unix time at which a source entered its state.",
            |state| Some(state.state_since.into()),
        ),
        state_gauge(
            sources,
            "cynosure_source_deadline_timestamp_seconds",
            "Unix time at which the state of a source ends or is checked at the latest.",
            |state| state.until.map(MetricValue::from),
        ),
        state_gauge(
            sources,
            "cynosure_source_last_progress_timestamp_seconds",
            "Unix time of the last progress of a source.",
            |state| Some(state.last_progress.into()),
        ),
        state_gauge(
            sources,
            "cynosure_source_last_update_timestamp_seconds",
            "Unix time at which the worker of a source last wrote its state.",
            |state| Some(state.last_updated.into()),
        ),
    ]
}

fn session(sources: &[SourceSnapshot]) -> [MetricFamily; 4] {
    let mut items = MetricFamily::gauge(
        "cynosure_session_items",
        "Items of the current session that are settled or wait for a retry, by outcome.",
    );
    for SourceSnapshot { name, state, .. } in sources {
        let Some(state) = state else { continue };
        let counts = [
            ("stored", state.items.stored),
            ("gone", state.items.gone),
            ("quarantined", state.items.quarantined),
            ("waiting_for_retry", state.waiting_for_retry),
        ];
        for (outcome, count) in counts {
            items.push(&[("source", name), ("outcome", outcome)], count.into());
        }
    }
    [
        items,
        state_gauge(
            sources,
            "cynosure_session_items_listed",
            "Items listed so far by the current session.",
            |state| Some(state.items.listed.into()),
        ),
        state_gauge(
            sources,
            "cynosure_source_items_per_second",
            "Items settled per second, over the last half minute.",
            |state| state.items_per_second.map(MetricValue::from),
        ),
        state_gauge(
            sources,
            "cynosure_source_consecutive_errors",
            "Errors of the session of a source since its last progress.",
            |state| Some(state.consecutive_errors.into()),
        ),
    ]
}

fn items(sources: &[SourceSnapshot]) -> Vec<MetricFamily> {
    vec![
        source_counter(sources, "cynosure_items_listed_total", "Items listed.", |metrics| {
            metrics.items.listed
        }),
        source_counter(
            sources,
            "cynosure_items_stored_total",
            "Items stored completely and durably.",
            |metrics| metrics.items.stored,
        ),
        source_counter(
            sources,
            "cynosure_items_gone_total",
            "Items that were deleted before they were fetched.",
            |metrics| metrics.items.gone,
        ),
        source_counter(
            sources,
            "cynosure_items_quarantined_total",
            "Items quarantined.",
            |metrics| metrics.items.quarantined,
        ),
        source_counter(
            sources,
            "cynosure_item_attempts_failed_total",
            "Failed attempts to fetch an item.",
            |metrics| metrics.items.failed_attempts,
        ),
        source_counter(
            sources,
            "cynosure_documents_stored_total",
            "Documents stored; an item has one or more.",
            |metrics| metrics.items.documents_stored,
        ),
        source_counter(
            sources,
            "cynosure_stored_bytes_total",
            "Bytes of stored documents.",
            |metrics| metrics.items.bytes_stored,
        ),
        source_family(
            MetricFamily::new(
                MetricKind::Histogram,
                "cynosure_item_duration_seconds",
                "Time from the first request for an item to the last response.",
            ),
            sources,
            |metrics| Some((&metrics.items.fetch_duration).into()),
        ),
        source_family(
            MetricFamily::new(
                MetricKind::Histogram,
                "cynosure_commit_duration_seconds",
                "Time to make a batch of documents durable.",
            ),
            sources,
            |metrics| Some((&metrics.items.commit_duration).into()),
        ),
    ]
}

fn requests(sources: &[SourceSnapshot]) -> Vec<MetricFamily> {
    let mut requests =
        MetricFamily::counter("cynosure_requests_total", "HTTP requests, by outcome.");
    for SourceSnapshot { name, metrics, .. } in sources {
        let Some(metrics) = metrics else { continue };
        for outcome in RequestOutcome::ALL {
            let labels = [("source", name.as_str()), ("outcome", outcome.name())];
            requests.push(&labels, metrics.requests.by_outcome.count(outcome).into());
        }
    }
    vec![
        requests,
        source_counter(
            sources,
            "cynosure_request_retries_total",
            "HTTP requests that retried a request that had just failed.",
            |metrics| metrics.requests.retries,
        ),
        source_counter(
            sources,
            "cynosure_received_bytes_total",
            "Bytes of complete response bodies.",
            |metrics| metrics.requests.bytes_received,
        ),
        source_family(
            MetricFamily::new(
                MetricKind::Histogram,
                "cynosure_request_duration_seconds",
                "Time from sending a request to the head of its response.",
            ),
            sources,
            |metrics| Some((&metrics.requests.latency).into()),
        ),
        source_family(
            MetricFamily::gauge(
                "cynosure_attempts_success_ratio",
                "Success rate of the last ten attempts to fetch something.",
            ),
            sources,
            |metrics| metrics.success_rate().map(MetricValue::from),
        ),
        source_family(
            MetricFamily::gauge(
                "cynosure_client_connection_failures",
                "Consecutive requests without a response.",
            ),
            sources,
            |metrics| Some(metrics.connection.consecutive_failures.into()),
        ),
        source_counter(
            sources,
            "cynosure_client_rebuilds_total",
            "Times that the HTTP client was recreated because no response arrived.",
            |metrics| metrics.connection.reconnects,
        ),
    ]
}

fn lifecycle(sources: &[SourceSnapshot]) -> Vec<MetricFamily> {
    let mut waits = MetricFamily::counter("cynosure_waits_total", "Waits begun, by reason.");
    for SourceSnapshot { name, metrics, .. } in sources {
        let Some(metrics) = metrics else { continue };
        let lifecycle = &metrics.lifecycle;
        let counts = [
            ("rate_limit", lifecycle.rate_limit_waits),
            ("error", lifecycle.error_waits),
            ("authentication", lifecycle.auth_waits),
        ];
        for (reason, count) in counts {
            waits.push(&[("source", name), ("reason", reason)], count.into());
        }
    }
    vec![
        waits,
        source_counter(
            sources,
            "cynosure_source_starts_total",
            "Starts of a source by its worker.",
            |metrics| metrics.lifecycle.starts,
        ),
        source_counter(
            sources,
            "cynosure_source_restarts_total",
            "Restarts requested by the worker of a source.",
            |metrics| metrics.lifecycle.restarts,
        ),
        source_counter(
            sources,
            "cynosure_sessions_completed_total",
            "Completed sessions of a source.",
            |metrics| metrics.lifecycle.sessions_completed,
        ),
        source_counter(
            sources,
            "cynosure_source_errors_total",
            "Failures of sessions, without failures of items.",
            |metrics| metrics.lifecycle.errors,
        ),
    ]
}

fn proxies(sources: &[SourceSnapshot]) -> [MetricFamily; 2] {
    let mut proxies = MetricFamily::gauge("cynosure_proxies", "Proxies of a source, by state.");
    for SourceSnapshot { name, metrics, .. } in sources {
        let Some(pool) = metrics.as_ref().and_then(|metrics| metrics.proxies) else { continue };
        let counts = [("healthy", pool.healthy), ("doubted", pool.failing), ("dead", pool.dead)];
        for (state, count) in counts {
            proxies.push(&[("source", name), ("state", state)], count.into());
        }
    }
    let latency = source_family(
        MetricFamily::gauge(
            "cynosure_proxy_latency_seconds",
            "Mean time from sending a request to the head of its response, over the alive proxies.",
        ),
        sources,
        |metrics| {
            let millis = metrics.proxies?.mean_latency_millis?;
            Some(Duration::from_millis(millis).as_secs_f64().into())
        },
    );
    [proxies, latency]
}

/// Builds a gauge from the state of each source.
fn state_gauge(
    sources: &[SourceSnapshot],
    name: &'static str,
    help: &'static str,
    value: impl Fn(&SourceStateSnapshot) -> Option<MetricValue>,
) -> MetricFamily {
    let mut family = MetricFamily::gauge(name, help);
    for source in sources {
        if let Some(value) = source.state.as_ref().and_then(&value) {
            family.push(&[("source", &source.name)], value);
        }
    }
    family
}

/// Builds a counter from the metrics of each source.
fn source_counter(
    sources: &[SourceSnapshot],
    name: &'static str,
    help: &'static str,
    count: impl Fn(&SourceMetrics) -> u64,
) -> MetricFamily {
    source_family(MetricFamily::counter(name, help), sources, |metrics| Some(count(metrics).into()))
}

/// Adds one value from the metrics of each source.
fn source_family(
    mut family: MetricFamily,
    sources: &[SourceSnapshot],
    value: impl Fn(&SourceMetrics) -> Option<MetricValue>,
) -> MetricFamily {
    for source in sources {
        if let Some(value) = source.metrics.as_deref().and_then(&value) {
            family.push(&[("source", &source.name)], value);
        }
    }
    family
}
