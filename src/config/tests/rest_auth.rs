//! `auth` of REST sources, merged with that of their profile.

use cynosure_engine::rest::Template;

use super::*;

/// Source with its tables and this `auth`, if it is not empty.
fn api_table(auth: &str) -> String {
    let auth = if auth.is_empty() { String::new() } else { format!("auth = {auth}\n") };
    format!(
        "[source.work]\nkind = \"rest\"\naccount = \"me@example.com\"\n\
         base_url = \"https://api.example.com\"\n\
         list = {{ get = \"/a\", items = \"\", id = \"/id\" }}\n{auth}"
    )
}

/// Source with a built-in profile.
fn profile_table(kind: &str, auth: &str) -> String {
    format!("[source.work]\nkind = \"{kind}\"\naccount = \"me@example.com\"\nauth = {auth}\n")
}

fn auth_of(text: &str) -> SourceAuth {
    work_source(&load_text(text).expect("it is valid")).auth.clone()
}

fn variable(name: &str) -> CredentialRef {
    CredentialRef::Env(name.to_owned())
}

#[test]
fn every_type_of_an_api_can_be_written() {
    let value = variable("V");
    let name = "X-Api-Key".to_owned();
    let username = "me@example.com".to_owned();
    for (auth, expected) in [
        ("", SourceAuth::None),
        (
            "{ type = \"header\", name = \"X-Api-Key\", value = { env = \"V\" } }",
            SourceAuth::Header { name: name.clone(), value: value.clone() },
        ),
        (
            "{ type = \"query\", name = \"X-Api-Key\", value = { env = \"V\" } }",
            SourceAuth::Query { name, value: value.clone() },
        ),
        (
            "{ type = \"bearer\", token = { env = \"V\" } }",
            SourceAuth::Bearer { token: value.clone() },
        ),
        (
            "{ type = \"basic\", password = { env = \"V\" } }",
            SourceAuth::Basic { username: username.clone(), password: value.clone() },
        ),
        (
            "{ type = \"oauth2\", token = { env = \"V\" } }",
            SourceAuth::OAuth2 { username, token: value },
        ),
    ] {
        let text = api_table(auth);
        let loaded = load_text(&text).expect("it is valid");

        assert_eq!(work_source(&loaded).auth, expected, "{auth}");
        let again = load_text(&loaded.to_toml()).expect("what is shown is valid");
        assert_eq!(work_source(&again).auth, expected, "{auth}");
    }
}

#[test]
fn a_session_has_the_cookies_and_parameters_of_its_profile() {
    let auth = auth_of(&profile_table("mailru", "{ session = { env = \"SESSION\" } }"));

    let SourceAuth::Session { session, cookies, query } = auth else { panic!("a session") };
    assert_eq!(session, variable("SESSION"));
    assert_eq!(cookies, ["Mpop", "sdcs", "ssdc"]);
    let template = |text: &str| Template::parse(text).expect("it is valid");
    assert_eq!(
        query,
        [
            ("email".to_owned(), template("{credential.email}")),
            ("token".to_owned(), template("{credential.token}")),
        ]
    );
}

#[test]
fn an_application_has_the_address_and_the_scopes_of_its_profile() {
    let folder = ConfigFolder::new(&profile_table(
        "gmail",
        "{ type = \"service_account\", key = { file = \"key.json\" } }",
    ));
    let loaded = folder.load().expect("it is valid");
    assert_eq!(
        work_source(&loaded).auth,
        SourceAuth::Application {
            username: "me@example.com".to_owned(),
            client: ApplicationSettings {
                grant: ApplicationGrantSettings::ServiceAccount {
                    key: CredentialRef::File(folder.path("key.json")),
                    subject: "me@example.com".to_owned(),
                },
                token_url: "https://oauth2.googleapis.com/token".parse().ok(),
                scopes: vec!["https://www.googleapis.com/auth/gmail.readonly".to_owned()],
            },
        }
    );

    let text = profile_table(
        "graph",
        "{ type = \"client_credentials\", client_id = \"client\", client_secret = { env = \"S\" } }",
    );
    let SourceAuth::Application { client, .. } =
        auth_of(&format!("{text}options = {{ tenant = \"contoso\" }}\n"))
    else {
        panic!("an application");
    };
    assert_eq!(client.scopes, ["https://graph.microsoft.com/.default"]);
    let token_url = "https://login.microsoftonline.com/contoso/oauth2/v2.0/token";
    assert_eq!(client.token_url.map(String::from).as_deref(), Some(token_url));
}

