//! Mistakes in the tables of REST sources.

use super::*;

/// Source with a list and these lines.
fn api_table(lines: &str) -> String {
    let list = "list = { get = \"/a\", items = \"\", id = \"/id\" }";
    let has_list = lines.lines().any(|line| line.starts_with("list = "));
    let list = if has_list { "" } else { list };
    format!(
        "[source.work]\nkind = \"rest\"\naccount = \"me\"\nbase_url = \"https://api.example.com\"\n\
         {list}\n{lines}\n"
    )
}

/// Checks that the lines are refused with one sentence that begins like this.
fn assert_error(lines: &str, expected: &str) {
    let error = load_errors(&api_table(lines));
    let (first, rest) = error.split_once('\n').expect("there are two lines");
    let (_, message) = first.split_once(": ").expect("there is a location");
    assert!(message.starts_with(expected), "{lines}\n{error}");
    assert_eq!(rest, "1 mistake in the configuration", "{lines}\n{error}");
}

#[test]
fn a_text_uses_only_values_that_its_table_has() {
    let cases = [
        (
            "list = { get = \"/{document.id}\", items = \"\", id = \"/id\" }",
            "`source.work.list.get` uses {document.id}, which has no value here; the values here are {account}",
        ),
        (
            "list = { get = \"/{part.id}\", items = \"\", id = \"/id\" }",
            "`source.work.list.get` uses {part.id}, which has no value here",
        ),
        (
            "list = { get = \"/a\", query = { p = \"{page.offset}\" }, items = \"\", id = \"/id\" }",
            "`source.work.list.query.p` uses {page.offset}, which has no value here",
        ),
        (
            "query = { size = \"{options.size}\" }",
            "`source.work.query.size` uses {options.size}, and there is no such option; add it",
        ),
        (
            "options = { size = 1 }\nquery = { size = \"{options.sise}\" }",
            "`source.work.query.size` uses {options.sise}, and there is no such option; did you mean {options.size}?",
        ),
        (
            "query = { t = \"{credential.t}\" }",
            "`source.work.query.t` uses {credential.t}, a field of a session, but `auth` is of another type",
        ),
        (
            "fetch = { get = \"/{document.folder}\" }",
            "`source.work.fetch.get` uses {document.folder}, which is not kept with every document",
        ),
        (
            "fetch = { get = \"/{documents.id}\" }",
            "`source.work.fetch.get` is not valid: {documents.id} is not a placeholder",
        ),
        (
            "options = { a = \"{options.b}\", b = 1 }",
            "`source.work.options.a` uses {options.b}, but an option may use only {account} and",
        ),
    ];
    for (lines, expected) in cases {
        assert_error(lines, expected);
    }
    let kept = "list = { get = \"/a\", items = \"\", id = \"/id\", keep = { folder = \"/f\" } }\n\
                fetch = { get = \"/{document.folder}/{document.id}/{item.id}\" }";
    assert!(load_text(&api_table(kept)).is_ok());
}

#[test]
fn a_request_is_complete_and_below_the_base_url() {
    let cases = [
        (
            "fetch = { body = \"bytes\" }",
            "`source.work.fetch.get` is missing; write the path below",
        ),
        (
            "list = { get = \"a\", items = \"\", id = \"/id\" }",
            "`source.work.list.get` is \"a\", which does not begin with /",
        ),
        (
            "list = { get = \"https://other.example.com/\", items = \"\", id = \"/id\" }",
            "`source.work.list.get` is \"https://other.example.com/\", which does not begin with /",
        ),
        (
            "list = { get = \"/a?b=1\", items = \"\", id = \"/id\" }",
            "`source.work.list.get` is \"/a?b=1\", with a ? or a #",
        ),
        (
            "list = { get = \"/a\", post = \"/b\", items = \"\", id = \"/id\" }",
            "`source.work.list.post` stands beside `get`; remove one",
        ),
        (
            "list = { get = \"/a\", form = { b = 1 }, items = \"\", id = \"/id\" }",
            "`source.work.list.get` has a body, which only `post` sends",
        ),
        (
            "list = { post = \"/a\", form = { b = 1 }, json = {}, items = \"\", id = \"/id\" }",
            "`source.work.list.json` stands beside `form`; remove one",
        ),
        (
            "list = { get = \"/a\", itmes = \"\", items = \"\", id = \"/id\" }",
            "unknown key `source.work.list.itmes`; did you mean `items`?",
        ),
        (
            "list = { get = \"/a\", items = \"messages\", id = \"/id\" }",
            "`source.work.list.items` is not valid: \"messages\" is not a path",
        ),
        (
            "headers = { Authorization = \"x\" }",
            "`source.work.headers.Authorization` is a header of the login",
        ),
        (
            "headers = { Host = \"x\" }",
            "`source.work.headers.Host` is a header that is always sent",
        ),
        ("list = 5", "`source.work.list` is 5; write [source.work.list]"),
    ];
    for (lines, expected) in cases {
        assert_error(lines, expected);
    }
}

