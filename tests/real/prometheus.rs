//! Metrics, alert rules and dashboard, checked by Prometheus itself.

use std::collections::BTreeSet;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cynosure::telemetry::{CONTENT_TYPE, families, to_prometheus};
use cynosure_lab::demo::{self, DemoOptions};
use fs_err as fs;
use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::TestHttpClient;
use crate::metrics::metrics_input;
use crate::prerequisites::skip;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::wait_until;

const RULES: &str = "packaging/prometheus/cynosure.rules.yml";
const RULE_TESTS: &str = "tests/fixtures/cynosure.rules.test.yml";
const DASHBOARD: &str = "packaging/grafana/cynosure.json";

/// Prefix of every metric name.
const PREFIX: &str = "cynosure_";

fn repository_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read_repository_file(path: &str) -> String {
    fs::read_to_string(repository_path(path)).expect("the file is in the repository")
}

/// Runs promtool, which must succeed; `None` if it is not installed.
fn promtool(arguments: &[&str], stdin: Option<&str>) -> Option<()> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return skip("promtool, of Debian's prometheus") };
    assert_promtool_accepts(&mut child, stdin);
    Some(())
}

/// Waits for promtool, which must succeed. With metrics as input it must also print nothing.
fn assert_promtool_accepts(promtool: &mut Child, stdin: Option<&str>) {
    let mut pipe = promtool.stdin.take().expect("it is piped");
    pipe.write_all(stdin.unwrap_or_default().as_bytes()).expect("promtool reads");
    drop(pipe);
    let mut output = String::new();
    let mut read =
        |stream: &mut dyn Read| stream.read_to_string(&mut output).expect("promtool writes UTF-8");
    read(promtool.stdout.as_mut().expect("it is piped"));
    read(promtool.stderr.as_mut().expect("it is piped"));
    assert!(promtool.wait().expect("promtool is our child").success(), "{output}");
    assert!(stdin.is_none() || output.is_empty(), "{output}");
}

#[test]
fn promtool_accepts_the_metrics() {
    promtool(&["check", "metrics"], Some(&to_prometheus(&metrics_input(3))));
}

#[test]
fn every_alert_rule_is_valid_and_tested() {
    let Some(()) =
        promtool(&["check", "rules", &repository_path(RULES).display().to_string()], None)
    else {
        return;
    };
    promtool(&["test", "rules", &repository_path(RULE_TESTS).display().to_string()], None);

    let [rules, tests] = [RULES, RULE_TESTS].map(read_repository_file);
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "nothing tests {alert}");
    }
}

#[test]
fn rules_and_dashboard_only_use_existing_metrics() {
    let known: BTreeSet<String> = to_prometheus(&metrics_input(1))
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
        .collect();
    let rules = read_repository_file(RULES);
    let rules = rules.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut used = Vec::new();
    rules.for_each(|line| used.extend(metric_names(line)));
    let used_in_rules = used.len();
    expressions(&dashboard()).iter().for_each(|expression| used.extend(metric_names(expression)));

    assert!(
        15 < used_in_rules && used_in_rules + 25 < used.len(),
        "{used_in_rules} uses in the rules, {} in all",
        used.len()
    );
    for name in used {
        assert!(known.contains(&name), "there is no metric {name}");
    }
}

fn dashboard() -> Value {
    let text = read_repository_file(DASHBOARD);
    serde_json::from_str(&text).expect("it is JSON")
}

/// Returns every query of the dashboard, as Grafana sends it for all sources.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("there are panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().expect("each has a query"));
    queries.map(|text| text.replace("$source", ".*").replace("$__rate_interval", "5m")).collect()
}

/// Returns every metric name in a text.
fn metric_names(text: &str) -> Vec<String> {
    let starts = text.match_indices(PREFIX).map(|(at, _)| &text[at..]);
    starts
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
        .collect()
}

/// Starts a server that responds to every request with metrics, until the test ends.
fn start_metrics_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(read @ 1..) => head.extend_from_slice(&chunk[..read]),
                    Ok(0) | Err(_) => break,
                }
            }
            let body = to_prometheus(&metrics_input(2));
            let length = body.len();
            let response = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            );
            // Fails if the client has closed the connection.
            drop(stream.write_all(response.as_bytes()));
        }
    });
    address
}

/// Private Prometheus, which scrapes a server of the test every second.
struct PrometheusServer {
    _process: RunningProgram,
    _home: TempDir,
    url: String,
    http: TestHttpClient,
}

