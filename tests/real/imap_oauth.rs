//! Logins over IMAP with access tokens, which the server checks at an authorization server.

use std::process::Stdio;

use fs_err as fs;

use crate::corpus;
use crate::cyrus::USER;
use crate::dovecot::{DovecotOptions, DovecotServer, TokenLogin};
use crate::imap_server::{ImapServer as _, imap_source_config_with};
use crate::test_program::{Hash, RunningProgram, TestFolder, assert_same_mails};
use crate::token_introspection::TokenIntrospection;
use crate::wait::wait_until;

const MAILS: usize = 20;

/// SASL mechanisms with an access token: that of RFC 7628, and the older one of Google.
const MECHANISMS: [&str; 2] = ["oauthbearer", "xoauth2"];

const VALID_TOKEN: &str = "token-of-today";
const EXPIRED_TOKEN: &str = "token-of-yesterday";

#[test]
fn an_access_token_extracts_the_mailbox() {
    for mechanism in MECHANISMS {
        let Some((server, mails)) = prepare(mechanism) else { return };
        let test_folder = test_folder(&server, VALID_TOKEN);

        test_folder.run_successfully(&["run", "--once"]);

        assert_same_mails(stored_mails(&test_folder), &mails);
    }
}

#[test]
fn an_expired_token_is_one_sentence_and_never_quoted() {
    for mechanism in MECHANISMS {
        let Some((server, _mails)) = prepare(mechanism) else { return };
        let test_folder = test_folder(&server, EXPIRED_TOKEN);

        let run = test_folder.run_once();

        assert_eq!(run.code, Some(77), "{mechanism}: {}", run.output);
        let sentence = run.output.lines().next_back().unwrap_or_default();
        assert!(sentence.contains("AUTHENTICATIONFAILED"), "{mechanism}: {sentence}");
        assert!(sentence.contains("replace the credential"), "{mechanism}: {sentence}");
        assert!(!run.output.contains(EXPIRED_TOKEN), "{mechanism}: {}", run.output);
    }
}

#[test]
fn a_running_worker_continues_with_a_new_token() {
    let Some((server, mails)) = prepare(MECHANISMS[0]) else { return };
    let test_folder = test_folder(&server, EXPIRED_TOKEN);
    let path = |name: &str| test_folder.path().join(name);
    let log = fs::File::create(path("log")).expect("the folder is ours").into_file();
    let mut command = test_folder.command(&["run"]);
    let mut worker = RunningProgram::start(command.stdout(Stdio::null()).stderr(log));
    wait_until("the token is refused", || {
        assert_eq!(worker.try_wait(), None, "the worker ended");
        test_folder.source_status() == "auth_failed"
    });

    // Replaced as a whole, as by a program that renews tokens.
    test_folder.put_secret("new-token", VALID_TOKEN);
    fs::rename(path("new-token"), path("token")).expect("the folder is ours");

    wait_until("the mailbox is extracted", || {
        assert_eq!(worker.try_wait(), None, "the worker ended");
        let log = fs::read_to_string(path("log")).expect("the log is UTF-8");
        log.contains("execution completed")
    });
    drop(worker);
    assert_same_mails(stored_mails(&test_folder), &mails);
}

/// Starts a server that offers this mechanism, with real mail in its inbox.
fn prepare(mechanism: &'static str) -> Option<(DovecotServer, Vec<Vec<u8>>)> {
    let introspection_port = TokenIntrospection::start(VALID_TOKEN, USER).port;
    let token_login = Some(TokenLogin { mechanism, introspection_port });
    let options = DovecotOptions { token_login, ..DovecotOptions::default() };
    let server = DovecotServer::start_with(&options)?;
    let mails = corpus::real_mails(MAILS)?;
    server.session().append("INBOX", &mails);
    Some((server, mails))
}

fn test_folder(server: &DovecotServer, token: &str) -> TestFolder {
    let auth = r#"type = "oauth2", token = { file = "token" }"#;
    let config = imap_source_config_with(server.imap_port(), "none", auth);
    let test_folder = TestFolder::new(&config);
    test_folder.put_secret("token", token);
    test_folder
}

fn stored_mails(test_folder: &TestFolder) -> Vec<Hash> {
    test_folder.sessions().into_values().flatten().collect()
}
