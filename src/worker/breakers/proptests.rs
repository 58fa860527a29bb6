//! Property test of two processes that share a breaker by a file, beside a model of its content.

use cynosure_engine::Timestamp;
use cynosure_engine::breaker::{
    BreakerPolicy, ManualCommand, PersistedBreaker, PersistedTransition,
};
use proptest::prelude::*;

use super::exchange::SharedBreaker;

const NOW: Timestamp = Timestamp(1_750_000_000_000);
const POLICY: BreakerPolicy = BreakerPolicy::DEFAULT;

/// Transitions that the file keeps.
const TRANSITIONS_KEPT: usize = 16;

const OPEN: ManualCommand = ManualCommand::Open { until: None };

#[derive(Clone, Copy, Debug)]
enum SharedEvent {
    /// A call of a process ends.
    Call(usize),
    /// A process changes the state.
    Change(usize, ManualCommand),
    /// A process begins an exchange, and the file is changed.
    Begin(usize),
    /// The process adopts its result.
    Finish(usize),
    /// A process only reads the file.
    Read(usize),
    /// The user changes the file.
    UserCommand(ManualCommand),
}

/// Transition: its generation and its time.
type TransitionKey = (u64, i64);

/// File as it should be.
#[derive(Default)]
struct FileModel {
    calls: u64,
    resets: u64,
    /// Changes of state, with resets.
    changes: u64,
    transitions: Vec<TransitionKey>,
}

/// One process, and what it should know.
struct ProcessModel {
    shared: SharedBreaker,
    /// Exchange in progress: the breaker that was sent, and the state that the file then had.
    in_flight: Option<(SharedBreaker, PersistedBreaker)>,
    /// Calls and transitions since the last exchange.
    new_calls: u64,
    new_transitions: Vec<TransitionKey>,
    known_resets: Option<u64>,
    known_changes: u64,
    /// True if the exchange in progress found a change by another.
    is_overruled: bool,
}

impl ProcessModel {
    fn new(started_at: Timestamp) -> Self {
        Self {
            shared: SharedBreaker::new("example", POLICY, started_at),
            in_flight: None,
            new_calls: 0,
            new_transitions: Vec::new(),
            known_resets: None,
            known_changes: 0,
            is_overruled: false,
        }
    }

    fn call(&mut self, now: Timestamp) {
        let (permit, change) = self.shared.breaker.admit_unconditionally(now);
        assert_eq!(change, None);
        self.shared.breaker.record_neutral(permit);
        self.new_calls += 1;
    }

    fn change(&mut self, command: ManualCommand, now: Timestamp) {
        let change = self.shared.breaker.apply_command(command, now);
        self.new_transitions.extend(change.map(|change| (change.generation, change.at.0)));
    }

    fn begin(&mut self, file: &mut Option<PersistedBreaker>, model: &mut FileModel) {
        if self.in_flight.is_some() {
            return;
        }
        let state = self.shared.merged_with(file.as_ref());
        self.in_flight = Some((self.shared.clone(), state.clone()));
        *file = Some(state);

        self.forget_dropped_calls(model);
        model.calls += std::mem::take(&mut self.new_calls);
        let changes = std::mem::take(&mut self.new_transitions);
        self.is_overruled = self.known_changes != model.changes;
        if !self.is_overruled && !changes.is_empty() {
            model.changes += 1;
            model.transitions.extend(changes);
        }
        self.known_changes = model.changes;
    }

    fn finish(&mut self, now: Timestamp) {
        let Some((sent, saved)) = self.in_flight.take() else { return };
        drop(self.shared.adopt(Some(&sent), saved.clone(), now));
        if std::mem::take(&mut self.is_overruled) {
            self.new_transitions.clear();
        }
        self.check(&saved);
    }

    fn read(&mut self, file: Option<&PersistedBreaker>, model: &FileModel, now: Timestamp) {
        let Some(saved) = file else { return };
        if self.in_flight.is_some() || self.shared.has_changed() {
            return;
        }
        drop(self.shared.adopt(None, saved.clone(), now));
        self.forget_dropped_calls(model);
        self.known_changes = model.changes;
        self.check(saved);
    }

