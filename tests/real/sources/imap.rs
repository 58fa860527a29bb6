//! IMAP source on real servers.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use cynosure::source::imap::ImapSource;
use cynosure::source::{Listing, Source as _};
use tokio::task::LocalSet;

use super::ordinary_message::ordinary_message;
use super::suite::{
    CURSOR_IS_LOCAL, Fault, ImapFaultProxy, Rig, SourceOptions, Unsupported, imap_source,
};
use crate::cyrus::{PASSWORD, USER};
use crate::imap::ImapSession;
use crate::imap_server::ImapServer;

/// Folder into which documents are moved and copied.
const OTHER_FOLDER: &str = "Archive";

/// Folders with mail that do not fit on one page of a listing.
const FOLDERS_OF_SEVERAL_PAGES: usize = 70;

/// Server that is filled directly, and read through a proxy that adds faults.
struct ImapRig<S> {
    server: S,
    proxy: ImapFaultProxy,
    /// Folders into which ordinary documents are delivered in turn. Others go into INBOX, which
    /// cannot be deleted.
    folders: Vec<String>,
    /// Number of ordinary documents ever delivered.
    delivered: Cell<usize>,
}

impl<S: ImapServer> ImapRig<S> {
    async fn with_folders(folders: Vec<String>, documents: usize) -> Result<Self, Unsupported> {
        let server = S::start().ok_or(Unsupported("the server cannot run here"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.imap_port()));
        let proxy = ImapFaultProxy::start(address).await;
        let mut imap = server.session();
        folders.iter().for_each(|folder| imap.create(folder));
        let rig = Self { server, proxy, folders, delivered: Cell::new(0) };
        rig.deliver(documents)?;
        Ok(rig)
    }

    /// Changes this number of the ordinary documents, folder by folder, the oldest first.
    fn change_oldest(&self, count: usize, change: impl Fn(&mut ImapSession, &[u32])) {
        let mut imap = self.server.session();
        let mut remaining = count;
        for folder in &self.folders {
            imap.select(folder);
            let mut uids = imap.uids();
            uids.truncate(remaining);
            remaining -= uids.len();
            if !uids.is_empty() {
                change(&mut imap, &uids);
            }
        }
    }
}

impl<S: ImapServer> Rig for ImapRig<S> {
    type Source = ImapSource;

    const NAME: &'static str = S::RIG_NAME;
    const SECRET: &'static str = PASSWORD;

    async fn start(documents: usize) -> Result<Self, Unsupported> {
        Self::with_folders(vec!["Work".to_owned()], documents).await
    }

    async fn start_with_pages() -> Result<Self, Unsupported> {
        let folders = (0..FOLDERS_OF_SEVERAL_PAGES).map(|number| format!("Work {number}"));
        Self::with_folders(folders.collect(), FOLDERS_OF_SEVERAL_PAGES).await
    }

    fn source(&self, options: &SourceOptions) -> ImapSource {
        imap_source(options, self.proxy.address, USER)
    }

    /// Reads what the server has, because servers change line ends when they store a message.
    fn contents(&self) -> Vec<Vec<u8>> {
        let mut imap = self.server.session();
        let folders = self.folders.iter().map(String::as_str).chain(["INBOX", OTHER_FOLDER]);
        // A copy is the same document.
        let contents: BTreeSet<_> = folders.flat_map(|folder| imap.messages(folder)).collect();
        contents.into_iter().collect()
    }

    fn deliver(&self, count: usize) -> Result<(), Unsupported> {
        let first = self.delivered.get();
        self.delivered.set(first + count);
        let mut imap = self.server.session();
        for (index, folder) in self.folders.iter().enumerate() {
            let is_of_folder = |number: &usize| number % self.folders.len() == index;
            let mails = (first..first + count).filter(is_of_folder).map(ordinary_message);
            imap.append(folder, &mails.collect::<Vec<_>>());
        }
        Ok(())
    }

    fn deliver_contents(&self, contents: Vec<Vec<u8>>) -> Result<(), Unsupported> {
        if contents.iter().any(Vec::is_empty) {
            return Err(Unsupported("IMAP appends no empty message"));
        }
        self.server.session().append("INBOX", &contents);
        Ok(())
    }

    fn destroy(&self, count: usize) -> Result<(), Unsupported> {
        if S::SERVES_EXPUNGED {
            self.proxy.state.connections_end.notify_waiters();
        }
        self.change_oldest(count, |imap, uids| imap.delete(uids));
        Ok(())
    }

    fn move_to_other_folder(&self, count: usize) -> Result<(), Unsupported> {
        self.change_oldest(count, |imap, uids| imap.move_to(uids, OTHER_FOLDER));
        Ok(())
    }

    fn copy_to_other_folder(&self, count: usize) -> Result<(), Unsupported> {
        if !S::HAS_CONTENT_IDS {
            return Err(Unsupported("only the bytes of a copy show that it is one"));
        }
        self.change_oldest(count, |imap, uids| imap.copy(uids, OTHER_FOLDER));
        Ok(())
    }

    fn expire_cursors(&self) -> Result<(), Unsupported> {
        Err(CURSOR_IS_LOCAL)
    }

    fn renumber_folders(&self) -> Result<(), Unsupported> {
        let mut imap = self.server.session();
        for folder in &self.folders {
            let mails = imap.messages(folder);
            // Closes the folder.
            imap.select("INBOX");
            imap.delete_folder(folder);
            imap.create(folder);
            imap.append(folder, &mails);
        }
        Ok(())
    }

    fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        self.proxy.inject(fault)
    }

    fn request_count(&self) -> usize {
        self.proxy.fetch_count()
    }
}

/// Vanished messages (RFC 7162 §3.2.6) are told from those with changed flags.
async fn deleted_messages_have_vanished<S: ImapServer>() {
    let Ok(rig) = ImapRig::<S>::start(5).await else { return };
    let source = rig.source(&SourceOptions::new(PASSWORD));
    let cursor = source.current_cursor().await.expect("the server has a state");
    let mut imap = rig.server.session();
    imap.select("Work");
    let uids = imap.uids();
    imap.delete(&uids[1..3]);
    imap.flag(&uids[3..]);

    let page = source.list_page(&Listing::Since(cursor), None).await.expect("the server lists");

    assert!(page.entries.is_empty(), "{page:?}");
    let folders: Vec<_> = page.vanished.iter().map(|messages| messages.folder.as_str()).collect();
    let vanished =
        page.vanished.iter().flat_map(|messages| messages.uids.iter().cloned().flatten());
    assert_eq!((folders, vanished.collect::<Vec<u32>>()), (vec!["Work"], uids[1..3].to_vec()));
}

mod cyrus {
    use super::{ImapRig, LocalSet};
    use crate::cyrus::CyrusServer;
    use crate::sources::suite::source_tests;

    source_tests!(ImapRig<CyrusServer>);

    #[tokio::test]
    async fn deleted_messages_have_vanished() {
        let case = Box::pin(super::deleted_messages_have_vanished::<CyrusServer>());
        LocalSet::new().run_until(case).await;
    }
}

mod dovecot {
    use super::ImapRig;
    use crate::dovecot::DovecotServer;
    use crate::sources::suite::source_tests;

    source_tests!(ImapRig<DovecotServer>);
}

mod pymap {
    use super::ImapRig;
    use crate::pymap::PymapServer;
    use crate::sources::suite::source_tests;

    source_tests!(ImapRig<PymapServer>);
}
