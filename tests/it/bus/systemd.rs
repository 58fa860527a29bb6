//! Fake systemd with one unit.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use zbus::message::Type;
use zbus::{Connection, Message, MessageStream, ObjectPath, Variant, connection};

const BUS_NAME: &str = "org.freedesktop.systemd1";
const UNIT: &str = "cynosure.service";
const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/cynosure";
const OTHER_PATH: &str = "/org/freedesktop/systemd1/unit/other";

/// Response of the fake systemd to method calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SystemdBehaviour {
    Allow,
    /// Denies every restart, as systemd does without a polkit rule.
    Deny,
    /// Accepts every call and responds to none.
    Silent,
}

/// Handle to the fake systemd, which stays on the bus until the bus ends.
pub(crate) struct FakeSystemd {
    restarts: Arc<Mutex<Vec<String>>>,
    main_pid: Arc<Mutex<u32>>,
}

impl FakeSystemd {
    pub(crate) fn start(address: &str, behaviour: SystemdBehaviour) -> Self {
        let (restarts, main_pid) = (Arc::default(), Arc::new(Mutex::new(4711)));
        let state = FakeSystemdState {
            behaviour,
            restarts: Arc::clone(&restarts),
            main_pid: Arc::clone(&main_pid),
        };
        let (ready_sender, ready_receiver) = mpsc::channel();
        let address = address.to_owned();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let builder = connection::Builder::address(address.as_str()).name(BUS_NAME);
                let connection = builder.build().await.unwrap();
                let mut calls = MessageStream::from(&connection);
                ready_sender.send(()).unwrap();
                while let Some(Ok(call)) = calls.next().await {
                    if call.message_type() == Type::MethodCall {
                        state.respond(&connection, &call).await;
                    }
                }
            });
        });
        ready_receiver.recv().unwrap();
        Self { restarts, main_pid }
    }

    /// Returns the restarted units, in order.
    pub(crate) fn restarts(&self) -> Vec<String> {
        self.restarts.lock().unwrap().clone()
    }

    /// Sets the main process of the unit.
    pub(crate) fn set_main_pid(&self, pid: u32) {
        *self.main_pid.lock().unwrap() = pid;
    }
}

struct FakeSystemdState {
    behaviour: SystemdBehaviour,
    restarts: Arc<Mutex<Vec<String>>>,
    main_pid: Arc<Mutex<u32>>,
}

impl FakeSystemdState {
    async fn respond(&self, connection: &Connection, call: &Message) {
        if self.behaviour == SystemdBehaviour::Silent {
            return;
        }
        let header = call.header();
        let member = header.member().map(|member| member.to_string()).unwrap_or_default();
        match member.as_str() {
            "LoadUnit" => {
                let body = call.body();
                let name: &str = body.deserialize().unwrap();
                let path = if name == UNIT { UNIT_PATH } else { OTHER_PATH };
                connection.reply(&header, &ObjectPath::try_from(path).unwrap()).await.unwrap();
            }
            "GetAll" => {
                let is_known = header.path().is_some_and(|path| path.as_str() == UNIT_PATH);
                connection.reply(&header, &self.properties(is_known)).await.unwrap();
            }
            "Get" => connection.reply(&header, &Variant::from("257.1")).await.unwrap(),
            "RestartUnit" => self.restart(connection, call).await,
            other => panic!("unexpected method {other}"),
        }
    }

    /// Restarts a unit. The checks have the order of the real systemd: the permission first.
    async fn restart(&self, connection: &Connection, call: &Message) {
        let (header, body) = (call.header(), call.body());
        let (name, mode): (&str, &str) = body.deserialize().unwrap();
        let error_name = if self.behaviour == SystemdBehaviour::Deny {
            Some("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
        } else if name != UNIT {
            Some("org.freedesktop.systemd1.NoSuchUnit")
        } else if mode == "isolate" {
            Some("org.freedesktop.DBus.Error.InvalidArgs")
        } else {
            None
        };
        if let Some(error_name) = error_name {
            connection.reply_error(&header, error_name, &"rejected").await.unwrap();
            return;
        }
        self.restarts.lock().unwrap().push(name.to_owned());
        let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
        connection.reply(&header, &job).await.unwrap();
    }

    fn properties(&self, is_known: bool) -> BTreeMap<&'static str, Variant<'static>> {
        if !is_known {
            return BTreeMap::from([("LoadState", Variant::from("not-found"))]);
        }
        let main_pid = *self.main_pid.lock().unwrap();
        BTreeMap::from([
            ("LoadState", Variant::from("loaded")),
            ("ActiveState", Variant::from("active")),
            ("SubState", Variant::from("running")),
            ("Result", Variant::from("success")),
            ("MainPID", Variant::from(main_pid)),
            ("NRestarts", Variant::from(3_u32)),
            ("ExecMainStatus", Variant::from(0_i32)),
            ("ActiveEnterTimestamp", Variant::from(1_772_874_303_456_789_u64)),
            ("StateChangeTimestamp", Variant::from(0_u64)),
            ("WatchdogUSec", Variant::from(60_000_000_u64)),
            ("StartLimitIntervalUSec", Variant::from(10_000_000_u64)),
            ("StartLimitBurst", Variant::from(5_u32)),
            // A property of an unexpected type is read as if it were missing.
            ("StatusText", Variant::from(7_u32)),
        ])
    }
}
