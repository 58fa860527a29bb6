//! Schedule of random faults of server, credential, disk and clock.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use cynosure::disk::{DiskFault, FaultDuration, MemoryDisk};
use rustix::io::Errno;
use tokio::time::sleep;

use crate::server::{ServerCondition, SimServer};
use crate::virtual_env::SimEnv;

/// Injects random faults for `days` days, then repairs everything.
pub(crate) async fn run_random_faults(
    server: Rc<RefCell<SimServer>>,
    env: SimEnv,
    disk: MemoryDisk,
    days: u64,
) {
    let end = env.server_now().after(Duration::from_secs(days * 86_400));
    while env.server_now() < end {
        let duration = Duration::from_secs(600 + env.random_below(6 * 3600));
        match env.random_below(16) {
            0 => server.borrow_mut().condition = ServerCondition::Down,
            1 => server.borrow_mut().condition = ServerCondition::Unreachable,
            2 | 3 => server.borrow_mut().condition = ServerCondition::Flaky,
            4 => {
                server.borrow_mut().condition =
                    ServerCondition::RateLimited { requests: 20, window_seconds: 60 }
            }
            5 => {
                server.borrow_mut().condition =
                    ServerCondition::RateLimitedSilently { requests: 20 }
            }
            6 => server.borrow_mut().condition = ServerCondition::LoginPage,
            7 => server.borrow_mut().credential += 1,
            8 => server.borrow_mut().expire_cursors(),
            9 => {
                server.borrow_mut().disk_is_full = true;
                server.borrow_mut().disk_faults += 1;
                let at = disk.operation_count();
                disk.set_fault(DiskFault {
                    at_operation: at,
                    duration: FaultDuration::Permanent,
                    errno: Errno::NOSPC,
                });
            }
            10 => {
                let seconds = if env.chance_one_in(2) { 86_400 } else { 3600 };
                env.step_clock(if env.chance_one_in(2) { seconds } else { -seconds });
            }
            11 => {
                // A rate limit per six hours, so that the wait takes up to six hours.
                server.borrow_mut().condition =
                    ServerCondition::RateLimited { requests: 30, window_seconds: 6 * 3600 };
            }
            _ => {}
        }
        server.borrow_mut().deliver(env.random_below(12), &env);
        if env.chance_one_in(3) {
            server.borrow_mut().delete_random_message(&env);
        }
        sleep(duration).await;
        if std::mem::take(&mut server.borrow_mut().disk_is_full) {
            disk.clear_fault();
        }
        let mut server = server.borrow_mut();
        server.condition = ServerCondition::Healthy;
        server.credential_file = server.credential;
    }
    server.borrow_mut().repair_all();
}
