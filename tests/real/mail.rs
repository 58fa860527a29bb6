//! Alerts in a real mailbox, and never without TLS.

use std::process::Output;

use crate::exim::{EximServer, PASSWORD, alert_mail};
use crate::test_program::TestFolder;
use crate::wait::wait_until;

/// Somebody who is told by mail.
fn folder_with_mail_alerts(port: u16, protection: &str) -> TestFolder {
    let workplace = TestFolder::new(&alert_mail(port, protection, "mail-password"));
    workplace.put_secret("mail-password", PASSWORD);
    workplace
}

fn alert_test(workplace: &TestFolder, exim: &EximServer) -> (Option<i32>, String) {
    let mut command = workplace.command(&["alert", "test"]);
    let Output { status, stdout, stderr } =
        command.env("SSL_CERT_FILE", exim.certificate()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!said.contains(PASSWORD), "the password is in what it says");
    (status.code(), said)
}

#[test]
fn a_test_arrives_by_tls_and_by_starttls() {
    let Some(exim) = EximServer::start() else { return };

    for (port, protection) in [(exim.tls_port, "tls"), (exim.starttls_port, "starttls")] {
        let (code, said) = alert_test(&folder_with_mail_alerts(port, protection), &exim);
        assert_eq!(code, Some(0), "{said}{}", exim.log());
    }

    wait_until("both are delivered", || exim.mailbox_messages().len() == 2);
    for mail in exim.mailbox_messages() {
        assert!(mail.contains("Subject: cynosure on "), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated"), "{mail}");
        assert!(mail.contains("with esmtpsa"), "TLS and a login: {mail}");
    }
}

#[test]
fn an_untrusted_server_or_wrong_password_gets_nothing() {
    let Some(exim) = EximServer::start() else { return };
    let workplace = folder_with_mail_alerts(exim.tls_port, "tls");

    let mut command = workplace.command(&["alert", "test"]);
    let untrusted = command.output().expect("the program starts");
    workplace.put_secret("mail-password", "another");
    let (code, refused) = alert_test(&workplace, &exim);

    let untrusted = String::from_utf8_lossy(&untrusted.stdout).into_owned();
    assert!(untrusted.contains("mail     failed"), "{untrusted}");
    assert!(untrusted.contains("certificate"), "{untrusted}");
    assert_eq!(code, Some(1), "{refused}");
    assert!(refused.contains("the server refused it with 535"), "{refused}");
    assert!(exim.mailbox_messages().is_empty());
    assert!(!exim.log().contains("<="), "{}", exim.log());
}
