//! Requests whose response is JSON.

use cynosure_engine::rest::{
    DocumentValues, PageTarget, PageValues, RequestTemplate, RowError, TableName,
};
use cynosure_engine::{Cause, Failure};
use serde_json::Value;

use crate::source::http::{BufferLimits, ExpectedContent};
use crate::source::rest::source::RestSource;

/// Limit of a response in memory. A page of 1,000 rows has less than a megabyte; a list with whole
/// documents in it needs smaller pages.
const RESPONSE_LIMITS: BufferLimits = BufferLimits::bytes(16 << 20);

/// Request of a table, and the values for its templates.
#[derive(Clone, Debug)]
pub(super) struct RestCall<'a> {
    pub(super) table: TableName,
    pub(super) request: &'a RequestTemplate,
    pub(super) values: CallValues<'a>,
    /// Parameters of the page.
    pub(super) arguments: Vec<(PageTarget, String)>,
    /// URL of a link or a cursor, in place of that of the request. It may be relative.
    pub(super) url: Option<&'a str>,
}

/// Values of a request, besides the options and the credential.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallValues<'a> {
    pub(super) part: Option<&'a str>,
    pub(super) item: Option<&'a str>,
    pub(super) document: Option<&'a DocumentValues>,
    pub(super) page: PageValues,
    pub(super) cursor: Option<&'a str>,
}

/// Response to a call.
#[derive(Debug)]
pub(super) struct RestResponse {
    pub(super) body: Value,
    /// URL of the next page in the `Link` header.
    pub(super) next_link: Option<String>,
}

impl RestSource {
    /// Sends a request whose response is JSON, and checks its sign of success.
    ///
    /// # Errors
    /// The failure of the response, classified by the rules of the user, then by those of the
    /// profile; that of the account, if it is another one or unknown.
    pub(super) async fn call(&self, call: RestCall<'_>) -> Result<RestResponse, Failure> {
        self.account_id().await?;
        self.send(call).await
    }

    /// Sends a request as [`call`](Self::call) does, for whatever account.
    pub(super) async fn send(&self, call: RestCall<'_>) -> Result<RestResponse, Failure> {
        let credential = self.request_credential().await?;
        let built = self.build_request(&call, &credential)?;
        let media_type = self.profile().ok.as_ref().and_then(|ok| ok.media_type.as_deref());
        let expected = media_type.map_or(ExpectedContent::Json, ExpectedContent::JsonOfType);
        let request = self.http_request(&built, call.table, expected, &credential);

        let mut response = self.client.fetch_limited(&request, Some(RESPONSE_LIMITS)).await?;
        let mut body: Value = match serde_json::from_slice(&response.body) {
            Ok(body) => body,
            Err(error) => {
                let cause = if error.is_eof() { Cause::Truncated } else { Cause::Challenge };
                let error = credential.authorization.secrets().mask(&error.to_string());
                let message = format!("the JSON of {} cannot be parsed: {error}", self.host());
                let failure = Failure::new(cause, message);
                return Err(self.client.report_body_error(&request, &mut response, failure));
            }
        };
        credential.remove_secrets(&mut body);
        let next_link = response.next_link().map(|link| {
            let absolute = response.url.join(&link).map_or(link, String::from);
            credential.without_secrets(absolute)
        });
        Ok(RestResponse { body, next_link })
    }
}

/// Returns the failure of a response that does not agree with the profile.
pub(super) fn profile_mismatch(source: &RestSource, error: RowError) -> Failure {
    let RowError(sentence) = error;
    mismatch(&source.profile_label(), &sentence)
}

/// Returns the failure of a response that does not agree with the profile of this name.
pub(super) fn mismatch(profile_label: &str, sentence: &str) -> Failure {
    Failure::new(Cause::Unknown, format!("{profile_label}: {sentence}"))
}

/// Changes the cause of a failure of the whole service, so that it does not count against the
/// document.
pub(super) fn as_service_failure(failure: Failure) -> Failure {
    if matches!(failure.cause, Cause::NotFound | Cause::Forbidden | Cause::TooLarge) {
        return Failure { cause: Cause::Challenge, ..failure };
    }
    failure
}

#[cfg(test)]
mod tests {
    use cynosure_engine::rest::{
        AccountTable, JsonPath, OkRule, PageTargetPlace, ProfileErrorRule, RequestBodyTemplate,
        RestMethod, RestProfile, ValueCondition, ValueTest,
    };
    use cynosure_engine::{AccountId, Scalar};
    use serde_json::json;

