//! Rate of the durable extraction of a mailbox, compared with a downloader that syncs nothing.
//!
//! ```text
//! cargo bench --profile dist --bench extract -- [ITEMS…]
//! ```
//!
//! For each size, one `demo --serve` is extracted twice, each time in a new process: by
//! `run --once`, and by the [baseline] downloader. The last column is the rate of the first as a
//! share of the rate of the second.
#![expect(clippy::print_stdout, reason = "a benchmark prints a table")]

mod baseline;
mod measure;
mod process;

use std::path::{Path, PathBuf};

use cynosure::ledger::{LedgerReader, LedgerReports, SqliteLedger};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::measure::measure;
use crate::process::{DemoProcess, ResourceUsage, clean_command, cynosure_command, delete_later};

/// Items of the mailboxes, unless the command line sets others.
const ITEMS: [u32; 3] = [2_000, 20_000, 100_000];

/// First argument of a baseline process, followed by the configuration and the folder.
const BASELINE_ARG: &str = "baseline";

const MEGABYTE: f64 = 1e6;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Result of an extraction, with the duration of its two parts in seconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct ExtractionResult {
    documents: u64,
    bytes: u64,
    #[serde(rename = "listing")]
    listing_seconds: f64,
    #[serde(rename = "downloading")]
    download_seconds: f64,
}

fn main() {
    // Cargo passes `--bench` to every benchmark.
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let arguments: Vec<String> = arguments.collect();
    if let [first, config, folder] = arguments.as_slice()
        && first == BASELINE_ARG
    {
        let result = baseline::download(Path::new(config), Path::new(folder));
        println!("{}", serde_json::json!(result));
        return;
    }
    let sizes: Vec<u32> = match arguments.as_slice() {
        [] => ITEMS.to_vec(),
        sizes => sizes.iter().map(|size| size.parse().expect("a number of items")).collect(),
    };
    println!(
        "{:>7} {:9} {:>9} {:>6} {:>6} {:>8} {:>11} {:>6} {:>8} {:>6} {:>11}",
        "items",
        "client",
        "documents",
        "MB",
        "list s",
        "fetch s",
        "documents/s",
        "MB/s",
        "peak MiB",
        "CPU s",
        "of baseline"
    );
    let folders: Vec<TempDir> = sizes.into_iter().map(compare_with_baseline).collect();
    delete_later(folders);
}

/// Measures one mailbox, and returns the folder with everything in it.
fn compare_with_baseline(items: u32) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let service = DemoProcess::start(items, folder.path());

    // The durable extraction goes first: after the baseline, its syncs would also wait for the data
    // that the baseline left unwritten.
    let (durable, durable_usage) = extract(&service.config);
    let (baseline, baseline_usage) = download(&service.config, &folder.path().join("baseline"));
    assert_eq!(
        (durable.documents, durable.bytes),
        (baseline.documents, baseline.bytes),
        "both fetch everything"
    );

    print_row(
        items,
        "cynosure",
        &durable,
        &durable_usage,
        Some(durable.documents_per_second() / baseline.documents_per_second()),
    );
    print_row(items, "baseline", &baseline, &baseline_usage, None);
    folder
}

/// Extracts with the worker.
fn extract(config: &Path) -> (ExtractionResult, ResourceUsage) {
    let mut worker = cynosure_command();
    worker.arg("--config").arg(config).args(["run", "--once"]);
    let (_, usage) = measure(&mut worker);

    let ledger = config.with_file_name("state").join("demo").join("ledger.sqlite");
    let ledger = SqliteLedger::open_read_only(&ledger)
        .expect("the ledger opens")
        .expect("there is a ledger");
    let session = ledger.newest_session().expect("it can be read").expect("there is a session");
    let history = ledger.transitions(usize::MAX).expect("it can be read");
    let entered = |state: &str| {
        let mut transitions = history.iter().filter(|transition| transition.to == state);
        transitions.next().expect("it has been in every state").at
    };
    let seconds = |from: &str, to: &str| entered(to).since(entered(from)).as_secs_f64();
    let result = ExtractionResult {
        documents: session.counts.documents,
        bytes: session.counts.bytes,
        listing_seconds: seconds("collecting", "downloading"),
        download_seconds: seconds("downloading", "completed"),
    };
    (result, usage)
}

/// Downloads with this program, in a new process.
fn download(config: &Path, folder: &PathBuf) -> (ExtractionResult, ResourceUsage) {
    fs::create_dir(folder).expect("the folder is ours");
    let program = std::env::current_exe().expect("this program is a file");
    let mut command = clean_command(&program);
    command.arg(BASELINE_ARG).arg(config).arg(folder);
    let (output, usage) = measure(&mut command);
    (serde_json::from_str(&output).expect("it prints its result"), usage)
}

fn print_row(
    items: u32,
    client: &str,
    result: &ExtractionResult,
    usage: &ResourceUsage,
    share: Option<f64>,
) {
    let ExtractionResult {
        documents,
        bytes,
        listing_seconds: listing,
        download_seconds: downloading,
    } = *result;
    let share = share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
    let megabytes = bytes as f64 / MEGABYTE;
    println!(
        "{items:>7} {client:9} {documents:>9} {megabytes:>6.0} {listing:>6.2} {downloading:>8.2} {:>11.0} {:>6.0} {:>8.1} {:>6.2} {share:>11}",
        result.documents_per_second(),
        megabytes / downloading,
        usage.peak_bytes as f64 / MEBIBYTE,
        usage.cpu_seconds,
    );
}

impl ExtractionResult {
    /// Returns the documents per second, without the time of the listing.
    fn documents_per_second(&self) -> f64 {
        self.documents as f64 / self.download_seconds
    }
}
