//! Responses of each route, and the errors for invalid requests.

use cynosure::endpoint::view::{QuotaView, SourceView};
use cynosure_engine::health::HealthLevel;

use super::TestEndpoint;
use super::client::send_request;
use super::fake_data::{
    HOSTILE_TEXT, LONG_LISTS_SOURCE, full_snapshot, healthy_snapshot, snapshot_of_many_sources,
    source,
};
use crate::json_shape::{assert_matches_snapshot, json_shape};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Every route with its type.
const ROUTES: [(&str, &str); 18] = [
    ("/", "text/html; charset=utf-8"),
    ("/?source=work&severity=critical", "text/html; charset=utf-8"),
    ("/style.css", "text/css; charset=utf-8"),
    ("/live.js", "text/javascript; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
    ("/health", JSON),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ("/api/health/overview", JSON),
    ("/api/health/sources", JSON),
    ("/api/health/providers", JSON),
    ("/api/health/alerts?limit=50", JSON),
    ("/api/health/degradation", JSON),
    ("/api/trends", JSON),
    ("/api/sources/work", JSON),
    ("/api/sources/work/history", JSON),
    ("/api/sources/work/failures?limit=1", JSON),
    ("/api/sources/work/summary", JSON),
    ("/api/openapi.json", JSON),
];

#[test]
fn every_route_responds_with_security_headers() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    for (path, media_type) in ROUTES {
        let response = endpoint.get(path);
        assert_eq!((response.status, response.header("content-type")), (200, media_type), "{path}");
        assert!(!response.body.is_empty(), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(response.header(name), value, "{path}");
        }
        let policy = response.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

        let head = send_request(endpoint.address, "HEAD", path, &[]);
        assert_eq!((head.status, head.header("content-type")), (200, media_type), "HEAD {path}");
        // The lengths may differ: the body of GET may be a second older, and a digit shorter.
        assert!(head.headers.contains_key("content-length"), "HEAD {path}");
    }
    let head = send_request(endpoint.address, "HEAD", "/events", &[]);
    assert_eq!(head.header("content-type"), "text/event-stream; charset=utf-8");
}

#[test]
fn health_is_one_line_and_its_status_says_healthy_or_not() {
    for (level, status) in [
        (HealthLevel::Healthy, 200),
        (HealthLevel::Warning, 200),
        (HealthLevel::Unknown, 503),
        (HealthLevel::Critical, 503),
    ] {
        let mut snapshot = healthy_snapshot();
        snapshot.health.level = level;

        let response = TestEndpoint::serving(snapshot).get("/health");

        assert_eq!(response.status, status, "{level:?}");
        assert_eq!(response.json()["status"], level.name());
        assert_eq!(response.body.matches('\n').count(), 1, "{}", response.body);
    }
}

#[test]
fn metrics_are_text_unless_json_is_requested() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());

    let text = send_request(endpoint.address, "GET", "/metrics", &[("Accept", "*/*")]);
    let json = send_request(endpoint.address, "GET", "/metrics", &[("Accept", "application/json")]);

    assert!(text.body.starts_with("# TYPE cynosure_sources gauge\n"), "{}", text.body);
    assert_eq!(json.json()["metrics"]["cynosure_sources"]["type"], "gauge");
    assert_eq!([text.header("vary"), json.header("vary")], ["accept", "accept"]);
}

