//! Discovers the service and parses its session resource (RFC 8620 §2), leniently.

use std::collections::BTreeMap;

use cynosure_engine::{AccountId, BlobId, Cause, Failure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell, Semaphore};
use url::Url;

use crate::source::http::{Authorization, ExpectedContent, HttpClient, HttpRequest};
use crate::source::jmap::filter::MailFilter;
use crate::source::jmap::mailbox_paths::MailboxPaths;

const CORE_CAPABILITY: &str = "urn:ietf:params:jmap:core";
const MAIL_CAPABILITY: &str = "urn:ietf:params:jmap:mail";

/// Path of the session resource at a bare origin (RFC 8620 §2.2).
const WELL_KNOWN_PATH: &str = "/.well-known/jmap";

// Minimum limits of a server (RFC 8620 §2), for servers that announce none.
const DEFAULT_CONCURRENT_REQUESTS: usize = 4;
const DEFAULT_OBJECTS_IN_GET: usize = 500;
const DEFAULT_REQUEST_BYTES: usize = 10_000_000;

/// Media type that gives no proxy or server a reason to change the bytes.
const DOWNLOAD_TYPE: &str = "application/octet-stream";
/// File name for the download, which the server only repeats in a header that nothing reads.
const DOWNLOAD_NAME: &str = "message.eml";

/// Characters that are percent-encoded: all but the unreserved ones (RFC 6570 §3.2.2).
const ENCODED_CHARS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Session of one account, with the limits of its server.
pub(super) struct JmapSession {
    pub(super) account: AccountId,
    pub(super) api_url: Url,
    pub(super) max_objects_in_get: usize,
    pub(super) max_request_bytes: usize,
    /// One permit for each concurrent request that the server allows.
    pub(super) request_permits: Semaphore,
    /// Filter with the selected mailboxes, resolved when first needed.
    pub(super) filter: OnceCell<MailFilter>,
    /// Paths of the mailboxes, as far as listed emails needed them.
    pub(super) mailbox_paths: Mutex<MailboxPaths>,
    base_url: Url,
    download_template: String,
    known_states: Vec<String>,
}

/// Session resource. Servers omit many mandatory fields or set them to null.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionResource {
    capabilities: BTreeMap<String, Value>,
    accounts: BTreeMap<String, Value>,
    primary_accounts: Option<BTreeMap<String, Value>>,
    api_url: String,
    download_url: String,
    state: Option<String>,
}

/// Requests the session from the configured URL.
///
/// `announced` is the session state of an earlier response. It counts as the state of the new
/// session whatever state that reports; otherwise a server that mixes them up would be queried
/// forever.
pub(super) async fn discover(
    client: &HttpClient,
    configured: &Url,
    authorization: &Authorization,
    announced: Option<String>,
) -> Result<JmapSession, Failure> {
    let mut url = configured.clone();
    if url.path() == "/" {
        url.set_path(WELL_KNOWN_PATH);
    }
    let location = format!("{}{}", url.origin().ascii_serialization(), url.path());
    let request = HttpRequest::get(&url, ExpectedContent::Json, authorization);

    let response = client.fetch_buffered(&request).await.map_err(|error| {
        if error.failure.cause == Cause::NotFound {
            let message = format!("there is no JMAP service at {location} (404): check `url`");
            let response = error.failure.response;
            return Failure { response, ..Failure::new(Cause::NotFound, message) };
        }
        error.failure
    })?;
    let session = parse_session(&response.body, response.url, announced).map_err(|reason| {
        let reason = authorization.secrets().mask(&reason);
        let message = format!("{location} is no JMAP service ({reason}): check `url`");
        Failure::new(Cause::NotFound, message)
    })?;
    client.check_origin(&session.api_url)?;
    client.check_origin(&session.download_url(&BlobId::new("blob"))?)?;
    Ok(session)
}

