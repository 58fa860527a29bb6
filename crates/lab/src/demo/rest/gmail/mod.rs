//! API of Gmail, version 1, for reading: messages, threads, labels and the history of changes.
//!
//! A folder is a label, and a message without a label was archived. There is no search.

mod error;
mod field_mask;
mod history;
mod labels;
mod messages;
mod page;
mod resource;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use self::error::GmailError;
use self::field_mask::FieldMask;
use self::messages::GmailList;
use self::resource::history_id;
use super::api::{AcceptedCredentials, ApiRefusal, DemoAnswer, DemoApi, DemoApiResponse};
use super::request::DemoRequest;
use crate::demo::mailbox::{GeneratedMailbox, MessageFilter, MessageQuery, SortOrder};

const CHALLENGE: &str = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";

/// API of Gmail for one user.
#[derive(Debug)]
pub(super) struct GmailApi {
    email: String,
}

impl GmailApi {
    pub(super) fn new(email: String) -> Self {
        Self { email }
    }

    fn find_answer(
        &self,
        mailbox: &mut GeneratedMailbox,
        request: &DemoRequest,
    ) -> Result<DemoAnswer, GmailError> {
        let path = request.path();
        let ["gmail", "v1", "users", user, path @ ..] = path.as_slice() else {
            return Err(GmailError::not_found());
        };
        if !request.is_get() {
            return Err(GmailError::not_found());
        }
        if *user != "me" && !user.eq_ignore_ascii_case(&self.email) {
            return Err(GmailError::delegation_denied(user));
        }
        let mask = FieldMask::parse(request.query("fields"))?;
        let mut body = match path {
            ["profile"] => self.profile(mailbox),
            ["messages"] => GmailList::Messages.page(mailbox, request)?,
            ["messages", id] => match request.query("format") {
                Some("raw") => return messages::raw_message(mailbox, id, &mask),
                None | Some("full" | "metadata" | "minimal") => messages::message(mailbox, id)?,
                Some(_) => return Err(GmailError::invalid("Invalid value at 'format'")),
            },
            ["threads"] => GmailList::Threads.page(mailbox, request)?,
            ["threads", id] => match request.query("format") {
                None | Some("full" | "metadata" | "minimal") => messages::thread(mailbox, id)?,
                Some(_) => return Err(GmailError::invalid("Invalid value at 'format'")),
            },
            ["history"] => history::page(mailbox, request)?,
            ["labels"] => labels::list(),
            _ => return Err(GmailError::not_found()),
        };
        mask.apply(&mut body);
        Ok(DemoAnswer::Response(DemoApiResponse::ok(body)))
    }

    fn profile(&self, mailbox: &mut GeneratedMailbox) -> Value {
        let threads = mailbox.query(&MessageQuery {
            filter: MessageFilter::All(Vec::new()),
            order: SortOrder::NewestFirst,
            collapse_threads: true,
        });
        json!({
            "emailAddress": self.email,
            "messagesTotal": mailbox.message_count(),
            "threadsTotal": threads.len(),
            "historyId": history_id(mailbox.change_count()),
        })
    }
}

impl DemoApi for GmailApi {
    fn is_download(&self, request: &DemoRequest) -> bool {
        let path = request.path();
        matches!(path.as_slice(), ["gmail", "v1", "users", _, "messages", _])
            && request.query("format") == Some("raw")
    }

    fn check_credential(
        &self,
        request: &DemoRequest,
        accepted: &AcceptedCredentials<'_>,
    ) -> Option<DemoApiResponse> {
        (!accepted.has_bearer(request))
            .then(|| GmailError::invalid_credentials().response().with_challenge(CHALLENGE))
    }

    fn answer(&self, mailbox: &mut GeneratedMailbox, request: &DemoRequest) -> DemoAnswer {
        self.find_answer(mailbox, request)
            .unwrap_or_else(|error| DemoAnswer::Response(error.response()))
    }