#[test]
fn the_documents_match_the_data() {
    let endpoint = TestEndpoint::serving(full_snapshot());

    let overview = endpoint.get("/api/health/overview").json();
    assert_eq!(overview["sources"]["states"]["downloading"], 1);
    assert_eq!(overview["items"]["rate_per_second"], 14.2);
    assert_eq!(overview["providers"]["severe"], 1);
    assert_eq!(overview["alerts"]["critical"], 1, "resolved alerts do not count");

    let sources = endpoint.get("/api/health/sources").json();
    assert_eq!(sources["sources"].as_array().unwrap().len(), 5);
    assert_eq!(sources["sources"][1]["until"], "2026-03-07T14:09:03.000Z");

    let providers = endpoint.get("/api/health/providers").json();
    assert_eq!(providers["providers"][2]["breaker"], "open");
    assert_eq!(providers["providers"][2]["band"], "severe");

    let alerts = endpoint.get("/api/health/alerts?limit=1&severity=critical").json();
    assert_eq!(
        (alerts["total"].as_u64(), alerts["alerts"].as_array().unwrap().len()),
        (Some(2), 1)
    );
    assert_eq!(alerts["alerts"][0]["subject"], "old");

    let degradation = endpoint.get("/api/health/degradation").json();
    assert_eq!(degradation["scores"]["example.com"].as_array().unwrap().len(), 288);

    let trends = endpoint.get("/api/trends").json();
    assert_eq!(trends["rates"]["work"]["recent"]["values"].as_array().unwrap().len(), 180);
    assert_eq!(trends["quotas"]["mail.example.net"]["day"]["step_seconds"], 600);

    let history = endpoint.get("/api/sources/work/history?limit=2").json();
    assert_eq!(history["history"].as_array().unwrap().len(), 2);
    assert_eq!(history["history"][0]["to"], "downloading");
    let failures = endpoint.get("/api/sources/work/failures").json();
    assert_eq!(failures["failures"][0]["reply_status"], 403);
    let summary = endpoint.get("/api/sources/work/summary").json();
    assert_eq!(summary["summary"][1]["label"], "new");
    assert_eq!(summary["growth"].as_array().unwrap().len(), 30);
    assert_eq!(summary["growth"][0]["bytes"], serde_json::Value::Null);
    assert_eq!(
        (&summary["growth"][29]["day"], &summary["growth"][29]["documents"]),
        (&"2026-03-07".into(), &81_112.into())
    );
}

#[test]
fn errors_are_problem_documents() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/health/", 404),
        ("GET", "/api/sources/nobody", 404),
        ("GET", "/api/sources/nobody/history", 404),
        ("GET", "/api/sources/nobody/summary", 404),
        ("GET", "/api/sources/..%2F..%2Fetc%2Fpasswd/failures", 404),
        ("GET", "/api/health/alerts?limit=0", 400),
        ("GET", "/api/sources/work/history?limit=ten", 400),
        ("POST", "/health", 405),
        ("DELETE", "/api/sources/work", 405),
        ("OPTIONS", "/", 405),
        ("BREW", "/", 405),
        ("POST", "/nothing", 404),
        ("GET", "/api/sources/broken/history", 503),
        ("GET", "/api/sources/broken/summary", 503),
    ] {
        let response = send_request(endpoint.address, method, path, &[]);

        assert_eq!(
            (response.status, response.header("content-type")),
            (status, PROBLEM),
            "{method} {path}"
        );
        let problem = response.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        let allow = if status == 405 { "GET, HEAD" } else { "" };
        assert_eq!(response.header("allow"), allow);
        assert_eq!(response.headers.contains_key("retry-after"), status == 503, "{path}");
    }
}

#[test]
fn a_panic_gives_a_500_and_the_server_continues() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());

    let response = endpoint.get("/api/sources/panic/history");

    assert_eq!((response.status, response.header("content-type")), (500, PROBLEM));
    assert_eq!(endpoint.get("/health").status, 200);
}

#[test]
fn foreign_text_is_escaped() {
    let endpoint = TestEndpoint::serving(full_snapshot());
    for path in ["/", "/?source=work", "/?source=old", &format!("/?source={}", "%3Cscript%3E")] {
        let page = endpoint.get(path).body;

        assert!(!page.contains("<img src=x"), "{path}");
        assert!(!page.contains("</script><b>") && !page.contains("<script>"), "{path}");
    }
    let page = endpoint.get("/?source=work").body;
    assert!(
        page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;'&amp;&lt;/script&gt;&lt;b&gt;")
    );
    assert!(HOSTILE_TEXT.contains("<img src=x"));
}

