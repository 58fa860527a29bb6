//! Filter by mailbox and first day, as a query condition and for matching emails locally.

use chrono::{NaiveDate, NaiveTime};
use serde_json::{Value, json};

use crate::source::jmap::email::{self, Email};

/// Filter of the emails to extract.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct MailFilter {
    /// Mailbox ids; empty means every mailbox.
    pub(super) mailboxes: Vec<String>,
    pub(super) since: Option<NaiveDate>,
}

impl MailFilter {
    /// True if an existing email can match later, by moving into a mailbox.
    pub(super) fn can_match_later(&self) -> bool {
        !self.mailboxes.is_empty()
    }

    /// Returns the email properties that [`matches`](Self::matches) needs.
    pub(super) fn required_properties(&self) -> &'static [&'static str] {
        if self.mailboxes.is_empty() && self.since.is_none() {
            email::LIST_PROPERTIES
        } else {
            email::FILTER_PROPERTIES
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
