//! `auth` of a REST source, merged with that of its profile.
//!
//! The profile has the type, addresses, permissions and names; the source has the credential.

use std::collections::BTreeMap;

use cynosure_engine::rest::Template;
use cynosure_engine::user_input::Location;

use crate::config::auth::{AuthRules, is_key_of_type, read_auth, reject_unknown_keys, write_auth};
use crate::config::file::{Node, Table, Value};
use crate::config::folder::base_folder;
use crate::config::http_auth::read_session_values;
use crate::config::kind::rest::loaded::LoadedProfile;
use crate::config::kind::rest::options::fill_options;
use crate::config::merge::EnvValueForm;
use crate::config::provider_defaults::DefaultsOrigin;
use crate::config::reader::Section;
use crate::config::show::quote;
use crate::config::sign_in::{SignInDefaults, needs_defaults, read_scopes, read_url};
use crate::config::source_auth::{AuthType, SourceAuth};

/// Types of `auth` that an API may have.
const TYPES: &[AuthType] = &[
    AuthType::Basic,
    AuthType::Bearer,
    AuthType::OAuth2,
    AuthType::Session,
    AuthType::Header,
    AuthType::Query,
    AuthType::ServiceAccount,
    AuthType::ClientCredentials,
];

const AUTH_HELP: &str = "write auth = { type = \"bearer\", token = { file = \"token\" } }; the \
                         types are basic, bearer, oauth2, session, header, query, service_account \
                         and client_credentials";
const SIGN_IN_HELP: &str = "write auth = { type = \"oauth2\", client_id = \"CLIENT-ID\" } and \
                            sign in with `cynosure auth`";
const SESSION_HELP: &str = "write auth = { type = \"session\", session = { file = \"FILE\" } }, with the values of a \
     session as JSON";
const VALUE_HELP: &str =
    "write auth = { value = { file = \"FILE\" } }, with the secret in that file";

/// Keys of `auth` in a profile.
const PROFILE_KEYS: [&str; 9] = [
    "type",
    "authorize_url",
    "token_url",
    "device_url",
    "scopes",
    "application_scopes",
    "name",
    "cookies",
    "query",
];

/// Keys of a credential, which belongs to the source.
const CREDENTIAL_KEYS: [&str; 9] = [
    "client_id",
    "client_secret",
    "key",
    "password",
    "session",
    "subject",
    "token",
    "username",
    "value",
];

const PROFILE_HELP: &str = "a profile has the type, addresses, scopes and names of `auth`";

/// `auth` of a profile.
#[derive(Debug, Default)]
pub(super) struct ProfileAuth {
    auth_type: Option<AuthType>,
    /// Keys that a source may leave out.
    entries: Table,
    /// Addresses and permissions that a source may leave out.
    sign_in: Option<SignInDefaults>,
}

/// Reads `auth` of a profile. The errors are recorded.
pub(super) fn read_profile_auth(
    section: &mut Section<'_, '_>,
    profile: &mut LoadedProfile,
    options: &BTreeMap<String, Template>,
) -> ProfileAuth {
    let Some(node) = profile.take("auth") else { return ProfileAuth::default() };
    let Some(origin) = &profile.origin else { return ProfileAuth::default() };
    let location = node.location.clone();
    parse_profile_auth(node, options, origin.as_defaults()).unwrap_or_else(|error| {
        section.reader.report_error(location, format!("`auth` {error}"));
        ProfileAuth::default()
    })
}

/// Reads `auth`, merged with that of the profile. `kind` is the name of the kind, for error
/// messages. The account is the default of the user name.
/// Returns `None` if it is missing or invalid; the error is then recorded.
pub(super) fn read_source_auth(
    section: &mut Section<'_, '_>,
    location: &Location,
    kind: &'static str,
    account: Option<&str>,
    profile: &ProfileAuth,
) -> Option<SourceAuth> {
    let help = match profile.auth_type {
        Some(AuthType::OAuth2) => SIGN_IN_HELP,
        Some(AuthType::Session) => SESSION_HELP,
        Some(AuthType::Header | AuthType::Query) => VALUE_HELP,
        Some(_) | None => AUTH_HELP,
    };
    let rules = AuthRules {
        kind,
        types: TYPES,
        help,
        default_username: account.unwrap_or_default(),
        sign_in: profile.sign_in.as_ref(),
    };
    let fallback = section.reader.folder.clone();
    let read = |node: &Node| -> Result<(SourceAuth, Option<String>), String> {
        let folder = base_folder(&node.location).unwrap_or(fallback);
        let merged = profile.merge(node);
        let auth = read_auth(&merged, &folder, rules)?;
        let origin = profile.origin_of(node, &auth);
        Ok((auth, origin))
    };
    let errors_before = section.reader.diagnostics.len();
    let given = if profile.auth_type.is_some() {
        section.required("auth", EnvValueForm::Toml, location, help, read)
    } else {
        section.given("auth", EnvValueForm::Toml, read)
    };
    let Some(((auth, origin), location)) = given else {
        section.record("auth", None, None);
        let is_left_out = section.reader.diagnostics.len() == errors_before;
        return is_left_out.then_some(SourceAuth::None);
    };
    section.record("auth", Some(write_auth(&auth)), Some(location));
    if let Some(origin) = origin {
        section.record_partial_origin("auth", origin);
    }
    Some(auth)
}

