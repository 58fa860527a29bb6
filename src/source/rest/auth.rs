//! Credential of a request: its headers, the parameters of its URL, and the fields of a session.

use std::collections::BTreeMap;

use cynosure_engine::rest::{PageValues, Placeholder, Template, TemplateForm, TemplateValues};
use cynosure_engine::{Cause, Failure};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::source::CredentialChange;
use crate::source::http::{Authorization, HeaderName};
use crate::source::rest::options::{RestAuth, RestOptions};
use crate::source::rest::source::RestSource;

/// Field of a session with the address of its mailbox.
const EMAIL_FIELD: &str = "email";

/// Fields of a session that are no secrets.
const PUBLIC_FIELDS: [&str; 3] = [EMAIL_FIELD, "host", "user_agent"];

/// Field of a session with the cookies, each by its name.
const COOKIES_FIELD: &str = "cookies";

/// Credential of one request.
pub(super) struct RequestCredential {
    pub(super) authorization: Authorization,
    /// Values of `{credential.NAME}`. `None` unless the credential is a session.
    pub(super) fields: Option<BTreeMap<String, String>>,
    /// Parameters of the URL.
    pub(super) query: Vec<(String, String)>,
    /// Those of the parameters that have a secret.
    secret_query: Vec<(String, String)>,
}

impl RestSource {
    /// Returns the credential for one request. It is read at the first request only.
    pub(super) async fn request_credential(&self) -> Result<RequestCredential, Failure> {
        match &self.options.auth {
            RestAuth::None => Ok(RequestCredential::custom(Vec::new(), Vec::new(), Vec::new())),
            RestAuth::Basic { username } => {
                let (username, password) = (username.clone(), self.credential.current().await?);
                Ok(RequestCredential::standard(Authorization::Basic { username, password }))
            }
            RestAuth::Bearer => {
                let token = self.credential.current().await?;
                Ok(RequestCredential::standard(Authorization::Bearer { token }))
            }
            RestAuth::Header { name } => header_credential(name, self.credential.current().await?),
            RestAuth::Query { name } => {
                let secret = self.credential.current().await?;
                let query = vec![(name.clone(), secret.expose_secret().to_owned())];
                Ok(RequestCredential::custom(Vec::new(), query, vec![secret]))
            }
            RestAuth::Session { cookies, query } => {
                let secret = self.credential.current().await?;
                let session = BrowserSession::parse(secret.expose_secret())?;
                if self.profile().tables.account.is_none() {
                    session.check_owner(&self.options.account_name)?;
                }
                session.to_credential(&self.options, cookies, query)
            }
        }
    }

    /// Reads the credential again, or has it refreshed. If it has changed, the account is asked for
    /// again, because it may be another one.
    pub(super) async fn refresh(&self) -> Result<CredentialChange, Failure> {
        if self.options.auth == RestAuth::None {
            return Ok(CredentialChange::Unchanged);
        }
        let change = self.credential.refresh().await?;
        self.on_credential_read(change).await;
        Ok(change)
    }

    /// Reads the credential again where it is stored, as [`Self::refresh`] does.
    pub(super) async fn reload(&self) -> Result<CredentialChange, Failure> {
        if self.options.auth == RestAuth::None {
            return Ok(CredentialChange::Unchanged);
        }
        let change = self.credential.reload().await?;
        self.on_credential_read(change).await;
        Ok(change)
    }

    async fn on_credential_read(&self, change: CredentialChange) {
        if change == CredentialChange::Changed {
            *self.verified_account.lock().await = None;
        }
    }
}

impl RequestCredential {
    fn standard(authorization: Authorization) -> Self {
        Self { authorization, fields: None, query: Vec::new(), secret_query: Vec::new() }
    }

