//! Rate of an extraction while the monitor's endpoint is under load, compared with its rate alone.
//!
//! ```text
//! cargo bench --profile dist --bench endpoint_load -- [ITEMS]
//! ```
//!
//! Three extractions of the same mailbox, each in new processes: alone; with a monitor whose
//! endpoint is idle; and with a monitor that has [`load_clients::CONNECTIONS`] connections that
//! request `/health` and [`load_clients::SLOW_CLIENTS`] clients that never finish a request. Each
//! runs several times in turn, and the median counts. The load clients run on the same processors,
//! so the result includes their CPU time.
#![expect(clippy::print_stdout, reason = "a benchmark prints a table")]

mod load_clients;
#[path = "../extract/measure.rs"]
mod measure;
#[path = "../extract/process.rs"]
mod process;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use cynosure::ledger::{LedgerReader, LedgerReports, SqliteLedger};
use fs_err as fs;
use tempfile::TempDir;

use crate::load_clients::{LoadClients, LoadStats};
use crate::measure::measure;
use crate::process::{DemoProcess, cynosure_command, delete_later};

const ITEMS: u32 = 20_000;

/// Number of runs for each load.
const RUNS_PER_LOAD: usize = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EndpointLoad {
    NoMonitor,
    Idle,
    Heavy,
}

/// Result of one run.
#[derive(Debug)]
struct LoadResult {
    documents_per_second: f64,
    worker_cpu: f64,
    load_stats: Option<LoadStats>,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let items = arguments.next().map_or(ITEMS, |items| items.parse().expect("a number of items"));
    let loads = [EndpointLoad::NoMonitor, EndpointLoad::Idle, EndpointLoad::Heavy];
    let mut results = loads.map(|_| Vec::new());
    let mut folders = Vec::new();
    for _ in 0..RUNS_PER_LOAD {
        for (load, results) in loads.into_iter().zip(&mut results) {
            let folder = TempDir::new().expect("a temporary folder");
            results.push(run(items, load, &folder));
            folders.push(folder);
        }
    }
    delete_later(folders);
    println!(
        "{:22} {:>11} {:>8} {:>7} {:>9} {:>9} {:>9} {:>10}",
        "monitor", "documents/s", "of alone", "CPU s", "responses", "200", "median ms", "max ms"
    );
    let alone = median(&results[0]);
    for (load, results) in loads.into_iter().zip(&results) {
        print_row(load, results, median(results) / alone);
    }
}

fn run(items: u32, load: EndpointLoad, folder: &TempDir) -> LoadResult {
    let service = DemoProcess::start(items, folder.path());
    let monitor = (load != EndpointLoad::NoMonitor).then(|| MonitorProcess::start(&service));
    let clients = monitor.as_ref().filter(|_| load == EndpointLoad::Heavy);
    let clients = clients.map(|monitor| LoadClients::start(monitor.address));

    let mut worker = cynosure_command();
    worker.arg("--config").arg(&service.config).args(["run", "--once"]);
    let (_, usage) = measure(&mut worker);

    let load_stats = clients.map(LoadClients::stop);
    let ledger = service.config.with_file_name("state").join("demo").join("ledger.sqlite");
    let ledger = SqliteLedger::open_read_only(&ledger)
        .expect("the ledger opens")
        .expect("there is a ledger");
    let session = ledger.newest_session().expect("it can be read").expect("there is a session");
    let history = ledger.transitions(usize::MAX).expect("it can be read");
    let entered = |state: &str| {
        let mut transitions = history.iter().filter(|transition| transition.to == state);
        transitions.next().expect("it has been in every state").at
    };
    let seconds = entered("completed").since(entered("downloading")).as_secs_f64();
    LoadResult {
        documents_per_second: session.counts.documents as f64 / seconds,
        worker_cpu: usage.cpu_seconds,
        load_stats,
    }
}

fn median(results: &[LoadResult]) -> f64 {
    let mut rates: Vec<f64> = results.iter().map(|result| result.documents_per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn print_row(load: EndpointLoad, results: &[LoadResult], share: f64) {
    let name = match load {
        EndpointLoad::NoMonitor => "none",
        EndpointLoad::Idle => "idle",
        EndpointLoad::Heavy => "under load",
    };
    let cpu = results.iter().map(|result| result.worker_cpu).sum::<f64>() / RUNS_PER_LOAD as f64;
    let load_stats = results.iter().filter_map(|result| result.load_stats.as_ref());
    let load_stats = load_stats.fold(LoadStats::default(), LoadStats::merged);
    let probes =
        load_stats.probe_median_and_max().map(|(median, max)| format!("{median:>9.1} {max:>10.1}"));
    println!(
        "{name:22} {:>11.0} {:>7.0}% {cpu:>7.2} {:>9} {:>9} {}",
        median(results),
        share * 100.0,
        load_stats.responses,
        load_stats.ok_responses,
        probes.unwrap_or_default(),
    );
}

/// Monitor with the same configuration and an endpoint; killed when dropped.
struct MonitorProcess {
    process: Child,
    address: SocketAddr,
}

impl MonitorProcess {
    fn start(service: &DemoProcess) -> Self {
        let config = service.config.with_file_name("monitor.toml");
        let text = fs::read_to_string(&service.config).expect("the configuration exists");
        // The maximum, because a 429 would be cheaper than a full response.
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
            line.split_once("endpoint listening url=http://")?.1.trim_end_matches('/').parse().ok()
        });
        // The rest of the log is read, so that the monitor never blocks on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, address: address.expect("the endpoint listens") }
    }
}

impl Drop for MonitorProcess {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
