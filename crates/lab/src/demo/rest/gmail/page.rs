//! Page of a list that a client requests.

use super::error::GmailError;
use crate::demo::rest::request::DemoRequest;

/// Results on a page, unless a request says otherwise.
const RESULTS_DEFAULT: usize = 100;
const RESULTS_MAX: usize = 500;

/// Digits of a page token.
const TOKEN_DIGITS: usize = 20;

/// Requested page.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct GmailPageRequest {
    pub(super) results_max: usize,
    /// Number in the page token.
    pub(super) position: Option<usize>,
}

impl GmailPageRequest {
    pub(super) fn parse(request: &DemoRequest) -> Result<Self, GmailError> {
        let invalid = |text| GmailError::invalid(format!("Invalid value at 'max_results': {text}"));
        let results = request.query_number("maxResults").map_err(invalid)?;
        let position = request.query("pageToken").map(parse_token).transpose()?;
        let results_max = results.unwrap_or(RESULTS_DEFAULT).clamp(1, RESULTS_MAX);
        Ok(Self { results_max, position })
    }
}

/// Returns the token of a page.
pub(super) fn page_token(position: usize) -> String {
    format!("{position:020}")
}

fn parse_token(token: &str) -> Result<usize, GmailError> {
    let number = Some(token).filter(|token| token.len() == TOKEN_DIGITS);
    number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| GmailError::invalid("Invalid pageToken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_bounds_and_tokens() {
        let parse =
            |query: &str| GmailPageRequest::parse(&DemoRequest::get(&format!("/x?{query}")));

        let page = parse("").unwrap();
        assert_eq!((page.results_max, page.position), (100, None));
        assert_eq!(parse("maxResults=0").unwrap().results_max, 1);
        let page = parse(&format!("maxResults=5000&pageToken={}", page_token(17))).unwrap();
        assert_eq!((page.results_max, page.position), (500, Some(17)));
        for wrong in ["maxResults=x", "pageToken=17", "pageToken="] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
