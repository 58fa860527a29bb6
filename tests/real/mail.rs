//! Alerts in a real mailbox, and never without TLS.

use std::process::Output;

use crate::binary::Workplace;
use crate::exim::{Exim, PASSWORD, alert_mail};
use crate::patience::wait_until;

/// Somebody who is told by mail.
fn workplace(port: u16, protection: &str) -> Workplace {
    let workplace = Workplace::new(&alert_mail(port, protection, "mail-password"));
    workplace.put_secret("mail-password", PASSWORD);
    workplace
}

fn alert_test(workplace: &Workplace, exim: &Exim) -> (Option<i32>, String) {
    let mut command = workplace.command(&["alert", "test"]);
    let Output { status, stdout, stderr } =
        command.env("SSL_CERT_FILE", exim.certificate()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!said.contains(PASSWORD), "the password is in what it says");
    (status.code(), said)
}

#[test]
fn a_test_arrives_by_tls_and_by_starttls() {
    let Some(exim) = Exim::start() else { return };

    for (port, protection) in [(exim.tls_port, "tls"), (exim.starttls_port, "starttls")] {
        let (code, said) = alert_test(&workplace(port, protection), &exim);
        assert_eq!(code, Some(0), "{said}{}", exim.log());
    }

    wait_until("both are delivered", || exim.mailbox().len() == 2);
    for mail in exim.mailbox() {
        assert!(mail.contains("Subject: cynosure on "), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated"), "{mail}");
        assert!(mail.contains("with esmtpsa"), "TLS and a login: {mail}");
    }
}

#[test]
fn a_server_that_proves_nothing_or_wants_another_password_gets_nothing() {
    let Some(exim) = Exim::start() else { return };
    let workplace = workplace(exim.tls_port, "tls");

    let mut command = workplace.command(&["alert", "test"]);
    let untrusted = command.output().expect("the program starts");
    workplace.put_secret("mail-password", "another");
    let (code, refused) = alert_test(&workplace, &exim);

    let untrusted = String::from_utf8_lossy(&untrusted.stdout).into_owned();
    assert!(untrusted.contains("mail     failed"), "{untrusted}");
    assert!(untrusted.contains("certificate"), "{untrusted}");
    assert_eq!(code, Some(1), "{refused}");
    assert!(refused.contains("the server refused it with 535"), "{refused}");
    assert!(exim.mailbox().is_empty());
    assert!(!exim.log().contains("<="), "{}", exim.log());
}
