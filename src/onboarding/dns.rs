//! Lookups of records that the resolver of the system does not return: MX and SRV (RFC 1035, RFC
//! 2782), by UDP, and by TCP if an answer is truncated.

use std::cmp::Reverse;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cynosure_engine::format_duration;
use rustls::crypto::ring::default_provider;
use simple_dns::rdata::RData;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, header_buffer,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::host_name::parse_host_name;

/// Rounds through the name servers. A second one replaces a datagram that was lost.
const ROUNDS: u32 = 2;

/// Longest wait for one answer. Resolvers answer within milliseconds, or after they have asked
/// others.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(2);

/// Size of the buffer for a datagram, in bytes. Without extensions, an answer has 512 at most.
const UDP_BYTES_MAX: usize = 4096;

/// Client of the name servers of this machine.
#[derive(Debug)]
pub(super) struct DnsClient<'a> {
    name_servers: &'a [SocketAddr],
    /// Time for one answer of one name server.
    attempt_time: Duration,
}

/// Server of a service (RFC 2782).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceRecord {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Question to a name server, with a random id that its answer repeats.
#[derive(Debug)]
struct DnsQuestion<'a> {
    id: u16,
    name: &'a str,
    record_type: TYPE,
    message: Vec<u8>,
}

/// Judgement of a message that came from a name server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DnsMessageState {
    /// Whole answer to the question.
    Complete,
    /// Answer that is too long for a datagram.
    Truncated,
    /// Message that does not belong to the question: late or forged.
    Foreign,
    /// Answer that the name server cannot give.
    Failed,
}

impl<'a> DnsClient<'a> {
    /// Creates a client whose lookups take about `time_limit` at most.
    pub(super) fn new(name_servers: &'a [SocketAddr], time_limit: Duration) -> Self {
        let count = u32::try_from(name_servers.len()).unwrap_or(u32::MAX).max(1);
        let attempt_time = (time_limit / count.saturating_mul(ROUNDS)).min(ATTEMPT_TIME_MAX);
        Self { name_servers, attempt_time }
    }

    /// Returns the servers that receive mail for a domain, the preferred one first.
    ///
    /// # Errors
    ///
    /// One sentence, if no name server answers.
    pub(super) async fn mail_exchangers(&self, domain: &str) -> Result<Vec<String>, String> {
        let answer = self.ask(domain, TYPE::MX).await?;
        Ok(read_mail_exchangers(&answer))
    }

    /// Returns the servers of a service, such as `_imaps._tcp.example.com`, the preferred first.
    ///
    /// # Errors
    ///
    /// One sentence, if no name server answers.
    pub(super) async fn services(&self, name: &str) -> Result<Vec<ServiceRecord>, String> {
        let answer = self.ask(name, TYPE::SRV).await?;
        Ok(read_services(&answer))
    }

    /// Asks one name server after the other.
    async fn ask(&self, name: &str, record_type: TYPE) -> Result<Vec<u8>, String> {
        let mut problem = "no name server is configured".to_owned();
        for server in (0..ROUNDS).flat_map(|_round| self.name_servers) {
            let question = DnsQuestion::new(name, record_type)
                .ok_or_else(|| "the name cannot be looked up".to_owned())?;
            problem = match timeout(self.attempt_time, question.ask(*server)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => format!("the name server {server} gives no answer: {error}"),
                Err(_elapsed) => format!(
                    "the name server {server} does not answer within {}",
                    format_duration(self.attempt_time)
                ),
            };
        }
        Err(problem)
    }
}

impl<'a> DnsQuestion<'a> {
    /// Creates a question. `None` if the name is too long, or if there are no random numbers.
    fn new(name: &'a str, record_type: TYPE) -> Option<Self> {
        let mut id = [0; 2];
        default_provider().secure_random.fill(&mut id).ok()?;
        let id = u16::from_be_bytes(id);
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let (qtype, qclass) = (QTYPE::TYPE(record_type), QCLASS::CLASS(CLASS::IN));
        packet.questions.push(Question::new(Name::new(name).ok()?, qtype, qclass, false));
        let message = packet.build_bytes_vec().ok()?;
        Some(Self { id, name, record_type, message })
    }

    async fn ask(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        match self.ask_by_udp(server).await? {
            Some(answer) => Ok(answer),
            None => self.ask_by_tcp(server).await,
        }
    }

