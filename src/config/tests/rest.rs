//! `kind = "rest"`: built-in profiles, profiles in files, and the tables of a source.

use cynosure_engine::Cause;
use cynosure_engine::rate_limit::Rate;
use cynosure_engine::rest::{
    FetchBody, JsonPath, PageTarget, PageTargetPlace, Paging, TableName, Template, TextEncoding,
};

use super::*;

/// Source that declares its tables itself.
const API_TABLE: &str = r#"
[source.work]
kind = "rest"
base_url = "https://api.example.com/v1"
account = "me@example.com"
auth = { type = "bearer", token = { env = "TOKEN" } }
list = { get = "/records", items = "/records", id = "/id" }
"#;

/// Source with a built-in profile.
const GMAIL_TABLE: &str = r#"
[source.work]
kind = "gmail"
account = "me@gmail.com"
auth = { type = "oauth2", client_id = "client" }
"#;

const GRAPH_TABLE: &str = r#"
[source.work]
kind = "graph"
account = "me@outlook.com"
auth = { type = "oauth2", client_id = "client" }
"#;

const MAILRU_TABLE: &str = r#"
[source.work]
kind = "mailru"
account = "me@mail.ru"
auth = { type = "session", session = { env = "SESSION" } }
"#;

fn work_api(loaded: &LoadedConfig) -> &RestSettings {
    work_source(loaded).kind.rest().expect("a REST source")
}

fn template(text: &str) -> Template {
    Template::parse(text).expect("the template is valid")
}

/// Returns the settings of the source without the lines of its error rules.
fn without_lines(loaded: &LoadedConfig) -> RestSettings {
    let mut settings = work_api(loaded).clone();
    for rule in &mut settings.profile.errors {
        rule.location.clear();
    }
    settings
}

#[test]
fn every_built_in_profile_is_valid() {
    for (text, name, host) in [
        (GMAIL_TABLE, "gmail", "gmail.googleapis.com"),
        (GRAPH_TABLE, "graph", "graph.microsoft.com"),
        (MAILRU_TABLE, "mailru", "e.mail.ru"),
    ] {
        let loaded = load_text(text).expect("it is valid");
        let source = work_source(&loaded);

        assert_eq!((source.kind.name(), source.kind.profile()), ("rest", Some(name)));
        assert_eq!((source.provider.as_str(), source.kind.host()), (host, host));
        assert!(source.kind.uses_http());
        assert_eq!(source.kind.document_format(), DocumentFormatSettings::default(), "{name}");
        assert!(work_api(&loaded).profile.errors.len() > 4, "{name}");
    }
}

#[test]
fn a_kind_with_a_profile_is_that_profile() {
    let by_kind = load_text(GMAIL_TABLE).expect("it is valid");
    let by_profile = GMAIL_TABLE.replace("\"gmail\"", "\"rest\"\nprofile = \"gmail\"");
    let by_profile = load_text(&by_profile).expect("it is valid");

    assert_eq!(by_profile.settings.sources, by_kind.settings.sources);
    assert_eq!(by_profile.settings.providers, by_kind.settings.providers);

    let error = load_errors(&format!("{GMAIL_TABLE}profile = \"graph\"\n"));
    assert!(
        error.contains("`source.work.profile` is a second profile, as kind = \"gmail\""),
        "{error}"
    );
    let error = load_errors(&GMAIL_TABLE.replace("\"gmail\"", "\"rest\"\nprofile = \"gmial\""));
    assert!(error.contains("is not a built-in profile; did you mean \"gmail\"?"), "{error}");
}

