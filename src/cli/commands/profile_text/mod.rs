//! Profiles of REST sources as text for people: their tables, and the conditions of their rules.

mod rule;
mod summary;

use cynosure_engine::Scalar;
use cynosure_engine::rest::{JsonPath, TableName};

pub(super) use self::rule::rule_condition;
pub(super) use self::summary::profile_summary;

/// Quotes paths as alternatives, such as `"/thread_id" or "/id"`.
fn quote_paths<'p>(paths: impl IntoIterator<Item = &'p JsonPath>) -> String {
    join_or(paths.into_iter().map(|path| format!("{:?}", path.as_str())).collect())
}

/// Quotes values as alternatives, such as `401 or "NO_AUTH"`.
fn quote_scalars(scalars: &[Scalar]) -> String {
    let quoted = scalars.iter().map(|scalar| match scalar {
        Scalar::Text(text) => format!("{text:?}"),
        Scalar::Integer(number) => number.to_string(),
        Scalar::Flag(flag) => flag.to_string(),
    });
    join_or(quoted.collect())
}

/// Names tables as alternatives, such as `[list] or [changes]`.
pub(super) fn table_names(tables: &[TableName]) -> String {
    join_or(tables.iter().map(|table| format!("[{}]", table.name())).collect())
}

/// Joins alternatives, such as `a, b or c`.
fn join_or(mut alternatives: Vec<String>) -> String {
    match alternatives.pop() {
        None => String::new(),
        Some(last) if alternatives.is_empty() => last,
        Some(last) => format!("{} or {last}", alternatives.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_are_quoted_and_joined() {
        let paths = ["/a", "", "/b\n"].map(|text| JsonPath::parse(text).unwrap());
        let scalars = [Scalar::Integer(401), Scalar::Text("no".to_owned()), Scalar::Flag(true)];

        assert_eq!(quote_paths(&paths), r#""/a", "" or "/b\n""#);
        assert_eq!(quote_scalars(&scalars), r#"401, "no" or true"#);
        assert_eq!(quote_scalars(&scalars[..1]), "401");
        assert_eq!(table_names(&[TableName::List, TableName::Changes]), "[list] or [changes]");
        assert_eq!(table_names(&[]), "");
    }
}
