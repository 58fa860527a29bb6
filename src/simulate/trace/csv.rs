//! Traces as CSV (RFC 4180, a record on one line): a head, then a line for each answer. A column that is
//! none of ours is the header of that name.

use crate::config::Mistake;
use crate::simulate::trace::{AT, At, Lines, MS, STATUS, Written, status, took};

pub(super) fn read(lines: &Lines, text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Written> {
    let mut numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let Some((first, head)) = numbered.next() else { return Vec::new() };
    let head: Vec<String> = cells(head).unwrap_or_default();
    let head: Vec<String> = head.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    if !["at", "status"].iter().all(|needed| head.iter().any(|name| name == needed)) {
        let what = "the first line names no column `at` or no column `status`; write `at,status,ms` and \
                    the names of headers";
        mistakes.push(lines.mistake(first, 1, what.to_owned()));
        return Vec::new();
    }
    numbered.filter_map(|(number, line)| record(lines, &head, number, line, mistakes)).collect()
}

fn record(
    lines: &Lines,
    head: &[String],
    line: usize,
    text: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<Written> {
    let mut refuse = |what: &str| mistakes.push(lines.mistake(line, 1, what.to_owned()));
    let Some(cells) = cells(text).filter(|cells| cells.len() == head.len()) else {
        refuse("it has not as many values as the first line has names, or an open quote");
        return None;
    };
    let (mut at, mut number, mut ms, mut headers) = (None, None, Some(None), Vec::new());
    for (name, cell) in head.iter().zip(cells) {
        let cell = cell.trim();
        match name.as_str() {
            "at" => at = At::parse(cell),
            "status" => number = cell.parse().ok().and_then(status),
            "ms" if cell.is_empty() => {}
            "ms" => ms = cell.parse().ok().and_then(took).map(Some),
            _ if cell.is_empty() => {}
            name => headers.push((name.to_owned(), cell.to_owned())),
        }
    }
    for (is_wrong, what) in [(at.is_none(), AT), (number.is_none(), STATUS), (ms.is_none(), MS)] {
        if is_wrong {
            refuse(what);
        }
    }
    Some(Written { line, at: at?, status: number?, took: ms?, headers })
}

/// Splits a record; a cell in quotes may hold commas, and quotes by writing them twice.
fn cells(line: &str) -> Option<Vec<String>> {
    let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, is_quoted) {
            ('"', true) if letters.next_if_eq(&'"').is_some() => cell.push('"'),
            ('"', true) => is_quoted = false,
            ('"', false) if cell.is_empty() => is_quoted = true,
            (',', false) => cells.push(std::mem::take(&mut cell)),
            (letter, _) => cell.push(letter),
        }
    }
    cells.push(cell);
    (!is_quoted).then_some(cells)
}