#[test]
fn a_secret_in_the_tables_is_rejected_and_not_quoted() {
    let post =
        |body: &str| format!("list = {{ post = \"/a\", {body}, items = \"\", id = \"/id\" }}");
    let cases = [
        ("query = { api_key = \"hunter2\" }".to_owned(), "query.api_key` looks like a secret"),
        ("headers = { X-Auth-Token = \"hunter2\" }".to_owned(), "headers.X-Auth-Token` looks like"),
        ("options = { token = \"hunter2\" }".to_owned(), "options.token` looks like a secret"),
        (post("form = { password = \"hunter2\" }"), "list.form.password` looks like a secret"),
        (
            post("json = { login = { password = \"hunter2\" } }"),
            "list.json` has a \"password\" that looks like a secret",
        ),
    ];
    for (lines, expected) in cases {
        assert_error(&lines, &format!("`source.work.{expected}"));
        let error = load_errors(&api_table(&lines));
        assert!(!error.contains("hunter2"), "{error}");
    }
    for lines in [
        "options = { size = 5 }\nquery = { token = \"{options.size}\" }",
        "query = { pageToken = \"\", sort = \"token\" }",
    ] {
        assert!(load_text(&api_table(lines)).is_ok(), "{lines}");
    }
}

#[test]
fn paging_has_the_keys_of_its_kind() {
    let paged = |page: &str| {
        format!("list = {{ get = \"/a\", items = \"\", id = \"/id\", page = {{ {page} }} }}")
    };
    let cases = [
        (
            "kind = \"token\", from = \"/n\", to = \"query.p\", until = \"two_passes_agree\"",
            "`source.work.list.page.until` is not used by kind \"token\", only by \"offset\"; remove it",
        ),
        (
            "kind = \"tokens\"",
            "`source.work.list.page.kind` is \"tokens\"; did you mean \"token\"?",
        ),
        (
            "may_be_empty = true",
            "`source.work.list.page.kind` is missing; write one of \"token\", \"link\"",
        ),
        ("kind = \"token\", from = \"/n\"", "`source.work.list.page.to` is missing; write to = "),
        (
            "kind = \"token\", from = \"/n\", to = \"form.p\"",
            "`source.work.list.page.to` is \"form.p\", and the request has no `form`; add it",
        ),
        (
            "kind = \"token\", from = \"/n\", to = \"p\"",
            "`source.work.list.page.to` is \"p\"; write to = ",
        ),
        ("kind = \"link\"", "`source.work.list.page.from` is missing; write from = "),
        ("kind = \"offset\", to = \"query.o\"", "`source.work.list.page.size` is missing"),
        (
            "kind = \"offset\", size = \"many\", to = \"query.o\"",
            "`source.work.list.page.size` is the text \"many\"; write a whole number from 1 to 1000000",
        ),
        (
            "kind = \"offset\", size = 5, overlap = 5, to = \"query.o\"",
            "`source.work.list.page.overlap` is 5, and a page has 5 rows; lower it",
        ),
        (
            "kind = \"offset\", size = 5, until = \"empty\", to = \"query.o\"",
            "`source.work.list.page.until` is the text \"empty\"; write \"two_passes_agree\"",
        ),
        (
            "kind = \"offset\", size = 5",
            "`source.work.list.page` has no `to`, and no text of the request has {page.offset}",
        ),
        (
            "kind = \"number\"",
            "`source.work.list.page` has no `to`, and no text of the request has {page.number}",
        ),
    ];
    for (page, expected) in cases {
        assert_error(&paged(page), expected);
    }
    let option = format!(
        "options = {{ n = \"many\" }}\n{}",
        paged("kind = \"offset\", size = \"{options.n}\", to = \"query.o\"")
    );
    assert_error(
        &option,
        "`source.work.list.page.size` is \"{options.n}\", which is \"many\" with the options",
    );
    for page in [
        "kind = \"link\", from = \"header\"",
        "kind = \"number\", first = 0, to = \"query.page\"",
        "kind = \"anchor\", from = \"/id\", to = \"query.after\", size = 10",
    ] {
        assert!(load_text(&api_table(&paged(page))).is_ok(), "{page}");
    }
}

