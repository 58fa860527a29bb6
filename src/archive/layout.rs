//! Paths of documents: encodes untrusted ids as names that are safe on every filesystem.
//!
//! Ids are untrusted and case-sensitive. A filesystem may fold case, normalize accents, or
//! reserve some names. So names are lower-case ASCII, and every other byte of an id is
//! encoded. Distinct ids have distinct names, and a name can be decoded.
//!
//! | in the id | in the name |
//! |---|---|
//! | `a-z 0-9 _ -` | unchanged |
//! | `A-Z` | `+a` to `+z` |
//! | other bytes, a leading `-`, the first letter of a Windows device name | `=`, two hex digits |
//! | an id whose name would be too long | its start, `~`, and the SHA-256 of the id in hex |
//! | the empty id | `=` |

use chrono::{DateTime, Datelike, NaiveDateTime};
use cynosure_engine::{DocumentId, ItemId, Timestamp};
use sha2::{Digest, Sha256};

use crate::archive::format::FileExtension;

/// Maximum length of a file or folder name, in bytes: the limit of nearly every filesystem.
const NAME_BYTES_MAX: usize = 255;

/// Maximum length of an encoded id, in bytes. It leaves room for the extension `.eml`.
const ENCODED_ID_BYTES_MAX: usize = NAME_BYTES_MAX - 4;

/// Number of the first fetched version of a document. Its file name has no number.
pub const FIRST_VERSION: u32 = 1;

/// Length of `~` and a SHA-256 in hex, in bytes.
const DIGEST_SUFFIX_BYTES: usize = 1 + 64;

/// Format of the timestamp that starts a session folder's name, and its length in bytes.
const TIMESTAMP_FORMAT: &str = "%Y-%m-%d_%H%M%S";
const TIMESTAMP_BYTES: usize = 17;

/// Maximum length of the account in a session folder's name, in bytes.
const ACCOUNT_BYTES_MAX: usize = 200;

/// Name of a session folder: one safe path component.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FolderName(String);

impl FolderName {
    /// Returns `YYYY-MM-DD_HHMMSS_username_domain` in UTC.
    ///
    /// From the second folder of that name on, `_2` and so on is appended.
    #[must_use]
    pub fn for_session(started: Timestamp, account: &str, number: u32) -> Self {
        // A year outside 0 to 9999 means that the clock is badly wrong; the epoch replaces it.
        let time = DateTime::from_timestamp_millis(started.0)
            .filter(|time| (0..=9999).contains(&time.year()))
            .unwrap_or_default();
        let mut name = format!("{}_{}", time.format(TIMESTAMP_FORMAT), account_component(account));
        if number > 1 {
            name.push_str(&format!("_{number}"));
        }
        Self(name)
    }

