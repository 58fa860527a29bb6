//! Discovery against name servers and web servers on the loopback interface.

use std::sync::{Arc, Mutex};

use simple_dns::rdata::{MX, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::onboarding::access::AccessKind;

/// Time limit of lookups that are answered. No test waits for it.
const LONG: Duration = Duration::from_secs(60);

const AUTOCONFIG_PATH: &str = "/mail/config-v1.1.xml";
const JMAP_PATH: &str = "/.well-known/jmap";

/// Record of the zone of a fake name server.
#[derive(Clone, Copy, Debug)]
enum ZoneRecord {
    Mx { name: &'static str, host: &'static str },
    Srv { name: &'static str, host: &'static str, port: u16 },
}

/// Behaviour of a fake name server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NameServerMode {
    Normal,
    /// Answers by TCP only.
    Truncating,
    /// Sends a forged answer before each true one.
    Forging,
    /// Fails each lookup.
    Failing,
    /// Answers nothing.
    Silent,
}

impl ZoneRecord {
    fn to_record(self) -> ResourceRecord<'static> {
        let (name, data) = match self {
            Self::Mx { name, host } => {
                (name, RData::MX(MX { preference: 10, exchange: Name::new_unchecked(host) }))
            }
            Self::Srv { name, host, port } => {
                let target = Name::new_unchecked(host);
                (name, RData::SRV(SRV { priority: 0, weight: 0, port, target }))
            }
        };
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, data)
    }
}

/// Returns the true answer to a question.
fn dns_answer(question: &[u8], zone: &[ZoneRecord], mode: NameServerMode) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    let asked = packet.questions.first().unwrap().clone();
    let records = zone.iter().map(|record| record.to_record());
    let matching = records.filter(|record| {
        record.name == asked.qname && QTYPE::TYPE(record.rdata.type_code()) == asked.qtype
    });
    packet.answers.extend(matching);
    if mode == NameServerMode::Failing {
        *packet.rcode_mut() = RCODE::ServerFailure;
    } else if packet.answers.is_empty() {
        *packet.rcode_mut() = RCODE::NameError;
    }
    packet.build_bytes_vec().unwrap()
}

/// Returns an answer with another id that names the server of an attacker.
fn forged_answer(question: &[u8]) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    packet.set_id(packet.id().wrapping_add(1));
    let forged = ZoneRecord::Mx { name: "example.com", host: "mx01.mail.icloud.com" };
    packet.answers.push(forged.to_record());
    packet.build_bytes_vec().unwrap()
}

/// Returns an answer that is cut.
fn truncated_answer(question: &[u8]) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    packet.set_flags(PacketFlag::TRUNCATION);
    packet.build_bytes_vec().unwrap()
}

/// Binds a port of 127.0.0.1 for UDP and TCP.
async fn bind_both() -> (UdpSocket, TcpListener) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Another program may have the port of the other protocol.
        if let Ok(socket) = UdpSocket::bind(address).await {
            return (socket, listener);
        }
    }
}

