//! Circles of imports between modules, which can only be understood together.
//!
//! A module imports another if a path from `crate`, `self` or `super` in it names an item of the
//! other. A use of a re-exported item is an import of the module that defines it, and the re-export
//! itself is none. Test code is ignored. Crates cannot import each other.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{crate_sources, is_cfg_test, is_end_of_item, is_punct, module_path};

/// Modules, by path, each with those that it imports.
type ImportGraph = BTreeMap<String, BTreeSet<String>>;

/// Re-exported items, by path, each with the path that it is re-exported from.
type ReExports = BTreeMap<String, String>;

/// Path in the source of a module, as written, without `as`.
#[derive(Debug, Eq, PartialEq)]
struct WrittenPath {
    segments: Vec<String>,
    /// Name by which a re-export is used; `None` unless it is a re-export.
    exported_name: Option<String>,
}

#[test]
fn no_modules_import_each_other() {
    let imports = import_graph(&modules());
    let mut problems = Vec::new();
    for circle in circles(&imports) {
        problems.push(format!("{circle:?} import each other; move what they share:"));
        for module in &circle {
            let inside = imports[*module].iter().filter(|other| circle.contains(&other.as_str()));
            problems.extend(inside.map(|other| format!("  {module} imports {other}")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn paths_are_read_from_use_declarations_and_code() {
    let text = "
        pub(in crate::a) use self::b::{C, d::{self, E as F}};
        use super::g::*;
        fn f() -> crate::h::I { super::super::j(self.k, Self::L) }
        #[cfg(test)]
        mod tests { use crate::m::N; }";

    let mut paths = Vec::new();
    collect_paths(text.parse().expect("the text is valid"), &mut paths);

    let shown = paths.into_iter().map(|path| (path.segments.join("::"), path.exported_name));
    let exported = |path: &str, name: &str| (path.to_owned(), Some(name.to_owned()));
    let imported = |path: &str| (path.to_owned(), None);
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            exported("self::b::C", "C"),
            exported("self::b::d", "d"),
            exported("self::b::d::E", "F"),
            imported("super::g"),
            imported("crate::h::I"),
            imported("super::super::j"),
        ]
    );
}

#[test]
fn modules_of_a_circle_reach_each_other() {
    let edges = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "e"), ("e", "d")];
    let mut imports = ImportGraph::new();
    for (module, imported) in edges {
        imports.entry(module.to_owned()).or_default().insert(imported.to_owned());
    }

    assert_eq!(circles(&imports), BTreeSet::from([vec!["b", "c"], vec!["d", "e"]]));
}

/// Returns the paths that each module of the crates contains, by the path of the module.
fn modules() -> BTreeMap<String, Vec<WrittenPath>> {
    let mut modules = BTreeMap::new();
    for (file, text) in crate_sources() {
        let tokens = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut paths = Vec::new();
        collect_paths(tokens, &mut paths);
        modules.insert(module_path(&file), paths);
    }
    modules
}

fn import_graph(modules: &BTreeMap<String, Vec<WrittenPath>>) -> ImportGraph {
    let mut re_exports = ReExports::new();
    for (module, paths) in modules {
        for path in paths {
            if let (Some(name), Some(target)) = (&path.exported_name, absolute_path(module, path)) {
                re_exports.insert(format!("{module}::{name}"), target);
            }
        }
    }
    let imports = |(module, paths): (&String, &Vec<WrittenPath>)| {
        let used = paths.iter().filter(|path| path.exported_name.is_none());
        let targets = used.filter_map(|path| absolute_path(module, path));
        let defined_in = targets.filter_map(|path| defining_module(&path, modules, &re_exports));
        (module.clone(), defined_in.filter(|imported| imported != module).collect())
    };
    modules.iter().map(imports).collect()
}

/// Returns the path from the name of the crate; `None` if it may belong to another crate.
fn absolute_path(module: &str, path: &WrittenPath) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut rest = path.segments.iter().map(String::as_str).peekable();
    match rest.next()? {
        "crate" => base.truncate(1),
        "self" => {}
        "super" => {
            base.pop();
            while rest.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        _ => return None,
    }
    base.extend(rest);
    Some(base.join("::"))
}

/// Returns the module that defines an item, behind all re-exports.
fn defining_module(
    path: &str,
    modules: &BTreeMap<String, Vec<WrittenPath>>,
    re_exports: &ReExports,
) -> Option<String> {
    let mut module = path;
    let mut item = None;
    while !modules.contains_key(module) {
        item = Some(module);
        (module, _) = module.rsplit_once("::")?;
    }
    match item.and_then(|item| re_exports.get(item)) {
        Some(target) => defining_module(target, modules, re_exports),
        None => Some(module.to_owned()),
    }
}

/// Returns the groups of modules that reach each other by their imports.
fn circles(imports: &ImportGraph) -> BTreeSet<Vec<&str>> {
    let reachable: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|module| (module.as_str(), reachable_from(module, imports))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached) in &reachable {
        let reaches_back = |other: &&str| reachable.get(other).is_some_and(|r| r.contains(module));
        let circle: Vec<&str> = reached.iter().copied().filter(reaches_back).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles
}

fn reachable_from<'g>(start: &str, imports: &'g ImportGraph) -> BTreeSet<&'g str> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![start];
    while let Some(module) = pending.pop() {
        for imported in imports.get(module).into_iter().flatten() {
            if reached.insert(imported.as_str()) {
                pending.push(imported);
            }
        }
    }
    reached
}

