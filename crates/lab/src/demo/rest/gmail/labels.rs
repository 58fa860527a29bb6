//! Labels of the mailbox.

use serde_json::{Value, json};

/// Labels of every mailbox, in the order in which the service lists them.
const SYSTEM_LABELS: [&str; 14] = [
    "CHAT",
    "SENT",
    "INBOX",
    "IMPORTANT",
    "TRASH",
    "DRAFT",
    "SPAM",
    "CATEGORY_FORUMS",
    "CATEGORY_UPDATES",
    "CATEGORY_PERSONAL",
    "CATEGORY_PROMOTIONS",
    "CATEGORY_SOCIAL",
    "STARRED",
    "UNREAD",
];

/// Lists all labels. There are no others than those of every mailbox.
pub(super) fn list() -> Value {
    let labels = SYSTEM_LABELS.map(|label| json!({ "id": label, "name": label, "type": "system" }));
    json!({ "labels": labels })
}

#[cfg(test)]
mod tests {
    use crate::demo::mailbox::{Folder, GeneratedMailbox};
    use crate::demo::rest::gmail::resource::label_id;
    use crate::demo::rest::gmail::tests::answer;

    #[test]
    fn every_label_of_a_message_is_listed() {
        let mut mailbox = GeneratedMailbox::new(1, 20);

        let labels = answer(&mut mailbox, "/labels?fields=labels(id,name)").json(200);

        let rows = labels["labels"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["id"] == row["name"] && row["type"].is_null()));
        let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        let mut used = Folder::ALL.into_iter().filter_map(label_id).chain(["UNREAD"]);
        assert!(used.all(|label| ids.contains(&label)), "{ids:?}");
    }
}
