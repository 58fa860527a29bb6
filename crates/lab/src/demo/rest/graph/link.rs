//! Links to further pages, and the size of a page.

use hyper::header;

use super::error::GraphError;
use super::ids::preferences;
use crate::demo::rest::request::DemoRequest;

/// Rows on a page, unless a request says otherwise.
const PAGE_ROWS_DEFAULT: usize = 10;
pub(super) const PAGE_ROWS_MAX: usize = 1000;

/// Returns a full URL of the same resource with another query.
pub(super) fn link(request: &DemoRequest, query: &str) -> String {
    format!("http://{}{}?{query}", request.header(header::HOST), request.raw_path())
}

/// Returns the number of rows on a page by `Prefer: odata.maxpagesize`.
pub(super) fn preferred_page_rows(request: &DemoRequest) -> usize {
    let prefer = preferences(request);
    let size = prefer.split_once("odata.maxpagesize=").and_then(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    });
    size.unwrap_or(PAGE_ROWS_DEFAULT).clamp(1, PAGE_ROWS_MAX)
}

/// Returns a number of the query, or the one that applies without it.
pub(super) fn query_number(
    request: &DemoRequest,
    name: &str,
    default: usize,
) -> Result<usize, GraphError> {
    let number = request.query_number(name);
    let invalid = |_text| GraphError::bad_request("The query specified in the URI is not valid.");
    Ok(number.map_err(invalid)?.unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    #[test]
    fn a_client_may_prefer_a_size_of_pages() {
        let rows = |value: &str| {
            let request = DemoRequest::get("/x");
            preferred_page_rows(&request.with_header(HeaderName::from_static("prefer"), value))
        };

        assert_eq!([rows(""), rows("odata.maxpagesize=x")], [10, 10]);
        assert_eq!(rows("IdType=\"ImmutableId\", odata.maxpagesize=200"), 200);
        assert_eq!([rows("odata.maxpagesize=0"), rows("odata.maxPageSize=9999,a")], [1, 1000]);
    }
}
