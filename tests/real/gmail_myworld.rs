//! Extraction by the profile of Gmail, unchanged, from an independent server that answers for
//! Google's host behind an HTTPS proxy, and that fails requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fs_err as fs;
use serde_json::Value;

use crate::myworld::{
    ACCOUNT, GET_MESSAGE, GmailRequest, LIST_HISTORY, LIST_LABELS, LIST_MESSAGES, MyworldServer,
};
use crate::test_program::{Hash, TestFolder, assert_same_mails};

/// Messages of the mailbox. The profile allows five fetches a second.
const MESSAGES: usize = 40;

/// Kinds of faults, each with the number of the fetch that fails: a busy or failing server, a body
/// that is cut, and a page of a proxy. The refusal for too many requests comes late, because the
/// rate is learned from what was accepted before it.
const FETCH_FAULTS: [(&str, usize); 7] = [
    ("bad_gateway", 3),
    ("unavailable", 6),
    ("truncated", 9),
    ("transport_error", 12),
    ("server_error", 15),
    ("timeout", 18),
    ("rate_limit", 36),
];

#[test]
fn failing_requests_lose_nothing() {
    let Some(server) = MyworldServer::start(MESSAGES) else { return };
    let fetches = FETCH_FAULTS.map(|(kind, number)| (GET_MESSAGE, kind, number));
    let listings = [(LIST_MESSAGES, "unavailable", 1)];
    server.inject_faults(&[fetches.as_slice(), &listings].concat());
    let test_folder = test_folder(&server);

    let (output, stored) = test_folder.extract();

    let injected: BTreeSet<_> = FETCH_FAULTS.map(|(kind, _)| kind).into();
    let requests = server.requests();
    let faults: BTreeSet<_> =
        requests.iter().filter_map(|request| request.fault.as_deref()).collect();
    assert_eq!(faults, injected, "{output}");
    assert_same_mails(stored, &messages(&server).into_values().collect::<Vec<_>>());
    let summary = format!("listed {MESSAGES} = stored {MESSAGES} + gone 0 + quarantined 0");
    assert!(output.contains(&summary), "{summary} is not in: {output}");
    let folders: Vec<String> = stored_folders(&test_folder).into_iter().collect();
    assert_eq!(folders, ["INBOX", "SPAM"]);
    assert_eq!(count(&requests, LIST_LABELS), 1, "the labels are read once in a listing");
    test_folder.run_successfully(&["verify"]);
}

#[test]
fn a_message_that_vanished_is_gone() {
    let Some(server) = MyworldServer::start(10) else { return };
    server.inject_faults(&[(GET_MESSAGE, "not_found", 7)]);
    let test_folder = test_folder(&server);

    let (output, stored) = test_folder.extract();

    let missing = server.requests().into_iter().find(|request| request.fault.is_some());
    let missing = missing.and_then(|request| request.message).expect("a message was not found");
    let mut messages = messages(&server);
    messages.remove(&missing);
    assert_same_mails(stored, &messages.into_values().collect::<Vec<_>>());
    let summary = "listed 10 = stored 9 + gone 1 + quarantined 0";
    assert!(output.contains(summary), "{output}");
}

#[test]
fn a_forgotten_history_costs_a_listing_and_no_download() {
    let Some(server) = MyworldServer::start(10) else { return };
    let test_folder = test_folder(&server);
    assert_eq!(test_folder.extract_all().len(), 10);
    let request_counts = |stored: usize| {
        let before = server.requests().len();
        let (output, mails) = test_folder.extract();
        assert_eq!(mails.len(), stored, "{output}");
        let requests = server.requests().split_off(before);
        [LIST_MESSAGES, LIST_HISTORY, GET_MESSAGE].map(|name| count(&requests, name))
    };

    server.deliver(&["new", "newer"]);
    server.inject_faults(&[(LIST_HISTORY, "not_found", 1)]);
    let [listings, _, fetches] = request_counts(2);
    assert_eq!((listings, fetches), (1, 2));

    server.deliver(&["newest"]);
    let [listings, histories, fetches] = request_counts(1);
    assert_eq!((listings, fetches), (0, 1), "the history has it");
    assert!(histories > 0, "the history was not read");

    let [listings, _, fetches] = request_counts(0);
    assert_eq!((listings, fetches), (0, 0));
    let stored: Vec<Hash> = test_folder.sessions().into_values().flatten().collect();
    assert_same_mails(stored, &messages(&server).into_values().collect::<Vec<_>>());
}

/// Returns the folders of all stored messages, as the manifests have them.
fn stored_folders(test_folder: &TestFolder) -> BTreeSet<String> {
    let files = test_folder.archive_files();
    let sessions: BTreeSet<&Path> =
        files.iter().filter_map(|file| file.ancestors().nth(2)).collect();
    let mut folders = BTreeSet::new();
    for session in sessions {
        let manifest = fs::read_to_string(session.join("manifest.jsonl"));
        for line in manifest.expect("a session has a manifest").lines() {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            let names = line["folders"].as_array().into_iter().flatten();
            folders.extend(names.filter_map(Value::as_str).map(str::to_owned));
        }
    }
    folders
}

/// Returns the messages of the mailbox, by their ids.
fn messages(server: &MyworldServer) -> BTreeMap<String, Vec<u8>> {
    server.messages().into_iter().collect()
}

fn count(requests: &[GmailRequest], name: &str) -> usize {
    requests.iter().filter(|request| request.name == name).count()
}

fn test_folder(server: &MyworldServer) -> TestFolder {
    let test_folder = TestFolder::new(&format!(
        r#"[source.work]
kind = "gmail"
account = "{ACCOUNT}"
auth = {{ type = "oauth2", token = {{ file = "token" }} }}

[proxy]
pool = ["http://127.0.0.1:{}"]

[item]
retry_delay = "1s"
max_retry_delay = "1s"
"#,
        server.proxy_port
    ));
    test_folder.put_secret("token", &server.access_token);
    test_folder.trust(&server.authority)
}
