//! Readers of `auth` and of the credentials in it. Errors never quote a value, because it may be
//! the secret itself.

use std::path::Path;

use cynosure_engine::user_input::{Location, closest_match};

use super::credential::CredentialRef;
use super::file::{Node, Table, Value, plain_text};
use super::folder::base_folder;
use super::merge::EnvValueForm;
use super::preset::Preset;
use super::reader::Section;
use super::show::{quote, quote_list};
use super::sign_in::{SIGN_IN_KEYS, needs_preset, read_endpoints, write_endpoints};
use super::source_auth::{AuthType, OAuthSettings, SourceAuth};

const CREDENTIAL_HELP: &str = "write { file = \"PATH\" }, { env = \"NAME\" }, \
                               { command = [\"PROGRAM\", \"ARGUMENT\"] } or { systemd = \"NAME\" }";
const AUTH_KEYS: [&str; 10] = [
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
];
const CREDENTIAL_KEYS: [&str; 4] = ["file", "env", "command", "systemd"];

/// Forms of `auth` that a kind of source accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuthRules<'a> {
    /// Name of the kind.
    pub(super) kind: &'static str,
    pub(super) types: [AuthType; 2],
    /// Advice in an error: both valid forms.
    pub(super) help: &'static str,
    /// User name of the mail logins that name none.
    pub(super) default_username: &'a str,
    /// Preset of the server, whose sign-in fills what `auth` leaves out.
    pub(super) preset: Option<&'a Preset>,
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
            .map(|auth| (auth, preset_for_rest(node, rules)))
    };
    let ((auth, preset), location) =
        table.required("auth", EnvValueForm::Toml, location, rules.help, read)?;
    table.record("auth", Some(write_auth(&auth)), Some(location));
    if let Some(preset) = preset {
        table.record_partial_preset("auth", preset);
    }
    Some(auth)
}

/// Reads `auth`. Relative paths in it are resolved against `folder`. The error states the problem
/// and the remedy.
fn read_auth(node: &Node, folder: &Path, rules: AuthRules<'_>) -> Result<SourceAuth, String> {
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
            let username = read_basic_username(table)?;
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
    }
}

fn is_key_of_type(key: &str, auth_type: AuthType) -> bool {
    match (key, auth_type) {
        ("type", _) => true,
        ("username", AuthType::Basic | AuthType::Password | AuthType::OAuth2) => true,
        ("password", AuthType::Basic | AuthType::Password) => true,
        ("token", AuthType::Bearer | AuthType::OAuth2) => true,
        (key, AuthType::OAuth2) => SIGN_IN_KEYS.contains(&key),
        (_, AuthType::Basic | AuthType::Bearer | AuthType::Password) => false,
    }
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

/// Reads the client of a sign-in. The endpoints come from the preset of the server, unless `auth`
/// has them.
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
    let sign_in_preset = rules.preset.and_then(|preset| preset.sign_in.as_ref());
    let endpoints = read_endpoints(table, sign_in_preset)?;
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

/// Returns the name of the preset that fills what a sign-in leaves out, if one does.
fn preset_for_rest(node: &Node, rules: AuthRules<'_>) -> Option<&'static str> {
    let preset = rules.preset.filter(|preset| preset.sign_in.is_some())?;
    let Value::Table(table) = &node.value else { return None };
    (table.contains_key("client_id") && needs_preset(table)).then_some(preset.name)
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
        None => {
            let [first, second] = types.map(AuthType::name);
            Err(format!("has a `type` that is neither \"{first}\" nor \"{second}\"; {help}"))
        }
    }
}

fn read_basic_username(table: &Table) -> Result<String, String> {
    let username = required_text(table, "username")?;
    // RFC 7617, section 2: the first colon ends the user name.
    if username.contains(':') {
        return Err(
            "has a `username` with a colon, which basic auth does not allow; correct it".to_owned()
        );
    }
    Ok(username.to_owned())
}

fn read_username(table: &Table, default: &str) -> Result<String, String> {
    let is_written = table.contains_key("username");
    let username = if is_written { required_text(table, "username")? } else { default };
    Ok(username.to_owned())
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

/// Writes `auth` as TOML on one line.
fn write_auth(auth: &SourceAuth) -> String {
    let entry = |key: &str, credential| format!("{key} = {}", write_credential(credential));
    let (auth_type, rest) = match auth {
        SourceAuth::Basic { password, .. } => (AuthType::Basic, entry("password", password)),
        SourceAuth::Bearer { token } => (AuthType::Bearer, entry("token", token)),
        SourceAuth::Password { password, .. } => (AuthType::Password, entry("password", password)),
        SourceAuth::OAuth2 { token, .. } => (AuthType::OAuth2, entry("token", token)),
        SourceAuth::SignIn { client, .. } => (AuthType::OAuth2, write_client(client)),
    };
    let username = auth.username().map(|name| format!(", username = {}", quote(name)));
    format!("{{ type = {}{}, {rest} }}", quote(auth_type.name()), username.unwrap_or_default())
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