impl ProfileAuth {
    /// Adds the keys of the profile that the type uses and the source leaves out.
    fn merge(&self, node: &Node) -> Node {
        let Value::Table(written) = &node.value else { return node.clone() };
        let mut merged = written.clone();
        for (key, node) in &self.entries {
            let auth_type = merged.get("type").and_then(type_of).or(self.auth_type);
            if auth_type.is_some_and(|auth_type| is_key_of_type(key, auth_type)) {
                merged.entry(key.clone()).or_insert_with(|| node.clone());
            }
        }
        Node { location: node.location.clone(), value: Value::Table(merged) }
    }

    /// Returns the origin of what the profile adds to `auth` of a source, if it adds anything.
    fn origin_of(&self, node: &Node, auth: &SourceAuth) -> Option<String> {
        let Value::Table(written) = &node.value else { return None };
        let sign_in = self.sign_in.as_ref()?;
        let Value::Table(merged) = self.merge(node).value else { return None };
        let adds_endpoint = match auth {
            SourceAuth::SignIn { .. } => needs_defaults(written),
            SourceAuth::Application { .. } => {
                !written.contains_key("token_url") || !written.contains_key("scopes")
            }
            SourceAuth::None
            | SourceAuth::Basic { .. }
            | SourceAuth::Bearer { .. }
            | SourceAuth::Password { .. }
            | SourceAuth::OAuth2 { .. }
            | SourceAuth::Header { .. }
            | SourceAuth::Query { .. }
            | SourceAuth::Session { .. } => false,
        };
        let adds_keys = written.len() < merged.len();
        (adds_keys || adds_endpoint).then(|| sign_in.origin.to_string())
    }
}

fn parse_profile_auth(
    node: Node,
    options: &BTreeMap<String, Template>,
    origin: DefaultsOrigin,
) -> Result<ProfileAuth, String> {
    let Value::Table(mut table) = node.value else {
        return Err(format!("is not a table; {PROFILE_HELP}"));
    };
    if let Some(key) = CREDENTIAL_KEYS.into_iter().find(|key| table.contains_key(*key)) {
        return Err(format!(
            "has a `{key}`, which belongs to `auth` of the source, so that a profile can be shared"
        ));
    }
    reject_unknown_keys(&table, &PROFILE_KEYS, PROFILE_HELP)?;
    let auth_type = table.get("type").map(read_type).transpose()?;
    for key in ["authorize_url", "token_url", "device_url"] {
        if let Some(node) = table.get_mut(key) {
            let filled = fill_options(node, options);
            let filled = filled.map_err(|error| format!("has a `{key}` that {error}"))?;
            node.value = Value::Text(filled);
        }
    }
    let sign_in = SignInDefaults {
        origin,
        authorize_url: read_url(&table, "authorize_url")?,
        token_url: read_url(&table, "token_url")?,
        device_url: read_url(&table, "device_url")?,
        scopes: read_scopes(&table, "scopes")?.unwrap_or_default(),
        application_scopes: read_scopes(&table, "application_scopes")?.unwrap_or_default(),
    };
    let has_session_values = table.contains_key("cookies") || table.contains_key("query");
    if has_session_values {
        read_session_values(&table)?;
    }
    table.retain(|key, _| ["type", "name", "cookies", "query"].contains(&key.as_str()));
    Ok(ProfileAuth { auth_type, entries: table, sign_in: Some(sign_in) })
}

fn read_type(node: &Node) -> Result<AuthType, String> {
    let found = type_of(node).filter(|auth_type| TYPES.contains(auth_type));
    found.ok_or_else(|| {
        let names: Vec<String> = TYPES.iter().map(|known| quote(known.name())).collect();
        format!("has a `type` that is none of {}; correct it", names.join(", "))
    })
}

fn type_of(node: &Node) -> Option<AuthType> {
    AuthType::ALL.into_iter().find(|known| node.value.text() == Some(known.name()))
}
