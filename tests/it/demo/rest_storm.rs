//! Faults of the APIs of providers, with clients that retry everything and count the faults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cynosure_lab::demo::{DemoKind, DemoOptions, DemoServer, FaultLevel, start};
use reqwest::{Client, StatusCode, header};
use serde_json::Value;

use super::client::{JsonBody as _, plain_client};
use super::rest::{MailruMessage, SessionClient};

/// Pause of a client after a fault.
const PAUSE: Duration = Duration::from_millis(20);

fn serve(kind: DemoKind, items: u32, faults: FaultLevel, token_file: PathBuf) -> DemoServer {
    let token_file = Some(token_file);
    start(DemoOptions { kind, items, faults, token_file, ..DemoOptions::default() }).unwrap()
}

/// Results and faults that a client of Gmail counted during a storm.
#[derive(Debug, Default)]
struct GmailFaultCounts {
    stored: usize,
    gone: usize,
    always_failing: usize,
    unauthorized: usize,
    rate_limits_with_time: usize,
    rate_limits_without_time: usize,
    unavailable: usize,
    gateway_errors: usize,
    broken_connections: usize,
    cut_bodies: usize,
    login_pages: usize,
}

/// Client of Gmail in a storm.
struct GmailStormClient {
    http: Client,
    base: String,
    token_file: PathBuf,
    counts: GmailFaultCounts,
}

impl GmailStormClient {
    /// Downloads a message until it is stored, is gone, or has failed too often.
    async fn download(&mut self, id: &str) {
        let url = format!("{}/messages/{id}?format=raw&fields=raw", self.base);
        let mut server_errors = 0;
        loop {
            let token = std::fs::read_to_string(&self.token_file).unwrap();
            let counts = &mut self.counts;
            match self.http.get(&url).bearer_auth(token.trim_end()).send().await {
                Err(_) => counts.broken_connections += 1,
                Ok(response) => {
                    let status = response.status().as_u16();
                    let media_type = response.headers()[header::CONTENT_TYPE].clone();
                    let body = response.bytes().await.unwrap();
                    let json = serde_json::from_slice::<Value>(&body).ok();
                    let error = json.as_ref().map(|json| json["error"].clone()).unwrap_or_default();
                    match status {
                        200 if media_type.to_str().unwrap().starts_with("text/html") => {
                            counts.login_pages += 1;
                        }
                        200 => match json {
                            Some(json) => {
                                URL_SAFE_NO_PAD.decode(json["raw"].as_str().unwrap()).unwrap();
                                counts.stored += 1;
                                return;
                            }
                            None => counts.cut_bodies += 1,
                        },
                        401 => counts.unauthorized += 1,
                        403 => {
                            assert_eq!(error["errors"][0]["reason"], "rateLimitExceeded");
                            counts.rate_limits_without_time += 1;
                        }
                        404 => {
                            assert_eq!(error["errors"][0]["reason"], "notFound");
                            counts.gone += 1;
                            return;
                        }
                        429 => {
                            let text = error["message"].as_str().unwrap();
                            assert!(text.contains("limit exceeded.  Retry after 2"), "{text}");
                            counts.rate_limits_with_time += 1;
                        }
                        500 if server_errors == 2 => {
                            counts.always_failing += 1;
                            return;
                        }
                        500 => server_errors += 1,
                        502 => counts.gateway_errors += 1,
                        503 => counts.unavailable += 1,
                        other => panic!("unexpected status {other}"),
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Lists the messages of a mailbox without faults, whose ids are the same.
async fn gmail_ids(items: u32) -> Vec<String> {
    let (kind, faults) = (DemoKind::Gmail, FaultLevel::None);
    let demo = start(DemoOptions { kind, items, faults, ..DemoOptions::default() }).unwrap();
    let query = "maxResults=500&includeSpamTrash=true";
    let url = format!("http://{}/gmail/v1/users/me/messages?{query}", demo.address());
    let page = plain_client().get(url).bearer_auth("demo").send().await.unwrap();
    let page = page.json_body().await;
    assert_eq!(page["nextPageToken"], Value::Null);
    let rows = page["messages"].as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_storm_over_gmail_injects_every_fault_into_200_items() {
    let ids = gmail_ids(200).await;
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    let demo = serve(DemoKind::Gmail, 200, FaultLevel::Storm, token_file.clone());
    let base = format!("http://{}/gmail/v1/users/me", demo.address());
    let counts = GmailFaultCounts::default();
    let mut client = GmailStormClient { http: plain_client(), base, token_file, counts };

    for id in &ids {
        client.download(id).await;
    }

    let (counts, counters) = (client.counts, demo.counters());
    assert_eq!(ids.len(), 320);
    assert_eq!(counts.stored + counts.gone + counts.always_failing, 320, "{counts:?}");
    assert_eq!((counts.gone, counts.always_failing, counts.login_pages), (3, 1, 2), "{counts:?}");
    assert!(10 < counts.unauthorized, "the new token is written three seconds late: {counts:?}");
    assert!(0 < counts.rate_limits_with_time && 0 < counts.rate_limits_without_time, "{counts:?}");
    assert!(0 < counts.unavailable && 0 < counts.gateway_errors, "{counts:?}");
    assert!(0 < counts.broken_connections && 0 < counts.cut_bodies, "{counts:?}");
    assert_eq!((counters.token_expiries, counters.token_renewals), (1, 1));
    assert_eq!(counters.messages_served_repeatedly, 0);
    assert!(0 < counters.slow_responses);
}

/// Reads the session from its file, as a client does after each refusal.
fn session_client(http: &Client, demo: &DemoServer, file: &Path) -> SessionClient {
    let session = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let base = format!("http://{}/api/v1", demo.address());
    SessionClient { http: http.clone(), base, session }
}

/// Downloads a message until it is stored or gone. Returns the number of times that the session was
/// refused.
async fn download_from_mailru(
    http: &Client,
    demo: &DemoServer,
    file: &Path,
    message: &MailruMessage,
) -> usize {
    let mut refusals = 0;
    loop {
        if let Ok(response) = session_client(http, demo, file).download(message).await {
            let is_mail = response.headers()[header::CONTENT_TYPE] == "message/rfc822";
            let is_ok = response.status() == StatusCode::OK;
            if let Ok(body) = response.bytes().await {
                let envelope = serde_json::from_slice::<Value>(&body).unwrap_or_default();
                let is_gone = envelope["body"]["id"]["error"] == "not_exist";
                if is_ok && (is_mail || is_gone) {
                    return refusals;
                }
                if envelope["status"] == 403 {
                    assert_eq!(envelope["body"], "nosdc");
                    refusals += 1;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_session_of_mailru_expires_once_and_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let http = plain_client();
    let calm = serve(DemoKind::Mailru, 40, FaultLevel::None, first.clone());
    let messages = session_client(&http, &calm, &first).list().await;
    let demo = serve(DemoKind::Mailru, 40, FaultLevel::Some, second.clone());
    let mut refusals = 0;

    for message in &messages {
        refusals += download_from_mailru(&http, &demo, &second, message).await;
    }

    let counters = demo.counters();
    assert_eq!((counters.token_expiries, counters.token_renewals), (1, 1));
    assert!(10 < refusals, "the new session is written three seconds late: {refusals}");
    assert_eq!(calm.counters().token_expiries, 0);
    assert_eq!((messages.len(), counters.mark_read_requests), (64, 0));
}