    /// Forgets the new calls if a reset has dropped them.
    fn forget_dropped_calls(&mut self, model: &FileModel) {
        let known_resets = self.known_resets.replace(model.resets);
        if known_resets.is_some_and(|resets| resets != model.resets) {
            self.new_calls = 0;
        }
    }

    /// Checks the breaker after it has adopted a state of the file.
    fn check(&self, saved: &PersistedBreaker) {
        let breaker = &self.shared.breaker;
        assert_eq!(breaker.statistics().calls, saved.statistics.calls + self.new_calls);
        assert_eq!(breaker.statistics_since().0, saved.statistics_since);
        assert_eq!(self.shared.has_changed(), !self.new_transitions.is_empty());
        if self.new_transitions.is_empty() {
            assert_eq!(breaker.state().name(), saved.state);
        }
    }
}

fn shared_event() -> impl Strategy<Value = SharedEvent> {
    let process = || 0..2_usize;
    let change = prop::sample::select(vec![OPEN, ManualCommand::Close]);
    let command = prop::sample::select(vec![OPEN, ManualCommand::Close, ManualCommand::Reset]);
    prop_oneof![
        4 => process().prop_map(SharedEvent::Call),
        3 => (process(), change).prop_map(|(process, change)| SharedEvent::Change(process, change)),
        3 => process().prop_map(SharedEvent::Begin),
        3 => process().prop_map(SharedEvent::Finish),
        2 => process().prop_map(SharedEvent::Read),
        1 => command.prop_map(SharedEvent::UserCommand),
    ]
}

/// Applies a command of the user to the file.
fn apply_to_file(
    file: &mut Option<PersistedBreaker>,
    model: &mut FileModel,
    command: ManualCommand,
    now: Timestamp,
) {
    let mut shared = match file.take() {
        Some(saved) => SharedBreaker::from_saved("example", POLICY, saved, now),
        None => SharedBreaker::new("example", POLICY, now),
    };
    let change = shared.breaker.apply_command(command, now);
    model.transitions.extend(change.map(|change| (change.generation, change.at.0)));
    model.changes += u64::from(shared.has_changed());
    if command == ManualCommand::Reset {
        model.resets += 1;
        model.calls = 0;
    }
    *file = Some(shared.breaker.to_persisted());
}

fn check_file(file: Option<&PersistedBreaker>, model: &FileModel) {
    let Some(saved) = file else { return };
    assert_eq!(saved.statistics.calls, model.calls);
    let key = |transition: &PersistedTransition| (transition.generation, transition.at);
    let transitions: Vec<TransitionKey> = saved.transitions.iter().map(key).collect();
    assert_eq!(transitions.len(), model.transitions.len().min(TRANSITIONS_KEPT));
    assert!(model.transitions.ends_with(&transitions), "{transitions:?}");
}

proptest! {
    #[test]
    fn two_processes_lose_no_count_and_no_change(
        events in prop::collection::vec(shared_event(), 0..60)
    ) {
        let (mut file, mut model) = (None, FileModel::default());
        let mut processes = [ProcessModel::new(NOW), ProcessModel::new(Timestamp(NOW.0 + 1))];
        let end = [0, 1].map(SharedEvent::Finish).into_iter()
            .chain([0, 0, 1, 1, 0].into_iter().flat_map(|process| {
                [SharedEvent::Begin(process), SharedEvent::Finish(process)]
            }));
        for (event, at) in events.into_iter().chain(end).zip(NOW.0 + 2..) {
            let now = Timestamp(at);
            match event {
                SharedEvent::Call(process) => processes[process].call(now),
                SharedEvent::Change(process, command) => processes[process].change(command, now),
                SharedEvent::Begin(process) => processes[process].begin(&mut file, &mut model),
                SharedEvent::Finish(process) => processes[process].finish(now),
                SharedEvent::Read(process) => processes[process].read(file.as_ref(), &model, now),
                SharedEvent::UserCommand(command) => {
                    apply_to_file(&mut file, &mut model, command, now);
                }
            }
            check_file(file.as_ref(), &model);
        }
        for process in &processes {
            prop_assert!(!process.shared.has_changed() && !process.shared.has_new_counts());
        }
    }
}