#[test]
fn gmail_lists_messages_by_thread_and_decodes_their_text() {
    let loaded = load_text(GMAIL_TABLE).expect("it is valid");
    let profile = &work_api(&loaded).profile;

    let list = &profile.tables.list.listing;
    let paths = [&list.rows.id, &list.rows.document].map(|paths| paths[0].as_str());
    assert_eq!(paths, ["/threadId", "/id"]);
    assert!(list.rows.is_optional);
    let to = PageTarget { place: PageTargetPlace::Query, name: "pageToken".to_owned() };
    assert!(matches!(&list.page.paging, Paging::Token { to: found, .. } if *found == to));
    let FetchBody::Text { at, encoding } = &profile.tables.fetch.body else { panic!("a text") };
    assert_eq!((at.as_str(), *encoding), ("/raw", TextEncoding::Base64Url));
    let causes = |status: u16, text: &str| {
        let rules = profile.errors.iter().filter(|rule| {
            let statuses = rule.statuses.iter();
            statuses.clone().any(|range| (range.first..=range.last).contains(&status))
                && rule.values.iter().any(|value| format!("{:?}", value.test).contains(text))
        });
        rules.map(|rule| rule.cause).collect::<Vec<_>>()
    };
    assert_eq!(causes(403, "userRateLimitExceeded"), [Cause::RateLimit]);
    assert_eq!(causes(403, "accessNotConfigured"), [Cause::Unauthorized]);
    assert_eq!(causes(403, "Delegation denied"), [Cause::Unauthorized]);
    assert_eq!(causes(400, "failedPrecondition"), [Cause::Unauthorized, Cause::Server]);
}

