//! API of the website of mail.ru, for reading: folders, threads, and the octets of messages.
//!
//! Every response is an envelope with its true status, and has the HTTP status 200 also for most
//! errors. A message is in one folder only, its home folder. A thread with messages in two folders
//! is listed in both, each time with the messages of that folder.

mod error;
mod ids;
mod threads;

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use serde_json::{Value, json};

use self::error::MailruError;
use self::ids::{find_folder, find_message};
use super::api::{
    AcceptedCredentials, ApiRefusal, DemoAnswer, DemoApi, DemoApiResponse, DemoDownload,
    DownloadFormat,
};
use super::request::DemoRequest;
use crate::demo::mailbox::GeneratedMailbox;
use crate::demo::service::BodyFraming;
use crate::demo::web_session::WebSession;

/// Pages of the web server in front of the API.
const NOT_FOUND_PAGE: &str = "<!DOCTYPE html><html><head><title>404</title></head>\
                              <body><h1>404 Not Found</h1></body></html>";
const TOO_MANY_PAGE: &str = "<html><head><title>429 Too Many Requests</title>\
                             </head><body>nginx</body></html>";
const UNAVAILABLE_PAGE: &str = "<html><head><title>503 Service Temporarily Unavailable</title>\
                                </head><body>nginx</body></html>";

/// Unix second that every response names, although the mailbox changes: no client may rely on it.
const LAST_MODIFIED: u32 = 1_767_225_600;

/// Messages that are delivered in the middle of a listing. Some are replies, whose threads move to
/// its beginning.
const DELIVERIES_DURING_LISTING: u32 = 5;

/// API of mail.ru for one user.
#[derive(Debug)]
pub(super) struct MailruApi {
    email: String,
}

impl MailruApi {
    pub(super) fn new(email: String) -> Self {
        Self { email }
    }

    fn find_answer(
        mailbox: &mut GeneratedMailbox,
        request: &DemoRequest,
    ) -> Result<Value, MailruError> {
        match request.path().as_slice() {
            ["api", "v1", "folders"] => Ok(threads::folders(mailbox)),
            ["api", "v1", "threads", "status", "smart"] => threads::list(mailbox, request),
            ["api", "v1", "threads", "thread"] => threads::thread(mailbox, request),
            _ => Err(MailruError::UnknownMethod),
        }
    }

    /// Finds the message that a form names by its id and its folder.
    fn find_download(
        mailbox: &GeneratedMailbox,
        request: &DemoRequest,
    ) -> Result<DemoAnswer, MailruError> {
        let folder_id = request.form("folder_id").unwrap_or_default();
        let folder = find_folder(folder_id)
            .ok_or_else(|| MailruError::field("folder_id", "invalid", folder_id))?;
        let id = request.form("id").unwrap_or_default();
        let number = find_message(mailbox, id)
            .filter(|message| mailbox.home_folder(*message) == folder)
            .ok_or_else(|| MailruError::field("id", "not_exist", id))?;
        let framing = BodyFraming::Length;
        let format = DownloadFormat::Octets { media_type: "message/rfc822", framing };
        Ok(DemoAnswer::Download(DemoDownload { number, format }))
    }

    /// Returns the body of a response.
    fn envelope(&self, status: u16, body: &Value) -> Value {
        json!({
            "status": status,
            "htmlencoded": false,
            "email": self.email,
            "last_modified": LAST_MODIFIED,
            "body": body,
        })
    }

    fn error_response(&self, error: &MailruError) -> DemoApiResponse {
        match error {
            MailruError::UnknownMethod => {
                DemoApiResponse::page(StatusCode::NOT_FOUND, NOT_FOUND_PAGE)
            }
            MailruError::Status { status, body } => {
                DemoApiResponse::ok(self.envelope(*status, body))
            }
        }
    }
}

impl DemoApi for MailruApi {
    fn is_download(&self, request: &DemoRequest) -> bool {
        request.is_post() && request.path() == ["api", "v1", "messages", "message", "download"]
    }

