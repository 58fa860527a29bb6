//! Out by real proxies, of which one after the other is killed, and never past them.

use std::cmp::Reverse;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use cynosure::demo::{self, DemoOptions, DemoServer};
use fs_err as fs;
use serde_json::Value;

use crate::binary::{Running, Workplace};
use crate::door::Door;
use crate::patience::wait_until;
use crate::requirement::skip;

/// The mailbox: some 1,300 messages, 12 MB. The proxies delay small packets, and make 200 messages a second of it.
const ITEMS: u32 = 800;

/// So much by one proxy in a row is no remainder of what was under way.
const GULP: usize = 256 * 1024;

/// What is let through in one look, while it is waited for something.
const SIP: usize = 64 * 1024;

/// From where each proxy asks the server; whoever asks it straight comes from 127.0.0.1.
const BY_TINYPROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const BY_MICROSOCKS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const BY_ALL: [Ipv4Addr; 2] = [BY_MICROSOCKS, BY_TINYPROXY];

const USER: &str = "me";
const PASSWORD: &str = "s3cret-of-the-proxy";

/// An environment that would lead past the pool in two ways, were it asked.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("http_proxy", "http://127.0.0.1:9"),
    ("all_proxy", "http://127.0.0.1:9"),
    ("no_proxy", "*"),
    ("NO_PROXY", "127.0.0.1"),
];

#[test]
fn the_work_goes_on_by_the_proxy_that_is_left_and_nothing_goes_past_them() {
    let Some(proxies) = Proxies::installed() else { return };
    let demo =
        demo::start(DemoOptions { items: ITEMS, ..DemoOptions::default() }).expect("it starts");
    let door = Door::before(demo.address());
    let workplace = Workplace::new(&proxies.config(&demo, &door));
    workplace.put_secret("proxy-password", PASSWORD);
    let mut running = BY_ALL.map(|by| (by, Some(proxies.start(by, workplace.path()))));

    let log = workplace.path().join("log");
    let mut command = workplace.command(&["--log-format", "json", "run", "--once"]);
    command.envs(ENVIRONMENT).env("DEMO_PASSWORD", "demo");
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("the folder is ours").into_file());
    let mut run = Running::start(&mut command);
    let mut flowing = |what: &str, happened: &mut dyn FnMut() -> bool| {
        wait_until(what, || {
            let said = || fs::read_to_string(&log).expect("the log is UTF-8");
            assert_eq!(run.ended(), None, "too soon: {}", said());
            door.open(SIP);
            happened()
        });
    };
    let passed = |address| door.passed_to(address).bytes;
    let says =
        |what: &str| fs::read_to_string(&log).expect("the log is UTF-8").matches(what).count();
    flowing("both proxies were used", &mut || BY_ALL.iter().all(|by| 0 < passed(*by)));
    let before = BY_ALL.map(passed);
    flowing("one of them is kept to", &mut || {
        running.sort_by_key(|(by, _)| Reverse(passed(*by)));
        before.iter().sum::<usize>() + GULP < BY_ALL.map(passed).iter().sum()
    });
    let [(used, used_proxy), (other, other_proxy)] = &mut running;

    *used_proxy = None;
    let before = passed(*other);
    flowing("the other does the work alone", &mut || before + GULP < passed(*other));
    flowing("the one that was killed is called dead", &mut || 0 < says("proxy dead"));

    *used_proxy = Some(proxies.start(*used, workplace.path()));
    flowing("it is found to be back", &mut || 0 < says("proxy back"));
    *other_proxy = None;
    let before = passed(*used);
    flowing("it does the work alone", &mut || before + GULP < passed(*used));

    door.open(usize::MAX);
    let status = run.wait();
    let said = fs::read_to_string(&log).expect("the log is UTF-8");
    assert!(status.success(), "{status}: {said}");
    assert!(!said.contains(PASSWORD), "the password is in the log");
    workplace.succeed(&["verify"]);
    assert_eq!(stored(&workplace), Some(u64::from(ITEMS)));
    let came_from: Vec<_> = door.passed().into_keys().collect();
    assert_eq!(came_from, [BY_MICROSOCKS, BY_TINYPROXY], "somebody went past the proxies");
}

#[test]
fn without_any_proxy_that_works_nothing_is_sent_at_all() {
    let Some(proxies) = Proxies::installed() else { return };
    let demo = demo::start(DemoOptions { items: 1, ..DemoOptions::default() }).expect("it starts");
    let door = Door::before(demo.address());
    door.open(usize::MAX);
    let workplace = Workplace::new(&proxies.config(&demo, &door));
    workplace.put_secret("proxy-password", "another");
    // One is not there, and the other does not know this password.
    let _microsocks = proxies.start(BY_MICROSOCKS, workplace.path());

    let mut command = workplace.command(&["run", "--once"]);
    command.envs(ENVIRONMENT).env("DEMO_PASSWORD", "demo");
    let output = command.output().expect("the program starts");

    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("proxy"), "{said}");
    assert!(door.passed().is_empty(), "{:?}", door.passed());
}

/// The programs, and the ports they are to listen at.
struct Proxies {
    tinyproxy_port: u16,
    microsocks_port: u16,
}

impl Proxies {
    fn installed() -> Option<Self> {
        let there =
            ["/usr/bin/tinyproxy", "/usr/bin/microsocks"].map(|path| Path::new(path).exists());
        if there != [true, true] {
            return skip("tinyproxy and microsocks (make setup as root, on Debian)");
        }
        Some(Self { tinyproxy_port: free_port(), microsocks_port: free_port() })
    }

    /// What extracts the mailbox behind the door, by the proxies.
    fn config(&self, demo: &DemoServer, door: &Door) -> String {
        let config = demo::demo_config(demo, Path::new("downloads"));
        let config = config.replace(&demo.address().to_string(), &door.address().to_string());
        let Self { tinyproxy_port, microsocks_port } = self;
        format!(
            r#"{config}
[proxy]
pool = [
    {{ url = "socks5://127.0.0.1:{microsocks_port}", username = "{USER}", password = {{ file = "proxy-password" }} }},
    "http://127.0.0.1:{tinyproxy_port}",
]
failures = 2
cooldown = "100ms"
max_cooldown = "200ms"
"#
        )
    }

    /// Starts the proxy that asks from this address.
    fn start(&self, by: Ipv4Addr, folder: &Path) -> Running {
        let (mut command, port) = if by == BY_TINYPROXY {
            (self.tinyproxy(folder), self.tinyproxy_port)
        } else {
            (self.microsocks(), self.microsocks_port)
        };
        let proxy = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        wait_until("the proxy listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        proxy
    }

    fn tinyproxy(&self, folder: &Path) -> Command {
        let file = folder.join("tinyproxy.conf");
        let config = format!(
            "Port {}\nListen 127.0.0.1\nBind {BY_TINYPROXY}\nMaxClients 100\nTimeout 60\n",
            self.tinyproxy_port
        );
        fs::write(&file, config).expect("the folder is ours");
        let mut command = Command::new("tinyproxy");
        command.args(["-d", "-c"]).arg(file);
        command
    }

    fn microsocks(&self) -> Command {
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &self.microsocks_port.to_string()]).args([
            "-b",
            &BY_MICROSOCKS.to_string(),
            "-u",
            USER,
            "-P",
            PASSWORD,
        ]);
        command
    }
}

/// How many items the state says are stored.
fn stored(workplace: &Workplace) -> Option<u64> {
    let output = workplace.succeed(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("the status is JSON");
    status.pointer("/sources/0/downloaded_threads")?.as_u64()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
