//! JMAP mail methods (RFC 8621) that are needed to read a mailbox.

use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Arguments, DemoMethodError};
use super::session::{ACCOUNT_ID, OBJECTS_IN_GET_MAX};
use crate::demo::mailbox::{
    ChangesError, ChangesSince, Folder, GeneratedMailbox, MessageFilter, MessageNumber,
    MessageQuery, SortOrder, position_of,
};

/// Maximum number of ids in one page, and of log entries in one `/changes`.
const PAGE_MAX: usize = 500;

/// Supported JMAP method.
#[derive(Clone, Copy, Debug)]
pub(super) enum JmapMethod {
    EmailQuery,
    EmailGet,
    EmailChanges,
    ThreadGet,
    ThreadChanges,
    MailboxGet,
}

impl JmapMethod {
    const ALL: [Self; 6] = [
        Self::EmailQuery,
        Self::EmailGet,
        Self::EmailChanges,
        Self::ThreadGet,
        Self::ThreadChanges,
        Self::MailboxGet,
    ];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EmailQuery => "Email/query",
            Self::EmailGet => "Email/get",
            Self::EmailChanges => "Email/changes",
            Self::ThreadGet => "Thread/get",
            Self::ThreadChanges => "Thread/changes",
            Self::MailboxGet => "Mailbox/get",
        }
    }

    pub(super) fn call(
        self,
        mailbox: &mut GeneratedMailbox,
        arguments: &Arguments,
    ) -> Result<Value, DemoMethodError> {
        match arguments.get("accountId").and_then(Value::as_str) {
            None => return Err(DemoMethodError::invalid("accountId")),
            Some(ACCOUNT_ID) => {}
            Some(_) => return Err(DemoMethodError::new("accountNotFound", "")),
        }
        match self {
            Self::EmailQuery => email_query(mailbox, parse_arguments(arguments)?),
            Self::EmailGet => {
                get(mailbox, &parse_arguments(arguments)?, EMAIL_PROPERTIES, email_property)
            }
            Self::ThreadGet => {
                get(mailbox, &parse_arguments(arguments)?, THREAD_PROPERTIES, thread_property)
            }
            Self::MailboxGet => {
                let mut get_arguments: GetArguments = parse_arguments(arguments)?;
                get_arguments.ids.get_or_insert_with(|| folder_ids(mailbox));
                let counts = Folder::ALL.map(|folder| folder_counts(mailbox, folder));
                get(mailbox, &get_arguments, FOLDER_PROPERTIES, |mailbox, id, property| {
                    folder_property(mailbox, &counts, id, property)
                })
            }
            Self::EmailChanges => changes(
                &parse_arguments(arguments)?,
                |since, max| mailbox.message_changes(since, max),
                |message| mailbox.email_id(message),
            ),
            Self::ThreadChanges => changes(
                &parse_arguments(arguments)?,
                |since, max| mailbox.thread_changes(since, max),
                |thread| mailbox.thread_id(thread),
            ),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EmailQueryArguments {
    #[serde(rename = "accountId")]
    _account: String,
    filter: Option<Value>,
    sort: Option<Vec<SortComparator>>,
    #[serde(default)]
    position: i64,
    anchor: Option<String>,
    #[serde(default)]
    anchor_offset: i64,
    limit: Option<usize>,
    #[serde(default)]
    calculate_total: bool,
    #[serde(default)]
    collapse_threads: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SortComparator {
    property: String,
    #[serde(default = "ascending")]
    is_ascending: bool,
}

fn ascending() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct GetArguments {
    ids: Option<Vec<String>>,
    properties: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangesArguments {
    since_state: String,
    max_changes: Option<usize>,
}

fn parse_arguments<T: for<'a> Deserialize<'a>>(
    arguments: &Arguments,
) -> Result<T, DemoMethodError> {
    T::deserialize(arguments).map_err(|error| DemoMethodError::invalid(error.to_string()))
}

fn email_query(
    mailbox: &mut GeneratedMailbox,
    arguments: EmailQueryArguments,
) -> Result<Value, DemoMethodError> {
    let filter = arguments
        .filter
        .map_or(Ok(MessageFilter::All(Vec::new())), |filter| parse_filter(mailbox, &filter))?;
    let order = match arguments.sort.as_deref() {
        None | Some([]) => SortOrder::NewestFirst,
        Some([comparator]) if comparator.property == "receivedAt" && comparator.is_ascending => {
            SortOrder::OldestFirst
        }
        Some([comparator]) if comparator.property == "receivedAt" => SortOrder::NewestFirst,
        Some(_) => return Err(DemoMethodError::new("unsupportedSort", "")),
    };
    let list = mailbox.query(&MessageQuery {
        filter,
        order,
        collapse_threads: arguments.collapse_threads,
    });

    let position = match arguments.anchor {
        Some(anchor) => mailbox
            .find_email(&anchor)
            .and_then(|anchor| position_of(&list, order, anchor))
            .and_then(|position| i64::try_from(position).ok())
            .ok_or_else(|| DemoMethodError::new("anchorNotFound", ""))?
            .saturating_add(arguments.anchor_offset),
        None if arguments.position < 0 => {
            arguments.position.saturating_add_unsigned(list.len() as u64)
        }
        None => arguments.position,
    };
    let position = usize::try_from(position.max(0)).unwrap_or(usize::MAX);
    let limit = arguments.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let page = list.iter().skip(position).take(limit);

    let mut response = json!({
        "accountId": ACCOUNT_ID,
        "queryState": mailbox.state(),
        "canCalculateChanges": false,
        "position": position,
        "ids": page.map(|message| mailbox.email_id(*message)).collect::<Vec<_>>(),
    });
    if arguments.calculate_total {
        response["total"] = list.len().into();
    }
    if arguments.limit != Some(limit) {
        response["limit"] = limit.into();
    }
    Ok(response)
}

fn parse_filter(
    mailbox: &GeneratedMailbox,
    filter: &Value,
) -> Result<MessageFilter, DemoMethodError> {
    let unsupported = || DemoMethodError::new("unsupportedFilter", filter.to_string());
    let fields = match filter {
        Value::Null => return Ok(MessageFilter::All(Vec::new())),
        Value::Object(fields) => fields,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(DemoMethodError::invalid("filter"));
        }
    };
    if let Some(operator) = fields.get("operator") {
        let conditions = fields.get("conditions").and_then(Value::as_array);
        let conditions = conditions.ok_or_else(|| DemoMethodError::invalid("conditions"))?;
        let filters: Result<_, _> =
            conditions.iter().map(|condition| parse_filter(mailbox, condition)).collect();
        return Ok(match operator.as_str() {
            Some("AND") => MessageFilter::All(filters?),
            Some("OR") => MessageFilter::Any(filters?),
            Some("NOT") => MessageFilter::None(filters?),
            _ => return Err(DemoMethodError::invalid("operator")),
        });
    }
    let mut filters = Vec::new();
    for (name, value) in fields {
        let text = value.as_str().ok_or_else(unsupported)?;
        filters.push(match name.as_str() {
            "inMailbox" => mailbox
                .find_folder(text)
                .map_or(MessageFilter::Any(Vec::new()), MessageFilter::InFolder),
            "before" => MessageFilter::Before(parse_unix_second(text)?),
            "after" => MessageFilter::NotBefore(parse_unix_second(text)?),
            _ => return Err(unsupported()),
        });
    }
    Ok(MessageFilter::All(filters))
}

/// Parses a UTCDate (RFC 8620 §1.4), rounded up to a Unix second.
fn parse_unix_second(text: &str) -> Result<i64, DemoMethodError> {
    let date = DateTime::parse_from_rfc3339(text)
        .map_err(|error| DemoMethodError::invalid(format!("{text}: {error}")))?;
    Ok(date.timestamp() + i64::from(date.timestamp_subsec_nanos() != 0))
}

const EMAIL_PROPERTIES: &[&str] = &["id", "blobId", "threadId", "mailboxIds", "size", "receivedAt"];
const THREAD_PROPERTIES: &[&str] = &["id", "emailIds"];
const FOLDER_PROPERTIES: &[&str] =
    &["id", "name", "parentId", "role", "sortOrder", "totalEmails", "totalThreads"];

/// Executes a `/get` (RFC 8620 §5.1). `property` returns one property of one object, or `None` if
/// the object does not exist.
fn get(
    mailbox: &GeneratedMailbox,
    arguments: &GetArguments,
    supported: &[&str],
    property: impl Fn(&GeneratedMailbox, &str, &str) -> Option<Value>,
) -> Result<Value, DemoMethodError> {
    let ids =
        arguments.ids.as_ref().filter(|ids| ids.len() <= OBJECTS_IN_GET_MAX).ok_or_else(|| {
            DemoMethodError::new(
                "requestTooLarge",
                format!("at most {OBJECTS_IN_GET_MAX} ids, please"),
            )
        })?;
    let properties: Vec<&str> = match &arguments.properties {
        None => supported.to_vec(),
        Some(names) => {
            if let Some(unknown) = names.iter().find(|name| !supported.contains(&name.as_str())) {
                return Err(DemoMethodError::invalid(format!("properties: {unknown}")));
            }
            supported
                .iter()
                .copied()
                .filter(|name| *name == "id" || names.iter().any(|requested| requested == *name))
                .collect()
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    let (mut list, mut not_found) = (Vec::new(), Vec::new());
    for id in ids.iter().filter(|id| seen.insert(*id)) {
        let object: Option<Map<_, _>> = properties
            .iter()
            .map(|name| Some(((*name).to_owned(), property(mailbox, id, name)?)))
            .collect();
        match object {
            Some(object) => list.push(object),
            None => not_found.push(id),
        }
    }
    Ok(json!({
        "accountId": ACCOUNT_ID,
        "state": mailbox.state(),
        "list": list,
        "notFound": not_found,
    }))
}

fn email_property(mailbox: &GeneratedMailbox, id: &str, property: &str) -> Option<Value> {
    let message = mailbox.find_email(id)?;
    Some(match property {
        "blobId" => mailbox.blob_id(message).into(),
        "threadId" => mailbox.thread_id(mailbox.thread_of(message)).into(),
        "mailboxIds" => mailbox_ids(mailbox, message),
        "size" => mailbox.size(message).into(),
        "receivedAt" => DateTime::from_timestamp(mailbox.received_at(message), 0)?
            .to_rfc3339_opts(SecondsFormat::Secs, true)
            .into(),
        _ => id.into(),
    })
}

fn mailbox_ids(mailbox: &GeneratedMailbox, message: MessageNumber) -> Value {
    let folders = mailbox.folders(message);
    let ids = Folder::ALL.into_iter().filter(|folder| folders.contains(*folder));
    Value::Object(ids.map(|folder| (mailbox.folder_id(folder), true.into())).collect())
}

fn thread_property(mailbox: &GeneratedMailbox, id: &str, property: &str) -> Option<Value> {
    let thread = mailbox.find_thread(id)?;
    Some(match property {
        "emailIds" => {
            let messages = mailbox.messages_of(thread).into_iter();
            messages.map(|message| mailbox.email_id(message)).collect()
        }
        _ => id.into(),
    })
}

fn folder_ids(mailbox: &GeneratedMailbox) -> Vec<String> {
    Folder::ALL.map(|folder| mailbox.folder_id(folder)).into()
}

/// Returns the numbers of messages and of threads in the folder.
fn folder_counts(mailbox: &mut GeneratedMailbox, folder: Folder) -> (usize, usize) {
    let mut count = |collapse_threads| {
        let filter = MessageFilter::InFolder(folder);
        mailbox
            .query(&MessageQuery { filter, order: SortOrder::NewestFirst, collapse_threads })
            .len()
    };
    (count(false), count(true))
}

fn folder_property(
    mailbox: &GeneratedMailbox,
    counts: &[(usize, usize); 4],
    id: &str,
    property: &str,
) -> Option<Value> {
    let folder = mailbox.find_folder(id)?;
    let (messages, threads) = counts[folder as usize];
    Some(match property {
        "name" => folder.name().into(),
        "parentId" => Value::Null,
        "role" => folder.role().into(),
        "sortOrder" => (folder as u32).into(),
        "totalEmails" => messages.into(),
        "totalThreads" => threads.into(),
        _ => id.into(),
    })
}

/// Executes a `/changes` (RFC 8620 §5.2).
fn changes<T>(
    arguments: &ChangesArguments,
    changes_since: impl Fn(&str, usize) -> Result<ChangesSince<T>, ChangesError>,
    id: impl Fn(T) -> String,
) -> Result<Value, DemoMethodError> {
    if arguments.max_changes == Some(0) {
        return Err(DemoMethodError::invalid("maxChanges"));
    }
    let max = arguments.max_changes.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let changes = changes_since(&arguments.since_state, max).map_err(|error| match error {
        ChangesError::MalformedState => DemoMethodError::invalid("sinceState"),
        ChangesError::StateExpired => {
            DemoMethodError::new("cannotCalculateChanges", "outdated sinceState")
        }
    })?;
    let ids = |numbers: Vec<T>| numbers.into_iter().map(&id).collect::<Vec<_>>();
    Ok(json!({
        "accountId": ACCOUNT_ID,
        "oldState": arguments.since_state,
        "newState": changes.new_state,
        "hasMoreChanges": changes.has_more,
        "created": ids(changes.created),
        "updated": ids(changes.updated),
        "destroyed": ids(changes.destroyed),
    }))
}
