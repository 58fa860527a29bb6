//! Resource that the exported telemetry belongs to.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// State folder on a machine. Workers and monitor of one folder are one instance, although they are
/// several processes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TelemetryResource {
    /// Version of this program.
    pub version: &'static str,
    /// Host name of the machine.
    pub host: String,
    /// The same after every restart, and different for every folder. It does not reveal the folder.
    pub instance_id: String,
}

impl TelemetryResource {
    /// Derives the instance ID from machine and folder, in the form of a UUID of version 8 (RFC
    /// 9562, section 5.8): a hash without random bits.
    #[must_use]
    pub fn new(version: &'static str, host: &str, state_dir: &Path) -> Self {
        let hash = Sha256::new_with_prefix("cynosure instance\0")
            .chain_update(host)
            .chain_update([0])
            .chain_update(state_dir.as_os_str().as_bytes());
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
        let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62);
        let hex = format!("{:032x}", bits | (8 << 76) | (0b10 << 62));
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
        Self { version, host: host.to_owned(), instance_id: parts.join("-") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance_id(host: &str, folder: &str) -> String {
        TelemetryResource::new("1.2.3", host, Path::new(folder)).instance_id
    }

    #[test]
    fn an_instance_is_one_state_folder_of_one_host() {
        let id = instance_id("host", "/var/lib/cynosure");

        assert_eq!(id, instance_id("host", "/var/lib/cynosure"));
        assert_ne!(id, instance_id("host", "/srv/cynosure"));
        assert_ne!(id, instance_id("other", "/var/lib/cynosure"));
    }

    #[test]
    fn the_instance_id_is_a_version_8_uuid() {
        let id = instance_id("host", "/var/lib/cynosure");
        let parts: Vec<&str> = id.split('-').collect();

        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{id}");
        assert!(parts[2].starts_with('8') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
    }
}
