//! Readers of `auth` and of the credentials in it. Errors never quote a value, because it may be
//! the secret itself.

use std::path::Path;

use cynosure_engine::user_input::closest_match;

use super::credential::CredentialRef;
use super::file::{Node, Table, Value, plain_text};
use super::folder::base_folder;
use super::merge::EnvValueForm;
use super::reader::Section;
use super::show::{quote, quote_list};
use super::source::SourceAuth;

/// Advice in an error about `auth`: both valid forms.
pub(super) const AUTH_HELP: &str = "write auth = { type = \"bearer\", \
                               token = { file = \"token\" } } or \
                               auth = { type = \"basic\", username = \"me@example.com\", \
                               password = { env = \"PASSWORD\" } }";
const CREDENTIAL_HELP: &str = "write { file = \"PATH\" }, { env = \"NAME\" }, \
                               { command = [\"PROGRAM\", \"ARGUMENT\"] } or { systemd = \"NAME\" }";
const AUTH_KEYS: [&str; 4] = ["type", "username", "password", "token"];
const CREDENTIAL_KEYS: [&str; 4] = ["file", "env", "command", "systemd"];

/// Reads `auth`. Relative paths in it are resolved against `folder`. The error states the problem
/// and the remedy.
pub(super) fn read_auth(node: &Node, folder: &Path) -> Result<SourceAuth, String> {
    let Value::Table(table) = &node.value else {
        return Err(format!("is not a table; {AUTH_HELP}"));
    };
    reject_unknown_keys(table, &AUTH_KEYS, AUTH_HELP)?;
    let credential = |key: &str| {
        let node = table.get(key).ok_or_else(|| format!("has no `{key}`; {AUTH_HELP}"))?;
        read_credential(node, folder).map_err(|error| format!("has a `{key}` that {error}"))
    };
    let reject_keys = |keys: &[&str]| match keys.iter().find(|key| table.contains_key(**key)) {
        Some(key) => Err(format!("has a `{key}`, which its type does not use; {AUTH_HELP}")),
        None => Ok(()),
    };
    match required_text(table, "type")? {
        "bearer" => {
            reject_keys(&["username", "password"])?;
            Ok(SourceAuth::Bearer { token: credential("token")? })
        }
        "basic" => {
            reject_keys(&["token"])?;
            let username = required_text(table, "username")?.to_owned();
            // RFC 7617, section 2: the first colon ends the user name.
            if username.contains(':') {
                return Err(
                    "has a `username` with a colon, which basic auth does not allow; correct it"
                        .to_owned(),
                );
            }
            Ok(SourceAuth::Basic { username, password: credential("password")? })
        }
        _ => Err(format!("has a `type` that is neither \"basic\" nor \"bearer\"; {AUTH_HELP}")),
    }
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
pub(super) fn write_auth(auth: &SourceAuth) -> String {
    match auth {
        SourceAuth::Basic { username, password } => {
            let [username, password] = [quote(username), write_credential(password)];
            format!("{{ type = \"basic\", username = {username}, password = {password} }}")
        }
        SourceAuth::Bearer { token } => {
            format!("{{ type = \"bearer\", token = {} }}", write_credential(token))
        }
    }
}

pub(super) fn write_credential(credential: &CredentialRef) -> String {
    match credential {
        CredentialRef::File(path) => format!("{{ file = {} }}", quote(&path.to_string_lossy())),
        CredentialRef::Env(name) => format!("{{ env = {} }}", quote(name)),
        CredentialRef::Command(argv) => format!("{{ command = {} }}", quote_list(argv)),
        CredentialRef::Systemd(name) => format!("{{ systemd = {} }}", quote(name)),
    }
}
