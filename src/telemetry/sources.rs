//! Metrics of each source: its state, its session, and the counts of its worker.

use std::time::Duration;

use crate::engine::Status;
use crate::engine::metrics::{RequestOutcome, SourceMetrics};
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
        "Always 1: the provider of a source, and how it is spoken to.",
    );
    let mut state = MetricFamily::gauge(
        "cynosure_source_state",
        "1 for the state that a source is in, 0 for the others.",
    );
    let mut running = MetricFamily::gauge(
        "cynosure_source_running",
        "1 if the process is there that works on a source, 0 if not.",
    );
    for source in sources {
        let name = source.name.as_str();
        let facts = [("source", name), ("provider", &source.provider), ("kind", &source.kind)];
        info.push(&facts, 1.0.into());
        let words = Status::ALL.into_iter().map(Status::name).chain([UNKNOWN]);
        let standing = source.state.as_ref();
        let is = standing.map_or(UNKNOWN, |standing| standing.status.name());
        state.push_state_set(&[("source", name)], "state", words, is);
        let is_running = standing.is_some_and(|standing| standing.is_running);
        running.push(&[("source", name)], is_running.into());
    }
    [info, state, running]
}

fn timestamps(sources: &[SourceSnapshot]) -> [MetricFamily; 4] {
    [
        state_gauge(
            sources,
            "cynosure_source_state_since_timestamp_seconds",
            "When a source came into its state, as Unix time.",
            |standing| Some(standing.state_since.into()),
        ),
        state_gauge(
            sources,
            "cynosure_source_deadline_timestamp_seconds",
            "When the state of a source ends or is looked into at the latest, as Unix time.",
            |standing| standing.until.map(MetricValue::from),
        ),
        state_gauge(
            sources,
            "cynosure_source_last_progress_timestamp_seconds",
            "When the work of a source last went on, as Unix time.",
            |standing| Some(standing.last_progress.into()),
        ),
        state_gauge(
            sources,
            "cynosure_source_last_update_timestamp_seconds",
            "When the worker of a source last wrote its state, as Unix time.",
            |standing| Some(standing.last_updated.into()),
        ),
    ]
}

fn session(sources: &[SourceSnapshot]) -> [MetricFamily; 4] {
    let mut items = MetricFamily::gauge(
        "cynosure_session_items",
        "Items of the present session that are settled, or wait for a retry, by what became of them.",
    );
    for SourceSnapshot { name, state: standing, .. } in sources {
        let Some(standing) = standing else { continue };
        let counts = [
            ("stored", standing.stored),
            ("gone", standing.gone),
            ("quarantined", standing.quarantined),
            ("waiting_for_retry", standing.waiting_for_retry),
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
            "Items that the present session has listed so far.",
            |standing| Some(standing.listed.into()),
        ),
        state_gauge(
            sources,
            "cynosure_source_items_per_second",
            "Items settled per second, over the last half minute.",
            |standing| standing.items_per_second.map(MetricValue::from),
        ),
        state_gauge(
            sources,
            "cynosure_source_consecutive_errors",
            "Errors of the session of a source since its last progress.",
            |standing| Some(standing.consecutive_errors.into()),
        ),
    ]
}

fn items(sources: &[SourceSnapshot]) -> Vec<MetricFamily> {
    vec![
        source_counter(sources, "cynosure_items_listed_total", "Items listed.", |figures| {
            figures.items.listed
        }),
        source_counter(
            sources,
            "cynosure_items_stored_total",
            "Items stored, durably and whole.",
            |figures| figures.items.stored,
        ),
        source_counter(
            sources,
            "cynosure_items_gone_total",
            "Items that were deleted before they were fetched.",
            |figures| figures.items.gone,
        ),
        source_counter(
            sources,
            "cynosure_items_quarantined_total",
            "Items set aside for a person.",
            |figures| figures.items.quarantined,
        ),
        source_counter(
            sources,
            "cynosure_item_attempts_failed_total",
            "Attempts at items that failed.",
            |figures| figures.items.failed_attempts,
        ),
        source_counter(
            sources,
            "cynosure_documents_stored_total",
            "Documents stored, of which an item has one or more.",
            |figures| figures.items.documents_stored,
        ),
        source_counter(
            sources,
            "cynosure_stored_bytes_total",
            "Bytes of the documents stored.",
            |figures| figures.items.bytes_stored,
        ),
        source_family(
            MetricFamily::new(
                MetricKind::Histogram,
                "cynosure_item_duration_seconds",
                "Time from the first request for an item to the last answer.",
            ),
            sources,
            |figures| Some((&figures.items.fetch_duration).into()),
        ),
        source_family(
            MetricFamily::new(
                MetricKind::Histogram,
                "cynosure_commit_duration_seconds",
                "Time to make a group of documents durable.",
            ),
            sources,
            |figures| Some((&figures.items.commit_duration).into()),
        ),
    ]
}