    fn custom(
        headers: Vec<(HeaderName, SecretString)>,
        query: Vec<(String, String)>,
        mut secrets: Vec<SecretString>,
    ) -> Self {
        let has_secret =
            |text: &str| secrets.iter().any(|secret| text.contains(secret.expose_secret()));
        let secret_query: Vec<(String, String)> =
            query.iter().filter(|(_, value)| has_secret(value)).cloned().collect();
        // A URL has a plus sign for each space.
        let in_url = secret_query.iter().map(|(_, value)| {
            form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>()
        });
        secrets.extend(in_url.map(SecretString::from));
        let authorization = Authorization::Custom { headers, secrets };
        Self { authorization, fields: None, query, secret_query }
    }

    /// Returns a URL, or a part of one, without the parameters that are secret. A server may repeat
    /// them in a link to the next page, which is stored.
    pub(super) fn without_secrets(&self, text: String) -> String {
        let is_secret = |name: &str, value: &str| {
            let mut secret = self.secret_query.iter();
            secret.any(|(secret_name, secret)| secret_name == name && secret == value)
        };
        let Some((before, query)) = text.split_once('?') else { return text };
        let (query, fragment) = query.split_at(query.find('#').unwrap_or(query.len()));
        let kept = without_parameters(query, is_secret);
        if kept.len() == query.len() {
            return text;
        }
        let separator = if kept.is_empty() { "" } else { "?" };
        format!("{before}{separator}{kept}{fragment}")
    }

