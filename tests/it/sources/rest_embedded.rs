//! REST source with a built-in profile, on the embedded mailbox service.

use std::marker::PhantomData;

use cynosure::source::DynSource;
use cynosure_lab::demo::{DemoKind, DemoOptions, DemoServer, start};

use super::embedded_service::{contents, to_u32};
use super::suite::options::rest_source;
use super::suite::proxy::ProxiedApi;
use super::suite::{Fault, FaultProxy, Rig, SourceOptions, Unsupported};

/// Reason of an API that puts each message into one folder.
pub(super) const ONE_FOLDER: Unsupported = Unsupported("a message is in one folder only");

/// Reason of a profile that takes an empty message for one that the server has not made yet.
pub(super) const EMPTY_IS_NOT_READY: Unsupported =
    Unsupported("an empty message is not ready, and is requested again");

/// Reason of an API that tells no exact size. Any complete response may be the message then.
pub(super) const NO_SIZE: Unsupported = Unsupported("its list has no exact sizes");

/// API of a provider, as the service has it, and the source for it.
pub(crate) trait ProviderApi: 'static {
    const NAME: &'static str;
    const KIND: DemoKind;
    /// Path of the API at its server.
    const BASE_PATH: &'static str;
    /// Table of the source, with pages that are small enough for several.
    const TABLE: &'static str;
    /// Password of the service in the form of the credential.
    const SECRET: &'static str;
    const REFUSED_SECRET: &'static str = "expired";
    const PROXIED: ProxiedApi;

    // As in `Rig`.
    const LISTED_MAX: usize = 1;
    const LISTS_PAGES_AGAIN: bool = false;

    // Errors for the cases that do not apply.
    const FOLDER_COUNTS: Result<(), Unsupported> = Ok(());
    const CURSOR_EXPIRY: Result<(), Unsupported> = Ok(());
    const WRONG_LENGTH: Result<(), Unsupported> = Ok(());
    const EMPTY_DOCUMENT: Unsupported;
    const SECOND_FOLDER: Unsupported;
}

/// Embedded service with an API, and a proxy for the faults that it does not plan itself.
pub(super) struct EmbeddedApi<A> {
    service: DemoServer,
    proxy: FaultProxy,
    api: PhantomData<A>,
}

impl<A: ProviderApi> Rig for EmbeddedApi<A> {
    type Source = DynSource;

    const NAME: &'static str = A::NAME;
    const SECRET: &'static str = A::SECRET;
    const REFUSED_SECRET: &'static str = A::REFUSED_SECRET;
    const LISTED_MAX: usize = A::LISTED_MAX;
    const LISTS_PAGES_AGAIN: bool = A::LISTS_PAGES_AGAIN;

    async fn start(documents: usize) -> Result<Self, Unsupported> {
        // A thread has at least one message.
        let items = to_u32(documents);
        let options = DemoOptions { kind: A::KIND, items, ..DemoOptions::default() };
        let service = start(options).unwrap();
        let proxy = FaultProxy::start_for(service.address(), A::PROXIED).await;
        Ok(Self { service, proxy, api: PhantomData })
    }

    fn source(&self, options: &SourceOptions) -> DynSource {
        rest_source(options, A::TABLE, &self.proxy.url().join(A::BASE_PATH).unwrap())
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        let served = self.proxy.served_documents();
        if served.is_empty() { contents(&self.service) } else { served }
    }

    fn deliver(&self, count: usize) -> Result<(), Unsupported> {
        self.service.lock_mailbox().deliver(to_u32(count));
        Ok(())
    }

    /// Delivers generated messages, in whose place the proxy serves these.
    fn deliver_contents(&self, contents: Vec<Vec<u8>>) -> Result<(), Unsupported> {
        if contents.iter().any(Vec::is_empty) {
            return Err(A::EMPTY_DOCUMENT);
        }
        self.deliver(contents.len())?;
        self.proxy.serve_documents(contents);
        Ok(())
    }

    fn destroy(&self, count: usize) -> Result<(), Unsupported> {
        self.service.lock_mailbox().destroy(to_u32(count));
        Ok(())
    }

    fn move_to_other_folder(&self, count: usize) -> Result<(), Unsupported> {
        self.service.lock_mailbox().move_to_trash(to_u32(count));
        Ok(())
    }

    fn copy_to_other_folder(&self, _count: usize) -> Result<(), Unsupported> {
        Err(A::SECOND_FOLDER)
    }

    fn expire_cursors(&self) -> Result<(), Unsupported> {
        A::CURSOR_EXPIRY?;
        let mut mailbox = self.service.lock_mailbox();
        // An expiry has no effect before the first change.
        mailbox.deliver(1);
        mailbox.expire_states();
        Ok(())
    }

    fn check_folder_counts(&self) -> Result<(), Unsupported> {
        A::FOLDER_COUNTS
    }

    fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        if let Fault::WrongLength { .. } = fault {
            A::WRONG_LENGTH?;
        }
        self.proxy.inject(fault);
        Ok(())
    }

    fn request_count(&self) -> usize {
        self.proxy.request_count()
    }
}
