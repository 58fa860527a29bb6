//! One extraction, killed a hundred times at random instants.

use std::process::Stdio;
use std::time::Duration;

use fs_err as fs;
use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use crate::binary::{Running, Workplace, program};
use crate::http::Http;
use crate::patience::{let_pass, wait_until};

/// Items of the mailbox, each a thread of one or more documents.
const ITEMS: u64 = 20_000;

/// Their documents, roughly; the pace of the kills hangs on it, no check does.
const DOCUMENTS: u64 = 32_000;

const KILLS: u64 = 100;

/// The pace aims at the end of the extraction a little after the last kill.
const KILLS_PLANNED: u64 = KILLS + KILLS / 4;

/// What one group commit holds at most, and so what a kill may cost.
const GROUP_ITEMS: u64 = 512;

/// The draws are the same in every run; the instants they hit are not.
const SEED: u64 = 20_000;

/// The longest life the pace starts with, and the bounds it stays within: in the shortest, nothing is fetched.
const LIFE_START: Duration = Duration::from_millis(400);
const LIFE_MIN: Duration = Duration::from_millis(5);
const LIFE_MAX: Duration = Duration::from_millis(1_500);

#[test]
fn a_hundred_kills_lose_nothing_and_store_nothing_twice() {
    let service = Service::start();
    let workplace = Workplace::new(&service.config());

    kill_again_and_again(&service, &workplace);
    workplace.succeed(&["run", "--once"]);

    workplace.succeed(&["verify"]);
    let status = status(&workplace);
    assert_eq!(figure(&status, "total_threads"), Some(ITEMS), "{status}");
    assert_eq!(figure(&status, "downloaded_threads"), Some(ITEMS), "{status}");

    let counters = service.counters();
    let documents = figure(&counters, "messages_served").expect("it counts what it served");
    let again = figure(&counters, "messages_served_again").expect("and what it served again");
    let stored: usize = workplace.sessions().values().map(Vec::len).sum();
    assert_eq!(u64::try_from(stored).ok(), Some(documents), "a document is missing or there twice");
    println!("{KILLS} kills had {again} of {documents} documents fetched again");
    assert!(again <= KILLS * GROUP_ITEMS, "a kill costs more than a group: {again} in all");
}

/// Kills run after run, so that the kills spread over the whole extraction.
fn kill_again_and_again(service: &Service, workplace: &Workplace) {
    let mut draws = fastrand::Rng::with_seed(SEED);
    let mut life_max = LIFE_START;
    for kills in 1..=KILLS {
        let mut command = workplace.command(&["run", "--once"]);
        let mut run = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let_pass(life_max.mul_f64(draws.f64()));
        assert_eq!(run.ended(), None, "run {kills} of seed {SEED} ended before it was killed");
        drop(run);

        // What was served is nearly what is stored, and known at once, whatever was killed.
        let served = figure(&service.counters(), "messages_served").unwrap_or(0);
        let ahead = served * KILLS_PLANNED > DOCUMENTS * kills;
        life_max = life_max.mul_f64(if ahead { 0.6 } else { 1.1 }).clamp(LIFE_MIN, LIFE_MAX);
    }
}

fn status(workplace: &Workplace) -> Value {
    let output = workplace.succeed(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).expect("the status is JSON")
}

/// The number under this key, wherever it stands.
fn figure(value: &Value, key: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .and_then(Value::as_u64)
            .or_else(|| fields.values().find_map(|field| figure(field, key))),
        Value::Array(values) => values.iter().find_map(|value| figure(value, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The embedded mailbox service, in a process of its own.
struct Service {
    folder: TempDir,
    _process: Running,
}

impl Service {
    fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let create = |name| fs::File::create(folder.path().join(name)).expect("the folder is ours");
        let mut process = Running::start(
            program()
                .args(["demo", "--serve", "--faults", "none", "--listen", "127.0.0.1:0"])
                .args(["--items", &ITEMS.to_string()])
                .current_dir(folder.path())
                .stdout(create("config.toml").into_file())
                .stderr(create("log").into_file()),
        );
        wait_until("the service says that it is serving", || {
            let log = fs::read_to_string(folder.path().join("log")).expect("the log is UTF-8");
            assert_eq!(process.ended(), None, "{log}");
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
        Http::new().send(|client| client.get(counters)).json()
    }
}