    /// Removes the parameters that are secret from all texts of a response.
    pub(super) fn remove_secrets(&self, value: &mut Value) {
        if self.secret_query.is_empty() {
            return;
        }
        match value {
            Value::String(text) => *text = self.without_secrets(std::mem::take(text)),
            Value::Array(elements) => {
                elements.iter_mut().for_each(|element| self.remove_secrets(element));
            }
            Value::Object(members) => {
                members.values_mut().for_each(|member| self.remove_secrets(member));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Returns a query without the parameters that `is_removed` names. The others stay as written.
pub(super) fn without_parameters(query: &str, is_removed: impl Fn(&str, &str) -> bool) -> String {
    let is_kept = |parameter: &&str| {
        let mut decoded = form_urlencoded::parse(parameter.as_bytes());
        !decoded.any(|(name, value)| is_removed(&name, &value))
    };
    query.split('&').filter(is_kept).collect::<Vec<_>>().join("&")
}

/// Returns the fields of the credential that a template needs, also by the options in it.
pub(super) fn credential_fields<'t>(
    template: &'t Template,
    options: &'t BTreeMap<String, Template>,
) -> Vec<&'t str> {
    let used_options = template.placeholders().filter_map(|placeholder| {
        let Placeholder::Option(name) = placeholder else { return None };
        options.get(name)
    });
    let all = template.placeholders().chain(used_options.flat_map(Template::placeholders));
    let fields = all.filter_map(|placeholder| {
        let Placeholder::Credential(name) = placeholder else { return None };
        Some(name.as_str())
    });
    fields.collect()
}

/// Returns the failure of a credential that lacks something or cannot be sent.
pub(super) fn unusable_credential(problem: impl AsRef<str>) -> Failure {
    Failure::new(Cause::Unauthorized, problem)
}

fn header_credential(name: &str, secret: SecretString) -> Result<RequestCredential, Failure> {
    let header = HeaderName::try_from(name).map_err(|_invalid| {
        unusable_credential(format!("`auth` has the header {name:?}, which is not a header name"))
    })?;
    // A value such as `Token abc` has the secret after its first word.
    let last_word = secret.expose_secret().split_whitespace().next_back().map(SecretString::from);
    let secrets = last_word.into_iter().collect();
    Ok(RequestCredential::custom(vec![(header, secret)], Vec::new(), secrets))
}

/// Session of a browser.
struct BrowserSession {
    /// All texts but the cookies.
    fields: BTreeMap<String, String>,
    cookies: BTreeMap<String, String>,
}

impl BrowserSession {
    fn parse(text: &str) -> Result<Self, Failure> {
        let members: Map<String, Value> = serde_json::from_str(text).map_err(|_invalid| {
            let form = r#"{"token": "…", "cookies": {…}}"#;
            unusable_credential(format!("the session is not JSON such as {form}: save it again"))
        })?;
        let cookies = members.get(COOKIES_FIELD).and_then(Value::as_object);
        Ok(Self { cookies: cookies.map(texts_of).unwrap_or_default(), fields: texts_of(&members) })
    }

    /// Rejects the session of another mailbox: a browser may have several open, and the server is
    /// not asked for the account. An account that is no address is not compared.
    fn check_owner(&self, account: &str) -> Result<(), Failure> {
        match self.fields.get(EMAIL_FIELD) {
            Some(email) if account.contains('@') && !email.eq_ignore_ascii_case(account) => {
                Err(unusable_credential(format!(
                    "the session is that of {email:?}, but `account` is {account:?}: save the \
                     session of that mailbox"
                )))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn to_credential(
        &self,
        options: &RestOptions,
        cookies: &[String],
        query: &[(String, Template)],
    ) -> Result<RequestCredential, Failure> {
        let values = TemplateValues {
            options: &options.profile.options,
            credential: Some(&self.fields),
            account: &options.account_name,
            part: None,
            item: None,
            document: None,
            page: PageValues::default(),
            cursor: None,
        };
        let query = query.iter().map(|(name, template)| {
            let value = template
                .fill(&values, TemplateForm::Plain)
                .map_err(|error| unusable_credential(format!("{error}: save the session again")))?;
            Ok((name.clone(), value))
        });
        let query = query.collect::<Result<Vec<_>, Failure>>()?;
        let headers = self.cookie_header(cookies)?.into_iter().collect();
        let credential = RequestCredential::custom(headers, query, self.secrets());
        Ok(RequestCredential { fields: Some(self.fields.clone()), ..credential })
    }

    /// Returns the header with the named cookies, and no others.
    fn cookie_header(
        &self,
        names: &[String],
    ) -> Result<Option<(HeaderName, SecretString)>, Failure> {
        if names.is_empty() {
            return Ok(None);
        }
        let cookies = names.iter().map(|name| {
            let value = self.cookies.get(name).ok_or_else(|| {
                unusable_credential(format!(
                    "the session has no cookie `{name}`: save the session again"
                ))
            })?;
            // A semicolon would begin another cookie.
            if value.chars().all(|c| c.is_ascii_graphic() && c != ';') {
                Ok(format!("{name}={value}"))
            } else {
                Err(unusable_credential(format!(
                    "the cookie `{name}` of the session has characters that no cookie can have"
                )))
            }
        });
        let cookies = cookies.collect::<Result<Vec<_>, Failure>>()?;
        Ok(Some((HeaderName::from_static("cookie"), SecretString::from(cookies.join("; ")))))
    }

    fn secrets(&self) -> Vec<SecretString> {
        let is_secret = |(name, _): &(&String, &String)| !PUBLIC_FIELDS.contains(&name.as_str());
        let fields = self.fields.iter().filter(is_secret);
        let values = fields.chain(&self.cookies).map(|(_, value)| value.as_str());
        values.map(SecretString::from).collect()
    }
}

/// Returns the members that are texts and not empty.
fn texts_of(members: &Map<String, Value>) -> BTreeMap<String, String> {
    let texts = members.iter().filter_map(|(name, value)| {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        Some((name.clone(), text.to_owned()))
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::rest::test_server::{bytes_table, options, profile};

    const SESSION: &str = r#"{"host": "mail.example", "email": "me@mail.example",
        "token": "t0ken-1", "cookies": {"Mpop": "c00kie-1", "other": "c00kie-2", "odd": "a;b"},
        "user_agent": "Fox", "unknown": 7}"#;

    /// Returns the credential that a session makes with these cookies and this query.
    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn credential(cookies: &[&str], token: &str) -> Result<RequestCredential, Failure> {
        let url = "https://mail.example/api".parse().unwrap();
        let options = options(&url, profile(bytes_table("/raw/{document.id}")), RestAuth::None);
        let cookies: Vec<String> = cookies.iter().map(|&name| name.to_owned()).collect();
        let query = [("token".to_owned(), Template::parse(token).unwrap())];
        BrowserSession::parse(SESSION)?.to_credential(&options, &cookies, &query)
    }

    fn error(result: Result<RequestCredential, Failure>) -> String {
        let failure = result.err().expect("a failure");
        assert_eq!(failure.cause, Cause::Unauthorized);
        failure.message
    }

    #[test]
    fn only_named_cookies_are_sent() {
        let credential = credential(&["Mpop"], "{credential.token}").unwrap();

        let Authorization::Custom { headers, .. } = &credential.authorization else {
            panic!("{:?}", credential.authorization)
        };
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(headers, [("cookie", "Mpop=c00kie-1")]);
        assert_eq!(credential.query, [("token".to_owned(), "t0ken-1".to_owned())]);
        assert_eq!(credential.fields.unwrap()["user_agent"], "Fox");
    }

    #[test]
    fn a_missing_cookie_or_field_is_named() {
        assert_eq!(
            error(credential(&["Mpop", "sdcs"], "x")),
            "the session has no cookie `sdcs`: save the session again"
        );
        let message = error(credential(&[], "{credential.csrf}"));
        assert!(message.contains("{credential.csrf} has no value"), "{message}");
        let message = error(credential(&["odd"], "x"));
        assert!(message.contains("`odd`") && !message.contains("a;b"), "{message}");
        let not_json = BrowserSession::parse("secret").err().unwrap();
        assert!(not_json.message.contains("is not JSON"), "{not_json}");
    }

    #[test]
    fn the_session_of_another_mailbox_is_refused() {
        let session = BrowserSession::parse(SESSION).unwrap();
        for account in ["me@mail.example", "Me@Mail.example", "work"] {
            assert_eq!(session.check_owner(account), Ok(()), "{account}");
        }
        let failure = session.check_owner("you@mail.example").unwrap_err();

        assert_eq!(failure.cause, Cause::Unauthorized);
        assert!(failure.message.contains("\"me@mail.example\""), "{failure}");
        assert!(failure.message.contains("\"you@mail.example\""), "{failure}");
    }

    #[test]
    fn everything_in_a_session_but_its_owner_is_secret() {
        let credential = credential(&["Mpop"], "{credential.token}").unwrap();

        let masked = credential
            .authorization
            .secrets()
            .mask("me@mail.example at mail.example by Fox: t0ken-1, c00kie-1, c00kie-2");

        assert_eq!(masked, "me@mail.example at mail.example by Fox: [secret], [secret], [secret]");
    }

    #[test]
    fn secret_parameters_are_removed_from_links() {
        let credential = credential(&[], "{credential.token}").unwrap();
        let mut body = json!({
            "next": "https://mail.example/api?page=2&token=t0ken-1#a",
            "links": ["?token=t0ken-1", "/x?token=t0ken-1&page=3", "?token=other", "?a=%20+", "t?"],
        });

        credential.remove_secrets(&mut body);

        assert_eq!(
            body,
            json!({
                "next": "https://mail.example/api?page=2#a",
                "links": ["", "/x?page=3", "?token=other", "?a=%20+", "t?"],
            })
        );
    }

    #[test]
    fn the_fields_that_a_template_needs_are_found_in_options() {
        let template = Template::parse("{options.agent} {credential.token} {account}").unwrap();
        let options = BTreeMap::from([(
            "agent".to_owned(),
            Template::parse("{credential.user_agent}").unwrap(),
        )]);

        assert_eq!(credential_fields(&template, &options), ["token", "user_agent"]);
    }
}
