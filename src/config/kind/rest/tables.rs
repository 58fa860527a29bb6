//! Description of an API from its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cynosure_engine::rest::{
    AccountTable, AgainTable, OkRule, PinTable, Placeholder, RestProfile, RestTables, Template,
};
use cynosure_engine::user_input::Location;

use crate::config::environment::EnvVars;
use crate::config::file::Table;
use crate::config::kind::rest::checks::check_tables;
use crate::config::kind::rest::errors::read_rules;
use crate::config::kind::rest::fetch::{read_fetch, read_media_type, row_fetch};
use crate::config::kind::rest::limits::read_limits;
use crate::config::kind::rest::nodes::{TableNode, TableNodes};
use crate::config::kind::rest::page::page_value;
use crate::config::kind::rest::request::{read_headers, read_parameters, read_request};
use crate::config::kind::rest::rows::{
    RowMeaning, read_changes, read_folders, read_list, read_listing, read_parts, read_sweep,
};
use crate::config::kind::rest::scope::TemplateScope;
use crate::config::kind::rest::settings::RestLimits;
use crate::config::kind::rest::values::{read_scalars, required_path};
use crate::config::merge::{EnvValueForm, Layers};
use crate::config::reader::{Reader, Section};

/// Description of an API, its limits, and the extension of the files of its documents.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) profile: RestProfile,
    pub(super) limits: RestLimits,
    pub(super) extension: String,
}

/// Reads the tables of a source. Returns `None` if they are invalid; the errors are then recorded.
pub(super) fn read_description(
    section: &mut Section<'_, '_>,
    nodes: TableNodes,
    profile_name: Option<String>,
    options: BTreeMap<String, Template>,
    has_session: bool,
) -> Option<Description> {
    // Variables replace whole tables, which they have done by now.
    let environment = EnvVars::default();
    let mut reader = Reader::new(Layers::without_files(&environment), PathBuf::new());
    check_tables(&mut reader, &nodes);
    if !nodes.has("list") {
        let list = section.key("list");
        let message = format!(
            "`{list}` is missing; write [{list}] with get, items and id, or name a profile"
        );
        reader.report_error(nodes.source_location.clone(), message);
    }
    let scope = TemplateScope { options: &options, has_session, values: Vec::new() };
    let description = TablesReader { reader: &mut reader, nodes, scope }.read();
    section.reader.diagnostics.append(&mut reader.diagnostics);
    let Description { profile, limits, extension } = description?;
    let profile = RestProfile { name: profile_name, options, ..profile };
    Some(Description { profile, limits, extension })
}

/// Reader of the tables. A table that is invalid is `None`, one that is absent `Some(None)`.
struct TablesReader<'t, 'r, 'e> {
    reader: &'r mut Reader<'e>,
    nodes: TableNodes,
    /// Values that every table may use.
    scope: TemplateScope<'t>,
}

