//! New configurations load, and additions change nothing else.

use url::Url;

use super::*;
use crate::config::{EnvVars, LoadedConfig, SourceSettings, load};
use crate::onboarding::access::{AccessOption, SignInMethod};
use crate::onboarding::address::MailAddress;
use crate::onboarding::guides::{find_guide, own_server_guide};

fn load_text(text: &str) -> LoadedConfig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs_err::write(&path, text).unwrap();
    match load(&path, &EnvVars::default()) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("{diagnostics}\n{text}"),
    }
}

fn work(loaded: &LoadedConfig) -> &SourceSettings {
    loaded.settings.find_source("work").unwrap().1
}

/// Returns the kind as the configuration names it.
fn kind_of(source: &SourceSettings) -> &str {
    source.kind.profile().unwrap_or_else(|| source.kind.name())
}

fn source(kind: AccessKind, server: ServerAddress, auth: NewSourceAuth) -> NewSource {
    let account = "me@example.com".to_owned();
    NewSource { name: "work".to_owned(), account, kind, server, auth }
}

fn password(username: Option<&str>) -> NewSourceAuth {
    let username = username.map(str::to_owned);
    NewSourceAuth::Password { username, file: "work.password".to_owned() }
}

fn token() -> NewSourceAuth {
    NewSourceAuth::Token { file: "/etc/cynosure/work token".to_owned() }
}

fn browser(secret: Option<&str>) -> NewSourceAuth {
    let client_secret_file = secret.map(str::to_owned);
    NewSourceAuth::Browser { client_id: "id-\"1\"".to_owned(), client_secret_file }
}

fn session() -> NewSourceAuth {
    NewSourceAuth::SessionFile { file: "work.session".to_owned() }
}

fn url(text: &str) -> ServerAddress {
    ServerAddress::Url(Url::parse(text).unwrap())
}

fn imap(host: &str, port: u16, security: ServerSecurity) -> ServerAddress {
    ServerAddress::Imap { host: host.to_owned(), port, security }
}

/// Returns a source of each kind with each authentication that it has.
fn all_sources() -> Vec<NewSource> {
    let known = || ServerAddress::Known;
    let gmail_imap = imap("imap.gmail.com", 993, ServerSecurity::Tls);
    vec![
        source(AccessKind::Jmap, url("https://api.example.com/.well-known/jmap"), token()),
        source(AccessKind::Jmap, known(), password(None)),
        source(AccessKind::Jmap, url("http://127.0.0.1:8080/"), password(Some("me"))),
        source(AccessKind::Imap, ServerAddress::imap_with_tls("imap.example.com"), password(None)),
        source(
            AccessKind::Imap,
            imap("mail.example.com", 143, ServerSecurity::StartTls),
            password(Some("me")),
        ),
        source(AccessKind::Imap, imap("127.0.0.1", 1143, ServerSecurity::None), password(None)),
        source(AccessKind::Imap, imap("::1", 143, ServerSecurity::None), token()),
        source(AccessKind::Imap, gmail_imap, browser(Some("work.secret"))),
        NewSource {
            account: "me@outlook.com".to_owned(),
            ..source(AccessKind::Imap, known(), browser(None))
        },
        source(AccessKind::Gmail, known(), browser(Some("work.secret"))),
        source(AccessKind::Gmail, url("http://127.0.0.1:8080/gmail"), token()),
        source(AccessKind::Graph, known(), browser(None)),
        source(AccessKind::Graph, known(), token()),
        source(AccessKind::Mailru, known(), session()),
        source(AccessKind::Mailru, url("http://127.0.0.1:8080/api"), session()),
    ]
}

#[test]
fn every_kind_and_authentication_loads() {
    for source in all_sources() {
        let loaded = load_text(&new_config(&source, "my \"mail\""));

        let work = work(&loaded);
        assert_eq!(kind_of(work), source.kind.name());
        assert_eq!(work.account, source.account);
        assert!(loaded.settings.archive.dir.ends_with("my \"mail\""), "{source:?}");
        match &source.server {
            ServerAddress::Known => {}
            ServerAddress::Imap { host, .. } => assert_eq!(work.kind.host(), host),
            ServerAddress::Url(url) => assert_eq!(Some(work.kind.host()), url.host_str()),
        }
        if let NewSourceAuth::Password { username, .. } = &source.auth {
            let expected = username.as_ref().unwrap_or(&source.account);
            assert_eq!(work.auth.username(), Some(expected.as_str()));
        }
    }
}