fn parse_session(body: &[u8], base: Url, announced: Option<String>) -> Result<JmapSession, String> {
    let resource: SessionResource =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if !resource.capabilities.contains_key(MAIL_CAPABILITY) {
        return Err("it has no mail capability".to_owned());
    }
    let account = find_account(&resource)
        .map(AccountId::new)
        .ok_or("it has no mail account for this credential")?;
    let api_url = base.join(&resource.api_url).map_err(|_invalid| "its apiUrl is not a URL")?;
    let core = resource.capabilities.get(CORE_CAPABILITY);
    let limit = |name: &str, default: usize| {
        let reported = core.and_then(|core| core.get(name)?.as_u64()).filter(|limit| 0 < *limit);
        reported.map_or(default, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    };
    let max_concurrent = limit("maxConcurrentRequests", DEFAULT_CONCURRENT_REQUESTS);

    Ok(JmapSession {
        account,
        api_url,
        max_objects_in_get: limit("maxObjectsInGet", DEFAULT_OBJECTS_IN_GET),
        max_request_bytes: limit("maxSizeRequest", DEFAULT_REQUEST_BYTES),
        request_permits: Semaphore::new(max_concurrent.min(Semaphore::MAX_PERMITS)),
        filter: OnceCell::new(),
        mailbox_paths: Mutex::default(),
        base_url: base,
        known_states: resource.state.into_iter().chain(announced).collect(),
        download_template: resource.download_url,
    })
}

/// Returns the primary mail account, or the only account.
fn find_account(resource: &SessionResource) -> Option<String> {
    let primary = resource
        .primary_accounts
        .as_ref()
        .and_then(|primary| primary.get(MAIL_CAPABILITY)?.as_str());
    let only = || resource.accounts.keys().next().filter(|_| resource.accounts.len() == 1).cloned();
    primary.map(str::to_owned).or_else(only)
}

impl JmapSession {
    /// Returns true if a response with this session state belongs to this session.
    pub(super) fn is_current(&self, state: &str) -> bool {
        self.known_states.iter().any(|known| known == state)
    }

    /// Returns the page size of a listing: no more than Email/get can read at once.
    pub(super) fn page_size(&self, max: u32) -> u32 {
        u32::try_from(self.max_objects_in_get).unwrap_or(u32::MAX).min(max).max(1)
    }

    /// Returns the download URL of a blob (RFC 8620 §6.2, a level 1 template of RFC 6570).
    ///
    /// # Errors
    /// Returns an error if the template does not produce a URL.
    pub(super) fn download_url(&self, blob: &BlobId) -> Result<Url, Failure> {
        let values = [
            ("{accountId}", self.account.as_str()),
            ("{blobId}", blob.as_str()),
            ("{type}", DOWNLOAD_TYPE),
            ("{name}", DOWNLOAD_NAME),
        ];
        let mut text = self.download_template.clone();
        for (name, value) in values {
            // Braces in a value are encoded, so a value cannot contain another variable's name.
            text = text.replace(name, &utf8_percent_encode(value, ENCODED_CHARS).to_string());
        }
        self.base_url.join(&text).map_err(|_invalid| {
            Failure::new(Cause::Challenge, "the server's downloadUrl is not a valid URL template")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(json: &str) -> Result<JmapSession, String> {
        let base =
            Url::parse("https://mail.example.com/jmap/session").map_err(|e| e.to_string())?;
        parse_session(json.as_bytes(), base, Some("announced".to_owned()))
    }

    #[test]
    fn a_session_with_nulls_gaps_and_relative_urls_is_parsed() {
        let session = parse_text(
            r#"{"capabilities": {"urn:ietf:params:jmap:core": {"maxObjectsInGet": 4096},
                                 "urn:ietf:params:jmap:mail": {"emailsListSortOptions": []}},
                "accounts": {"alice": {"accountCapabilities": null}},
                "primaryAccounts": {"urn:ietf:params:jmap:mail": "alice"},
                "apiUrl": "/jmap/", "downloadUrl": "/jmap/download/{accountId}/{blobId}/{name}?accept={type}",
                "state": "0"}"#,
        )
        .unwrap();

        assert_eq!(session.account.as_str(), "alice");
        assert_eq!(session.api_url.as_str(), "https://mail.example.com/jmap/");
        assert_eq!(session.max_objects_in_get, 4096);
        assert_eq!(session.request_permits.available_permits(), DEFAULT_CONCURRENT_REQUESTS);
        assert!(session.is_current("0"));
        assert!(session.is_current("announced"));
        assert!(!session.is_current("1"));
    }

    #[test]
    fn template_values_are_percent_encoded() {
        let session = parse_text(
            r#"{"capabilities": {"urn:ietf:params:jmap:mail": {}}, "accounts": {"a": {}},
                "apiUrl": "api", "downloadUrl": "get/{accountId}/{blobId}?type={type}&name={name}"}"#,
        )
        .unwrap();

        let url = session.download_url(&BlobId::new("../x?{name}#ü")).unwrap();

        assert_eq!(
            url.as_str(),
            "https://mail.example.com/jmap/get/a/..%2Fx%3F%7Bname%7D%23%C3%BC\
             ?type=application%2Foctet-stream&name=message.eml"
        );
    }

    #[test]
    fn an_invalid_session_error_gives_the_reason() {
        for (json, reason) in [
            ("[]", "invalid"),
            ("{}", "missing field"),
            (r#"{"capabilities": {}, "accounts": {}, "apiUrl": "", "downloadUrl": ""}"#, "no mail"),
            (
                r#"{"capabilities": {"urn:ietf:params:jmap:mail": {}}, "accounts": {"a": {}, "b": {}},
                    "apiUrl": "", "downloadUrl": ""}"#,
                "no mail account",
            ),
        ] {
            let error = parse_text(json).err().unwrap();
            assert!(error.contains(reason), "{error}");
        }
    }
}