#[test]
fn the_page_is_complete_without_a_script() {
    let endpoint = TestEndpoint::serving(full_snapshot());
    let page = endpoint.get("/?source=work").body;

    for text in [
        "http-equiv=\"refresh\"",
        "the credential is refused",
        "replace the token in /etc/cynosure/old.token",
        "10,204",
        "1 h 23 min",
        "retry after 300 s",
        "breaker half-open",
        "severe 0.72",
        "State history",
        "403 Forbidden",
        "Degradation over 24 hours",
        "requests left over the last 1 d",
        "81,112 · 4.2 GB",
        "324,448 documents in 16.8 GB",
        "1 stale source",
        "Last session",
        "<code>cynosure failures work</code>",
        "archive size over the last 21 d: highest 4.2 GB, last 4.2 GB",
    ] {
        assert!(page.contains(text), "{text:?} is not on the page");
    }
    assert!(!page.contains(" style="), "the content security policy would block it");
    let filtered = endpoint.get("/?severity=info").body;
    assert!(filtered.contains("it was restarted") && !filtered.contains("breaker.open"));
    assert!(filtered.contains(" · was critical · resolved at "), "{filtered}");
    let infos = endpoint.get("/api/health/alerts?severity=info").json();
    assert_eq!(
        (&infos["total"], &infos["alerts"][0]["max_severity"]),
        (&1.into(), &"critical".into())
    );
}

#[test]
fn some_quotas_have_charts_and_all_are_listed() {
    let mut snapshot = full_snapshot();
    let (quota, trend) =
        (snapshot.quotas[0].clone(), snapshot.trends.quotas[&snapshot.quotas[0].scope].clone());
    for index in 0..40 {
        let scope = format!("host-{index}");
        snapshot.quotas.push(QuotaView { scope: scope.clone(), ..quota.clone() });
        snapshot.trends.quotas.insert(scope, trend.clone());
    }

    let page = TestEndpoint::serving(snapshot).get("/").body;

    assert_eq!(page.matches(": requests left</figcaption>").count(), 6);
    assert!(page.contains("The first 6 of 41 quotas"), "{page}");
    assert!(page.contains("host-39"), "all are in the table");
}

#[test]
fn missing_data_is_reported_beside_the_rest() {
    let mut snapshot = full_snapshot();
    snapshot.trends.day_error = Some("cannot read trends.json: <EIO>".to_owned());
    snapshot.alerts_error = Some("alerts.json cannot be read: <cut>".to_owned());
    snapshot.alerts.clear();
    snapshot.degradation_error = Some("degradation.json cannot be read: <cut>".to_owned());
    let endpoint = TestEndpoint::serving(snapshot);

    let page = endpoint.get("/").body;
    let trends = endpoint.get("/api/trends").json();

    let note = "The last day is missing: cannot read trends.json: &lt;EIO&gt;";
    assert!(page.contains(note) && page.contains("id=\"source-work\""), "{page}");
    assert_eq!(trends["error"], "cannot read trends.json: <EIO>");
    assert!(trends["rates"]["work"].is_object(), "{trends}");
    for (note, path, key, reason) in [
        ("alerts are missing", "alerts", "error", "alerts.json cannot be read: <cut>"),
        ("alerts are missing", "overview", "alerts_error", "alerts.json cannot be read: <cut>"),
        ("last day is missing", "degradation", "error", "degradation.json cannot be read: <cut>"),
    ] {
        assert!(page.contains(&format!(
            "The {note}: {}",
            reason.replace('<', "&lt;").replace('>', "&gt;")
        )));
        assert_eq!(endpoint.get(&format!("/api/health/{path}")).json()[key], reason);
    }
}

#[test]
fn element_ids_are_unique() {
    let mut snapshot = full_snapshot();
    for name in ["work-title", "work-link", "work-progress", "s-title"] {
        snapshot.sources.push(source(name, "downloading"));
    }
    let page = TestEndpoint::serving(snapshot).get("/?source=work").body;

    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert!(all > 30 && ids.len() == all, "{} of {all} are different: {ids:?}", ids.len());
}

