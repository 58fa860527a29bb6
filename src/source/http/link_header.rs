//! Parser of the `Link` header (RFC 8288), as far as it leads to the next page.

/// Returns the target of the first link with the relation `next`. It may be relative.
///
/// A link with an `anchor` is about another resource (RFC 8288 §3.2), so it does not count.
pub(super) fn find_next_link<'h>(values: impl IntoIterator<Item = &'h str>) -> Option<String> {
    values.into_iter().find_map(find_in_value)
}

fn find_in_value(mut rest: &str) -> Option<String> {
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, parameters) = after.split_once('>')?;
        let (is_next, remaining) = read_parameters(parameters);
        if is_next {
            return Some(target.trim().to_owned());
        }
        rest = remaining;
    }
}

/// Reads the parameters of a link. Returns true if its relation is `next`, and the text from the
/// next link on.
fn read_parameters(mut rest: &str) -> (bool, &str) {
    let mut relations = None;
    let mut has_anchor = false;
    loop {
        rest = rest.trim_start();
        let Some(after) = rest.strip_prefix(';') else { break };
        let name_length = after.find(['=', ';', ',']).unwrap_or(after.len());
        let name = after[..name_length].trim();
        rest = &after[name_length..];
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = read_value(after.trim_start());
        }
        if name.eq_ignore_ascii_case("rel") {
            // Only the first one counts (RFC 8288 §3.3).
            relations.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("anchor") {
            has_anchor = true;
        }
    }
    let relations = relations.unwrap_or_default();
    let mut relations = relations.split_whitespace();
    let is_next = relations.any(|relation| relation.eq_ignore_ascii_case("next"));
    (is_next && !has_anchor, rest)
}

/// Reads the value of a parameter, a token or a quoted text, and returns the text after it.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut is_escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if is_escaped => {
                value.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_target_of_the_next_link_is_found() {
        for (values, expected) in [
            (&["<https://a.example/?p=2>; rel=\"next\""][..], Some("https://a.example/?p=2")),
            (&["<?page=2>;rel=next"], Some("?page=2")),
            (&["</1>; rel=prev, </3>; rel=\"NEXT\", </9>; rel=last"], Some("/3")),
            (&["</1>; rel=prev", "</3>; rel=next"], Some("/3")),
            (&["</a,b;c>; title=\"x, <no>; rel=next\"; rel=\"up next\""], Some("/a,b;c")),
            (&["</1>; title=\"a\\\"b\"; rel = \"next\" ; x"], Some("/1")),
            (&["</1>; rel=prev; rel=next"], None),
            (&["</1>; rel=next; anchor=\"#a\""], None),
            (&["</1>; rel=nextpage", "</2>", "", "<", "rel=next"], None),
        ] {
            assert_eq!(find_next_link(values.iter().copied()).as_deref(), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read(value in "\\PC{0,60}|[<>;,=\" \\\\relnxt]{0,60}") {
            if let Some(target) = find_next_link([value.as_str()]) {
                prop_assert!(value.contains(&target));
            }
        }
    }
}
