//! Text of a source in a configuration: a new one, or added to one that exists.

#[cfg(test)]
mod tests;

use cynosure_engine::sanitize_line;
use toml_edit::{Document, Item, TomlError, Value};

use super::access::{
    AccessKind, IMAP_PORT, IMAPS_PORT, ServerAddress, ServerSecurity, jmap_session_url,
};
use super::new_source::{NewSource, NewSourceAuth};
use crate::config::SourceName;

/// Widest padding of a line before its comment, in characters.
const COMMENT_COLUMN_MAX: usize = 48;

/// Comment of a credential.
const SECRET_COMMENT: &str = "the secret is in this file";

/// First lines of a new configuration.
const HEADER: &str = "\
# Configuration of Cynosure. A setting that is left out has its default. `cynosure config show`
# prints all settings, and `cynosure config check` finds mistakes. A relative path counts from the
# folder of this file.
";

/// Line of a table, with its comment.
struct ConfigLine {
    text: String,
    /// Empty for none.
    comment: String,
}

impl ConfigLine {
    fn new(text: impl Into<String>, comment: impl Into<String>) -> Self {
        Self { text: text.into(), comment: comment.into() }
    }

    /// Creates a line with a text in quotes.
    fn quoted(key: &str, value: &str, comment: &str) -> Self {
        Self::new(format!("{key} = {}", quote(value)), comment)
    }
}

/// Returns the text of a new configuration, with comments.
#[must_use]
pub fn new_config(source: &NewSource, archive_dir: &str) -> String {
    let archive = [
        ConfigLine::new("[archive]", ""),
        ConfigLine::quoted(
            "dir",
            archive_dir,
            "folder; where the mail is kept, in one folder per session and account",
        ),
    ];
    format!("{HEADER}\n{}\n{}", join_lines(&archive), source_table(source))
}

/// Adds a source at the end of a configuration. No other byte of it changes, except that a last
/// line gets the line end it lacks.
///
/// # Errors
///
/// One sentence: the configuration is not valid TOML, the name is invalid or taken, or the source
/// has to be added by hand.
pub fn add_source(config: &str, source: &NewSource) -> Result<String, String> {
    let name = source.name.as_str();
    if let Err(rule) = name.parse::<SourceName>() {
        return Err(format!("\"{}\" is not a name: {rule}", sanitize_line(name)));
    }
    let document = Document::parse(config).map_err(|error| syntax_error(config, &error))?;
    if let Some(sources) = document.get("source") {
        let Some(table) = sources.as_table() else {
            return Err(
                "`source` is not written as tables, so nothing can be added to it; write each \
                 source as a table [source.NAME] first"
                    .to_owned(),
            );
        };
        if table.contains_key(name) {
            return Err(format!("there is a source `{name}` already; choose another name"));
        }
    }
    let added = with_source(config, source);
    let is_added = Document::parse(added.as_str()).is_ok_and(|document| {
        let sources = document.get("source").and_then(Item::as_table);
        sources.is_some_and(|sources| sources.contains_key(name))
    });
    if is_added {
        Ok(added)
    } else {
        Err(format!(
            "the source `{name}` cannot be added at the end of this configuration; add its table \
             [source.{name}] by hand"
        ))
    }
}

/// Appends the table, with the line ends of the configuration.
fn with_source(config: &str, source: &NewSource) -> String {
    let has_crlf = config.split_once('\n').is_some_and(|(line, _)| line.ends_with('\r'));
    let line_end = if has_crlf { "\r\n" } else { "\n" };
    let mut text = config.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(line_end);
    }
    let ends_with_gap = text.ends_with(&line_end.repeat(2));
    if !text.trim().is_empty() && !ends_with_gap {
        text.push_str(line_end);
    }
    text.push_str(&source_table(source).replace('\n', line_end));
    text
}

fn syntax_error(config: &str, error: &TomlError) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = config.get(..start).unwrap_or(config);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(
        "the configuration is not valid TOML in line {line}, column {column} ({}); correct it \
         first",
        sanitize_line(error.message())
    )
}

/// Returns the table of a source, with a line end.
fn source_table(source: &NewSource) -> String {
    let mut lines = vec![
        ConfigLine::new(format!("[source.{}]", source.name), ""),
        ConfigLine::quoted("kind", source.kind.name(), kind_comment(source.kind)),
        ConfigLine::quoted("account", &source.account, "names the folder in the archive"),
    ];
    lines.extend(server_lines(source));
    lines.push(auth_line(source));
    lines.extend(optional_lines(source.kind));
    join_lines(&lines)
}

fn kind_comment(kind: AccessKind) -> &'static str {
    match kind {
        AccessKind::Jmap | AccessKind::Imap => "the protocol",
        AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru => {
            "the protocol and its profile, which `cynosure config show` prints"
        }
    }
}

fn server_lines(source: &NewSource) -> Vec<ConfigLine> {
    match source.kind {
        AccessKind::Jmap => vec![url_line(source)],
        AccessKind::Imap => host_lines(&source.server),
        AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru => match &source.server {
            ServerAddress::Known | ServerAddress::Imap { .. } => Vec::new(),
            ServerAddress::Url(url) => {
                vec![ConfigLine::quoted("base_url", url.as_str(), "the API")]
            }
        },
    }
}

