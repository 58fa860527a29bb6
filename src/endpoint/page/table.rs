//! Data tables. A narrow screen shows the rows as a list.

use maud::{Markup, html};

/// Table whose rows start with a header cell. The explicit roles keep it a table for screen readers
/// when the CSS displays it as a list.
pub(super) fn data_table(label: &str, headings: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table .list role="table" aria-label=(label) {
            thead role="rowgroup" {
                tr role="row" { @for heading in headings { th role="columnheader" scope="col" { (heading) } } }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (index, (cell, heading)) in row.iter().zip(headings).enumerate() {
                            @if index == 0 {
                                th role="rowheader" scope="row" { (cell) }
                            } @else {
                                td role="cell" data-heading=(heading) { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}
