//! What an extraction suffers while the monitor's endpoint is besieged: its rate beside its rate alone.
//!
//! ```text
//! cargo bench --bench siege -- [ITEMS]
//! ```
//!
//! Three extractions of the same mailbox, each by processes of its own: alone; beside a monitor that serves
//! and is left in peace; and beside one with [`besiegers::CONNECTIONS`] connections that ask for `/health`,
//! and [`besiegers::SLOW`] clients that never finish a request. Each is made several times in turn, and the
//! median counts. The besiegers run on the same processors, so that what they take is part of the figure.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod load_clients;
#[path = "../extract/process.rs"]
mod process;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use cynosure::ledger::LedgerReader;
use fs_err as fs;
use tempfile::TempDir;

use crate::load_clients::{LoadClients, LoadStats};
use crate::process::{DemoProcess, cynosure_command, delete_later, measure};

const ITEMS: u32 = 20_000;

/// Each kind of run is made so often.
const RUNS_PER_LOAD: usize = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EndpointLoad {
    Nothing,
    Idle,
    Heavy,
}

/// What came of one run.
#[derive(Debug)]
struct LoadResult {
    documents_per_second: f64,
    worker_cpu: f64,
    load_stats: Option<LoadStats>,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let items = arguments.next().map_or(ITEMS, |items| items.parse().expect("a number of items"));
    let kinds = [EndpointLoad::Nothing, EndpointLoad::Idle, EndpointLoad::Heavy];
    let mut outcomes = kinds.map(|_| Vec::new());
    let mut folders = Vec::new();
    for _ in 0..RUNS_PER_LOAD {
        for (kind, outcomes) in kinds.into_iter().zip(&mut outcomes) {
            let folder = TempDir::new().expect("a temporary folder");
            outcomes.push(run(items, kind, &folder));
            folders.push(folder);
        }
    }
    delete_later(folders);
    println!(
        "{:22} {:>11} {:>8} {:>7} {:>9} {:>9} {:>9} {:>10}",
        "beside", "documents/s", "of alone", "CPU s", "answers", "200", "median ms", "slowest ms"
    );
    let alone = median(&outcomes[0]);
    for (kind, outcomes) in kinds.into_iter().zip(&outcomes) {
        print_row(kind, outcomes, median(outcomes) / alone);
    }
}

fn run(items: u32, beside: EndpointLoad, folder: &TempDir) -> LoadResult {
    let service = DemoProcess::start(items, folder.path());
    let watched = (beside != EndpointLoad::Nothing).then(|| MonitorProcess::start(&service));
    let besiegers = watched.as_ref().filter(|_| beside == EndpointLoad::Heavy);
    let besiegers = besiegers.map(|monitor| LoadClients::start(monitor.address));

    let mut worker = cynosure_command();
    worker.arg("--config").arg(&service.config).args(["run", "--once"]);
    let (_, usage) = measure(&mut worker);

    let tally = besiegers.map(LoadClients::stop);
    let ledger = service.config.with_file_name("state").join("demo").join("ledger.sqlite");
    let ledger = LedgerReader::open(&ledger).expect("the ledger opens").expect("there is a ledger");
    let session = ledger.newest_session().expect("it can be read").expect("there is a session");
    let history = ledger.transitions(usize::MAX).expect("it can be read");
    let entered = |state: &str| {
        let mut steps = history.iter().filter(|step| step.to == state);
        steps.next().expect("it was in every state").at
    };
    let took = entered("completed").since(entered("downloading")).as_secs_f64();
    LoadResult {
        documents_per_second: session.counts.documents as f64 / took,
        worker_cpu: usage.cpu_seconds,
        load_stats: tally,
    }
}

fn median(outcomes: &[LoadResult]) -> f64 {
    let mut rates: Vec<f64> = outcomes.iter().map(|outcome| outcome.documents_per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn print_row(kind: EndpointLoad, outcomes: &[LoadResult], share: f64) {
    let name = match kind {
        EndpointLoad::Nothing => "nothing",
        EndpointLoad::Idle => "a monitor at peace",
        EndpointLoad::Heavy => "a monitor under siege",
    };
    let cpu = outcomes.iter().map(|outcome| outcome.worker_cpu).sum::<f64>() / RUNS_PER_LOAD as f64;
    let tally = outcomes.iter().filter_map(|outcome| outcome.load_stats.as_ref());
    let tally = tally.fold(LoadStats::default(), LoadStats::merged);
    let probes =
        tally.probe_percentiles().map(|(half, slowest)| format!("{half:>9.1} {slowest:>10.1}"));
    println!(
        "{name:22} {:>11.0} {:>7.0}% {cpu:>7.2} {:>9} {:>9} {}",
        median(outcomes),
        share * 100.0,
        tally.responses,
        tally.ok_responses,
        probes.unwrap_or_default(),
    );
}

/// A monitor of the same configuration, with an endpoint; ended when dropped.
struct MonitorProcess {
    process: Child,
    address: SocketAddr,
}

impl MonitorProcess {
    fn start(service: &DemoProcess) -> Self {
        let config = service.config.with_file_name("monitor.toml");
        let text = fs::read_to_string(&service.config).expect("it is there");
        // As many as there are: a refusal would be cheaper than an answer.
        let endpoint = "[endpoint]\nlisten = \"127.0.0.1:0\"\nrequests_per_minute = 10000\n";
        fs::write(&config, format!("{text}\n{endpoint}")).expect("the folder is ours");
        let mut command = cynosure_command();
        command.arg("--config").arg(config).arg("monitor");
        let mut process = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let address = log.find_map(|line| {
            let line = line.expect("the log is UTF-8");
            line.split_once("listens on http://")?.1.trim_end_matches('/').parse().ok()
        });
        // What it says from now on is read, so that it never waits.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, address: address.expect("it serves") }
    }
}

impl Drop for MonitorProcess {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
