//! `auth`: sign-in by a browser on this machine, by a pasted address, and by a device code.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{Mode, chmod};
use url::Url;

use super::server::{REFUSAL, SECRET_MARK, USER_CODE, oauth_error, response};
use super::{
    ACCOUNT, MESSAGES, SignInRig, TOKEN_CHALLENGE, TOKEN_FILE, TokenLogin, finish, open,
    printed_url,
};
use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::imap::server::Answer;

fn query_of(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

/// Asserts that the token is stored, that only its owner can read it, and that it extracts.
fn assert_signed_in(rig: &SignInRig, output: &ProgramOutput) {
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("signed in"), "{output:?}");
    assert!(output.stdout.contains(TOKEN_FILE), "{output:?}");
    assert!(!format!("{output:?}").contains(SECRET_MARK), "{output:?}");
    let metadata = fs_err::metadata(rig.home.path(TOKEN_FILE)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    let run = rig.run_once();

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(rig.home.messages().len(), MESSAGES);
    let logins = rig.take_logins();
    assert!(!logins.is_empty());
    let accepted = TokenLogin { is_accepted: true, is_stored: true };
    assert!(logins.iter().all(|login| *login == accepted), "{logins:?}");
    assert_eq!(rig.authorization.token_requests().len(), rig.authorization.exchange_count());
}

/// Asserts that a sign-in ended with this code and a sentence with `text`, and stored nothing.
fn assert_refused(rig: &SignInRig, output: &ProgramOutput, code: i32, text: &str) {
    assert_eq!(output.code, Some(code), "{text}: {output:?}");
    let sentence = output.stderr.lines().last().unwrap_or_default();
    assert!(sentence.starts_with("cynosure: "), "{output:?}");
    assert!(sentence.contains(text), "{text}: {output:?}");
    assert!(!format!("{output:?}").contains(SECRET_MARK), "{output:?}");
    assert!(!rig.has_token_file(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_by_browser_stores_a_token_that_extracts() {
    let rig = SignInRig::start().await;
    let mut running = rig.home.start(&["auth", "work"]);
    let url = printed_url(&mut running);
    let query = query_of(&url);
    let redirect_uri: Url = query["redirect_uri"].parse().unwrap();

    let other_page = open(&redirect_uri.join("/favicon.ico").unwrap());
    let redirect = open(&url).location();
    let last_page = open(&redirect);
    let output = finish(running);

    assert_eq!(other_page.status(), 404, "{other_page:?}");
    assert_eq!(last_page.status(), 200, "{last_page:?}");
    assert!(last_page.body.contains("close this window"), "{last_page:?}");
    assert!(!format!("{last_page:?}").contains(SECRET_MARK), "{last_page:?}");
    for (name, value) in [
        ("response_type", "code"),
        ("code_challenge_method", "S256"),
        ("scope", "mail offline"),
        ("login_hint", ACCOUNT),
        // Google sends a refresh token only with both.
        ("access_type", "offline"),
        ("prompt", "consent"),
    ] {
        assert_eq!(query.get(name).map(String::as_str), Some(value), "{url}");
    }
    assert_eq!(redirect_uri.host_str(), Some("127.0.0.1"));
    assert_signed_in(&rig, &output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_address_signs_in() {
    let rig = SignInRig::start().await;

    let output = rig.sign_in_by_paste(|redirect| format!("  {redirect} "));

    assert_signed_in(&rig, &output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_signs_in_once_it_is_approved() {
    let rig = SignInRig::start().await;
    rig.authorization.delay_device(["authorization_pending"]);

    let output = rig.home.cynosure(&["auth", "work", "--device"]);

    assert!(output.stdout.contains(USER_CODE), "{output:?}");
    assert!(output.stdout.contains("https://example.com/device"), "{output:?}");
    assert_signed_in(&rig, &output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_consent_is_final_and_stores_nothing() {
    let rig = SignInRig::start().await;
    for error in ["access_denied", "expired_token"] {
        rig.authorization.delay_device([error]);
        let output = rig.home.cynosure(&["auth", "work", "--device"]);
        assert_refused(&rig, &output, 77, error);
    }
    rig.authorization.refuse_consent();

    let pasted = rig.sign_in_by_paste(String::from);
    let mut running = rig.home.start(&["auth", "work"]);
    let redirect = open(&printed_url(&mut running)).location();
    let last_page = open(&redirect);
    let by_browser = finish(running);

    assert!(!last_page.body.is_empty(), "{last_page:?}");
    assert_refused(&rig, &pasted, 77, REFUSAL);
    assert_refused(&rig, &by_browser, 77, REFUSAL);
    let polls_of_devices = 2;
    assert_eq!(rig.authorization.token_requests().len(), polls_of_devices);
    assert_eq!(rig.mailbox.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_another_sign_in_is_not_exchanged() {
    let rig = SignInRig::start().await;
    let forge = |redirect: &Url, name: &str| {
        let mut query = query_of(redirect);
        query.insert(name.to_owned(), "forged".to_owned());
        let mut forged = redirect.clone();
        forged.query_pairs_mut().clear().extend_pairs(query);
        forged.to_string()
    };

    let outputs = [
        rig.sign_in_by_paste(|redirect| forge(&redirect, "state")),
        rig.sign_in_by_paste(|redirect| redirect.origin().ascii_serialization()),
        rig.sign_in_by_paste(|_| "https://example.com/?code=forged".to_owned()),
        rig.sign_in_by_paste(|_| "what now?".to_owned()),
        rig.sign_in_by_paste(|_| String::new()),
    ];

    for output in outputs {
        assert!(!matches!(output.code, Some(0) | None), "{output:?}");
        assert!(output.stderr.contains("cynosure: "), "{output:?}");
    }
    assert_eq!(rig.authorization.token_requests().len(), 0);
    let forged_code = rig.sign_in_by_paste(|redirect| forge(&redirect, "code"));
    assert_refused(&rig, &forged_code, 77, "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_exchange_has_its_code_and_stores_nothing() {
    let rig = SignInRig::start().await;
    let login_page = "<html><body>Log in to the hotel's network</body></html>";
    for (answer, code, text) in [
        (oauth_error("400 Bad Request", "invalid_grant", ""), 77, "sign in again"),
        (oauth_error("401 Unauthorized", "invalid_client", ""), 78, "client_id"),
        (oauth_error("400 Bad Request", "invalid_scope", ""), 78, "scopes"),
        (oauth_error("503 Service Unavailable", "invalid_grant", ""), 1, "503"),
        (response("429 Too Many Requests", "Retry-After: 3600\r\n", ""), 1, "429"),
        (response("302 Found", "Location: /device\r\n", ""), 1, "302"),
        (response("200 OK", "Content-Type: text/html\r\n", login_page), 1, ""),
        (response("200 OK", "", "[".repeat(1 << 20)), 1, ""),
        (response("200 OK", "", "{}"), 1, ""),
        (response("200 OK", "", "{\"access_token\": 7}"), 1, ""),
        // The connection is closed without a response.
        (Vec::new(), 1, "127.0.0.1"),
    ] {
        rig.authorization.answer_token_requests(Some(answer));
        let output = rig.sign_in_by_paste(String::from);
        assert_refused(&rig, &output, code, text);
    }
    rig.authorization.answer_token_requests(None);

    rig.sign_in();

    assert!(rig.has_token_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_refreshed_is_not_stored() {
    let rig = SignInRig::start().await;
    let answer = "{\"access_token\": \"access-s3cret\", \"expires_in\": 3600}";
    rig.authorization.answer_token_requests(Some(response("200 OK", "", answer)));

    let output = rig.sign_in_by_paste(String::from);

    assert_refused(&rig, &output, 78, "offline_access");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_opens_no_mailbox_is_reported_at_once() {
    let rig = SignInRig::start().await;
    let refusal = "NO [AUTHENTICATIONFAILED] IMAP is switched off.";
    let answer = Answer::new().line(TOKEN_CHALLENGE).read_line().tagged(refusal);
    rig.mailbox.answer_always("AUTHENTICATE", answer);

    let output = rig.sign_in_by_paste(String::from);

    assert_eq!(output.code, Some(77), "{output:?}");
    assert!(output.stderr.contains("IMAP is switched off."), "{output:?}");
    assert!(output.stderr.contains("does not open the mailbox"), "{output:?}");
    assert!(rig.has_token_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_is_sent_and_never_shown() {
    let rig = SignInRig::start_with(", client_secret = { file = \"client-secret\" }").await;
    let secret = format!("client-{SECRET_MARK}");
    rig.home.write("client-secret", &format!("{secret}\n"));
    chmod(rig.home.path("client-secret"), Mode::RUSR | Mode::WUSR).unwrap();

    let output = rig.sign_in_by_paste(String::from);
    let shown = rig.home.cynosure(&["config", "show"]);

    assert_eq!(rig.authorization.token_requests()[0]["client_secret"], secret);
    assert!(!rig.home.read(TOKEN_FILE).contains(&secret));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for text in ["cynosure-test", "client-secret", rig.authorization.endpoint("token").as_str()] {
        assert!(shown.stdout.contains(text), "{text} is not in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains(SECRET_MARK), "{}", shown.stdout);
    assert_signed_in(&rig, &output);
}

#[test]
fn only_a_source_with_a_client_id_can_be_signed_in_to() {
    let home = TestHome::with_source_work();

    let other = home.cynosure(&["auth", "work"]);
    let unknown = home.cynosure(&["auth", "wrok"]);

    assert_eq!(other.code, Some(78), "{other:?}");
    assert!(other.stderr.contains("client_id"), "{other:?}");
    assert_eq!(unknown.code, Some(78), "{unknown:?}");
    assert!(unknown.stderr.contains("did you mean work?"), "{unknown:?}");
    assert!(!home.path("state").exists());
}
