//! Access tokens for an API: one that is revoked in the middle of a run is replaced once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use cynosure_lab::demo::{DemoOptions, start};
use rustix::fs::{Mode, chmod};

use super::ACCOUNT;
use super::server::{AuthorizationServer, DELEGATED_SCOPE, SECRET_MARK, SERVICE_ACCOUNT_KEY};
use crate::commands::test_home::TestHome;
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest};
use crate::sources::gmail::{Gmail, gmail_error};
use crate::sources::rest_embedded::ProviderApi as _;

/// Number of fetches before all tokens are revoked.
const FETCHES_BEFORE: usize = 10;

/// Starts the API of Gmail before an embedded service. It accepts the access tokens of the
/// authorization server, until they are revoked in the middle of a run.
async fn start_api(service: SocketAddr, authorization: &AuthorizationServer) -> HostileServer {
    let (authorization, fetches) = (authorization.clone(), AtomicUsize::new(0));
    HostileServer::start(move |_, request| {
        let is_fetch = request.path().starts_with(Gmail::PROXIED.document_prefix);
        if is_fetch && fetches.fetch_add(1, Ordering::Relaxed) == FETCHES_BEFORE {
            authorization.revoke_access_tokens();
        }
        let token = bearer_token(request);
        if !authorization.accepts(token) {
            let refusal = gmail_error("401 Unauthorized", "authError", "Invalid Credentials");
            return vec![ConnectionAction::Send(refusal)];
        }
        let head = request.head.replace(token, Gmail::SECRET);
        let accepted = ReceivedRequest { head, ..request.clone() };
        vec![ConnectionAction::ForwardAs(service, accepted), ConnectionAction::Close]
    })
    .await
}

fn bearer_token(request: &ReceivedRequest) -> &str {
    let mut lines = request.head.lines();
    let token = lines.find_map(|line| line.strip_prefix("authorization: Bearer "));
    token.unwrap_or_default()
}

/// Creates a home with a source that has a service account.
fn home(api: &HostileServer, authorization: &AuthorizationServer) -> TestHome {
    let home = TestHome::with_source(&format!(
        "[source.work]\nkind = \"gmail\"\naccount = \"{ACCOUNT}\"\nbase_url = \"{}\"\n\
         auth = {{ type = \"service_account\", key = {{ file = \"key.json\" }}, \
         token_url = \"{}\", scopes = [\"{DELEGATED_SCOPE}\"] }}\n\
         quota = {{ per_second = 100000 }}\n",
        api.url.join(Gmail::BASE_PATH).unwrap(),
        authorization.endpoint("token")
    ));
    home.write("key.json", SERVICE_ACCOUNT_KEY);
    chmod(home.path("key.json"), Mode::RUSR | Mode::WUSR).unwrap();
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_during_a_run_is_replaced_once() {
    let authorization = AuthorizationServer::start().await;
    let (kind, username) = (Gmail::KIND, ACCOUNT.to_owned());
    let service =
        start(DemoOptions { kind, items: 30, username, ..DemoOptions::default() }).unwrap();
    let api = start_api(service.address(), &authorization).await;
    let home = home(&api, &authorization);

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    let messages = service.lock_mailbox().message_count();
    assert_eq!(u32::try_from(home.messages().len()), Ok(messages));
    assert_eq!(authorization.token_requests().len(), 2);
    assert!(!format!("{output:?}").contains(SECRET_MARK), "{output:?}");
}
