//! Paging of a list.

use crate::rest::json_path::JsonPath;

/// Paging, and the guard against pages without rows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PageRule {
    pub paging: Paging,
    /// True if pages without rows are normal while more follow.
    pub may_be_empty: bool,
}

/// Continuation of a list after a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Paging {
    /// The list is one page.
    Single,
    /// A token in the body leads to the next page. A page without one is the last.
    Token { from: JsonPath, to: PageTarget },
    /// The URL of the next page. A page without one is the last.
    Link { from: LinkOrigin },
    /// A position in the list. A page with fewer rows than `size` is the last.
    Offset {
        /// Rows per page, as requested.
        size: u32,
        /// Rows of the page before that each page repeats, so that a deletion between two requests
        /// skips nothing.
        overlap: u32,
        /// True if the list is read until two passes have the same rows, because it moves.
        needs_two_passes: bool,
        /// Parameter with the offset, unless a template has `{page.offset}`.
        to: Option<PageTarget>,
    },
    /// The number of the page. A page without rows is the last; with `size`, one with fewer rows.
    Number { first: u32, size: Option<u32>, to: Option<PageTarget> },
    /// A value of the last row of the page before. A page without rows is the last; with `size`,
    /// one with fewer rows.
    Anchor { from: JsonPath, size: Option<u32>, to: PageTarget },
}

/// Place of the URL of the next page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkOrigin {
    Body(JsonPath),
    /// `Link` header with the relation `next` (RFC 8288).
    Header,
}

/// Parameter of the request for a page, such as `query.pageToken`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PageTarget {
    pub place: PageTargetPlace,
    pub name: String,
}

/// Part of a request in which a parameter stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PageTargetPlace {
    Query,
    Form,
}