    /// Parses a stored folder name; `None` unless it is one safe path component.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_safe = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && !text.starts_with('.')
            && !text.contains(['/', '\0']);
        is_safe.then(|| Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the start of the session, if this is a folder of `account`.
    #[must_use]
    pub fn session_start(&self, account: &str) -> Option<Timestamp> {
        let time = self.0.get(..TIMESTAMP_BYTES)?;
        let rest = self.0[TIMESTAMP_BYTES..]
            .strip_prefix('_')?
            .strip_prefix(&*account_component(account))?;
        let number = rest.strip_prefix('_').unwrap_or(rest);
        let is_match =
            rest.is_empty() || number.len() < rest.len() && number.parse::<u32>().is_ok();
        let time = NaiveDateTime::parse_from_str(time, TIMESTAMP_FORMAT).ok()?;
        is_match.then(|| Timestamp(time.and_utc().timestamp_millis()))
    }
}

/// Returns the path of a document below its session folder.
///
/// With the extension `eml` it is `<thread>/<message>.eml` for the first version, and
/// `<thread>/<message>.2.eml` and so on for later ones. No id can produce the name of another
/// document's version, because dots in ids are encoded.
#[must_use]
pub fn document_path(
    item: &ItemId,
    document: &DocumentId,
    version: u32,
    extension: &FileExtension,
) -> String {
    let suffix = match version {
        ..=FIRST_VERSION => format!(".{extension}"),
        number => format!(".{number}.{extension}"),
    };
    let bytes_max = ENCODED_ID_BYTES_MAX.min(NAME_BYTES_MAX - suffix.len());
    let name = encode_with_limit(document.as_str(), bytes_max);
    format!("{}/{name}{suffix}", encode_id(item.as_str()))
}

/// Returns true if a path below a session folder is that of a version of this document, with any
/// extension. It is that of another document if the row of this one names a file with the same
/// bytes.
#[must_use]
pub fn is_document_path(path: &str, item: &ItemId, document: &DocumentId) -> bool {
    FileExtension::of_path(path).is_some_and(|extension| {
        document_path(item, document, version_of_path(path), &extension) == path
    })
}

/// Returns the version number in the path or the name of a document's file, or 1 if it has none.
pub(super) fn version_of_path(path: &str) -> u32 {
    let number = path.rsplit('.').nth(1).and_then(|number| number.parse().ok());
    number.filter(|_| path.matches('.').count() > 1).unwrap_or(FIRST_VERSION)
}

/// Decodes the ids from the two path components of any version of a document, with any extension.
///
/// `None` if this layout does not produce such a name, or if the id was too long to be encoded
/// in full.
#[must_use]
pub fn parse_document_path(thread: &str, file: &str) -> Option<(ItemId, DocumentId)> {
    let extension = FileExtension::of_path(file)?;
    let (stem, _) = file.rsplit_once('.')?;
    let (name, version) = match stem.split_once('.') {
        None => (stem, FIRST_VERSION),
        Some((name, number)) => {
            (name, number.parse().ok().filter(|version| *version > FIRST_VERSION)?)
        }
    };
    let (item, document) = (ItemId::new(decode_name(thread)?), DocumentId::new(decode_name(name)?));
    let path = document_path(&item, &document, version, &extension);
    let is_match = path == format!("{thread}/{file}");
    is_match.then_some((item, document))
}

/// Encodes an untrusted id as a file name of at most 251 bytes.
#[must_use]
pub fn encode_id(id: &str) -> String {
    encode_with_limit(id, ENCODED_ID_BYTES_MAX)
}

fn encode_with_limit(id: &str, bytes_max: usize) -> String {
    if id.is_empty() {
        return "=".to_owned();
    }
    let mut name = String::with_capacity(id.len());
    for (position, byte) in id.bytes().enumerate() {
        let is_plain = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let must_be_encoded = position == 0 && (byte == b'-' || is_windows_device(id));
        if is_plain && !must_be_encoded {
            name.push(char::from(byte));
        } else if byte.is_ascii_uppercase() && !must_be_encoded {
            name.push('+');
            name.push(char::from(byte.to_ascii_lowercase()));
        } else {
            name.push_str(&format!("={byte:02x}"));
        }
    }
    if name.len() > bytes_max {
        name.truncate(bytes_max - DIGEST_SUFFIX_BYTES);
        name.push('~');
        for byte in Sha256::digest(id) {
            name.push_str(&format!("{byte:02x}"));
        }
    }
    name
}

fn decode_name(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => rest.next()?.to_ascii_uppercase(),
            b'=' if name == "=" => break,
            b'=' => parse_hex_digit(rest.next()?)? << 4 | parse_hex_digit(rest.next()?)?,
            plain => plain,
        });
    }
    let id = String::from_utf8(bytes).ok()?;
    (encode_id(&id) == name).then_some(id)
}

fn parse_hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// True if Windows reserves the name for a device, with any extension and in any case.
fn is_windows_device(id: &str) -> bool {
    let stem = id.strip_suffix(|c: char| c.is_ascii_digit());
    let names: &[&str] =
        if stem.is_some() { &["com", "lpt"] } else { &["con", "prn", "aux", "nul"] };
    names.iter().any(|name| stem.unwrap_or(id).eq_ignore_ascii_case(name))
}