#[test]
fn the_built_in_profiles_name_the_folders_of_messages() {
    let gmail = load_text(GMAIL_TABLE).expect("it is valid");
    let tables = &work_api(&gmail).profile.tables;
    let folders = tables.folders.as_ref().expect("it has names of labels");
    assert_eq!(folders.none.as_deref(), Some("All Mail"));
    assert!(folders.listing.rows.skip.is_some() && tables.list.listing.rows.folder.is_empty());
    let paths = |paths: &[JsonPath]| {
        paths.iter().map(|path| path.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(paths(&tables.fetch.folder), "/labelIds");

    let graph = load_text(GRAPH_TABLE).expect("it is valid");
    let tables = &work_api(&graph).profile.tables;
    let parts = tables.parts.as_ref().expect("it has folders");
    assert_eq!(parts.names.parent.as_ref().map(JsonPath::as_str), Some("/parentFolderId"));
    let sweep = tables.sweep.as_ref().expect("it has a sweep");
    assert_eq!(paths(&sweep.listing.rows.folder), "/parentFolderId");

    let mailru = load_text(MAILRU_TABLE).expect("it is valid");
    let documents = work_api(&mailru).profile.tables.documents.as_ref();
    assert_eq!(paths(&documents.expect("threads have messages").rows.folder), "/folder");

    let (head, _) = API_TABLE.split_once("list = ").expect("it has a list");
    let own = format!(
        "{head}folders = {{ get = \"/f\", items = \"\", id = \"/id\", none = \"Archive\" }}\n\
         list = {{ get = \"/a\", items = \"\", id = \"/id\", folder = [\"/a\", \"/b/*\"] }}\n"
    );
    let own = load_text(&own).expect("it is valid");
    let tables = &work_api(&own).profile.tables;
    assert_eq!(paths(&tables.list.listing.rows.folder), "/a /b/*");
    let none = tables.folders.as_ref().and_then(|folders| folders.none.as_deref());
    assert_eq!(none, Some("Archive"));
}

#[test]
fn the_limits_of_a_profile_are_those_of_its_provider() {
    let loaded = load_text(GMAIL_TABLE).expect("it is valid");
    let provider = loaded.settings.provider_or_default("gmail.googleapis.com");
    assert_eq!((provider.concurrency, provider.cap), (8, Some(Rate::per_second(100.0))));
    assert_eq!(provider.rate_limit_scope, RateLimitScope::Account);
    assert_eq!(work_api(&loaded).profile.weight(TableName::Fetch), 20);
    assert_eq!(work_api(&loaded).profile.weight(TableName::Sweep), 1, "a table without a weight");

    let older = load_text(&format!("{GMAIL_TABLE}quota = \"gmail-2025\"\n")).expect("it is valid");
    let profile = &work_api(&older).profile;
    assert_eq!(work_api(&older).limits.cap, Some(Rate::per_second(250.0)));
    assert_eq!([TableName::Fetch, TableName::List].map(|table| profile.weight(table)), [5, 5]);

    let loaded = load_text(MAILRU_TABLE).expect("it is valid");
    let provider = loaded.settings.provider_or_default("e.mail.ru");
    assert_eq!((provider.concurrency, provider.cap), (1, Some(Rate::per_second(0.5))));

    let text = format!("{MAILRU_TABLE}[provider.\"e.mail.ru\"]\nconcurrency = 2\ncap = \"1/s\"\n");
    let loaded = load_text(&text).expect("it is valid");
    let provider = loaded.settings.provider_or_default("e.mail.ru");
    assert_eq!((provider.concurrency, provider.cap), (2, Some(Rate::per_second(1.0))));
}

#[test]
fn different_limits_of_one_provider_need_a_decision() {
    let [a, b] = ["a", "b"].map(|name| GMAIL_TABLE.replace("work", name));
    let text = format!("{a}{b}quota = \"gmail-2025\"\n");

    insta::assert_snapshot!(load_errors(&text), @r#"
    config.toml:8:1: `source.a` and `source.b` have one provider, but their profiles differ in cap; set cap in [provider."gmail.googleapis.com"], which then applies to both
    1 mistake in the configuration
    "#);
    assert!(
        load_text(&format!("{text}[provider.\"gmail.googleapis.com\"]\ncap = \"1/s\"\n")).is_ok()
    );
}

#[test]
fn a_table_of_the_source_replaces_that_of_the_profile() {
    let text = format!(
        "{GMAIL_TABLE}[source.work.list]\nget = \"/messages\"\nquery = {{ q = \"from:me\" }}\n\
         items = \"/messages\"\nid = \"/threadId\"\ndocument = \"/id\"\n"
    );
    let loaded = load_text(&text).expect("it is valid");

    let profile = &work_api(&loaded).profile;
    let list = &profile.tables.list.listing;
    assert_eq!(list.request.query, [("q".to_owned(), template("from:me"))]);
    assert_eq!(list.page.paging, Paging::Single);
    assert!(profile.tables.changes.is_some(), "the other tables stay");
}

#[test]
fn the_account_request_of_a_source_replaces_that_of_its_profile() {
    let request = "account_request = { get = \"/me\", id = \"/mail\" }\n";
    for table in [GMAIL_TABLE, API_TABLE] {
        let loaded = load_text(&format!("{table}{request}")).expect("it is valid");

        let account = work_api(&loaded).profile.tables.account.as_ref().expect("there is one");
        assert_eq!((&account.request.target, account.id.as_str()), (&template("/me"), "/mail"));
    }
    let shown = load_text(GMAIL_TABLE).expect("it is valid").to_toml();
    assert!(shown.contains("account_request = { get = \"/profile\", id = "), "{shown}");

    let error = load_errors(&format!("{API_TABLE}account_request = {{ get = \"/me\" }}\n"));
    assert!(error.contains("`source.work.account_request.id` is missing"), "{error}");
    let table = API_TABLE.replace("\"me@example.com\"", "{ get = \"/me\", id = \"/mail\" }");
    let error = load_errors(&table);
    assert!(error.contains("`source.work.account` is a table, which only a profile"), "{error}");
    assert!(error.contains("the request as `account_request`"), "{error}");
}

#[test]
fn a_misspelt_kind_causes_no_other_error() {
    for (table, kind, misspelt) in [(API_TABLE, "rest", "Rset"), (GMAIL_TABLE, "gmail", "gmial")] {
        let error = load_errors(&table.replacen(kind, misspelt, 1));

        let message = format!("is not a known kind; did you mean \"{kind}\"?\n1 mistake");
        assert!(error.contains(&message), "{error}");
    }
}

#[test]
fn options_are_merged_by_name() {
    let text = format!("{GRAPH_TABLE}options = {{ tenant = \"contoso\", page_size = 50 }}\n");
    let loaded = load_text(&text).expect("it is valid");

    let options = &work_api(&loaded).profile.options;
    let values = ["tenant", "mailbox", "page_size"].map(|name| options[name].as_str());
    assert_eq!(values, ["contoso", "me", "50"]);
    let SourceAuth::SignIn { client, .. } = &work_source(&loaded).auth else { panic!("a sign-in") };
    let token_url = "https://login.microsoftonline.com/contoso/oauth2/v2.0/token";
    assert_eq!(client.token_url.as_str(), token_url);
    assert!(client.device_url.is_some());

    let error = load_errors(&format!("{MAILRU_TABLE}options = {{ raw = \"raw\" }}\n"));
    let message = "is \"{options.raw}\", with the value \"raw\", which does not begin with /";
    assert!(error.contains(message), "{error}");
    let error = load_errors(&format!("{MAILRU_TABLE}options = {{ page = 5 }}\n"));
    assert!(error.contains("a page has 5 rows; lower it, or raise `size`"), "{error}");
    let error = load_errors(&format!("{GRAPH_TABLE}options = {{ pagesize = 50 }}\n"));
    assert!(
        error.contains("unknown option `source.work.options.pagesize`; did you mean `page_size`?"),
        "{error}"
    );
}

#[test]
fn own_tables_need_no_profile() {
    let loaded = load_text(API_TABLE).expect("it is valid");

    let source = work_source(&loaded);
    assert_eq!((source.kind.profile(), source.provider.as_str()), (None, "api.example.com"));
    let RestSettings { base_url, profile, limits, format, .. } = work_api(&loaded);
    assert_eq!(base_url.as_str(), "https://api.example.com/v1");
    assert_eq!(profile.tables.fetch.body, FetchBody::Row);
    assert_eq!((format.extension.as_str(), format.is_lines), ("json", false));
    assert_eq!(*limits, RestLimits::default());
    let provider = loaded.settings.provider_or_default("api.example.com");
    assert_eq!(provider.rate_limit_scope, RateLimitScope::Provider);

    let lines = load_text(&format!("{API_TABLE}records = \"lines\"\n")).expect("it is valid");
    assert!(work_source(&lines).kind.document_format().is_lines);
}

#[test]
fn the_profile_of_a_file_is_found_beside_the_configuration() {
    let text = API_TABLE.replace("base_url", "profile = { file = \"apis/my.toml\" }\n#");
    let text = text.replace("list = ", "# ");
    let profile = "base_url = \"https://api.example.com\"\n[account]\nget = \"/me\"\nid = \"/name\"\n\
                   [list]\nget = \"/all\"\nitems = \"\"\nid = \"/id\"\n[fetch]\nget = \"/{item.id}\"\n";
    let folder = ConfigFolder::new(&text).with_file("apis/my.toml", profile);

    let loaded = folder.load().expect("it is valid");

    let path = folder.path("apis/my.toml").display().to_string();
    assert_eq!(work_source(&loaded).kind.profile(), Some(path.as_str()));
    let tables = &work_api(&loaded).profile.tables;
    assert!(tables.account.is_some());
    assert_eq!(tables.fetch.body, FetchBody::Bytes);
    assert_eq!(work_source(&loaded).account, "me@example.com");
    let line = |line| Location::Line { file: folder.path("apis/my.toml").into(), line, column: 2 };
    assert_eq!(setting_origin(&loaded, "source.work", "list"), Some(line(5)));
}

#[test]
fn an_error_in_a_profile_names_its_file_and_line() {
    let text = API_TABLE.replace("list = ", "profile = { file = \"my.toml\" }\n# ");
    let profile = "[list]\nget = \"/a\"\nitems = \"\"\nidd = \"/id\"\n[fetch]\nget = \"/{item.idd}\"\n\
                   [optoins]\na = 1\n";
    let folder = ConfigFolder::new(&text).with_file("my.toml", profile);
    let error = folder.load().expect_err("it has mistakes");
    let lines: Vec<&str> = error.lines().collect();

    for start in [
        "my.toml:1:2: `list.id` is missing; write id = ",
        "my.toml:4:1: unknown key `list.idd`; did you mean `id`?",
        "my.toml:6:1: `fetch.get` is not valid: {item.idd} is not a placeholder",
        "my.toml:7:2: unknown key `optoins`; did you mean `options`?",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start}\n{error}");
    }
    assert_eq!(lines.len(), 5, "{error}");

    let profile = "kind = \"rest\"\nlist = { get = \"/a\", items = \"\", id = \"/id\" }\n";
    let error = ConfigFolder::new(&text).with_file("my.toml", profile).load();
    let error = error.expect_err("it has a key of a source");
    let message = "my.toml:1:1: unknown key `kind`; it belongs to the source; move it there\n1 ";
    assert!(error.starts_with(message), "{error}");
    let broken = ConfigFolder::new(&text).with_file("my.toml", "[list\n").load();
    let error = broken.expect_err("it is not TOML");
    assert!(error.starts_with("my.toml:1:") && error.lines().count() == 2, "{error}");
    let error = ConfigFolder::new(&text).load().expect_err("there is no such file");
    assert!(error.contains("`source.work.profile` names my.toml, which cannot be read"), "{error}");
}

#[test]
fn a_profile_holds_no_credential() {
    let text = API_TABLE.replace("list = ", "profile = { file = \"my.toml\" }\n# ");
    let profile = "[auth]\ntype = \"bearer\"\ntoken = { env = \"hunter2\" }\n\
                   [list]\nget = \"/a\"\nitems = \"\"\nid = \"/id\"\n";
    let error = ConfigFolder::new(&text).with_file("my.toml", profile).load();

    let error = error.expect_err("refused");
    let message = "my.toml:1:2: `auth` has a `token`, which belongs to `auth` of the source";
    assert!(error.starts_with(message) && !error.contains("hunter2"), "{error}");
}

#[test]
fn config_show_prints_the_tables_in_effect() {
    let folder =
        ConfigFolder::new(&format!("{GMAIL_TABLE}options = {{ spam_and_trash = false }}\n"));
    let shown = folder.load().expect("it is valid").to_toml();
    let shown = shown.replace(&format!("{}/", folder.0.path().display()), "");

    let line = |start: &str| {
        let mut lines = shown.lines().filter(|line| line.starts_with(start));
        let line = lines.next().unwrap_or_else(|| panic!("{start} is not shown:\n{shown}"));
        line.split("  # ").map(str::trim_end).collect::<Vec<_>>().join("  # ")
    };
    assert_eq!(line("kind"), "kind = \"gmail\"  # config.toml:3:1");
    assert_eq!(
        line("base_url"),
        "base_url = \"https://gmail.googleapis.com/gmail/v1/users/me\"  # profile gmail"
    );
    assert_eq!(
        line("options"),
        "options = { spam_and_trash = false }  # config.toml:6:1 and profile gmail"
    );
    assert_eq!(
        line("pin"),
        "pin = { cursor = \"/historyId\", get = \"/profile\", query = { fields = \"historyId\" } }  # profile gmail"
    );
    assert!(line("auth").ends_with("  # config.toml:5:1 and profile gmail"));
    assert_eq!(line("provider"), "provider = \"gmail.googleapis.com\"  # default");
    assert_eq!(line("cap"), "cap = \"100/s\"  # profile gmail");
    assert_eq!(line("quota_of"), "quota_of = \"account\"  # profile gmail");
}

#[test]
fn a_profile_is_shown_as_it_is_read() {
    let own = format!(
        "{API_TABLE}options = {{ size = 10 }}\nrecords = \"lines\"\nheaders = {{ X-Client = \"a\\\"b\" }}\n\
         pace = {{ in_flight = 2, every = \"1.5s\" }}\n[[source.work.error]]\n\
         when = {{ status = [\"4xx\"], at = \"/code\", is = [7, true, \"x\"] }}\nthen = \"gone\"\n"
    );
    for text in [GMAIL_TABLE, GRAPH_TABLE, MAILRU_TABLE, &own] {
        let loaded = load_text(text).expect("it is valid");

        let shown = loaded.to_toml();

        let again = load_text(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        assert_eq!(without_lines(&again), without_lines(&loaded));
        assert_eq!(work_source(&again).auth, work_source(&loaded).auth);
    }
}

#[test]
fn a_variable_replaces_a_table() {
    let folder = ConfigFolder::new(API_TABLE);
    let list = "{ get = \"/others\", items = \"\", id = \"/id\" }";
    let variables =
        [("CYNOSURE_SOURCE_WORK_LIST", list), ("CYNOSURE_SOURCE_WORK_RECORDS", "lines")];

    let loaded = folder.load_with_vars(variables).expect("it is valid");

    let api = work_api(&loaded);
    assert_eq!(api.profile.tables.list.listing.request.target, template("/others"));
    assert!(api.format.is_lines);
}

#[test]
fn plain_http_to_an_api_needs_loopback_or_consent() {
    let plain = API_TABLE.replace("https://", "http://");
    let error = load_errors(&plain);
    assert!(error.starts_with("config.toml:4:1: `source.work.base_url` is plain http"), "{error}");

    assert!(load_text(&format!("{plain}allow_plaintext = true\n")).is_ok());
    assert!(load_text(&plain.replace("api.example.com", "localhost:8080")).is_ok());
}