impl TablesReader<'_, '_, '_> {
    fn read(mut self) -> Option<Description> {
        let tables = self.read_requests();
        let headers = self.read_shared("headers", read_headers);
        let query =
            self.read_shared("query", |section, scope| read_parameters(section, "query", scope));
        let ok = self.read_table("ok", [], |section, location, _| read_ok(section, location));
        let errors = self.nodes.take("error");
        let errors = read_rules(self.reader, errors);
        let (limits, weights) = read_limits(self.reader, &mut self.nodes);
        let (tables, extension) = tables?;
        let options = BTreeMap::new();
        let profile =
            RestProfile { name: None, options, headers, query, ok: ok?, tables, errors, weights };
        Some(Description { profile, limits, extension })
    }

    /// Reads the tables whose requests are sent, and the extension of the files.
    fn read_requests(&mut self) -> Option<(RestTables, String)> {
        let has_parts = self.nodes.has("parts");
        let part = || has_parts.then_some(Placeholder::Part);
        let has_part_cursors = self.nodes.has_key("list", "cursor");
        let has_changes = self.nodes.has("changes");
        // A document that was found outside its part has no part.
        let is_in_part = !self.nodes.has("sweep") && (has_part_cursors || !has_changes);
        let document_part = || part().filter(|_| is_in_part);
        let has_documents = self.nodes.has("documents");
        let meaning =
            if has_documents { RowMeaning::Items } else { RowMeaning::ItemsWithDocuments };
        let document_values = [Placeholder::Item, Placeholder::Document].into_iter();
        let fetch_values = document_values.chain(self.kept_values()).chain(document_part());
        let fetch_values: Vec<Placeholder> = fetch_values.collect();
        let change_values =
            [Placeholder::Cursor].into_iter().chain(part().filter(|_| has_part_cursors));

        let account = self.read_table("account", [], read_account);
        let pin = self.read_table("pin", [], read_pin);
        let parts = self.read_table("parts", [], read_parts);
        let folders = self.read_table("folders", [], read_folders);
        let list = self.read_table("list", part(), |section, location, scope| {
            read_list(section, location, scope, meaning)
        });
        let item_values = [Placeholder::Item].into_iter().chain(document_part());
        let documents = self.read_table("documents", item_values, |section, location, scope| {
            read_listing(section, location, scope, RowMeaning::Documents)
        });
        let fetch = self.read_table("fetch", fetch_values, read_fetch);
        let changes = self.read_table("changes", change_values, |section, location, scope| {
            read_changes(section, location, scope, meaning)
        });
        let sweep = self.read_table("sweep", [], |section, location, scope| {
            read_sweep(section, location, scope, meaning)
        });
        let again =
            self.read_table("again", [], |section, location, _| read_again(section, location));
        let (fetch, extension) = fetch?.unwrap_or_else(row_fetch);
        let tables = RestTables {
            account: account?,
            pin: pin?,
            parts: parts?,
            folders: folders?,
            list: list??,
            documents: documents?,
            fetch,
            changes: changes?,
            sweep: sweep?,
            again: again?,
        };
        Some((tables, extension))
    }

    /// Returns the values that are kept with every document, whichever table lists it.
    fn kept_values(&self) -> Vec<Placeholder> {
        let tables = ["list", "changes", "sweep"].into_iter().filter(|table| self.nodes.has(table));
        let names = tables.map(|table| self.nodes.kept_names(table));
        let common = names.reduce(|names, others| names.intersection(&others).copied().collect());
        let mut names: BTreeSet<&str> = common.unwrap_or_default();
        names.append(&mut self.nodes.kept_names("documents"));
        names.into_iter().map(|name| Placeholder::Kept(name.to_owned())).collect()
    }

    /// Reads a table with `read`, which gets its location and the values that its texts may use:
    /// `values`, and that of its paging.
    fn read_table<T>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = Placeholder>,
        read: impl FnOnce(&mut Section<'_, '_>, &Location, &TemplateScope<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let Some(TableNode { name, node }) = self.nodes.take(key) else { return Some(None) };
        let location = node.location.clone();
        let table = self.reader.as_table(&name, node)?;
        let scope = self.scope.with(values.into_iter().chain(page_value(&table)));
        self.reader.section(&name, table, |section| read(section, &location, &scope)).map(Some)
    }

    /// Reads a table of names whose values are sent with every request.
    fn read_shared(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_, '_>, &TemplateScope<'_>) -> Vec<(String, Template)>,
    ) -> Vec<(String, Template)> {
        let Some(TableNode { name, node }) = self.nodes.take(key) else { return Vec::new() };
        let above = name.strip_suffix(key).unwrap_or(&name).trim_end_matches('.');
        let table = Table::from([(key.to_owned(), node)]);
        self.reader.section(above, table, |section| read(section, &self.scope))
    }
}

fn read_account(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
) -> Option<AccountTable> {
    let request = read_request(section, location, scope);
    let help = "write id = \"/emailAddress\", the path of the account's name";
    let id = required_path(section, "id", location, help);
    Some(AccountTable { request: request?, id: id? })
}

fn read_pin(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
) -> Option<PinTable> {
    let request = read_request(section, location, scope);
    let help = "write cursor = \"/historyId\", the path of the cursor";
    let cursor = required_path(section, "cursor", location, help);
    Some(PinTable { request: request?, cursor: cursor? })
}

fn read_again(section: &mut Section<'_, '_>, location: &Location) -> Option<AgainTable> {
    let help = "write compare = \"/last\", the path of a value that changes with the item";
    required_path(section, "compare", location, help).map(|compare| AgainTable { compare })
}

fn read_ok(section: &mut Section<'_, '_>, location: &Location) -> Option<OkRule> {
    let help = "write at = \"/status\", the path of the status in the response";
    let at = required_path(section, "at", location, help);
    let help = "write is = 200, the value of success";
    let is = section.required("is", EnvValueForm::Toml, location, help, read_scalars);
    let media_type = section.given("type", EnvValueForm::Toml, read_media_type);
    Some(OkRule { at: at?, is: is?.0, media_type: media_type.map(|(media_type, _)| media_type) })
}