/// Returns the URL of a JMAP source. The one that belongs to the domain of the account takes the
/// place of a known server.
fn url_line(source: &NewSource) -> ConfigLine {
    let url = match &source.server {
        ServerAddress::Known => {
            let domain = source.account.rsplit_once('@').map(|(_, domain)| domain);
            domain.and_then(jmap_session_url)
        }
        ServerAddress::Imap { host, .. } => jmap_session_url(host),
        ServerAddress::Url(url) => Some(url.clone()),
    };
    let url = url.map(String::from).unwrap_or_default();
    ConfigLine::quoted("url", &url, "the session of the service")
}

/// Returns host, security and port, as far as they are not the defaults.
fn host_lines(server: &ServerAddress) -> Vec<ConfigLine> {
    let (host, port, security) = match server {
        ServerAddress::Known => return Vec::new(),
        ServerAddress::Imap { host, port, security } => (host.as_str(), *port, *security),
        ServerAddress::Url(url) => {
            (url.host_str().unwrap_or_default(), IMAPS_PORT, ServerSecurity::Tls)
        }
    };
    let (security, default_port) = match security {
        ServerSecurity::Tls => (None, IMAPS_PORT),
        ServerSecurity::StartTls => (Some("starttls"), IMAP_PORT),
        ServerSecurity::None => (Some("none"), IMAP_PORT),
    };
    let mut lines = vec![ConfigLine::quoted("host", host, "the server")];
    if let Some(security) = security {
        let comment = "\"tls\" from the first byte, or \"starttls\"; \"none\" to this machine only";
        lines.push(ConfigLine::quoted("security", security, comment));
    }
    if port != default_port {
        lines.push(ConfigLine::new(format!("port = {port}"), ""));
    }
    lines
}

fn auth_line(source: &NewSource) -> ConfigLine {
    let file = |key: &str, path: &str| format!("{key} = {{ file = {} }}", quote(path));
    let (auth, comment) = match &source.auth {
        NewSourceAuth::Password { username, file: path } => {
            (password_entries(source, username.as_deref(), &file("password", path)), SECRET_COMMENT)
        }
        NewSourceAuth::Token { file: path } => {
            let auth_type = match source.kind {
                AccessKind::Imap => "oauth2",
                AccessKind::Jmap | AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru => {
                    "bearer"
                }
            };
            (format!("type = \"{auth_type}\", {}", file("token", path)), SECRET_COMMENT)
        }
        NewSourceAuth::Browser { client_id, client_secret_file } => {
            let secret = client_secret_file.as_ref().map(|path| file("client_secret", path));
            let secret = secret.map(|secret| format!(", {secret}")).unwrap_or_default();
            let entries = format!("type = \"oauth2\", client_id = {}{secret}", quote(client_id));
            return ConfigLine::new(
                format!("auth = {{ {entries} }}"),
                format!("`cynosure auth {}` signs in", source.name),
            );
        }
        NewSourceAuth::SessionFile { file: path } => (file("session", path), SECRET_COMMENT),
    };
    ConfigLine::new(format!("auth = {{ {auth} }}"), comment)
}

/// Returns the entries of a password. Only IMAP takes the account as the user name.
fn password_entries(source: &NewSource, username: Option<&str>, password: &str) -> String {
    let (auth_type, username) = match source.kind {
        AccessKind::Imap => ("password", username),
        AccessKind::Jmap | AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru => {
            ("basic", Some(username.unwrap_or(&source.account)))
        }
    };
    let username = username.map(|name| format!("username = {}, ", quote(name)));
    format!("type = \"{auth_type}\", {}{password}", username.unwrap_or_default())
}

/// Returns settings that some people want, commented out, with their defaults or an example.
fn optional_lines(kind: AccessKind) -> Vec<ConfigLine> {
    let mut lines = vec![
        ConfigLine::new(
            "#poll_interval = \"5m\"",
            "duration; how often a completed source is polled for new mail",
        ),
        ConfigLine::new(
            "#reconcile_interval = \"30d\"",
            "duration; how often everything is listed again; nothing is fetched twice",
        ),
    ];
    let since = || {
        let comment = "extract only what is from this day or newer; everything when left out";
        ConfigLine::new("#since = 2020-01-01", comment)
    };
    match kind {
        AccessKind::Jmap => {
            let comment = "names of the mailboxes to extract; all when left out";
            lines.push(ConfigLine::new("#mailboxes = [\"Inbox\"]", comment));
            lines.push(since());
        }
        AccessKind::Imap => {
            let comment = "names or patterns of folders that are left out; none when left out";
            lines.push(ConfigLine::new("#exclude = [\"Spam\"]", comment));
            lines.push(since());
        }
        AccessKind::Gmail => {
            let comment = "leave spam and trash out of a full listing";
            lines.push(ConfigLine::new("#options = { spam_and_trash = false }", comment));
        }
        AccessKind::Graph | AccessKind::Mailru => {}
    }
    lines
}

/// Writes lines with their comments aligned.
fn join_lines(lines: &[ConfigLine]) -> String {
    let widths = lines.iter().map(|line| line.text.chars().count());
    let column = widths.filter(|width| *width <= COMMENT_COLUMN_MAX).max().unwrap_or_default();
    let mut text = String::new();
    for ConfigLine { text: line, comment } in lines {
        if comment.is_empty() {
            text.push_str(&format!("{line}\n"));
        } else {
            text.push_str(&format!("{line:column$}  # {comment}\n"));
        }
    }
    text
}

/// Writes a TOML string.
fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