    fn refuse(&self, refusal: ApiRefusal, now: DateTime<Utc>) -> DemoApiResponse {
        let (error, retry_after) = match refusal {
            ApiRefusal::TooManyAtOnce => (GmailError::too_many_at_once(), None),
            ApiRefusal::RateLimited { retry_after: Some(wait) } => {
                // The time stands in the text alone.
                (GmailError::rate_limited_until(now + wait), None)
            }
            ApiRefusal::RateLimited { retry_after: None } => (GmailError::rate_limited(), None),
            ApiRefusal::Unavailable { retry_after } => (GmailError::unavailable(), retry_after),
            ApiRefusal::ServerError => (GmailError::backend_error(), None),
            ApiRefusal::Gone => (GmailError::not_found(), None),
        };
        error.response().with_retry_after(retry_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rest::api::ApiBody;
    use std::time::Duration;

    const USER: &str = "/gmail/v1/users/me";

    /// Answers a request for a resource of the user.
    pub(super) fn answer(mailbox: &mut GeneratedMailbox, resource: &str) -> DemoAnswer {
        let api = GmailApi::new("demo@example.com".to_owned());
        api.answer(mailbox, &DemoRequest::get(&format!("{USER}{resource}")))
    }

    fn refused(refusal: ApiRefusal) -> (u16, Value) {
        let api = GmailApi::new("demo@example.com".to_owned());
        let now = DateTime::from_timestamp(1_800_000_000, 999_400_000).unwrap();
        let response = api.refuse(refusal, now);
        assert_eq!(response.retry_after, None);
        match response.body {
            ApiBody::Json(body) => (response.status.as_u16(), body["error"].clone()),
            ApiBody::Page(page) => panic!("{page}"),
        }
    }

    #[test]
    fn the_profile_names_the_newest_history_id() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        let before = answer(&mut mailbox, "/profile").json(200);
        assert_eq!(before["emailAddress"], "demo@example.com");
        assert_eq!((&before["messagesTotal"], &before["threadsTotal"]), (&json!(32), &json!(20)));

        mailbox.deliver(1);

        let after = answer(&mut mailbox, "/profile").json(200);
        let number = |profile: &Value| profile["historyId"].as_str().unwrap().parse::<u64>();
        assert_eq!(number(&after).unwrap(), number(&before).unwrap() + 1);
    }

    #[test]
    fn a_rate_limit_tells_its_end_in_the_text_or_not_at_all() {
        let wait = Duration::from_secs(2);
        let (status, error) = refused(ApiRefusal::RateLimited { retry_after: Some(wait) });
        assert_eq!((status, &error["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
        let text = "User-rate limit exceeded.  Retry after 2027-01-15T08:00:03.000Z";
        assert_eq!(error["message"], text);

        let (status, error) = refused(ApiRefusal::RateLimited { retry_after: None });
        assert_eq!((status, &error["errors"][0]["reason"]), (403, &json!("rateLimitExceeded")));
        assert_eq!(error["errors"][0]["domain"], "usageLimits");
    }

    #[test]
    fn another_user_an_unknown_format_and_an_unknown_resource_are_refused() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        let api = GmailApi::new("demo@example.com".to_owned());
        let other = DemoRequest::get("/gmail/v1/users/you@example.com/profile");

        let denied = api.answer(&mut mailbox, &other).json(403);
        assert_eq!(denied["error"]["errors"][0]["reason"], "forbidden");
        assert_eq!(denied["error"]["message"], "Delegation denied for you@example.com");
        assert_eq!(answer(&mut mailbox, "/drafts").json(404)["error"]["code"], 404);
        answer(&mut mailbox, "/messages/18c5000000000000?format=json").json(400);
        answer(&mut mailbox, "/threads/18c5000000000000?format=raw").json(400);
        assert_eq!(refused(ApiRefusal::Gone).1["errors"][0]["reason"], "notFound");
    }
}