#[test]
fn a_long_list_links_to_the_rest() {
    let mut snapshot = healthy_snapshot();
    snapshot.sources.push(source(LONG_LISTS_SOURCE, "downloading"));
    let endpoint = TestEndpoint::serving(snapshot);
    assert!(
        !endpoint.get("/?source=work").body.contains("up to 1000 as JSON"),
        "the page shows all"
    );

    let page = endpoint.get(&format!("/?source={LONG_LISTS_SOURCE}")).body;
    for list in ["history", "failures"] {
        let link = format!("href=\"api/sources/{LONG_LISTS_SOURCE}/{list}?limit=1000\"");
        assert!(page.contains(&link), "{page}");
        let all =
            endpoint.get(&format!("/api/sources/{LONG_LISTS_SOURCE}/{list}?limit=1000")).json();
        assert_eq!(all[list].as_array().unwrap().len(), 60);
    }
}

#[test]
fn a_card_shows_the_archive_and_whether_its_completeness_is_stale() {
    let mut snapshot = healthy_snapshot();
    snapshot.sources.push(SourceView {
        name: "fresh".to_owned(),
        state: "never_run".to_owned(),
        ..SourceView::default()
    });
    let page = TestEndpoint::serving(snapshot.clone()).get("/").body;
    assert_eq!(page.matches("<dt>documents in archive</dt>").count(), 1, "{page}");
    assert_eq!(page.matches("<dt>complete until</dt>").count(), 1, "{page}");
    assert!(!page.contains("stale"), "{page}");

    snapshot.sources[0].is_completeness_stale = true;
    let page = TestEndpoint::serving(snapshot.clone()).get("/").body;
    assert_eq!(page.matches("</span> stale</span>").count(), 1, "{page}");
    assert!(page.contains("1 stale source"), "{page}");

    snapshot.sources[0].complete_until = None;
    let page = TestEndpoint::serving(snapshot).get("/").body;
    assert!(page.contains("<dt>complete until</dt><dd>not yet"), "{page}");
}

#[test]
fn a_source_without_a_summary_says_so() {
    let mut snapshot = healthy_snapshot();
    snapshot.sources.extend(["home", "broken"].map(|name| source(name, "downloading")));
    let endpoint = TestEndpoint::serving(snapshot);

    let page = endpoint.get("/?source=home").body;
    assert!(page.contains("No session is completed yet."), "{page}");
    assert!(!page.contains("archive size over the last"), "{page}");
    let page = endpoint.get("/?source=broken").body;
    assert_eq!(page.matches("the ledger is damaged").count(), 2, "also the history: {page}");
}

#[test]
fn an_unknown_source_is_reported_on_the_page() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());

    let response = endpoint.get("/?source=gone");

    assert_eq!(response.status, 404);
    assert!(
        response.body.contains("There is no source named <strong>gone</strong>"),
        "{}",
        response.body
    );
}

#[test]
fn the_snapshot_is_taken_at_most_once_a_second() {
    let endpoint = TestEndpoint::serving(snapshot_of_many_sources(200));
    for _ in 0..300 {
        assert_eq!(endpoint.get("/health").status, 200);
    }
    assert!(endpoint.data.snapshot_count() < 30, "{} snapshots", endpoint.data.snapshot_count());

    let page = endpoint.get("/").body;
    assert_eq!(page.matches("class=\"card\"").count(), 200);
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
}

#[test]
fn the_json_shape_of_each_document_is_stable() {
    let endpoint = TestEndpoint::serving(full_snapshot());
    for (name, path) in [
        ("api-health-overview", "/api/health/overview"),
        ("api-health-sources", "/api/health/sources"),
        ("api-health-providers", "/api/health/providers"),
        ("api-health-alerts", "/api/health/alerts"),
        ("api-health-degradation", "/api/health/degradation"),
        ("api-trends", "/api/trends"),
        ("api-source", "/api/sources/work"),
        ("api-source-history", "/api/sources/work/history"),
        ("api-source-failures", "/api/sources/work/failures"),
        ("api-source-summary", "/api/sources/work/summary"),
        ("health", "/health"),
    ] {
        // The keys of these objects are names of sources and providers.
        let is_name = |path: &str| [".scores", ".rates", ".quotas"].contains(&path);
        assert_matches_snapshot(name, &json_shape(&[endpoint.get(path).json()], is_name));
    }
    assert_matches_snapshot(
        "api-problem",
        &json_shape(&[endpoint.get("/api/sources/nobody").json()], |_| false),
    );
}
