//! API of Microsoft Graph, version 1.0, for reading mail: folders, messages, and delta queries.
//!
//! A message is in one folder only, its home folder, and each is an item. Rows have the same few
//! properties whatever `$select` names.

mod delta;
mod error;
mod folders;
mod ids;
mod link;
mod messages;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use self::error::GraphError;
use self::ids::IdType;
use super::api::{
    AcceptedCredentials, ApiRefusal, DemoAnswer, DemoApi, DemoApiResponse, DemoDownload,
    DownloadFormat,
};
use super::request::DemoRequest;
use crate::demo::mailbox::{GeneratedMailbox, MessageNumber};
use crate::demo::service::BodyFraming;

/// Retry-After of a client with too many requests at once.
const CONCURRENCY_WAIT: Duration = Duration::from_secs(1);

/// API of Microsoft Graph for one user.
#[derive(Debug)]
pub(super) struct GraphApi {
    email: String,
}

impl GraphApi {
    pub(super) fn new(email: String) -> Self {
        Self { email }
    }

    fn find_answer(
        &self,
        mailbox: &mut GeneratedMailbox,
        request: &DemoRequest,
    ) -> Result<DemoAnswer, GraphError> {
        let path = request.path();
        let path = match path.as_slice() {
            ["v1.0", "me", path @ ..] => path,
            ["v1.0", "users", user, path @ ..] if user.eq_ignore_ascii_case(&self.email) => path,
            ["v1.0", "users", ..] => return Err(GraphError::unknown_user()),
            _ => return Err(GraphError::unknown_segment()),
        };
        if !request.is_get() {
            return Err(GraphError::unknown_segment());
        }
        let body = match path {
            [] => self.user(),
            ["mailFolders", "delta"] => folders::page(mailbox, request)?,
            ["mailFolders", id, "messages", "delta"] => {
                let folder = ids::find_folder(mailbox, id)?;
                delta::page(mailbox, request, folder)?
            }
            ["messages"] => messages::page(mailbox, request)?,
            ["messages", id] => {
                let message = ids::find_message(mailbox, id)?;
                messages::row(mailbox, message, IdType::requested(request))
            }
            ["messages", id, "$value"] => {
                let number = ids::find_message(mailbox, id)?;
                let framing = BodyFraming::Chunked;
                let format = DownloadFormat::Octets { media_type: "text/plain", framing };
                return Ok(DemoAnswer::Download(DemoDownload { number, format }));
            }
            _ => return Err(GraphError::unknown_segment()),
        };
        Ok(DemoAnswer::Response(DemoApiResponse::ok(body)))
    }

    fn user(&self) -> Value {
        json!({
            "id": "6ea91a8d-e32e-41a1-b7bd-d2d185eed0e0",
            "displayName": "Demo",
            "mail": self.email,
            "userPrincipalName": self.email,
        })
    }
}

impl DemoApi for GraphApi {
    fn is_download(&self, request: &DemoRequest) -> bool {
        matches!(request.path().as_slice(), ["v1.0", .., "messages", _, "$value"])
    }

    fn check_credential(
        &self,
        request: &DemoRequest,
        accepted: &AcceptedCredentials<'_>,
    ) -> Option<DemoApiResponse> {
        (!accepted.has_bearer(request))
            .then(|| GraphError::invalid_token().response().with_challenge("Bearer realm=\"\""))
    }

    fn answer(&self, mailbox: &mut GeneratedMailbox, request: &DemoRequest) -> DemoAnswer {
        self.find_answer(mailbox, request)
            .unwrap_or_else(|error| DemoAnswer::Response(error.response()))
    }

    fn refuse(&self, refusal: ApiRefusal, _now: DateTime<Utc>) -> DemoApiResponse {
        let (error, retry_after) = match refusal {
            ApiRefusal::TooManyAtOnce => (GraphError::too_many_at_once(), Some(CONCURRENCY_WAIT)),
            ApiRefusal::RateLimited { retry_after } => (GraphError::too_many(), retry_after),
            ApiRefusal::Unavailable { retry_after } => (GraphError::unavailable(), retry_after),
            ApiRefusal::ServerError => (GraphError::internal(), None),
            ApiRefusal::Gone => (GraphError::item_not_found(), None),
        };
        error.response().with_retry_after(retry_after)
    }

