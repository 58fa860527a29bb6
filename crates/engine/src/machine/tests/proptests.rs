//! Property tests of the machine for any events in any order.

use super::*;
use proptest::prelude::*;

fn event() -> impl Strategy<Value = Event> {
    let events: Vec<_> = events().into_iter().map(|(_, event)| event).collect();
    prop::sample::select(events)
}

proptest! {
    #[test]
    fn every_state_has_a_deadline_and_acts_on_it(
        events in prop::collection::vec((event(), 0..7_200_000_i64), 0..80)
    ) {
        let (config, mut machine, mut now) = (config(), StateMachine::new(NOW), NOW);
        for (event, elapsed) in events {
            now = Timestamp(now.0 + elapsed);
            machine = advance(&machine, &event, now);

            let deadline = machine.deadline(&config).max(now);
            let due = machine.step(&config, &Event::DeadlineReached, deadline);
            prop_assert!(due.machine != machine || !due.effects.is_empty());
            prop_assert!(machine.progress.last_at <= now);
        }
    }

    #[test]
    fn a_clock_step_changes_neither_waits_nor_behaviour(
        events in prop::collection::vec((event(), 0..7_200_000_i64), 0..40),
        millis in -100_000_000_000_i64..100_000_000_000,
    ) {
        let Some(step) = ClockStep::between(NOW, Timestamp(NOW.0 + millis)) else { return Ok(()) };
        let (config, mut machine, mut now) = (config(), StateMachine::new(NOW), NOW);
        for (event, elapsed) in events {
            now = Timestamp(now.0 + elapsed);
            machine = advance(&machine, &event, now);
            let shifted = machine.clone().shifted_by(step);
            let deadline = machine.deadline(&config);
            let shifted_deadline = shifted.deadline(&config);

            prop_assert_eq!(shifted.sync, machine.sync.shifted_by(step));
            prop_assert_eq!(shifted_deadline, deadline.shifted_by(step));
            let due = machine.step(&config, &Event::DeadlineReached, deadline);
            let due_shifted = shifted.step(&config, &Event::DeadlineReached, shifted_deadline);
            prop_assert_eq!(due_shifted.effects, due.effects);
            let (next, next_shifted) = (due.machine, due_shifted.machine);
            prop_assert_eq!(
                next_shifted.deadline(&config),
                next.deadline(&config).shifted_by(step)
            );
            let shift = |time: Timestamp| time.shifted_by(step);
            prop_assert_eq!(
                next_shifted.sync.complete_until,
                next.sync.complete_until.map(shift)
            );
            let started_at = |machine: &StateMachine| {
                machine.session.as_ref().map(|session| session.started_at)
            };
            prop_assert_eq!(
                started_at(&shifted),
                started_at(&machine),
                "the session folder is named after its start"
            );
        }
    }

    #[test]
    fn completeness_advances_only_while_nothing_is_pending(
        events in prop::collection::vec((event(), 0..7_200_000_i64), 0..120)
    ) {
        let (mut machine, mut now) = (StateMachine::new(NOW), NOW);
        for (event, elapsed) in events {
            now = Timestamp(now.0 + elapsed);
            let before = machine;
            machine = advance(&before, &event, now);

            let (earlier, current) = (before.sync.complete_until, machine.sync.complete_until);
            prop_assert!(current <= Some(now));
            prop_assert!(machine.sync.listed_until <= Some(now));
            if current == earlier {
                continue;
            }
            if current < earlier {
                let is_other_account = matches!(
                    &event,
                    Event::Failed { failure, .. } if failure.cause == Cause::AccountChanged
                );
                prop_assert!(is_other_account && current.is_none(), "{:?}", event);
                continue;
            }
            let is_settled = before.state == State::Working(SyncPhase::Downloading)
                && event == Event::AllItemsSettled;
            let is_unchanged =
                before.state == State::Working(SyncPhase::Polling) && event == Event::NoChanges;
            prop_assert!(is_settled || is_unchanged, "{:?} in {:?}", event, before.state);
            let session = machine.session.as_ref();
            prop_assert!(session.is_none_or(|session| session.completed_at.is_some()));
        }
    }

    #[test]
    fn a_repeated_event_in_a_waiting_state_changes_nothing(
        index in 0..9_usize, event in event()
    ) {
        let (_, machine) = states().swap_remove(index);
        prop_assume!(!matches!(machine.state, State::Working(_)));
        let once = advance(&machine, &event, NOW);
        prop_assume!(!matches!(once.state, State::Working(_)));

        prop_assert_eq!(advance(&once, &event, NOW), once);
    }
}
