//! Values as TOML on one line, for `config show`.

use super::file::{Node, Value};
use super::show::{quote, quote_key};

/// Writes a value as TOML on one line.
pub(super) fn write_value(value: &Value) -> String {
    match value {
        Value::Text(text) => quote(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Flag(flag) => flag.to_string(),
        Value::Date(date) => date.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| write_value(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let entry = |(key, node): (&String, &Node)| {
                format!("{} = {}", quote_key(key), write_value(&node.value))
            };
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}
