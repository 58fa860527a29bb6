//! One extraction, killed a hundred times at random instants.

use std::process::Stdio;
use std::time::Duration;

use fs_err as fs;
use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::TestHttpClient;
use crate::test_program::{RunningProgram, TestFolder, program};
use crate::wait::{sleep, wait_until};

/// Items of the mailbox, each a thread of one or more documents.
const ITEMS: u64 = 20_000;

/// Their documents, roughly; the pace of the kills hangs on it, no check does.
const DOCUMENTS: u64 = 32_000;

const KILLS: u64 = 100;

/// The pace aims at the end of the extraction a little after the last kill.
const KILLS_PLANNED: u64 = KILLS + KILLS / 4;

/// What one group commit holds at most, and so what a kill may cost.
const BATCH_ITEMS_MAX: u64 = 512;

/// The draws are the same in every run; the instants they hit are not.
const SEED: u64 = 20_000;

/// The longest life the pace starts with, and the bounds it stays within: in the shortest, nothing is fetched.
const RUN_TIME_START: Duration = Duration::from_millis(400);
const RUN_TIME_MIN: Duration = Duration::from_millis(5);
const RUN_TIME_MAX: Duration = Duration::from_millis(1_500);

#[test]
fn a_hundred_kills_lose_nothing_and_store_nothing_twice() {
    let service = DemoProcess::start();
    let workplace = TestFolder::new(&service.config());

    kill_repeatedly(&service, &workplace);
    workplace.run_successfully(&["run", "--once"]);

    workplace.run_successfully(&["verify"]);
    let status = status(&workplace);
    assert_eq!(number_at(&status, "total_threads"), Some(ITEMS), "{status}");
    assert_eq!(number_at(&status, "downloaded_threads"), Some(ITEMS), "{status}");

    let counters = service.counters();
    let documents = number_at(&counters, "messages_served").expect("it counts what it served");
    let again = number_at(&counters, "messages_served_again").expect("and what it served again");
    let stored: usize = workplace.sessions().values().map(Vec::len).sum();
    assert_eq!(u64::try_from(stored).ok(), Some(documents), "a document is missing or there twice");
    println!("{KILLS} kills had {again} of {documents} documents fetched again");
    assert!(again <= KILLS * BATCH_ITEMS_MAX, "a kill costs more than a group: {again} in all");
}

/// Kills run after run, so that the kills spread over the whole extraction.
fn kill_repeatedly(service: &DemoProcess, workplace: &TestFolder) {
    let mut draws = fastrand::Rng::with_seed(SEED);
    let mut life_max = RUN_TIME_START;
    for kills in 1..=KILLS {
        let mut command = workplace.command(&["run", "--once"]);
        let mut run = RunningProgram::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        sleep(life_max.mul_f64(draws.f64()));
        assert_eq!(run.try_wait(), None, "run {kills} of seed {SEED} ended before it was killed");
        drop(run);

        // What was served is nearly what is stored, and known at once, whatever was killed.
        let served = number_at(&service.counters(), "messages_served").unwrap_or(0);
        let ahead = served * KILLS_PLANNED > DOCUMENTS * kills;
        life_max =
            life_max.mul_f64(if ahead { 0.6 } else { 1.1 }).clamp(RUN_TIME_MIN, RUN_TIME_MAX);
    }
}

fn status(workplace: &TestFolder) -> Value {
    let output = workplace.run_successfully(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).expect("the status is JSON")
}

/// The number under this key, wherever it stands.
fn number_at(value: &Value, key: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .and_then(Value::as_u64)
            .or_else(|| fields.values().find_map(|field| number_at(field, key))),
        Value::Array(values) => values.iter().find_map(|value| number_at(value, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The embedded mailbox service, in a process of its own.
struct DemoProcess {
    folder: TempDir,
    _process: RunningProgram,
}

impl DemoProcess {
    fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let create = |name| fs::File::create(folder.path().join(name)).expect("the folder is ours");
        let mut process = RunningProgram::start(
            program()
                .args(["demo", "--serve", "--faults", "none", "--listen", "127.0.0.1:0"])
                .args(["--items", &ITEMS.to_string()])
                .current_dir(folder.path())
                .stdout(create("config.toml").into_file())
                .stderr(create("log").into_file()),
        );
        wait_until("the service says that it is serving", || {
            let log = fs::read_to_string(folder.path().join("log")).expect("the log is UTF-8");
            assert_eq!(process.try_wait(), None, "{log}");
            log.contains("serving")
        });
        Self { folder, _process: process }
    }

    /// What it printed: a configuration that extracts it.
    fn config(&self) -> String {
        fs::read_to_string(self.folder.path().join("config.toml")).expect("TOML is UTF-8")
    }

    fn counters(&self) -> Value {
        let config: toml::Table = self.config().parse().expect("the service prints TOML");
        let mut sources = config["source"].as_table().expect("it has a source").values();
        let url = sources.next().and_then(|source| source["url"].as_str());
        let url = Url::parse(url.expect("a source has a URL")).expect("the URL is valid");
        let counters = url.join("/demo/counters").expect("the path is valid");
        TestHttpClient::new().send(|client| client.get(counters)).json()
    }
}
