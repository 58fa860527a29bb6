//! `doctor`: what could keep the worker from its work, on this machine, now.
//!
//! Everything is looked at, whatever fails, with or without a configuration and with or without
//! systemd. It writes one small file into the state folder and removes it, and asks each source
//! what the worker asks first; nothing else is touched.

mod filesystem;
mod host;
mod servers;

use serde_json::{Value, json};

use crate::cli::args::{CommonArgs, DoctorArgs};
use crate::cli::context::{AppContext, find_config_file, find_state_dir};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_result, terminal_safe_json};
use crate::cli::table::table;
use crate::config::{EnvVars, load_defaults};
use crate::engine::{sanitize_line, sanitize_lines};

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DoctorCheck {
    pub level: CheckLevel,
    /// What was looked at, in a word or two.
    pub subject: String,
    pub message: String,
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CheckLevel {
    Ok,
    /// It could not be looked at here, or does no harm.
    Note,
    /// It keeps the worker from its work, now or some day.
    Failed,
}

impl DoctorCheck {
    pub(super) fn ok(what: impl Into<String>, told: impl Into<String>) -> Self {
        Self { level: CheckLevel::Ok, subject: what.into(), message: told.into(), remedy: None }
    }

    pub(super) fn note(what: impl Into<String>, told: impl Into<String>) -> Self {
        Self { level: CheckLevel::Note, ..Self::ok(what, told) }
    }

    pub(super) fn failed(
        what: impl Into<String>,
        told: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: CheckLevel::Failed, remedy: Some(remedy.into()), ..Self::ok(what, told) }
    }

    fn to_json(&self) -> Value {
        json!({
            "mark": self.level.name(),
            "what": self.subject,
            "message": self.message,
            "remedy": self.remedy,
        })
    }

    fn row(&self) -> Vec<String> {
        let mut told = sanitize_line(&self.message);
        told.extend(self.remedy.as_deref().map(|remedy| format!("; {}", sanitize_line(remedy))));
        vec![self.level.name().to_owned(), self.subject.clone(), told]
    }
}

impl CheckLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Failed => "wrong",
        }
    }
}

pub(super) fn doctor(common: &CommonArgs, args: &DoctorArgs) -> Result<ProgramExit, CliError> {
    let (ground, mut found) = check_config(common)?;
    found.extend(host::check_host(&ground));
    found.extend(filesystem::check_filesystem(&ground));
    found.extend(servers::check_servers(&ground));
    let is_sound = found.iter().all(|found| found.level != CheckLevel::Failed);
    if args.json {
        let findings: Vec<Value> = found.iter().map(DoctorCheck::to_json).collect();
        print_result(terminal_safe_json(&json!({ "sound": is_sound, "findings": findings })))?;
    } else {
        let rows: Vec<Vec<String>> = found.iter().map(DoctorCheck::row).collect();
        print_result(table(&["MARK", "WHAT", "FINDING"], &rows).trim_end())?;
    }
    Ok(if is_sound { ProgramExit::Success } else { ProgramExit::Other })
}

/// The configuration, or the defaults where there is none that can be used.
fn check_config(common: &CommonArgs) -> Result<(AppContext, Vec<DoctorCheck>), CliError> {
    const WHAT: &str = "configuration";
    let ground = match AppContext::load(common) {
        Ok(ground) => {
            let sources = ground.loaded.settings.sources.len();
            let told = format!("{}, sources: {sources}", ground.config_file.display());
            return Ok((ground, vec![DoctorCheck::ok(WHAT, told)]));
        }
        Err(why) => (why, find_config_file(common)),
    };
    let (why, file) = ground;
    let found = match &file {
        Ok(path) if path.exists() => {
            let told = sanitize_lines(&why).into_iter().next().unwrap_or_default();
            DoctorCheck::failed(
                WHAT,
                told,
                "correct it: `cynosure config check` names every mistake",
            )
        }
        Ok(path) => DoctorCheck::failed(
            WHAT,
            format!("there is no {}", path.display()),
            "name one that is there with --config FILE",
        ),
        Err(why) => DoctorCheck::note(WHAT, why.clone()),
    };
    let environment = EnvVars::default();
    let loaded = load_defaults(&environment)
        .map_err(|why| CliError::new(ProgramExit::Other, why.to_string()))?;
    let environment = EnvVars::from_process();
    let config_file = file.unwrap_or_default();
    let state_dir = find_state_dir(common, &config_file, &environment);
    Ok((AppContext { config_file, state_dir, environment, loaded, diagnostics: None }, vec![found]))
}
