//! All sources of a configuration side by side, each through as many lives as it needs.

use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::watch;
use tracing::{debug, error, info, warn};
use url::{Origin, Url};

use crate::config::{self, Auth, Environment, Settings, Source, SourceName};
use crate::source::credential::Credential;
use crate::source::http::{Egress, Limits};
use crate::source::jmap::{self, Jmap};
use crate::worker::driver::{Ended, Exit, Mode, Parts, Stop, drive, stopped};
use crate::worker::egress::Outlet;
use crate::worker::gate::Gates;
use crate::worker::jobs::Shared;
use crate::worker::refusal::Refusal;
use crate::worker::retries::Retries;
use crate::worker::rules::{gate_rules, policies, rules};
use crate::worker::store::{Facts, Opened, Store};
use crate::worker::view::View;
use crate::worker::world::{RealWorld, World};

/// Documents per page of a listing: the floor that RFC 8620 sets for `maxObjectsInGet`.
const PAGE_SIZE_MAX: u32 = 500;

/// What one source needs to know to run.
#[derive(Clone, Debug)]
pub struct Task {
    pub name: SourceName,
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    pub environment: Environment,
    pub mode: Mode,
    pub supervision: Supervision,
    /// Shared by all sources of the process.
    pub gates: Rc<Gates<RealWorld>>,
    pub outlet: Outlet,
}

/// Who starts the process anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Supervision {
    /// Nobody: the worker starts itself anew, in this process.
    None,
    /// A service manager, when the process leaves with the code for it. Other sources
    /// of the process would be disturbed, so that only a lone source leaves.
    Alone,
}

/// How a source ended.
#[derive(Debug)]
pub enum End {
    Ended(Ended),
    /// It is due to be started anew, and must not be by itself.
    StayedDown(Ended),
    /// It could not begin.
    Refused(Refusal),
}

/// Runs one source until it is done for good.
pub async fn run(
    task: Task,
    mut settings: Settings,
    mut stop: watch::Receiver<Stop>,
    view: watch::Sender<View>,
) -> End {
    let world = Rc::new(RealWorld);
    let mut has_lived = false;
    loop {
        let Some(source) = settings.sources.get(&task.name).cloned() else {
            return End::Refused(Refusal::Configuration(format!(
                "source {} is no longer in the configuration",
                task.name
            )));
        };
        let ended = match live(&task, &settings, &source, &world, &stop, &view).await {
            Ok(ended) => ended,
            // Nobody is there any more who could be told: a full disk or a lock is waited for.
            Err(refusal @ (Refusal::Failed(_) | Refusal::Held { .. }))
                if has_lived && task.mode != Mode::Once =>
            {
                error!(source = %task.name, "cannot start anew yet: {refusal}");
                let again = world.now().after(settings.restart.retry_delay_base);
                tokio::select! {
                    () = stopped(&mut stop) => return End::Refused(refusal),
                    () = world.sleep_until(again) => continue,
                }
            }
            Err(refusal) => return End::Refused(refusal),
        };
        has_lived = true;
        let Exit::Restart(cause) = ended.exit else { return End::Ended(ended) };
        if !settings.service.enable_auto_restart {
            warn!(source = %task.name, why = cause.reason(), "a restart is due, and auto-restart is off");
            return End::StayedDown(ended);
        }
        if task.supervision == Supervision::Alone {
            return End::Ended(ended);
        }
        info!(source = %task.name, why = cause.reason(), "starting anew in place");
        settings = reread(&task, settings);
    }
}

/// One life: from the store as it was left to the next restart.
async fn live(
    task: &Task,
    settings: &Settings,
    source: &Source,
    world: &Rc<RealWorld>,
    stop: &watch::Receiver<Stop>,
    view: &watch::Sender<View>,
) -> Result<Ended, Refusal> {
    let facts = Facts {
        source: task.name.to_string(),
        kind: "jmap",
        account: source.account.clone(),
        provider: source.provider.clone(),
    };
    let dir = task.state_dir.join(task.name.as_str());
    let (archive_dir, now) = (settings.archive.dir.clone(), world.now());
    let retries = Retries::new(settings);
    let storage = retries.storage.clone();
    let opened =
        world.offload(move || Store::open(&dir, &archive_dir, facts, &storage, now)).await?;
    let Opened { store, machine, tally, is_new, notes } = opened;
    for note in notes {
        warn!(source = %task.name, "{note}");
    }
    let (outlet, proxy) = (task.outlet.clone(), settings.proxy.clone());
    let environment = task.environment.clone();
    let egress = world.offload(move || outlet.open(&proxy, &environment)).await;
    let egress = egress.map_err(Refusal::Failed)?;
    let client = jmap_source(task, settings, source, &retries, egress)?;
    let concurrency = usize::try_from(settings.provider(&source.provider).concurrency).unwrap_or(1);
    let parts = Parts {
        source: client,
        world: Rc::clone(world),
        drafts: store.drafts(),
        shared: Shared::new(Rc::clone(world), store),
        machine,
        tally,
        is_new,
        rules: rules(settings, source),
        policies: policies(settings),
        collect: retries.collect.clone(),
        concurrency,
        mode: task.mode,
        stop: stop.clone(),
        view: view.clone(),
    };
    let ended = drive(parts).await;
    for (policy, counted) in retries.registry.snapshot() {
        debug!(source = %task.name, policy, ?counted, "retry statistics");
    }
    Ok(ended)
}

fn jmap_source(
    task: &Task,
    settings: &Settings,
    source: &Source,
    retries: &Retries,
    egress: Egress,
) -> Result<Jmap, Refusal> {
    let request = &settings.request;
    let (auth, secret) = match &source.auth {
        Auth::Basic { username, password } => {
            (jmap::Auth::Basic { username: username.clone() }, password.clone())
        }
        Auth::Bearer { token } => (jmap::Auth::Bearer, token.clone()),
    };
    let options = jmap::Options {
        url: source.url.clone(),
        allowed_origins: allowed_origins(source),
        auth,
        mailboxes: source.mailboxes.clone(),
        since: source.since,
        page_size_max: PAGE_SIZE_MAX,
        concurrency: settings.provider(&source.provider).concurrency,
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
    };
    let environment = task.environment.clone();
    let credential = Credential::new(move || {
        let (secret, environment) = (secret.clone(), environment.clone());
        Box::pin(async move {
            RealWorld
                .offload(move || secret.read(&environment).map_err(|error| error.to_string()))
                .await
        })
    });
    let rules = gate_rules(settings, &source.provider);
    let gate = task.gates.of(&source.provider, &source.account, rules);
    Jmap::new(options, credential, gate).map_err(Refusal::Failed)
}

fn allowed_origins(source: &Source) -> Vec<Origin> {
    let urls =
        source.allow_hosts.iter().filter_map(|host| Url::parse(&format!("https://{host}")).ok());
    urls.map(|url| url.origin()).collect()
}

/// Reads the configuration again; a broken one is reported and the last good one kept.
fn reread(task: &Task, settings: Settings) -> Settings {
    match config::load(&task.config_file, &task.environment) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => {
            warn!(source = %task.name, "going on with the last good configuration: {mistakes}");
            settings
        }
    }
}
