//! What began and ended whoever looked when, as those tell it who were there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::alert::{Concern, Severity};

/// A time during which something was amiss.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spell {
    /// What was amiss, and how bad that was.
    pub concern: Concern,
    /// The later of two about the same thing has the higher number.
    pub no: u64,
    pub began: Timestamp,
    /// Absent while it lasts.
    pub ended: Option<Ending>,
    /// It only follows from something else, which is told.
    pub follows: bool,
}

/// The end of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ending {
    pub at: Timestamp,
    /// How much it matters to a person.
    pub severity: Severity,
    /// Why it ended, where that is not simply that all is well again.
    pub since: Option<String>,
}

/// Which spells were taken in, so that each is taken in once.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Heard {
    /// When it was first listened at all: what began before is history.
    since: Option<Timestamp>,
    /// By what the spells are about.
    newest: BTreeMap<String, Newest>,
}

/// The highest number, and the latest beginning, which is another's where numbers began anew or the
/// clock was set back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Newest {
    no: u64,
    began: Timestamp,
}

impl Heard {
    /// Takes in all of them, and returns those that are news.
    pub(super) fn take_in<'a>(&mut self, spells: &'a [Spell], now: Timestamp) -> Vec<&'a Spell> {
        let first = self.since.map(|since| since.min(now));
        let news = spells.iter().filter(|spell| match self.newest.get(&spell.concern.about) {
            Some(newest) => spell.no > newest.no || spell.began > newest.began,
            None => first.is_some_and(|first| spell.began >= first),
        });
        let news = news.collect();
        for spell in spells {
            let newest = self.newest.entry(spell.concern.about.clone()).or_default();
            newest.no = newest.no.max(spell.no);
            newest.began = newest.began.max(spell.began);
        }
        self.since = first.or(Some(now));
        news
    }
}
