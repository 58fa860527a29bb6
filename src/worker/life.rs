//! One life of a source: from the store as it was left to the next restart.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info, warn};
use url::{Origin, Url};

use crate::config::{self, Auth, CredentialRef, Environment, Secret, Settings, Source};
use crate::engine::{AccountId, LedgerId, State, StateMachine, Timestamp};
use crate::source::credential::Credential;
use crate::source::http::{Egress, Limits};
use crate::source::jmap::{self, Jmap};
use crate::source::{Meter, Recorder};
use crate::systemd::RestartBudgetFile;
use crate::worker::breakers::Circuits;
use crate::worker::driver::{Ended, Opening, Parts, Stop, drive};
use crate::worker::gate::Gates;
use crate::worker::jobs::Shared;
use crate::worker::refusal::Refusal;
use crate::worker::retries::Retries;
use crate::worker::rules::{breaker_policy, gate_rules, policies, rules};
use crate::worker::run::{Supervision, Task};
use crate::worker::store::{Facts, Opened, Store};
use crate::worker::view::View;
use crate::worker::world::{RealWorld, World};

/// Documents per page of a listing: the floor that RFC 8620 sets for `maxObjectsInGet`.
const PAGE_SIZE_MAX: u32 = 500;

/// How long reconciling ledger and archive may take: ten million rows on a slow disk.
const OPEN_MAX: Duration = Duration::from_secs(30 * 60);

/// Why this life begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Birth {
    /// The process has started.
    First,
    /// The source is started anew in its place.
    Anew,
    /// A person had everything read again.
    Reread(Changed),
}

/// What reading again has brought, besides the credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Changed {
    Settings,
    Nothing,
}

/// The secret as a source last read it, to tell whether another was put in its place.
#[derive(Clone, Debug, Default)]
pub struct LastSecret(Arc<Mutex<Option<Secret>>>);

impl LastSecret {
    fn read(
        &self,
        place: &CredentialRef,
        environment: &Environment,
    ) -> Result<Secret, config::CredentialError> {
        let secret = place.read(environment)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret.clone());
        Ok(secret)
    }

    /// Whether there is a secret at this place, and another than was last read.
    fn is_replaced(&self, place: &CredentialRef, environment: &Environment) -> bool {
        let Ok(secret) = place.read(environment) else { return false };
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_none_or(|last| !config::same(last, &secret))
    }
}

/// Lives once.
pub(super) async fn live(
    task: &Task,
    settings: &Settings,
    source: &Source,
    birth: Birth,
    stop: &watch::Receiver<Stop>,
    view: &watch::Sender<View>,
) -> Result<Ended, Refusal> {
    let world = Rc::new(RealWorld);
    // Before anything is read by the clock: what is set later is seen.
    let booted = world.time().booted_at;
    task.seat.promise(OPEN_MAX, "opening");
    let facts = facts(task, source);
    let dir = task.state_dir.join(task.name.as_str());
    let (archive_dir, now) = (settings.archive.dir.clone(), world.now());
    let retries = Retries::new(settings);
    let (storage, new_id) = (retries.storage.clone(), new_ledger_id(&*world));
    let open = move || Store::open(&dir, &archive_dir, facts, &storage, &new_id, now);
    let opened = world.offload(open).await?;
    let Opened { mut store, mut machine, tally, account, succeeded_at, is_new, figures, notes } =
        opened;
    store.reconcile_every(source.reconcile_interval);
    for note in notes {
        warn!("{note}");
    }
    task.opened.send_replace(task.readings.borrow().number);
    if birth == Birth::First {
        if is_new && tally.listed == 0 {
            check_credential(task, source).await?;
        }
        if let Some(at) = restarted_from_outside(task).await {
            machine.record_external_restart(at);
        }
    }
    let opening = opening(task, source, birth, &machine).await;
    let egress = egress(task, settings).await?;
    let (meter, proxies) = (Meter::new(figures), egress.health());
    let access = Access::of(task, &meter);
    let identity = Identity { name: task.name.as_str(), account };
    let client = jmap_source(identity, access, settings, source, &retries, egress)?;
    task.breakers.set_policy(breaker_policy(settings));
    let concurrency = usize::try_from(settings.provider(&source.provider).concurrency).unwrap_or(1);
    let parts = Parts {
        source: client,
        world: Rc::clone(&world),
        shared: Shared::new(world, store),
        machine,
        booted,
        tally,
        succeeded_at,
        is_new,
        rules: rules(settings, source),
        policies: policies(settings),
        collect: retries.collect.clone(),
        meter,
        tracer: task.tracer.clone(),
        proxies,
        circuits: Circuits::new(&task.breakers, &source.provider, task.name.as_str()),
        concurrency,
        mode: task.mode,
        stop: stop.clone(),
        view: view.clone(),
        seat: task.seat.clone(),
        opening,
    };
    let ended = drive(parts).await;
    for (policy, counted) in retries.registry.snapshot() {
        debug!(policy, ?counted, "retry statistics");
    }
    Ok(ended)
}

/// What is told about the source of a task.
pub(super) fn facts(task: &Task, source: &Source) -> Facts {
    Facts {
        source: task.name.to_string(),
        kind: "jmap",
        account: source.account.clone(),
        provider: source.provider.clone(),
    }
}

/// A random id for a ledger that has none.
#[must_use]
pub fn new_ledger_id(world: &impl World) -> LedgerId {
    LedgerId::from_samples([world.draw(), world.draw(), world.draw(), world.draw()])
}

