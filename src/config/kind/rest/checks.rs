//! Tables that need or exclude each other.

use crate::config::kind::rest::nodes::TableNodes;
use crate::config::reader::Reader;

/// Reports tables that do not belong together.
pub(super) fn check_tables(reader: &mut Reader<'_>, nodes: &TableNodes) {
    for (is_wrong, table, message) in cursor_rules(nodes).into_iter().chain(row_rules(nodes)) {
        if is_wrong {
            reader.report_error(nodes.location(table), message.to_owned());
        }
    }
}

/// Combination of tables that is wrong if the first value is true, with the table at whose location
/// it is reported.
type CombinationRule = (bool, &'static str, &'static str);

fn cursor_rules(nodes: &TableNodes) -> [CombinationRule; 6] {
    let [has_changes, has_pin] = [nodes.has("changes"), nodes.has("pin")];
    let has_list_cursor = nodes.has_key("list", "cursor");
    [
        (
            has_changes && !has_pin && !has_list_cursor,
            "changes",
            "[changes] has no cursor to begin with; add [pin], whose request returns the current \
             cursor, or `cursor` to [list], for a cursor in its last page",
        ),
        (
            has_changes && has_pin && has_list_cursor,
            "pin",
            "[pin] and `cursor` in [list] are two cursors for [changes]; remove one",
        ),
        (
            has_pin && !has_changes,
            "pin",
            "[pin] reads a cursor that nothing uses; add [changes], or remove [pin]",
        ),
        (
            has_list_cursor && !has_changes,
            "list",
            "`cursor` in [list] reads a cursor that nothing uses; add [changes], or remove `cursor`",
        ),
        (
            has_changes && nodes.has("again"),
            "again",
            "[again] lists the newest items again, which [changes] makes needless; remove one",
        ),
        (
            nodes.has("sweep") && !has_changes,
            "sweep",
            "[sweep] finds what [changes] does not report, and there is no [changes]; list it with \
             [list], and remove [sweep]",
        ),
    ]
}

fn row_rules(nodes: &TableNodes) -> [CombinationRule; 2] {
    let has_documents = nodes.has("documents");
    let has_document = nodes.has_key("list", "document");
    let differs = |table: &str| {
        nodes.has(table) && !has_documents && nodes.has_key(table, "document") != has_document
    };
    [
        (
            differs("changes"),
            "changes",
            "[list] and [changes] differ in `document`; write it in both, so that both name the \
             documents in the same way, or in neither",
        ),
        (
            differs("sweep"),
            "sweep",
            "[list] and [sweep] differ in `document`; write it in both, so that both name the \
             documents in the same way, or in neither",
        ),
    ]
}