    fn check_credential(
        &self,
        request: &DemoRequest,
        accepted: &AcceptedCredentials<'_>,
    ) -> Option<DemoApiResponse> {
        let with_password = WebSession::from_password(accepted.password, accepted.username);
        let with_token =
            accepted.token.map(|token| WebSession::from_secret(token, accepted.username));
        let sessions = [Some(with_password), with_token].into_iter().flatten();
        let mismatches: Option<Vec<&str>> =
            sessions.map(|session| find_mismatch(&session, request)).collect();
        // It is `None` if one of the sessions has no mismatch.
        let mismatch = mismatches?.pop()?;
        let error = MailruError::Status { status: 403, body: mismatch.into() };
        Some(self.error_response(&error))
    }

    fn answer(&self, mailbox: &mut GeneratedMailbox, request: &DemoRequest) -> DemoAnswer {
        let answer = if self.is_download(request) {
            Self::find_download(mailbox, request)
        } else if request.is_get() {
            Self::find_answer(mailbox, request)
                .map(|body| DemoAnswer::Response(DemoApiResponse::ok(self.envelope(200, &body))))
        } else {
            Err(MailruError::UnknownMethod)
        };
        answer.unwrap_or_else(|error| DemoAnswer::Response(self.error_response(&error)))
    }

