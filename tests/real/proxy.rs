//! Out by real proxies, of which one after the other is killed, and never past them.

use std::cmp::Reverse;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use cynosure::demo::{self, DemoOptions, DemoServer};
use fs_err as fs;
use serde_json::Value;

use crate::prerequisites::skip;
use crate::tcp_proxy::TcpProxy;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::wait_until;

/// The mailbox: some 1,300 messages, 12 MB. The proxies delay small packets, and make 200 messages a second of it.
const ITEMS: u32 = 800;

/// So much by one proxy in a row is no remainder of what was under way.
const ALLOW_LARGE_BYTES: usize = 256 * 1024;

/// What is let through in one look, while it is waited for something.
const ALLOW_SMALL_BYTES: usize = 64 * 1024;

/// From where each proxy asks the server; whoever asks it straight comes from 127.0.0.1.
const TINYPROXY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const MICROSOCKS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PROXY_ADDRESSES: [Ipv4Addr; 2] = [MICROSOCKS_ADDRESS, TINYPROXY_ADDRESS];

const USER: &str = "me";
const PASSWORD: &str = "s3cret-of-the-proxy";

/// An environment that would lead past the pool in two ways, were it asked.
const PROXY_ENV_VARS: [(&str, &str); 4] = [
    ("http_proxy", "http://127.0.0.1:9"),
    ("all_proxy", "http://127.0.0.1:9"),
    ("no_proxy", "*"),
    ("NO_PROXY", "127.0.0.1"),
];

#[test]
fn work_continues_by_the_remaining_proxy_and_never_directly() {
    let Some(proxies) = InstalledProxies::find() else { return };
    let demo =
        demo::start(DemoOptions { items: ITEMS, ..DemoOptions::default() }).expect("it starts");
    let door = TcpProxy::in_front_of(demo.address());
    let workplace = TestFolder::new(&proxies.config(&demo, &door));
    workplace.put_secret("proxy-password", PASSWORD);
    let mut running = PROXY_ADDRESSES.map(|by| (by, Some(proxies.start(by, workplace.path()))));

    let log = workplace.path().join("log");
    let mut command = workplace.command(&["--log-format", "json", "run", "--once"]);
    command.envs(PROXY_ENV_VARS).env("DEMO_PASSWORD", "demo");
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("the folder is ours").into_file());
    let mut run = RunningProgram::start(&mut command);
    let mut flowing = |what: &str, happened: &mut dyn FnMut() -> bool| {
        wait_until(what, || {
            let said = || fs::read_to_string(&log).expect("the log is UTF-8");
            assert_eq!(run.try_wait(), None, "too soon: {}", said());
            door.allow_bytes(ALLOW_SMALL_BYTES);
            happened()
        });
    };
    let passed = |address| door.traffic_to(address).bytes;
    let says =
        |what: &str| fs::read_to_string(&log).expect("the log is UTF-8").matches(what).count();
    flowing("both proxies were used", &mut || PROXY_ADDRESSES.iter().all(|by| 0 < passed(*by)));
    let before = PROXY_ADDRESSES.map(passed);
    flowing("one of them is kept to", &mut || {
        running.sort_by_key(|(by, _)| Reverse(passed(*by)));
        before.iter().sum::<usize>() + ALLOW_LARGE_BYTES < PROXY_ADDRESSES.map(passed).iter().sum()
    });
    let [(used, used_proxy), (other, other_proxy)] = &mut running;

    *used_proxy = None;
    let before = passed(*other);
    flowing("the other does the work alone", &mut || before + ALLOW_LARGE_BYTES < passed(*other));
    flowing("the one that was killed is called dead", &mut || 0 < says("proxy dead"));

    *used_proxy = Some(proxies.start(*used, workplace.path()));
    flowing("it is found to be back", &mut || 0 < says("proxy back"));
    *other_proxy = None;
    let before = passed(*used);
    flowing("it does the work alone", &mut || before + ALLOW_LARGE_BYTES < passed(*used));

    door.allow_bytes(usize::MAX);
    let status = run.wait();
    let said = fs::read_to_string(&log).expect("the log is UTF-8");
    assert!(status.success(), "{status}: {said}");
    assert!(!said.contains(PASSWORD), "the password is in the log");
    workplace.run_successfully(&["verify"]);
    assert_eq!(stored_items(&workplace), Some(u64::from(ITEMS)));
    let came_from: Vec<_> = door.traffic().into_keys().collect();
    assert_eq!(
        came_from,
        [MICROSOCKS_ADDRESS, TINYPROXY_ADDRESS],
        "somebody went past the proxies"
    );
}

#[test]
fn nothing_is_sent_without_a_working_proxy() {
    let Some(proxies) = InstalledProxies::find() else { return };
    let demo = demo::start(DemoOptions { items: 1, ..DemoOptions::default() }).expect("it starts");
    let door = TcpProxy::in_front_of(demo.address());
    door.allow_bytes(usize::MAX);
    let workplace = TestFolder::new(&proxies.config(&demo, &door));
    workplace.put_secret("proxy-password", "another");
    // One is not there, and the other does not know this password.
    let _microsocks = proxies.start(MICROSOCKS_ADDRESS, workplace.path());

    let mut command = workplace.command(&["run", "--once"]);
    command.envs(PROXY_ENV_VARS).env("DEMO_PASSWORD", "demo");
    let output = command.output().expect("the program starts");

    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("proxy"), "{said}");
    assert!(door.traffic().is_empty(), "{:?}", door.traffic());
}

/// The programs, and the ports they are to listen at.
struct InstalledProxies {
    tinyproxy_port: u16,
    microsocks_port: u16,
}

impl InstalledProxies {
    fn find() -> Option<Self> {
        let there =
            ["/usr/bin/tinyproxy", "/usr/bin/microsocks"].map(|path| Path::new(path).exists());
        if there != [true, true] {
            return skip("tinyproxy and microsocks (make setup as root, on Debian)");
        }
        Some(Self { tinyproxy_port: free_port(), microsocks_port: free_port() })
    }

    /// What extracts the mailbox behind the door, by the proxies.
    fn config(&self, demo: &DemoServer, door: &TcpProxy) -> String {
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
    fn start(&self, by: Ipv4Addr, folder: &Path) -> RunningProgram {
        let (mut command, port) = if by == TINYPROXY_ADDRESS {
            (self.tinyproxy(folder), self.tinyproxy_port)
        } else {
            (self.microsocks(), self.microsocks_port)
        };
        let proxy = RunningProgram::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        wait_until("the proxy listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        proxy
    }

    fn tinyproxy(&self, folder: &Path) -> Command {
        let file = folder.join("tinyproxy.conf");
        let config = format!(
            "Port {}\nListen 127.0.0.1\nBind {TINYPROXY_ADDRESS}\nMaxClients 100\nTimeout 60\n",
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
            &MICROSOCKS_ADDRESS.to_string(),
            "-u",
            USER,
            "-P",
            PASSWORD,
        ]);
        command
    }
}

/// How many items the state says are stored.
fn stored_items(workplace: &TestFolder) -> Option<u64> {
    let output = workplace.run_successfully(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("the status is JSON");
    status.pointer("/sources/0/downloaded_threads")?.as_u64()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