    use super::*;
    use crate::source::Source as _;
    use crate::source::rest::options::{RestAuth, RestOptions};
    use crate::source::rest::test_server::{
        ScriptedHttpServer, bytes_table, get, json_response, named, open_source, options, profile,
        response, source,
    };

    const SECRET: &str = "s3cret key";

    fn call_of(request: &RequestTemplate) -> RestCall<'_> {
        RestCall {
            table: TableName::List,
            request,
            values: CallValues::default(),
            arguments: Vec::new(),
            url: None,
        }
    }

    fn plain_profile() -> RestProfile {
        profile(bytes_table("/raw/{document.id}"))
    }

    /// Returns a profile whose JSON has `/status` 200 if it is a success.
    fn status_profile() -> RestProfile {
        let at = JsonPath::parse("/status").unwrap();
        let media_type = Some("application/json".to_owned());
        let ok = OkRule { at, is: vec![Scalar::Integer(200)], media_type };
        RestProfile { ok: Some(ok), ..plain_profile() }
    }

    /// Returns the failure of a call by a profile to a server that always sends this.
    async fn failure_of(profile: RestProfile, bytes: Vec<u8>) -> Failure {
        let server = ScriptedHttpServer::start(move |_| bytes.clone()).await;
        let request = get("/list");
        open_source(&server, profile).call(call_of(&request)).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_request_has_all_parameters_of_the_profile() {
        let server = ScriptedHttpServer::start(|_| json_response("200 OK", "{}")).await;
        let profile = RestProfile {
            options: named(&[("size", "50"), ("agent", "Fox {account}")]).into_iter().collect(),
            headers: named(&[("User-Agent", "{options.agent}")]),
            query: named(&[("lang", "en"), ("limit", "1")]),
            ..plain_profile()
        };
        let request = RequestTemplate {
            method: RestMethod::Post,
            query: named(&[("limit", "{options.size}"), ("$select", "a b")]),
            body: RequestBodyTemplate::Form(named(&[("id", "{item.id}")])),
            ..get("/items/{item.id}")
        };
        let argument =
            |place, name: &str| (PageTarget { place, name: name.to_owned() }, "7".to_owned());
        let call = RestCall {
            values: CallValues { item: Some("a/b&c"), ..CallValues::default() },
            arguments: vec![
                argument(PageTargetPlace::Query, "offset"),
                argument(PageTargetPlace::Form, "page"),
            ],
            ..call_of(&request)
        };
        let auth = RestAuth::Query { name: "key".to_owned() };

        source(options(&server.url, profile, auth), SECRET).call(call).await.unwrap();

        assert_eq!(
            server.targets(),
            ["POST /api/items/a%2Fb%26c?lang=en&limit=50&%24select=a+b&offset=7&key=s3cret+key"]
        );
        let request = server.requests()[0].to_ascii_lowercase();
        assert!(request.contains("user-agent: fox me@mail.example\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\nid=a%2fb%26c&page=7"), "{request}");
    }

    #[tokio::test]
    async fn a_session_sends_its_cookies_and_its_query() {
        let server = ScriptedHttpServer::start(|_| json_response("200 OK", "{}")).await;
        let auth = RestAuth::Session {
            cookies: vec!["Mpop".to_owned()],
            query: named(&[("token", "{credential.token}")]),
        };
        let session = r#"{"token": "t0ken", "cookies": {"Mpop": "c00kie", "other": "x"}}"#;
        let request = get("/list");

        let rest = source(options(&server.url, plain_profile(), auth.clone()), session);
        rest.call(call_of(&request)).await.unwrap();

        assert_eq!(server.targets(), ["GET /api/list?token=t0ken"]);
        assert!(server.requests()[0].contains("cookie: Mpop=c00kie\r\n"));
        let headers = named(&[("X-Agent", "{credential.user_agent}")]);
        let profile = RestProfile { headers, ..plain_profile() };
        let rest = source(options(&server.url, profile, auth), session);
        let failure = rest.call(call_of(&request)).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Unauthorized);
        assert!(failure.message.contains("`user_agent`"), "{failure}");
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_secret_in_the_url_is_in_no_failure_and_no_link() {
        let server = ScriptedHttpServer::start(|request| {
            if request.contains("/refused") {
                let body = r#"{"error": {"message": "key=s3cret+key or s3cret%20key is wrong"}}"#;
                return json_response("403 No", body);
            }
            json_response("200 OK", r#"{"next": "/api/list?page=2&key=s3cret%20key", "key": "x"}"#)
        })
        .await;
        let auth = RestAuth::Query { name: "key".to_owned() };
        let rest = source(options(&server.url, plain_profile(), auth), SECRET);
        let (list, refused) = (get("/list"), get("/refused"));

        let response = rest.call(call_of(&list)).await.unwrap();
        assert_eq!(response.body, json!({"next": "/api/list?page=2", "key": "x"}));
        let next = response.body["next"].as_str();
        rest.call(RestCall { url: next, ..call_of(&list) }).await.unwrap();
        assert_eq!(server.targets()[1], "GET /api/list?page=2&key=s3cret+key");

        let failure = rest.call(call_of(&refused)).await.unwrap_err();
        let shown = format!("{failure:?} {rest:?}");
        assert!(shown.contains("403 from 127.0.0.1"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[tokio::test]
    async fn a_link_leads_to_the_same_origin_only() {
        let server = ScriptedHttpServer::start(|_| json_response("200 OK", "{}")).await;
        let rest = open_source(&server, plain_profile());
        let (request, cursor_request) = (get("/list/all"), get("{cursor}"));
        let origin = server.url.origin().ascii_serialization();
        let with_link = |url| RestCall { url: Some(url), ..call_of(&request) };
        let whole_url = format!("{origin}/other?x");

        for (link, target) in [
            ("?page=2", "GET /api/list/all?page=2"),
            ("more?a=%20+", "GET /api/list/more?a=%20+"),
            (&*whole_url, "GET /other?x"),
        ] {
            rest.call(with_link(link)).await.unwrap();
            assert_eq!(server.targets().last().map(String::as_str), Some(target));
        }
        let cursor = format!("{origin}/api/delta?token=1");
        let values = CallValues { cursor: Some(&cursor), ..CallValues::default() };
        rest.call(RestCall { values, ..call_of(&cursor_request) }).await.unwrap();
        assert_eq!(server.targets()[3], "GET /api/delta?token=1");
        let target = PageTarget { place: PageTargetPlace::Query, name: "page".to_owned() };
        let arguments = vec![(target, "t".to_owned())];
        rest.call(RestCall { values, arguments, ..call_of(&cursor_request) }).await.unwrap();
        assert_eq!(server.targets()[4], "GET /api/delta?token=1&page=t");

        for link in ["https://other.example/", "//other.example/", "file:///etc/passwd"] {
            let failure = rest.call(with_link(link)).await.unwrap_err();
            assert_eq!(failure.cause, Cause::Challenge, "{link}");
            assert!(failure.message.contains("allow_hosts"), "{failure}");
        }
        let failure = rest.call(with_link("http://[")).await.unwrap_err();
        assert!(failure.message.contains("is not a URL"), "{failure}");
        assert_eq!(server.requests().len(), 5);
    }

    #[tokio::test]
    async fn the_next_link_of_the_header_is_absolute() {
        let server = ScriptedHttpServer::start(|_| {
            let type_and_link = "application/json\r\nLink: <?page=2>; rel=\"next\"";
            response("200 OK", type_and_link, "{}")
        })
        .await;
        let request = get("/list");

        let response = open_source(&server, plain_profile()).call(call_of(&request)).await.unwrap();

        assert_eq!(response.next_link, Some(format!("{}/list?page=2", server.url)));
    }

    #[tokio::test]
    async fn json_without_the_sign_of_success_counts_as_its_status() {
        for (body, cause) in [
            (r#"{"status": 429}"#, Cause::RateLimit),
            (r#"{"status": 403, "body": "token"}"#, Cause::Forbidden),
            (r#"{"status": 503}"#, Cause::Server),
            (r#"{"status": 404}"#, Cause::NotFound),
            (r#"{"status": 302}"#, Cause::Challenge),
            (r#"{"status": 7}"#, Cause::Unknown),
            (r#"{"status": "200"}"#, Cause::Unknown),
            (r#"{"status": null}"#, Cause::Unknown),
            ("[]", Cause::Unknown),
        ] {
            let failure = failure_of(status_profile(), json_response("200 OK", body)).await;

            assert_eq!(failure.cause, cause, "{body}");
            assert!(failure.message.contains("but `[ok] at` = \"/status\" is "), "{failure}");
            assert_eq!(failure.response.unwrap().body, body);
        }
    }

    #[tokio::test]
    async fn a_code_of_an_api_is_no_http_status() {
        let at = JsonPath::parse("/code").unwrap();
        let ok = OkRule { at, is: vec![Scalar::Integer(0)], media_type: None };
        let profile = RestProfile { ok: Some(ok), ..plain_profile() };

        let failure = failure_of(profile, json_response("200 OK", r#"{"code": 404}"#)).await;

        assert_eq!(failure.cause, Cause::Unknown, "{failure}");
        assert!(failure.message.contains("\"/code\" is \"404\""), "{failure}");
    }

    #[tokio::test]
    async fn rules_of_the_profile_come_before_the_status_in_the_body() {
        let rule = ProfileErrorRule {
            tables: Vec::new(),
            statuses: Vec::new(),
            values: vec![ValueCondition {
                at: JsonPath::parse("/body").unwrap(),
                test: ValueTest::Is(vec![Scalar::Text("token".to_owned())]),
            }],
            cause: Cause::Unauthorized,
            wait: None,
            message: Some("save the session again".to_owned()),
            reported_wait: None,
            location: String::new(),
        };
        let profile = || RestProfile { errors: vec![rule.clone()], ..status_profile() };
        let refused = r#"{"status": 403, "body": "token", "message": "no"}"#;

        let failure = failure_of(profile(), json_response("200 OK", refused)).await;
        assert_eq!(failure.cause, Cause::Unauthorized);
        assert_eq!(
            failure.message,
            "200 from 127.0.0.1, but `[ok] at` = \"/status\" is \"403\": \"no\"; save the session \
             again"
        );
        let failure = failure_of(profile(), json_response("500 Oops", refused)).await;
        assert_eq!(failure.cause, Cause::Unauthorized);
        let failure = failure_of(profile(), json_response("500 Oops", "{}")).await;
        assert_eq!(failure.cause, Cause::Server);
    }

    #[tokio::test]
    async fn anything_but_complete_json_is_a_failure() {
        for (media_type, body, cause) in [
            ("text/html", "<html>", Cause::Challenge),
            ("application/problem+json", r#"{"status": 200}"#, Cause::Challenge),
            ("application/json", r#"{"status": 200, "#, Cause::Truncated),
            ("application/json", "<html>", Cause::Challenge),
        ] {
            let failure = failure_of(status_profile(), response("200 OK", media_type, body)).await;

            assert_eq!(failure.cause, cause, "{media_type} {body}");
        }
    }

    #[tokio::test]
    async fn the_account_is_asked_for_once() {
        let server = ScriptedHttpServer::start(|request| {
            let is_account = request.starts_with("GET /api/me ");
            let body = if is_account { r#"{"id": 7}"# } else { "{}" };
            json_response("200 OK", body)
        })
        .await;
        let mut profile = plain_profile();
        let id = JsonPath::parse("/id").unwrap();
        profile.tables.account = Some(AccountTable { request: get("/me"), id });
        let request = get("/list");
        let rest = open_source(&server, profile.clone());

        rest.call(call_of(&request)).await.unwrap();
        rest.call(call_of(&request)).await.unwrap();
        assert_eq!(rest.account().await, Ok(AccountId::new("7")));
        assert_eq!(server.targets(), ["GET /api/me", "GET /api/list", "GET /api/list"]);

        let account = Some(AccountId::new("8"));
        let options = options(&server.url, profile, RestAuth::None);
        let rest = source(RestOptions { account, ..options }, "");
        let failure = rest.call(call_of(&request)).await.unwrap_err();
        assert_eq!(failure.cause, Cause::AccountChanged);
        assert_eq!(server.targets()[3..], ["GET /api/me"], "nothing else is sent");
    }

    #[tokio::test]
    async fn the_account_is_configured_unless_it_is_asked_for() {
        let server = ScriptedHttpServer::start(|_| json_response("200 OK", "{}")).await;
        let rest = open_source(&server, plain_profile());
        assert_eq!(rest.account().await, Ok(AccountId::new("me@mail.example")));

        let account = Some(AccountId::new("you@mail.example"));
        let options = options(&server.url, plain_profile(), RestAuth::None);
        let rest = source(RestOptions { account, ..options }, "");
        let failure = rest.call(call_of(&get("/list"))).await.unwrap_err();
        assert_eq!(failure.cause, Cause::AccountChanged);
        assert_eq!(server.requests().len(), 0);
    }
}
