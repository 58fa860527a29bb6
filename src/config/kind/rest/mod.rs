//! Keys of `[source.NAME]` that only a REST source has: the tables that describe its API.
//!
//! They are read from the source and from its profile, a file of such tables. A table of the source
//! replaces that of the profile; `options` and `auth` are merged by key.

mod auth;
mod checks;
mod errors;
mod fetch;
mod limits;
mod loaded;
mod named_rules;
mod nodes;
mod options;
mod page;
mod request;
mod rows;
mod scope;
mod settings;
mod tables;
mod values;

pub use self::named_rules::profile_error_rules;
pub use self::settings::{RestLimits, RestSettings};

use std::collections::BTreeMap;

use cynosure_engine::rest::Template;
use cynosure_engine::user_input::Location;
use url::Url;

use self::auth::{read_profile_auth, read_source_auth};
use self::fetch::is_json;
use self::loaded::{LoadedProfile, ProfileOrigin, read_profile};
use self::nodes::{ACCOUNT_REQUEST_KEY, TableNodes};
use self::options::read_options;
use self::tables::{Description, read_description};
use super::document_format::DocumentFormatSettings;
use crate::config::file::{Node, Value, plain_text};
use crate::config::merge::EnvValueForm;
use crate::config::reader::Section;
use crate::config::service_url::{check_allowed_host, is_plaintext_remote, parse_url};
use crate::config::show::quote;
use crate::config::source_auth::SourceAuth;

/// Value of `kind`, and the kind in the state file and the metrics.
pub(super) const NAME: &str = "rest";

/// Values of `kind` that select a built-in profile, too.
pub(super) const GMAIL: &str = "gmail";
pub(super) const GRAPH: &str = "graph";
pub(super) const MAILRU: &str = "mailru";

/// Example of a valid `base_url`, for error messages.
const URL_EXAMPLE: &str = "https://api.example.com/v1";

/// Account, server and authentication of a source.
pub(super) struct RestHead {
    pub(super) account: Option<String>,
    pub(super) auth: Option<SourceAuth>,
    /// `None` if the profile is invalid; its error is then recorded.
    pub(super) api: Option<ApiHead>,
}

/// Parts of an API that are known before its tables are read.
pub(super) struct ApiHead {
    base_url: Option<(Url, Location)>,
    profile: LoadedProfile,
    options: BTreeMap<String, Template>,
    /// True if the texts may use fields of a session.
    has_session: bool,
    /// Location of the source.
    location: Location,
}

impl ApiHead {
    /// Returns the host name of the server; empty without one.
    pub(super) fn host(&self) -> &str {
        self.base_url.as_ref().and_then(|(url, _)| url.host_str()).unwrap_or_default()
    }
}

/// Reads the keys that come before those of every source. `kind_profile` is the built-in profile
/// that the kind selects.
pub(super) fn read_head(
    section: &mut Section<'_, '_>,
    location: &Location,
    kind_profile: Option<&'static str>,
) -> RestHead {
    let mut profile = read_profile(section, kind_profile);
    let account = read_account(section, location);
    let base_url = read_base_url(section, location, profile.as_mut());
    let options = read_options(section, profile.as_mut());
    let auth = match &mut profile {
        Some(profile) => {
            let profile_auth = read_profile_auth(section, profile, &options);
            let kind = kind_profile.unwrap_or(NAME);
            read_source_auth(section, location, kind, account.as_deref(), &profile_auth)
        }
        None => {
            // It may be the profile that completes `auth`.
            section.take("auth");
            None
        }
    };
    // Without a valid `auth`, nothing is said about fields of a session.
    let has_session = matches!(auth, None | Some(SourceAuth::Session { .. }));
    let location = location.clone();
    let api = profile.map(|profile| ApiHead { base_url, profile, options, has_session, location });
    RestHead { account, auth, api }
}

