//! Records of failures: the number in a row, the time of the first, and the last response.

use cynosure_engine::RecordedResponse;

use super::*;

/// Completes the open session and begins a recheck session, both at `now`.
fn begin_next_session(ledger: &mut dyn Ledger, number: u32, now: Timestamp) {
    let open = ledger.open_session().unwrap().unwrap().id;
    ledger.complete_session(&open, now).unwrap();
    begin_session(ledger, &format!("session_{number}"), SessionKind::Recheck, now);
}

#[test]
fn rechecks_of_forbidden_items_back_off_until_stored() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1"]);
    end_listing(&mut *ledger);
    let recheck = RecheckPolicy { interval: DAY, max_interval: 3 * DAY };
    let mut now = NOW;
    let mut quarantine = |ledger: &mut dyn Ledger, number: u32| {
        let document = due_items(ledger, now)[0].documents[0].row_id;
        let failure = Failure::new(Cause::Forbidden, "403");
        ledger.commit(&[LedgerUpdate::Failed { document, failure }], recheck, now).unwrap();
        let next = ledger.next_recheck_at().unwrap().unwrap();
        let interval = next.since(now).as_secs() / DAY.as_secs();
        now = next;
        begin_next_session(ledger, number, now);
        interval
    };

    let intervals = [2, 3, 4, 5].map(|number| quarantine(&mut *ledger, number));

    assert_eq!(intervals, [1, 2, 3, 3]);
    let row = ledger.item_report(&ItemId::new("a")).unwrap().unwrap();
    assert_eq!((row.quarantine_count, row.failed_at.is_some()), (4, true));
    let document = due_items(&*ledger, Timestamp(i64::MAX)).remove(0).documents.remove(0);
    ledger.commit(&[stored_update(&document)], recheck, LATER).unwrap();
    assert_eq!(ledger.item_report(&ItemId::new("a")).unwrap().unwrap().quarantine_count, 0);
}

#[test]
fn requeueing_resets_the_backoff_and_respects_since() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2"]);
    end_listing(&mut *ledger);
    let quarantined =
        |item| LedgerUpdate::Quarantined { item, failure: Failure::new(Cause::Timeout, "x") };
    let (a, b) = (item_row_id(&*ledger, "a"), item_row_id(&*ledger, "b"));
    ledger.commit(&[quarantined(a)], DAILY_RECHECK, NOW).unwrap();
    ledger.commit(&[quarantined(b)], DAILY_RECHECK, LATER).unwrap();
    let since =
        |since| RequeueFilter::Quarantined(FailureFilter { cause: None, since: Some(since) });

    assert_eq!(ledger.requeue(&since(Timestamp(LATER.0 + 1)), NOW).unwrap(), 0);
    assert_eq!(ledger.requeue(&since(LATER), NOW).unwrap(), 1);
    let quarantine_counts = ["a", "b"]
        .map(|id| ledger.item_report(&ItemId::new(id)).unwrap().unwrap().quarantine_count);
    assert_eq!(quarantine_counts, [1, 0]);
    assert_eq!(ledger.requeue(&since(NOW), NOW).unwrap(), 2);
    let found =
        |since| ledger.failures(FailureFilter { cause: None, since: Some(since) }, 9).unwrap();
    assert_eq!((found(LATER).len(), found(NOW).len()), (1, 2));
}

pub(in crate::ledger) fn recorded_response(body: &str) -> RecordedResponse {
    let headers = vec![("server".to_owned(), "\u{1b}[31m\"x\"".to_owned())];
    RecordedResponse { status: 503, headers, body: body.to_owned(), is_truncated: true }
}

#[test]
fn the_last_response_is_kept_until_the_item_is_stored() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    record_page(&mut *ledger, &["a/1", "b/2"]);
    end_listing(&mut *ledger);
    let (a, b) = (item_row_id(&*ledger, "a"), find_due(&*ledger, "2"));
    let retry = |failure| LedgerUpdate::Retry {
        item: a,
        failure_counts: ItemFailureCounts::default(),
        next_attempt_at: LATER,
        failure,
    };
    let server_failure = Failure::new(Cause::Server, "503");

    commit_updates(
        &mut *ledger,
        &[retry(server_failure.clone().with_response(recorded_response("first")))],
    );
    commit_updates(
        &mut *ledger,
        &[retry(server_failure.with_response(recorded_response("second\0")))],
    );
    commit_updates(
        &mut *ledger,
        &[retry(Failure::new(Cause::Connection, "broken")), stored_update(&b)],
    );

    let last_response = |ledger: &dyn Ledger| {
        ledger
            .item_report(&ItemId::new("a"))
            .unwrap()
            .unwrap()
            .last_response
            .map(|stored| stored.response)
    };
    assert_eq!(
        last_response(&*ledger),
        Some(recorded_response(&LedgerHome::kept_text("second\0"))),
        "a broken connection has no response"
    );
    store_documents(&mut *ledger, &["1"]);
    ledger.complete_session(&SessionId::new("session_1"), NOW).unwrap();
    assert_eq!(last_response(&*ledger), None);
}

#[test]
fn the_last_response_of_a_session_is_kept() {
    let mut ledger = ledger_with_session(SessionKind::Full);
    let failure =
        |body: &str| Failure::new(Cause::Server, "503").with_response(recorded_response(body));
    ledger.record_session_response(&failure("first"), NOW).unwrap();
    ledger.record_session_response(&Failure::new(Cause::Timeout, "no response"), NOW).unwrap();
    ledger.record_session_response(&failure("last"), LATER).unwrap();

    let stored = ledger.session_response().unwrap().unwrap();

    assert_eq!((stored.at, stored.response), (LATER, recorded_response("last")));
}