/// Collects the paths of `use` declarations, and those in code that begin in this crate.
fn collect_paths(tokens: TokenStream, paths: &mut Vec<WrittenPath>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut is_public = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) if is_cfg_test(&group) => {
                // Skips the item that exists only in tests.
                tokens.by_ref().find(is_end_of_item);
            }
            TokenTree::Group(group) => collect_paths(group.stream(), paths),
            TokenTree::Ident(ident) if ident == "pub" => {
                is_public = true;
                let is_parenthesized = |token: &TokenTree| {
                    matches!(token, TokenTree::Group(group)
                        if group.delimiter() == Delimiter::Parenthesis)
                };
                tokens.next_if(is_parenthesized);
                continue;
            }
            TokenTree::Ident(ident) if ident == "use" => {
                let tree = tokens.by_ref().take_while(|token| !is_punct(token, ';')).collect();
                collect_use_tree(tree, &[], is_public, paths);
            }
            TokenTree::Ident(ident) if ["crate", "self", "super"].iter().any(|&s| ident == s) => {
                let mut segments = vec![ident.to_string()];
                while tokens.next_if(|token| is_punct(token, ':')).is_some() {
                    tokens.next();
                    let name = tokens.next_if(|token| matches!(token, TokenTree::Ident(_)));
                    segments.extend(name.map(|name| name.to_string()));
                }
                if segments.len() > 1 {
                    paths.push(WrittenPath { segments, exported_name: None });
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        is_public = false;
    }
}

/// Collects the paths of a use tree below `prefix`.
fn collect_use_tree(
    tokens: TokenStream,
    prefix: &[String],
    is_public: bool,
    paths: &mut Vec<WrittenPath>,
) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for tree in tokens.split(|token| is_punct(token, ',')) {
        let mut names: Vec<String> = Vec::new();
        let mut group = None;
        for token in tree {
            match token {
                TokenTree::Ident(ident) => names.push(ident.to_string()),
                TokenTree::Group(inner) => group = Some(inner.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        let alias = names.iter().position(|name| name == "as").map(|at| names.split_off(at));
        let mut segments = [prefix, &names].concat();
        if let Some(group) = group {
            collect_use_tree(group, &segments, is_public, paths);
        } else if !names.is_empty() || tree.iter().any(|token| is_punct(token, '*')) {
            segments.pop_if(|last| last == "self");
            let name = alias.as_deref().unwrap_or(&segments).last().cloned();
            paths.push(WrittenPath { segments, exported_name: name.filter(|_| is_public) });
        }
    }
}
