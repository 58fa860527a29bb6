//! Lists of rows: `[parts]`, `[folders]`, `[list]`, `[documents]`, `[changes]` and `[sweep]`.

use std::time::Duration;

use cynosure_engine::rest::{
    ChangesTable, FolderNameRules, FoldersTable, JsonPath, ListTable, PartsTable, Placeholder,
    RequestTemplate, RowListing, RowRules, SkipRule, SweepTable,
};
use cynosure_engine::user_input::Location;

use crate::config::file::{Node, plain_text};
use crate::config::kind::rest::page::{check_page_use, read_page};
use crate::config::kind::rest::request::read_request;
use crate::config::kind::rest::scope::{TemplateScope, check_name};
use crate::config::kind::rest::values::{
    optional_path, optional_paths, read_map, read_path, read_paths, read_scalars, required_path,
};
use crate::config::merge::EnvValueForm;
use crate::config::ranges::POSITIVE_DURATION;
use crate::config::reader::Section;

const ITEMS_HELP: &str =
    "write items = \"/items\", the path of the list of rows; \"\" is the whole response";
const ID_HELP: &str = "write id = \"/id\", the path of the id in a row";
const CURSOR_HELP: &str = "write cursor = \"/cursor\", the path of the new cursor in the last page";

/// Default interval of a sweep.
const SWEEP_INTERVAL: Duration = Duration::from_secs(86_400);

/// Keys that describe the document of a row.
const DOCUMENT_KEYS: [&str; 6] = ["document", "folder", "keep", "labels", "size", "size_estimate"];

/// Meaning of the rows of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RowMeaning {
    Parts,
    Folders,
    /// Items, each of which is its document, or has documents in several rows.
    ItemsWithDocuments,
    /// Items whose documents another request lists. What the rows keep is kept with each of them.
    Items,
    Documents,
}

/// Reads `[parts]`.
pub(super) fn read_parts(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
) -> Option<PartsTable> {
    let names = read_names(section);
    let count = optional_path(section, "count");
    let listing = read_listing(section, location, scope, RowMeaning::Parts);
    Some(PartsTable { listing: listing?, names, count })
}

/// Reads `[folders]`.
pub(super) fn read_folders(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
) -> Option<FoldersTable> {
    let names = read_names(section);
    let none = section
        .given("none", EnvValueForm::Toml, |node| plain_text(&node.value).map(str::to_owned));
    let listing = read_listing(section, location, scope, RowMeaning::Folders);
    Some(FoldersTable { listing: listing?, names, none: none.map(|(name, _)| name) })
}

/// Reads the keys of the names of parts or folders.
fn read_names(section: &mut Section<'_, '_>) -> FolderNameRules {
    let name = optional_path(section, "name");
    FolderNameRules { name, parent: optional_path(section, "parent") }
}

/// Reads `[list]`.
pub(super) fn read_list(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
    meaning: RowMeaning,
) -> Option<ListTable> {
    let total = optional_path(section, "total");
    let cursor = optional_path(section, "cursor");
    let listing = read_listing(section, location, scope, meaning);
    Some(ListTable { listing: listing?, total, cursor })
}

/// Reads `[changes]`.
pub(super) fn read_changes(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
    meaning: RowMeaning,
) -> Option<ChangesTable> {
    let cursor = required_path(section, "cursor", location, CURSOR_HELP);
    let listing = read_listing(section, location, scope, meaning);
    Some(ChangesTable { listing: listing?, cursor: cursor? })
}

/// Reads `[sweep]`.
pub(super) fn read_sweep(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
    meaning: RowMeaning,
) -> Option<SweepTable> {
    let every = section.duration("every", SWEEP_INTERVAL, POSITIVE_DURATION);
    let listing = read_listing(section, location, scope, meaning);
    Some(SweepTable { listing: listing?, every })
}

/// Reads the request, the rows and the paging of a list. Returns `None` if it is invalid; the error
/// is then recorded.
pub(super) fn read_listing(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
    meaning: RowMeaning,
) -> Option<RowListing> {
    let page = read_page(section, scope.options);
    let request = read_request(section, location, scope);
    let rows = read_rows(section, location, meaning);
    let ((page, page_location), request) = (page?, request?);
    if let Err(message) = check_page_use(&page, &request, &section.key("page")) {
        section.reader.report_error(page_location.unwrap_or_else(|| location.clone()), message);
        return None;
    }
    check_cursor_use(section, location, scope, &request)?;
    Some(RowListing { request, rows: rows?, page })
}

