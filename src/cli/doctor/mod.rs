//! `doctor`: what could keep the worker from its work, on this machine, now.
//!
//! Everything is looked at, whatever fails, with or without a configuration and with or without
//! systemd. It writes one small file into the state folder and removes it, and asks each source
//! what the worker asks first; nothing else is touched.

mod machine;
mod places;
mod remote;

use serde_json::{Value, json};

use crate::cli::args::{Common, DoctorArgs};
use crate::cli::exit::Exit;
use crate::cli::place::{Ground, config_file, state_dir};
use crate::cli::print::{escaped_json, show};
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
use crate::config::{EnvVars, load_defaults};
use crate::engine::{sanitize_line, sanitize_lines};

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub mark: Mark,
    /// What was looked at, in a word or two.
    pub what: String,
    pub told: String,
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mark {
    Sound,
    /// It could not be looked at here, or does no harm.
    Note,
    /// It keeps the worker from its work, now or some day.
    Wrong,
}

impl Found {
    pub(super) fn sound(what: impl Into<String>, told: impl Into<String>) -> Self {
        Self { mark: Mark::Sound, what: what.into(), told: told.into(), remedy: None }
    }

    pub(super) fn note(what: impl Into<String>, told: impl Into<String>) -> Self {
        Self { mark: Mark::Note, ..Self::sound(what, told) }
    }

    pub(super) fn wrong(
        what: impl Into<String>,
        told: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { mark: Mark::Wrong, remedy: Some(remedy.into()), ..Self::sound(what, told) }
    }

    fn to_json(&self) -> Value {
        json!({
            "mark": self.mark.name(),
            "what": self.what,
            "message": self.told,
            "remedy": self.remedy,
        })
    }

    fn row(&self) -> Vec<String> {
        let mut told = sanitize_line(&self.told);
        told.extend(self.remedy.as_deref().map(|remedy| format!("; {}", sanitize_line(remedy))));
        vec![self.mark.name().to_owned(), self.what.clone(), told]
    }
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::Sound => "ok",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

pub(super) fn doctor(common: &Common, args: &DoctorArgs) -> Result<Exit, Trouble> {
    let (ground, mut found) = ground(common)?;
    found.extend(machine::look(&ground));
    found.extend(places::look(&ground));
    found.extend(remote::look(&ground));
    let is_sound = found.iter().all(|found| found.mark != Mark::Wrong);
    if args.json {
        let findings: Vec<Value> = found.iter().map(Found::to_json).collect();
        show(escaped_json(&json!({ "sound": is_sound, "findings": findings })))?;
    } else {
        let rows: Vec<Vec<String>> = found.iter().map(Found::row).collect();
        show(table(&["MARK", "WHAT", "FINDING"], &rows).trim_end())?;
    }
    Ok(if is_sound { Exit::Done } else { Exit::Other })
}

/// The configuration, or the defaults where there is none that can be used.
fn ground(common: &Common) -> Result<(Ground, Vec<Found>), Trouble> {
    const WHAT: &str = "configuration";
    let ground = match Ground::find(common) {
        Ok(ground) => {
            let sources = ground.loaded.settings.sources.len();
            let told = format!("{}, sources: {sources}", ground.config_file.display());
            return Ok((ground, vec![Found::sound(WHAT, told)]));
        }
        Err(why) => (why, config_file(common)),
    };
    let (why, file) = ground;
    let found = match &file {
        Ok(path) if path.exists() => {
            let told = sanitize_lines(&why).into_iter().next().unwrap_or_default();
            Found::wrong(WHAT, told, "correct it: `cynosure config check` names every mistake")
        }
        Ok(path) => Found::wrong(
            WHAT,
            format!("there is no {}", path.display()),
            "name one that is there with --config FILE",
        ),
        Err(why) => Found::note(WHAT, why.clone()),
    };
    let environment = EnvVars::default();
    let loaded =
        load_defaults(&environment).map_err(|why| Trouble::new(Exit::Other, why.to_string()))?;
    let environment = EnvVars::from_process();
    let config_file = file.unwrap_or_default();
    let state_dir = state_dir(common, &config_file, &environment);
    Ok((Ground { config_file, state_dir, environment, loaded, mistakes: None }, vec![found]))
}
