//! Filter by mailbox and first day, as a query condition and for matching emails locally.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::{Cause, Failure};
use crate::source::jmap::JmapSource;
use crate::source::jmap::api::call;
use crate::source::jmap::mail::{self, Email};
use crate::source::jmap::session::JmapSession;

/// Filter of the emails to extract.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct MailFilter {
    /// Mailbox ids; empty means every mailbox.
    mailboxes: Vec<String>,
    since: Option<NaiveDate>,
}

#[derive(Deserialize)]
struct MailboxGetResponse {
    list: Vec<Mailbox>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mailbox {
    id: String,
    name: String,
    parent_id: Option<String>,
    role: Option<String>,
}

/// Returns the configured filter. Its mailboxes are looked up once per session.
pub(super) async fn resolve<'a>(
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
    let arguments = json!({"ids": null, "properties": ["id", "name", "parentId", "role"]});
    let found: MailboxGetResponse = call(jmap, session, "Mailbox/get", arguments).await?;
    Ok(MailFilter { mailboxes: find_mailboxes(names, &found.list)?, since })
}

/// Finds mailboxes by role, path or name. A name that occurs several times selects all of them.
fn find_mailboxes(names: &[String], mailboxes: &[Mailbox]) -> Result<Vec<String>, Failure> {
    let paths = mailbox_paths(mailboxes);
    let mut ids = Vec::new();
    for name in names {
        let count_before = ids.len();
        for (mailbox, path) in mailboxes.iter().zip(&paths) {
            let has_role =
                mailbox.role.as_ref().is_some_and(|role| role.eq_ignore_ascii_case(name));
            if has_role || path == name || mailbox.name == *name {
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

fn mailbox_paths(mailboxes: &[Mailbox]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Mailbox> =
        mailboxes.iter().map(|mailbox| (mailbox.id.as_str(), mailbox)).collect();
    let path = |mailbox: &Mailbox| {
        let parent = |child: &&Mailbox| by_id.get(child.parent_id.as_deref()?).copied();
        // Mailboxes that contain each other give long paths, not endless ones.
        let mut names: Vec<&str> = std::iter::successors(Some(mailbox), parent)
            .take(mailboxes.len())
            .map(|mailbox| mailbox.name.as_str())
            .collect();
        names.reverse();
        names.join("/")
    };
    mailboxes.iter().map(path).collect()
}

impl MailFilter {
    /// True if an existing email can match later, by moving into a mailbox.
    pub(super) fn can_match_later(&self) -> bool {
        !self.mailboxes.is_empty()
    }

    /// Returns the email properties that [`matches`](Self::matches) needs.
    pub(super) fn required_properties(&self) -> &'static [&'static str] {
        if self.mailboxes.is_empty() && self.since.is_none() {
            mail::LIST_PROPERTIES
        } else {
            mail::FILTER_PROPERTIES
        }
    }

    /// Returns true if the email matches.
    pub(super) fn matches(&self, email: &Email) -> bool {
        let is_in_mailbox = self.mailboxes.is_empty() || email.is_in_any(&self.mailboxes);
        let is_in_period = match (self.since, email.received_at()) {
            (Some(since), Some(received)) => since <= received.date_naive(),
            // An invalid date is no reason to skip the email.
            _ => true,
        };
        is_in_mailbox && is_in_period
    }

    /// Returns the filter as a condition for Email/query (RFC 8621 §4.4.1).
    pub(super) fn to_query_condition(&self) -> Option<Value> {
        let mut conditions: Vec<Value> =
            self.mailboxes.iter().map(|id| json!({"inMailbox": id})).collect();
        if 1 < conditions.len() {
            conditions = vec![json!({"operator": "OR", "conditions": conditions})];
        }
        if let Some(since) = self.since {
            let midnight = since.and_time(NaiveTime::MIN).format("%Y-%m-%dT%H:%M:%SZ");
            conditions.push(json!({"after": midnight.to_string()}));
        }
        match conditions.len() {
            0 | 1 => conditions.pop(),
            _ => Some(json!({"operator": "AND", "conditions": conditions})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailboxes() -> Vec<Mailbox> {
        serde_json::from_value(json!([
            {"id": "1", "name": "Eingang", "parentId": null, "role": "inbox"},
            {"id": "2", "name": "Work", "parentId": null, "role": null},
            {"id": "3", "name": "2024", "parentId": "2"},
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
    fn an_unknown_mailbox_error_lists_the_known_ones() {
        let failure = find_by_names(&["work"]).unwrap_err();

        assert_eq!(failure.cause, Cause::NotFound);
        assert!(failure.message.contains("\"work\""), "{failure}");
        assert!(failure.message.contains("Eingang, Work, Work/2024, Eingang/2024"), "{failure}");
    }

    #[test]
    fn the_query_condition_is_minimal() {
        let since = NaiveDate::from_ymd_opt(2020, 1, 2);
        let filter = |ids: &[&str], since| MailFilter {
            mailboxes: ids.iter().map(|&id| id.to_owned()).collect(),
            since,
        };

        assert_eq!(filter(&[], None).to_query_condition(), None);
        assert_eq!(filter(&["a"], None).to_query_condition(), Some(json!({"inMailbox": "a"})));
        assert_eq!(
            filter(&[], since).to_query_condition(),
            Some(json!({"after": "2020-01-02T00:00:00Z"}))
        );
        assert_eq!(
            filter(&["a", "b"], since).to_query_condition(),
            Some(json!({"operator": "AND", "conditions": [
                {"operator": "OR", "conditions": [{"inMailbox": "a"}, {"inMailbox": "b"}]},
                {"after": "2020-01-02T00:00:00Z"},
            ]}))
        );
    }

    #[test]
    fn local_matching_agrees_with_the_query_condition() {
        let filter = MailFilter {
            mailboxes: vec!["a".to_owned()],
            since: NaiveDate::from_ymd_opt(2020, 1, 2),
        };
        let matches = |mailbox: &str, received: &str| {
            let email = json!({"id": "", "blobId": "", "threadId": "", "size": 0,
                "mailboxIds": {mailbox: true}, "receivedAt": received});
            filter.matches(&serde_json::from_value(email).unwrap())
        };

        assert!(matches("a", "2020-01-02T00:00:00Z"));
        assert!(!matches("a", "2020-01-01T23:59:59Z"));
        assert!(!matches("b", "2020-01-02T00:00:00Z"));
        assert!(matches("a", "yesterday"));
    }
}
