//! Episodes of a condition between two monitoring cycles, as recorded by the component concerned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::alert::Severity;
use crate::health::Finding;

/// Period during which a condition held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Episode {
    /// Finding about the condition, with its level.
    pub finding: Finding,
    /// Later episodes of the same subject have higher numbers.
    pub sequence: u64,
    pub started_at: Timestamp,
    /// `None` while the episode lasts.
    pub resolution: Option<Resolution>,
    /// True if it only follows from another finding that is notified.
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
    #[serde(alias = "since")]
    tracked_since: Option<Timestamp>,
    /// Last processed episode by subject.
    #[serde(alias = "newest")]
    last_episodes: BTreeMap<String, LastEpisode>,
}

/// Highest number and latest start of the processed episodes. They belong to different episodes if
/// the numbering restarted or the clock was set back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct LastEpisode {
    #[serde(alias = "no")]
    sequence: u64,
    #[serde(alias = "began")]
    started_at: Timestamp,
}

impl EpisodeWatermark {
    /// Marks all episodes as processed and returns those that are new.
    pub(super) fn accept_new<'a>(
        &mut self,
        episodes: &'a [Episode],
        now: Timestamp,
    ) -> Vec<&'a Episode> {
        let tracked_since = self.tracked_since.map(|since| since.min(now));
        let new_episodes = episodes.iter().filter(|episode| {
            match self.last_episodes.get(&episode.finding.subject) {
                Some(last) => {
                    episode.sequence > last.sequence || episode.started_at > last.started_at
                }
                None => tracked_since.is_some_and(|since| episode.started_at >= since),
            }
        });
        let new_episodes = new_episodes.collect();
        for episode in episodes {
            let last = self.last_episodes.entry(episode.finding.subject.clone()).or_default();
            last.sequence = last.sequence.max(episode.sequence);
            last.started_at = last.started_at.max(episode.started_at);
        }
        self.tracked_since = tracked_since.or(Some(now));
        new_episodes
    }
}
