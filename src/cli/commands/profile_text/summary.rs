//! Summary of a profile: what each of its tables requests and reads, its limits, and its rules.

use cynosure_engine::rest::{
    FetchBody, FetchTable, FolderNameRules, FoldersTable, LinkOrigin, ListTable, OkRule, Paging,
    PartsTable, RequestTemplate, RestMethod, RestProfile, RestTables, RowListing, SkipRule,
    TableName, TextEncoding,
};
use cynosure_engine::{format_duration, sanitize_line};

use super::{quote_paths, quote_scalars};
use crate::cli::key_values::KeyValueTable;
use crate::config::{ProviderSettings, RestSettings};
use crate::human::pluralize;

/// Returns a line for each table of a profile, its limits, and the number of its rules. `provider`
/// has the limits in effect.
pub(in crate::cli::commands) fn profile_summary(
    settings: &RestSettings,
    provider: &ProviderSettings,
) -> String {
    let profile = &settings.profile;
    let mut summary = KeyValueTable::default();
    let name = profile.name.as_deref().unwrap_or("tables of the source");
    summary.add("profile", sanitize_line(name));
    summary.add("base_url", sanitize_line(settings.base_url.as_str()));
    if let Some(ok) = &profile.ok {
        summary.add("ok", sanitize_line(&ok_text(ok)));
    }
    for table in TableName::ALL {
        if let Some(facts) = table_facts(table, settings) {
            let facts: Vec<String> = facts.iter().map(|fact| sanitize_line(fact)).collect();
            summary.add(table.name(), facts.join(", "));
        }
    }
    summary.add_all("quota", limit_lines(profile, provider));
    let rules = pluralize(profile.errors.len() as u64, "rule");
    summary.add("errors", format!("{rules}, then the built-in rules"));
    summary.render()
}

fn ok_text(ok: &OkRule) -> String {
    let value = format!("{} is {}", quote_paths([&ok.at]), quote_scalars(&ok.is));
    match &ok.media_type {
        Some(media_type) => format!("{value}, in {media_type}"),
        None => value,
    }
}

/// Describes a table. `None` if the profile does not have it and nothing takes its place.
fn table_facts(table: TableName, settings: &RestSettings) -> Option<Vec<String>> {
    let tables = &settings.profile.tables;
    let facts = match table {
        TableName::Account => {
            let account = tables.account.as_ref()?;
            vec![request_text(&account.request), format!("id at {}", quote_paths([&account.id]))]
        }
        TableName::Pin => {
            let pin = tables.pin.as_ref()?;
            vec![request_text(&pin.request), format!("cursor at {}", quote_paths([&pin.cursor]))]
        }
        TableName::Parts => part_facts(tables.parts.as_ref()?),
        TableName::Folders => folder_facts(tables.folders.as_ref()?),
        TableName::List => list_facts(&tables.list),
        TableName::Documents => listing_facts(tables.documents.as_ref()?, "document"),
        TableName::Fetch => fetch_facts(&tables.fetch, settings),
        TableName::Changes => change_facts(tables),
        TableName::Sweep => {
            let sweep = tables.sweep.as_ref()?;
            let mut facts = listing_facts(&sweep.listing, "item");
            facts.push(format!("every {}", format_duration(sweep.every)));
            facts
        }
    };
    Some(facts)
}

fn part_facts(parts: &PartsTable) -> Vec<String> {
    let mut facts = listing_facts(&parts.listing, "part");
    facts.extend(name_facts(&parts.names));
    facts.extend(parts.count.iter().map(|path| format!("count at {}", quote_paths([path]))));
    facts
}

fn folder_facts(folders: &FoldersTable) -> Vec<String> {
    let mut facts = listing_facts(&folders.listing, "folder");
    facts.extend(name_facts(&folders.names));
    facts.extend(folders.none.iter().map(|none| format!("{none:?} without one")));
    facts
}

fn name_facts(names: &FolderNameRules) -> impl Iterator<Item = String> {
    let name = names.name.iter().map(|path| format!("name at {}", quote_paths([path])));
    name.chain(names.parent.iter().map(|path| format!("parent at {}", quote_paths([path]))))
}

fn list_facts(list: &ListTable) -> Vec<String> {
    let mut facts = listing_facts(&list.listing, "item");
    facts.extend(list.total.iter().map(|path| format!("total at {}", quote_paths([path]))));
    facts.extend(list.cursor.iter().map(|path| format!("cursor at {}", quote_paths([path]))));
    facts
}

