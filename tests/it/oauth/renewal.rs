//! Tokens of a signed-in source in `run`: they renew themselves, and a sign-in ends a refusal.

use rustix::process::Signal;
use serde_json::Value;

use super::server::{SECRET_MARK, oauth_error, response};
use super::{MESSAGES, SignInRig, TOKEN_FILE, TokenLogin, finish};

/// Login with a token that the server accepts, and that is stored already.
const ACCEPTED: TokenLogin = TokenLogin { is_accepted: true, is_stored: true };

/// Returns a rig whose source is signed in.
async fn signed_in() -> SignInRig {
    let rig = SignInRig::start().await;
    rig.sign_in();
    rig.take_logins();
    rig
}

/// Returns what `doctor` finds about the credential of the source.
fn credential_finding(rig: &SignInRig) -> Value {
    doctor_finding(rig, "work: credential")
}

fn doctor_finding(rig: &SignInRig, what: &str) -> Value {
    let report = &rig.home.cynosure(&["doctor", "--json"]).json_lines()[0];
    let mut findings = report["findings"].as_array().unwrap().iter();
    findings.find(|finding| finding["what"] == what).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_is_stored_before_the_login_with_it() {
    let rig = signed_in().await;

    for round in 1..=3 {
        rig.expire_access_token();
        let output = rig.run_once();

        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(rig.authorization.refresh_count(), round);
        let logins = rig.take_logins();
        assert!(!logins.is_empty());
        assert!(logins.iter().all(|login| *login == ACCEPTED), "{logins:?}");
    }

    assert_eq!(rig.home.messages().len(), MESSAGES);
    let stored: Value = serde_json::from_str(&rig.home.read(TOKEN_FILE)).unwrap();
    let valid: Vec<String> = rig.authorization.refresh_tokens().into_iter().collect();
    assert_eq!(valid, [stored["refresh_token"].as_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_access_token_is_not_renewed() {
    let rig = signed_in().await;

    assert_eq!(rig.run_once().code, Some(0));
    assert_eq!(rig.run_once().code, Some(0));

    assert_eq!(rig.authorization.refresh_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_access_token_is_renewed_once() {
    let rig = signed_in().await;
    rig.authorization.revoke_access_tokens();

    let output = rig.run_once();

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(rig.home.messages().len(), MESSAGES);
    assert_eq!(rig.authorization.refresh_count(), 1);
    let logins = rig.take_logins();
    assert!(!logins[0].is_accepted, "{logins:?}");
    assert_eq!(logins.last(), Some(&ACCEPTED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_consent_needs_a_new_sign_in() {
    let rig = signed_in().await;
    rig.authorization.revoke_everything();

    let refused = rig.run_once();

    assert_eq!(refused.code, Some(77), "{refused:?}");
    for text in
        ["sign in with `cynosure auth work` and run again", "the consent was withdrawn", "7 days"]
    {
        assert!(refused.stderr.contains(text), "{text} is not in {}", refused.stderr);
    }
    // The description of the error repeats the refresh token.
    assert!(!format!("{refused:?}").contains(SECRET_MARK), "{refused:?}");
    let state = rig.home.read("state/work/execution_state.json");
    assert!(!state.contains(SECRET_MARK), "{state}");
    assert_eq!(rig.authorization.refresh_count(), 1);

    rig.sign_in();

    let output = rig.run_once();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(rig.home.messages().len(), MESSAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_token_endpoint_is_no_refused_credential() {
    let login_page = "<html><body>Log in to the hotel's network</body></html>";
    for answer in [
        response("500 Internal Server Error", "", ""),
        oauth_error("502 Bad Gateway", "invalid_grant", ""),
        response("200 OK", "Content-Type: text/html\r\n", login_page),
        response("403 Forbidden", "Content-Type: text/html\r\n", login_page),
        response("200 OK", "", "[".repeat(1 << 20)),
        // The connection is closed without a response.
        Vec::new(),
    ] {
        let rig = signed_in().await;
        rig.expire_access_token();
        rig.authorization.answer_token_requests(Some(answer));

        let failed = rig.run_once();
        rig.authorization.answer_token_requests(None);
        let recovered = rig.run_once();

        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(failed.stderr.contains("sign-in server 127.0.0.1"), "{failed:?}");
        assert!(!format!("{failed:?}").contains(SECRET_MARK), "{failed:?}");
        assert_eq!(recovered.code, Some(0), "{recovered:?}");
        assert!(rig.take_logins().iter().all(|login| *login == ACCEPTED));
        assert_eq!(rig.home.messages().len(), MESSAGES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_is_a_wrong_configuration() {
    let rig = signed_in().await;
    rig.expire_access_token();
    let refusal = oauth_error("401 Unauthorized", "invalid_client", "The secret has expired.");
    rig.authorization.answer_token_requests(Some(refusal));

    let refused = rig.run_once();
    let finding = doctor_finding(&rig, "work: server");
    rig.authorization.answer_token_requests(None);
    let corrected = rig.run_once();

    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("check `client_id` and `client_secret`"), "{refused:?}");
    assert!(!refused.stderr.contains("cynosure auth"), "{refused:?}");
    assert_eq!(finding["remedy"], "correct `auth` of the source", "{finding}");
    assert_eq!(corrected.code, Some(0), "{corrected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_refresh_loses_no_token() {
    let rig = signed_in().await;
    rig.expire_access_token();
    let requests_before = rig.authorization.token_requests().len();
    let release = rig.authorization.hold_token_responses();
    let mut running = rig.home.start(&["run"]);
    rig.authorization.wait_for_token_requests(requests_before + 1).await;

    running.signal(Signal::TERM);
    running.log_until("stopping after the requests in flight");
    release.send(true).unwrap();
    let stopped = finish(running);

    assert_eq!(stopped.code, Some(143), "{stopped:?}");
    let stored: Value = serde_json::from_str(&rig.home.read(TOKEN_FILE)).unwrap();
    let valid: Vec<String> = rig.authorization.refresh_tokens().into_iter().collect();
    assert_eq!(valid, [stored["refresh_token"].as_str().unwrap()]);
    assert_eq!(rig.run_once().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_beside_each_other_refresh_once() {
    let rig = signed_in().await;
    rig.expire_access_token();
    let release = rig.authorization.hold_token_responses();
    let requests_before = rig.authorization.token_requests().len();
    let probe = || rig.home.start(&["config", "check", "--probe"]);
    let first = probe();
    rig.authorization.wait_for_token_requests(requests_before + 1).await;
    let second = probe();

    release.send(true).unwrap();
    finish(first);
    finish(second);

    assert_eq!(rig.authorization.refresh_count(), 1);
    let logins = rig.take_logins();
    assert!(logins.len() >= 2 && logins.iter().all(|login| *login == ACCEPTED), "{logins:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_ends_auth_failed_by_itself() {
    let rig = signed_in().await;
    rig.authorization.revoke_everything();
    let mut running = rig.home.start(&["run"]);
    running.log_until("authentication failed");

    rig.sign_in();

    // The worker notices the new file without a signal, and has sent nothing while it waited.
    running.log_until("execution completed");
    assert_eq!(rig.home.messages().len(), MESSAGES);
    assert_eq!(rig.authorization.refresh_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_signed_in_names_the_command() {
    let rig = SignInRig::start().await;

    let output = rig.run_once();

    assert_eq!(output.code, Some(77), "{output:?}");
    assert!(output.stderr.contains("not signed in yet; run `cynosure auth work`"), "{output:?}");
    let credential = credential_finding(&rig);
    assert_eq!(credential["mark"], "failed", "{credential}");
    assert_eq!(credential["remedy"], "sign in with `cynosure auth work`");
    assert_eq!(rig.authorization.token_requests().len(), 0);
    assert!(rig.take_logins().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_token_file_is_a_wrong_configuration() {
    let rig = signed_in().await;
    let whole = rig.home.read(TOKEN_FILE);

    rig.set_token_file_mode(0o644);
    let open_to_others = rig.run_once();
    rig.set_token_file_mode(0o600);
    rig.home.write(TOKEN_FILE, &whole[..whole.len() / 2]);
    let damaged = rig.run_once();
    rig.home.write(TOKEN_FILE, "");
    let empty = rig.run_once();

    for (output, remedy) in
        [(open_to_others, "run `chmod 600 "), (damaged, "delete it"), (empty, "delete it")]
    {
        assert_eq!(output.code, Some(78), "{output:?}");
        assert!(output.stderr.contains("token.json"), "{output:?}");
        assert!(output.stderr.contains(remedy), "{output:?}");
        assert!(!format!("{output:?}").contains(SECRET_MARK), "{output:?}");
    }
    assert!(rig.take_logins().is_empty());

    rig.sign_in();

    assert_eq!(credential_finding(&rig)["mark"], "ok");
    assert_eq!(rig.run_once().code, Some(0), "a sign-in replaces the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_client_are_not_sent() {
    let rig = signed_in().await;
    rig.home.configure("client_id = \"cynosure-test\"", "client_id = \"another\"");

    let output = rig.run_once();

    assert_eq!(output.code, Some(77), "{output:?}");
    assert!(output.stderr.contains("cynosure auth"), "{output:?}");
    assert_eq!(rig.authorization.refresh_count(), 0);
    assert!(rig.take_logins().is_empty());
}
