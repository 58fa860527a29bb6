//! Alerts by mail to a real server, never without TLS.

use std::process::Output;

use crate::exim::{EximServer, PASSWORD, alert_mail_config};
use crate::test_program::TestFolder;
use crate::wait::wait_until;

/// Creates a folder whose configuration sends alerts by mail.
fn test_folder_with_mail_alerts(port: u16, protection: &str) -> TestFolder {
    let test_folder = TestFolder::new(&alert_mail_config(port, protection, "mail-password"));
    test_folder.put_secret("mail-password", PASSWORD);
    test_folder
}

/// Runs `cynosure alert test`, and returns its exit code and its output.
fn run_alert_test(test_folder: &TestFolder, exim: &EximServer) -> (Option<i32>, String) {
    let mut command = test_folder.command(&["alert", "test"]);
    let Output { status, stdout, stderr } =
        command.env("SSL_CERT_FILE", exim.certificate()).output().expect("the program starts");
    let output = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!output.contains(PASSWORD), "the password is in the output");
    (status.code(), output)
}

#[test]
fn a_test_alert_arrives_over_tls_and_over_starttls() {
    let Some(exim) = EximServer::start() else { return };

    for (port, protection) in [(exim.tls_port, "tls"), (exim.starttls_port, "starttls")] {
        let (code, output) = run_alert_test(&test_folder_with_mail_alerts(port, protection), &exim);
        assert_eq!(code, Some(0), "{output}{}", exim.log());
    }

    wait_until("both are delivered", || exim.mailbox_messages().len() == 2);
    for mail in exim.mailbox_messages() {
        assert!(mail.contains("Subject: cynosure on "), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated"), "{mail}");
        assert!(mail.contains("with esmtpsa"), "TLS and a login: {mail}");
    }
}

#[test]
fn an_untrusted_server_or_wrong_password_sends_no_mail() {
    let Some(exim) = EximServer::start() else { return };
    let test_folder = test_folder_with_mail_alerts(exim.tls_port, "tls");

    let mut command = test_folder.command(&["alert", "test"]);
    let untrusted = command.output().expect("the program starts");
    test_folder.put_secret("mail-password", "another");
    let (code, rejected) = run_alert_test(&test_folder, &exim);

    let untrusted = String::from_utf8_lossy(&untrusted.stdout).into_owned();
    assert!(untrusted.contains("mail     failed"), "{untrusted}");
    assert!(untrusted.contains("certificate"), "{untrusted}");
    assert_eq!(code, Some(1), "{rejected}");
    assert!(rejected.contains("the server rejected it with 535"), "{rejected}");
    assert!(exim.mailbox_messages().is_empty());
    assert!(!exim.log().contains("<="), "{}", exim.log());
}
