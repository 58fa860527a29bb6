//! Episodes of a condition between two monitoring cycles, as recorded by the component concerned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::alert::{AlertCondition, Severity};

/// Period during which a condition held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Episode {
    /// Condition that held, with its severity.
    pub condition: AlertCondition,
    /// Later episodes of the same subject have higher numbers.
    pub sequence: u64,
    pub started_at: Timestamp,
    /// `None` while the episode lasts.
    pub resolution: Option<Resolution>,
    /// True if it only follows from another condition that is notified.
    pub is_inhibited: bool,
}

/// End of an episode.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolution {
    pub resolved_at: Timestamp,
    /// Severity of the resolution itself.
    pub severity: Severity,
    /// Reason of the resolution; `None` if the condition simply no longer holds.
    pub reason: Option<String>,
}

/// Watermark of the processed episodes, so that each is processed once.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct EpisodeWatermark {
    /// Start of the tracking: episodes that started before are ignored.
    #[serde(rename = "since")]
    tracked_since: Option<Timestamp>,
    /// Last processed episode by subject.
    #[serde(rename = "newest")]
    last_episodes: BTreeMap<String, LastEpisode>,
}

/// Highest number and latest start of the processed episodes. They belong to different episodes if
/// the numbering restarted or the clock was set back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct LastEpisode {
    #[serde(rename = "no")]
    sequence: u64,
    #[serde(rename = "began")]
    started_at: Timestamp,
}

impl EpisodeWatermark {
    /// Marks all episodes as processed and returns those that are new.
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