#[test]
fn cursors_are_begun_sent_and_used() {
    let changes = "changes = { get = \"/c\", query = { since = \"{cursor}\" }, items = \"\", id = \"/id\", cursor = \"/next\" }";
    let pin = "pin = { get = \"/p\", cursor = \"/now\" }";
    let list = "list = { get = \"/a\", items = \"\", id = \"/id\", cursor = \"/now\" }";
    let cases = [
        (changes.to_owned(), "[changes] has no cursor to begin with; add [pin]"),
        (format!("{changes}\n{pin}\n{list}"), "[pin] and `cursor` in [list] are two cursors"),
        (pin.to_owned(), "[pin] reads a cursor that nothing uses"),
        (list.to_owned(), "`cursor` in [list] reads a cursor that nothing uses"),
        (
            format!("{pin}\n{}", changes.replace("{cursor}", "now")),
            "`source.work.changes.get` sends no {cursor}, so that the server cannot know",
        ),
        (
            format!("{pin}\n{}", changes.replace(", cursor = \"/next\"", "")),
            "`source.work.changes.cursor` is missing",
        ),
        (
            format!("{pin}\n{changes}\nagain = {{ compare = \"\" }}"),
            "[again] lists the newest items again",
        ),
        (
            "sweep = { get = \"/s\", items = \"\", id = \"/id\" }".to_owned(),
            "[sweep] finds what [changes] does not report, and there is no [changes]",
        ),
        (
            format!("{pin}\n{}", changes.replace("id = ", "document = \"/d\", id = ")),
            "[list] and [changes] differ in `document`",
        ),
        (
            "documents = { get = \"/d/{item.id}\", items = \"\", id = \"/id\" }\n\
             list = { get = \"/a\", items = \"\", id = \"/id\", document = \"/d\" }"
                .to_owned(),
            "`source.work.list.document` is of no use: the rows of [documents] are the documents",
        ),
    ];
    for (lines, expected) in cases {
        assert_error(&lines, expected);
    }
    assert!(load_text(&api_table(&format!("{pin}\n{changes}"))).is_ok());
    assert!(
        load_text(&api_table(&format!("{list}\n{}", changes.replace("/c\"", "/{cursor}\""))))
            .is_ok()
    );
}

#[test]
fn folders_have_names_and_no_documents() {
    let cases = [
        (
            "folders = { get = \"/f\", items = \"\", id = \"/id\", folder = \"/in\" }",
            "`source.work.folders.folder` is of no use: the rows are folders, which are no documents",
        ),
        (
            "parts = { get = \"/f\", items = \"\", id = \"/id\", folder = \"/in\" }",
            "`source.work.parts.folder` is of no use: the rows are parts, which are no documents",
        ),
        (
            "folders = { get = \"/f\", items = \"\", id = \"/id\", count = \"/n\" }",
            "unknown key `source.work.folders.count`",
        ),
        (
            "folders = { get = \"/f\", items = \"\", id = \"/id\", none = \"\" }",
            "`source.work.folders.none` is empty; write a text",
        ),
        (
            "folders = { get = \"/f\", items = \"\", id = \"/id\", parent = \"in\" }",
            "`source.work.folders.parent` is not valid: \"in\" is not a path",
        ),
        ("folders = { get = \"/f\", items = \"\" }", "`source.work.folders.id` is missing"),
        (
            "list = { get = \"/a\", items = \"\", id = \"/id\", folder = [] }",
            "`source.work.list.folder` is an empty list; write a path",
        ),
    ];
    for (lines, expected) in cases {
        assert_error(lines, expected);
    }
}

#[test]
fn a_document_is_where_its_body_says() {
    let cases = [
        (
            "body = { at = \"/*/raw\", decode = \"base64\" }",
            "`source.work.fetch.body.at` is \"/*/raw\", but the text of a document is one value",
        ),
        (
            "body = { at = \"/raw\" }",
            "`source.work.fetch.body.decode` is missing; write one of \"base64\"",
        ),
        ("body = \"text\"", "`source.work.fetch.body` is the text \"text\"; write \"bytes\""),
        (
            "body = \"row\"",
            "`source.work.fetch.get` requests a document that is the row of the list",
        ),
        (
            "body = \"json\", type = \"text/plain\"",
            "`source.work.fetch.type` is the type of a document that is the whole body",
        ),
        ("type = \"application/json\"", "`source.work.fetch.type` is a type of JSON; remove it"),
        ("body = \"json\", starts = \"rfc5322\"", "`source.work.fetch.starts` is about messages"),
        (
            "folder = \"/in\"",
            "`source.work.fetch.folder` is a path in JSON, and the response has none",
        ),
        (
            "body = \"json\", folder = \"in\"",
            "`source.work.fetch.folder` is not valid: \"in\" is not a path",
        ),
        (
            "extension = \".eml\"",
            "`source.work.fetch.extension` is \".eml\"; write 1 to 8 of a-z and 0-9",
        ),
        ("type = \"mail\"", "`source.work.fetch.type` is \"mail\"; write a media type"),
        (
            "empty = \"gon\"",
            "`source.work.fetch.empty` is \"gon\", which is not a class; did you mean \"gone\"?",
        ),
    ];
    for (keys, expected) in cases {
        assert_error(&format!("fetch = {{ get = \"/{{item.id}}\", {keys} }}"), expected);
    }
    assert_error(
        "records = \"lines\"\nfetch = { get = \"/{item.id}\" }",
        "`source.work.records` is \"lines\", but the documents are no JSON",
    );
    assert_error(
        "records = \"rows\"",
        "`source.work.records` is \"rows\"; write \"files\" or \"lines\"",
    );
}