/// Describes the detection of changes, also if the profile has no table for it.
fn change_facts(tables: &RestTables) -> Vec<String> {
    if let Some(changes) = &tables.changes {
        let mut facts = listing_facts(&changes.listing, "item");
        facts.push(format!("cursor at {}", quote_paths([&changes.cursor])));
        return facts;
    }
    vec![match &tables.again {
        Some(again) => format!(
            "by [again]: the first pages of [list] are requested again, and compared at {}",
            quote_paths([&again.compare])
        ),
        None => "by listing everything again".to_owned(),
    }]
}

/// Describes the rows of a list, whose ids are those of a `subject`.
fn listing_facts(listing: &RowListing, subject: &str) -> Vec<String> {
    let RowListing { request, rows, page } = listing;
    let mut facts = vec![
        request_text(request),
        format!("rows at {}", quote_paths([&rows.items])),
        format!("{subject} at {}", quote_paths(&rows.id)),
    ];
    if !rows.document.is_empty() {
        facts.push(format!("document at {}", quote_paths(&rows.document)));
    }
    if !rows.folder.is_empty() {
        facts.push(format!("folder at {}", quote_paths(&rows.folder)));
    }
    facts.extend(rows.skip.as_ref().map(skip_text));
    for (key, named) in [("keeps", &rows.keep), ("labels", &rows.labels)] {
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            facts.push(format!("{key} {}", names.join(" and ")));
        }
    }
    facts.push(page_text(&page.paging));
    facts
}

fn request_text(request: &RequestTemplate) -> String {
    let method = match request.method {
        RestMethod::Get => "GET",
        RestMethod::Post => "POST",
    };
    format!("{method} {}", request.target.as_str())
}

fn skip_text(skip: &SkipRule) -> String {
    let path = quote_paths([&skip.at]);
    if skip.is.is_empty() {
        format!("without rows that have {path}")
    } else {
        format!("without rows whose {path} is {}", quote_scalars(&skip.is))
    }
}

fn page_text(paging: &Paging) -> String {
    match paging {
        Paging::Single => "one page".to_owned(),
        Paging::Token { from, .. } => format!("next page by the token at {}", quote_paths([from])),
        Paging::Link { from: LinkOrigin::Body(path) } => {
            format!("next page by the link at {}", quote_paths([path]))
        }
        Paging::Link { from: LinkOrigin::Header } => "next page by the Link header".to_owned(),
        Paging::Offset { size, overlap, needs_two_passes, .. } => {
            let overlap =
                if *overlap > 0 { format!(" that overlap by {overlap}") } else { String::new() };
            let end = if *needs_two_passes { " until two passes agree" } else { "" };
            format!("next page by offset, {} each{overlap}{end}", pluralize((*size).into(), "row"))
        }
        Paging::Number { first, .. } => format!("next page by number, from {first}"),
        Paging::Anchor { from, .. } => {
            format!("next page by {} of the last row", quote_paths([from]))
        }
    }
}

fn fetch_facts(fetch: &FetchTable, settings: &RestSettings) -> Vec<String> {
    let mut facts: Vec<String> = fetch.request.iter().map(request_text).collect();
    facts.push(match &fetch.body {
        FetchBody::Bytes => "the bytes".to_owned(),
        FetchBody::Json => "the JSON".to_owned(),
        FetchBody::Row => "no request: the row of the list is the document".to_owned(),
        FetchBody::Text { at, encoding } => {
            let encoding = match encoding {
                TextEncoding::Base64 => ", decoded from base64",
                TextEncoding::Base64Url => ", decoded from base64url",
                TextEncoding::Plain => "",
            };
            format!("the text at {}{encoding}", quote_paths([at]))
        }
    });
    if !fetch.folder.is_empty() {
        facts.push(format!("folder at {}", quote_paths(&fetch.folder)));
    }
    if fetch.must_start_with_header {
        facts.push("which must begin with a header line".to_owned());
    }
    if !fetch.media_types.is_empty() {
        facts.push(format!("of type {}", fetch.media_types.join(" or ")));
    }
    facts.push(if settings.format.is_lines {
        "stored as lines of a file".to_owned()
    } else {
        format!("stored as .{}", settings.format.extension)
    });
    facts
}

