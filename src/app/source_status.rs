//! Status of a source as `status` and the dashboard show it.

use serde_json::{Value, json};

use crate::app::sources::SourceRef;
use crate::config::{SourceAuth, SourceSettings};
use crate::state::{ExecutionState, SCHEMA, SourceState};

/// Status of one source.
#[derive(Debug)]
pub(crate) struct SourceStatus<'a> {
    pub source: &'a SourceRef,
    pub state: SourceState,
}

impl<'a> SourceStatus<'a> {
    /// Reads the files of the source and changes nothing.
    #[must_use]
    pub(crate) fn read(source: &'a SourceRef) -> Self {
        Self { source, state: source.folder.read_state() }
    }

    /// Returns the keys of the state file in every case, and three more: `configured`, `running`
    /// and `trouble`.
    ///
    /// Before the first run the status is `idle`, the times are null and the counts zero. If the
    /// state file is missing or unreadable, the status is null and `trouble` is the reason.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        let (mut value, problem) = match &self.state {
            SourceState::Read(state, _) => (json!(state), None),
            SourceState::NeverRun => (self.never_run_json(), None),
            SourceState::Unreadable(problem) => {
                let mut value = self.never_run_json();
                value["status"] = Value::Null;
                (value, Some(problem.with_remedy()))
            }
        };
        let is_configured = self.source.settings.is_some();
        value["configured"] = (!self.source.is_config_uncertain).then_some(is_configured).into();
        value["running"] = self.state.is_running().into();
        value["trouble"] = problem.into();
        value
    }

    fn never_run_json(&self) -> Value {
        let settings = self.source.settings.as_ref();
        let text = |text: fn(&SourceSettings) -> &str| settings.map(text).unwrap_or_default();
        let mut value = json!(ExecutionState {
            schema: SCHEMA,
            source: self.source.name.to_string(),
            account: text(|source| &source.account).to_owned(),
            provider: text(|source| &source.provider).to_owned(),
            kind: text(|source| source.kind.name()).to_owned(),
            reason: "never run before".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ExecutionState::default()
        });
        for key in ["state_since", "last_progress", "last_updated"] {
            value[key] = Value::Null;
        }
        value
    }

    /// Returns the noun for the credential of the source: password, token or credential.
    #[must_use]
    pub(crate) fn credential_noun(&self) -> &'static str {
        match self.source.settings.as_ref().map(|source| &source.auth) {
            Some(SourceAuth::Basic { .. }) => "password",
            Some(SourceAuth::Bearer { .. }) => "token",
            None => "credential",
        }
    }
}
