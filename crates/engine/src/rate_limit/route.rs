//! Routes of a provider: requests that cost more than one unit, or have a separate quota.

use crate::rate_limit::rate::Rate;

/// Cost of the requests to one path, and their separate budget if they have one.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteCost {
    /// The path of the URL, in which `*` matches any characters.
    pub path: String,
    /// Units that one request takes from the quota.
    pub cost: u32,
    /// A quota separate from the provider's, in units per second.
    pub budget: Option<Rate>,
}

/// Returns the first of the routes that matches `path`.
#[must_use]
pub fn find_route<'a>(routes: &'a [RouteCost], path: &str) -> Option<&'a RouteCost> {
    routes.iter().find(|route| matches_pattern(&route.path, path))
}

/// Returns true if `path` matches `pattern`, in which a `*` matches any characters.
fn matches_pattern(pattern: &str, path: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut remaining) = path.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = remaining.find(piece) else { return false };
        remaining = &remaining[at + piece.len()..];
    }
    remaining.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_characters() {
        for (pattern, path, is_match) in [
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/b", false),
            ("*/messages/*", "/v1/users/me/messages/17", true),
            ("*/messages", "/v1/messages/17", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/a-c-b", false),
            ("*", "", true),
        ] {
            assert_eq!(matches_pattern(pattern, path), is_match, "{pattern} {path}");
        }
    }
}
