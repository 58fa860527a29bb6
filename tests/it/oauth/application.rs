//! Applications that get access tokens without a user: service accounts, and clients with a secret.

use rustix::fs::{Mode, chmod};
use serde_json::Value;

use super::server::{
    AuthorizationServer, CLIENT_ID, CLIENT_SECRET, DELEGATED_SCOPE, DELEGATED_USER, SECRET_MARK,
    SERVICE_ACCOUNT_KEY, oauth_error, response,
};
use super::{ACCOUNT, MESSAGES, SignInRig};
use crate::commands::test_home::ProgramOutput;

const KEY_FILE: &str = "key.json";
const SECRET_FILE: &str = "client-secret";

/// Returns a rig whose source has a service account with these further keys of `auth`.
async fn with_service_account(auth_keys: &str) -> SignInRig {
    let rig = SignInRig::start_with_auth(|_authorization| {
        format!("{{ type = \"service_account\", key = {{ file = \"{KEY_FILE}\" }}, {auth_keys} }}")
    })
    .await;
    let mut key: Value = serde_json::from_str(SERVICE_ACCOUNT_KEY).unwrap();
    key["token_uri"] = rig.authorization.endpoint("token").as_str().into();
    // Several lines, as Google gives it.
    write_secret(&rig, KEY_FILE, &format!("{key:#}\n"));
    rig
}

/// Returns `auth` of a source that gets tokens by the secret of its client.
fn client_credentials(authorization: &AuthorizationServer) -> String {
    format!(
        "{{ type = \"client_credentials\", client_id = \"{CLIENT_ID}\", \
         client_secret = {{ file = \"{SECRET_FILE}\" }}, token_url = \"{}\", \
         scopes = [\"{DELEGATED_SCOPE}\"] }}",
        authorization.endpoint("token")
    )
}

fn default_scopes() -> String {
    format!("scopes = [\"{DELEGATED_SCOPE}\"]")
}

fn write_secret(rig: &SignInRig, name: &str, content: &str) {
    rig.home.write(name, content);
    chmod(rig.home.path(name), Mode::RUSR | Mode::WUSR).unwrap();
}

/// Asserts that the source is extracted by one token, which is stored nowhere.
fn assert_extracted(rig: &SignInRig, output: &ProgramOutput) {
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(rig.home.messages().len(), MESSAGES);
    assert_eq!(rig.authorization.token_requests().len(), 1);
    assert!(rig.take_logins().iter().all(|login| login.is_accepted));
    assert!(!rig.has_token_file());
    assert!(!format!("{output:?}").contains(SECRET_MARK), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_extracts_without_a_sign_in() {
    let rig = with_service_account(&default_scopes()).await;
    assert_eq!(DELEGATED_USER, ACCOUNT, "the account is the default subject");

    let output = rig.run_once();

    assert_extracted(&rig, &output);
    assert!(!rig.authorization.token_requests()[0].contains_key("client_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_extracts_without_a_sign_in() {
    let rig = SignInRig::start_with_auth(client_credentials).await;
    write_secret(&rig, SECRET_FILE, CLIENT_SECRET);

    let output = rig.run_once();

    assert_extracted(&rig, &output);
    assert_eq!(rig.authorization.token_requests()[0]["scope"], DELEGATED_SCOPE);
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_says_that_no_sign_in_is_needed_and_logs_in() {
    let rig = with_service_account(&default_scopes()).await;

    let output = rig.home.cynosure(&["auth", "work"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    let sentence = "source work needs no sign-in, because it gets access tokens by the key of its \
                    service account\n";
    assert!(output.stdout.contains(sentence), "{output:?}");
    assert!(output.stdout.contains("login ok, account "), "{output:?}");
    assert!(!rig.take_logins().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_delegation_is_a_wrong_configuration() {
    let rig = with_service_account("scopes = [\"everything\"]").await;

    for args in [&["run", "--once"][..], &["auth", "work"]] {
        let output = rig.home.cynosure(args);

        assert_eq!(output.code, Some(78), "{output:?}");
        assert!(output.stderr.contains("domain-wide delegation"), "{output:?}");
        assert!(output.stderr.contains("(unauthorized_client)"), "{output:?}");
    }
    assert!(rig.take_logins().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_subject_is_refused_with_the_usual_reasons() {
    let keys = format!("{}, subject = \"nobody@example.com\"", default_scopes());
    let rig = with_service_account(&keys).await;

    let output = rig.run_once();

    assert_eq!(output.code, Some(77), "{output:?}");
    for reason in ["delegation", "`subject`", "clock"] {
        assert!(output.stderr.contains(reason), "{reason} is not in {output:?}");
    }
    assert!(!output.stderr.contains("cynosure auth"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_client_secret_is_a_wrong_configuration() {
    let rig = SignInRig::start_with_auth(client_credentials).await;
    write_secret(&rig, SECRET_FILE, &format!("old-{SECRET_MARK}"));

    let refused = rig.run_once();
    write_secret(&rig, SECRET_FILE, CLIENT_SECRET);
    let corrected = rig.run_once();

    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("`client_secret`, which may have expired"), "{refused:?}");
    // The description of the error repeats the secret.
    assert!(!format!("{refused:?}").contains(SECRET_MARK), "{refused:?}");
    assert_eq!(corrected.code, Some(0), "{corrected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_token_endpoint_refuses_no_application() {
    let rig = with_service_account(&default_scopes()).await;
    rig.authorization.answer_token_requests(Some(response("503 Service Unavailable", "", "")));

    let failed = rig.run_once();
    rig.authorization.answer_token_requests(None);
    let recovered = rig.run_once();

    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(recovered.code, Some(0), "{recovered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused() {
    let rig = with_service_account(&default_scopes()).await;
    chmod(rig.home.path(KEY_FILE), Mode::from_raw_mode(0o644)).unwrap();

    let output = rig.run_once();

    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains("run `chmod 600 HOME/key.json`"), "{output:?}");
    assert_eq!(rig.authorization.token_requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_key_ends_auth_failed_by_itself() {
    let rig = with_service_account(&default_scopes()).await;
    let refusal = oauth_error("400 Bad Request", "invalid_grant", "Invalid JWT Signature.");
    rig.authorization.answer_token_requests(Some(refusal));
    let mut running = rig.home.start(&["run"]);
    running.log_until("authentication failed");

    rig.authorization.answer_token_requests(None);
    // The same key on one line.
    let key: Value = serde_json::from_str(&rig.home.read(KEY_FILE)).unwrap();
    write_secret(&rig, KEY_FILE, &key.to_string());

    running.log_until("execution completed");
    assert_eq!(rig.home.messages().len(), MESSAGES);
}
