//! What is kept of failures: how often in a row, since when, and the last reply.

use super::*;
use crate::engine::RecordedResponse;

/// Another session after the one that is open, begun at `now`.
fn next_session(ledger: &mut Ledger, number: u32, now: Timestamp) {
    let open = ledger.open_session().unwrap().unwrap().id;
    ledger.finish(&open, now).unwrap();
    begin(ledger, &format!("session_{number}"), SessionKind::Recheck, now);
}

#[test]
fn what_stays_forbidden_is_looked_at_less_and_less_until_it_is_stored() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1"]);
    end_listing(&mut ledger);
    let recheck = RecheckPolicy { interval: DAY, max_interval: 3 * DAY };
    let mut now = NOW;
    let mut refuse = |ledger: &mut Ledger, number: u32| {
        let document = due(ledger, now)[0].documents[0].no;
        let failure = Failure::new(Cause::Forbidden, "403");
        ledger.commit(&[Outcome::Refused { document, failure }], recheck, now).unwrap();
        let next = ledger.next_recheck().unwrap().unwrap();
        let rest = next.since(now).as_secs() / DAY.as_secs();
        now = next;
        next_session(ledger, number, now);
        rest
    };

    let rests = [2, 3, 4, 5].map(|number| refuse(&mut ledger, number));

    assert_eq!(rests, [1, 2, 3, 3]);
    let row = ledger.failure(&ItemId::new("a")).unwrap().unwrap();
    assert_eq!((row.quarantines, row.failed_at.is_some()), (4, true));
    let document = due(&ledger, Timestamp(i64::MAX)).remove(0).documents.remove(0);
    ledger.commit(&[stored(&document)], recheck, LATER).unwrap();
    assert_eq!(ledger.failure(&ItemId::new("a")).unwrap().unwrap().quarantines, 0);
}

#[test]
fn requeuing_begins_the_rests_anew_and_takes_only_what_failed_since_then() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2"]);
    end_listing(&mut ledger);
    let given_up = |item| Outcome::Quarantined { item, failure: Failure::new(Cause::Timeout, "x") };
    let (a, b) = (item(&ledger, "a"), item(&ledger, "b"));
    ledger.commit(&[given_up(a)], DAILY, NOW).unwrap();
    ledger.commit(&[given_up(b)], DAILY, LATER).unwrap();
    let since = |since| Requeue::Quarantined(FailureFilter { cause: None, since: Some(since) });

    assert_eq!(ledger.requeue(&since(Timestamp(LATER.0 + 1)), NOW).unwrap(), 0);
    assert_eq!(ledger.requeue(&since(LATER), NOW).unwrap(), 1);
    let quarantines =
        ["a", "b"].map(|id| ledger.failure(&ItemId::new(id)).unwrap().unwrap().quarantines);
    assert_eq!(quarantines, [1, 0]);
    assert_eq!(ledger.requeue(&since(NOW), NOW).unwrap(), 2);
    let found =
        |since| ledger.failures(FailureFilter { cause: None, since: Some(since) }, 9).unwrap();
    assert_eq!((found(LATER).len(), found(NOW).len()), (1, 2));
}

fn reply(body: &str) -> RecordedResponse {
    let headers = vec![("server".to_owned(), "\u{1b}[31m\"x\"".to_owned())];
    RecordedResponse { status: 503, headers, body: body.to_owned(), is_truncated: true }
}

#[test]
fn the_last_reply_is_kept_until_the_item_is_stored() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2"]);
    end_listing(&mut ledger);
    let (a, b) = (item(&ledger, "a"), find(&ledger, "2"));
    let failed = |failure| Outcome::Retry {
        item: a,
        trial: ItemFailureCounts::default(),
        next_at: LATER,
        failure,
    };
    let busy = Failure::new(Cause::Server, "503");

    commit(&mut ledger, &[failed(busy.clone().with_response(reply("first")))]);
    commit(&mut ledger, &[failed(busy.with_response(reply("second\0")))]);
    commit(&mut ledger, &[failed(Failure::new(Cause::Connection, "broken")), stored(&b)]);

    let kept = |ledger: &Ledger| {
        ledger.failure(&ItemId::new("a")).unwrap().unwrap().replied.map(|replied| replied.reply)
    };
    assert_eq!(kept(&ledger), Some(reply("second\0")), "a broken connection replies nothing");
    store(&mut ledger, &["1"]);
    ledger.finish(&SessionId::new("session_1"), NOW).unwrap();
    assert_eq!(kept(&ledger), None);
}

#[test]
fn the_sessions_last_reply_is_kept_apart_and_old_ones_make_room() {
    let mut ledger = begun(SessionKind::Full);
    let refused = |body: &str| Failure::new(Cause::Server, "503").with_response(reply(body));
    ledger.record_reply(&refused("first"), NOW).unwrap();
    ledger.record_reply(&Failure::new(Cause::Timeout, "no reply"), NOW).unwrap();
    ledger.record_reply(&refused("last"), LATER).unwrap();

    let replied = ledger.session_reply().unwrap().unwrap();

    assert_eq!((replied.at, replied.reply), (LATER, reply("last")));
    let rows: i64 =
        ledger.connection.query_row("SELECT count(*) FROM replies", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    // As after ten thousand others.
    let sql = "INSERT INTO replies (no, item, at, status, headers, body, is_cut)
               VALUES (10002, 7, 0, 500, '[]', '', 0)";
    ledger.connection.execute(sql, []).unwrap();
    record(&mut ledger, &["a/1"]);
    let outcome = Outcome::Quarantined { item: item(&ledger, "a"), failure: refused("new") };
    commit(&mut ledger, &[outcome]);
    assert_eq!(ledger.session_reply().unwrap(), None);
    assert!(ledger.failure(&ItemId::new("a")).unwrap().unwrap().replied.is_some());
}