#[test]
fn error_rules_have_a_condition_and_a_class() {
    let cases = [
        (
            "when = { on = \"list\" }\nthen = \"gone\"",
            "`source.work.error.when.status` has no condition on the response",
        ),
        ("then = \"gone\"", "`source.work.error.when` is missing; add status = 403"),
        ("when = { status = 404 }", "`source.work.error.then` is missing; write then = "),
        (
            "when = { status = 404 }\nthen = \"rate_limt\"",
            "`source.work.error.then` is \"rate_limt\", which is not a class; did you mean \"rate_limit\"?",
        ),
        (
            "when = { status = 404, on = \"lists\" }\nthen = \"gone\"",
            "`source.work.error.when.on` is the text \"lists\"; did you mean \"list\"?",
        ),
        ("when = { is = 5 }\nthen = \"gone\"", "`source.work.error.when.at` is missing"),
        (
            "when = { at = \"/a\", is = 5, contains = \"b\" }\nthen = \"gone\"",
            "`source.work.error.when.contains` stands beside `is`; remove one",
        ),
        (
            "when = { at = \"/a\", matches = \"b\" }\nthen = \"gone\"",
            "unknown key `source.work.error.when.matches`",
        ),
        (
            "when = { status = 429 }\nthen = \"rate_limit\"\ntold = { text = \"/m\", after = \"in \", as = \"minutes\" }",
            "`source.work.error.told.as` is the text \"minutes\"; write one of \"rfc3339\"",
        ),
    ];
    for (rule, expected) in cases {
        assert_error(&format!("[[source.work.error]]\n{rule}"), expected);
    }
}

#[test]
fn limits_are_numbers_of_known_tables() {
    let cases = [
        (
            "quota = \"fast\"",
            "`quota` is \"fast\", which is no quota of the profile; the profile has none",
        ),
        (
            "quota = { per_minute = 0 }",
            "`source.work.quota.per_minute` is 0; write a number of units above 0",
        ),
        ("quota = { per_hour = 5 }", "unknown key `source.work.quota.per_hour`"),
        (
            "quota = { weights = { lists = 5 } }",
            "`source.work.quota.weights.lists` is no table with requests; did you mean `list`?",
        ),
        (
            "quota = { weights = { list = 0 } }",
            "`source.work.quota.weights.list` is 0; write a whole number from 1",
        ),
        (
            "pace = { in_flight = 0 }",
            "`source.work.pace.in_flight` is 0; write a whole number from 1 to 64",
        ),
    ];
    for (lines, expected) in cases {
        assert_error(lines, expected);
    }
    let gmail = "[source.work]\nkind = \"gmail\"\naccount = \"me\"\nquota = \"gmail-2052\"\n\
                 auth = { type = \"oauth2\", client_id = \"client\" }\n";
    let error = load_errors(gmail);
    assert!(error.contains("no quota of the profile; did you mean \"gmail-2025\"?"), "{error}");
}

#[test]
fn every_mistake_in_the_tables_is_reported_at_once() {
    let text = r#"
[source.work]
kind = "rest"
account = "me"
base_url = "https://api.example.com?a=1"

[source.work.list]
get = "/{item.id}"
itmes = "/records"
id = "id"
page = { kind = "token", to = "query.page", size = 5 }

[source.work.fetch]
get = "/records/{item.id}"
starts = "xml"
"#;
    let error = load_errors(text);

    let mistakes = [
        "config.toml:5:1: `source.work.base_url` has a query",
        "config.toml:7:14: `source.work.list.items` is missing",
        "config.toml:8:1: `source.work.list.get` uses {item.id}",
        "config.toml:9:1: unknown key `source.work.list.itmes`; did you mean `items`?",
        "config.toml:10:1: `source.work.list.id` is not valid",
        "config.toml:11:1: `source.work.list.page.from` is missing",
        "config.toml:11:45: `source.work.list.page.size` is not used by kind \"token\"",
        "config.toml:15:1: `source.work.fetch.starts` is the text \"xml\"",
    ];
    for (line, expected) in error.lines().zip(mistakes) {
        assert!(line.starts_with(expected), "{expected}\n{error}");
    }
    assert!(error.ends_with("8 mistakes in the configuration"), "{error}");
}
