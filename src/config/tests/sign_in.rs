//! `auth` of a sign-in with OAuth 2.0: its client, and the endpoints of the provider.

use super::*;

/// Source that a preset gives the endpoints of its sign-in.
const PRESET_TABLE: &str = r#"
[source.work]
kind = "imap"
account = "me@outlook.com"
auth = { type = "oauth2", client_id = "client" }
"#;

/// All keys of a sign-in.
const FULL_SIGN_IN: &str = r#"username = "me", client_id = "client", client_secret = { env = "SECRET" },
    token = { file = "tokens/work.json" }, authorize_url = "http://127.0.0.1:8080/authorize",
    token_url = "http://localhost:8080/token", device_url = "https://auth.example.com/device",
    scopes = ["mail.read", "offline_access"]"#;

/// Source at a server without a preset.
fn own_server_table(sign_in: &str) -> String {
    format!(
        "[source.work]\nkind = \"imap\"\naccount = \"me@example.com\"\nhost = \"imap.example.com\"\n\
         auth = {{ type = \"oauth2\", {sign_in} }}\n"
    )
}

fn work_client(loaded: &LoadedConfig) -> &OAuthSettings {
    let SourceAuth::SignIn { client, .. } = &work_source(loaded).auth else { panic!("a sign-in") };
    client
}

#[test]
fn a_preset_gives_the_endpoints_of_a_sign_in() {
    let loaded = load_text(PRESET_TABLE).expect("it is valid");

    let endpoint = |name: &str| {
        let url = format!("https://login.microsoftonline.com/common/oauth2/v2.0/{name}");
        url.parse().expect("the URL is valid")
    };
    let auth = &work_source(&loaded).auth;
    assert_eq!((auth.username(), auth.credential_ref()), (Some("me@outlook.com"), None));
    assert_eq!(
        work_client(&loaded),
        &OAuthSettings {
            client_id: "client".to_owned(),
            client_secret: None,
            token_file: None,
            authorize_url: Some(endpoint("authorize")),
            token_url: endpoint("token"),
            device_url: Some(endpoint("devicecode")),
            scopes: vec![
                "https://outlook.office.com/IMAP.AccessAsUser.All".to_owned(),
                "offline_access".to_owned(),
            ],
        }
    );
}

#[test]
fn each_provider_has_the_scopes_for_its_mail() {
    for (account, scopes) in [
        ("me@gmail.com", Some(&["https://mail.google.com/"][..])),
        ("me@yandex.ru", Some(&["mail:imap_ro"])),
        ("me@mail.ru", Some(&["userinfo", "mail.imap"])),
        ("me@fastmail.com", None),
    ] {
        let loaded = load_text(&PRESET_TABLE.replace("me@outlook.com", account));
        let loaded = loaded.map(|loaded| work_client(&loaded).scopes.clone()).ok();
        let expected = scopes.map(|scopes| scopes.iter().map(|&scope| scope.to_owned()).collect());
        assert_eq!(loaded, expected, "{account}");
    }
}

#[test]
fn every_sign_in_setting_can_be_written() {
    let folder = ConfigFolder::new(&own_server_table(&FULL_SIGN_IN.replace('\n', " ")));
    let loaded = folder.load().expect("it is valid");

    assert_eq!(work_source(&loaded).auth.username(), Some("me"));
    let url = |text: &str| text.parse().expect("the URL is valid");
    assert_eq!(
        work_client(&loaded),
        &OAuthSettings {
            client_id: "client".to_owned(),
            client_secret: Some(CredentialRef::Env("SECRET".to_owned())),
            token_file: Some(folder.path("tokens/work.json")),
            authorize_url: Some(url("http://127.0.0.1:8080/authorize")),
            token_url: url("http://localhost:8080/token"),
            device_url: Some(url("https://auth.example.com/device")),
            scopes: vec!["mail.read".to_owned(), "offline_access".to_owned()],
        }
    );
}

#[test]
fn a_device_endpoint_needs_no_page_to_sign_in() {
    let text = own_server_table(
        "client_id = \"client\", token_url = \"https://a.example.com/t\", \
         device_url = \"https://a.example.com/d\"",
    );
    let loaded = load_text(&text).expect("it is valid");

    assert_eq!(work_client(&loaded).authorize_url, None);
    assert!(work_client(&loaded).scopes.is_empty());
}

