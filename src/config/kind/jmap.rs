//! Keys of `[source.NAME]` that only a JMAP source has.

use chrono::NaiveDate;
use cynosure_engine::user_input::Location;
use url::Url;

use crate::config::auth::{AuthRules, read_source_auth};
use crate::config::reader::Section;
use crate::config::service_url::{
    check_allowed_host, is_plaintext_remote, parse_url, without_query,
};
use crate::config::show::quote;
use crate::config::source_auth::{AuthType, SourceAuth};

/// Value of `kind`.
pub(super) const NAME: &str = "jmap";

/// Example of a valid `url`, for error messages.
const URL_EXAMPLE: &str = "https://api.example.com/.well-known/jmap";

/// Both valid forms of `auth`.
const AUTH_HELP: &str = "write auth = { type = \"bearer\", token = { file = \"token\" } } or \
                         auth = { type = \"basic\", username = \"me@example.com\", \
                         password = { env = \"PASSWORD\" } }";

/// Server of a JMAP source, and the mail to extract.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JmapSettings {
    /// `https`; also `http` to a loopback address, or if `allows_plaintext` is set. Without user
    /// name, password and fragment.
    pub url: Url,
    pub allows_plaintext: bool,
    /// Other hosts to which the server may refer requests, over https. The host of `url` need not
    /// be listed.
    pub allowed_hosts: Vec<String>,
    /// The mailboxes to extract, by name; all of them if empty.
    pub mailboxes: Vec<String>,
    /// First day to extract; everything is extracted if `None`.
    pub since: Option<NaiveDate>,
}

/// Reads the URL of the service.
pub(super) fn read_url(
    table: &mut Section<'_, '_>,
    location: &Location,
) -> Option<(Url, Location)> {
    let remedy = format!("write url = {}", quote(URL_EXAMPLE));
    let read = |text: &str| parse_url(text, URL_EXAMPLE);
    table.required_text("url", location, &remedy, read, |url| quote(&without_query(url)))
}

/// Reads the authentication.
pub(super) fn read_auth(table: &mut Section<'_, '_>, location: &Location) -> Option<SourceAuth> {
    let rules = AuthRules {
        kind: NAME,
        types: &[AuthType::Basic, AuthType::Bearer],
        help: AUTH_HELP,
        default_username: "",
        sign_in: None,
    };
    read_source_auth(table, location, rules)
}

/// Reads the account. Its default is the user name of basic auth; a bearer token contains none.
pub(super) fn read_account(
    table: &mut Section<'_, '_>,
    location: &Location,
    auth: Option<&SourceAuth>,
) -> Option<String> {
    // The error in `auth` is recorded already. Only a valid `auth` shows whether `account` is
    // required, so its absence is not reported.
    let Some(auth) = auth else { return Some(table.text("account", "", |_| Ok(()))) };
    if let Some(username) = auth.username() {
        return Some(table.text("account", username, |_| Ok(())));
    }
    let help = "a bearer token contains no user name: \
                write account = \"me@example.com\", which names the folder";
    let read = |text: &str| Ok(text.to_owned());
    let account = table.required_text("account", location, help, read, |text| quote(text));
    account.map(|(account, _)| account)
}

/// Reads the other keys. Returns `None` without a URL, whose error is recorded already.
pub(super) fn read_rest(
    table: &mut Section<'_, '_>,
    url: Option<(Url, Location)>,
) -> Option<JmapSettings> {
    let mailboxes = table.texts("mailboxes", |_| Ok(()));
    let allowed_hosts = table.texts("allow_hosts", check_allowed_host);
    let since = table.date("since");
    let allows_plaintext = table.flag("allow_plaintext", false);

    let (url, url_location) = url?;
    if is_plaintext_remote(&url) && !allows_plaintext {
        let message = format!(
            "`{}` is plain http, so password and mail could be read on the way; write https://, \
             or set allow_plaintext = true in this table if the way is safe",
            table.key("url")
        );
        table.reader.report_error(url_location, message);
    }
    Some(JmapSettings { url, allows_plaintext, allowed_hosts, mailboxes, since })
}
