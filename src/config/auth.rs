//! Readers of `auth` and of the credentials in it. Errors never quote a value, because it may be
//! the secret itself.

use std::path::Path;

use cynosure_engine::user_input::{Location, closest_match};

use super::credential::CredentialRef;
use super::file::{Node, Table, Value, plain_text};
use super::folder::base_folder;
use super::http_auth::{
    check_header_name, read_session_values, write_session_values, write_token_endpoint,
};
use super::merge::EnvValueForm;
use super::reader::Section;
use super::show::{quote, quote_list};
use super::sign_in::{
    SIGN_IN_KEYS, SignInDefaults, needs_defaults, read_endpoints, read_token_endpoint,
    write_endpoints,
};
use super::source_auth::{
    ApplicationGrantSettings, ApplicationSettings, AuthType, OAuthSettings, SourceAuth,
};

const CREDENTIAL_HELP: &str = "write { file = \"PATH\" }, { env = \"NAME\" }, \
                               { command = [\"PROGRAM\", \"ARGUMENT\"] } or { systemd = \"NAME\" }";
const AUTH_KEYS: [&str; 17] = [
    "type",
    "username",
    "password",
    "token",
    "client_id",
    "client_secret",
    "authorize_url",
    "token_url",
    "device_url",
    "scopes",
    "name",
    "value",
    "session",
    "cookies",
    "query",
    "key",
    "subject",
];
const CREDENTIAL_KEYS: [&str; 4] = ["file", "env", "command", "systemd"];

/// Forms of `auth` that a kind of source accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuthRules<'a> {
    /// Name of the kind.
    pub(super) kind: &'static str,
    pub(super) types: &'static [AuthType],
    /// Advice in an error: valid forms.
    pub(super) help: &'static str,
    /// User name of the logins that name none; empty if they have to.
    pub(super) default_username: &'a str,
    /// Sign-in of a preset or a profile, which fills what `auth` leaves out.
    pub(super) sign_in: Option<&'a SignInDefaults>,
}

/// Reads `auth` of a source, which is required. Returns `None` if it is missing or invalid; the
/// error is then recorded.
pub(super) fn read_source_auth(
    table: &mut Section<'_, '_>,
    location: &Location,
    rules: AuthRules<'_>,
) -> Option<SourceAuth> {
    let fallback = table.reader.folder.clone();
    let read = |node: &Node| {
        read_auth(node, &base_folder(&node.location).unwrap_or(fallback), rules)
            .map(|auth| (auth, filled_by(node, rules)))
    };
    let ((auth, origin), location) =
        table.required("auth", EnvValueForm::Toml, location, rules.help, read)?;
    table.record("auth", Some(write_auth(&auth)), Some(location));
    if let Some(origin) = origin {
        table.record_partial_origin("auth", origin);
    }
    Some(auth)
}

/// Reads `auth`. Relative paths in it are resolved against `folder`. The error states the problem
/// and the remedy.
pub(super) fn read_auth(
    node: &Node,
    folder: &Path,
    rules: AuthRules<'_>,
) -> Result<SourceAuth, String> {
    let help = rules.help;
    let Value::Table(table) = &node.value else {
        return Err(format!("is not a table; {help}"));
    };
    reject_unknown_keys(table, &AUTH_KEYS, help)?;
    let auth_type = read_type(table, rules)?;
    let is_unused = |key: &str| table.contains_key(key) && !is_key_of_type(key, auth_type);
    if let Some(key) = AUTH_KEYS.into_iter().find(|key| is_unused(key)) {
        return Err(format!("has a `{key}`, which its type does not use; {help}"));
    }
    let credential = |key: &str| {
        let node = table.get(key).ok_or_else(|| format!("has no `{key}`; {help}"))?;
        read_credential(node, folder).map_err(|error| format!("has a `{key}` that {error}"))
    };
    match auth_type {
        AuthType::Bearer => Ok(SourceAuth::Bearer { token: credential("token")? }),
        AuthType::Basic => {
            let username = read_basic_username(table, rules.default_username)?;
            Ok(SourceAuth::Basic { username, password: credential("password")? })
        }
        AuthType::Password => {
            let username = read_username(table, rules.default_username)?;
            Ok(SourceAuth::Password { username, password: credential("password")? })
        }
        AuthType::OAuth2 if table.contains_key("client_id") => read_sign_in(table, folder, rules),
        AuthType::OAuth2 => {
            reject_keys_without_client(table)?;
            let username = read_username(table, rules.default_username)?;
            Ok(SourceAuth::OAuth2 { username, token: credential("token")? })
        }
        AuthType::Header => {
            let name = check_header_name(required_text(table, "name")?)?;
            Ok(SourceAuth::Header { name, value: credential("value")? })
        }
        AuthType::Query => {
            let name = required_text(table, "name")?.to_owned();
            Ok(SourceAuth::Query { name, value: credential("value")? })
        }
        AuthType::Session => {
            let (cookies, query) = read_session_values(table)?;
            Ok(SourceAuth::Session { session: credential("session")?, cookies, query })
        }
        AuthType::ServiceAccount => {
            let subject = read_text_or(table, "subject", rules.default_username)?;
            let key = credential("key")?;
            let grant = ApplicationGrantSettings::ServiceAccount { key, subject };
            read_application(table, grant, rules)
        }
        AuthType::ClientCredentials => {
            let client_id = required_text(table, "client_id")?.to_owned();
            let client_secret = credential("client_secret")?;
            let grant = ApplicationGrantSettings::ClientCredentials { client_id, client_secret };
            read_application(table, grant, rules)
        }
    }
}