#[test]
fn written_endpoints_replace_all_those_of_a_preset() {
    let with_urls = |urls: &str| {
        let client_id = "client_id = \"client\"";
        load_text(&PRESET_TABLE.replace(client_id, &format!("{client_id}, {urls}")))
    };
    let both =
        "authorize_url = \"https://a.example.com/a\", token_url = \"https://a.example.com/t\"";

    let loaded = with_urls(both).expect("it is valid");
    assert_eq!(work_client(&loaded).token_url.as_str(), "https://a.example.com/t");
    assert_eq!(work_client(&loaded).device_url, None, "it belongs to another server");
    assert_eq!(work_client(&loaded).scopes.len(), 2, "the scopes are those of the mail server");

    let error = with_urls("token_url = \"https://a.example.com/t\"").expect_err("one is missing");
    let message = "config.toml:5:1: `source.work.auth` has a `client_id`, but no `authorize_url`; \
                   write both, or no address at all, as a preset has them";
    assert_eq!(error.lines().next(), Some(message));
}

#[test]
fn an_invalid_sign_in_is_rejected_without_quoting_it() {
    let cases = [
        "username = \"hunter2\"",
        "client_secret = { env = \"hunter2\" }, token = { env = \"hunter2\" }",
        "client_id = \"hunter2\"",
        "client_id = \"hunter2\", authorize_url = \"https://a.example.com/\"",
        "client_id = \"hunter2\", token_url = \"https://a.example.com/\"",
        "client_id = \"\"",
        "client_id = [\"hunter2\"]",
        "client_id = \"hunter2\", client_secret = \"hunter2\"",
        "client_id = \"hunter2\", token = { systemd = \"hunter2\" }",
        "client_id = \"hunter2\", token_url = \"http://a.example.com/hunter2\"",
        "client_id = \"hunter2\", token_url = \"hunter2\"",
        "client_id = \"hunter2\", token_url = 5",
        "client_id = \"hunter2\", scopes = \"hunter2\"",
        "client_id = \"hunter2\", scopes = [\"hunter2 offline_access\"]",
        "client_id = \"hunter2\", password = { env = \"hunter2\" }",
        "clientid = \"hunter2\"",
    ];
    let errors: Vec<String> =
        cases.iter().map(|sign_in| load_errors(&own_server_table(sign_in))).collect();

    assert!(
        errors.iter().all(|error| !error.contains("hunter2") && error.lines().count() == 2),
        "{errors:#?}"
    );
    let first_lines: Vec<&str> = errors.iter().filter_map(|error| error.lines().next()).collect();
    insta::assert_snapshot!(first_lines.join("\n"), @r#"
    config.toml:5:1: `source.work.auth` has neither a `client_id` nor a `token`; write client_id = "CLIENT-ID" and sign in with `cynosure auth`, or token = { file = "token" } for an access token
    config.toml:5:1: `source.work.auth` has a `client_secret`, but no `client_id`; add the client_id of your application at the provider, or remove `client_secret`
    config.toml:5:1: `source.work.auth` has a `client_id`, but no `authorize_url` and no `token_url`; write the addresses that your mail provider documents for OAuth 2.0, such as token_url = "https://auth.example.com/token"
    config.toml:5:1: `source.work.auth` has a `client_id`, but no `token_url`; write the addresses that your mail provider documents for OAuth 2.0, such as token_url = "https://auth.example.com/token"
    config.toml:5:1: `source.work.auth` has a `client_id`, but no `authorize_url`; write the addresses that your mail provider documents for OAuth 2.0, such as token_url = "https://auth.example.com/token"
    config.toml:5:1: `source.work.auth` has a `client_id` that is empty; write a text, or leave the key out
    config.toml:5:1: `source.work.auth` has a `client_id` that is not a text; write one in quotes
    config.toml:5:1: `source.work.auth` has a `client_secret` that is not a reference; secrets are never written in the configuration: write { file = "PATH" }, { env = "NAME" }, { command = ["PROGRAM", "ARGUMENT"] } or { systemd = "NAME" }
    config.toml:5:1: `source.work.auth` has a `client_id` and a `token` that is not a file, but the tokens of a sign-in are renewed and must be written; write token = { file = "PATH" }, or leave it out
    config.toml:5:1: `source.work.auth` has a `token_url` that is plain http, so tokens could be read on the way; write https://
    config.toml:5:1: `source.work.auth` has a `token_url` that is not a valid URL (relative URL without a base); write it in full, such as "https://auth.example.com/token"
    config.toml:5:1: `source.work.auth` has a `token_url` that is not a text; write one in quotes
    config.toml:5:1: `source.work.auth` has `scopes` that are not a list; write scopes = ["mail.read", "offline_access"], each scope on its own
    config.toml:5:1: `source.work.auth` has an entry in `scopes` that is not a scope; write scopes = ["mail.read", "offline_access"], each scope on its own
    config.toml:5:1: `source.work.auth` has a `password`, which its type does not use; write auth = { type = "password", password = { file = "password" } } or auth = { type = "oauth2", token = { file = "token" } }
    config.toml:5:1: `source.work.auth` has an unknown key `clientid`; did you mean `client_id`?
    "#);
}

#[test]
fn only_oauth2_signs_in() {
    let password = "type = \"password\", password = { env = \"P\" }, scopes = []";
    let imap = PRESET_TABLE.replace("type = \"oauth2\", client_id = \"client\"", password);
    let error = load_errors(&imap);
    assert!(error.contains("has a `scopes`, which its type does not use"), "{error}");

    let bearer = "type = \"bearer\", token = { env = \"T\" }, client_id = \"client\"";
    let jmap = format!(
        "[source.work]\nkind = \"jmap\"\nurl = \"https://a.example.com\"\naccount = \"me\"\n\
         auth = {{ {bearer} }}\n"
    );
    let error = load_errors(&jmap);
    assert!(error.contains("has a `client_id`, which its type does not use"), "{error}");
}

#[test]
fn a_sign_in_is_shown_with_its_preset() {
    let folder = ConfigFolder::new(&PRESET_TABLE.replace("me@outlook.com", "me@gmail.com"));
    let shown = folder.load().expect("it is valid").to_toml();
    let shown = shown.replace(&format!("{}/", folder.0.path().display()), "");

    let auth = shown.lines().find(|line| line.starts_with("auth = ")).expect("it is shown");
    insta::assert_snapshot!(auth, @r#"auth = { type = "oauth2", username = "me@gmail.com", client_id = "client", authorize_url = "https://accounts.google.com/o/oauth2/v2/auth", token_url = "https://oauth2.googleapis.com/token", scopes = ["https://mail.google.com/"] }  # config.toml:5:1 and preset gmail"#);
}

#[test]
fn a_sign_in_is_shown_as_it_is_read() {
    let own_server = own_server_table(&FULL_SIGN_IN.replace('\n', " "));
    for text in [PRESET_TABLE, &own_server] {
        let loaded = load_text(text).expect("it is valid");

        let shown = loaded.to_toml();

        let again = load_text(&shown).expect("what is shown is valid");
        assert_eq!(again.settings, loaded.settings);
    }
}

#[test]
fn a_mailbox_of_a_service_account_needs_only_its_key() {
    let text = "[source.work]\nkind = \"imap\"\naccount = \"me@gmail.com\"\n\
                auth = { type = \"service_account\", key = { env = \"KEY\" } }\n";

    let loaded = load_text(text).expect("it is valid");

    let auth = &work_source(&loaded).auth;
    let SourceAuth::Application { username, client } = auth else { panic!("{auth:?}") };
    assert_eq!((username.as_str(), auth.credential_ref()), ("me@gmail.com", None));
    let grant = ApplicationGrantSettings::ServiceAccount {
        key: CredentialRef::Env("KEY".to_owned()),
        subject: "me@gmail.com".to_owned(),
    };
    assert_eq!(client.grant, grant);
    assert_eq!(client.scopes, ["https://www.googleapis.com/auth/gmail.imap_admin"]);
    let again = load_text(&loaded.to_toml()).expect("what is shown is valid");
    assert_eq!(again.settings, loaded.settings);
}