    fn is_whole_item(&self, _mailbox: &GeneratedMailbox, _message: MessageNumber) -> bool {
        true
    }

    fn is_further_page(&self, request: &DemoRequest) -> bool {
        let is_delta = matches!(request.path().as_slice(), ["v1.0", .., "messages", "delta"]);
        is_delta && delta::continues_first_round(request)
    }

    fn disturb_listing(&self, _mailbox: &mut GeneratedMailbox) -> Option<DemoApiResponse> {
        Some(GraphError::resync_required().response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{self, HeaderName};

    /// Client that requests ids which survive a move, unless a test says otherwise.
    pub(super) struct GraphTestClient {
        pub(super) mailbox: GeneratedMailbox,
        pub(super) prefer: &'static str,
    }

    impl GraphTestClient {
        pub(super) fn new(items: u32) -> Self {
            let prefer = "IdType=\"ImmutableId\", odata.maxpagesize=4";
            Self { mailbox: GeneratedMailbox::new(1, items), prefer }
        }

        pub(super) fn answer(&mut self, uri: &str) -> DemoAnswer {
            let request = DemoRequest::get(uri)
                .with_header(header::HOST, "127.0.0.1:80")
                .with_header(HeaderName::from_static("prefer"), self.prefer);
            GraphApi::new("demo@example.com".to_owned()).answer(&mut self.mailbox, &request)
        }

        pub(super) fn get(&mut self, uri: &str) -> Value {
            self.answer(uri).json(200)
        }

        /// Follows all links. Returns the rows of each page, and the link of the last one.
        pub(super) fn pages(&mut self, uri: &str) -> (Vec<Vec<Value>>, Option<String>) {
            let (mut pages, mut uri) = (Vec::new(), uri.to_owned());
            loop {
                let page = self.get(&uri);
                pages.push(page["value"].as_array().unwrap().clone());
                let link = |name: &str| page[name].as_str().map(str::to_owned);
                match link("@odata.nextLink") {
                    Some(next) => uri = next,
                    None => return (pages, link("@odata.deltaLink")),
                }
            }
        }

        /// Returns the ids of the folders.
        pub(super) fn folders(&mut self) -> Vec<String> {
            let (pages, _) = self.pages("/v1.0/me/mailFolders/delta");
            row_ids(&pages)
        }
    }

    /// Returns the ids of the rows that are not removals.
    pub(super) fn row_ids(pages: &[Vec<Value>]) -> Vec<String> {
        let rows = pages.iter().flatten().filter(|row| row["@removed"].is_null());
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_message_is_sent_in_chunks_and_a_destroyed_one_is_not_found() {
        let mut client = GraphTestClient::new(5);
        let id = client.get("/v1.0/me/messages")["value"][0]["id"].as_str().unwrap().to_owned();

        let download = client.answer(&format!("/v1.0/me/messages/{id}/$value")).download();

        let framing = BodyFraming::Chunked;
        assert_eq!(download.format, DownloadFormat::Octets { media_type: "text/plain", framing });
        client.mailbox.destroy_message(download.number);
        let gone = client.answer(&format!("/v1.0/me/messages/{id}/$value")).json(404);
        assert_eq!(gone["error"]["code"], "ErrorItemNotFound");
    }

    #[test]
    fn the_user_is_named_in_two_ways() {
        let mut client = GraphTestClient::new(5);

        let me = client.get("/v1.0/me");
        assert_eq!(client.get("/v1.0/users/Demo@example.com"), me);
        let unknown = client.answer("/v1.0/users/you@example.com").json(404);
        assert_eq!(unknown["error"]["code"], "ErrorInvalidUser");
        client.answer("/v1.0/me/events").json(400);
    }

    #[test]
    fn refusals_have_the_codes_of_graph() {
        let api = GraphApi::new(String::new());
        let now = DateTime::default();

        let throttled = api.refuse(ApiRefusal::TooManyAtOnce, now);
        let retry_after = Some(CONCURRENCY_WAIT);
        assert_eq!((throttled.status.as_u16(), throttled.retry_after), (429, retry_after));
        let text = format!("{:?}", throttled.body);
        assert!(text.contains("ApplicationThrottled"), "{text}");
        let resync = api.disturb_listing(&mut GeneratedMailbox::new(1, 1)).unwrap();
        assert_eq!(resync.status.as_u16(), 410);
    }
}
