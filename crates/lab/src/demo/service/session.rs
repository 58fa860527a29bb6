//! Session object (RFC 8620 §2) and the limits it announces, which the service enforces.

use serde_json::{Value, json};

pub(super) const SESSION_PATH: &str = "/jmap/session";
pub(super) const API_PATH: &str = "/jmap/api/";
pub(super) const DOWNLOAD_PATH: &str = "/jmap/download/";
pub(super) const ACCOUNT_ID: &str = "u-Demo_1";
/// Constant, because the account never changes.
pub(super) const SESSION_STATE: &str = "0";

pub(super) const CORE_CAPABILITY: &str = "urn:ietf:params:jmap:core";
pub(super) const MAIL_CAPABILITY: &str = "urn:ietf:params:jmap:mail";

/// Maximum number of ids in one `/get`, after result references are resolved.
pub(super) const OBJECTS_IN_GET_MAX: usize = 500;
pub(super) const CALLS_IN_REQUEST_MAX: usize = 16;
/// Maximum number of concurrent requests of any kind, bodies included; over IMAP, of connections.
pub(crate) const CONCURRENT_REQUESTS_MAX: u32 = 8;
/// Maximum bytes of a request to the API.
pub(super) const REQUEST_BYTES_MAX: usize = 10_000_000;

/// Returns the session object. Its URLs are relative, as in one widespread server, and are to be
/// resolved against the final session URL.
pub(super) fn session_object(username: &str) -> Value {
    json!({
        "capabilities": {
            CORE_CAPABILITY: {
                "maxSizeUpload": 50_000_000,
                "maxConcurrentUpload": 4,
                "maxSizeRequest": REQUEST_BYTES_MAX,
                "maxConcurrentRequests": CONCURRENT_REQUESTS_MAX,
                "maxCallsInRequest": CALLS_IN_REQUEST_MAX,
                "maxObjectsInGet": OBJECTS_IN_GET_MAX,
                "maxObjectsInSet": OBJECTS_IN_GET_MAX,
                "collationAlgorithms": [],
            },
            MAIL_CAPABILITY: {},
        },
        "accounts": {
            ACCOUNT_ID: {
                "name": username,
                "isPersonal": true,
                "isReadOnly": true,
                "accountCapabilities": {
                    CORE_CAPABILITY: {},
                    MAIL_CAPABILITY: {
                        "maxMailboxesPerEmail": null,
                        "maxMailboxDepth": 1,
                        "maxSizeMailboxName": 255,
                        "maxSizeAttachmentsPerEmail": 50_000_000,
                        "emailQuerySortOptions": ["receivedAt"],
                        "mayCreateTopLevelMailbox": false,
                    },
                },
            },
        },
        "primaryAccounts": { CORE_CAPABILITY: ACCOUNT_ID, MAIL_CAPABILITY: ACCOUNT_ID },
        "username": username,
        "apiUrl": API_PATH,
        "downloadUrl": format!("{DOWNLOAD_PATH}{{accountId}}/{{blobId}}/{{name}}?type={{type}}"),
        "uploadUrl": "/jmap/upload/{accountId}/",
        "eventSourceUrl":
            "/jmap/eventsource/?types={types}&closeafter={closeafter}&ping={ping}",
        "state": SESSION_STATE,
    })
}