/// The way out, by the proxies of the configuration where it has any.
async fn egress(task: &Task, settings: &Settings) -> Result<Egress, Refusal> {
    let (outlet, proxy) = (task.outlet.clone(), settings.proxy.clone());
    let environment = task.environment.clone();
    let opened = RealWorld.offload(move || outlet.open(&proxy, &environment)).await;
    opened.map_err(Refusal::Failed)
}

/// When the watchdog's keeper or the monitor last asked for a restart of the unit: a worker that was
/// stuck could not write it down.
async fn restarted_from_outside(task: &Task) -> Option<Timestamp> {
    let (unit, file) = (task.unit.clone()?, RestartBudgetFile::new(&task.state_dir));
    // What cannot be read is told when the next restart is to be counted.
    let counts = RealWorld.offload(move || file.read_or_default()).await.unwrap_or_default();
    counts.get(&unit)?.last_restart_ms.map(Timestamp)
}

/// A credential that is no use, of a source that has never worked and is alone here, is a wrong
/// configuration: somebody has just set it up, and is told. What has worked waits for another
/// credential instead, as it does when a server refuses it.
async fn check_credential(task: &Task, source: &Source) -> Result<(), Refusal> {
    if task.supervision == Supervision::Shared {
        return Ok(());
    }
    let (place, environment) = (source.auth.secret().clone(), task.environment.clone());
    match RealWorld.offload(move || place.read(&environment)).await {
        Err(error) if error.is_lasting() => {
            Err(Refusal::Configuration(format!("source {}: {error}", task.name)))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A person who has everything read again has mended what an error or a refused credential waits
/// for, if that changed; what a server asked for is waited for all the same.
async fn opening(task: &Task, source: &Source, birth: Birth, machine: &StateMachine) -> Opening {
    let Birth::Reread(changed) = birth else { return Opening::AsLeft };
    let is_mended = match machine.state {
        State::AuthFailed { .. } => {
            let (secret, place) = (task.secret.clone(), source.auth.secret().clone());
            let environment = task.environment.clone();
            RealWorld.offload(move || secret.is_replaced(&place, &environment)).await
                || changed == Changed::Settings
        }
        State::Error { .. } => changed == Changed::Settings,
        State::Idle { .. } | State::Working(_) | State::Completed | State::RateLimited { .. } => {
            false
        }
    };
    if !is_mended {
        return Opening::AsLeft;
    }
    info!(state = machine.status().name(), "trying again, with what was read");
    Opening::Asked
}

/// What a source needs besides what the configuration says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access<'a> {
    pub(super) environment: &'a Environment,
    pub(super) secret: &'a LastSecret,
    pub(super) gates: &'a Gates<RealWorld>,
    pub(super) meter: &'a Meter,
    pub(super) recorder: &'a Recorder,
}

impl<'a> Access<'a> {
    fn of(task: &'a Task, meter: &'a Meter) -> Self {
        Self {
            environment: &task.environment,
            secret: &task.secret,
            gates: &task.gates,
            meter,
            recorder: &task.recorder,
        }
    }
}

/// The source that is meant.
#[derive(Clone, Debug)]
pub(super) struct Identity<'a> {
    pub(super) name: &'a str,
    /// The account that its ledger belongs to, where that is known.
    pub(super) account: Option<AccountId>,
}

pub(super) fn jmap_source(
    identity: Identity<'_>,
    access: Access<'_>,
    settings: &Settings,
    source: &Source,
    retries: &Retries,
    egress: Egress,
) -> Result<Jmap, Refusal> {
    let (request, provider) = (&settings.request, settings.provider(&source.provider));
    let (auth, secret) = match &source.auth {
        Auth::Basic { username, password } => {
            (jmap::Auth::Basic { username: username.clone() }, password.clone())
        }
        Auth::Bearer { token } => (jmap::Auth::Bearer, token.clone()),
    };
    let options = jmap::Options {
        name: identity.name.to_owned(),
        account: identity.account,
        url: source.url.clone(),
        allowed_origins: allowed_origins(source),
        auth,
        mailboxes: source.mailboxes.clone(),
        since: source.since,
        page_size_max: PAGE_SIZE_MAX,
        concurrency: provider.concurrency,
        limits: Limits {
            retry: retries.request.clone(),
            connect_timeout: request.connect_timeout,
            idle_timeout: request.idle_timeout,
            total_timeout: request.total_timeout,
            min_rate: request.min_rate,
            max_answer: request.max_answer,
            max_document: request.max_document,
        },
        error_rules: settings.error_rules(&source.provider).to_vec(),
        egress,
        meter: access.meter.clone(),
        recorder: access.recorder.of(&provider.headers),
    };
    let (last, environment) = (access.secret.clone(), access.environment.clone());
    let credential = Credential::new(move || {
        let (last, secret) = (last.clone(), secret.clone());
        let environment = environment.clone();
        Box::pin(async move {
            let read = move || last.read(&secret, &environment).map_err(|error| error.to_string());
            RealWorld.offload(read).await
        })
    });
    let rules = gate_rules(settings, &source.provider);
    let gate = access.gates.of(&source.provider, &source.account, rules);
    Jmap::new(options, credential, gate).map_err(Refusal::Failed)
}

fn allowed_origins(source: &Source) -> Vec<Origin> {
    let urls =
        source.allow_hosts.iter().filter_map(|host| Url::parse(&format!("https://{host}")).ok());
    urls.map(|url| url.origin()).collect()
}
