//! Tables of texts, which a narrow screen shows as a list of their rows.

use maud::{Markup, html};

/// A table; the first cell of each row is its head. The roles outlive a display that is no table's.
pub(super) fn data_table(label: &str, heads: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table .list role="table" aria-label=(label) {
            thead role="rowgroup" {
                tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (at, (cell, head)) in row.iter().zip(heads).enumerate() {
                            @if at == 0 {
                                th role="rowheader" scope="row" { (cell) }
                            } @else {
                                td role="cell" data-head=(head) { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}