/// True if a type of `auth` uses this key.
pub(super) fn is_key_of_type(key: &str, auth_type: AuthType) -> bool {
    let keys: &[&str] = match auth_type {
        AuthType::Basic | AuthType::Password => &["username", "password"],
        AuthType::Bearer => &["token"],
        AuthType::OAuth2 if SIGN_IN_KEYS.contains(&key) => return true,
        AuthType::OAuth2 => &["username", "token"],
        AuthType::Header | AuthType::Query => &["name", "value"],
        AuthType::Session => &["session", "cookies", "query"],
        AuthType::ServiceAccount => &["key", "subject", "token_url", "scopes"],
        AuthType::ClientCredentials => &["client_id", "client_secret", "token_url", "scopes"],
    };
    key == "type" || keys.contains(&key)
}

/// Rejects an access token's table that lacks the token, or has keys of a sign-in.
fn reject_keys_without_client(table: &Table) -> Result<(), String> {
    if let Some(key) = SIGN_IN_KEYS.into_iter().find(|key| table.contains_key(*key)) {
        return Err(format!(
            "has a `{key}`, but no `client_id`; add the client_id of your application at the \
             provider, or remove `{key}`"
        ));
    }
    if table.contains_key("token") {
        return Ok(());
    }
    Err("has neither a `client_id` nor a `token`; write client_id = \"CLIENT-ID\" and sign in with \
         `cynosure auth`, or token = { file = \"token\" } for an access token"
        .to_owned())
}

/// Reads the client of a sign-in. The endpoints come from the preset of the server or the profile,
/// unless `auth` has them.
fn read_sign_in(table: &Table, folder: &Path, rules: AuthRules<'_>) -> Result<SourceAuth, String> {
    let username = read_username(table, rules.default_username)?;
    let client_id = required_text(table, "client_id")?.to_owned();
    let credential = |key: &str| {
        let credential = table.get(key).map(|node| read_credential(node, folder)).transpose();
        credential.map_err(|error| format!("has a `{key}` that {error}"))
    };
    let client_secret = credential("client_secret")?;
    let token_file = match credential("token")? {
        None => None,
        Some(CredentialRef::File(path)) => Some(path),
        Some(CredentialRef::Env(_) | CredentialRef::Command(_) | CredentialRef::Systemd(_)) => {
            return Err("has a `client_id` and a `token` that is not a file, but the tokens of a \
                        sign-in are renewed and must be written; write token = \
                        { file = \"PATH\" }, or leave it out"
                .to_owned());
        }
    };
    let endpoints = read_endpoints(table, rules.sign_in)?;
    let client = OAuthSettings {
        client_id,
        client_secret,
        token_file,
        authorize_url: endpoints.authorize_url,
        token_url: endpoints.token_url,
        device_url: endpoints.device_url,
        scopes: endpoints.scopes,
    };
    Ok(SourceAuth::SignIn { username, client })
}

/// Reads the endpoint and the scopes of an application that acts without a user.
fn read_application(
    table: &Table,
    grant: ApplicationGrantSettings,
    rules: AuthRules<'_>,
) -> Result<SourceAuth, String> {
    let (token_url, scopes) = read_token_endpoint(table, rules.sign_in)?;
    let needs_url = matches!(grant, ApplicationGrantSettings::ClientCredentials { .. });
    if needs_url && token_url.is_none() {
        return Err(
            "has no `token_url`; write the address that your provider documents for access \
                    tokens, such as token_url = \"https://auth.example.com/token\""
                .to_owned(),
        );
    }
    let username = rules.default_username.to_owned();
    let client = ApplicationSettings { grant, token_url, scopes };
    Ok(SourceAuth::Application { username, client })
}