    /// Returns `None` if the answer is truncated.
    async fn ask_by_udp(&self, server: SocketAddr) -> io::Result<Option<Vec<u8>>> {
        let local = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(local).await?;
        socket.connect(server).await?;
        socket.send(&self.message).await?;
        let mut buffer = vec![0; UDP_BYTES_MAX];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let message = buffer.get(..length).unwrap_or_default();
            match self.judge(message) {
                DnsMessageState::Complete => return Ok(Some(message.to_vec())),
                DnsMessageState::Truncated => return Ok(None),
                DnsMessageState::Foreign => {}
                DnsMessageState::Failed => return Err(refused()),
            }
        }
    }

    async fn ask_by_tcp(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(server).await?;
        // RFC 1035, section 4.2.2: two bytes with the length precede each message.
        let length = u16::try_from(self.message.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&self.message);
        stream.write_all(&framed).await?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).await?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).await?;
        match self.judge(&answer) {
            DnsMessageState::Complete => Ok(answer),
            DnsMessageState::Truncated | DnsMessageState::Foreign | DnsMessageState::Failed => {
                Err(refused())
            }
        }
    }

    /// Judges a message by its id, its flags and its question.
    fn judge(&self, message: &[u8]) -> DnsMessageState {
        let has_flag = |flag| header_buffer::has_flags(message, flag).is_ok_and(|has_it| has_it);
        let has_id = header_buffer::id(message).is_ok_and(|id| id == self.id);
        if !has_id || !has_flag(PacketFlag::RESPONSE) {
            return DnsMessageState::Foreign;
        }
        if has_flag(PacketFlag::TRUNCATION) {
            return DnsMessageState::Truncated;
        }
        let Ok(packet) = Packet::parse(message) else { return DnsMessageState::Failed };
        if packet.questions.is_empty() && !is_answered(packet.rcode()) {
            return DnsMessageState::Failed;
        }
        match packet.questions.as_slice() {
            [question] if self.is_same_question(question) => {}
            _ => return DnsMessageState::Foreign,
        }
        if is_answered(packet.rcode()) {
            DnsMessageState::Complete
        } else {
            DnsMessageState::Failed
        }
    }

    fn is_same_question(&self, question: &Question<'_>) -> bool {
        Name::new(self.name).is_ok_and(|name| name == question.qname)
            && question.qtype == QTYPE::TYPE(self.record_type)
            && question.qclass == QCLASS::CLASS(CLASS::IN)
    }
}

/// True if the name server knows the answer, also that there is no such name.
fn is_answered(code: RCODE) -> bool {
    matches!(code, RCODE::NoError | RCODE::NameError)
}

fn refused() -> io::Error {
    io::Error::other("it refuses the question or its answer is not valid")
}

fn read_mail_exchangers(message: &[u8]) -> Vec<String> {
    let Ok(packet) = Packet::parse(message) else { return Vec::new() };
    let exchanger = |data: &RData<'_>| {
        let RData::MX(record) = data else { return None };
        Some((record.preference, parse_host_name(&record.exchange.to_string())?))
    };
    let mut found: Vec<(u16, String)> =
        packet.answers.iter().filter_map(|record| exchanger(&record.rdata)).collect();
    found.sort();
    found.into_iter().map(|(_preference, host)| host).collect()
}

