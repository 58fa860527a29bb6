//! JMAP source on Cyrus.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};

use cynosure::source::jmap::{AuthScheme, JmapSource};
use url::Url;

use super::ordinary_message::ordinary_message;
use super::suite::{Fault, FaultProxy, Rig, SourceOptions, Unsupported, jmap_source, source_tests};
use crate::cyrus::{CyrusServer, PASSWORD, USER};
use crate::imap::ImapSession;

/// Path prefix of all downloads.
const DOWNLOAD_PREFIX: &str = "/jmap/download/";

/// Folder that is not the inbox.
const OTHER_FOLDER: &str = "Archive";

/// Cyrus, filled over IMAP and read through a proxy that adds faults.
struct Cyrus {
    server: CyrusServer,
    proxy: FaultProxy,
    mailbox: RefCell<ExpectedMailbox>,
}

/// Contents that the mailbox has, according to the changes made over IMAP.
#[derive(Default)]
struct ExpectedMailbox {
    /// Messages in the order of their UIDs.
    inbox: Vec<Vec<u8>>,
    other_folder: Vec<Vec<u8>>,
    /// Number of ordinary messages ever delivered.
    delivered: usize,
}

impl Cyrus {
    /// Selects the inbox, and returns the session and the UIDs of the oldest messages.
    fn oldest(&self, count: usize) -> (ImapSession, Vec<u32>) {
        let mut imap = self.server.imap();
        imap.select("INBOX");
        let mut uids = imap.uids();
        uids.truncate(count);
        (imap, uids)
    }
}

impl Rig for Cyrus {
    type Source = JmapSource;

    const NAME: &'static str = "jmap, Cyrus";
    const SECRET: &'static str = PASSWORD;

    async fn start(documents: usize) -> Result<Self, Unsupported> {
        let server = CyrusServer::start().ok_or(Unsupported("Cyrus cannot run here"))?;
        let url: Url = server.url().parse().expect("the URL of the server is valid");
        let port = url.port().expect("the server has a port of its own");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxy = FaultProxy::start(address, DOWNLOAD_PREFIX).await;
        let rig = Self { server, proxy, mailbox: RefCell::default() };
        rig.deliver(documents)?;
        Ok(rig)
    }

    fn source(&self, options: &SourceOptions) -> JmapSource {
        let auth = AuthScheme::Basic { username: USER.to_owned() };
        jmap_source(options, self.proxy.url(), auth)
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        let mailbox = self.mailbox.borrow();
        [&*mailbox.inbox, &*mailbox.other_folder].concat()
    }

    fn deliver(&self, count: usize) -> Result<(), Unsupported> {
        let first = self.mailbox.borrow().delivered;
        self.mailbox.borrow_mut().delivered += count;
        self.deliver_contents((first..first + count).map(ordinary_message).collect())
    }

    fn deliver_contents(&self, contents: Vec<Vec<u8>>) -> Result<(), Unsupported> {
        if contents.iter().any(Vec::is_empty) {
            return Err(Unsupported("IMAP appends no empty message"));
        }
        self.server.imap().append("INBOX", &contents);
        self.mailbox.borrow_mut().inbox.extend(contents);
        Ok(())
    }

    fn destroy(&self, count: usize) -> Result<(), Unsupported> {
        let (mut imap, uids) = self.oldest(count);
        imap.delete(&uids);
        self.mailbox.borrow_mut().inbox.drain(..uids.len());
        // Until then an expunged message is still on disk.
        self.server.expire_history();
        Ok(())
    }

    fn move_to_other_folder(&self, count: usize) -> Result<(), Unsupported> {
        let (mut imap, uids) = self.oldest(count);
        imap.move_to(&uids, OTHER_FOLDER);
        let mut mailbox = self.mailbox.borrow_mut();
        let moved: Vec<Vec<u8>> = mailbox.inbox.drain(..uids.len()).collect();
        mailbox.other_folder.extend(moved);
        Ok(())
    }

    fn copy_to_other_folder(&self, count: usize) -> Result<(), Unsupported> {
        // The same message in a second folder, so that the contents stay the same.
        let (mut imap, uids) = self.oldest(count);
        imap.copy(&uids, OTHER_FOLDER);
        Ok(())
    }

    fn expire_cursors(&self) -> Result<(), Unsupported> {
        // Cyrus forgets only what concerns expunged messages.
        self.destroy(3)?;
        self.deliver(1)
    }

    fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        self.proxy.inject(fault);
        Ok(())
    }

    fn request_count(&self) -> usize {
        self.proxy.request_count()
    }
}

source_tests!(Cyrus);