/// Returns the origin of what fills a sign-in, if it leaves something out.
fn filled_by(node: &Node, rules: AuthRules<'_>) -> Option<String> {
    let defaults = rules.sign_in?;
    let Value::Table(table) = &node.value else { return None };
    let has_client = table.contains_key("client_id") || table.contains_key("key");
    let is_filled = has_client && needs_defaults(table);
    is_filled.then(|| defaults.origin.to_string())
}

fn read_type(table: &Table, rules: AuthRules<'_>) -> Result<AuthType, String> {
    let AuthRules { kind, types, help, .. } = rules;
    let written = required_text(table, "type")?;
    match AuthType::ALL.into_iter().find(|known| known.name() == written) {
        Some(known) if types.contains(&known) => Ok(known),
        Some(known) => {
            let name = known.name();
            Err(format!("has the type \"{name}\", which kind \"{kind}\" does not use; {help}"))
        }
        None => match types {
            [first, second] => {
                let [first, second] = [first.name(), second.name()];
                Err(format!("has a `type` that is neither \"{first}\" nor \"{second}\"; {help}"))
            }
            _ => {
                let names: Vec<String> = types.iter().map(|known| quote(known.name())).collect();
                Err(format!("has a `type` that is none of {}; {help}", names.join(", ")))
            }
        },
    }
}

fn read_basic_username(table: &Table, default: &str) -> Result<String, String> {
    let is_written = table.contains_key("username") || default.is_empty();
    let username = if is_written { required_text(table, "username")? } else { default };
    // RFC 7617, section 2: the first colon ends the user name.
    if username.contains(':') {
        return Err(
            "has a `username` with a colon, which basic auth does not allow; correct it".to_owned()
        );
    }
    Ok(username.to_owned())
}

fn read_username(table: &Table, default: &str) -> Result<String, String> {
    read_text_or(table, "username", default)
}

fn read_text_or(table: &Table, key: &str, default: &str) -> Result<String, String> {
    let text = if table.contains_key(key) { required_text(table, key)? } else { default };
    Ok(text.to_owned())
}

pub(super) fn read_credential(node: &Node, folder: &Path) -> Result<CredentialRef, String> {
    let Value::Table(table) = &node.value else {
        return Err(format!(
            "is not a reference; secrets are never written in the configuration: {CREDENTIAL_HELP}"
        ));
    };
    reject_unknown_keys(table, &CREDENTIAL_KEYS, CREDENTIAL_HELP)?;
    let mut entries = table.iter();
    let (Some((key, node)), None) = (entries.next(), entries.next()) else {
        return Err(format!("does not have exactly one key; {CREDENTIAL_HELP}"));
    };
    match key.as_str() {
        "file" => Ok(CredentialRef::File(folder.join(required_text(table, "file")?))),
        "env" => Ok(CredentialRef::Env(check_variable_name(required_text(table, "env")?)?)),
        "systemd" => {
            Ok(CredentialRef::Systemd(check_credential_name(required_text(table, "systemd")?)?))
        }
        _ => read_command(node, folder).map(CredentialRef::Command),
    }
}

/// Reads an optional credential.
pub(super) fn credential_if_given(
    table: &mut Section<'_, '_>,
    key: &'static str,
) -> Option<CredentialRef> {
    let fallback = table.reader.folder.clone();
    let given = table.given(key, EnvValueForm::Toml, |node| {
        read_credential(node, &base_folder(&node.location).unwrap_or(fallback))
    });
    let (credential, location) = given.unzip();
    table.record(key, credential.as_ref().map(write_credential), location);
    credential
}

pub(super) fn reject_unknown_keys(
    table: &Table,
    known: &[&'static str],
    help: &str,
) -> Result<(), String> {
    let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    match closest_match(unknown, known.iter().copied()) {
        Some(suggestion) => {
            Err(format!("has an unknown key `{unknown}`; did you mean `{suggestion}`?"))
        }
        None => Err(format!("has an unknown key `{unknown}`; {help}")),
    }
}

pub(super) fn required_text<'t>(table: &'t Table, key: &str) -> Result<&'t str, String> {
    match table.get(key).map(|node| &node.value) {
        Some(value @ Value::Text(_)) => {
            plain_text(value).map_err(|error| format!("has a `{key}` that {error}"))
        }
        Some(_) => Err(format!("has a `{key}` that is not a text; write one in quotes")),
        None => Err(format!("has no `{key}`; add it")),
    }
}

fn check_variable_name(name: &str) -> Result<String, String> {
    if name.contains('=') {
        return Err("has an `=` in the name of an environment variable; write { env = \"NAME\" }"
            .to_owned());
    }
    Ok(name.to_owned())
}