/// Converts an account to a name component: `me@example.com` becomes `me_example.com`.
///
/// Letters and digits of any script are kept.
fn account_component(account: &str) -> String {
    let mut name = String::new();
    for c in account.chars() {
        let c = if c.is_alphanumeric() || matches!(c, '.' | '-' | '+') { c } else { '_' };
        if name.len() + c.len_utf8() > ACCOUNT_BYTES_MAX {
            break;
        }
        name.push(c);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-07 09:05:03 UTC.
    const STARTED: Timestamp = Timestamp(1_772_874_303_456);

    fn mail_path(item: &ItemId, document: &DocumentId, version: u32) -> String {
        document_path(item, document, version, &FileExtension::default())
    }

    #[test]
    fn a_session_folder_is_named_after_its_start_and_account() {
        let name = |account, number| FolderName::for_session(STARTED, account, number).0;

        assert_eq!(name("me@example.com", 1), "2026-03-07_090503_me_example.com");
        assert_eq!(name("me@example.com", 2), "2026-03-07_090503_me_example.com_2");
        assert_eq!(name("me", 1), "2026-03-07_090503_me");
        assert_eq!(name("../a\nb/c", 1), "2026-03-07_090503_.._a_b_c");
        assert_eq!(name("я@почта.рф", 1), "2026-03-07_090503_я_почта.рф");
        assert!(name(&"я".repeat(500), 100).len() < NAME_BYTES_MAX);
    }

    #[test]
    fn only_safe_folder_names_are_parsed() {
        let name = FolderName::for_session(STARTED, "me@example.com", 1);

        assert_eq!(FolderName::parse(name.as_str()), Some(name));
        for unsafe_name in ["", ".", "..", ".cynosure", "a/b", "/a", "a\0"] {
            assert_eq!(FolderName::parse(unsafe_name), None, "{unsafe_name:?}");
        }
    }

    #[test]
    fn the_start_is_parsed_from_a_folder_name() {
        let started = |number, account| {
            FolderName::for_session(STARTED, "me@example.com", number).session_start(account)
        };

        let whole_second = Some(Timestamp(1_772_874_303_000));
        assert_eq!(started(1, "me@example.com"), whole_second);
        assert_eq!(started(12, "me@example.com"), whole_second);
        assert_eq!(started(1, "me@example.co"), None);
        assert_eq!(started(1, "you@example.com"), None);
    }

    #[test]
    fn plain_ids_stay_and_other_characters_are_encoded() {
        let ids = [
            "eaaaaab", "M1f00", "", "-rf", "../x", "/etc/x", "CON", "con", "com1", "LPT9", "com",
            "console", "a\nb", "\u{202e}", "é", "e\u{301}", "a.b", "A", "a", "a\0", "Ab-_9", "=",
            "+a",
        ];
        let names: Vec<_> = ids.map(|id| format!("{id:?} {}", encode_id(id))).into();

        insta::assert_snapshot!(names.join("\n"), @r#"
        "eaaaaab" eaaaaab
        "M1f00" +m1f00
        "" =
        "-rf" =2drf
        "../x" =2e=2e=2fx
        "/etc/x" =2fetc=2fx
        "CON" =43+o+n
        "con" =63on
        "com1" =63om1
        "LPT9" =4c+p+t9
        "com" com
        "console" console
        "a\nb" a=0ab
        "\u{202e}" =e2=80=ae
        "é" =c3=a9
        "e\u{301}" e=cc=81
        "a.b" a=2eb
        "A" +a
        "a" a
        "a\0" a=00
        "Ab-_9" +ab-_9
        "=" =3d
        "+a" =2ba
        "#);
    }

    #[test]
    fn a_document_is_in_the_folder_of_its_thread() {
        let (item, document) = (ItemId::new("bf"), DocumentId::new("Eb"));

        let path = mail_path(&item, &document, FIRST_VERSION);

        assert_eq!(path, "bf/+eb.eml");
        assert_eq!(parse_document_path("bf", "+eb.eml"), Some((item, document)));
        assert_eq!(parse_document_path("bf", "notes.html~"), None);
        assert_eq!(parse_document_path("Bf", "b.eml"), None, "no id is encoded this way");
    }

    #[test]
    fn a_later_version_is_stored_beside_the_first() {
        let (item, document) = (ItemId::new("bf"), DocumentId::new("Eb"));

        assert_eq!(mail_path(&item, &document, 2), "bf/+eb.2.eml");
        assert_eq!(parse_document_path("bf", "+eb.2.eml"), Some((item, document)));
        for foreign in ["+eb.1.eml", "+eb.02.eml", "+eb.+2.eml", "+eb.x.eml", "+eb.2.3.eml"] {
            assert_eq!(parse_document_path("bf", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_document_of_another_format_has_another_extension() {
        let ids = (ItemId::new("bf"), DocumentId::new("Eb"));
        let extension = FileExtension::parse("json").unwrap();

        for (version, path) in [(FIRST_VERSION, "bf/+eb.json"), (2, "bf/+eb.2.json")] {
            assert_eq!(document_path(&ids.0, &ids.1, version, &extension), path);
            assert_eq!(parse_document_path("bf", &path[3..]), Some(ids.clone()));
            assert!(is_document_path(path, &ids.0, &ids.1));
        }
    }

    #[test]
    fn a_path_is_that_of_one_document() {
        let (item, document) = (ItemId::new("bf"), DocumentId::new("Eb"));

        for path in ["bf/+eb.eml", "bf/+eb.2.eml", "bf/+eb.13.eml"] {
            assert!(is_document_path(path, &item, &document), "{path}");
        }
        for path in ["bf/eb.eml", "b/+eb.eml", "bf/+eb.2.3.eml", "bf/+eb.02.eml", "bf/+eb", ""] {
            assert!(!is_document_path(path, &item, &document), "{path}");
        }
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9_-]{0,12}",
            "(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])",
            "[=+~a-cA-C.]{0,6}",
            ".{0,40}",
            "[aA]{245,260}",
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn distinct_ids_have_distinct_case_insensitive_names(a in ids(), b in ids()) {
            let same = encode_id(&a).to_lowercase() == encode_id(&b).to_lowercase();
            prop_assert_eq!(same, a == b);
        }

        #[test]
        fn every_encoded_id_is_one_safe_path_component(id in ids()) {
            let name = encode_id(&id);

            prop_assert!(!name.is_empty() && name.len() <= ENCODED_ID_BYTES_MAX);
            prop_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'=' | b'+' | b'~')));
            prop_assert!(!name.starts_with('-') && !is_windows_device(&name));
        }

        #[test]
        fn a_name_is_decoded_unless_the_id_was_too_long(id in ids()) {
            let name = encode_id(&id);
            let expected = (!name.contains('~')).then_some(id);
            prop_assert_eq!(decode_name(&name), expected);
        }

        #[test]
        fn every_version_has_a_distinct_name(
            a in ids(),
            b in ids(),
            versions in (1..12_u32, 1..12_u32),
            extension in "[a-z0-9]{1,8}",
        ) {
            let extension = FileExtension::parse(&extension).unwrap();
            let path = |id: &str, version| {
                document_path(&ItemId::new("t"), &DocumentId::new(id), version, &extension)
            };
            let (one, other) = (path(&a, versions.0), path(&b, versions.1));
            prop_assert_eq!(one == other, a == b && versions.0 == versions.1);
            prop_assert!(one.len() <= 2 + NAME_BYTES_MAX);
            prop_assert!(is_document_path(&one, &ItemId::new("t"), &DocumentId::new(&*a)));
            let ids = parse_document_path("t", &one[2..]).map(|(_, document)| document.as_str().to_owned());
            prop_assert_eq!(ids, (!one.contains('~')).then_some(a));
        }

        #[test]
        fn decoding_any_text_never_panics(text in any::<String>()) {
            if let Some(id) = decode_name(&text) {
                prop_assert_eq!(encode_id(&id), text);
            }
        }
    }
}
