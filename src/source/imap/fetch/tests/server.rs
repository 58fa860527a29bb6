//! Server on the loopback interface. It logs in anyone and opens folders; a script answers the
//! fetches.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// UIDVALIDITY of all folders but [`REMADE_FOLDER`].
pub(super) const UID_VALIDITY: u32 = 7;

/// Folder that has another UIDVALIDITY than its messages were listed with.
pub(super) const REMADE_FOLDER: &str = "remade";

/// Folder that does not exist.
pub(super) const MISSING_FOLDER: &str = "missing";

/// Folder that may not be opened.
pub(super) const FORBIDDEN_FOLDER: &str = "forbidden";

const CAPABILITIES: &str = "CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN";

/// `UID FETCH` as the server received it.
#[derive(Clone, Debug)]
pub(super) struct ReceivedFetch {
    pub(super) tag: String,
    pub(super) uids: Vec<u32>,
}

/// Bytes that a script sends, which may answer earlier commands of the connection as well.
#[derive(Debug)]
pub(super) enum FetchReply {
    Send(Vec<u8>),
    /// Waits for the notification before.
    SendAfter(Rc<Notify>, Vec<u8>),
    SendAndClose(Vec<u8>),
}

type Script = Rc<RefCell<dyn FnMut(ReceivedFetch) -> FetchReply>>;

/// Log of the commands that open folders and fetch, each after the number of its connection.
pub(super) type CommandLog = Rc<RefCell<Vec<String>>>;

pub(super) struct FetchServer {
    pub(super) port: u16,
    pub(super) log: CommandLog,
}

impl FetchServer {
    pub(super) async fn start(script: impl FnMut(ReceivedFetch) -> FetchReply + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = CommandLog::default();
        let script: Script = Rc::new(RefCell::new(script));
        let accepted_log = Rc::clone(&log);
        spawn_local(async move {
            let mut number = 0;
            while let Ok((stream, _address)) = listener.accept().await {
                number += 1;
                let (log, script) = (Rc::clone(&accepted_log), Rc::clone(&script));
                // A client that gives up a connection is an error for the server only.
                spawn_local(async move { serve(stream, number, &log, &script).await.ok() });
            }
        });
        Self { port, log }
    }

    pub(super) fn commands(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

async fn serve(
    stream: TcpStream,
    number: u32,
    log: &CommandLog,
    script: &Script,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(format!("* OK [{CAPABILITIES}] ready\r\n").as_bytes()).await?;
    while let Some(line) = lines.next_line().await? {
        let (tag, command) = line.split_once(' ').unwrap();
        let reply = if let Some(folder) = command.strip_prefix("EXAMINE ") {
            log.borrow_mut().push(format!("{number}: EXAMINE {folder}"));
            FetchReply::Send(examine_reply(tag, folder).into_bytes())
        } else if let Some(arguments) = command.strip_prefix("UID FETCH ") {
            let (set, attributes) = arguments.split_once(' ').unwrap();
            assert_eq!(attributes, "(UID BODY.PEEK[])");
            log.borrow_mut().push(format!("{number}: FETCH {set}"));
            (script.borrow_mut())(ReceivedFetch { tag: tag.to_owned(), uids: parse_set(set) })
        } else if command == "CAPABILITY" {
            FetchReply::Send(format!("* {CAPABILITIES}\r\n{tag} OK done\r\n").into_bytes())
        } else {
            FetchReply::Send(format!("{tag} OK [{CAPABILITIES}] done\r\n").into_bytes())
        };
        match reply {
            FetchReply::Send(bytes) => writer.write_all(&bytes).await?,
            FetchReply::SendAfter(notification, bytes) => {
                notification.notified().await;
                writer.write_all(&bytes).await?;
            }
            FetchReply::SendAndClose(bytes) => return writer.write_all(&bytes).await,
        }
    }
    Ok(())
}

fn examine_reply(tag: &str, folder: &str) -> String {
    if folder == MISSING_FOLDER {
        return format!("{tag} NO [NONEXISTENT] there is no such folder\r\n");
    }
    if folder == FORBIDDEN_FOLDER {
        return format!("{tag} NO [NOPERM] not yours\r\n");
    }
    let uid_validity = if folder == REMADE_FOLDER { UID_VALIDITY + 1 } else { UID_VALIDITY };
    format!(
        "* 9 EXISTS\r\n* OK [UIDVALIDITY {uid_validity}] valid\r\n* OK [UIDNEXT 1000] next\r\n\
         {tag} OK [READ-ONLY] opened\r\n"
    )
}

fn parse_set(set: &str) -> Vec<u32> {
    let ranges = set.split(',').map(|range| range.split_once(':').unwrap_or((range, range)));
    ranges
        .flat_map(|(first, last)| first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap())
        .collect()
}
