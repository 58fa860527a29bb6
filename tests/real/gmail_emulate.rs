//! Sign-in at an independent server with the endpoints of Google, and extraction of real mail by
//! the profile of Gmail.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::process::Stdio;

use fs_err as fs;
use serde_json::Value;
use url::Url;

use crate::corpus;
use crate::emulate::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, EmulateServer};
use crate::test_program::{Hash, RunningProgram, TestFolder, assert_same_mails};
use crate::wait::wait_until;

/// Messages before the first session, and those that arrive later.
const OLD_MAILS: usize = 2_000;
const NEW_MAILS: usize = 60;

/// File with the tokens of the source, and the file of its profile.
const TOKEN_FILE: &str = "state/work/token.json";
const PROFILE_FILE: &str = "gmail.toml";

const PROFILE: &str = include_str!("../../profiles/gmail.toml");

/// Requests of the profile for `/profile`, which the server does not have, and others that name the
/// account and the position in its history.
const PROFILE_REQUESTS: [(&str, &str); 2] = [
    (
        "get = \"/profile\"\nquery = { fields = \"emailAddress\" }\nid = \"/emailAddress\"\n",
        "get = \"/settings/sendAs\"\nid = \"/sendAs/0/sendAsEmail\"\n",
    ),
    (
        "get = \"/profile\"\nquery = { fields = \"historyId\" }\n",
        "get = \"/history\"\nquery = { startHistoryId = 1, maxResults = 1 }\n",
    ),
];

#[test]
fn every_message_is_stored_although_the_token_expires() {
    let Some(EmulateSetup { server, old, new }) = prepare() else { return };
    let threads = server.import(&old).len();
    let test_folder = sign_in(&server);
    let granted = tokens(&test_folder);

    kill_a_run_in_the_middle(&test_folder);
    expire_access_token(&test_folder);
    let output = test_folder.run_successfully(&["run", "--once"]);

    let stored: Vec<Hash> = test_folder.sessions().into_values().flatten().collect();
    assert_same_mails(stored, &old);
    let text = [output.stdout, output.stderr].concat();
    let output = String::from_utf8_lossy(&text);
    let summary = format!("listed {threads} = stored {threads} + gone 0 + quarantined 0");
    assert!(output.contains(&summary), "{summary} is not in: {output}");
    let refreshed = tokens(&test_folder);
    assert_ne!(refreshed["access_token"], granted["access_token"]);
    assert_eq!(refreshed["refresh_token"], granted["refresh_token"], "the server keeps it");

    server.import(&new);
    assert_same_mails(test_folder.extract_all(), &new);
    assert_eq!(test_folder.extract_all().len(), 0, "a session without new mail stored some");
    assert_eq!(tokens(&test_folder), refreshed, "a valid token was refreshed");
    test_folder.run_successfully(&["verify"]);
}

/// Server with an empty mailbox, and mail to import.
struct EmulateSetup {
    server: EmulateServer,
    old: Vec<Vec<u8>>,
    new: Vec<Vec<u8>>,
}

fn prepare() -> Option<EmulateSetup> {
    let server = EmulateServer::start()?;
    let mut old = corpus::real_mails(OLD_MAILS + NEW_MAILS)?;
    let new = old.split_off(OLD_MAILS);
    old.extend(corpus::crafted_mails());
    Some(EmulateSetup { server, old, new })
}

/// Creates a folder whose source is signed in. The test is the user and the browser.
fn sign_in(server: &EmulateServer) -> TestFolder {
    let test_folder = TestFolder::new(&config(server));
    let profile = test_folder.path().join(PROFILE_FILE);
    fs::write(profile, profile_without_missing_requests()).expect("the folder is ours");
    test_folder.put_secret("client-secret", CLIENT_SECRET);
    let mut command = test_folder.command(&["auth", "work", "--paste"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.spawn().expect("the program starts");
    let mut stdout = BufReader::new(program.stdout.take().expect("it is piped"));
    let mut stdin = program.stdin.take().expect("it is piped");

    let redirect = server.consent(&printed_url(&mut stdout));
    writeln!(stdin, "{redirect}").expect("the program reads the address");
    drop(stdin);

    let mut output = String::new();
    stdout.read_to_string(&mut output).expect("the output is UTF-8");
    let end = program.wait_with_output().expect("the program ends");
    let errors = String::from_utf8_lossy(&end.stderr);
    assert!(end.status.success(), "{output}{errors}");
    assert!(output.contains(&format!("login ok, account {ACCOUNT}")), "{output}");
    test_folder
}

/// Reads lines up to the address to open in a browser, and returns it.
fn printed_url(output: &mut impl BufRead) -> Url {
    let mut lines = output.lines().map(|line| line.expect("the output is UTF-8"));
    let url = lines.find_map(|line| Url::parse(&line).ok());
    url.expect("the program prints an address")
}

/// Kills a session that has stored some messages, and not all.
fn kill_a_run_in_the_middle(test_folder: &TestFolder) {
    let mut command = test_folder.command(&["run", "--once"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = RunningProgram::start(command);
    wait_until("the first messages are stored", || {
        assert_eq!(run.try_wait(), None, "the run ended before it was killed");
        !test_folder.archive_files().is_empty()
    });
}

/// Returns the content of the token file.
fn tokens(test_folder: &TestFolder) -> Value {
    let text = fs::read_to_string(test_folder.path().join(TOKEN_FILE));
    serde_json::from_str(&text.expect("the source is signed in")).expect("tokens are JSON")
}

/// Ends the life of the access token in the token file. The server itself accepts any token.
fn expire_access_token(test_folder: &TestFolder) {
    let mut tokens = tokens(test_folder);
    tokens["expires_at"] = tokens["issued_at"].clone();
    test_folder.put_secret(TOKEN_FILE, &tokens.to_string());
}

/// Returns the profile of Gmail with other requests in place of those that the server does not have.
/// A source cannot replace the first one, because `account` is its own key.
fn profile_without_missing_requests() -> String {
    PROFILE_REQUESTS.iter().fold(PROFILE.to_owned(), |profile, (shipped, other)| {
        assert!(profile.contains(shipped), "the profile has no {shipped}");
        profile.replace(shipped, other)
    })
}

fn config(server: &EmulateServer) -> String {
    let [mailbox, authorize, token] =
        [server.mailbox_url(), server.url("/o/oauth2/v2/auth"), server.url("/oauth2/token")];
    // The server announces a limit of 5,000 requests an hour, to which the program would keep its
    // pace: 1.4 a second.
    format!(
        r#"[source.work]
kind = "rest"
profile = {{ file = "{PROFILE_FILE}" }}
base_url = "{mailbox}"
account = "{ACCOUNT}"
provider = "emulate"

[source.work.auth]
client_id = "{CLIENT_ID}"
client_secret = {{ file = "client-secret" }}
authorize_url = "{authorize}"
token_url = "{token}"

[provider.emulate]
mode = "off"
"#
    )
}
