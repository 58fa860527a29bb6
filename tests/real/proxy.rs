//! Extraction through real proxies, never directly, while they are killed one after the other.

use std::cmp::Reverse;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use cynosure_lab::demo::{self, DemoOptions, DemoServer};
use fs_err as fs;
use serde_json::Value;

use crate::free_ports::free_ports;
use crate::prerequisites::skip;
use crate::tcp_proxy::TcpProxy;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::wait_until;

/// Items of the mailbox: about 1,300 messages, 12 MB. The proxies delay small packets, which limits
/// the rate to 200 messages a second.
const ITEMS: u32 = 800;

/// Amount of data through a proxy that shows that it works, because it cannot be the rest of
/// responses in flight.
const PROGRESS_BYTES: usize = 256 * 1024;

/// Amount of data that is allowed per poll, while the test waits for something.
const ALLOWED_BYTES_PER_POLL: usize = 64 * 1024;

/// Addresses from which the proxies connect to the server. A direct connection comes from
/// 127.0.0.1.
const TINYPROXY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const MICROSOCKS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PROXY_ADDRESSES: [Ipv4Addr; 2] = [MICROSOCKS_ADDRESS, TINYPROXY_ADDRESS];

const USER: &str = "me";
const PASSWORD: &str = "s3cret-of-the-proxy";

/// Environment variables that would bypass the pool in two ways, if the program used them.
const PROXY_ENV_VARS: [(&str, &str); 4] = [
    ("http_proxy", "http://127.0.0.1:9"),
    ("all_proxy", "http://127.0.0.1:9"),
    ("no_proxy", "*"),
    ("NO_PROXY", "127.0.0.1"),
];

#[test]
fn work_continues_through_the_remaining_proxy_only() {
    let Some(proxies) = InstalledProxies::find() else { return };
    let demo = demo::start(DemoOptions { items: ITEMS, ..DemoOptions::default() })
        .expect("the service starts");
    let tcp_proxy = TcpProxy::in_front_of(demo.address());
    let test_folder = TestFolder::new(&proxies.config(&demo, &tcp_proxy));
    test_folder.put_secret("proxy-password", PASSWORD);
    let mut running_proxies =
        PROXY_ADDRESSES.map(|address| (address, Some(proxies.start(address, test_folder.path()))));

    let log = test_folder.path().join("log");
    let mut command = test_folder.command(&["--log-format", "json", "run", "--once"]);
    command.envs(PROXY_ENV_VARS).env("DEMO_PASSWORD", "demo");
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("the folder is ours").into_file());
    let mut run = RunningProgram::start(&mut command);
    let log_text = || fs::read_to_string(&log).expect("the log is UTF-8");
    let mut wait_for = |condition: &str, is_met: &mut dyn FnMut() -> bool| {
        wait_until(condition, || {
            assert_eq!(run.try_wait(), None, "the run ended too soon: {}", log_text());
            tcp_proxy.allow_bytes(ALLOWED_BYTES_PER_POLL);
            is_met()
        });
    };
    let bytes_through = |proxy| tcp_proxy.traffic_of(proxy).bytes;
    let is_logged = |message: &str| log_text().contains(message);
    wait_for("both proxies were used", &mut || {
        PROXY_ADDRESSES.iter().all(|address| 0 < bytes_through(*address))
    });
    let before = PROXY_ADDRESSES.map(bytes_through);
    wait_for("one proxy is preferred", &mut || {
        running_proxies.sort_by_key(|(address, _)| Reverse(bytes_through(*address)));
        before.iter().sum::<usize>() + PROGRESS_BYTES
            < PROXY_ADDRESSES.map(bytes_through).iter().sum()
    });
    let [(preferred, preferred_proxy), (other, other_proxy)] = &mut running_proxies;

    *preferred_proxy = None;
    let before = bytes_through(*other);
    wait_for("the other proxy does the work alone", &mut || {
        before + PROGRESS_BYTES < bytes_through(*other)
    });
    wait_for("the killed proxy is reported dead", &mut || is_logged("\"proxy dead\""));

    *preferred_proxy = Some(proxies.start(*preferred, test_folder.path()));
    wait_for("its recovery is reported", &mut || is_logged("\"proxy recovered\""));
    *other_proxy = None;
    let before = bytes_through(*preferred);
    wait_for("the restarted proxy does the work alone", &mut || {
        before + PROGRESS_BYTES < bytes_through(*preferred)
    });

    tcp_proxy.allow_bytes(usize::MAX);
    let status = run.wait();
    assert!(status.success(), "{status}: {}", log_text());
    assert!(!log_text().contains(PASSWORD), "the password is in the log");
    test_folder.run_successfully(&["verify"]);
    assert_eq!(stored_items(&test_folder), Some(u64::from(ITEMS)));
    let clients: Vec<_> = tcp_proxy.traffic().into_keys().collect();
    assert_eq!(
        clients,
        [MICROSOCKS_ADDRESS, TINYPROXY_ADDRESS],
        "a connection bypassed the proxies"
    );
}

#[test]
fn nothing_is_sent_without_a_working_proxy() {
    let Some(proxies) = InstalledProxies::find() else { return };
    let demo = demo::start(DemoOptions { items: 1, ..DemoOptions::default() })
        .expect("the service starts");
    let tcp_proxy = TcpProxy::in_front_of(demo.address());
    tcp_proxy.allow_bytes(usize::MAX);
    let test_folder = TestFolder::new(&proxies.config(&demo, &tcp_proxy));
    test_folder.put_secret("proxy-password", "another");
    // One does not run, and the other rejects this password.
    let _microsocks = proxies.start(MICROSOCKS_ADDRESS, test_folder.path());

    let mut command = test_folder.command(&["run", "--once"]);
    command.envs(PROXY_ENV_VARS).env("DEMO_PASSWORD", "demo");
    let output = command.output().expect("the program starts");

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("proxy"), "{stderr}");
    assert!(tcp_proxy.traffic().is_empty(), "{:?}", tcp_proxy.traffic());
}

/// Installed proxy programs, and the ports on which they will listen.
struct InstalledProxies {
    tinyproxy_port: u16,
    microsocks_port: u16,
}

impl InstalledProxies {
    fn find() -> Option<Self> {
        let mut paths = ["/usr/bin/tinyproxy", "/usr/bin/microsocks"].into_iter();
        if !paths.all(|path| Path::new(path).exists()) {
            return skip("tinyproxy and microsocks (make setup as root, on Debian)");
        }
        let [tinyproxy_port, microsocks_port] = free_ports();
        Some(Self { tinyproxy_port, microsocks_port })
    }

    /// Returns a configuration that extracts the mailbox behind `tcp_proxy`, through the proxies.
    fn config(&self, demo: &DemoServer, tcp_proxy: &TcpProxy) -> String {
        let config = demo::demo_config(demo, Path::new("downloads"));
        let config = config.replace(&demo.address().to_string(), &tcp_proxy.address().to_string());
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

    /// Starts the proxy that connects from this address.
    fn start(&self, address: Ipv4Addr, folder: &Path) -> RunningProgram {
        let (mut command, port) = if address == TINYPROXY_ADDRESS {
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

/// Returns the number of stored items, according to the state.
fn stored_items(test_folder: &TestFolder) -> Option<u64> {
    let output = test_folder.run_successfully(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("the status is JSON");
    status.pointer("/sources/0/downloaded_threads")?.as_u64()
}
