//! Status of a source as `status` and the dashboard show it.

use serde::Serialize;
use serde_json::Value;

use crate::app::sources::SourceRef;
use crate::config::{SourceAuth, SourceSettings};
use crate::state::{ExecutionState, SCHEMA, SourceState};

/// Status of one source.
#[derive(Debug)]
pub(crate) struct SourceStatus<'a> {
    pub source: &'a SourceRef,
    pub state: SourceState,
}

/// Source in the JSON output of `status`.
#[derive(Serialize)]
pub(crate) struct SourceStatusJson {
    /// Keys of [`ExecutionState`], in every case. Before the first run the status is `idle`, the
    /// times are null and the counts zero. If the state file is missing or unreadable, the status
    /// is null.
    #[serde(flatten)]
    state: Value,
    /// Null if it may be in an invalid part of the configuration, which was not loaded.
    #[serde(rename = "configured")]
    is_configured: Option<bool>,
    #[serde(rename = "running")]
    is_running: bool,
    /// Reason that the state file is missing or unreadable.
    #[serde(rename = "trouble")]
    problem: Option<String>,
}

impl<'a> SourceStatus<'a> {
    /// Reads the files of the source and changes nothing.
    #[must_use]
    pub(crate) fn read(source: &'a SourceRef) -> Self {
        Self { source, state: source.folder.read_state() }
    }

    #[must_use]
    pub(crate) fn to_json(&self) -> SourceStatusJson {
        let (state, problem) = match &self.state {
            SourceState::Read(state, _) => (state_json(state), None),
            SourceState::NeverRun => (self.never_run_json(), None),
            SourceState::Unreadable(problem) => {
                let mut state = self.never_run_json();
                state["status"] = Value::Null;
                (state, Some(problem.with_remedy()))
            }
        };
        let is_configured = self.source.settings.is_some();
        SourceStatusJson {
            state,
            is_configured: (!self.source.is_config_uncertain).then_some(is_configured),
            is_running: self.state.is_running(),
            problem,
        }
    }

    fn never_run_json(&self) -> Value {
        let settings = self.source.settings.as_ref();
        let text = |text: fn(&SourceSettings) -> &str| settings.map(text).unwrap_or_default();
        let mut state = state_json(&ExecutionState {
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
            state[key] = Value::Null;
        }
        state
    }

    /// Returns the noun for the credential of the source: password, token, sign-in, session or
    /// credential.
    #[must_use]
    pub(crate) fn credential_noun(&self) -> &'static str {
        match self.source.settings.as_ref().map(|source| &source.auth) {
            Some(SourceAuth::Basic { .. } | SourceAuth::Password { .. }) => "password",
            Some(SourceAuth::Bearer { .. } | SourceAuth::OAuth2 { .. }) => "token",
            Some(SourceAuth::SignIn { .. }) => "sign-in",
            Some(SourceAuth::Session { .. }) => "session",
            Some(
                SourceAuth::None
                | SourceAuth::Header { .. }
                | SourceAuth::Query { .. }
                | SourceAuth::Application { .. },
            )
            | None => "credential",
        }
    }
}

fn state_json(state: &ExecutionState) -> Value {
    // Serialization cannot fail: all keys are strings.
    serde_json::to_value(state).unwrap_or_default()
}
