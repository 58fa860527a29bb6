//! Looks up mailboxes, and counts their emails, with Mailbox/get (RFC 8621 §2.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cynosure_engine::{Cause, Failure, FolderCount, ListedDocument};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::source::jmap::api::{MethodCallError, call};
use crate::source::jmap::filter::MailFilter;
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;

/// Maximum number of levels in a path, so that mailboxes that contain each other have short paths.
const LEVELS_MAX: usize = 100;

#[derive(Deserialize)]
struct MailboxGetResponse {
    list: Vec<Mailbox>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mailbox {
    id: String,
    /// Without one, the id is the name.
    name: Option<String>,
    parent_id: Option<String>,
    role: Option<String>,
    /// Any value, because a wrong number must not hide the mailboxes.
    total_emails: Option<Value>,
}

/// Returns the configured filter. Its mailboxes are looked up once per session.
pub(super) async fn resolve_filter<'a>(
    jmap: &JmapSource,
    session: &'a Arc<JmapSession>,
) -> Result<&'a MailFilter, Failure> {
    session.filter.get_or_try_init(|| resolve_mailboxes(jmap, session)).await
}

async fn resolve_mailboxes(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
) -> Result<MailFilter, Failure> {
    let since = jmap.options.since;
    let names = &jmap.options.mailboxes;
    if names.is_empty() {
        return Ok(MailFilter { mailboxes: Vec::new(), since });
    }
    let found = get_mailboxes(jmap, session, Value::Null).await?;
    if has_all(session, &found) {
        session.mailbox_paths.lock().await.extend(paths_by_id(&found));
    }
    Ok(MailFilter { mailboxes: find_mailboxes(names, &found)?, since })
}