/// A target without a name means that there is no such service (RFC 2782), and is left out.
fn read_services(message: &[u8]) -> Vec<ServiceRecord> {
    let Ok(packet) = Packet::parse(message) else { return Vec::new() };
    let service = |data: &RData<'_>| {
        let RData::SRV(record) = data else { return None };
        let host = parse_host_name(&record.target.to_string())?;
        let is_usable = record.port != 0;
        let found = ServiceRecord { host, port: record.port };
        is_usable.then_some((record.priority, Reverse(record.weight), found))
    };
    let mut found: Vec<(u16, Reverse<u16>, ServiceRecord)> =
        packet.answers.iter().filter_map(|record| service(&record.rdata)).collect();
    found.sort_by_key(|(priority, weight, _)| (*priority, *weight));
    found.into_iter().map(|(_priority, _weight, service)| service).collect()
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{MX, SRV};

    use super::*;

    fn question() -> DnsQuestion<'static> {
        DnsQuestion::new("example.com", TYPE::MX).expect("the name is valid")
    }

    /// Returns an answer to the question in `message`, changed by `edit`.
    fn answer(message: &[u8], edit: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
        let mut packet = Packet::parse(message).expect("it is valid").into_reply();
        edit(&mut packet);
        packet.build_bytes_vec().expect("it can be written")
    }

    fn record(name: &'static str, data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, data)
    }

    fn mx(preference: u16, host: &'static str) -> ResourceRecord<'static> {
        let exchange = Name::new_unchecked(host);
        record("example.com", RData::MX(MX { preference, exchange }))
    }

    fn srv(priority: u16, weight: u16, port: u16, host: &'static str) -> ResourceRecord<'static> {
        let target = Name::new_unchecked(host);
        record("_imaps._tcp.example.com", RData::SRV(SRV { priority, weight, port, target }))
    }

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let question = question();
        let other_name = DnsQuestion::new("example.org", TYPE::MX).expect("the name is valid");
        let other_type = DnsQuestion::new("example.com", TYPE::SRV).expect("the name is valid");
        let id = question.id;
        let judge = |message: Vec<u8>| question.judge(&message);

        assert_eq!(judge(answer(&question.message, |_| {})), DnsMessageState::Complete);
        let other_id = answer(&question.message, |packet| packet.set_id(id.wrapping_add(1)));
        assert_eq!(judge(other_id), DnsMessageState::Foreign);
        assert_eq!(judge(question.message.clone()), DnsMessageState::Foreign);
        for other in [other_name, other_type] {
            let forged = answer(&other.message, |packet| packet.set_id(id));
            assert_eq!(judge(forged), DnsMessageState::Foreign, "{other:?}");
        }
        let truncated =
            answer(&question.message, |packet| packet.set_flags(PacketFlag::TRUNCATION));
        assert_eq!(judge(truncated), DnsMessageState::Truncated);
    }

    #[test]
    fn a_missing_name_is_an_answer_and_a_failure_is_none() {
        let question = question();
        for (code, expected) in [
            (RCODE::NameError, DnsMessageState::Complete),
            (RCODE::ServerFailure, DnsMessageState::Failed),
            (RCODE::Refused, DnsMessageState::Failed),
        ] {
            let message = answer(&question.message, |packet| *packet.rcode_mut() = code);
            assert_eq!(question.judge(&message), expected, "{code:?}");
        }
    }

    #[test]
    fn cut_and_random_messages_are_never_answers() {
        let question = question();
        let whole = answer(&question.message, |packet| packet.answers.push(mx(1, "a.example")));
        for length in 0..whole.len() {
            let cut = whole.get(..length).expect("it is shorter");
            assert_ne!(question.judge(cut), DnsMessageState::Complete, "{length}");
            assert_eq!(read_mail_exchangers(cut), Vec::<String>::new(), "{length}");
        }
        // A name that is a pointer to itself.
        let mut looping = question.id.to_be_bytes().to_vec();
        looping.extend([0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 15, 0, 1]);
        assert_ne!(question.judge(&looping), DnsMessageState::Complete);
    }

    #[test]
    fn mail_exchangers_are_sorted_and_the_root_is_left_out() {
        let message = answer(&question().message, |packet| {
            packet.answers.push(mx(20, "Backup.Example.NET"));
            packet.answers.push(mx(10, "mx.example.net"));
            packet.answers.push(mx(0, "."));
            packet.answers.push(mx(5, "not_a_host.example"));
        });

        assert_eq!(read_mail_exchangers(&message), ["mx.example.net", "backup.example.net"]);
    }

    #[test]
    fn services_are_sorted_by_priority_and_weight() {
        let message = answer(&question().message, |packet| {
            packet.answers.push(srv(10, 5, 993, "light.example.com"));
            packet.answers.push(srv(10, 50, 993, "heavy.example.com"));
            packet.answers.push(srv(0, 0, 1993, "first.example.com"));
            packet.answers.push(srv(0, 0, 0, "off.example.com"));
            packet.answers.push(srv(0, 0, 993, "."));
        });

        let hosts: Vec<(String, u16)> = read_services(&message)
            .into_iter()
            .map(|service| (service.host, service.port))
            .collect();
        assert_eq!(
            hosts,
            [
                ("first.example.com".to_owned(), 1993),
                ("heavy.example.com".to_owned(), 993),
                ("light.example.com".to_owned(), 993)
            ]
        );
    }
}
