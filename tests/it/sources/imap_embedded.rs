//! IMAP source on the embedded mailbox service.

use cynosure::source::imap::ImapSource;
use cynosure_lab::demo::{DemoKind, DemoOptions, DemoServer, start};

use super::embedded_service::{FIXED_FOLDERS, GENERATED, contents, to_u32};
use super::suite::{
    CURSOR_IS_LOCAL, Fault, ImapFaultProxy, Rig, SourceOptions, Unsupported, imap_source,
    source_tests,
};

/// Embedded service, which names the contents of messages, with a proxy for the faults.
struct EmbeddedImap {
    service: DemoServer,
    proxy: ImapFaultProxy,
}

impl Rig for EmbeddedImap {
    type Source = ImapSource;

    const NAME: &'static str = "imap, embedded service";
    const SECRET: &'static str = "demo";

    async fn start(documents: usize) -> Result<Self, Unsupported> {
        // A thread has at least one message.
        let items = to_u32(documents);
        let options = DemoOptions { kind: DemoKind::Imap, items, ..DemoOptions::default() };
        let service = start(options).unwrap();
        let proxy = ImapFaultProxy::start(service.address()).await;
        Ok(Self { service, proxy })
    }

    async fn start_with_pages() -> Result<Self, Unsupported> {
        Err(Unsupported("its few folders fit on one page"))
    }

    fn source(&self, options: &SourceOptions) -> ImapSource {
        imap_source(options, self.proxy.address, &DemoOptions::default().username)
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        contents(&self.service)
    }

    fn deliver(&self, count: usize) -> Result<(), Unsupported> {
        self.service.lock_mailbox().deliver(to_u32(count));
        Ok(())
    }

    fn deliver_contents(&self, _contents: Vec<Vec<u8>>) -> Result<(), Unsupported> {
        Err(GENERATED)
    }

    fn destroy(&self, count: usize) -> Result<(), Unsupported> {
        self.service.lock_mailbox().destroy(to_u32(count));
        Ok(())
    }

    fn move_to_other_folder(&self, _count: usize) -> Result<(), Unsupported> {
        Err(FIXED_FOLDERS)
    }

    fn copy_to_other_folder(&self, _count: usize) -> Result<(), Unsupported> {
        Err(FIXED_FOLDERS)
    }

    fn expire_cursors(&self) -> Result<(), Unsupported> {
        Err(CURSOR_IS_LOCAL)
    }

    fn renumber_folders(&self) -> Result<(), Unsupported> {
        let mut mailbox = self.service.lock_mailbox();
        // An expiry has no effect before the first change.
        mailbox.deliver(1);
        mailbox.expire_states();
        Ok(())
    }

    fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        self.proxy.inject(fault)
    }

    fn request_count(&self) -> usize {
        self.proxy.fetch_count()
    }
}

source_tests!(EmbeddedImap);
