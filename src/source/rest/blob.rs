//! Blob ids of documents: the values that the request for a document needs.

use cynosure_engine::rest::{DocumentValues, Placeholder, RestProfile, Template};
use cynosure_engine::{BlobId, DocumentId};
use serde::{Deserialize, Serialize};

use crate::source::rest::call::CallValues;

/// Values for the request of a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct FetchValues {
    pub(super) part: Option<String>,
    pub(super) item: Option<String>,
    pub(super) document: DocumentValues,
}

/// Blob id with more than the id of the document: `[document, item, part, [[name, value], …]]`.
#[derive(Deserialize, Serialize)]
struct BlobParts(String, Option<String>, Option<String>, Vec<(String, String)>);

impl FetchValues {
    pub(super) fn as_call_values(&self) -> CallValues<'_> {
        CallValues {
            part: self.part.as_deref(),
            item: self.item.as_deref(),
            document: Some(&self.document),
            ..CallValues::default()
        }
    }
}

/// Returns the blob id of a document: its id, if `[fetch]` needs nothing else, or a JSON list of
/// what the templates of `[fetch]` use.
pub(super) fn to_blob(
    profile: &RestProfile,
    document: &DocumentValues,
    item: &str,
    part: Option<&str>,
) -> BlobId {
    let placeholders = fetch_placeholders(profile);
    let needs = |placeholder: &Placeholder| placeholders.contains(&placeholder);
    let item = needs(&Placeholder::Item).then(|| item.to_owned());
    let part = part.filter(|_| needs(&Placeholder::Part)).map(str::to_owned);
    let kept = document.keep.iter().filter(|(name, _)| needs(&Placeholder::Kept(name.clone())));
    let keep: Vec<(String, String)> = kept.cloned().collect();
    let is_own_item = item.as_ref().is_none_or(|item| *item == document.id);
    if is_own_item && part.is_none() && keep.is_empty() {
        return BlobId::new(document.id.as_str());
    }
    let parts = BlobParts(document.id.clone(), item, part, keep);
    // Texts always serialize.
    BlobId::new(serde_json::to_string(&parts).unwrap_or_default())
}

/// Returns the values in a blob id; `None` if it lacks one that `[fetch]` needs, because the
/// profile was another one.
pub(super) fn from_blob(
    profile: &RestProfile,
    document: &DocumentId,
    blob: &BlobId,
) -> Option<FetchValues> {
    let placeholders = fetch_placeholders(profile);
    let is_plain = blob.as_str() == document.as_str();
    let parts: Option<BlobParts> =
        if is_plain { None } else { serde_json::from_str(blob.as_str()).ok() };
    let values = match parts.filter(|BlobParts(id, ..)| id == document.as_str()) {
        Some(BlobParts(id, item, part, keep)) => {
            FetchValues { part, item, document: DocumentValues { id, keep } }
        }
        None => FetchValues {
            part: None,
            // A plain blob id is that of a document that is an item of its own, if the item is
            // needed.
            item: (is_plain && placeholders.contains(&&Placeholder::Item))
                .then(|| document.as_str().to_owned()),
            document: DocumentValues { id: document.as_str().to_owned(), keep: Vec::new() },
        },
    };
    placeholders.iter().all(|placeholder| values.has(placeholder)).then_some(values)
}

impl FetchValues {
    /// True if it has a value for a placeholder, or if the placeholder needs none of it.
    pub(super) fn has(&self, placeholder: &Placeholder) -> bool {
        match placeholder {
            Placeholder::Part => self.part.is_some(),
            Placeholder::Item => self.item.is_some(),
            Placeholder::Kept(name) => self.document.keep.iter().any(|(kept, _)| kept == name),
            Placeholder::Option(_)
            | Placeholder::Credential(_)
            | Placeholder::Account
            | Placeholder::Document
            | Placeholder::PageOffset
            | Placeholder::PageNumber
            | Placeholder::Cursor => true,
        }
    }
}

/// Returns the placeholders in the request for a document.
fn fetch_placeholders(profile: &RestProfile) -> Vec<&Placeholder> {
    let request = profile.tables.fetch.request.as_ref();
    let of_request = request.map(|request| request.templates()).unwrap_or_default();
    let of_all = profile.headers.iter().chain(&profile.query).map(|(_, template)| template);
    of_request.into_iter().chain(of_all).flat_map(Template::placeholders).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::source::rest::test_server::{bytes_table, profile};

    fn document(id: &str, keep: &[(&str, &str)]) -> DocumentValues {
        let keep = keep.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        DocumentValues { id: id.to_owned(), keep: keep.collect() }
    }

    #[test]
    fn a_blob_has_only_what_the_fetch_needs() {
        for (path, expected) in [
            ("/raw/{document.id}", "m1"),
            ("/raw/{item.id}/{document.id}", r#"["m1","t1",null,[]]"#),
            ("/raw/{document.id}?folder={document.folder}", r#"["m1",null,null,[["folder","5"]]]"#),
            ("/{part.id}/{document.id}", r#"["m1",null,"p1",[]]"#),
        ] {
            let profile = profile(bytes_table(path));
            let document = document("m1", &[("folder", "5"), ("other", "6")]);

            let blob = to_blob(&profile, &document, "t1", Some("p1"));

            assert_eq!(blob.as_str(), expected);
        }
        let items = profile(bytes_table("/raw/{item.id}"));
        assert_eq!(to_blob(&items, &document("m1", &[]), "m1", None).as_str(), "m1");
    }

    #[test]
    fn a_blob_of_another_profile_is_read_as_far_as_it_suffices() {
        let plain = profile(bytes_table("/raw/{document.id}"));
        let item = profile(bytes_table("/raw/{item.id}/{document.id}"));
        let read =
            |profile, blob: &str| from_blob(profile, &DocumentId::new("m1"), &BlobId::new(blob));

        let of_plain = read(&plain, r#"["m1","t1",null,[]]"#).unwrap();
        assert_eq!(of_plain.item.as_deref(), Some("t1"));
        assert!(read(&plain, "something else").is_some());
        assert_eq!(read(&item, "m1").unwrap().item.as_deref(), Some("m1"));
        assert_eq!(read(&item, "something else"), None);
        assert_eq!(read(&item, r#"["m1",null,null,[]]"#), None);
        assert_eq!(read(&item, r#"["m2","t1",null,[]]"#), None, "another document");
    }

    proptest! {
        #[test]
        fn a_blob_is_read_back(
            ids in ["\\PC{1,9}|\\[\"a\",null,null,\\[\\]\\]", "\\PC{1,9}|a"],
            part in option::of("\\PC{1,9}"),
            values in vec(("[ab]", "\\PC{0,9}"), 0..3),
            path in prop::sample::select(vec![
                "/{document.id}", "/{item.id}", "/{item.id}/{document.id}/{document.a}",
            ]),
        ) {
            let profile = profile(bytes_table(path));
            let document = DocumentValues { id: ids[0].clone(), keep: values };
            let blob = to_blob(&profile, &document, &ids[1], part.as_deref());

            let has_a = document.keep.iter().any(|(name, _)| name == "a");
            let has_values = !path.contains("document.a") || has_a;
            let read = from_blob(&profile, &DocumentId::new(document.id.as_str()), &blob);

            prop_assert_eq!(read.is_some(), has_values);
            if let Some(read) = read {
                prop_assert_eq!(&read.document.id, &document.id);
                if path.contains("item.id") {
                    prop_assert_eq!(read.item.as_deref(), Some(ids[1].as_str()));
                }
            }
        }
    }
}