/// Reads the paths of all mailboxes, by id. If they are too many for one response, only those with
/// these ids are read, and the mailboxes that contain them.
pub(super) async fn fetch_paths(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, MethodCallError> {
    match get_mailboxes(jmap, session, Value::Null).await {
        Ok(found) if has_all(session, &found) => return Ok(paths_by_id(&found)),
        Ok(_truncated) => {}
        Err(error) if error.is_too_large() => {}
        Err(error) => return Err(error),
    }
    Ok(paths_by_id(&get_with_parents(jmap, session, ids).await?))
}

/// Reads the mailboxes with these ids; null means all.
async fn get_mailboxes(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: Value,
) -> Result<Vec<Mailbox>, MethodCallError> {
    let arguments = json!({"ids": ids, "properties": ["id", "name", "parentId", "role"]});
    let found: MailboxGetResponse = call(jmap, session, "Mailbox/get", arguments).await?;
    Ok(found.list)
}

/// Reads the mailboxes with these ids and those that contain them, one level per request.
async fn get_with_parents(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &BTreeSet<&str>,
) -> Result<Vec<Mailbox>, MethodCallError> {
    let (mut found, mut requested) = (Vec::new(), BTreeSet::new());
    let mut next: BTreeSet<String> = ids.iter().map(|&id| id.to_owned()).collect();
    for _ in 0..LEVELS_MAX {
        let level: Vec<String> = next.into_iter().collect();
        let mut parents = BTreeSet::new();
        for batch in level.chunks(session.max_objects_in_get.max(1)) {
            let mailboxes = get_mailboxes(jmap, session, json!(batch)).await?;
            parents.extend(mailboxes.iter().filter_map(|mailbox| mailbox.parent_id.clone()));
            found.extend(mailboxes);
        }
        requested.extend(level);
        next = parents.into_iter().filter(|id| !requested.contains(id)).collect();
        if next.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// Returns true if a response with these mailboxes has all of them. Stalwart truncates a longer one
/// at the limit that it announces.
fn has_all(session: &JmapSession, mailboxes: &[Mailbox]) -> bool {
    mailboxes.len() < session.max_objects_in_get
}

/// Returns all mailboxes, with their numbers of emails.
pub(super) async fn count_mailboxes(jmap: &JmapSource) -> Result<Vec<FolderCount>, Failure> {
    let session = jmap.session().await?;
    let properties = ["id", "name", "parentId", "role", "totalEmails"];
    let arguments = json!({"ids": null, "properties": properties});
    let found: MailboxGetResponse = call(jmap, &session, "Mailbox/get", arguments).await?;
    to_folder_counts(&jmap.options.mailboxes, &found.list)
}

/// Returns the numbers of emails of mailboxes, of which the named ones are extracted; all if none
/// is named.
fn to_folder_counts(names: &[String], mailboxes: &[Mailbox]) -> Result<Vec<FolderCount>, Failure> {
    let named = find_mailboxes(names, mailboxes)?;
    let count = |(mailbox, path): (&Mailbox, String)| FolderCount {
        name: path,
        messages: mailbox.total_emails.as_ref().and_then(Value::as_u64),
        is_extracted: names.is_empty() || named.binary_search(&mailbox.id).is_ok(),
    };
    Ok(mailboxes.iter().zip(mailbox_paths(mailboxes)).map(count).collect())
}

/// Finds mailboxes by role, path or name, and returns their sorted ids. A name that occurs several
/// times selects all of them.
fn find_mailboxes(names: &[String], mailboxes: &[Mailbox]) -> Result<Vec<String>, Failure> {
    let paths = mailbox_paths(mailboxes);
    let mut ids = Vec::new();
    for name in names {
        let count_before = ids.len();
        for (mailbox, path) in mailboxes.iter().zip(&paths) {
            let has_role =
                mailbox.role.as_ref().is_some_and(|role| role.eq_ignore_ascii_case(name));
            if has_role || path == name || mailbox.name() == name {
                ids.push(mailbox.id.clone());
            }
        }
        if ids.len() == count_before {
            let known = paths.join(", ");
            let message = format!("there is no mailbox \"{name}\"; known mailboxes: {known}");
            return Err(Failure::new(Cause::NotFound, message));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn paths_by_id(mailboxes: &[Mailbox]) -> BTreeMap<String, String> {
    let ids = mailboxes.iter().map(|mailbox| mailbox.id.clone());
    ids.zip(mailbox_paths(mailboxes)).collect()
}

/// Returns the path of each mailbox, cut as its folders are: a path repeats the names above it, and
/// would take much memory if they were very long.
fn mailbox_paths(mailboxes: &[Mailbox]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Mailbox> =
        mailboxes.iter().map(|mailbox| (mailbox.id.as_str(), mailbox)).collect();
    let path = |mailbox: &Mailbox| {
        let parent = |child: &&Mailbox| by_id.get(child.parent_id.as_deref()?).copied();
        let mut names: Vec<&str> = std::iter::successors(Some(mailbox), parent)
            .take(LEVELS_MAX)
            .map(|mailbox| ListedDocument::cut_folder_name(mailbox.name()))
            .collect();
        names.reverse();
        ListedDocument::cut_folder_name(&names.join("/")).to_owned()
    };
    mailboxes.iter().map(path).collect()
}

impl Mailbox {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailboxes() -> Vec<Mailbox> {
        serde_json::from_value(json!([
            {"id": "1", "name": "Eingang", "parentId": null, "role": "inbox", "totalEmails": 12},
            {"id": "2", "name": "Work", "parentId": null, "role": null, "totalEmails": null},
            {"id": "3", "name": "2024", "parentId": "2", "totalEmails": -1.5},
            {"id": "4", "name": "2024", "parentId": "1"},
            {"id": "5", "name": "Loop", "parentId": "5"},
        ]))
        .unwrap()
    }

    fn find_by_names(names: &[&str]) -> Result<Vec<String>, Failure> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        find_mailboxes(&names, &mailboxes())
    }

    #[test]
    fn mailboxes_are_found_by_role_path_and_name() {
        assert_eq!(find_by_names(&["INBOX"]).unwrap(), ["1"]);
        assert_eq!(find_by_names(&["Work/2024"]).unwrap(), ["3"]);
        assert_eq!(find_by_names(&["2024", "inbox", "Eingang"]).unwrap(), ["1", "3", "4"]);
    }

    #[test]
    fn mailboxes_are_counted_and_named_ones_extracted() {
        let counts = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let counts = to_folder_counts(&names, &mailboxes()).unwrap().into_iter();
            counts.map(|count| (count.name, count.messages, count.is_extracted)).collect::<Vec<_>>()
        };
        let count = |name: &str, messages, is_extracted| (name.to_owned(), messages, is_extracted);

        let named = counts(&["inbox", "Work/2024"]);

        assert_eq!(named[0], count("Eingang", Some(12), true));
        assert_eq!(named[1], count("Work", None, false));
        assert_eq!(named[2], count("Work/2024", None, true));
        assert!(counts(&[]).iter().all(|(_, _, is_extracted)| *is_extracted));
    }

    #[test]
    fn mailboxes_that_contain_each_other_have_short_paths() {
        let paths = mailbox_paths(&mailboxes());

        assert_eq!(paths[4].split('/').count(), LEVELS_MAX);
    }

    #[test]
    fn a_mailbox_without_a_name_is_named_by_its_id() {
        let mailboxes = json!([{"id": "7", "name": null}, {"id": "8", "parentId": "7"}]);
        let mailboxes: Vec<Mailbox> = serde_json::from_value(mailboxes).unwrap();

        assert_eq!(mailbox_paths(&mailboxes), ["7", "7/8"]);
    }

    #[test]
    fn long_paths_are_cut() {
        let name = "a".repeat(600);
        let mailboxes = json!([
            {"id": "1", "name": name},
            {"id": "2", "name": name, "parentId": "1"},
            {"id": "3", "name": "b".repeat(5_000), "parentId": "3"},
        ]);
        let mailboxes: Vec<Mailbox> = serde_json::from_value(mailboxes).unwrap();

        let lengths = mailbox_paths(&mailboxes).iter().map(String::len).collect::<Vec<_>>();

        assert_eq!(lengths, [600, 1_024, 1_024]);
    }

    #[test]
    fn an_unknown_mailbox_error_lists_the_known_ones() {
        let failure = find_by_names(&["work"]).unwrap_err();

        assert_eq!(failure.cause, Cause::NotFound);
        assert!(failure.message.contains("\"work\""), "{failure}");
        assert!(failure.message.contains("Eingang, Work, Work/2024, Eingang/2024"), "{failure}");
    }
}
