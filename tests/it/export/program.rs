//! Telemetry of the real program, sent to the receivers of the environment or the configuration.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::Signal;

use crate::commands::test_home::{RunningProgram, TestHome, silent_server};
use crate::fake_receiver::FakeReceiver;

const OTLP_ENV: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const AZURE_ENV: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";

/// Receives the spans of a run up to the one of its session.
fn receive_session_spans(receiver: &FakeReceiver) -> Vec<Span> {
    let mut spans = Vec::new();
    while !spans.iter().any(|span: &Span| span.name == "session") {
        let post = receiver.next_post();
        assert_eq!(post.path, "/v1/traces");
        let request: ExportTraceServiceRequest = serde_json::from_value(post.json).unwrap();
        spans.extend(
            request
                .resource_spans
                .into_iter()
                .flat_map(|resource| resource.scope_spans)
                .flat_map(|scope| scope.spans),
        );
    }
    spans
}

#[test]
fn a_run_is_one_trace_of_session_stages_and_requests() {
    let (home, receiver) = (TestHome::with_demo_server(20), FakeReceiver::with_statuses(&[]));
    home.write(
        "config.toml",
        &format!("{}\n[telemetry]\ntrace_share = 1.0\n", home.read("config.toml")),
    );

    let output = home.run_to_end(home.command(&["run", "--once"]).env(OTLP_ENV, receiver.url()));

    assert_eq!(output.code, Some(0), "{output:?}");
    let spans = receive_session_spans(&receiver);
    let spans_named =
        |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    assert_eq!(spans.iter().map(|span| &span.trace_id).collect::<BTreeSet<_>>().len(), 1);
    let (session, downloading) = (spans_named("session")[0], spans_named("downloading")[0]);
    assert_eq!(downloading.parent_span_id, session.span_id);
    assert_eq!(spans_named("collecting").len(), 1);
    assert!(!spans_named("page").is_empty());
    let fetched = spans_named("fetch");
    assert_eq!(fetched.len(), home.messages().len());
    for fetch in fetched {
        assert_eq!(fetch.parent_span_id, downloading.span_id);
        assert!(fetch.start_time_unix_nano >= downloading.start_time_unix_nano);
        assert!(fetch.end_time_unix_nano <= session.end_time_unix_nano);
    }
    for span in &spans {
        let names = ["session", "collecting", "downloading", "page", "probe", "fetch"];
        assert!(names.contains(&span.name.as_str()), "unexpected span {}", span.name);
    }
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "all span ids are different");
}

#[test]
fn only_the_sampled_items_are_traced() {
    let (home, receiver) = (TestHome::with_demo_server(20), FakeReceiver::with_statuses(&[]));
    home.write(
        "config.toml",
        &format!("{}\n[telemetry]\ntrace_share = 0.0\n", home.read("config.toml")),
    );

    let output = home.run_to_end(home.command(&["run", "--once"]).env(OTLP_ENV, receiver.url()));

    assert_eq!(output.code, Some(0), "{output:?}");
    let spans = receive_session_spans(&receiver);
    assert!(!spans.iter().any(|span| span.name == "fetch"), "{spans:?}");
}

#[test]
fn a_session_resumed_by_another_process_is_one_trace() {
    let (home, receiver) = (TestHome::with_demo_server(1_000), FakeReceiver::with_statuses(&[]));
    let mut command = home.command(&["run", "--once"]);
    let mut first = RunningProgram(command.env(OTLP_ENV, receiver.url()).spawn().unwrap());
    first.log_until("started downloading");
    first.signal(Signal::TERM);
    assert_eq!(first.0.wait().unwrap().code(), Some(143));

    let output = home.run_to_end(home.command(&["run", "--once"]).env(OTLP_ENV, receiver.url()));

    assert_eq!(output.code, Some(0), "{output:?}");
    let spans = receive_session_spans(&receiver);
    let session = spans.iter().find(|span| span.name == "session").unwrap();
    for stage in ["collecting", "downloading"] {
        let stages = spans.iter().filter(|span| span.name == stage).collect::<Vec<_>>();
        assert_eq!(stages.len(), 1, "{stage}");
        assert_eq!(stages[0].trace_id, session.trace_id);
        assert_eq!(stages[0].parent_span_id, session.span_id);
        assert!(session.start_time_unix_nano <= stages[0].start_time_unix_nano);
    }
}

#[test]
fn a_dead_collector_does_not_slow_the_worker() {
    let home = TestHome::with_demo_server(60);
    let collector = silent_server();
    let url = format!("http://{}", collector.local_addr().unwrap());
    home.write(
        "config.toml",
        &format!(
            "{}\n[telemetry]\ntrace_share = 1.0\notlp_endpoint = \"{url}\"\n",
            home.read("config.toml")
        ),
    );

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("listed 60 = stored 60"), "{output:?}");
}

#[test]
fn an_invalid_collector_is_reported_and_nothing_is_sent() {
    let home = TestHome::with_demo_server(3);
    for wrong in ["nonsense", "http://collector.example.com:4318", "https://me:s3cret@example.com"]
    {
        let output = home.run_to_end(home.command(&["run", "--once"]).env(OTLP_ENV, wrong));
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(
            output.stderr.contains("cannot export telemetry error=OTEL_EXPORTER_OTLP_ENDPOINT"),
            "{output:?}"
        );
        assert!(!output.stderr.contains("s3cret"), "{output:?}");
    }
}

#[test]
fn the_monitor_sends_metrics_to_collector_and_azure() {
    let (home, receiver) = (TestHome::with_demo_server(5), FakeReceiver::with_statuses(&[]));
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    let azure = format!("InstrumentationKey=k1;IngestionEndpoint={}/", receiver.url());
    let mut command = home.command(&["monitor"]);
    command.env(OTLP_ENV, receiver.url()).env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b");
    command.env(AZURE_ENV, azure);

    let mut monitor = RunningProgram(command.spawn().unwrap());
    let (first, second) = (receiver.next_post(), receiver.next_post());

    assert_eq!((first.path.as_str(), first.header("x-tenant")), ("/v1/metrics", Some("a b")));
    let text = first.json.to_string();
    assert!(text.contains("cynosure_items_stored_total"), "{text}");
    assert!(text.contains("service.instance.id") && text.contains("host.name"), "{text}");
    assert_eq!((second.path.as_str(), second.header("x-tenant")), ("/v2.1/track", None));
    assert_eq!(second.json[0]["iKey"], "k1");
    assert_eq!(second.json[0]["data"]["baseData"]["metrics"][0]["name"], "health.heartbeat_age");
    monitor.signal(Signal::TERM);
    assert!(monitor.0.wait().unwrap().code().is_some());
}
