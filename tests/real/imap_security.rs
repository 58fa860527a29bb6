//! Refusals over IMAP: untrusted certificates, wrong passwords, too many connections.

use std::process::{Command, Output};

use crate::corpus;
use crate::dovecot::{DovecotOptions, DovecotServer};
use crate::imap_server::{ImapServer as _, imap_source_config, imap_test_folder};
use crate::test_program::{Hash, TestFolder, assert_same_mails};

const MAILS: usize = 20;

/// Mails for which the program opens a second connection.
const MAILS_OF_TWO_CONNECTIONS: usize = 400;

const WRONG_PASSWORD: &str = "hunter2-of-the-imap";

#[test]
fn an_untrusted_certificate_is_refused_in_one_sentence() {
    let Some(server) = DovecotServer::start() else { return };
    for (security, port) in ports(&server) {
        let test_folder = imap_test_folder(&imap_source_config(port, security));

        let output = run(&mut test_folder.command(&["run", "--once", "--quiet"]));

        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let sentence = last_line(&output);
        assert!(sentence.contains("certificate"), "{security}: {output:?}");
        assert!(sentence.contains(&format!("127.0.0.1:{port}")), "{security}: {output:?}");
    }
}

#[test]
fn a_trusted_certificate_is_accepted_from_the_start_and_by_starttls() {
    let options = DovecotOptions { has_compression: true, ..DovecotOptions::default() };
    let Some((server, mails)) = prepare(&options, MAILS) else { return };
    for (security, port) in ports(&server) {
        let test_folder = imap_test_folder(&imap_source_config(port, security));

        let output = run(trusting(&server, &mut test_folder.command(&["run", "--once"])));
        let doctor = run(trusting(&server, &mut test_folder.command(&["doctor"])));

        assert_eq!(output.status.code(), Some(0), "{security}: {output:?}");
        assert_same_mails(stored_mails(&test_folder), &mails);
        let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(report.contains("authenticated at 127.0.0.1"), "{security}: {doctor:?}");
    }
}

#[test]
fn a_wrong_password_is_one_sentence_and_never_quoted() {
    let Some(server) = DovecotServer::start() else { return };
    let test_folder = imap_test_folder(&imap_source_config(server.imap_port(), "none"));
    test_folder.put_secret("password", WRONG_PASSWORD);

    let output = run(&mut test_folder.command(&["run", "--once", "--quiet"]));

    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(last_line(&output).contains("AUTHENTICATIONFAILED"), "{output:?}");
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!printed.contains(WRONG_PASSWORD), "{printed}");
}

/// The server refuses a second connection. The program waits, and works on with one.
#[test]
fn a_server_with_one_connection_delays_a_run_and_loses_nothing() {
    let options = DovecotOptions { connections_max: 1, ..DovecotOptions::default() };
    let Some((server, mails)) = prepare(&options, MAILS_OF_TWO_CONNECTIONS) else { return };
    let mut config = imap_source_config(server.imap_port(), "none");
    config.push_str("[provider.\"127.0.0.1\"]\nconnections = 2\n");
    let test_folder = imap_test_folder(&config);

    test_folder.run_successfully(&["run", "--once"]);

    assert_same_mails(stored_mails(&test_folder), &mails);
}

/// Starts a server with real mail in its inbox. No session is open.
fn prepare(options: &DovecotOptions, mails: usize) -> Option<(DovecotServer, Vec<Vec<u8>>)> {
    let server = DovecotServer::start_with(options)?;
    let mails = corpus::real_mails(mails)?;
    let mut imap = server.session();
    imap.append("INBOX", &mails);
    imap.log_out();
    Some((server, mails))
}

/// Returns the two ways to encrypt a connection, each with its port.
fn ports(server: &DovecotServer) -> [(&'static str, u16); 2] {
    [("tls", server.tls_port), ("starttls", server.imap_port())]
}

/// Has the program trust the certificate of the server.
fn trusting<'c>(server: &DovecotServer, command: &'c mut Command) -> &'c mut Command {
    command.env("SSL_CERT_FILE", server.certificate())
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// Returns the last line of standard error, which is the error message.
fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().last().unwrap_or_default().to_owned()
}

fn stored_mails(test_folder: &TestFolder) -> Vec<Hash> {
    test_folder.sessions().into_values().flatten().collect()
}