fn requests(sources: &[SourceSnapshot]) -> Vec<MetricFamily> {
    let mut requests = MetricFamily::counter(
        "cynosure_requests_total",
        "HTTP requests, one by one, by how they ended.",
    );
    for SourceSnapshot { name, metrics: figures, .. } in sources {
        let Some(figures) = figures else { continue };
        for class in RequestOutcome::ALL {
            let labels = [("source", name.as_str()), ("outcome", class.name())];
            requests.push(&labels, figures.requests.by_outcome.count(class).into());
        }
    }
    vec![
        requests,
        source_counter(
            sources,
            "cynosure_request_retries_total",
            "HTTP requests that repeated one which had just failed.",
            |figures| figures.requests.retries,
        ),
        source_counter(
            sources,
            "cynosure_received_bytes_total",
            "Bytes of the bodies of replies that were complete.",
            |figures| figures.requests.bytes_received,
        ),
        source_family(
            MetricFamily::new(
                MetricKind::Histogram,
                "cynosure_request_duration_seconds",
                "Time from sending a request to the head of its reply.",
            ),
            sources,
            |figures| Some((&figures.requests.latency).into()),
        ),
        source_family(
            MetricFamily::gauge(
                "cynosure_attempts_success_ratio",
                "Share of the last ten attempts to get something that succeeded.",
            ),
            sources,
            |figures| figures.success_rate().map(MetricValue::from),
        ),
        source_family(
            MetricFamily::gauge(
                "cynosure_client_connection_failures",
                "Requests in a row that got no reply.",
            ),
            sources,
            |figures| Some(figures.connection.consecutive_failures.into()),
        ),
        source_counter(
            sources,
            "cynosure_client_rebuilds_total",
            "Times that the HTTP client was made anew, since nobody answered.",
            |figures| figures.connection.reconnects,
        ),
    ]
}

fn lifecycle(sources: &[SourceSnapshot]) -> Vec<MetricFamily> {
    let mut waits =
        MetricFamily::counter("cynosure_waits_total", "Waits begun, by what they are for.");
    for SourceSnapshot { name, metrics: figures, .. } in sources {
        let Some(figures) = figures else { continue };
        let course = &figures.lifecycle;
        let counts = [
            ("rate_limit", course.rate_limit_waits),
            ("error", course.error_waits),
            ("authentication", course.auth_waits),
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
            "Times that a worker began with a source.",
            |figures| figures.lifecycle.starts,
        ),
        source_counter(
            sources,
            "cynosure_source_restarts_total",
            "Restarts that the worker of a source asked for.",
            |figures| figures.lifecycle.restarts,
        ),
        source_counter(
            sources,
            "cynosure_sessions_completed_total",
            "Sessions of a source that were completed.",
            |figures| figures.lifecycle.sessions_completed,
        ),
        source_counter(
            sources,
            "cynosure_source_errors_total",
            "Failures of sessions, not of items.",
            |figures| figures.lifecycle.errors,
        ),
    ]
}

fn proxies(sources: &[SourceSnapshot]) -> [MetricFamily; 2] {
    let mut proxies = MetricFamily::gauge(
        "cynosure_proxies",
        "Proxies that a source goes out by, by how they are.",
    );
    for SourceSnapshot { name, metrics: figures, .. } in sources {
        let Some(pool) = figures.as_ref().and_then(|figures| figures.proxies) else { continue };
        let counts = [("healthy", pool.healthy), ("doubted", pool.failing), ("dead", pool.dead)];
        for (state, count) in counts {
            proxies.push(&[("source", name), ("state", state)], count.into());
        }
    }
    let latency = source_family(
        MetricFamily::gauge(
            "cynosure_proxy_latency_seconds",
            "Mean time from sending to the head of the reply, over the proxies that are alive.",
        ),
        sources,
        |figures| {
            let millis = figures.proxies?.mean_latency_millis?;
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
    source_family(MetricFamily::counter(name, help), sources, |figures| Some(count(figures).into()))
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
