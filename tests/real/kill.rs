//! Extraction that is killed a hundred times, at random instants.

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

/// Approximate number of their documents.
const DOCUMENTS: u64 = 32_000;

const KILLS: u64 = 100;

/// Maximum number of items in one batch commit, and so the maximum that a kill can cost.
const BATCH_ITEMS_MAX: u64 = 512;

/// First value of the maximum run time, and its bounds. In the shortest run nothing is fetched.
const RUN_TIME_START: Duration = Duration::from_millis(400);
const RUN_TIME_MIN: Duration = Duration::from_millis(5);
const RUN_TIME_MAX: Duration = Duration::from_millis(1_500);

#[test]
fn a_hundred_kills_lose_nothing_and_store_nothing_twice() {
    let service = DemoProcess::start();
    let test_folder = TestFolder::new(&service.config());

    let plan = KillPlan {
        kills: KILLS,
        kills_planned: KILLS + KILLS / 4,
        documents: DOCUMENTS,
        seed: 20_000,
    };
    plan.carry_out(&test_folder, || {
        // Available at once after a kill.
        number_at(&service.counters(), "messages_served").unwrap_or(0)
    });
    test_folder.run_successfully(&["run", "--once"]);

    test_folder.run_successfully(&["verify"]);
    let status = status(&test_folder);
    assert_eq!(number_at(&status, "total_threads"), Some(ITEMS), "{status}");
    assert_eq!(number_at(&status, "downloaded_threads"), Some(ITEMS), "{status}");

    let counters = service.counters();
    let documents = number_at(&counters, "messages_served").expect("the service counts messages");
    let refetched =
        number_at(&counters, "messages_served_again").expect("the service counts repeats");
    let stored: usize = test_folder.sessions().values().map(Vec::len).sum();
    assert_eq!(
        u64::try_from(stored).ok(),
        Some(documents),
        "a document is missing or stored twice"
    );
    println!("after {KILLS} kills, {refetched} of {documents} documents were fetched again");
    let refetched_max = KILLS * BATCH_ITEMS_MAX;
    assert!(
        refetched <= refetched_max,
        "more than one batch per kill was fetched again: {refetched}"
    );
}

/// Kills of runs, spread over one extraction.
pub(crate) struct KillPlan {
    pub(crate) kills: u64,
    /// Number of kills over which the extraction is spread, so that it ends a little after the last
    /// kill.
    pub(crate) kills_planned: u64,
    /// Approximate number of documents. The pace of the kills depends on it, but no assertion does.
    pub(crate) documents: u64,
    /// Seed of the random run times. They are the same in every execution of the test, but the work
    /// that a kill interrupts is not.
    pub(crate) seed: u64,
}

impl KillPlan {
    /// Kills run after run. `stored_count` returns about the number of stored documents.
    pub(crate) fn carry_out(&self, test_folder: &TestFolder, stored_count: impl Fn() -> u64) {
        let Self { kills: kills_max, kills_planned, documents, seed } = *self;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut run_time_max = RUN_TIME_START;
        for kills in 1..=kills_max {
            let mut command = test_folder.command(&["run", "--once"]);
            let command = command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut run = RunningProgram::start(command);
            sleep(run_time_max.mul_f64(random.f64()));
            assert_eq!(run.try_wait(), None, "run {kills} of seed {seed} ended before its kill");
            drop(run);

            let is_ahead = stored_count() * kills_planned > documents * kills;
            let factor = if is_ahead { 0.6 } else { 1.1 };
            run_time_max = run_time_max.mul_f64(factor).clamp(RUN_TIME_MIN, RUN_TIME_MAX);
        }
    }
}

fn status(test_folder: &TestFolder) -> Value {
    let output = test_folder.run_successfully(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).expect("the status is JSON")
}

/// Returns the number under this key, at any depth.
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

/// Embedded mailbox service, in a separate process.
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
        wait_until("the service is serving", || {
            let log = fs::read_to_string(folder.path().join("log")).expect("the log is UTF-8");
            assert_eq!(process.try_wait(), None, "{log}");
            log.contains("serving")
        });
        Self { folder, _process: process }
    }

    /// Returns the configuration that the service printed, which extracts its mailbox.
    fn config(&self) -> String {
        fs::read_to_string(self.folder.path().join("config.toml")).expect("TOML is UTF-8")
    }

    fn counters(&self) -> Value {
        let config: toml::Table = self.config().parse().expect("the service prints TOML");
        let mut sources =
            config["source"].as_table().expect("the configuration has sources").values();
        let url = sources.next().and_then(|source| source["url"].as_str());
        let url = Url::parse(url.expect("a source has a URL")).expect("the URL is valid");
        let counters_url = url.join("/demo/counters").expect("the path is valid");
        TestHttpClient::new().send(|client| client.get(counters_url)).json()
    }
}
