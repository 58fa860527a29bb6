//! What began and ended whoever looked when, as those tell it who were there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::alert::{AlertCondition, Severity};

/// A time during which something was amiss.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Episode {
    /// What was amiss, and how bad that was.
    pub condition: AlertCondition,
    /// The later of two about the same thing has the higher number.
    pub sequence: u64,
    pub started_at: Timestamp,
    /// Absent while it lasts.
    pub resolution: Option<Resolution>,
    /// It only follows from something else, which is told.
    pub is_inhibited: bool,
}

/// The end of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolution {
    pub resolved_at: Timestamp,
    /// How much it matters to a person.
    pub severity: Severity,
    /// Why it ended, where that is not simply that all is well again.
    pub reason: Option<String>,
}

/// Which spells were taken in, so that each is taken in once.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct EpisodeWatermark {
    /// When it was first listened at all: what began before is history.
    #[serde(rename = "since")]
    tracked_since: Option<Timestamp>,
    /// By what the spells are about.
    #[serde(rename = "newest")]
    last_episodes: BTreeMap<String, LastEpisode>,
}

/// The highest number, and the latest beginning, which is another's where numbers began anew or the
/// clock was set back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct LastEpisode {
    #[serde(rename = "no")]
    sequence: u64,
    #[serde(rename = "began")]
    started_at: Timestamp,
}

impl EpisodeWatermark {
    /// Takes in all of them, and returns those that are news.
    pub(super) fn accept_new<'a>(
        &mut self,
        spells: &'a [Episode],
        now: Timestamp,
    ) -> Vec<&'a Episode> {
        let first = self.tracked_since.map(|since| since.min(now));
        let news =
            spells.iter().filter(|spell| match self.last_episodes.get(&spell.condition.subject) {
                Some(newest) => {
                    spell.sequence > newest.sequence || spell.started_at > newest.started_at
                }
                None => first.is_some_and(|first| spell.started_at >= first),
            });
        let news = news.collect();
        for spell in spells {
            let newest = self.last_episodes.entry(spell.condition.subject.clone()).or_default();
            newest.sequence = newest.sequence.max(spell.sequence);
            newest.started_at = newest.started_at.max(spell.started_at);
        }
        self.tracked_since = first.or(Some(now));
        news
    }
}
