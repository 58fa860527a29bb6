//! Ledgers of every older format are brought up to date, and lose nothing on the way.

use super::*;
use crate::engine::RecordedReply;

const VERSION_1: &str = include_str!("../../../tests/fixtures/ledger-1.sql");

#[test]
fn a_ledger_of_the_first_version_is_brought_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ledger.sqlite");
    Connection::open(&path).unwrap().execute_batch(VERSION_1).unwrap();
    let refused = Reader::open(&path).unwrap_err().to_string();
    assert!(refused.contains("run the worker once, which brings it up to date"), "{refused}");

    let mut ledger = Ledger::open(&path).unwrap();

    assert!(ledger.recount().unwrap().agrees());
    assert_eq!(ledger.damage().unwrap(), [""; 0]);
    let found = ledger.failures(FailureFilter::default(), 9).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|row| (row.item.as_str(), row.quarantines, row.failed_at.map(|at| at.0)))
        .collect();
    assert_eq!(
        told,
        [
            ("forbidden", 1, Some(1_772_874_304_000)),
            ("broken", 1, Some(1_772_874_305_000)),
            ("gone", 0, None),
        ]
    );
    let now = found[0].next_at.unwrap();
    begin(&mut ledger, "session_2", SessionKind::Recheck, now);
    assert_eq!(names(&due(&ledger, now)), ["forbidden: m3"]);
    let reply =
        RecordedReply { status: 403, headers: Vec::new(), body: "no".to_owned(), is_cut: false };
    let failure = Failure::new(Cause::Forbidden, "403").replied(reply);
    let refused = Outcome::Refused { document: wanted(&ledger, "m3"), failure };
    ledger.commit(&[refused], Recheck { every: DAY, max: 7 * DAY }, now).unwrap();
    let row = Reader::open(&path).unwrap().unwrap().failure(&ItemId::new("forbidden"));
    let row = row.unwrap().unwrap();
    assert_eq!(row.next_at, Some(now.after(2 * DAY)), "it was there once before");
    assert_eq!(row.replied.map(|replied| replied.reply.body).as_deref(), Some("no"));
}