#[test]
fn another_type_takes_nothing_from_the_profile() {
    let bearer = "{ type = \"bearer\", token = { env = \"T\" } }";

    assert_eq!(
        auth_of(&profile_table("gmail", bearer)),
        SourceAuth::Bearer { token: variable("T") }
    );
    let password = "{ type = \"password\", password = { env = \"P\" } }";
    let error = load_errors(&profile_table("gmail", password));
    assert!(error.contains("the type \"password\", which kind \"gmail\" does not use"), "{error}");
    let error = load_errors(&profile_table("mailru", bearer));
    assert!(error.contains("which is {credential.user_agent}, a field of a session"), "{error}");
}

#[test]
fn a_missing_auth_is_reported_with_that_of_the_profile() {
    let text = "[source.work]\nkind = \"gmail\"\naccount = \"me@gmail.com\"\n";
    let expected = "config.toml:1:9: `source.work.auth` is missing; write auth = { type = \"oauth2\", \
                    client_id = \"CLIENT-ID\" } and sign in with `cynosure auth`";

    assert_eq!(load_errors(text).lines().next(), Some(expected));
}

#[test]
fn invalid_auth_of_an_api_is_rejected_without_quoting_it() {
    let types = "\"basic\", \"bearer\", \"oauth2\", \"session\", \"header\", \"query\", \
                 \"service_account\", \"client_credentials\"";
    for (auth, expected) in [
        ("{ type = \"hunter2\" }", format!("has a `type` that is none of {types}; ")),
        (
            "{ type = \"header\", name = \"hunter 2\", value = { env = \"V\" } }",
            "has a `name` that is not a header name".to_owned(),
        ),
        (
            "{ type = \"header\", name = \"X\", value = \"hunter2\" }",
            "has a `value` that is not a reference".to_owned(),
        ),
        ("{ type = \"query\", value = { env = \"hunter2\" } }", "has no `name`; add it".to_owned()),
        (
            "{ type = \"session\", session = { env = \"hunter2\" } }",
            "has neither `cookies` nor a `query`".to_owned(),
        ),
        (
            "{ type = \"session\", session = { env = \"V\" }, query = { token = \"hunter2\" } }",
            "has a `query` whose `token` is a fixed text".to_owned(),
        ),
        (
            "{ type = \"session\", session = { env = \"V\" }, query = { token = \"{hunter2}\" } }",
            "has a `query` whose `token`".to_owned(),
        ),
        (
            "{ type = \"session\", session = { env = \"V\" }, cookies = [\"hunter2=a\"] }",
            "has an entry in `cookies` that is not the name of a cookie".to_owned(),
        ),
        (
            "{ type = \"client_credentials\", client_id = \"hunter2\", client_secret = { env = \"V\" } }",
            "has no `token_url`; ".to_owned(),
        ),
        (
            "{ type = \"bearer\", token = { env = \"V\" }, session = { env = \"hunter2\" } }",
            "has a `session`, which its type does not use".to_owned(),
        ),
        (
            "{ type = \"password\", password = { env = \"hunter2\" } }",
            "has the type \"password\", which kind \"rest\" does not use".to_owned(),
        ),
    ] {
        let error = load_errors(&api_table(auth));

        let start = format!("config.toml:6:1: `source.work.auth` {expected}");
        assert!(error.starts_with(&start) && !error.contains("hunter2"), "{error}");
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}