fn limit_lines(profile: &RestProfile, provider: &ProviderSettings) -> Vec<String> {
    let rate = match provider.cap {
        Some(cap) => format!("at most {cap}"),
        None => "no cap: the rate is learned from the server".to_owned(),
    };
    let requests = pluralize(provider.concurrency.into(), "request");
    let mut lines = vec![format!("{rate}; at most {requests} at once")];
    let weights: Vec<String> =
        profile.weights.iter().map(|(table, units)| format!("{} {units}", table.name())).collect();
    lines.push(match weights.as_slice() {
        [] => "each request takes one unit".to_owned(),
        weights => format!("units of a request: {}, any other 1", weights.join(", ")),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnvVars, load};

    /// Source with most keys of the tables.
    const OWN_TABLES: &str = r#"
kind = "rest"
base_url = "https://api.example.com/v1"
ok = { at = "/status", is = 200 }
fetch = { get = "/raw/{document.id}/{document.folder}", type = "message/rfc822", starts = "rfc5322" }
again = { compare = "/last" }
pace = { in_flight = 1, every = "2s" }
parts.get = "/folders"
parts.items = "/body"
parts.id = "/id"
parts.name = "/name"
parts.parent = "/parent"
parts.skip = { at = "/security", is = "locked" }
list.get = "/threads/{part.id}"
list.query = { offset = "{page.offset}" }
list.items = "/rows"
list.id = ["/thread_id", "/id"]
list.total = "/total"
folders.get = "/labels"
folders.items = "/labels"
folders.id = "/id"
folders.name = "/text"
folders.none = "Archive"
list.page = { kind = "offset", size = 50, overlap = 5, until = "two_passes_agree" }
documents.post = "/thread"
documents.form = { id = "{item.id}" }
documents.items = "/mails"
documents.id = "/id"
documents.keep = { folder = "/folder" }
documents.folder = "/folder"
documents.page = { kind = "link", from = "header" }
"#;

    fn summary(source: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let text = format!("[source.work]\naccount = \"me@example.com\"\n{source}");
        fs_err::write(&file, text).unwrap();
        let settings = load(&file, &EnvVars::default()).unwrap().settings;
        let source = settings.find_source("work").unwrap().1;
        let provider = settings.provider_or_default(&source.provider);
        profile_summary(source.kind.rest().unwrap(), &provider)
    }

    #[test]
    fn each_table_of_a_source_is_one_line() {
        insta::assert_snapshot!(summary(OWN_TABLES), @r#"
        profile    tables of the source
        base_url   https://api.example.com/v1
        ok         "/status" is 200
        parts      GET /folders, rows at "/body", part at "/id", without rows whose "/security" is "locked", one page, name at "/name", parent at "/parent"
        folders    GET /labels, rows at "/labels", folder at "/id", one page, name at "/text", "Archive" without one
        list       GET /threads/{part.id}, rows at "/rows", item at "/thread_id" or "/id", next page by offset, 50 rows each that overlap by 5 until two passes agree, total at "/total"
        documents  POST /thread, rows at "/mails", document at "/id", folder at "/folder", keeps folder, next page by the Link header
        fetch      GET /raw/{document.id}/{document.folder}, the bytes, which must begin with a header line, of type message/rfc822, stored as .eml
        changes    by [again]: the first pages of [list] are requested again, and compared at "/last"
        quota      at most 30/min; at most 1 request at once
                   each request takes one unit
        errors     0 rules, then the built-in rules
        "#);
    }

    #[test]
    fn a_built_in_profile_is_named() {
        let auth = "auth = { type = \"bearer\", token = { file = \"token\" } }\n";
        let text = summary(&format!("kind = \"gmail\"\n{auth}"));

        for line in [
            "profile   gmail",
            "pin       GET /profile, cursor at \"/historyId\"",
            "fetch     GET /messages/{document.id}, the text at \"/raw\", decoded from base64url, \
             folder at \"/labelIds\", stored as .eml",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        let changes = text.lines().find(|line| line.starts_with("changes ")).unwrap();
        let paging = ", next page by the token at \"/nextPageToken\", cursor at \"/historyId\"";
        assert!(changes.ends_with(paging), "{changes}");
        assert!(text.contains(" fetch 20, "), "{text}");
    }
}