/// Checks the name of a systemd credential, which is a file name.
fn check_credential_name(name: &str) -> Result<String, String> {
    if name.contains('/') || matches!(name, "." | "..") {
        return Err(
            "is not the name of a systemd credential; write the name given to LoadCredential="
                .to_owned(),
        );
    }
    Ok(name.to_owned())
}

/// Reads a program and its arguments. A relative path of a program is resolved against `folder`; a
/// name without a slash is searched for in `PATH`.
fn read_command(node: &Node, folder: &Path) -> Result<Vec<String>, String> {
    let error =
        "is not a command; write { command = [\"PROGRAM\", \"ARGUMENT\"] }, without shell quoting";
    let Value::List(items) = &node.value else {
        return Err(error.to_owned());
    };
    let argv = items.iter().map(|item| match &item.value {
        Value::Text(argument) if !argument.contains('\0') => Ok(argument.clone()),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::List(_)
        | Value::Table(_) => Err(error.to_owned()),
    });
    let mut argv = argv.collect::<Result<Vec<_>, _>>()?;
    let program = argv.first_mut().filter(|program| !program.is_empty()).ok_or(error)?;
    if program.contains('/') {
        *program = folder.join(&*program).to_string_lossy().into_owned();
    }
    Ok(argv)
}

/// Writes `auth` as TOML on one line. It is empty without authentication.
pub(super) fn write_auth(auth: &SourceAuth) -> String {
    let entry = |key: &str, credential| format!("{key} = {}", write_credential(credential));
    let named = |name: &str, value| format!("name = {}, {}", quote(name), entry("value", value));
    let (auth_type, rest) = match auth {
        SourceAuth::None => return "{}".to_owned(),
        SourceAuth::Basic { password, .. } => (AuthType::Basic, entry("password", password)),
        SourceAuth::Bearer { token } => (AuthType::Bearer, entry("token", token)),
        SourceAuth::Password { password, .. } => (AuthType::Password, entry("password", password)),
        SourceAuth::OAuth2 { token, .. } => (AuthType::OAuth2, entry("token", token)),
        SourceAuth::SignIn { client, .. } => (AuthType::OAuth2, write_client(client)),
        SourceAuth::Header { name, value } => (AuthType::Header, named(name, value)),
        SourceAuth::Query { name, value } => (AuthType::Query, named(name, value)),
        SourceAuth::Session { session, cookies, query } => {
            let values = write_session_values(cookies, query);
            (AuthType::Session, format!("{}, {values}", entry("session", session)))
        }
        SourceAuth::Application { client, .. } => return write_application(client),
    };
    let username = auth.username().map(|name| format!(", username = {}", quote(name)));
    format!("{{ type = {}{}, {rest} }}", quote(auth_type.name()), username.unwrap_or_default())
}

/// Writes the authentication of an application as TOML on one line.
fn write_application(client: &ApplicationSettings) -> String {
    let (auth_type, grant) = match &client.grant {
        ApplicationGrantSettings::ServiceAccount { key, subject } => (
            AuthType::ServiceAccount,
            format!("key = {}, subject = {}", write_credential(key), quote(subject)),
        ),
        ApplicationGrantSettings::ClientCredentials { client_id, client_secret } => {
            let secret = write_credential(client_secret);
            let grant = format!("client_id = {}, client_secret = {secret}", quote(client_id));
            (AuthType::ClientCredentials, grant)
        }
    };
    let endpoint = write_token_endpoint(client);
    format!("{{ type = {}, {grant}, {endpoint} }}", quote(auth_type.name()))
}

/// Writes the client of a sign-in as entries of a TOML table, without its braces.
fn write_client(client: &OAuthSettings) -> String {
    let mut entries = vec![format!("client_id = {}", quote(&client.client_id))];
    if let Some(secret) = &client.client_secret {
        entries.push(format!("client_secret = {}", write_credential(secret)));
    }
    if let Some(path) = &client.token_file {
        let token = CredentialRef::File(path.clone());
        entries.push(format!("token = {}", write_credential(&token)));
    }
    entries.push(write_endpoints(client));
    entries.join(", ")
}

pub(super) fn write_credential(credential: &CredentialRef) -> String {
    match credential {
        CredentialRef::File(path) => format!("{{ file = {} }}", quote(&path.to_string_lossy())),
        CredentialRef::Env(name) => format!("{{ env = {} }}", quote(name)),
        CredentialRef::Command(argv) => format!("{{ command = {} }}", quote_list(argv)),
        CredentialRef::Systemd(name) => format!("{{ systemd = {} }}", quote(name)),
    }
}