/// Starts a name server, and returns its address.
async fn start_name_server(zone: &'static [ZoneRecord], mode: NameServerMode) -> SocketAddr {
    let (socket, listener) = bind_both().await;
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 512];
        while let Ok((length, sender)) = socket.recv_from(&mut buffer).await {
            let question = &buffer[..length];
            let answers = match mode {
                NameServerMode::Normal | NameServerMode::Failing => {
                    vec![dns_answer(question, zone, mode)]
                }
                NameServerMode::Truncating => vec![truncated_answer(question)],
                NameServerMode::Forging => {
                    vec![forged_answer(question), dns_answer(question, zone, mode)]
                }
                NameServerMode::Silent => Vec::new(),
            };
            for answer in answers {
                socket.send_to(&answer, sender).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = usize::from(stream.read_u16().await.unwrap());
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await.unwrap();
            let answer = dns_answer(&question, zone, mode);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

/// Web server that knows some paths, and keeps the heads of all requests.
struct FakeWebServer {
    base: Url,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeWebServer {
    /// Starts a server with a response for each of these paths.
    async fn start(pages: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                let path = head.split(' ').nth(1).unwrap_or_default();
                let page = pages.iter().find(|(known, _)| *known == path);
                let response = page.map(|(_, response)| response.clone());
                let response = response.unwrap_or_else(|| web_response("404 Not Found", ""));
                log.lock().unwrap().push(head);
                // A client that has read enough may close first.
                stream.write_all(response.as_bytes()).await.ok();
            }
        });
        Self { base, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await.unwrap() {
            0 => break,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn web_response(status: &str, body: &str) -> String {
    response_with("", status, body)
}

/// Returns a response with more header lines, each with its line end.
fn response_with(headers: &str, status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn autoconfig(host: &str) -> String {
    web_response("200 OK", &autoconfig_file(host))
}

fn autoconfig_file(host: &str) -> String {
    format!(
        "<clientConfig version=\"1.1\"><emailProvider id=\"example.com\">\
         <incomingServer type=\"imap\"><hostname>{host}</hostname><port>993</port>\
         <socketType>SSL</socketType><username>%EMAILLOCALPART%</username></incomingServer>\
         </emailProvider></clientConfig>"
    )
}

async fn run_discovery(name_servers: Vec<SocketAddr>, web: &FakeWebServer) -> Discovery {
    let address = MailAddress::parse("me@example.com").unwrap();
    let autoconfig_base = Some(web.base.clone());
    let options = DiscoveryOptions { name_servers, time_limit: LONG, autoconfig_base };
    discover(&address, &options).await
}

/// Returns the name of the guide and the evidence.
fn found(discovery: &Discovery) -> (&str, &str) {
    match discovery {
        Discovery::Found { guide, evidence } => (guide.name.as_str(), evidence.as_str()),
        Discovery::Unknown | Discovery::NoNetwork(_) => panic!("nothing was found: {discovery:?}"),
    }
}

/// Returns kind, server and credential of the options.
fn options_of(discovery: Discovery) -> Vec<(AccessKind, ServerAddress, SignInMethod)> {
    match discovery {
        Discovery::Found { guide, .. } => guide
            .options
            .into_iter()
            .map(|option| (option.kind, option.server, option.method))
            .collect(),
        Discovery::Unknown | Discovery::NoNetwork(_) => panic!("nothing was found: {discovery:?}"),
    }
}

const GOOGLE_ZONE: &[ZoneRecord] =
    &[ZoneRecord::Mx { name: "example.com", host: "ASPMX.L.Google.com" }];

#[tokio::test]
async fn the_servers_that_receive_mail_give_the_provider() {
    let page = (AUTOCONFIG_PATH, autoconfig("imap.attacker.example"));
    let web = FakeWebServer::start(vec![page]).await;
    for mode in [NameServerMode::Normal, NameServerMode::Truncating, NameServerMode::Forging] {
        let server = start_name_server(GOOGLE_ZONE, mode).await;

        let discovery = run_discovery(vec![server], &web).await;

        let expected = ("Google Workspace", "its mail is received by aspmx.l.google.com");
        assert_eq!(found(&discovery), expected, "{mode:?}");
    }
}

#[tokio::test]
async fn the_next_name_server_is_asked_after_a_failure() {
    let web = FakeWebServer::start(Vec::new()).await;
    let closed = bind_both().await.0.local_addr().unwrap();
    let failing = start_name_server(GOOGLE_ZONE, NameServerMode::Failing).await;
    let good = start_name_server(GOOGLE_ZONE, NameServerMode::Normal).await;

    let discovery = run_discovery(vec![closed, failing, good], &web).await;

    assert_eq!(found(&discovery).0, "Google Workspace");
}

#[tokio::test]
async fn the_next_name_server_is_asked_after_silence() {
    let web = FakeWebServer::start(Vec::new()).await;
    let silent = start_name_server(GOOGLE_ZONE, NameServerMode::Silent).await;
    let good = start_name_server(GOOGLE_ZONE, NameServerMode::Normal).await;

    let discovery = run_discovery(vec![silent, good], &web).await;

    assert_eq!(found(&discovery).0, "Google Workspace");
}

#[tokio::test]
async fn a_jmap_service_comes_before_an_imap_server() {
    let server = start_name_server(&[], NameServerMode::Normal).await;
    let challenge = "WWW-Authenticate: Bearer realm=\"mail\"\r\n";
    let web = FakeWebServer::start(vec![
        (JMAP_PATH, response_with(challenge, "401 Unauthorized", "")),
        (AUTOCONFIG_PATH, autoconfig("imap.example.com")),
    ])
    .await;

    let discovery = run_discovery(vec![server], &web).await;

    let (name, evidence) = found(&discovery);
    assert_eq!(name, "your own server");
    assert_eq!(
        evidence,
        "it has a JMAP service at 127.0.0.1, which is outside of example.com; its automatic \
         configuration names the IMAP server imap.example.com, and the user name me"
    );
    let Discovery::Found { guide, .. } = &discovery else { panic!("{discovery:?}") };
    let usernames: Vec<_> = guide.options.iter().map(|option| option.username.as_deref()).collect();
    assert_eq!(usernames, [Some("me@example.com"), Some("me")]);
    let session = web.base.join(JMAP_PATH).unwrap();
    assert_eq!(
        options_of(discovery),
        [
            (AccessKind::Jmap, ServerAddress::Url(session), SignInMethod::Token),
            (
                AccessKind::Imap,
                ServerAddress::imap_with_tls("imap.example.com"),
                SignInMethod::Password
            ),
        ]
    );
}

#[tokio::test]
async fn service_records_name_the_servers() {
    const ZONE: &[ZoneRecord] = &[
        ZoneRecord::Srv { name: "_jmap._tcp.example.com", host: "api.example.com", port: 443 },
        ZoneRecord::Srv { name: "_imap._tcp.example.com", host: "mail.example.net", port: 143 },
    ];
    let server = start_name_server(ZONE, NameServerMode::Normal).await;
    let web = FakeWebServer::start(Vec::new()).await;

    let discovery = run_discovery(vec![server], &web).await;

    assert_eq!(
        found(&discovery).1,
        "its service record names the JMAP server api.example.com; its service record names the \
         IMAP server mail.example.net, which is outside of example.com"
    );
    let session = Url::parse("https://api.example.com/.well-known/jmap").unwrap();
    let starttls = ServerAddress::Imap {
        host: "mail.example.net".to_owned(),
        port: 143,
        security: ServerSecurity::StartTls,
    };
    assert_eq!(
        options_of(discovery),
        [
            (AccessKind::Jmap, ServerAddress::Url(session), SignInMethod::Password),
            (AccessKind::Imap, starttls, SignInMethod::Password),
        ]
    );
}

#[tokio::test]
async fn tls_from_the_first_byte_is_preferred() {
    const ZONE: &[ZoneRecord] = &[
        ZoneRecord::Srv { name: "_imap._tcp.example.com", host: "a.example.com", port: 143 },
        ZoneRecord::Srv { name: "_imaps._tcp.example.com", host: "b.example.com", port: 993 },
    ];
    let server = start_name_server(ZONE, NameServerMode::Normal).await;
    let web = FakeWebServer::start(Vec::new()).await;

    let options = options_of(run_discovery(vec![server], &web).await);

    let address = ServerAddress::imap_with_tls("b.example.com");
    assert_eq!(options, [(AccessKind::Imap, address, SignInMethod::Password)]);
}

#[tokio::test]
async fn a_server_of_a_known_provider_gives_its_guide() {
    let server = start_name_server(&[], NameServerMode::Normal).await;
    let page = (AUTOCONFIG_PATH, autoconfig("outlook.office365.com"));
    let web = FakeWebServer::start(vec![page]).await;

    let discovery = run_discovery(vec![server], &web).await;

    let (name, evidence) = found(&discovery);
    assert_eq!(name, "Microsoft 365");
    assert!(evidence.contains("outlook.office365.com, which is outside of example.com"));
}

#[tokio::test]
async fn answers_without_a_server_are_unknown() {
    let server = start_name_server(&[], NameServerMode::Normal).await;
    let long = format!("<!--{}-->{}", "x".repeat(70_000), autoconfig_file("imap.example.com"));
    for pages in [
        Vec::new(),
        vec![(JMAP_PATH, web_response("200 OK", "<html>"))],
        vec![(AUTOCONFIG_PATH, web_response("200 OK", &long))],
        vec![(AUTOCONFIG_PATH, web_response("500 Internal Server Error", "<x/>"))],
        vec![(JMAP_PATH, response_with("Location: /.well-known/jmap\r\n", "302 Found", ""))],
    ] {
        let web = FakeWebServer::start(pages).await;
        assert_eq!(run_discovery(vec![server], &web).await, Discovery::Unknown);
    }
}

#[tokio::test]
async fn no_redirect_to_plain_http_is_followed() {
    let server = start_name_server(&[], NameServerMode::Normal).await;
    let session = web_response("200 OK", r#"{"capabilities": {}}"#);
    let other = FakeWebServer::start(vec![(JMAP_PATH, session)]).await;
    let location = format!("Location: {}\r\n", other.base.join(JMAP_PATH).unwrap());
    let redirect = response_with(&location, "301 Moved Permanently", "");
    let web = FakeWebServer::start(vec![(JMAP_PATH, redirect)]).await;

    assert_eq!(run_discovery(vec![server], &web).await, Discovery::Unknown);
    assert_eq!(other.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn requests_carry_no_credential_and_no_address() {
    let server = start_name_server(&[], NameServerMode::Normal).await;
    let web = FakeWebServer::start(Vec::new()).await;

    run_discovery(vec![server], &web).await;

    let requests = web.requests();
    assert_eq!(requests.len(), 3, "{requests:#?}");
    for request in requests {
        let request = request.to_lowercase();
        assert!(!request.contains("authorization"), "{request}");
        assert!(!request.contains("me@") && !request.contains("cookie"), "{request}");
    }
}

#[tokio::test]
async fn silence_ends_within_the_time_limit() {
    let server = start_name_server(&[], NameServerMode::Silent).await;
    // Connections are accepted by the system, and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    let address = MailAddress::parse("me@example.com").unwrap();
    let options = DiscoveryOptions {
        name_servers: vec![server],
        time_limit: Duration::from_millis(200),
        autoconfig_base: Some(Url::parse(&base).unwrap()),
    };

    let discovery = discover(&address, &options).await;

    let Discovery::NoNetwork(problem) = discovery else { panic!("an answer: {discovery:?}") };
    assert!(problem.contains("check the connection of this machine"), "{problem}");
}

#[tokio::test]
async fn without_name_servers_the_web_is_asked() {
    let web = FakeWebServer::start(vec![(AUTOCONFIG_PATH, autoconfig("imap.example.com"))]).await;

    let discovery = run_discovery(Vec::new(), &web).await;

    assert_eq!(found(&discovery).0, "your own server");
}

#[test]
fn this_machine_has_a_name_server_and_a_time_limit() {
    let options = DiscoveryOptions::of_this_machine();

    assert!(!options.name_servers.is_empty());
    assert_eq!(options.time_limit, Duration::from_secs(5));
    assert_eq!(options.autoconfig_base, None);
}
