//! JMAP source on the embedded mailbox service.

use cynosure::source::jmap::{AuthScheme, JmapSource};
use cynosure_lab::demo::{DemoOptions, DemoServer, start};

use super::suite::{Fault, FaultProxy, Rig, SourceOptions, Unsupported, jmap_source, source_tests};

/// Path prefix of all downloads.
const DOWNLOAD_PREFIX: &str = "/jmap/download/";

pub(super) const GENERATED: Unsupported = Unsupported("its mail is generated");
pub(super) const FIXED_FOLDERS: Unsupported = Unsupported("its messages stay in the same folders");

/// Embedded service, with a proxy for the faults that it does not plan itself.
struct EmbeddedService {
    service: DemoServer,
    proxy: FaultProxy,
}

impl Rig for EmbeddedService {
    type Source = JmapSource;

    const NAME: &'static str = "jmap, embedded service";
    const SECRET: &'static str = "demo";

    async fn start(documents: usize) -> Result<Self, Unsupported> {
        // A thread has at least one message.
        let options = DemoOptions { items: to_u32(documents), ..DemoOptions::default() };
        let service = start(options).unwrap();
        let proxy = FaultProxy::start(service.address(), DOWNLOAD_PREFIX).await;
        Ok(Self { service, proxy })
    }

    fn source(&self, options: &SourceOptions) -> JmapSource {
        let auth = AuthScheme::Basic { username: DemoOptions::default().username };
        jmap_source(options, self.proxy.url(), auth)
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
        let mut mailbox = self.service.lock_mailbox();
        mailbox.deliver(1);
        mailbox.expire_states();
        Ok(())
    }

    fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        self.proxy.inject(fault);
        Ok(())
    }

    fn request_count(&self) -> usize {
        self.proxy.request_count()
    }
}

/// Returns the bytes of each message that the service has now.
pub(crate) fn contents(service: &DemoServer) -> Vec<Vec<u8>> {
    let mailbox = service.lock_mailbox();
    mailbox.blobs().map(|(blob, _)| mailbox.message_bytes(&blob).unwrap()).collect()
}

pub(super) fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap()
}

source_tests!(EmbeddedService);
