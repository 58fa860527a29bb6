//! Rate and memory of an extraction over IMAP, beside those of `mbsync` and `OfflineIMAP`.
//!
//! ```text
//! cargo bench --profile dist --bench imap -- [ROUNDS]
//! ```
//!
//! A private Dovecot serves 2,000 real messages, directly and through a proxy that delays each
//! direction by 25 ms, and one message of 50 MB. In each round every program extracts the mailbox
//! once, into a new folder. It needs what the tests of kind real need (`make setup`), and the
//! Debian packages `isync` and `offlineimap3`; a program that is not installed is left out.
#![expect(clippy::print_stdout, reason = "a benchmark prints a table")]

#[path = "../../tests/real/certificate.rs"]
mod certificate;
mod client;
#[path = "../../tests/real/corpus.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod corpus;
#[path = "../../tests/real/cyrus.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod cyrus;
#[path = "../../tests/real/dovecot.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod dovecot;
#[path = "../../tests/real/free_ports.rs"]
mod free_ports;
#[path = "../../tests/real/imap.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod imap;
#[path = "../../tests/real/imap_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod imap_server;
#[path = "../extract/measure.rs"]
mod measure;
#[path = "../../tests/real/prerequisites.rs"]
mod prerequisites;
#[path = "../extract/process.rs"]
#[expect(dead_code, reason = "other benchmarks use more of it")]
mod process;
#[path = "../../tests/real/recording_proxy.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod recording_proxy;
#[path = "../../tests/real/test_program.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod test_program;
#[path = "../../tests/real/wait.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod wait;

use std::time::Duration;

use tempfile::TempDir;

use crate::client::{Account, Client, Run};
use crate::dovecot::DovecotServer;
use crate::imap_server::ImapServer as _;
use crate::process::delete_later;
use crate::recording_proxy::RecordingProxy;

/// Rounds, unless the command line sets another number.
const ROUNDS: usize = 7;

const MESSAGES: usize = 2_000;

const LARGE_MESSAGE_BYTES: usize = 50_000_000;

/// Delay of each direction: a round trip takes 50 ms.
const DELAY: Duration = Duration::from_millis(25);

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Mailbox at one port.
struct BenchmarkCase {
    title: &'static str,
    account: Account,
    messages: usize,
}

fn main() {
    // Cargo passes `--bench` to every benchmark.
    let argument = std::env::args().skip(1).find(|argument| argument != "--bench");
    let rounds = argument.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let server = DovecotServer::start().expect("Dovecot is installed");
    let mails = corpus::real_mails(MESSAGES).expect("the mail corpus is there");
    let port = server.imap_port();
    fill(port, "corpus", &mails);
    fill(port, "large", &[large_message()]);
    let proxy = RecordingProxy::start(port, DELAY);
    let account = |user: &'static str, port| Account { user, port };
    let cases = [
        BenchmarkCase {
            title: "2,000 messages",
            account: account("corpus", port),
            messages: MESSAGES,
        },
        BenchmarkCase {
            title: "2,000 messages, round trips of 50 ms",
            account: account("corpus", proxy.port),
            messages: MESSAGES,
        },
        BenchmarkCase {
            title: "one message of 50 MB",
            account: account("large", port),
            messages: 1,
        },
    ];
    let clients: Vec<(Client, String)> =
        Client::ALL.into_iter().filter_map(|client| Some((client, client.version()?))).collect();
    let mut folders = Vec::new();
    for case in &cases {
        println!("\n{}", case.title);
        let mut runs = vec![Vec::new(); clients.len()];
        for _ in 0..rounds {
            for ((client, _version), runs) in clients.iter().zip(&mut runs) {
                let folder = TempDir::new().expect("a temporary folder");
                let run = client.extract(&case.account, folder.path());
                assert_eq!(run.messages, case.messages, "{client:?} extracted everything");
                runs.push(run);
                folders.push(folder);
            }
        }
        print_table(&clients, &runs, case.messages);
    }
    delete_later(folders);
}

/// Prints a line for each client. The ratio is that of the durations of the same round.
fn print_table(clients: &[(Client, String)], runs: &[Vec<Run>], messages: usize) {
    println!(
        "{:38} {:>8} {:>11} {:>8} {:>6} {:>6} {:>6}",
        "program", "s", "messages/s", "peak MiB", "ratio", "min", "max"
    );
    for ((_client, version), client_runs) in clients.iter().zip(runs) {
        let seconds = median(client_runs.iter().map(|run| run.seconds));
        let peak = client_runs.iter().map(|run| run.usage.peak_bytes).max().unwrap_or_default();
        let rounds = client_runs.iter().zip(&runs[0]);
        let mut ratios: Vec<f64> = rounds.map(|(run, ours)| run.seconds / ours.seconds).collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "{version:38} {seconds:>8.3} {:>11.0} {:>8.1} {:>6.2} {:>6.2} {:>6.2}",
            messages as f64 / seconds,
            peak as f64 / MEBIBYTE,
            median(ratios.iter().copied()),
            ratios[0],
            ratios[ratios.len() - 1],
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn fill(port: u16, user: &str, mails: &[Vec<u8>]) {
    let mut session = imap::ImapSession::login(port, user, cyrus::PASSWORD);
    session.append("INBOX", mails);
    session.log_out();
}

/// Returns a message with an attachment that cannot be compressed well.
fn large_message() -> Vec<u8> {
    let mut mail = b"From: a@example.com\r\nSubject: large\r\n\r\n".to_vec();
    let mut number = 0_u64;
    while mail.len() < LARGE_MESSAGE_BYTES {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        mail.extend_from_slice(format!("{number:076x}\r\n").as_bytes());
    }
    mail
}