#[test]
fn a_new_configuration_has_comments_and_no_needless_settings() {
    let source =
        source(AccessKind::Imap, ServerAddress::imap_with_tls("imap.example.com"), password(None));

    let expected = r#"
[archive]
dir = "downloads"  # folder; where the mail is kept, in one folder per session and account

[source.work]
kind = "imap"                # the protocol
account = "me@example.com"   # names the folder in the archive
host = "imap.example.com"    # the server
auth = { type = "password", password = { file = "work.password" } }  # the secret is in this file
#poll_interval = "5m"        # duration; how often a completed source is polled for new mail
#reconcile_interval = "30d"  # duration; how often everything is listed again; nothing is fetched twice
#exclude = ["Spam"]          # names or patterns of folders that are left out; none when left out
#since = 2020-01-01          # extract only what is from this day or newer; everything when left out
"#;
    assert_eq!(new_config(&source, "downloads"), format!("{HEADER}{expected}"));
}

#[test]
fn settings_that_are_commented_out_are_valid() {
    for source in all_sources() {
        let text = new_config(&source, "downloads");
        let uncommented: Vec<&str> = text.lines().map(uncomment).collect();

        let (defaults, changed) = (load_text(&text), load_text(&uncommented.join("\n")));

        assert!(text.contains("\n#poll_interval"), "{text}");
        let (defaults, changed) = (work(&defaults), work(&changed));
        assert_eq!(changed.poll_interval, defaults.poll_interval);
        assert_eq!(changed.reconcile_interval, defaults.reconcile_interval);
    }
}

#[test]
fn every_option_of_a_guide_loads() {
    for text in ["me@gmail.com", "me@outlook.com", "me@mail.ru", "me@icloud.com", "me@yandex.ru"] {
        let guide = find_guide(&MailAddress::parse(text).unwrap()).unwrap();
        for option in guide.options {
            let loaded = load_text(&new_config(&source_of(text, &option), "downloads"));
            assert_eq!(kind_of(work(&loaded)), option.kind.name());
        }
    }
}

#[test]
fn durations_have_the_limits_of_the_configuration() {
    let addresses = [
        "me@fastmail.com",
        "me@outlook.com",
        "me@mail.ru",
        "me@yandex.ru",
        "me@yahoo.com",
        "me@yahoo.co.jp",
        "me@aol.com",
        "me@icloud.com",
        "me@web.de",
        "me@example.com",
    ];
    let mut checked = 0;
    for text in addresses {
        let address = MailAddress::parse(text).unwrap();
        let guide = find_guide(&address).unwrap_or_else(|| own_server_guide(&address));
        for option in guide.options {
            let loaded = load_text(&new_config(&source_of(text, &option), "downloads"));
            let provider = loaded.settings.provider_or_default(&work(&loaded).provider);
            let expected = match (option.kind, provider.connections) {
                (AccessKind::Imap, 1) => "uses 1 connection.".to_owned(),
                (AccessKind::Imap, count) => format!("uses {count} connections."),
                (AccessKind::Jmap, _) => format!("at most {} requests", provider.concurrency),
                (AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru, _) => continue,
            };
            assert!(option.duration.contains(&expected), "{text}: {}", option.duration);
            checked += 1;
        }
    }
    assert_eq!(checked, addresses.len() + 2);
}

/// Removes the mark of a setting that is commented out.
fn uncomment(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        Some(_) | None => line,
    }
}

/// Returns the source of an option of a guide.
fn source_of(account: &str, option: &AccessOption) -> NewSource {
    let auth = match option.method {
        SignInMethod::Password => password(None),
        SignInMethod::Token => token(),
        SignInMethod::Browser { needs_secret: true } => browser(Some("work.secret")),
        SignInMethod::Browser { needs_secret: false } => browser(None),
        SignInMethod::SessionFile => session(),
    };
    let account = account.to_owned();
    NewSource { account, ..source(option.kind, option.server.clone(), auth) }
}