    fn refuse(&self, refusal: ApiRefusal, _now: DateTime<Utc>) -> DemoApiResponse {
        match refusal {
            ApiRefusal::TooManyAtOnce => {
                DemoApiResponse::page(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_PAGE)
            }
            // Clients wait for minutes after the words that the API itself has for it.
            ApiRefusal::RateLimited { retry_after } => {
                DemoApiResponse::page(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_PAGE)
                    .with_retry_after(retry_after)
            }
            ApiRefusal::Unavailable { retry_after } => {
                DemoApiResponse::page(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE_PAGE)
                    .with_retry_after(retry_after)
            }
            ApiRefusal::ServerError => {
                let body = self.envelope(500, &"STORAGE_UNAVAILABLE".into());
                DemoApiResponse::json(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
            ApiRefusal::Gone => self.error_response(&MailruError::field("id", "not_exist", "")),
        }
    }

    fn is_further_page(&self, request: &DemoRequest) -> bool {
        let offset = request.query("offset").unwrap_or_default();
        request.path() == ["api", "v1", "threads", "status", "smart"] && !matches!(offset, "" | "0")
    }

    fn disturb_listing(&self, mailbox: &mut GeneratedMailbox) -> Option<DemoApiResponse> {
        mailbox.deliver(DELIVERIES_DURING_LISTING);
        None
    }

    fn marks_as_read(&self, request: &DemoRequest) -> bool {
        let value = request.query("mark_read").or_else(|| request.form("mark_read"));
        match request.path().as_slice() {
            ["api", "v1", "threads", "thread"] | ["api", "v1", "messages", "message", ..] => {
                value != Some("false")
            }
            _ => value.is_some_and(|value| value != "false"),
        }
    }
}

/// Returns the word for the part of a session that a request does not have.
fn find_mismatch(session: &WebSession, request: &DemoRequest) -> Option<&'static str> {
    let parameter = |name| request.query(name).or_else(|| request.form(name));
    if session.cookies().any(|(name, value)| request.cookie(name) != Some(value)) {
        Some("nosdc")
    } else if parameter("email") != Some(session.email.as_str()) {
        Some("user")
    } else if parameter("token") != Some(session.token.as_str()) {
        Some("token")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::mailbox::Folder;
    use crate::demo::rest::api::ApiBody;
    use hyper::header;

    /// Answers a request for a method of the API.
    pub(super) fn answer(mailbox: &mut GeneratedMailbox, method: &str) -> Value {
        api().answer(mailbox, &DemoRequest::get(&format!("/api/v1{method}"))).json(200)
    }

    fn api() -> MailruApi {
        MailruApi::new("demo@example.com".to_owned())
    }

    fn download(mailbox: &mut GeneratedMailbox, form: &str) -> DemoAnswer {
        let request = DemoRequest::post("/api/v1/messages/message/download", form);
        assert!(api().is_download(&request));
        api().answer(mailbox, &request)
    }

    /// Returns the status and the body of the envelope for a session; `None` if it is accepted.
    fn refused(cookies: &str, query: &str) -> Option<(Value, Value)> {
        let accepted = AcceptedCredentials {
            token: Some("demo-0123456789abcdef"),
            username: "demo@example.com",
            password: "demo",
        };
        let request = DemoRequest::get(&format!("/api/v1/folders?{query}"))
            .with_header(header::COOKIE, cookies);
        api().check_credential(&request, &accepted).map(|response| match response.body {
            ApiBody::Json(body) => {
                assert_eq!(response.status, StatusCode::OK);
                (body["status"].clone(), body["body"].clone())
            }
            ApiBody::Page(page) => panic!("{page}"),
        })
    }

    #[test]
    fn a_session_needs_every_cookie_the_address_and_the_token() {
        let session = WebSession::from_secret("demo-0123456789abcdef", "demo@example.com");
        let cookies: Vec<String> =
            session.cookies().map(|(name, value)| format!("{name}={value}")).collect();
        let token = session.token.replace('=', "%3D");
        let query = format!("email=demo%40example.com&token={token}");
        assert_eq!(refused(&cookies.join("; "), &query), None);
        let with_password = "Mpop=demo; sdcs=demo; ssdc=demo";
        assert_eq!(refused(with_password, "email=demo@example.com&token=demo"), None);

        let word = |word: &str| Some((json!(403), json!(word)));
        assert_eq!(refused(&cookies[..2].join("; "), &query), word("nosdc"));
        assert_eq!(refused("", &query), word("nosdc"));
        assert_eq!(
            refused(&cookies.join("; "), "email=demo@example.com&token=demo"),
            word("token")
        );
        let wrong_email = format!("email=you@example.com&token={token}");
        assert_eq!(refused(&cookies.join("; "), &wrong_email), word("user"));
    }

    #[test]
    fn a_message_is_downloaded_from_its_folder_only() {
        let mut mailbox = GeneratedMailbox::new(1, 40);
        let message = mailbox.home_messages(Folder::Trash)[0];
        let id = ids::message_id(&mailbox, message);

        let found =
            download(&mut mailbox, &format!("id={id}&folder_id=500002&mark_read=false")).download();
        assert_eq!(found.number, message);

        let elsewhere = download(&mut mailbox, &format!("id={id}&folder_id=0")).json(200);
        assert_eq!(elsewhere["body"]["id"]["error"], "not_exist");
        let nowhere = download(&mut mailbox, &format!("id={id}")).json(200);
        assert_eq!(nowhere["body"]["folder_id"]["error"], "invalid");
        mailbox.destroy_message(message);
        let gone = download(&mut mailbox, &format!("id={id}&folder_id=500002")).json(200);
        assert_eq!((&gone["status"], &gone["body"]["id"]["value"]), (&json!(404), &json!(id)));
    }

    #[test]
    fn only_requests_with_mark_read_false_leave_mail_unread() {
        let marks = |uri: &str| api().marks_as_read(&DemoRequest::get(uri));
        let post = |form| {
            let request = DemoRequest::post("/api/v1/messages/message/download", form);
            api().marks_as_read(&request)
        };

        assert!(!marks("/api/v1/threads/thread?id=1&mark_read=false"));
        assert!(marks("/api/v1/threads/thread?id=1"));
        assert!(marks("/api/v1/threads/thread?id=1&mark_read=true"));
        assert!(!marks("/api/v1/threads/status/smart?folder=0"));
        assert!(marks("/api/v1/threads/status/smart?folder=0&mark_read=1"));
        assert!(post("id=1&folder_id=0") && !post("id=1&folder_id=0&mark_read=false"));
    }

    #[test]
    fn the_first_page_of_a_listing_is_never_disturbed() {
        let is_further_page = |query: &str| {
            let uri = format!("/api/v1/threads/status/smart?folder=0{query}");
            api().is_further_page(&DemoRequest::get(&uri))
        };

        assert!(!is_further_page("") && !is_further_page("&offset=0"));
        assert!(is_further_page("&offset=45"));
        let mut mailbox = GeneratedMailbox::new(1, 40);
        assert_eq!(api().disturb_listing(&mut mailbox), None);
        assert_eq!(mailbox.message_count(), 69);
    }

    #[test]
    fn an_unknown_method_is_a_page() {
        let mut mailbox = GeneratedMailbox::new(1, 1);

        let answer = api().answer(&mut mailbox, &DemoRequest::get("/api/v1/messages/send"));

        let page = DemoApiResponse::page(StatusCode::NOT_FOUND, NOT_FOUND_PAGE);
        assert_eq!(answer, DemoAnswer::Response(page));
    }
}