/// Reads the other keys. Returns `None` if the API is not described; the errors are then recorded.
pub(super) fn read_rest(
    section: &mut Section<'_, '_>,
    api: Option<ApiHead>,
) -> Option<RestSettings> {
    let Some(api) = api else {
        // An error in the profile would cause others in the tables.
        section.discard_rest();
        return None;
    };
    let ApiHead { base_url, mut profile, options, has_session, location } = api;
    let nodes = TableNodes::collect(section, &mut profile, &location);
    let profile_name = profile.origin.as_ref().map(ProfileOrigin::name);
    let records = read_records(section, &mut profile);
    let description = read_description(section, nodes, profile_name, options, has_session);
    let allowed_hosts = section.texts("allow_hosts", check_allowed_host);
    let allows_plaintext = section.flag("allow_plaintext", false);

    let Description { profile, limits, extension } = description?;
    let (is_lines, records_location) = records?;
    if is_lines && !is_json(&profile.tables.fetch) {
        let message = format!(
            "`{}` is \"lines\", but the documents are no JSON; write \"files\", or body = \
             \"json\" in [fetch]",
            section.key("records")
        );
        section.reader.report_error(records_location.unwrap_or(location), message);
    }
    let (base_url, url_location) = base_url?;
    if is_plaintext_remote(&base_url) && !allows_plaintext {
        let message = format!(
            "`{}` is plain http, so credentials and documents could be read on the way; write \
             https://, or set allow_plaintext = true in this table if the way is safe",
            section.key("base_url")
        );
        section.reader.report_error(url_location, message);
    }
    let format = DocumentFormatSettings { extension, is_lines };
    Some(RestSettings { base_url, allows_plaintext, allowed_hosts, profile, limits, format })
}

/// Reads the account.
fn read_account(section: &mut Section<'_, '_>, location: &Location) -> Option<String> {
    let remedy = "write account = \"me@example.com\", the owner of the documents";
    let given = section.required("account", EnvValueForm::Text, location, remedy, read_owner);
    let (account, location) = given?;
    section.record("account", Some(quote(&account)), Some(location));
    Some(account)
}

fn read_owner(node: &Node) -> Result<String, String> {
    if let Value::Table(_) = &node.value {
        return Err(format!(
            "is a table, which only a profile has under this name; write the owner of the \
             documents here, and the request as `{ACCOUNT_REQUEST_KEY}`"
        ));
    }
    plain_text(&node.value).map(str::to_owned)
}

/// Reads the URL of the API, which the profile may have.
fn read_base_url(
    section: &mut Section<'_, '_>,
    location: &Location,
    profile: Option<&mut LoadedProfile>,
) -> Option<(Url, Location)> {
    let errors_before = section.reader.diagnostics.len();
    let given = section.given("base_url", EnvValueForm::Text, read_url);
    if let Some((url, location)) = given {
        section.record("base_url", Some(quote(url.as_str())), Some(location.clone()));
        return Some((url, location));
    }
    // Without a valid profile, it may be the profile that has the URL.
    let profile = profile?;
    let Some(node) = profile.take("base_url") else {
        if errors_before == section.reader.diagnostics.len() {
            let message = format!(
                "`{}` is missing; write base_url = {}",
                section.key("base_url"),
                quote(URL_EXAMPLE)
            );
            section.reader.report_error(location.clone(), message);
        }
        return None;
    };
    match read_url(&node) {
        Ok(url) => {
            profile.record(section, "base_url", quote(url.as_str()), &node.location);
            Some((url, node.location))
        }
        Err(error) => {
            section.reader.report_error(node.location, format!("`base_url` {error}"));
            None
        }
    }
}

fn read_url(node: &Node) -> Result<Url, String> {
    let url = plain_text(&node.value).and_then(|text| parse_url(text, URL_EXAMPLE))?;
    if url.query().is_some() {
        return Err(
            "has a query (after ?), which the paths of the tables would follow; write the \
                    parameters in `query`"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Reads `records`: true for lines of one file, with the location if it is written. Returns `None`
/// if it is invalid; the error is then recorded.
fn read_records(
    section: &mut Section<'_, '_>,
    profile: &mut LoadedProfile,
) -> Option<(bool, Option<Location>)> {
    let errors_before = section.reader.diagnostics.len();
    let in_profile = profile.take("records");
    let given = section.given("records", EnvValueForm::Toml, read_layout);
    let shown = |is_lines: bool| quote(if is_lines { "lines" } else { "files" });
    if let Some((is_lines, location)) = given {
        section.record("records", Some(shown(is_lines)), Some(location.clone()));
        return Some((is_lines, Some(location)));
    }
    if errors_before < section.reader.diagnostics.len() {
        return None;
    }
    let Some(node) = in_profile else {
        section.record("records", Some(shown(false)), None);
        return Some((false, None));
    };
    match read_layout(&node) {
        Ok(is_lines) => {
            profile.record(section, "records", shown(is_lines), &node.location);
            Some((is_lines, Some(node.location)))
        }
        Err(error) => {
            section.reader.report_error(node.location, format!("`records` {error}"));
            None
        }
    }
}

fn read_layout(node: &Node) -> Result<bool, String> {
    match plain_text(&node.value)? {
        "files" => Ok(false),
        "lines" => Ok(true),
        other => Err(format!("is {}; write \"files\" or \"lines\"", quote(other))),
    }
}
