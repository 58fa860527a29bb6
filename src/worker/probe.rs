//! Asks a source whether it can be reached and lets us in, by the same way as the work.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Environment, Settings, Source as Configured, SourceName};
use crate::disk::{MemoryDisk, SharedFile};
use crate::engine::{AccountId, Cause, Failure};
use crate::source::{Meter, Recorder, Source};
use crate::worker::egress::Outlet;
use crate::worker::gate::Gates;
use crate::worker::life::{Access, Identity, LastSecret, jmap_source};
use crate::worker::retries::Retries;
use crate::worker::world::RealWorld;

/// Finds the service and asks where its changes stand: two requests, which change nothing. `account`
/// is the one that the ledger belongs to, where that is known: another is a failure.
///
/// # Errors
/// What the source would have failed with, or that it took longer than `limit`.
pub async fn probe(
    settings: &Settings,
    (name, source): (&SourceName, &Configured),
    account: Option<AccountId>,
    environment: &Environment,
    limit: Duration,
) -> Result<(), Failure> {
    let outlet = Outlet::default();
    let egress = outlet.open(&settings.proxy, environment)?;
    // What the worker knows of quotas is not ours to change.
    let quotas = SharedFile::alone_on(Arc::new(MemoryDisk::default()), PathBuf::from("/quota"));
    let gates = Gates::new(Rc::new(RealWorld), quotas);
    let secret = LastSecret::default();
    let (meter, recorder) = (Meter::default(), Recorder::default());
    let access =
        Access { environment, secret: &secret, gates: &gates, meter: &meter, recorder: &recorder };
    let identity = Identity { name: name.as_str(), account };
    let client = jmap_source(identity, access, settings, source, &Retries::new(settings), egress);
    let client = client.map_err(|refusal| Failure::new(Cause::Unknown, refusal.to_string()))?;
    match tokio::time::timeout(limit, client.pin()).await {
        Ok(pinned) => pinned.map(drop),
        Err(_) => {
            let why = format!("no answer within {} s", limit.as_secs());
            Err(Failure::new(Cause::Timeout, why))
        }
    }
}
