//! What the workers wrote: states, figures, breakers, restarts.

use std::collections::BTreeMap;

use crate::disk::{RealDisk, is_alive};
use crate::engine::breaker::Phase;
use crate::engine::figures::{Figures, Histogram, ProxyFigures};
use crate::engine::health::{BreakerSeen, CountsSeen, Known, Pool, SourceSeen, StateSeen};
use crate::engine::{Cause, Moment, Status};
use crate::monitor::gather::{Named, Scope};
use crate::state::{
    BreakersFile, ExecutionState, FIGURES_FILE, Found, STATE_FILE, examine, examine_figures,
};
use crate::systemd::RestartsFile;

/// All of it.
pub(super) struct Gathered {
    pub sources: Vec<SourceSeen>,
    pub breakers: Known<Vec<BreakerSeen>>,
    pub loops: Known<Vec<(String, u32)>>,
    pub pool: Option<Known<Pool>>,
}

/// What one source left.
struct Left {
    state: Option<ExecutionState>,
    figures: Option<Figures>,
}

impl Gathered {
    /// Where nothing could be read.
    pub(super) fn unknown(scope: &Scope, why: &str) -> Self {
        Self {
            sources: scope.sources.iter().map(|named| seen(named, None, None)).collect(),
            breakers: Err(why.to_owned()),
            loops: Err(why.to_owned()),
            pool: scope.has_pool.then(|| Err(why.to_owned())),
        }
    }
}

/// Reads everything, and changes nothing.
pub(super) fn gather(scope: &Scope, now: Moment) -> Gathered {
    let left: Vec<Left> = scope.sources.iter().map(|named| left(scope, named)).collect();
    let recent = recent(scope, &left, now);
    let sources = scope.sources.iter().zip(&left).map(|(named, left)| {
        let counts = left.figures.as_ref().map(|figures| {
            let recent = recent.get(named.provider.as_str());
            counts(figures, recent)
        });
        seen(named, left.state.as_ref(), counts)
    });
    Gathered {
        sources: sources.collect(),
        breakers: breakers(scope),
        loops: loops(scope, &left),
        pool: pool(scope, &left),
    }
}

fn left(scope: &Scope, named: &Named) -> Left {
    let dir = scope.state_dir.join(&named.name);
    let state = match examine(&RealDisk, &dir.join(STATE_FILE)) {
        Ok(Found::Read(state)) => Some(*state),
        // The watch tells why.
        Ok(Found::Absent | Found::Unreadable { .. } | Found::Newer { .. }) | Err(_) => None,
    };
    Left { state, figures: examine_figures(&RealDisk, &dir.join(FIGURES_FILE)).read() }
}

fn seen(named: &Named, state: Option<&ExecutionState>, counts: Option<CountsSeen>) -> SourceSeen {
    let Named { name, provider } = named.clone();
    SourceSeen { name, provider, state: state.map(state_seen), counts }
}

fn state_seen(state: &ExecutionState) -> StateSeen {
    let of_storage =
        |cause: &str| matches!(Cause::from_name(cause), Some(Cause::Storage | Cause::Ledger));
    let error = state.last_error.as_ref().filter(|error| of_storage(&error.cause));
    StateSeen {
        status: state.status,
        until: state.until,
        last_updated: state.last_updated,
        session_since: state.start_time.filter(|_| state.completion_time.is_none()),
        is_running: is_running(state),
        quarantined: state.quarantined,
        storage_error: error
            .filter(|_| state.status == Status::Error)
            .map(|error| error.message.clone()),
    }
}

fn is_running(state: &ExecutionState) -> bool {
    state.pid.is_some_and(is_alive)
}

fn counts(figures: &Figures, recent: Option<&Histogram>) -> CountsSeen {
    CountsSeen {
        attempts: figures.attempts.count(),
        success_rate: figures.success_rate(),
        connection_failures: figures.client.failures_in_a_row,
        clients_rebuilt: figures.client.rebuilt,
        p95: recent.and_then(|recent| recent.quantile(0.95)),
        sessions_completed: figures.course.sessions_completed,
    }
}

/// The requests of the last minutes, by provider.
fn recent<'a>(scope: &'a Scope, left: &[Left], now: Moment) -> BTreeMap<&'a str, Histogram> {
    let mut recent: BTreeMap<&str, Histogram> = BTreeMap::new();
    for (named, left) in scope.sources.iter().zip(left) {
        if let Some(figures) = &left.figures {
            let of_provider = recent.entry(&named.provider).or_default();
            of_provider.add(&figures.requests.recent.together(now));
        }
    }
    recent
}

fn breakers(scope: &Scope) -> Known<Vec<BreakerSeen>> {
    let file = BreakersFile::new(&scope.state_dir);
    let memories = file.examine().map_err(|failure| failure.detail)?;
    let memories =
        memories.map_err(|why| format!("{} cannot be read: {why}", file.path().display()))?;
    let seen = memories.into_iter().map(|(name, memory)| BreakerSeen {
        name,
        phase: Phase::from_name(&memory.state).unwrap_or(Phase::Closed),
        why: memory.last_change.map(|change| change.why).unwrap_or_default(),
    });
    Ok(seen.collect())
}

/// The restarts that have become a loop, of the unit and of sources that are still configured.
fn loops(scope: &Scope, left: &[Left]) -> Known<Vec<(String, u32)>> {
    let restarts = RestartsFile::new(&scope.state_dir).look().map_err(|failure| failure.detail)?;
    let progress = |left: &Left| left.state.as_ref().map(|state| state.last_progress);
    let of_sources = scope.sources.iter().zip(left);
    let of_sources = of_sources.map(|(named, left)| (named.name.as_str(), progress(left)));
    let newest = left.iter().filter_map(progress).max();
    let all = of_sources.chain([(scope.unit.as_str(), newest)]);
    let looping = all.filter_map(|(name, progress)| {
        let restarts = restarts.get(name)?;
        let is_looping = restarts.is_looping(progress.unwrap_or_default());
        is_looping.then(|| (name.to_owned(), restarts.in_a_row))
    });
    Ok(looping.collect())
}

/// What a worker that has left knew of the proxies says nothing of them now.
fn pool(scope: &Scope, left: &[Left]) -> Option<Known<Pool>> {
    let running = || left.iter().filter(|left| left.state.as_ref().is_some_and(is_running));
    if !scope.has_pool || running().next().is_none() {
        return None;
    }
    let told = running().filter_map(|left| left.figures.as_ref()?.proxies);
    let worst = told.min_by_key(|proxies| proxies.healthy).map(pool_seen);
    Some(worst.ok_or_else(|| "no worker has told yet".to_owned()))
}

fn pool_seen(figures: ProxyFigures) -> Pool {
    Pool {
        total: figures.total(),
        healthy: figures.healthy,
        doubted: figures.doubted,
        dead: figures.dead,
        mean_latency: figures.mean_latency_millis.map(std::time::Duration::from_millis),
    }
}