/// Reports a request for changes that does not send the cursor.
fn check_cursor_use(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
    request: &RequestTemplate,
) -> Option<()> {
    let cursor = Placeholder::Cursor;
    if !scope.values.contains(&cursor) {
        return Some(());
    }
    let templates = request.templates();
    if templates.iter().any(|template| template.placeholders().any(|found| *found == cursor)) {
        return Some(());
    }
    let message = format!(
        "`{}` sends no {cursor}, so that the server cannot know what has changed; use {cursor} in \
         a parameter, or write get = \"{cursor}\"",
        section.key("get")
    );
    section.reader.report_error(location.clone(), message);
    None
}

fn read_rows(
    section: &mut Section<'_, '_>,
    location: &Location,
    meaning: RowMeaning,
) -> Option<RowRules> {
    let items = required_path(section, "items", location, ITEMS_HELP);
    let is_optional = section.flag("optional", false);
    let id = section.required("id", EnvValueForm::Toml, location, ID_HELP, read_paths);
    let skip = read_skip(section);
    let rows = read_document_keys(section, meaning);
    Some(RowRules {
        items: items?,
        is_optional,
        id: id?.0,
        document: rows.document,
        skip: skip?,
        keep: rows.keep,
        labels: rows.labels,
        folder: rows.folder,
        size: rows.size,
        size_estimate: rows.size_estimate,
    })
}

/// Keys of a row that is a document.
struct DocumentRules {
    document: Vec<JsonPath>,
    keep: Vec<(String, JsonPath)>,
    labels: Vec<(String, JsonPath)>,
    folder: Vec<JsonPath>,
    size: Option<JsonPath>,
    size_estimate: Option<JsonPath>,
}

fn read_document_keys(section: &mut Section<'_, '_>, meaning: RowMeaning) -> DocumentRules {
    let (unused_keys, reason): (&[&'static str], _) = match meaning {
        RowMeaning::ItemsWithDocuments => (&[], ""),
        RowMeaning::Parts => {
            (&DOCUMENT_KEYS, "the rows are parts, which are no documents; remove it")
        }
        RowMeaning::Folders => {
            (&DOCUMENT_KEYS, "the rows are folders, which are no documents; remove it")
        }
        RowMeaning::Items => (
            &["document", "size", "size_estimate"],
            "the rows of [documents] are the documents; move it there, or remove it",
        ),
        RowMeaning::Documents => (&["document"], "`id` is the id of the document here; remove it"),
    };
    for key in unused_keys.iter().copied() {
        if let Some(node) = section.take(key) {
            let message = format!("`{}` is of no use: {reason}", section.key(key));
            section.reader.report_error(node.location, message);
        }
    }
    DocumentRules {
        document: optional_paths(section, "document"),
        keep: read_map(section, "keep", read_kept),
        labels: read_map(section, "labels", |_, node| read_path(node)),
        folder: optional_paths(section, "folder"),
        size: optional_path(section, "size"),
        size_estimate: optional_path(section, "size_estimate"),
    }
}

fn read_kept(name: &str, node: &Node) -> Result<JsonPath, String> {
    if name == "id" {
        return Err("is the name of the document's id; choose another".to_owned());
    }
    check_name(name)?;
    read_path(node)
}

/// Reads `skip`. The outer option is `None` if it is invalid.
fn read_skip(section: &mut Section<'_, '_>) -> Option<Option<SkipRule>> {
    let Some(node) = section.take("skip") else { return Some(None) };
    let name = section.key("skip");
    let location = node.location.clone();
    let table = section.reader.as_table(&name, node)?;
    section.reader.section(&name, table, |skip| {
        let help = "write at = \"/deleted\", the path of the value for which a row is left out";
        let at = required_path(skip, "at", &location, help);
        let is = skip.given("is", EnvValueForm::Toml, read_scalars);
        let is = is.map(|(values, _)| values).unwrap_or_default();
        Some(Some(SkipRule { at: at?, is }))
    })
}
