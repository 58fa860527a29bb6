//! Structs have few fields, so that a reader can keep all of them in mind.
//!
//! Test code is ignored.

use std::collections::BTreeMap;

use proc_macro2::{Spacing, TokenStream, TokenTree};

use super::{crate_sources, is_cfg_test, is_end_of_item, module_path};

/// Maximum number of named fields of a struct.
const FIELDS_MAX: usize = 12;

/// Larger structs that mirror a format, each with that format. The list must only become shorter.
const MIRRORS: &[(&str, &str)] = &[
    ("cynosure::config::settings::Settings", "the tables of `config.toml`"),
    (
        "cynosure_lab::demo::service::counters::DemoCounters",
        "the JSON answer with the counters of the demo",
    ),
    (
        "cynosure::ledger::postgres::records::WriteSet",
        "the JSON that the function `apply` of the database takes",
    ),
    ("cynosure::endpoint::view::SourceView", "a source in the JSON answers of the endpoint"),
    (
        "cynosure_engine::alert::Alert",
        "an alert in `alerts.json` and in the output of `alert list`",
    ),
    (
        "cynosure_engine::breaker::persisted::PersistedBreaker",
        "a circuit breaker in its state file",
    ),
    (
        "cynosure_engine::health::watch::unit::UnitStatus",
        "the properties of a unit, as systemd answers over D-Bus",
    ),
    (
        "cynosure_engine::rate_limit::estimator::state::RateEstimatorState",
        "an estimate in `quota.json`",
    ),
    ("cynosure::state::format::ExecutionState", "`execution_state.json`"),
];

#[test]
fn structs_have_few_fields() {
    let large = large_structs();
    let mirrors: Vec<&str> = MIRRORS.iter().map(|(name, _)| *name).collect();
    let mut problems = Vec::new();
    for (name, fields) in large.iter().filter(|(name, _)| !mirrors.contains(&name.as_str())) {
        let problem = format!("{name} has {fields} fields, more than {FIELDS_MAX}");
        problems.push(format!("{problem}: group those that belong together"));
    }
    for name in mirrors.iter().filter(|name| !large.contains_key(**name)) {
        problems.push(format!("{name} has at most {FIELDS_MAX} fields: remove it from the list"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn named_fields_are_counted() {
    let text = "
        /// First.
        pub(crate) struct A<'a, T: Clone> where T: Copy {
            /// Doc: with a colon.
            #[serde(rename = \"b\")]
            pub(super) a: &'a BTreeMap<String, std::time::Duration>,
            r#type: [u8; 2],
        }
        struct B(u64, u64);
        struct C;
        enum D { E { f: u64 } }
        fn g() { struct H { i: fn(u8) -> u8 } }
        #[cfg(test)]
        mod tests { struct J { k: u8 } }
        struct L {}";

    let mut structs = Vec::new();
    collect_structs(text.parse().expect("the text is valid"), &mut structs);

    let expected = [("A", 2), ("H", 1), ("L", 0)].map(|(name, fields)| (name.to_owned(), fields));
    assert_eq!(structs, expected);
}

/// Returns the paths of all structs with too many fields, each with its number of fields.
fn large_structs() -> BTreeMap<String, usize> {
    let mut large = BTreeMap::new();
    for (file, text) in crate_sources() {
        let module = module_path(&file);
        if module.split("::").any(|name| name == "tests") {
            continue;
        }
        let mut structs = Vec::new();
        let tokens = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        collect_structs(tokens, &mut structs);
        let too_large = structs.into_iter().filter(|(_, fields)| *fields > FIELDS_MAX);
        large.extend(too_large.map(|(name, fields)| (format!("{module}::{name}"), fields)));
    }
    large
}

/// Collects the structs with braces, each with its number of fields.
fn collect_structs(tokens: TokenStream, structs: &mut Vec<(String, usize)>) {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) if is_cfg_test(&group) => {
                // Skips the item that exists only in tests.
                tokens.by_ref().find(is_end_of_item);
            }
            TokenTree::Group(group) => collect_structs(group.stream(), structs),
            TokenTree::Ident(ident) if ident == "struct" => {
                let name = tokens.next().map(|name| name.to_string());
                let end = tokens.by_ref().find(is_end_of_item);
                if let (Some(name), Some(TokenTree::Group(fields))) = (name, end) {
                    structs.push((name, count_fields(fields.stream())));
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Returns the number of names that a single colon follows. No type contains such a name.
fn count_fields(fields: TokenStream) -> usize {
    let tokens: Vec<TokenTree> = fields.into_iter().collect();
    let is_field = |pair: &&[TokenTree]| match pair {
        [TokenTree::Ident(_), TokenTree::Punct(punct)] => {
            punct.as_char() == ':' && punct.spacing() == Spacing::Alone
        }
        _ => false,
    };
    tokens.windows(2).filter(is_field).count()
}
