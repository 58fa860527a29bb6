//! `doctor`: checks this machine and the configuration for problems that would stop the worker.
//!
//! All checks run even if some fail, with or without a configuration and with or without systemd.
//! It writes a small file into the state folder and the archive, if they exist, and removes it. It
//! sends each source the first requests of a worker. Nothing else is changed.

mod filesystem;
mod host;
mod servers;

use cynosure_engine::{sanitize_line, sanitize_lines};
use serde::Serialize;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::{CommonArgs, DoctorArgs};
use crate::cli::print::{print_result, terminal_safe_json};
use crate::cli::table::table;
use crate::config::{EnvVars, load_defaults};

/// Result of one check.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct DoctorCheck {
    #[serde(rename = "mark")]
    pub level: CheckLevel,
    /// Short name of what was checked.
    #[serde(rename = "what")]
    pub subject: String,
    pub message: String,
    pub remedy: Option<String>,
}

/// Level of a result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckLevel {
    Ok,
    /// The check is not possible here, or its result is harmless.
    Note,
    /// A problem that stops the worker, now or later.
    Failed,
}

/// Output of `doctor --json`.
#[derive(Serialize)]
struct DoctorJson<'a> {
    #[serde(rename = "ok")]
    is_ok: bool,
    #[serde(rename = "findings")]
    checks: &'a [DoctorCheck],
}

impl DoctorCheck {
    pub(super) fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level: CheckLevel::Ok,
            subject: subject.into(),
            message: message.into(),
            remedy: None,
        }
    }

    pub(super) fn note(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: CheckLevel::Note, ..Self::ok(subject, message) }
    }

    pub(super) fn failed(
        subject: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            level: CheckLevel::Failed,
            remedy: Some(remedy.into()),
            ..Self::ok(subject, message)
        }
    }

    fn row(&self) -> Vec<String> {
        let mut text = sanitize_line(&self.message);
        text.extend(self.remedy.as_deref().map(|remedy| format!("; {}", sanitize_line(remedy))));
        vec![self.level.name().to_owned(), self.subject.clone(), text]
    }
}

impl CheckLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Failed => "failed",
        }
    }
}

pub(super) fn doctor(common: &CommonArgs, args: &DoctorArgs) -> Result<ProgramExit, ProgramError> {
    let (context, mut checks) = check_config(common)?;
    checks.extend(host::check_host(&context));
    checks.extend(filesystem::check_filesystem(&context));
    checks.extend(servers::check_servers(&context));
    let is_ok = checks.iter().all(|check| check.level != CheckLevel::Failed);
    if args.json {
        print_result(terminal_safe_json(&DoctorJson { is_ok, checks: &checks }))?;
    } else {
        let rows: Vec<Vec<String>> = checks.iter().map(DoctorCheck::row).collect();
        print_result(table(&["RESULT", "CHECK", "FINDING"], &rows).trim_end())?;
    }
    Ok(if is_ok { ProgramExit::Success } else { ProgramExit::Other })
}

/// Loads the configuration; the defaults if there is none, or if it cannot be used.
fn check_config(common: &CommonArgs) -> Result<(AppContext, Vec<DoctorCheck>), ProgramError> {
    const SUBJECT: &str = "configuration";
    let location = common.config_location();
    let error = match AppContext::load(&location) {
        Ok(context) => {
            let sources = context.loaded.settings.sources.len();
            let message = format!("{}, sources: {sources}", context.config_file.display());
            return Ok((context, vec![DoctorCheck::ok(SUBJECT, message)]));
        }
        Err(error) => error.message(),
    };
    let file = location.find_config_file();
    let check = match &file {
        Ok(path) if path.exists() => {
            let message = sanitize_lines(&error).into_iter().next().unwrap_or_default();
            DoctorCheck::failed(
                SUBJECT,
                message,
                "correct it: `cynosure config check` lists every mistake",
            )
        }
        Ok(path) => DoctorCheck::failed(
            SUBJECT,
            format!("{} does not exist", path.display()),
            "name an existing file with --config FILE",
        ),
        Err(message) => DoctorCheck::note(SUBJECT, message.clone()),
    };
    let environment = EnvVars::default();
    let loaded = load_defaults(&environment)
        .map_err(|error| ProgramError::new(ProgramExit::Other, error.to_string()))?;
    let environment = EnvVars::from_process();
    let config_file = file.unwrap_or_default();
    let state_dir = location.find_state_dir(&config_file, &environment);
    let context = AppContext { config_file, state_dir, environment, loaded, diagnostics: None };
    Ok((context, vec![check]))
}