impl PrometheusServer {
    fn start(target: SocketAddr) -> Option<Self> {
        let is_installed = Command::new("prometheus").arg("--version").output().is_ok();
        if !is_installed {
            return skip("prometheus, of Debian's package of that name");
        }
        let home = tempfile::tempdir().expect("a folder");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [ {} ]\n\
             scrape_configs:\n  - job_name: cynosure\n    static_configs: [ {{ targets: [ '{target}' ] }} ]\n",
            repository_path(RULES).display()
        );
        fs::write(home.path().join("prometheus.yml"), config).expect("the folder is ours");
        let free_address =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free_address.expect("a port is free");
        let mut command = Command::new("prometheus");
        command.current_dir(home.path()).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--log.level=error",
            &format!("--web.listen-address={address}"),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = RunningProgram::start(&mut command);
        wait_until("prometheus is ready", || is_ready(address));
        let url = format!("http://{address}/api/v1/");
        Some(Self { _process: process, _home: home, url, http: TestHttpClient::new() })
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(&format!("{}{path}", self.url), query).expect("a URL");
        let response = self.http.send(|client| client.get(url)).json();
        assert_eq!(response["status"], "success", "{response}");
        response["data"].clone()
    }

    /// Returns the series of a query, each with its labels and its value.
    fn query(&self, query: &str) -> Vec<Value> {
        let data = self.get("query", &[("query", query)]);
        data["result"].as_array().cloned().unwrap_or_default()
    }

    /// Returns the value of the first series of a query.
    fn first_value(&self, query: &str) -> Option<String> {
        let series = self.query(query);
        Some(series.first()?["value"][1].as_str()?.to_owned())
    }
}

/// Returns true if Prometheus is ready. It accepts connections before it is.
fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let sent = stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n");
    let mut response = Vec::new();
    sent.and_then(|()| stream.read_to_end(&mut response)).is_ok()
        && response.starts_with(b"HTTP/1.0 200")
}

#[test]
fn prometheus_reads_all_metrics_and_accepts_every_query() {
    let Some(prometheus) = PrometheusServer::start(start_metrics_server()) else { return };
    wait_until("a scrape worked", || prometheus.first_value("up").as_deref() == Some("1"));

    let stored = prometheus.first_value("cynosure_items_stored_total{source=\"source1\"}");
    assert_eq!(stored.as_deref(), Some("812"));
    let names = prometheus.query("group by (__name__) ({__name__=~\"cynosure_.*\"})");
    let names: BTreeSet<_> = names
        .iter()
        .map(|series| series["metric"]["__name__"].as_str().unwrap_or_default())
        .collect();
    for family in families(&metrics_input(2)) {
        let is_known =
            names.contains(family.name) || names.contains(&*format!("{}_bucket", family.name));
        assert!(is_known, "{} was not read", family.name);
    }
    let metadata =
        prometheus.http.send(|client| client.get(format!("{}metadata", prometheus.url))).json();
    assert_eq!(metadata["data"]["cynosure_commit_duration_seconds"][0]["type"], "histogram");
    assert_eq!(metadata["data"]["cynosure_items_stored_total"][0]["type"], "counter");
    let blocked = prometheus.query("cynosure_gate_closed");
    assert_eq!(blocked[0]["metric"]["scope"], "example.com me\"@\\home\nline");

    for expression in expressions(&dashboard()) {
        prometheus.query(&expression);
    }
    wait_until("the rules were evaluated", || {
        let groups =
            prometheus.http.send(|client| client.get(format!("{}rules", prometheus.url))).json();
        let rules = groups["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok")
    });
}

#[test]
fn prometheus_shows_the_items_that_a_run_stored() {
    let demo = demo::start(DemoOptions { items: 40, ..DemoOptions::default() })
        .expect("the service starts");
    let free_address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free_address.expect("a port is free");
    let config = demo::demo_config(&demo, Path::new("downloads"));
    let test_folder = TestFolder::new(&format!("{config}\n[endpoint]\nlisten = \"{address}\"\n"));
    let output = test_folder.command(&["run", "--once"]).env("DEMO_PASSWORD", "demo").output();
    assert!(output.expect("the program starts").status.success());
    let mut command = test_folder.command(&["monitor"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _monitor = RunningProgram::start(command.env("DEMO_PASSWORD", "demo"));
    wait_until("the monitor listens", || TcpStream::connect(address).is_ok());
    let Some(prometheus) = PrometheusServer::start(address) else { return };

    let stored = || prometheus.first_value("cynosure_items_stored_total{source=\"demo\"}");
    wait_until("the stored items are scraped", || stored().as_deref() == Some("40"));

    let completed = "cynosure_source_state{source=\"demo\",state=\"completed\"}";
    assert_eq!(prometheus.first_value(completed).as_deref(), Some("1"));
    let requests = "sum(cynosure_requests_total{source=\"demo\"})";
    let requests = prometheus.first_value(requests).and_then(|text| text.parse::<u64>().ok());
    assert!(requests > Some(40), "{requests:?}");
}