const CONFIGS: &[&str] = &[
    "",
    "\n",
    "# only a comment",
    "# only a comment\n\n",
    "[archive]\ndir = \"mail\"   # here\n",
    "  [ archive ]   # odd spaces\n\tdir=\"mail\"\n\n\n# the end, without a line end",
    "[archive]\r\ndir = 'mail'\r\n\r\n[source.other] # with CR\r\nkind = 'imap'\r\n",
    "[source.other]\nkind = \"jmap\"\n[source.other.auth]\ntype = \"x\"\n[archive]\ndir = 'x'\n",
    "restart.max_retries = 5\n\n[service]\nservice_name = \"über\" # ∞\n",
    "[provider]\n[provider.gmail]\nconnections = 0b11\n# text = \"[source.work]\"\n",
    "x = \"\"\"\n[source.work]\n\"\"\"\n",
];

#[test]
fn an_addition_changes_no_other_byte() {
    let new = source(AccessKind::Imap, ServerAddress::Known, password(None));
    for config in CONFIGS {
        let added = add_source(config, &new).unwrap();

        let rest = added.strip_prefix(config).expect("the beginning is unchanged");
        let line_end = if config.contains('\r') { "\r\n" } else { "\n" };
        let table = source_table(&new).replace('\n', line_end);
        let gap = rest.strip_suffix(&table).expect("the table is at the end");
        assert!(gap.chars().all(|c| c == '\r' || c == '\n'), "{gap:?}");
        assert!(config.is_empty() || added.contains(&format!("{line_end}[source.work]")));
        let document = Document::parse(added.as_str()).unwrap();
        let kind = document.get("source").and_then(|sources| sources.get("work")?.get("kind"));
        assert_eq!(kind.and_then(Item::as_str), Some("imap"));
    }
}

#[test]
fn several_sources_are_added_one_after_the_other() {
    let first = source(AccessKind::Jmap, ServerAddress::Known, token());
    let second = NewSource { name: "second".to_owned(), ..first.clone() };

    let config = add_source(&new_config(&first, "downloads"), &second).unwrap();

    let loaded = load_text(&config);
    assert_eq!(loaded.settings.sources.len(), 2);
    assert!(config.contains("\n\n[source.second]\n"), "{config}");
}

#[test]
fn what_cannot_be_added_is_one_sentence() {
    let new = source(AccessKind::Imap, ServerAddress::Known, password(None));
    for (config, expected) in [
        ("[archive\n", "not valid TOML in line 1, column "),
        ("a = 1\n\nb = \n", "not valid TOML in line 3, column "),
        ("[a]\n[a]\n", "not valid TOML in line 2, column "),
        ("[source.work]\n", "there is a source `work` already"),
        ("source.work.kind = \"imap\"\n", "there is a source `work` already"),
        ("source = { other = {} }\n", "is not written as tables"),
        ("source = 1\n", "is not written as tables"),
        ("[[source]]\n", "is not written as tables"),
    ] {
        let error = add_source(config, &new).expect_err(config);
        assert!(error.contains(expected), "{config:?}: {error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
    for name in ["", "Work", "a b", "a]\n[b", "../x"] {
        let named = NewSource { name: name.to_owned(), ..new.clone() };
        let error = add_source("", &named).expect_err(name);
        assert!(error.contains("is not a name") && !error.contains('\n'), "{error:?}");
    }
}

#[test]
fn texts_cannot_leave_their_quotes() {
    let hostile = "x\"\n[archive]\ndir = '/'";
    let auth = NewSourceAuth::Password { username: Some(hostile.to_owned()), file: hostile.into() };
    let server = ServerAddress::imap_with_tls("imap.example.com");
    let new = NewSource { account: hostile.to_owned(), ..source(AccessKind::Imap, server, auth) };

    let added = add_source("", &new).unwrap();

    let document = Document::parse(added.as_str()).unwrap();
    assert!(document.get("archive").is_none(), "{added}");
    let account = document.get("source").and_then(|sources| sources.get("work")?.get("account"));
    assert_eq!(account.and_then(Item::as_str), Some(hostile));
}
